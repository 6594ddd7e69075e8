//! Everything that is known about one client in one pass, and nothing else. Reads only.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    intent::{Intent, Refusal},
    record::Record,
    secret,
};
use crate::{
    api::{Guardrails, OAuthClient, UnknownOutcome, annotations},
    registry::{self, Capabilities, Client, ClientMetadata, Document, Error, Field, Mark, Support, metadata},
};

/// What is known in a pass. The rules of [`mod@super::next`] read it; [`super::run`] adds what it learns.
pub struct Facts {
    /// The time of the pass.
    pub now: Timestamp,
    /// The object, as last read or written.
    pub client: OAuthClient,
    /// What it declares, in the form in which the registry compares it.
    pub declared: ClientMetadata,
    /// The intent on it.
    pub intent: Option<Intent>,
    /// The record, or why it cannot be read.
    pub record: Result<Option<Record>, String>,
    /// What stands at the place of the user's Secret.
    pub secret: secret::Found,
    /// The registry, or why it cannot be used.
    pub registry: Result<Known, Why>,
    /// Whether it is time to look at the registry.
    pub look_due: bool,
    /// Whether the client itself is to be read, not only its line in the inventory.
    pub look_closely: bool,
    /// A nonce that was never used.
    pub nonce: String,
    /// The installation that the operator is.
    pub installation: String,
    /// When all older passes and requests must be over.
    pub settle: Duration,
    /// How long a deletion may try to tell the registry.
    pub deletion_timeout: Duration,
    /// What this pass has done so far.
    pub progress: Progress,
}

/// A registry that can be used.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where its credentials may be sent.
    pub origin: String,
    /// Its issuer.
    pub issuer: Option<String>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What to do when a registration may or may not have happened.
    pub unknown_outcome: UnknownOutcome,
    /// Whether clients are read to find drift.
    pub reads: bool,
    /// The fields that some read has shown.
    pub shown: std::collections::BTreeSet<Field>,
    /// How often to look.
    pub drift_interval: Duration,
    /// What it is told to be, as a fingerprint.
    pub fingerprint: String,
    /// What keeps us from registering there, if anything.
    pub not_ready: Option<Why>,
    /// The fingerprint of the credentials, where it has some for all clients.
    pub credentials: Option<String>,
    /// Whether these credentials are known to open the account in which our clients are.
    pub proven: bool,
    /// The account that these credentials open, where the registry has told.
    pub account_id: Option<String>,
    /// The value of the annotation `accept` on the registry object.
    pub accepted: Option<String>,
    /// What clients may ask for there.
    pub guardrails: Option<Guardrails>,
}

impl Known {
    /// What the registry is now, as a fingerprint: where it is, and which credentials open it.
    pub fn identity(&self) -> String {
        fingerprint(&(&self.origin, &self.issuer, &self.credentials))
    }

    /// Whether somebody has said that what the registry is now is right.
    pub fn is_accepted(&self) -> bool {
        self.accepted.as_deref() == Some(self.identity().as_str())
    }
}

/// What a pass has done so far.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, in any combination")]
pub struct Progress {
    /// A registration can be sent.
    pub prepared: bool,
    /// The intent on the object was written by this pass.
    pub announced: bool,
    /// What was announced was definitely not done, and why.
    pub refused: Option<Error>,
    /// Credentials that are not stored yet.
    pub in_hand: Option<InHand>,
    /// A client that only we know and nobody will use.
    pub stray: Option<Client>,
    /// What a look has shown.
    pub seen: Option<Client>,
    /// A look has shown that the client is gone.
    pub gone: bool,
    /// The registry was asked again whether its credentials open the right account.
    pub surveyed: bool,
    /// What a search for a client of an unknown outcome has found; absent before it.
    pub searched: Option<Search>,
    /// A client that is ours and whose secret nobody has.
    pub adopting: Option<Client>,
    /// The registry sees something else at the place of a registration.
    pub conflict: Option<Error>,
    /// The client was looked at.
    pub looked: bool,
    /// A client is missing, but that is not proven yet, and why.
    pub missing: Option<Why>,
    /// Secrets that were revoked.
    pub revoked: Vec<String>,
    /// Earlier clients that were removed.
    pub retired: Vec<String>,
    /// Whatever else bore our mark was removed.
    pub cleared: bool,
    /// The registry has let the client go.
    pub deregistered: bool,
    /// Why it has not.
    pub deregister_error: Option<Error>,
    /// What happened, for the events of the object.
    pub notes: Vec<Note>,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// There is such a client; it is in hand, or to be adopted.
    Found,
    /// There is none.
    Nothing,
}

/// A reply whose credentials are not stored yet.
#[derive(Clone, Debug)]
pub struct InHand {
    /// The client.
    pub client: Client,
    /// What the reply answers.
    pub to: Asked,
}

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A registration.
    Register,
    /// An update.
    Update,
    /// A look: it brought other credentials.
    Look,
    /// A request for a further secret.
    IssueSecret,
    /// A look at the client that status names, since no record does.
    Recover,
}

/// Why something is so, for conditions and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// One word that programs may rely on.
    pub reason: String,
    /// For people, with what to do next. No secret, no trailing period.
    pub message: String,
}

