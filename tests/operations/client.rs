//! An `OAuthClient`, at a registry that all of them share.

use serde_json::{Value, json};

use super::{
    operation::Operation,
    state::{credentials, state},
    story::Subject,
    town::Town,
};
use crate::support::{Kind, PATIENCE, condition, eventually, world::has_condition};

/// A client that something is done to.
pub struct ClientSubject<'a> {
    pub town: &'a Town,
    pub name: String,
    pub operation: Operation,
}

impl Subject for ClientSubject<'_> {
    fn town(&self) -> &Town {
        self.town
    }

    fn kind(&self) -> Kind {
        Kind::OAuthClient
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn operation(&self) -> &Operation {
        &self.operation
    }

    fn manifest(&self, value: Option<&Value>) -> Value {
        let spec = self.operation.spec(&Town::client(self.operation.at), value);
        let manifest = json!({
            "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthClient",
            "metadata": {"name": self.name}, "spec": spec,
        });
        filled(&manifest, &|text| text.replace("{name}", &self.name))
    }

    async fn works(&self, value: Option<&Value>) {
        let what = format!("{} is {value:?}", self.told());
        self.town.world.wait_for(Kind::OAuthClient, &self.name, &what, PATIENCE, is_done).await;
        let Some(value) = value else { return };
        eventually(&what, PATIENCE, async || {
            let state = self.state().await;
            if self.shows(&state, value) { Ok(()) } else { Err(format!("{state:#}")) }
        })
        .await;
    }

    async fn says(&self, reason: &str, word: &str) {
        let object = self
            .town
            .world
            .wait_for(Kind::OAuthClient, &self.name, reason, PATIENCE, |object| {
                has_condition(object, "Ready", "False")
                    && condition(object, "Ready").is_some_and(|ready| ready["reason"] == reason)
            })
            .await;
        let message = condition(&object, "Ready").unwrap()["message"].to_string();
        assert!(message.contains(word), "{}: {word:?} is not in {message}", self.told());
    }

    async fn credentials(&self) -> Option<(Value, String)> {
        credentials(self.town, &self.name).await
    }

    async fn state(&self) -> Value {
        state(self.town, self.operation.at, &self.name).await
    }

    fn another(&self, name: String) -> Self {
        Self { town: self.town, name, operation: self.operation.clone() }
    }
}

impl ClientSubject<'_> {
    fn shows(&self, state: &Value, value: &Value) -> bool {
        match self.operation.shows {
            Some(shows) => shows(state, value),
            None => normal(self.operation.value_in(&state["client"])) == normal(value),
        }
    }
}

/// The operator has done what is declared now, or was told to do nothing.
fn is_done(object: &Value) -> bool {
    ["Ready", "Suspended"].iter().any(|condition| has_condition(object, condition, "True"))
}

/// Absent and empty are one, and lists are sets.
fn normal(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Array(items) => {
            let mut items = items.clone();
            items.sort_by_key(Value::to_string);
            items.into()
        }
        Value::String(text) if text.is_empty() => Value::Null,
        other => other.clone(),
    }
}

/// The same with other texts.
pub fn filled(value: &Value, text: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(given) => text(given).into(),
        Value::Array(items) => items.iter().map(|item| filled(item, text)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), filled(member, text))).collect()
        }
        other => other.clone(),
    }
}
