//! What happens to every field: it is set, changed, made wrong, put right and unset; and what holds then.

use kube::api::{Patch, PatchParams};
use serde_json::Value;

use super::{
    operation::{Change, Operation, Unset, Wrong},
    town::Town,
};
use crate::support::{
    Kind, PATIENCE, eventually,
    world::{apply_parameters, message, to_json},
};

/// An object with one field that something is done to.
pub trait Subject: Sized {
    fn town(&self) -> &Town;
    fn kind(&self) -> Kind;
    fn name(&self) -> &str;
    fn operation(&self) -> &Operation;
    /// The object with this value, or without the field.
    fn manifest(&self, value: Option<&Value>) -> Value;
    /// Waits until everything is as it is declared now.
    async fn works(&self, value: Option<&Value>);
    /// Waits until a status gives this reason, and looks for a word in its message.
    async fn says(&self, reason: &str, word: &str);
    /// Id and secret of the client, once there are some.
    async fn credentials(&self) -> Option<(Value, String)>;
    /// What is left of its history.
    async fn state(&self) -> Value;
    /// Another object for the same operation.
    fn another(&self, name: String) -> Self;

    fn told(&self) -> String {
        let Operation { field, at, .. } = self.operation();
        format!("{field} at {at} ({:?} {})", self.kind(), self.name())
    }

    async fn live(&self) {
        let Some([first, second]) = &self.operation().values else {
            return self.live_without_a_value().await;
        };
        if let Change::Refused(words) = self.operation().change {
            self.declare(Some(first)).await;
            self.is_refused(Some(second), &[words]).await;
            self.recovers(Some(first)).await;
            return self.ends(first).await;
        }
        if !matches!(self.operation().unset, Unset::Refused(_) | Unset::Told(_) | Unset::Default(_)) {
            self.declare(None).await;
        }
        self.reaches(first).await;
        self.reaches(second).await;
        self.recovers(Some(second)).await;
        self.ends(second).await;
    }

    /// Nothing is valid: what is wrong goes by without a trace.
    async fn live_without_a_value(&self) {
        self.declare(None).await;
        self.recovers(None).await;
        self.is_like(&self.new_one(None).await).await;
    }

    /// It becomes what is declared, and is the same client if that can be.
    async fn reaches(&self, value: &Value) {
        let before = self.credentials().await;
        self.declare(Some(value)).await;
        let replaced = self.operation().change == Change::Replaces;
        if let Some(before) = before.filter(|_| !replaced) {
            assert_eq!(self.credentials().await, Some(before), "{}: it is the same client", self.told());
        }
    }

    /// Each wrong value is refused by name, or the status says why; put right, everything is as before.
    async fn recovers(&self, right: Option<&Value>) {
        let before = self.credentials().await;
        for wrong in &self.operation().wrong {
            match wrong {
                Wrong::Refused(value, words) => self.is_refused(Some(value), words).await,
                Wrong::Told(value, reason, word) => {
                    self.is_let_in(Some(value)).await;
                    self.says(reason, word).await;
                    assert_eq!(self.credentials().await, before, "{}: {reason} harms nobody", self.told());
                }
            }
            self.declare(right).await;
            assert_eq!(self.credentials().await, before, "{}: {right:?} is back", self.told());
        }
    }

    /// The end does not tell of the way, with the value and without it.
    async fn ends(&self, last: &Value) {
        let with = self.new_one(Some(last)).await;
        self.is_like(&with).await;
        match self.operation().unset {
            Unset::Clears => {
                let without = self.new_one(None).await;
                for subject in [self, &with] {
                    subject.declare(None).await;
                    subject.is_like(&without).await;
                }
            }
            Unset::Refused(words) => self.is_refused(None, &[words]).await,
            Unset::Told(reason) => {
                self.is_let_in(None).await;
                self.says(reason, "").await;
                self.declare(Some(last)).await;
            }
            Unset::Default(default) => self.assumes(default).await,
        }
    }

    async fn declare(&self, value: Option<&Value>) {
        self.is_let_in(value).await;
        self.works(value).await;
    }

    async fn is_let_in(&self, value: Option<&Value>) {
        let applied = self.town().world.try_apply(self.manifest(value)).await;
        applied.unwrap_or_else(|why| panic!("{}: {value:?}: {why}", self.told()));
    }

    async fn is_refused(&self, value: Option<&Value>, words: &[&str]) {
        let told = self.told();
        let refusal = self.town().world.try_apply(self.manifest(value)).await;
        let message = refusal.expect_err(&format!("{told}: {value:?} must be refused"));
        for word in words {
            assert!(message.contains(word), "{told}: {value:?}: {word:?} is not in {message}");
        }
    }

    /// Unset, the field has this value: the API server says so, and keeps nothing of it.
    async fn assumes(&self, default: &str) {
        let dry_run = PatchParams { dry_run: true, ..apply_parameters() };
        let patch = Patch::Apply(self.manifest(None));
        let object = self.town().world.api(self.kind()).patch(self.name(), &dry_run, &patch).await;
        let object = to_json(object.unwrap_or_else(|why| panic!("{}: {}", self.told(), message(why))));
        assert_eq!(self.operation().value_in(&object["spec"]), default, "{}", self.told());
    }

    /// An object without a history.
    async fn new_one(&self, value: Option<&Value>) -> Self {
        let end = if value.is_some() { "with" } else { "without" };
        let new = self.another(format!("{}-{end}", self.name()));
        new.declare(value).await;
        new
    }

    async fn is_like(&self, other: &Self) {
        eventually(&format!("{} is like {}", self.told(), other.name()), PATIENCE, async || {
            let (ours, theirs) = (self.state().await, other.state().await);
            if ours == theirs { Ok(()) } else { Err(format!("it is {ours:#}\nthe other one is {theirs:#}")) }
        })
        .await;
    }
}