impl Why {
    /// A reason and its text.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

impl From<&Error> for Why {
    fn from(error: &Error) -> Self {
        Self::new(error.kind.reason(), &error.summary)
    }
}

impl From<&Refusal> for Why {
    fn from(refusal: &Refusal) -> Self {
        Self::new(&refusal.reason, &refusal.message)
    }
}

/// Something that happened, worth an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should look.
    pub warning: bool,
    /// What and why.
    pub why: Why,
}

/// How the declared fields stand at the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Fields that a write should mend.
    pub to_write: Vec<Field>,
    /// Fields that left the spec and should be as a new client has them.
    pub to_reset: Vec<Field>,
    /// Fields that the registry answered with another value than we sent: writing again would not help.
    pub not_taken: Vec<Field>,
}

impl Facts {
    /// The object's UID.
    pub fn uid(&self) -> &str {
        self.client.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Whether the object is being deleted.
    pub fn deleting(&self) -> bool {
        self.client.metadata.deletion_timestamp.is_some()
    }

    /// Whether our finalizer is on the object.
    pub fn finalized(&self) -> bool {
        self.client.is_held()
    }

    /// The value of one of our annotations.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.client.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// What the object declares.
    pub fn declared(&self) -> ClientMetadata {
        self.declared.clone()
    }

    /// Whether the object itself names the record's client: from then on no mark has to.
    pub fn names(&self, record: &Record) -> bool {
        let named = self.client.status.as_ref().and_then(|status| status.client_id.as_ref());
        named == Some(&record.client.client_id)
    }

    /// Whether an announced attempt has not ended: it was not refused, and the record is still the one before it, if there is one.
    pub fn unresolved(&self) -> Option<&Intent> {
        let intent = self.intent.as_ref().filter(|intent| intent.refused.is_none())?;
        let open = match self.record() {
            Some(record) => intent.replaces.as_deref() == Some(record.state.nonce.as_str()),
            None => true,
        };
        open.then_some(intent)
    }

    /// The owner mark of an attempt.
    pub fn mark(&self, intent: &Intent) -> Mark {
        Mark {
            installation: self.installation.clone(),
            uid: self.uid().into(),
            nonce: intent.nonce.clone(),
            replaces: intent.replaces.clone(),
        }
    }

    /// The record, if there is a readable one.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref().ok().and_then(Option::as_ref)
    }

    /// The time that has passed since then; none if a clock is ahead.
    pub fn since(&self, then: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(then)).unwrap_or_default()
    }

    /// What is asked of whom, as a fingerprint: a final refusal stands until it changes.
    pub fn question(&self, known: &Known) -> String {
        let declared = serde_json::to_string(&self.declared()).unwrap_or_default();
        fingerprint(&(
            declared,
            &known.fingerprint,
            requested(&self.client),
            self.annotation(annotations::ROTATE),
        ))
    }

    /// Compares what is declared with what the registry has, or had at our last write.
    pub fn difference(&self, record: &Record, known: &Known) -> Difference {
        let declared = self.declared();
        let state = &record.state;
        let current = self.current_document(record, known);
        let mut difference = Difference::default();
        for field in declared.differing(&current) {
            let sent = state.applied.get(field) == declared.get(field) && state.in_flight.is_none();
            let answered =
                metadata::shown(field, &current) == metadata::shown(field, &record.client.document);
            if sent && answered {
                difference.not_taken.push(field);
            } else {
                difference.to_write.push(field);
            }
        }
        let once_sent = state.applied.0.keys().chain(state.in_flight.iter().flat_map(|sent| sent.0.keys()));
        // A fixed value stays, whether it is declared or not.
        let fixed = |field| matches!(known.capabilities.support(field), Support::Fixed(_));
        let left = once_sent.filter(|field| declared.get(**field).is_none() && !fixed(**field));
        difference.to_reset = left.copied().collect();
        difference.to_reset.sort();
        difference.to_reset.dedup();
        difference
    }

    /// Learns that another record stands where ours should: the same client is success; a client that only we know is a stray, and so
    /// is one that was replaced while we got new credentials of it. Otherwise what an update or a look brought stays in hand as long as
    /// the record still holds the credentials that we used for it. Returns whether the pass may go on.
    pub fn lose_the_race(&mut self, theirs: Result<Record, String>) -> bool {
        match self.progress.in_hand.as_ref().map(|reply| reply.to) {
            Some(Asked::Register) => {
                let ours = self.progress.in_hand.take().map(|reply| reply.client);
                let id = theirs.as_ref().ok().map(|record| record.client.client_id.as_str());
                self.progress.stray = ours.filter(|client| Some(client.client_id.as_str()) != id);
                let replaced = self.intent.as_ref().and_then(|intent| intent.replaces.as_deref());
                let stands = replaced == theirs.as_ref().ok().map(|record| record.state.nonce.as_str());
                if replaced.is_some() && stands && self.progress.stray.is_some() {
                    let why = "the record changed meanwhile, so the new client is removed again";
                    self.progress.refused = Some(Error::new(registry::Kind::Unavailable, why));
                } else {
                    self.progress.announced = false;
                }
                let before = self.record().map(|record| record.client.client_id.clone());
                self.record = theirs.map(Some);
                if self.record().map(|record| &record.client.client_id) != before.as_ref() {
                    self.forget_looks();
                }
                true
            }
            Some(Asked::Update | Asked::Look)
                if theirs.as_ref().is_ok_and(|record| self.is_replaced_by(record)) =>
            {
                self.progress.stray = self.progress.in_hand.take().map(|reply| reply.client);
                self.record = theirs.map(Some);
                self.forget_looks();
                true
            }
            Some(Asked::Update | Asked::Look | Asked::IssueSecret) => {
                let used = |record: &Record| (record.client.client_id.clone(), record.secrets().concat());
                let ours = self.record().map(used);
                let same = theirs.as_ref().is_ok_and(|record| Some(used(record)) == ours);
                if same {
                    self.record = theirs.map(Some);
                }
                same
            }
            // What was read can be read again.
            Some(Asked::Recover) | None => false,
        }
    }

    /// Whether a record speaks of another client than ours, and has no use for ours.
    fn is_replaced_by(&self, theirs: &Record) -> bool {
        let ours = self.record().map(|record| &record.client.client_id);
        let retires = |id: &String| theirs.state.retiring.iter().any(|old| old.client.client_id == *id);
        ours.is_some_and(|id| *id != theirs.client.client_id && !retires(id))
    }

    /// What a look has shown is about the client before.
    fn forget_looks(&mut self) {
        (self.progress.gone, self.progress.missing, self.progress.seen) = (false, None, None);
    }

    /// The declared fields that somebody else has put right: the registry shows them as declared, though it answered our last
    /// write with something else.
    pub fn put_right(&self, record: &Record, seen: &Document) -> Vec<Field> {
        let declared = self.declared();
        let still = declared.differing(seen);
        let mut fields = declared.differing(&record.client.document);
        fields.retain(|field| !still.contains(field));
        fields
    }

    /// The registry's document: as seen in this pass, or as answered to our last write. A field that no read has ever shown
    /// may be missing because the registry does not show it; then our last write counts.
    fn current_document(&self, record: &Record, known: &Known) -> Document {
        let Some(seen) = &self.progress.seen else { return record.client.document.clone() };
        let mut document = seen.document.clone();
        for field in Field::ALL.into_iter().filter(|field| !known.shown.contains(field)) {
            if let Some(value) = record.client.document.get(field.wire_name()) {
                document.entry(field.wire_name()).or_insert_with(|| value.clone());
            }
        }
        document
    }
}

