//! Facts with good defaults, changed as a row of a table says.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::{
    api::{FINALIZER, OAuthClient, UnknownOutcome, annotations},
    reconcile::{
        facts::{Asked, Facts, InHand, Known, Progress, Why},
        intent::{Intent, Refusal},
        record::{self, Record},
        secret::{self, Found},
    },
    registry::{Capabilities, Client, ClientMetadata, Error, Field, Kind, Management, Support},
};

pub(crate) const SETTLE: Duration = Duration::from_secs(30);
pub(crate) const DELETION: Duration = Duration::from_mins(10);

pub(crate) fn now() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

fn object() -> OAuthClient {
    serde_json::from_value(json!({
        "apiVersion": "oauth-operator.io/v1alpha1",
        "kind": "OAuthClient",
        "metadata": {"name": "app", "namespace": "ns", "uid": "uid-1", "generation": 1, "resourceVersion": "1"},
        "spec": {"registryRef": {"name": "dev"}, "clientName": "App", "redirectUris": ["https://app.example/cb"]},
    }))
    .unwrap()
}

fn known() -> Known {
    Known {
        origin: "https://as.example".into(),
        issuer: Some("https://as.example".into()),
        capabilities: all_settable(),
        unknown_outcome: UnknownOutcome::Retry,
        reads: true,
        shown: std::collections::BTreeSet::default(),
        drift_interval: Duration::from_mins(10),
        fingerprint: "registry-1".into(),
        not_ready: None,
        credentials: None,
        proven: false,
        account_id: None,
        accepted: None,
        guardrails: None,
    }
}

/// As a server of RFC 7591.
fn all_settable() -> Capabilities {
    let fields = Field::ALL.into_iter().map(|field| (field, Support::Settable)).collect();
    Capabilities { fields, ..Capabilities::default() }
}

/// A new object at a registry that can be used.
pub(crate) fn new_client() -> Facts {
    Facts {
        now: now(),
        client: object(),
        declared: ClientMetadata::declared(&object()),
        intent: None,
        record: Ok(None),
        secret: Found::Absent,
        registry: Ok(known()),
        look_due: false,
        look_closely: false,
        nonce: "fresh".into(),
        installation: "installation".into(),
        settle: SETTLE,
        deletion_timeout: DELETION,
        progress: Progress::default(),
    }
}

/// Registered under `nonce-1`, stored and published.
pub(crate) fn ready() -> Facts {
    let mut facts = new_client();
    facts.finalize();
    facts.intent = Some(Intent::first("uid-1", "nonce-1".into(), None, ago(3600)));
    let mut record = record::tests::record(ClientMetadata::declared(&facts.client));
    record.state.not_cleared.clear();
    facts.record = Ok(Some(record));
    facts.publish();
    facts
}

/// The client of [`ready`] with other credentials.
pub(crate) fn renewed() -> Client {
    Client { client_secret: Some("s3cr3t-2".into()), ..another("id-1") }
}

/// A client that a reply has shown.
pub(crate) fn another(id: &str) -> Client {
    let declared = ClientMetadata::declared(&object());
    let mut client = record::tests::record(declared).client;
    client.client_id = id.into();
    client
}

pub(crate) fn refused(question: Option<String>) -> Refusal {
    Refusal {
        reason: "Rejected".into(),
        message: "the registry refused the client with 400".into(),
        final_for: question,
    }
}

pub(crate) fn error(kind: Kind) -> Error {
    Error::new(kind, "it failed")
}

pub(crate) fn why(reason: &str) -> Why {
    Why::new(reason, "because")
}

impl Facts {
    /// The same, but.
    #[must_use]
    pub(crate) fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same with these members of the spec; `null` removes.
    #[must_use]
    pub(crate) fn spec(mut self, patch: Value) -> Self {
        let mut object = serde_json::to_value(&self.client).unwrap();
        for (member, value) in patch.as_object().unwrap() {
            object["spec"][member] = value.clone();
        }
        let generation = self.client.metadata.generation;
        self.client = serde_json::from_value(object).unwrap();
        self.client.metadata.generation = generation.map(|generation| generation + 1);
        self.declared = ClientMetadata::declared(&self.client);
        self
    }

    /// The same under deletion since so many seconds.
    #[must_use]
    pub(crate) fn deleted(mut self, seconds: i64) -> Self {
        self.client.metadata.deletion_timestamp = Some(Time(ago(seconds)));
        self
    }

    #[must_use]
    pub(crate) fn note(mut self, name: &str, value: &str) -> Self {
        self.client.metadata.annotations.get_or_insert_default().insert(name.into(), value.into());
        self
    }

    /// The same with an attempt of that age to register.
    #[must_use]
    pub(crate) fn attempted(mut self, attempt: u32, seconds: i64) -> Self {
        self.finalize();
        self.intent =
            Some(Intent { attempt, ..Intent::first("uid-1", "nonce-1".into(), None, ago(seconds)) });
        self
    }

    /// The same with an attempt of that age to replace the record's client.
    #[must_use]
    pub(crate) fn replacing(mut self, seconds: i64) -> Self {
        self.intent = Some(Intent::first("uid-1", "nonce-2".into(), Some("nonce-1".into()), ago(seconds)));
        self
    }

    /// The same with a refusal of the attempt, for good or not.
    #[must_use]
    pub(crate) fn refused(mut self, for_good: bool) -> Self {
        let question = for_good.then(|| self.question(self.registry.as_ref().unwrap()));
        self.intent = self.intent.map(|intent| intent.refused(refused(question)));
        self
    }

    #[must_use]
    pub(crate) fn in_hand(self, id: &str, to: Asked) -> Self {
        let client = another(id);
        self.but(|facts| facts.progress.in_hand = Some(InHand { client, to }))
    }

    #[must_use]
    pub(crate) fn unmanaged(self) -> Self {
        self.but(|facts| facts.stored().client.management = Management::None("it gave no token".into()))
    }

    pub(crate) fn known(&mut self) -> &mut Known {
        self.registry.as_mut().unwrap()
    }

    pub(crate) fn stored(&mut self) -> &mut Record {
        self.record.as_mut().unwrap().as_mut().unwrap()
    }

    /// The record with what a change left of the declaration applied.
    pub(crate) fn finalize(&mut self) {
        self.client.metadata.finalizers = Some(vec![FINALIZER.into()]);
    }

    /// Derives the Secret from the record.
    pub(crate) fn publish(&mut self) {
        let wanted = secret::wanted(&self.client, self.record().unwrap(), &self.installation);
        self.secret = Found::Ours(Box::new(wanted.create("ns", "app")));
    }

    pub(crate) fn abandon(self) -> Self {
        self.note(annotations::ABANDON, "true")
    }
}