/// Notes something for the object's events.
impl Progress {
    /// Notes something normal.
    pub fn note(&mut self, reason: &str, message: impl Into<String>) {
        self.notes.push(Note { warning: false, why: Why::new(reason, message) });
    }

    /// Notes something that somebody should look at.
    pub fn warn(&mut self, reason: &str, message: impl Into<String>) {
        self.notes.push(Note { warning: true, why: Why::new(reason, message) });
    }
}

/// What people asked for by annotation, as far as a status can repeat it.
pub fn requested(client: &OAuthClient) -> Option<String> {
    const REPEATED: usize = 1024;
    let asked = client.metadata.annotations.as_ref().and_then(annotations::requested_at)?;
    Some(asked.chars().take(REPEATED).collect())
}

/// A short text that differs when the value differs. Not stable between versions of the operator; then we ask once more.
pub fn fingerprint(value: &impl std::hash::Hash) -> String {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Names a registration in words that people can search for at the registry.
pub fn software_id(client: &OAuthClient, nonce: &str) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let metadata = &client.metadata;
    format!(
        "oauth-operator/{}/{}/{}/{nonce}",
        part(&metadata.namespace),
        part(&metadata.name),
        part(&metadata.uid)
    )
}

/// Orphans that may exist, counted and named.
pub fn suspects(client: &OAuthClient, intent: Option<&Intent>) -> Option<String> {
    let names: Vec<String> =
        intent?.suspects.iter().map(|suspect| software_id(client, &suspect.nonce)).collect();
    let count = names.len();
    (count > 0).then(|| {
        format!(
            "{count} earlier attempt{} may have left a client of this name at the registry (software_id {})",
            if count == 1 { "" } else { "s" },
            names.join(", ")
        )
    })
}

/// The command by which a person says that what an attempt may have left behind was looked after.
pub fn resume_command(client: &OAuthClient, value: &str) -> String {
    format!(
        "kubectl annotate oac {} -n {} {}={value} --overwrite",
        client.metadata.name.as_deref().unwrap_or_default(),
        client.metadata.namespace.as_deref().unwrap_or_default(),
        annotations::RESUME
    )
}

/// A refusal, as it is noted; final unless time alone may change the answer.
pub fn refusal(error: &Error, question: String) -> Refusal {
    let is_final = error.kind.retry() == registry::Retry::OnChange;
    Refusal {
        reason: error.kind.reason().into(),
        message: error.summary.clone(),
        final_for: is_final.then_some(question),
    }
}

#[cfg(test)]
mod tests;
