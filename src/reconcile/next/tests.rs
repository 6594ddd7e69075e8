//! Every rule with its reasons; then whole passes over an API server and a registry in memory, with every fault at every call.

#![expect(clippy::needless_pass_by_value, reason = "`json!(…)` reads better without an ampersand")]

/// Facts with good defaults, changed as a row of a table says.
pub(crate) mod given {
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
        registry::{Capabilities, Client, ClientMetadata, Error, Kind, Management},
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
            capabilities: Capabilities::default(),
            unknown_outcome: UnknownOutcome::Retry,
            reads: true,
            shown: std::collections::BTreeSet::default(),
            drift_interval: Duration::from_mins(10),
            fingerprint: "registry-1".into(),
            not_ready: None,
        }
    }

    /// A new object at a registry that can be used.
    pub(crate) fn new_client() -> Facts {
        Facts {
            now: now(),
            client: object(),
            intent: None,
            record: Ok(None),
            secret: Found::Absent,
            registry: Ok(known()),
            look_due: false,
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
            self.intent =
                Some(Intent::first("uid-1", "nonce-2".into(), Some("nonce-1".into()), ago(seconds)));
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
}

/// Each rule, row by row.
mod rules {
    use k8s_openapi::api::core::v1::Secret;
    use proptest::prelude::*;
    use serde_json::json;

    use super::given::*;
    use crate::{
        api::{Condition, ConditionStatus, DeletionPolicy, OAuthClientStatus, UnknownOutcome, annotations},
        reconcile::{
            facts::{Asked, Facts},
            intent::{Intent, Suspect},
            next::{Effect, Step, next},
            record::Released,
            secret::{self, Found},
        },
        registry::{Error, Field, Kind, Support},
    };
    use std::time::Duration;

    /// A step in a few words.
    fn brief(step: &Step) -> String {
        let announced = |intent: &Intent| {
            let replaces = intent.replaces.iter().map(|nonce| format!(", replaces {nonce}"));
            let suspects = intent.suspects.iter().map(|suspect| format!(", suspects {}", suspect.nonce));
            let more: String = replaces.chain(suspects).collect();
            format!("announce {} as attempt {}{more}", intent.nonce, intent.attempt)
        };
        let spec_names =
            |fields: &[Field]| fields.iter().map(|field| field.spec_name()).collect::<Vec<_>>().join(" ");
        match step {
            Step::Settled => "settled".into(),
            Step::Wait(why, after) => format!("wait {}s, {}", after.as_secs(), why.reason),
            Step::Refuse(why) => format!("refuse, {}", why.reason),
            Step::Fail(error) => format!("fail, {}", error.kind.reason()),
            Step::Do(effect) => match effect {
                Effect::Announce(intent) => announced(intent),
                Effect::Acknowledge(_) => "acknowledge".into(),
                Effect::NoteRefusal(intent) => {
                    format!("note refusal {}", intent.refused.as_ref().unwrap().reason)
                }
                Effect::Register(wanted) => format!("register {}", wanted.software_id),
                Effect::Store(record) => {
                    let version = record.version.as_deref().unwrap_or("none");
                    let in_flight = if record.state.in_flight.is_some() { ", in flight" } else { "" };
                    let refused = if record.state.refused.is_some() { ", refused" } else { "" };
                    format!("store {} over {version}{in_flight}{refused}", record.client.client_id)
                }
                Effect::Update { reset, .. } if reset.is_empty() => "update".into(),
                Effect::Update { reset, .. } => format!("update, reset {}", spec_names(reset)),
                Effect::DeregisterStray(client) => format!("deregister stray {}", client.client_id),
                other => format!("{other:?}"),
            },
        }
    }

    type Row = (&'static str, Facts, &'static str);

    fn hold(rows: Vec<Row>) {
        for (reason, facts, expected) in rows {
            assert_eq!(brief(&next(&facts)), expected, "{reason}");
        }
    }

    /// The same with the status that an earlier pass has left.
    fn told(facts: Facts, reason: &str, client_id: Option<&str>) -> Facts {
        let ready = Condition {
            type_: "Ready".into(),
            status: ConditionStatus::Unknown,
            observed_generation: Some(1),
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()),
            reason: reason.into(),
            message: "it said so".into(),
        };
        let client_id = client_id.map(str::to_owned);
        facts.but(|facts| {
            facts.client.status = Some(OAuthClientStatus {
                conditions: vec![ready],
                client_id,
                ..OAuthClientStatus::default()
            });
        })
    }

    fn announced(facts: Facts) -> Facts {
        facts.attempted(1, 0).but(|facts| {
            facts.progress.prepared = true;
            facts.progress.announced = true;
        })
    }

    fn prepared(facts: Facts) -> Facts {
        facts.but(|facts| facts.progress.prepared = true)
    }

    fn edited(facts: Facts) -> Facts {
        facts.but(|facts| {
            let Found::Ours(secret) = &mut facts.secret else { panic!() };
            secret.data.as_mut().unwrap().remove("client_id");
        })
    }

    #[test]
    fn a_ready_client_is_settled() {
        hold(vec![("nothing to do", ready(), "settled")]);
    }

    #[test]
    fn a_registration_is_prepared_announced_and_sent() {
        hold(vec![
            ("first it must be possible to send it", new_client(), "Prepare"),
            ("then it is written onto the object", prepared(new_client()), "announce fresh as attempt 1"),
            ("then it is sent", announced(new_client()), "register oauth-operator/ns/app/uid-1/nonce-1"),
            (
                "a token that is missing is waited for",
                prepared(new_client())
                    .but(|facts| facts.known().not_ready = Some(why("CredentialsNotFound"))),
                "wait 30s, CredentialsNotFound",
            ),
            (
                "a nonce that the record bears was sent",
                ready().but(|facts| facts.progress.announced = true),
                "settled",
            ),
        ]);
    }

    #[test]
    fn what_a_reply_brought_is_stored_before_all_else() {
        hold(vec![
            (
                "a registration creates",
                announced(new_client()).in_hand("id-1", Asked::Register),
                "store id-1 over none",
            ),
            (
                "a replacement goes over the record that it read",
                ready().replacing(0).in_hand("id-2", Asked::Register),
                "store id-2 over 7",
            ),
            ("an update", ready().in_hand("id-1", Asked::Update), "store id-1 over 7"),
            ("a look", ready().in_hand("id-1", Asked::Look), "store id-1 over 7"),
            ("even under deletion", ready().deleted(9).in_hand("id-1", Asked::Look), "store id-1 over 7"),
            (
                "even before a refusal",
                ready()
                    .in_hand("id-1", Asked::Look)
                    .but(|facts| facts.progress.refused = Some(error(Kind::Rejected))),
                "store id-1 over 7",
            ),
        ]);
    }

    #[test]
    fn a_look_changes_credentials_only() {
        let facts = ready().in_hand("id-1", Asked::Look).but(|facts| {
            let client = &mut facts.progress.in_hand.as_mut().unwrap().client;
            client.document.insert("client_name".into(), json!("Somebody else's"));
        });
        let Step::Do(Effect::Store(record)) = next(&facts) else { panic!() };
        assert_eq!(
            record.client.document["client_name"], "App",
            "what we wrote last is what drift is told from"
        );
    }

    #[test]
    fn a_client_that_nobody_will_use_is_removed_by_who_made_it() {
        hold(vec![
            (
                "its token is in hand only now",
                ready().but(|facts| facts.progress.stray = Some(another("id-2"))),
                "deregister stray id-2",
            ),
            (
                "before the refusal is noted, so that the note is true",
                announced(new_client()).but(|facts| {
                    facts.progress.stray = Some(another("id-2"));
                    facts.progress.refused = Some(error(Kind::Unavailable));
                }),
                "deregister stray id-2",
            ),
        ]);
    }

    #[test]
    fn a_refusal_is_noted_and_stands() {
        let refused_now = |facts: Facts, kind| facts.but(|facts| facts.progress.refused = Some(error(kind)));
        hold(vec![
            ("noted once", refused_now(announced(new_client()), Kind::Rejected), "note refusal Rejected"),
            (
                "then it is told",
                refused_now(announced(new_client()).refused(true), Kind::Rejected),
                "fail, Rejected",
            ),
            (
                "a refused update is noted in the record",
                refused_now(
                    ready().but(|facts| facts.stored().state.in_flight = Some(facts.declared())),
                    Kind::Rejected,
                ),
                "store id-1 over 7, refused",
            ),
            ("then it is told", refused_now(ready(), Kind::Rejected), "fail, Rejected"),
            ("for good", new_client().attempted(1, 9).refused(true), "refuse, Rejected"),
            (
                "unless the spec changed",
                prepared(new_client().attempted(1, 9).refused(true).spec(json!({"clientName": "B"}))),
                "announce fresh as attempt 1",
            ),
            (
                "or the registry",
                prepared(new_client().attempted(1, 9).refused(true))
                    .but(|facts| facts.known().fingerprint = "other".into()),
                "announce fresh as attempt 1",
            ),
            (
                "or people ask",
                prepared(new_client().attempted(1, 9).refused(true)).note(annotations::REQUESTED_AT, "now"),
                "announce fresh as attempt 1",
            ),
            (
                "what time may change is tried again, and not counted",
                prepared(new_client().attempted(2, 9).refused(false)),
                "announce fresh as attempt 2",
            ),
        ]);
    }

    #[test]
    fn deletion_goes_from_the_registry_to_the_record_to_the_object() {
        let failed =
            |facts: Facts, kind| facts.but(|facts| facts.progress.deregister_error = Some(error(kind)));
        hold(vec![
            ("first the registry", ready().deleted(9), "Deregister"),
            (
                "then the record",
                ready().deleted(9).but(|facts| facts.progress.deregistered = true),
                "DeleteRecord",
            ),
            (
                "then the object",
                ready().deleted(9).but(|facts| {
                    facts.progress.deregistered = true;
                    facts.record = Ok(None);
                }),
                "RemoveFinalizer",
            ),
            (
                "then it is over",
                ready().deleted(9).but(|facts| facts.client.metadata.finalizers = None),
                "settled",
            ),
            ("suspended or not", ready().spec(json!({"suspend": true})).deleted(9), "Deregister"),
            (
                "wherever the registry is now",
                ready().deleted(9).but(|facts| facts.registry = Err(why("RegistryNotFound"))),
                "Deregister",
            ),
            (
                "a failure is tried again",
                failed(ready().deleted(9), Kind::Unavailable),
                "fail, RegistryUnavailable",
            ),
            ("within a bounded time", failed(ready().deleted(600), Kind::Unavailable), "Release(Abandoned)"),
            (
                "what can never be is not tried for long",
                failed(ready().deleted(9), Kind::Unsupported),
                "Release(Abandoned)",
            ),
            ("or somebody does not want to wait", ready().deleted(9).abandon(), "Release(Abandoned)"),
            (
                "what was told is not abandoned",
                ready().deleted(9).abandon().but(|facts| facts.progress.deregistered = true),
                "DeleteRecord",
            ),
            (
                "a released record stays",
                ready().deleted(9).but(|facts| facts.stored().released = Some(Released::Abandoned)),
                "RemoveFinalizer",
            ),
        ]);
    }

    #[test]
    fn deletion_of_what_has_no_record_waits_for_requests_in_flight() {
        hold(vec![
            ("nothing was ever announced", new_client().deleted(9).but(Facts::finalize), "RemoveFinalizer"),
            ("it may be on its way", new_client().attempted(1, 10).deleted(5), "wait 20s, ResolvingOutcome"),
            ("it must be over", new_client().attempted(1, 30).deleted(5), "RemoveFinalizer"),
            ("it was refused", new_client().attempted(1, 10).refused(false).deleted(5), "RemoveFinalizer"),
            (
                "somebody does not want to wait",
                new_client().attempted(1, 10).deleted(5).abandon(),
                "RemoveFinalizer",
            ),
            ("a clock was wrong", new_client().attempted(1, -9_999).deleted(5), "wait 25s, ResolvingOutcome"),
            (
                "a clock was wrong, but not for ever",
                new_client().attempted(1, -9_999).deleted(30),
                "RemoveFinalizer",
            ),
        ]);
    }

    #[test]
    fn deletion_with_a_broken_record_waits_for_somebody_to_mend_it() {
        let broken = || ready().but(|facts| facts.record = Err("it has no state".into()));
        hold(vec![
            ("it may be restored", broken().deleted(60), "wait 540s, RecordUnreadable"),
            ("but not for ever", broken().deleted(600), "RemoveFinalizer"),
            ("or somebody does not want to wait", broken().deleted(60).abandon(), "RemoveFinalizer"),
        ]);
    }

    #[test]
    fn retain_frees_the_secret_and_keeps_the_record() {
        let retained = || ready().spec(json!({"deletionPolicy": "Retain"}));
        hold(vec![
            ("it must lose its owner first", retained().deleted(9), "Publish"),
            ("then the record is kept", retained().but(Facts::publish).deleted(9), "Release(Retained)"),
            (
                "whatever the Secret is",
                retained().but(|facts| facts.secret = Found::Absent).deleted(9),
                "Release(Retained)",
            ),
            (
                "somebody else's is not touched",
                retained().but(|facts| facts.secret = Found::Foreign).deleted(9),
                "Release(Retained)",
            ),
            (
                "a Secret that cannot be written does not hold it up for ever",
                retained().deleted(600),
                "Release(Retained)",
            ),
            (
                "then the object goes",
                retained().deleted(9).but(|facts| facts.stored().released = Some(Released::Retained)),
                "RemoveFinalizer",
            ),
        ]);
    }

    #[test]
    fn a_living_object_is_left_alone_for_a_reason() {
        hold(vec![
            ("suspended", ready().spec(json!({"suspend": true, "clientName": "B"})), "refuse, Suspended"),
            ("suspended and new", new_client().spec(json!({"suspend": true})), "refuse, Suspended"),
            (
                "nobody knows what the registry has",
                ready().but(|facts| facts.record = Err("broken".into())),
                "refuse, RecordUnreadable",
            ),
            (
                "somebody else's Secret",
                new_client().but(|facts| facts.secret = Found::Foreign),
                "refuse, SecretNotOurs",
            ),
            (
                "somebody else's Secret, later",
                ready().but(|facts| facts.secret = Found::Foreign),
                "refuse, SecretNotOurs",
            ),
            (
                "no registry",
                new_client().but(|facts| facts.registry = Err(why("RegistryNotFound"))),
                "wait 600s, RegistryNotFound",
            ),
            (
                "another registry",
                ready().but(|facts| facts.known().origin = "https://b.example".into()),
                "refuse, RegistryChanged",
            ),
        ]);
    }

    #[test]
    fn a_finalizer_that_was_taken_away_comes_back() {
        let without = || ready().but(|facts| facts.client.metadata.finalizers = Some(vec!["others".into()]));
        hold(vec![
            ("the client would stay behind", without(), "AddFinalizer"),
            ("hands off", without().spec(json!({"suspend": true})), "refuse, Suspended"),
            ("nothing to hold on to", new_client(), "Prepare"),
        ]);
    }

    #[test]
    fn the_secret_is_derived_whatever_the_registry_does() {
        let absent = || ready().but(|facts| facts.secret = Found::Absent);
        hold(vec![
            ("deleted", absent(), "Publish"),
            ("edited", edited(ready()), "Publish"),
            ("another layout", ready().spec(json!({"secret": {"keys": {"clientId": "ID"}}})), "Publish"),
            ("no registry", absent().but(|facts| facts.registry = Err(why("RegistryNotFound"))), "Publish"),
            (
                "another registry",
                absent().but(|facts| facts.known().origin = "https://b.example".into()),
                "Publish",
            ),
            ("unknown outcome of a replacement", absent().replacing(0), "Publish"),
        ]);
    }

    #[test]
    fn nothing_is_dropped_in_silence() {
        let with = |field, support| {
            new_client().but(|facts| drop(facts.known().capabilities.fields.insert(field, support)))
        };
        hold(vec![
            (
                "a field that it does not know",
                with(Field::RedirectUris, Support::Unsupported),
                "refuse, Unsupported",
            ),
            ("that nobody declared", with(Field::LogoUri, Support::Unsupported), "Prepare"),
            (
                "another value than it always has",
                with(Field::ClientName, Support::Fixed(json!("B"))),
                "refuse, Unsupported",
            ),
            (
                "the value that it always has",
                with(Field::ClientName, Support::Fixed(json!("App"))),
                "Prepare",
            ),
            (
                "a field that it needs",
                new_client().but(|facts| facts.known().capabilities.required = vec![Field::Contacts]),
                "refuse, MissingField",
            ),
            (
                "that is declared",
                new_client().but(|facts| facts.known().capabilities.required = vec![Field::ClientName]),
                "Prepare",
            ),
        ]);
    }

    #[test]
    fn an_outcome_that_nobody_saw_stays_unknown() {
        let tried = |attempt, age| prepared(new_client().attempted(attempt, age));
        let halting = |facts: Facts| facts.but(|facts| facts.known().unknown_outcome = UnknownOutcome::Halt);
        let resumed = |facts: Facts| facts.note(annotations::RESUME, "nonce-1");
        let missing =
            |facts: Facts| facts.but(|facts| facts.known().not_ready = Some(why("CredentialsNotFound")));
        hold(vec![
            ("the request may still be on its way", tried(1, 10), "wait 20s, OutcomeUnknown"),
            ("now it must be over", tried(1, 30), "announce fresh as attempt 2, suspects nonce-1"),
            ("prepared first", new_client().attempted(1, 30), "Prepare"),
            ("again", tried(2, 30), "announce fresh as attempt 3, suspects nonce-1"),
            ("not for ever", tried(3, 30), "refuse, OutcomeUnknown"),
            ("a person looks when it must be over", tried(3, 10), "wait 20s, OutcomeUnknown"),
            ("never, if people said so", halting(tried(1, 30)), "refuse, OutcomeUnknown"),
            ("nor do they look too early", halting(tried(1, 10)), "wait 20s, OutcomeUnknown"),
            ("a person has looked", resumed(halting(tried(1, 30))), "announce fresh as attempt 1"),
            ("but too early", resumed(halting(tried(1, 10))), "wait 20s, OutcomeUnknown"),
            ("the count starts again", resumed(tried(3, 30)), "announce fresh as attempt 1"),
            (
                "a person spoke of another",
                tried(3, 30).note(annotations::RESUME, "nonce-0"),
                "refuse, OutcomeUnknown",
            ),
            (
                "an attempt that cannot be sent is not used up",
                missing(tried(1, 30)),
                "wait 30s, CredentialsNotFound",
            ),
            ("a clock was ahead", tried(1, -60), "wait 30s, OutcomeUnknown"),
            ("the record bears its nonce: it was a success", ready(), "settled"),
            (
                "the record bears another: somebody else was faster",
                ready().attempted(1, 0).but(|f| f.intent.as_mut().unwrap().nonce = "nonce-9".into()),
                "settled",
            ),
            ("the record bears the replaced one", ready().replacing(10), "wait 20s, OutcomeUnknown"),
            (
                "and is replaced again",
                prepared(ready().replacing(30)),
                "announce fresh as attempt 2, replaces nonce-1, suspects nonce-2",
            ),
            ("a refused replacement is over", ready().replacing(10).refused(false), "settled"),
        ]);
    }

    #[test]
    fn a_lost_intent_is_not_forgotten() {
        let lost =
            |facts: Facts, id| told(prepared(facts), "OutcomeUnknown", id).but(|facts| facts.intent = None);
        hold(vec![
            ("the status still says so", lost(new_client(), None), "refuse, OutcomeUnknown"),
            (
                "another intent is not lost",
                told(new_client().attempted(1, 9), "OutcomeUnknown", None),
                "wait 21s, OutcomeUnknown",
            ),
            (
                "a person has looked",
                lost(new_client(), None).note(annotations::RESUME, "uid-1"),
                "announce fresh as attempt 1",
            ),
            (
                "another object's YAML",
                lost(new_client(), None).note(annotations::RESUME, "uid-0"),
                "refuse, OutcomeUnknown",
            ),
            (
                "the status says nothing of it",
                told(prepared(new_client()), "RegistryUnavailable", None),
                "announce fresh as attempt 1",
            ),
            ("a replacement", lost(ready(), Some("id-1")), "refuse, OutcomeUnknown"),
            ("that has ended since", lost(ready(), Some("id-0")), "settled"),
        ]);
    }

    #[test]
    fn a_lost_record_is_no_reason_for_another_client() {
        let lost = || told(prepared(ready()), "Ready", Some("id-1")).but(|facts| facts.record = Ok(None));
        let gave_up = |id: &str| {
            lost().but(|facts| facts.intent.as_mut().unwrap().gave_up = Some(id.into())).refused(false)
        };
        hold(vec![
            ("status names a client", lost(), "refuse, RecordLost"),
            ("whatever the intent says", lost().refused(false), "refuse, RecordLost"),
            ("or if there is none", lost().but(|facts| facts.intent = None), "refuse, RecordLost"),
            (
                "a person has looked",
                lost().note(annotations::RESUME, "nonce-1"),
                "announce fresh as attempt 1",
            ),
            (
                "a person has looked, without an intent",
                lost().but(|facts| facts.intent = None).note(annotations::RESUME, "uid-1"),
                "announce fresh as attempt 1",
            ),
            ("once is enough", gave_up("id-1"), "announce fresh as attempt 1"),
            ("for this client", gave_up("id-0"), "refuse, RecordLost"),
            (
                "and then it is sent",
                lost().but(|facts| facts.progress.announced = true),
                "register oauth-operator/ns/app/uid-1/nonce-1",
            ),
            ("a deletion goes on", lost().deleted(60), "RemoveFinalizer"),
        ]);
        let step = next(&lost().note(annotations::RESUME, "nonce-1"));
        let Step::Do(Effect::Announce(intent)) = step else { panic!("{step:?}") };
        assert_eq!(
            intent.gave_up.as_deref(),
            Some("id-1"),
            "so that a failure does not ask that person again"
        );
    }

    #[test]
    fn suspects_are_named_until_a_person_has_looked_after_them() {
        let suspected = |facts: Facts| {
            facts.but(|facts| {
                let intent = facts.intent.as_mut().unwrap();
                intent.suspects = vec![Suspect { nonce: "nonce-0".into(), at: ago(99) }];
            })
        };
        hold(vec![
            ("nobody has looked", suspected(ready()), "settled"),
            ("a person has", suspected(ready()).note(annotations::RESUME, "nonce-1"), "acknowledge"),
            ("of another attempt", suspected(ready()).note(annotations::RESUME, "nonce-0"), "settled"),
            ("nothing to look after", ready().note(annotations::RESUME, "nonce-1"), "settled"),
        ]);
    }

    #[test]
    fn the_record_knows_what_becomes_of_its_client() {
        let retained = || ready().spec(json!({"deletionPolicy": "Retain"}));
        hold(vec![
            ("before anything else", retained(), "store id-1 over 7"),
            (
                "once",
                retained().but(|facts| facts.stored().state.deletion_policy = DeletionPolicy::Retain),
                "Publish",
            ),
            ("hands off", retained().spec(json!({"suspend": true})), "refuse, Suspended"),
        ]);
    }

    #[test]
    fn a_look_is_due_now_and_then() {
        let due = || ready().but(|facts| facts.look_due = true);
        hold(vec![
            ("once an interval", due(), "Look"),
            ("once a pass", due().but(|facts| facts.progress.seen = Some(another("id-1"))), "settled"),
            ("a registry that is not read", due().but(|facts| facts.known().reads = false), "settled"),
            ("a client that cannot be read", due().unmanaged(), "settled"),
            ("nothing to look at", new_client().but(|facts| facts.look_due = true), "Prepare"),
        ]);
    }

    #[test]
    fn a_client_that_is_gone_is_replaced_if_people_agree() {
        let gone = || prepared(ready().but(|facts| facts.progress.gone = true));
        let refused_before = |for_good| gone().replacing(60).refused(for_good);
        let suspects = |facts: Facts| {
            facts.but(|facts| {
                facts.intent.as_mut().unwrap().suspects =
                    vec![Suspect { nonce: "nonce-0".into(), at: ago(99) }];
            })
        };
        let replaced = "announce fresh as attempt 1, replaces nonce-1";
        hold(vec![
            ("the record stays until then", gone(), replaced),
            ("prepared first", ready().but(|facts| facts.progress.gone = true), "Prepare"),
            (
                "not against the policy",
                gone().spec(json!({"replacementPolicy": "Never"})),
                "refuse, ClientGone",
            ),
            (
                "not without a token",
                gone().but(|facts| facts.known().not_ready = Some(why("CredentialsNotFound"))),
                "wait 30s, CredentialsNotFound",
            ),
            (
                "suspects are not forgotten",
                suspects(gone()),
                "announce fresh as attempt 1, replaces nonce-1, suspects nonce-0",
            ),
            ("nor without an intent", gone().but(|facts| facts.intent = None), replaced),
            ("refused for good", refused_before(true), "refuse, Rejected"),
            ("refused for now", refused_before(false), replaced),
            (
                "the count goes on",
                refused_before(false).but(|facts| facts.intent.as_mut().unwrap().attempt = 3),
                "announce fresh as attempt 3, replaces nonce-1",
            ),
            (
                "credentials that a lost reply may have changed prove little",
                gone().but(|facts| facts.stored().state.in_flight = Some(facts.declared())),
                "announce fresh as attempt 1, replaces nonce-1, suspects nonce-1",
            ),
            (
                "nor do expired ones",
                gone().but(|facts| facts.stored().client.client_secret_expires_at = Some(ago(1))),
                "announce fresh as attempt 1, replaces nonce-1, suspects nonce-1",
            ),
        ]);
    }

    #[test]
    fn what_differs_is_written_once() {
        let renamed = || ready().spec(json!({"clientName": "B"}));
        let in_flight =
            |facts: Facts| facts.but(|facts| facts.stored().state.in_flight = Some(facts.declared()));
        let refused_update = |facts: Facts| {
            facts.but(|facts| {
                let question = facts.question(facts.registry.as_ref().unwrap());
                facts.stored().state.refused = Some(refused(Some(question)));
            })
        };
        let seen = |facts: Facts, member: &str, value| {
            facts.but(|facts| {
                let mut client = another("id-1");
                client.document.insert(member.into(), value);
                facts.progress.seen = Some(client);
            })
        };
        let applied = |facts: Facts, field| {
            facts.but(|facts| drop(facts.stored().state.applied.0.insert(field, json!("https://x"))))
        };
        hold(vec![
            ("announced in the record first", renamed(), "store id-1 over 7, in flight"),
            ("then sent", in_flight(renamed()), "update"),
            ("again, if nobody saw the end of it", in_flight(ready()), "update"),
            (
                "another one is announced first",
                in_flight(ready()).spec(json!({"clientName": "B"})),
                "store id-1 over 7, in flight",
            ),
            ("others changed it", seen(ready(), "client_name", json!("B")), "store id-1 over 7, in flight"),
            ("others changed what nobody declared", seen(ready(), "logo_uri", json!("https://x")), "settled"),
            ("a field left the spec", applied(ready(), Field::LogoUri), "store id-1 over 7, in flight"),
            ("and is reset", in_flight(applied(ready(), Field::LogoUri)), "update, reset logoUri"),
            ("nobody can change it", renamed().unmanaged(), "refuse, NotManageable"),
            ("nobody need change it", ready().unmanaged(), "settled"),
            ("the registry refused it", refused_update(renamed()), "refuse, Rejected"),
            (
                "the registry refused another",
                refused_update(renamed()).spec(json!({"clientName": "C"})),
                "store id-1 over 7, in flight, refused",
            ),
        ]);
    }

    #[test]
    fn a_lossy_read_is_no_drift_unless_the_field_was_shown_before() {
        let lossy = || {
            ready().but(|facts| {
                let mut client = another("id-1");
                client.document.remove("redirect_uris");
                facts.progress.seen = Some(client);
            })
        };
        hold(vec![
            ("it may not show it at all", lossy(), "settled"),
            (
                "it did before, so it is gone",
                lossy().but(|facts| facts.known().shown = [Field::RedirectUris].into()),
                "store id-1 over 7, in flight",
            ),
        ]);
    }

    #[test]
    fn what_the_registry_made_of_it_is_not_written_again() {
        let other = || {
            ready().but(|facts| drop(facts.stored().client.document.insert("client_name".into(), json!("B"))))
        };
        hold(vec![
            ("it answered our write with this", other(), "refuse, NotAsDeclared"),
            (
                "and still shows it",
                other().but(|facts| facts.progress.seen = Some(facts.stored().client.clone())),
                "refuse, NotAsDeclared",
            ),
            (
                "now it shows something third",
                other().but(|facts| {
                    let mut client = another("id-1");
                    client.document.insert("client_name".into(), json!("C"));
                    facts.progress.seen = Some(client);
                }),
                "store id-1 over 7, in flight",
            ),
            (
                "now it is as declared",
                other().but(|facts| facts.progress.seen = Some(another("id-1"))),
                "settled",
            ),
            (
                "the write has not ended",
                other().but(|facts| facts.stored().state.in_flight = Some(facts.declared())),
                "update",
            ),
        ]);
    }

    #[test]
    fn a_secret_that_ends_is_renewed_once() {
        let ends = |seconds: i64| {
            ready().but(|facts| {
                let record = facts.stored();
                record.client.client_secret_expires_at = Some(ago(-seconds));
                record.state.secret_since = Some(ago(90 * 24 * 3600));
            })
        };
        let young =
            |seconds: i64| ends(seconds).but(|facts| facts.stored().state.secret_since = Some(ago(60)));
        let tried = |facts: Facts| {
            facts.but(|facts| {
                facts.stored().state.renewed_for = facts.stored().client.client_secret_expires_at;
            })
        };
        hold(vec![
            ("its end is far", ends(25 * 3600), "settled"),
            ("its end is near", ends(23 * 3600), "store id-1 over 7, in flight"),
            ("a short life has just begun", young(3600), "settled"),
            ("a short life is in its last third", young(20), "store id-1 over 7, in flight"),
            ("it was tried for this end", tried(ends(23 * 3600)), "settled"),
            ("nobody can renew it", ends(23 * 3600).unmanaged(), "settled"),
            ("it is over", tried(ends(0)), "refuse, ClientSecretExpired"),
            ("it is over and nobody can renew it", ends(-1).unmanaged(), "refuse, ClientSecretExpired"),
        ]);
    }

    #[test]
    fn a_client_that_needs_a_secret_has_one() {
        let without = |method: &'static str| {
            ready().but(|facts| {
                facts.stored().client.client_secret = None;
                facts.stored().client.document.insert("token_endpoint_auth_method".into(), json!(method));
                facts.publish();
            })
        };
        hold(vec![
            ("it proves itself by it", without("client_secret_basic"), "refuse, NoSecretIssued"),
            ("it has keys", without("private_key_jwt"), "settled"),
            ("it is public", without("none"), "settled"),
        ]);
    }

    #[test]
    fn who_loses_a_race_learns_from_the_record_that_stands() {
        let made = || announced(new_client()).in_hand("id-2", Asked::Register);
        let mut theirs = ready();
        let theirs = theirs.stored().clone();
        let mut facts = made();
        let ours = next(&facts);
        assert_eq!(brief(&ours), "store id-2 over none");
        assert!(facts.lose_the_race(Ok(theirs.clone())));
        assert_eq!(brief(&next(&facts)), "deregister stray id-2", "another client");
        facts.progress.stray = None;
        facts.intent.as_mut().unwrap().nonce = "nonce-2".into();
        assert_eq!(brief(&next(&facts)), "Publish");
        facts.publish();
        facts.finalize();
        assert_eq!(brief(&next(&facts)), "settled", "and no second registration");

        let mut facts = announced(new_client()).in_hand("id-1", Asked::Register);
        assert!(facts.lose_the_race(Ok(theirs.clone())));
        assert_eq!(brief(&next(&facts)), "Publish", "the same client is success");

        let mut facts = made();
        assert!(facts.lose_the_race(Err("broken".into())));
        assert_eq!(brief(&next(&facts)), "deregister stray id-2", "whatever stands there, it is not ours");

        let mut facts = ready()
            .replacing(0)
            .in_hand("id-2", Asked::Register)
            .but(|facts| facts.progress.announced = true);
        assert!(facts.lose_the_race(Ok(theirs.clone())));
        facts.progress.stray = None;
        assert_eq!(brief(&next(&facts)), "note refusal RegistryUnavailable", "the old record still stands");

        let mut facts = ready().in_hand("id-1", Asked::Look);
        let mut newer = theirs.clone();
        newer.version = Some("8".into());
        assert!(facts.lose_the_race(Ok(newer.clone())));
        assert_eq!(brief(&next(&facts)), "store id-1 over 8", "only the version moved on");

        let mut facts = ready().in_hand("id-1", Asked::Look);
        newer.client.client_secret = Some("s3cr3t-9".into());
        assert!(!facts.lose_the_race(Ok(newer)), "somebody else got other credentials: start over");
        assert!(!ready().lose_the_race(Ok(theirs)), "nothing in hand: start over");
    }

    /// Dice that any facts at all come from.
    fn dice() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0..24_u8, 24)
    }

    /// All zeros is a new client.
    fn thrown(dice: &[u8]) -> Facts {
        let mut dice = dice.iter().copied();
        let mut throw = |sides: u8| dice.next().unwrap() % sides;
        let mut facts = if throw(2) == 1 { ready() } else { new_client() };
        match throw(4) {
            1 => facts = facts.attempted(1, 10),
            2 => facts = facts.attempted(2, 100),
            3 => facts = facts.attempted(3, 100),
            _ => {}
        }
        if throw(3) == 1 {
            facts = facts.replacing(if throw(2) == 1 { 100 } else { 10 });
        }
        match throw(4) {
            1 => facts = facts.refused(true),
            2 => facts = facts.refused(false),
            _ => {}
        }
        if let Some(record) = facts.record.as_mut().unwrap() {
            match throw(8) {
                1 => record.state.in_flight = Some(record.state.applied.clone()),
                2 => record.released = Some(Released::Abandoned),
                3 => record.state.nonce = "nonce-9".into(),
                4 => record.client.client_secret_expires_at = Some(ago(-60)),
                5 => record.client.client_secret_expires_at = Some(ago(60)),
                6 => record.client.management = crate::registry::Management::None("it gave no token".into()),
                7 => drop(record.client.document.insert("client_name".into(), json!("B"))),
                _ => {}
            }
        }
        if throw(8) == 1 {
            facts.record = Err("it has no state".into());
        }
        match throw(4) {
            1 => facts.secret = Found::Absent,
            2 => facts.secret = Found::Foreign,
            3 => facts.secret = Found::Ours(Box::default()),
            _ => {}
        }
        match throw(6) {
            1 => facts = facts.spec(json!({"suspend": true})),
            2 => facts = facts.spec(json!({"clientName": "C"})),
            3 => facts = facts.spec(json!({"deletionPolicy": "Retain"})),
            4 => facts = facts.spec(json!({"replacementPolicy": "Never"})),
            5 => facts.client.metadata.finalizers = None,
            _ => {}
        }
        match throw(4) {
            1 => facts = facts.deleted(5),
            2 => facts = facts.deleted(5000),
            _ => {}
        }
        match throw(6) {
            1 => facts = facts.abandon(),
            2 => facts = facts.note(annotations::RESUME, "nonce-1"),
            3 => facts = told(facts, "OutcomeUnknown", Some("id-1")),
            4 => facts.intent = None,
            _ => {}
        }
        match throw(8) {
            1 => facts.registry = Err(why("RegistryNotFound")),
            2 => facts.known().not_ready = Some(why("CredentialsNotFound")),
            3 => facts.known().unknown_outcome = UnknownOutcome::Halt,
            4 => facts.known().origin = "https://b.example".into(),
            5 => facts.known().reads = false,
            _ => {}
        }
        facts.look_due = throw(2) == 1;
        // What was announced in this pass and refused is remembered until its end.
        let open = facts.intent.as_ref().is_some_and(|intent| intent.refused.is_none());
        let progress = &mut facts.progress;
        progress.prepared = throw(2) == 1;
        progress.announced = throw(2) == 1 && open;
        progress.gone = throw(4) == 1;
        progress.deregistered = throw(4) == 1;
        progress.refused = (throw(6) == 1).then(|| error(Kind::Rejected));
        progress.stray = (throw(6) == 1).then(|| another("id-2"));
        progress.seen = (throw(3) == 1).then(renewed);
        progress.deregister_error = (throw(3) == 1).then(|| error(Kind::Unavailable));
        match throw(8) {
            1 => facts.in_hand("id-2", Asked::Register),
            2 if facts.record().is_some() => facts.in_hand("id-1", Asked::Update),
            3 if facts.record().is_some() => facts.in_hand("id-1", Asked::Look),
            _ => facts,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_facts_the_promises_hold(dice in dice()) {
            let facts = thrown(&dice);
            let step = next(&facts);
            let shown = format!("{step:?}");
            prop_assert!(!shown.contains("s3cr3t") && !shown.contains("t0ken"), "no secret in {}", shown);
            let intent = facts.intent.as_ref();
            let hands_off = facts.client.spec.suspend || facts.deleting();
            match &step {
                Step::Do(Effect::Register(wanted)) => {
                    let intent = intent.unwrap();
                    prop_assert!(facts.progress.announced && intent.refused.is_none(), "announced in this pass");
                    prop_assert!(wanted.software_id.ends_with(&intent.nonce), "under the nonce of the object");
                    prop_assert!(facts.record().is_none_or(|record| record.state.nonce != intent.nonce), "spent once");
                    prop_assert!(!hands_off, "not {}", shown);
                }
                Step::Do(Effect::Announce(new)) => {
                    prop_assert!(facts.progress.prepared && !hands_off);
                    prop_assert_eq!(&new.nonce, "fresh");
                    prop_assert!(new.refused.is_none() && new.attempt <= 3);
                    let looked_after = |old: &Intent| facts.annotation(annotations::RESUME) == Some(&old.nonce);
                    let open = intent.filter(|old| old.refused.is_none() && !looked_after(old));
                    if let Some(old) = open.filter(|_| facts.record().is_none()) {
                        prop_assert!(new.suspects.iter().any(|suspect| suspect.nonce == old.nonce), "nobody is forgotten");
                    }
                    if let Some(record) = facts.record() {
                        prop_assert_eq!(new.replaces.as_ref(), Some(&record.state.nonce), "the record stays good");
                    }
                }
                Step::Do(Effect::Store(record)) => {
                    prop_assert_eq!(record.version.as_ref(), facts.record().and_then(|old| old.version.as_ref()));
                    prop_assert_eq!(&record.owner.uid, "uid-1");
                }
                Step::Do(Effect::Prepare | Effect::Look | Effect::Update { .. } | Effect::AddFinalizer) => {
                    prop_assert!(!hands_off, "not {}", shown);
                }
                Step::Do(Effect::Deregister | Effect::Release(_) | Effect::DeleteRecord | Effect::RemoveFinalizer) => {
                    prop_assert!(facts.deleting(), "not {}", shown);
                }
                Step::Do(Effect::Publish) => prop_assert!(facts.record().is_some() && !matches!(facts.secret, Found::Foreign)),
                Step::Do(Effect::Acknowledge(new)) => {
                    prop_assert!(!hands_off && new.suspects.is_empty());
                    prop_assert_eq!(Some(&new.nonce), intent.map(|old| &old.nonce));
                }
                Step::Do(Effect::DeregisterStray(_) | Effect::NoteRefusal(_)) => {}
                Step::Wait(why, after) => {
                    prop_assert!(*after > Duration::ZERO && !why.message.ends_with('.'), "{}", shown);
                }
                Step::Refuse(why) => prop_assert!(!why.message.ends_with('.') && !why.message.is_empty(), "{}", shown),
                Step::Fail(Error { summary, .. }) => prop_assert!(!summary.is_empty()),
                Step::Settled => prop_assert!(facts.deleting() || facts.record().is_some(), "nothing is not enough"),
            }
            if facts.progress.in_hand.is_some() && facts.registry.is_ok() && intent.is_some() {
                prop_assert!(matches!(step, Step::Do(Effect::Store(_))), "credentials first, not {}", shown);
            }
        }

        #[test]
        fn the_same_facts_give_the_same_step_and_a_published_secret_is_not_published_again(dice in dice()) {
            let facts = thrown(&dice);
            prop_assert_eq!(format!("{:?}", next(&facts)), format!("{:?}", next(&facts)));
            if let (Some(record), Step::Do(Effect::Publish)) = (facts.record(), next(&facts)) {
                let wanted = secret::wanted(&facts.client, record, &facts.installation);
                let found = if let Found::Ours(found) = &facts.secret { (**found).clone() } else { Secret::default() };
                let facts = facts.but(|facts| facts.secret = Found::Ours(Box::new(wanted.over(&found))));
                prop_assert!(!matches!(next(&facts), Step::Do(Effect::Publish)));
            }
        }
    }
}

/// An API server and a registry in memory, and operators whose every request may go wrong.
mod world {
    use std::{
        collections::{BTreeMap, VecDeque},
        future::pending,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use async_trait::async_trait;
    use axum::{Router, extract::Request, response::IntoResponse};
    use http::{Method, StatusCode};
    use jiff::Timestamp;
    use kube::runtime::{
        events::{Recorder, Reporter},
        reflector, watcher,
    };
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};
    use tokio::sync::{Notify, Semaphore};

    use crate::{
        api::{Condition, FINALIZER, OAuthClient, OAuthRegistry, annotations, conditions},
        clock::Clock,
        metrics::Metrics,
        reconcile::{
            Context, Looks, Registries, Settings, backoff::Backoff, intent::Intent, reconcile, record::Record,
        },
        registry::{
            Sessions,
            transport::{
                Authorization, Body, Connect, Limits, Request as Sent, Response, Route, Transport,
                TransportError,
            },
        },
    };

    pub(super) const SETTLE: Duration = Duration::from_secs(30);
    pub(super) const INTERVAL: Duration = Duration::from_mins(10);
    pub(super) const DELETION: Duration = Duration::from_mins(5);

    /// What becomes of a request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Fault {
        /// The operator dies before it is sent.
        CrashBefore,
        /// It has its effect, and the operator dies before the reply.
        CrashAfter,
        /// It has its effect, but the reply never comes.
        ReplyLost,
        /// It never arrives.
        Lost,
        /// The operator dies; the request arrives when [`World::deliver`] says so.
        Late,
        /// It and its operator stand still until [`World::release`].
        Held,
        /// It has no effect and this answer.
        Answered(u16),
        /// Somebody touches the object first, without a meaning.
        ObjectTouched,
        /// Somebody labels the record first.
        RecordTouched,
        /// The API server sees a conflict, over a quota for example.
        Conflict,
    }

    /// How the registry behaves.
    #[derive(Clone, Debug, Default)]
    #[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own, in any combination")]
    pub(super) struct Manners {
        pub rotates_on_read: bool,
        pub rotates_on_update: bool,
        pub secret_life: Option<i64>,
        pub renews: bool,
        pub tells_no_start: bool,
        pub forbids_reads: bool,
        pub initial_access_token: Option<&'static str>,
        pub insists_on: Option<(&'static str, &'static str)>,
        pub refuses_name: Option<&'static str>,
        pub hides: Option<&'static str>,
    }

    #[derive(Clone, Debug)]
    pub(super) struct Entry {
        pub secret: String,
        pub token: String,
        pub document: Value,
        pub since: i64,
        pub ends: Option<i64>,
    }

    #[derive(Default)]
    pub(super) struct State {
        pub objects: BTreeMap<String, Value>,
        pub clients: BTreeMap<String, Entry>,
        pub manners: Manners,
        /// What had an effect, in order.
        pub log: Vec<String>,
        pub events: Vec<String>,
        /// The `software_id` of every registration that was let in.
        pub registrations: Vec<String>,
        version: u64,
        made: u64,
        counts: BTreeMap<usize, usize>,
        at: Vec<(usize, usize, Fault)>,
        on: VecDeque<(&'static str, Fault)>,
        late: Vec<Call>,
        dead: Vec<usize>,
    }

    /// A request to either side.
    #[derive(Clone, Debug)]
    enum Call {
        Kube(Method, String, Value),
        Registry(Method, String, String, Value),
    }

    struct Shared {
        state: Mutex<State>,
        clock: Clock,
        crashed: Notify,
        held: Notify,
        released: Notify,
    }

    pub(super) struct World {
        shared: Arc<Shared>,
        operators: Mutex<BTreeMap<usize, Arc<Context>>>,
        registry: Mutex<Value>,
    }

    /// A pass that stands still.
    pub(super) type HeldPass<'a> = std::pin::Pin<Box<dyn Future<Output = Option<Duration>> + 'a>>;

    const OBJECT: &str = "/apis/oauth-operator.io/v1alpha1/namespaces/shop/oauthclients/app";
    const RECORD: &str = "/api/v1/namespaces/operator/secrets/oauth-client-uid-1";
    const SECRET: &str = "/api/v1/namespaces/shop/secrets/app";

    impl World {
        /// A new object at a registry, and one operator.
        pub(super) fn new() -> Self {
            Self::with(Manners::default(), json!({}))
        }

        /// The same, with these manners of the registry and these members of the object's spec.
        pub(super) fn with(manners: Manners, spec: Value) -> Self {
            let token = manners.initial_access_token;
            let shared = Shared {
                state: Mutex::new(State { manners, ..State::default() }),
                clock: Clock::starting_at("2030-01-01T00:00:00Z".parse().unwrap()),
                crashed: Notify::new(),
                held: Notify::new(),
                released: Notify::new(),
            };
            let mut registry = json!({"metadata": {"name": "dev", "namespace": "shop"}, "spec": {"dynamicRegistration": {"issuer": "https://as.example"}}});
            if token.is_some() {
                registry["spec"]["dynamicRegistration"]["initialAccessTokenSecretRef"] =
                    json!({"name": "initial", "key": "token"});
            }
            let world = Self {
                shared: Arc::new(shared),
                operators: Mutex::default(),
                registry: Mutex::new(registry),
            };
            let mut object = json!({
                "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthClient",
                "metadata": {"name": "app", "namespace": "shop", "uid": "uid-1", "generation": 1},
                "spec": {"registryRef": {"name": "dev"}, "clientName": "App", "redirectUris": ["https://app.example/cb"]},
            });
            merge(&mut object["spec"], &spec);
            let mut state = world.state();
            state.put(OBJECT, object);
            if let Some(token) = token {
                let data = serde_json::to_value(k8s_openapi::ByteString(token.into())).unwrap();
                state.put(
                    "/api/v1/namespaces/shop/secrets/initial",
                    json!({"metadata": {"name": "initial", "namespace": "shop"}, "data": {"token": data}}),
                );
            }
            drop(state);
            world.restart(0);
            world
        }

        pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
            self.shared.state.lock().unwrap()
        }

        pub(super) fn now(&self) -> Timestamp {
            self.shared.clock.now()
        }

        /// Starts an operator, or starts it again: what it held in memory is gone.
        pub(super) fn restart(&self, who: usize) {
            let shared = self.shared.clone();
            let router = Router::new().fallback(move |request: Request| kube(shared.clone(), who, request));
            let client = kube::Client::new(router, "shop");
            let (store, mut writer) = reflector::store();
            let registry: OAuthRegistry =
                serde_json::from_value(self.registry.lock().unwrap().clone()).unwrap();
            writer.apply_watcher_event(&watcher::Event::Apply(registry));
            let metrics = Arc::new(Metrics::new());
            let nonces = self.shared.clone();
            let context = Context {
                recorder: Recorder::new(
                    client.clone(),
                    Reporter { controller: "test".into(), instance: None },
                ),
                kube: client,
                clock: self.shared.clock,
                sessions: Sessions::new(Arc::new(Road(self.shared.clone(), who)), metrics.clone()),
                registries: Registries { namespaced: vec![store], cluster: None, listed: Vec::new() },
                settings: Settings {
                    operator_namespace: "operator".into(),
                    settle_time: SETTLE,
                    deletion_timeout: DELETION,
                },
                metrics,
                nonces: Box::new(move || {
                    let mut state = nonces.state.lock().unwrap();
                    state.made += 1;
                    format!("n{}", state.made)
                }),
                installation: "installation".into(),
                looks: Looks::default(),
                backoff: Backoff::default(),
                permits: Semaphore::new(8),
            };
            self.state().dead.retain(|dead| *dead != who);
            self.operators.lock().unwrap().insert(who, Arc::new(context));
        }

        /// One pass of the first operator; returns what it did, in order.
        pub(super) async fn pass(&self) -> Vec<String> {
            self.pass_of(0).await
        }

        pub(super) async fn pass_of(&self, who: usize) -> Vec<String> {
            self.state().log.clear();
            if let Some(object) = self.object() {
                self.pass_with(who, object).await;
            }
            self.state().log.clone()
        }

        /// A pass from this view of the object. An operator that dies in it starts again.
        pub(super) async fn pass_with(&self, who: usize, object: OAuthClient) -> Option<Duration> {
            let context = self.operators.lock().unwrap()[&who].clone();
            tokio::select! {
                biased;
                action = reconcile(Arc::new(object), context) => Some(wake(&action)),
                () = self.shared.crashed.notified() => {
                    self.restart(who);
                    None
                }
            }
        }

        /// So many passes, with time between them; returns all that was done.
        pub(super) async fn work(&self, passes: usize) -> Vec<String> {
            let mut all = Vec::new();
            for _ in 0..passes {
                all.extend(self.pass().await);
                tokio::time::advance(SETTLE * 2).await;
            }
            all
        }

        /// Runs a pass of this operator until one of its requests stands still; then nobody polls it until it is awaited.
        pub(super) async fn hold<'a>(&'a self, who: usize, object: OAuthClient) -> Option<HeldPass<'a>> {
            let mut pass: HeldPass<'a> = Box::pin(self.pass_with(who, object));
            tokio::select! {
                biased;
                _ = &mut pass => None,
                () = self.shared.held.notified() => Some(pass),
            }
        }

        /// Passes with time between them, until three in a row do nothing. Returns how many it took.
        pub(super) async fn settle(&self) -> usize {
            let mut quiet = 0;
            for count in 0..80 {
                quiet = if self.pass().await.is_empty() { quiet + 1 } else { 0 };
                if quiet == 3 {
                    return count;
                }
                // Now a settle time, now a drift interval.
                tokio::time::advance(if quiet == 0 { SETTLE * 2 } else { INTERVAL }).await;
            }
            panic!("it does not come to rest: {:?}", self.state().log);
        }

        /// One round of the sweep of the first operator.
        pub(super) async fn sweep(&self) {
            let context = self.operators.lock().unwrap()[&0].clone();
            let round =
                tokio::time::timeout(Duration::from_secs(200), crate::sweep::run(context, Vec::new()));
            assert!(round.await.is_err(), "the sweep ended");
        }

        /// The n-th request of an operator goes wrong; counted from 0, events not counted.
        pub(super) fn fault_at(&self, who: usize, n: usize, fault: Fault) {
            let seen = self.state().counts.get(&who).copied().unwrap_or_default();
            self.state().at.push((who, seen + n, fault));
        }

        /// The next request of this name goes wrong.
        pub(super) fn fault_on(&self, name: &'static str, fault: Fault) {
            self.state().on.push_back((name, fault));
        }

        pub(super) fn forget_faults(&self) {
            let mut state = self.state();
            state.at.clear();
            state.on.clear();
        }

        pub(super) fn faults_left(&self) -> usize {
            let state = self.state();
            state.at.len() + state.on.len()
        }

        /// Requests that were on their way arrive.
        pub(super) fn deliver(&self) {
            let late = std::mem::take(&mut self.state().late);
            for call in late {
                let now = self.now();
                match call {
                    Call::Kube(method, path, body) => drop(self.state().kube(&method, &path, body, now)),
                    Call::Registry(method, path, token, body) => {
                        drop(self.state().registry(&method, &path, &token, body, now));
                    }
                }
            }
        }

        /// Requests that stood still go on.
        pub(super) fn release(&self) {
            self.shared.released.notify_waiters();
        }

        pub(super) fn object(&self) -> Option<OAuthClient> {
            let object = self.state().objects.get(OBJECT).cloned();
            object.map(|object| serde_json::from_value(object).unwrap())
        }

        pub(super) fn record(&self) -> Option<Record> {
            let secret = self.state().objects.get(RECORD).cloned()?;
            Some(Record::read(&serde_json::from_value(secret).unwrap()).unwrap())
        }

        pub(super) fn secret(&self) -> Option<BTreeMap<String, String>> {
            let secret = self.state().objects.get(SECRET).cloned()?;
            let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
            let text = |bytes: k8s_openapi::ByteString| String::from_utf8(bytes.0).unwrap();
            Some(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value))).collect())
        }

        pub(super) fn intent(&self) -> Option<Intent> {
            Intent::of(&self.object()?)
        }

        /// The nonces of the suspects that the object names.
        pub(super) fn suspects(&self) -> Vec<String> {
            let suspects = self.intent().map(|intent| intent.suspects).unwrap_or_default();
            suspects.into_iter().map(|suspect| suspect.nonce).collect()
        }

        /// The clients at the registry, the events, and what was registered.
        pub(super) fn seen(&self) -> (BTreeMap<String, Entry>, Vec<String>, Vec<String>) {
            let state = self.state();
            (state.clients.clone(), state.events.clone(), state.registrations.clone())
        }

        pub(super) fn condition(&self, type_: &str) -> Option<Condition> {
            conditions::find(&self.object()?.status?.conditions, type_).cloned()
        }

        /// `Ready` with its reason, and what kstatus reads.
        pub(super) fn ready(&self) -> String {
            let Some(ready) = self.condition(conditions::READY) else { return "nothing".into() };
            let also = [conditions::RECONCILING, conditions::STALLED];
            let also = also.into_iter().filter(|t| self.condition(t).is_some());
            let mut words = vec![format!("{:?}", ready.status), ready.reason];
            words.extend(also.map(str::to_owned));
            words.join(" ")
        }

        /// People change the object: a merge patch; `null` removes.
        pub(super) fn edit(&self, patch: Value) {
            let mut state = self.state();
            let mut object = state.objects[OBJECT].clone();
            let spec = object["spec"].clone();
            merge(&mut object, &patch);
            if object["spec"] != spec {
                object["metadata"]["generation"] =
                    json!(object["metadata"]["generation"].as_i64().unwrap() + 1);
            }
            state.put(OBJECT, object);
        }

        /// People change or remove another object.
        pub(super) fn edit_at(&self, what: &str, patch: Option<Value>) {
            let place = if what == "record" { RECORD } else { SECRET };
            assert!(["record", "Secret"].contains(&what));
            let mut state = self.state();
            let mut object = state
                .objects
                .remove(place)
                .unwrap_or_else(|| json!({"metadata": {"name": "app", "namespace": "shop"}}));
            if let Some(patch) = patch {
                merge(&mut object, &patch);
                state.put(place, object);
            }
        }

        /// People change the registry object. Only a restart of the operator reads it again here.
        pub(super) fn edit_registry(&self, patch: Value) {
            merge(&mut self.registry.lock().unwrap(), &patch);
            self.restart(0);
        }

        /// A person removes at the registry what nobody knows, and says so.
        pub(super) fn look_after(&self) {
            let ours = self.record().map(|record| record.client.client_id);
            self.state().clients.retain(|id, _| Some(id) == ours.as_ref());
            self.annotate(annotations::RESUME, json!(self.intent().map(|intent| intent.nonce)));
        }

        pub(super) fn delete(&self) {
            let now = self.now().to_string();
            let mut state = self.state();
            if state.objects[OBJECT]["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
                state.objects.remove(OBJECT);
                return;
            }
            let generation = state.objects[OBJECT]["metadata"]["generation"].as_i64().unwrap() + 1;
            drop(state);
            self.edit(json!({"metadata": {"deletionTimestamp": now, "generation": generation}}));
        }

        /// The object is gone, and another one of its name is there.
        pub(super) fn make_again(&self) {
            let mut state = self.state();
            let mut object = state.objects.remove(OBJECT).unwrap();
            object["metadata"] = json!({"name": "app", "namespace": "shop", "uid": "uid-2", "generation": 1, "finalizers": [FINALIZER]});
            object.as_object_mut().unwrap().remove("status");
            state.put(OBJECT, object);
        }

        pub(super) fn annotate(&self, name: &str, value: Value) {
            self.edit(json!({"metadata": {"annotations": {name: value}}}));
        }
    }

    /// The delay of an action, which only its `Debug` shows; `MAX` if it waits for a change.
    fn wake(action: &kube::runtime::controller::Action) -> Duration {
        let text = format!("{action:?}");
        let Some((_, delay)) = text.split_once("Some(") else { return Duration::MAX };
        let delay = delay.trim_end_matches([' ', '}', ')']);
        let unit = delay.find(|c: char| c.is_alphabetic() || c == 'µ').unwrap();
        let number: f64 = delay[..unit].parse().unwrap();
        let scale = match &delay[unit..] {
            "s" => 1.0,
            "ms" => 1e-3,
            _ => 1e-6,
        };
        Duration::from_secs_f64(number * scale)
    }

    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(members) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, value) in members {
            if value.is_null() {
                target.as_object_mut().unwrap().remove(key);
            } else {
                merge(&mut target[key], value);
            }
        }
    }

    fn status(code: u16, reason: &str) -> (u16, Value) {
        (
            code,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": format!("it says {reason}")}),
        )
    }

    /// The name of a request, for faults and for the log.
    fn name(call: &Call) -> String {
        match call {
            Call::Kube(method, path, _) => {
                let what = match path.as_str() {
                    path if path.ends_with("/status") => return "write status".into(),
                    path if path.contains("/oauthclients") => "object",
                    path if path.contains("namespaces/operator/") => "record",
                    path if path.ends_with("/initial") => "token",
                    path if path.contains("/secrets") => "Secret",
                    _ => "event",
                };
                let how = match method.as_str() {
                    "GET" => "read",
                    "POST" => "create",
                    "DELETE" => "delete",
                    _ => "update",
                };
                format!("{how} {what}")
            }
            Call::Registry(method, path, ..) => match (method.as_str(), path.as_str()) {
                ("GET", path) if path.contains(".well-known") => "discover".into(),
                ("POST", "/register") => "register".into(),
                ("POST", _) => "probe".into(),
                ("GET", _) => "read client".into(),
                ("PUT", _) => "update client".into(),
                _ => "deregister".into(),
            },
        }
    }

    impl Shared {
        /// What becomes of this request.
        fn fault(&self, who: usize, call: &Call) -> Option<Fault> {
            let name = name(call);
            let mut state = self.state.lock().unwrap();
            if state.dead.contains(&who) {
                return Some(Fault::CrashBefore);
            }
            if name.ends_with("event") {
                return None;
            }
            let count = state.counts.entry(who).or_default();
            let n = *count;
            *count += 1;
            if let Some(found) = state.at.iter().position(|(w, at, _)| (*w, *at) == (who, n)) {
                return Some(state.at.remove(found).2);
            }
            let found = state.on.iter().position(|(on, _)| *on == name)?;
            state.on.remove(found).map(|(_, fault)| fault)
        }

        /// Lets a request through, or not. `None` is no answer, ever.
        async fn carry(&self, who: usize, call: Call) -> Option<(u16, Value)> {
            let fault = self.fault(who, &call);
            let crash = || {
                self.state.lock().unwrap().dead.push(who);
                self.crashed.notify_one();
            };
            match fault {
                Some(Fault::CrashBefore) => crash(),
                Some(Fault::CrashAfter) => {
                    drop(self.apply(call));
                    crash();
                }
                Some(Fault::ReplyLost) => drop(self.apply(call)),
                Some(Fault::Lost) => {}
                Some(Fault::Late) => {
                    self.state.lock().unwrap().late.push(call);
                    crash();
                }
                Some(Fault::Held) => {
                    self.held.notify_one();
                    self.released.notified().await;
                    return Some(self.apply(call));
                }
                Some(Fault::Answered(code)) => {
                    return Some(status(code, if code == 409 { "Conflict" } else { "Said" }));
                }
                Some(Fault::Conflict) if matches!(call, Call::Kube(..)) => {
                    return Some(status(409, "Conflict"));
                }
                Some(Fault::ObjectTouched | Fault::RecordTouched) => {
                    let path = if fault == Some(Fault::ObjectTouched) { OBJECT } else { RECORD };
                    let mut state = self.state.lock().unwrap();
                    if let Some(mut object) = state.objects.get(path).cloned() {
                        object["metadata"]["labels"]["touched"] = json!("true");
                        state.put(path, object);
                    }
                    drop(state);
                    return Some(self.apply(call));
                }
                None | Some(Fault::Conflict) => return Some(self.apply(call)),
            }
            None
        }

        fn apply(&self, call: Call) -> (u16, Value) {
            let now = self.clock.now();
            let mut state = self.state.lock().unwrap();
            match call {
                Call::Kube(method, path, body) => state.kube(&method, &path, body, now),
                Call::Registry(method, path, token, body) => {
                    state.registry(&method, &path, &token, body, now)
                }
            }
        }
    }

    async fn kube(shared: Arc<Shared>, who: usize, request: Request) -> impl IntoResponse {
        let (parts, body) = request.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        let call = Call::Kube(parts.method, parts.uri.path().to_owned(), body);
        match shared.carry(who, call).await {
            Some((code, value)) => (StatusCode::from_u16(code).unwrap(), axum::Json(value)),
            None => pending().await,
        }
    }

    impl State {
        pub(super) fn put(&mut self, path: &str, mut object: Value) -> Value {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            if object["metadata"]["uid"].is_null() {
                object["metadata"]["uid"] = json!(format!("uid-of-{}", self.version));
            }
            self.objects.insert(path.to_owned(), object.clone());
            object
        }

        fn kube(&mut self, method: &Method, path: &str, body: Value, now: Timestamp) -> (u16, Value) {
            if path.contains("/events") {
                let (reason, note) = (body["reason"].as_str().unwrap_or_default(), body["note"].as_str());
                self.events.push(format!("{reason}: {}", note.unwrap_or_default()));
                return (201, body);
            }
            if *method == Method::GET && (path.ends_with("/secrets") || path.ends_with("/oauthclients")) {
                let items: Vec<&Value> = self
                    .objects
                    .range(format!("{path}/")..)
                    .map_while(|(at, object)| at.starts_with(path).then_some(object))
                    .collect();
                return (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}));
            }
            let (target, is_status) =
                path.strip_suffix("/status").map_or((path, false), |target| (target, true));
            let target = if method == Method::POST {
                format!("{target}/{}", body["metadata"]["name"].as_str().unwrap())
            } else {
                target.to_owned()
            };
            let target = target.as_str();
            let found = self.objects.get(target).cloned();
            let version = |value: &Value| value["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            let expected = match *method {
                Method::DELETE => body["preconditions"]["resourceVersion"].as_str().map(str::to_owned),
                _ => version(&body),
            };
            let Some(found) = found else {
                if method != Method::POST {
                    return status(404, "NotFound");
                }
                let kind = name(&Call::Kube(method.clone(), target.into(), Value::Null));
                self.log.push(format!("{kind}{}", holding(&body)));
                return (201, self.put(target, body));
            };
            match *method {
                Method::GET => return (200, found),
                Method::POST => return status(409, "AlreadyExists"),
                _ if expected.is_some() && expected != version(&found) => return status(409, "Conflict"),
                _ => {}
            }
            let mut new = found.clone();
            match *method {
                Method::DELETE => {
                    self.log.push(name(&Call::Kube(method.clone(), path.into(), Value::Null)));
                    self.objects.remove(target);
                    return (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
                }
                Method::PUT if is_status => {
                    new["status"] = body["status"].clone();
                    if new == found {
                        return (200, found);
                    }
                    self.log.push(format!("status {}", told(&new)));
                }
                Method::PUT => {
                    new = body;
                    new["metadata"]["uid"] = found["metadata"]["uid"].clone();
                    self.log.push(format!(
                        "{}{}",
                        name(&Call::Kube(method.clone(), path.into(), Value::Null)),
                        holding(&new)
                    ));
                }
                _ => {
                    merge(&mut new, &body);
                    self.log.push(patched(&found, &new));
                }
            }
            let _ = now;
            let new = self.put(target, new);
            let finalizers = new["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
            if !new["metadata"]["deletionTimestamp"].is_null() && finalizers == 0 {
                self.objects.remove(target);
                let owned = |object: &Value| {
                    object["metadata"]["ownerReferences"][0]["uid"] == new["metadata"]["uid"]
                };
                self.objects.retain(|_, object| !owned(object));
            }
            (200, new)
        }

        fn registry(
            &mut self,
            method: &Method,
            path: &str,
            bearer: &str,
            body: Value,
            now: Timestamp,
        ) -> (u16, Value) {
            let manners = self.manners.clone();
            if path.contains(".well-known") {
                return (
                    200,
                    json!({"issuer": "https://as.example", "registration_endpoint": "https://as.example/register", "token_endpoint": "https://as.example/token"}),
                );
            }
            if path == "/token" {
                let known = self.clients.iter().any(|(id, entry)| bearer == format!("{id}:{}", entry.secret));
                let error = if known { "unauthorized_client" } else { "invalid_client" };
                return (if known { 400 } else { 401 }, json!({"error": error}));
            }
            let ends = |life: i64| now.as_second() + life;
            let shape = |document: &mut Value| {
                if let Some((member, value)) = manners.insists_on {
                    document[member] = json!(value);
                }
            };
            if path == "/register" {
                if manners.initial_access_token.is_some_and(|token| token != bearer) {
                    self.log.push("register: 401".into());
                    return (401, json!({"error": "invalid_token"}));
                }
                if manners.refuses_name.is_some_and(|name| body["client_name"] == name) {
                    self.log.push("register: 400".into());
                    return (400, json!({"error": "invalid_client_metadata"}));
                }
                self.made += 1;
                self.registrations.push(body["software_id"].as_str().unwrap().to_owned());
                let id = format!("id-{}", self.registrations.len());
                let mut document = body;
                shape(&mut document);
                let entry = Entry {
                    secret: format!("s3cr3t-{}", self.made),
                    token: format!("t0ken-{}", self.made),
                    document,
                    since: now.as_second(),
                    ends: manners.secret_life.map(ends),
                };
                self.log.push(format!("register {id}"));
                let reply = reply(&id, &entry, &manners);
                self.clients.insert(id, entry);
                return (201, reply);
            }
            let id = path.trim_start_matches("/register/").to_owned();
            let Some(mut entry) = self.clients.get(&id).filter(|entry| entry.token == bearer).cloned() else {
                self.log.push(format!(
                    "{}: 401",
                    name(&Call::Registry(method.clone(), path.into(), String::new(), Value::Null))
                ));
                return (401, json!({"error": "invalid_token"}));
            };
            self.made += 1;
            match *method {
                Method::DELETE => {
                    self.log.push(format!("deregister {id}"));
                    self.clients.remove(&id);
                    return (204, Value::Null);
                }
                Method::GET if manners.forbids_reads => return (403, json!({})),
                Method::GET if manners.rotates_on_read => {
                    entry.token = format!("t0ken-{}", self.made);
                    self.log.push(format!("read {id}, which rotates"));
                }
                Method::GET => {}
                _ => {
                    if manners.refuses_name.is_some_and(|name| body["client_name"] == name) {
                        self.log.push("update: 400".into());
                        return (400, json!({"error": "invalid_client_metadata"}));
                    }
                    entry.document = body;
                    shape(&mut entry.document);
                    if manners.rotates_on_update {
                        entry.token = format!("t0ken-{}", self.made);
                        entry.secret = format!("s3cr3t-{}", self.made);
                    }
                    if manners.renews {
                        entry.ends = manners.secret_life.map(ends);
                        entry.secret = format!("s3cr3t-{}", self.made);
                    }
                    self.log.push(format!("update {id}"));
                }
            }
            self.clients.insert(id.clone(), entry.clone());
            let mut reply = reply(&id, &entry, &manners);
            if let (Some(member), &Method::GET) = (manners.hides, method) {
                reply.as_object_mut().unwrap().remove(member);
            }
            (200, reply)
        }
    }

    fn reply(id: &str, entry: &Entry, manners: &Manners) -> Value {
        let mut reply = entry.document.clone();
        reply["client_id"] = json!(id);
        reply["client_secret"] = json!(entry.secret);
        reply["client_secret_expires_at"] = json!(entry.ends.unwrap_or(0));
        reply["registration_access_token"] = json!(entry.token);
        reply["registration_client_uri"] = json!(format!("https://as.example/register/{id}"));
        if !manners.tells_no_start {
            reply["client_id_issued_at"] = json!(entry.since);
        }
        reply
    }

    /// Which client a Secret speaks of, and what became of its object.
    fn holding(secret: &Value) -> String {
        let data = secret["data"]["client_id"].clone();
        let id: Option<k8s_openapi::ByteString> = serde_json::from_value(data).ok();
        let released = secret["metadata"]["annotations"][annotations::RELEASED].as_str();
        let mut text = id.map(|id| format!(" of {}", String::from_utf8(id.0).unwrap())).unwrap_or_default();
        let state: Option<k8s_openapi::ByteString> =
            serde_json::from_value(secret["data"]["state"].clone()).ok();
        if let Some(state) = state.and_then(|state| serde_json::from_slice::<Value>(&state.0).ok()) {
            text += if state["inFlight"].is_null() { "" } else { ", update in flight" };
            text += if state["refused"].is_null() { "" } else { ", refused" };
        }
        text + &released.map(|why| format!(", {why}")).unwrap_or_default()
    }

    fn told(object: &Value) -> String {
        let conditions: Vec<Condition> =
            serde_json::from_value(object["status"]["conditions"].clone()).unwrap_or_default();
        conditions::find(&conditions, conditions::READY)
            .map_or_else(|| "nothing".into(), |ready| format!("{:?} {}", ready.status, ready.reason))
    }

    fn patched(before: &Value, after: &Value) -> String {
        let intent = |object: &Value| {
            serde_json::from_str::<Intent>(object["metadata"]["annotations"][annotations::INTENT].as_str()?)
                .ok()
        };
        match (intent(before), intent(after)) {
            (before, Some(after)) if before.as_ref() != Some(&after) => {
                let replaces =
                    after.replaces.as_ref().map(|nonce| format!(" replacing {nonce}")).unwrap_or_default();
                match &after.refused {
                    _ if before.is_some_and(|before| {
                        before.nonce == after.nonce && before.refused == after.refused
                    }) =>
                    {
                        "acknowledge".into()
                    }
                    Some(refusal) => format!("note refusal {}", refusal.reason),
                    None => format!("announce attempt {}{replaces}", after.attempt),
                }
            }
            _ => {
                let ours = |object: &Value| {
                    object["metadata"]["finalizers"]
                        .as_array()
                        .is_some_and(|all| all.contains(&json!(FINALIZER)))
                };
                match (ours(before), ours(after)) {
                    (true, false) => "remove finalizer".into(),
                    (false, true) => "add finalizer".into(),
                    _ => "patch nothing".into(),
                }
            }
        }
    }

    /// The way of an operator to the registry.
    struct Road(Arc<Shared>, usize);

    impl Connect for Road {
        fn connect(&self, route: &Route) -> Result<Arc<dyn Transport>, String> {
            Ok(Arc::new(Vehicle(self.0.clone(), self.1, route.limits.clone())))
        }
    }

    struct Vehicle(Arc<Shared>, usize, Limits);

    #[async_trait]
    impl Transport for Vehicle {
        async fn send(&self, request: Sent) -> Result<Response, TransportError> {
            let bytes = match request.body {
                Body::Empty => bytes::Bytes::new(),
                Body::Json(bytes) | Body::Form(bytes) => bytes,
            };
            let token = match request.authorization {
                Authorization::None => String::new(),
                Authorization::Bearer(token) => token.expose_secret().to_owned(),
                Authorization::Basic(user, password) => format!("{user}:{}", password.expose_secret()),
            };
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            let call = Call::Registry(request.method, request.url.path().to_owned(), token, body);
            match tokio::time::timeout(self.2.timeout, self.0.carry(self.1, call)).await {
                Ok(Some((code, body))) => Ok(Response {
                    status: StatusCode::from_u16(code).unwrap(),
                    headers: http::HeaderMap::new(),
                    body: if body.is_null() { bytes::Bytes::new() } else { body.to_string().into() },
                }),
                Ok(None) => {
                    tokio::time::sleep(self.2.timeout).await;
                    Err(TransportError::Interrupted("no answer".into()))
                }
                Err(_) => Err(TransportError::Interrupted("no answer".into())),
            }
        }
    }
}

/// Whole passes, told as lists of what had an effect.
mod stories {
    use std::time::Duration;

    use futures::FutureExt;
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::world::*;
    use crate::{api::annotations, reconcile::record::Released, registry::Management};

    /// What must hold once faults have stopped and passes have nothing more to do.
    fn at_rest(world: &World, what: &str) {
        let (clients, events, registrations) = world.seen();
        let mut once = registrations.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), registrations.len(), "{what}: a nonce was spent twice: {registrations:?}");
        let record = world.record();
        let ours = record.as_ref().map(|record| record.client.client_id.clone());
        for (id, entry) in clients.iter().filter(|(id, _)| Some(*id) != ours.as_ref()) {
            let software_id = entry.document["software_id"].as_str().unwrap();
            // Events of a deletion are told once; a crash may swallow them.
            let deleted = world.object().is_none();
            let named = world.suspects().iter().any(|nonce| software_id.ends_with(&format!("/{nonce}")));
            let told = events.iter().any(|event| event.contains(software_id));
            assert!(
                named || told || deleted,
                "{what}: nobody speaks of the orphan {id} ({software_id}): {events:?}"
            );
        }
        let Some(object) = world.object() else {
            let released = record.as_ref().is_none_or(|record| record.released.is_some());
            assert!(released, "{what}: a record is left without its object");
            return;
        };
        assert!(object.metadata.deletion_timestamp.is_none(), "{what}: the deletion does not end");
        let record = record.unwrap_or_else(|| panic!("{what}: no record; {}", world.ready()));
        let id = &record.client.client_id;
        let entry = clients
            .get(id)
            .unwrap_or_else(|| panic!("{what}: the record's client is gone; {}", world.ready()));
        let secret = record.client.client_secret.as_ref().unwrap().expose_secret();
        assert_eq!(secret, entry.secret, "{what}: the recorded secret is dead");
        let Management::Token { token, .. } = &record.client.management else { panic!("{what}") };
        assert_eq!(token.expose_secret(), entry.token, "{what}: the recorded token is dead");
        let published = world.secret().unwrap_or_else(|| panic!("{what}: no Secret"));
        assert_eq!((&published["client_id"], &published["client_secret"]), (id, &entry.secret), "{what}");
        assert_eq!(world.ready(), "True Ready", "{what}");
        assert_eq!(
            object.status.unwrap().client_id.as_ref(),
            Some(id),
            "{what}: status speaks of another client"
        );
        let name = object.spec.client_name.unwrap();
        assert_eq!(entry.document["client_name"], name, "{what}: the registry has something else");
    }

    /// Lets it come to rest, with the help of a person if it has come to a dead end.
    async fn comes_to_rest(world: &World, what: &str) -> Result<(), String> {
        let run = std::panic::AssertUnwindSafe(async {
            world.settle().await;
            if world.ready().ends_with("Stalled") {
                ask(world);
                world.look_after();
                world.settle().await;
            }
            world.sweep().await;
            at_rest(world, what);
        });
        run.catch_unwind().await.map_err(|why| why.downcast_ref::<String>().cloned().unwrap_or_default())
    }

    fn rename(world: &World, name: &str) {
        world.edit(json!({"spec": {"clientName": name}}));
    }

    fn lose(world: &World) {
        world.state().clients.clear();
        ask(world);
    }

    fn ask(world: &World) {
        world.annotate(annotations::REQUESTED_AT, json!(world.now().to_string()));
    }

    fn retain_and_delete(world: &World) {
        world.edit(json!({"spec": {"deletionPolicy": "Retain"}}));
        world.delete();
    }

    type Change = fn(&World);

    /// What people or the registry do to a client that is ready, or new.
    const CHANGES: [(&str, Change); 6] = [
        ("create", |_| {}),
        ("rename", |world| rename(world, "Renamed")),
        ("lose", lose),
        ("delete the Secret", |world| world.edit_at("Secret", None)),
        ("delete", World::delete),
        ("retain", retain_and_delete),
    ];

    async fn after(name: &str, change: Change) -> World {
        let world = if name == "create" { World::new() } else { ready().await };
        change(&world);
        world
    }

    async fn ready() -> World {
        ready_with(Manners::default(), json!({})).await
    }

    async fn ready_with(manners: Manners, spec: serde_json::Value) -> World {
        let world = World::with(manners, spec);
        world.settle().await;
        at_rest(&world, "before");
        world
    }

    /// Reports all failures at once: the pattern among them is what helps.
    fn report(failures: &[String]) {
        assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn every_fault_at_every_call_heals() {
        let faults = [
            Fault::CrashBefore,
            Fault::CrashAfter,
            Fault::ReplyLost,
            Fault::Lost,
            Fault::Late,
            Fault::Answered(403),
            Fault::Answered(500),
            Fault::ObjectTouched,
            Fault::RecordTouched,
            Fault::Conflict,
        ];
        let mut failures = Vec::new();
        for (name, change) in CHANGES {
            for fault in faults {
                for call in 0.. {
                    let world = after(name, change).await;
                    world.fault_at(0, call, fault);
                    let done = world.pass().await;
                    if world.faults_left() > 0 {
                        break;
                    }
                    world.deliver();
                    let what = format!("{name}: {fault:?} at call {call}, after {done:?}");
                    failures.extend(comes_to_rest(&world, &what).await.err());
                    if name == "retain" && world.state().clients.is_empty() {
                        failures.push(format!("{what}: not retained"));
                    }
                }
            }
        }
        report(&failures);
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_that_sleeps_at_any_call_does_no_harm_when_it_wakes() {
        let meanwhiles: [(&str, Change); 4] = [
            ("nothing", |_| {}),
            ("delete", World::delete),
            ("rename", |world| rename(world, "Renamed again")),
            ("lose", lose),
        ];
        let mut failures = Vec::new();
        for (name, change) in CHANGES {
            for (then, meanwhile) in meanwhiles {
                for call in 0.. {
                    let world = after(name, change).await;
                    world.restart(1);
                    world.fault_at(1, call, Fault::Held);
                    let Some(asleep) = world.hold(1, world.object().unwrap()).await else { break };
                    let before = world.state().log.clone();
                    tokio::time::advance(SETTLE * 2).await;
                    if world.object().is_some() {
                        meanwhile(&world);
                    }
                    let others = world.work(20).await;
                    world.state().log.clear();
                    world.release();
                    asleep.await;
                    let awake = world.state().log.clone();
                    let what = format!(
                        "{name}: asleep at call {call} after {before:?}; {then}; meanwhile {others:?}; awake {awake:?}"
                    );
                    failures.extend(comes_to_rest(&world, &what).await.err());
                }
            }
        }
        report(&failures);
    }

    const REGISTERS: [&str; 5] = [
        "announce attempt 1",
        "register id-1",
        "create record of id-1",
        "create Secret of id-1",
        "status True Ready",
    ];

    const NOTHING: [&str; 0] = [];

    fn said(world: &World, reason: &str) -> Vec<String> {
        let events = world.seen().1;
        events.into_iter().filter(|event| event.starts_with(&format!("{reason}: "))).collect()
    }

    fn message(world: &World) -> String {
        world.condition("Ready").unwrap().message
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_client_is_announced_registered_stored_and_published_in_one_pass() {
        let world = World::new();
        assert_eq!(world.pass().await, REGISTERS);
        assert_eq!(world.ready(), "True Ready");
        for _ in 0..3 {
            assert_eq!(world.pass().await, NOTHING, "nothing happens when nothing happened");
            tokio::time::advance(INTERVAL).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_view_of_the_object_does_nothing() {
        let changes: [(&str, Change); 3] = [
            ("it is registered since", |_| {}),
            ("the spec changed since", |world| rename(world, "Renamed")),
            ("the layout changed since", |world| {
                world.edit(json!({"spec": {"secret": {"keys": {"clientId": "ID"}}}}));
            }),
        ];
        for (reason, change) in changes {
            let world = if reason == "it is registered since" { World::new() } else { ready().await };
            let stale = world.object().unwrap();
            change(&world);
            world.settle().await;
            world.state().log.clear();
            world.pass_with(0, stale).await;
            assert_eq!(world.state().log, NOTHING, "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_late_to_announce_calls_nobody() {
        let world = World::new();
        world.restart(1);
        world.fault_on("update object", Fault::Held);
        let asleep = world.hold(1, world.object().unwrap()).await.unwrap();
        assert_eq!(world.pass().await, REGISTERS);
        world.state().log.clear();
        world.release();
        asleep.await;
        assert_eq!(world.state().log, NOTHING, "a conflict means that our view was stale");
    }

    #[tokio::test(start_paused = true)]
    async fn no_write_lands_on_an_object_that_was_made_again_under_the_same_name() {
        for (call, change) in
            [("write status", (|world| rename(world, "B")) as Change), ("update object", World::delete)]
        {
            let world = ready().await;
            change(&world);
            world.restart(1);
            world.fault_on(call, Fault::Held);
            let asleep = world.hold(1, world.object().unwrap()).await.unwrap();
            world.make_again();
            world.release();
            asleep.await;
            let object = world.object().unwrap();
            assert_eq!(object.metadata.finalizers.unwrap().len(), 1, "{call}: it holds on to its own client");
            assert!(object.status.is_none(), "{call}: nothing is known of it yet");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_changed_since_it_was_read_is_not_deleted() {
        let world = ready().await;
        world.delete();
        world.fault_on("delete record", Fault::RecordTouched);
        let done = world.pass().await;
        assert_eq!(
            done,
            ["deregister id-1", "deregister: 401", "delete record", "remove finalizer"],
            "it is read again first"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_spec_is_written_once() {
        let world = ready().await;
        rename(&world, "Renamed");
        let update = [
            "update record of id-1, update in flight",
            "update id-1",
            "update record of id-1",
            "status True Ready",
        ];
        assert_eq!(world.pass().await, update);
        assert_eq!(said(&world, "Updated").len(), 1);
        assert_eq!(world.pass().await, NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_changed_at_the_registry_is_changed_back_at_the_next_look() {
        let world = ready().await;
        world.state().clients.get_mut("id-1").unwrap().document["client_name"] = json!("Somebody else's");
        assert_eq!(world.pass().await, NOTHING, "it is not looked at all the time");
        tokio::time::advance(INTERVAL).await;
        let repair = ["update record of id-1, update in flight", "update id-1", "update record of id-1"];
        assert_eq!(world.pass().await, repair, "and the status did not change");
        assert_eq!(said(&world, "DriftRepaired").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_field_that_left_the_spec_is_reset_once() {
        let world = ready_with(Manners::default(), json!({"logoUri": "https://app.example/logo"})).await;
        world.edit(json!({"spec": {"logoUri": null}}));
        world.settle().await;
        assert_eq!(world.state().clients["id-1"].document["logo_uri"], json!(null));
        assert_eq!(message(&world), "The client is registered and its credentials are stored");
    }

    #[tokio::test(start_paused = true)]
    async fn a_field_that_the_registry_does_not_clear_is_told_as_long_as_it_is_there() {
        let logo = "https://app.example/logo";
        let manners = Manners { insists_on: Some(("logo_uri", logo)), ..Manners::default() };
        let world = ready_with(manners, json!({"logoUri": logo})).await;
        world.edit(json!({"spec": {"logoUri": null}}));
        world.settle().await;
        assert!(message(&world).ends_with("would not clear logoUri"), "{}", message(&world));
        rename(&world, "Renamed");
        world.settle().await;
        assert!(
            message(&world).ends_with("would not clear logoUri"),
            "after another update: {}",
            message(&world)
        );
        world.state().manners.insists_on = None;
        rename(&world, "Renamed again");
        world.state().clients.get_mut("id-1").unwrap().document["logo_uri"] = json!(null);
        world.settle().await;
        assert_eq!(message(&world), "The client is registered and its credentials are stored");
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_answers_with_something_else_is_asked_once() {
        let manners = Manners { insists_on: Some(("client_name", "Its own")), ..Manners::default() };
        let world = World::with(manners, json!({}));
        let done = world.work(12).await;
        assert_eq!(done[..4], REGISTERS[..4]);
        assert_eq!(done[4..], ["status False NotAsDeclared"], "registered once and never written again");
        assert_eq!(world.ready(), "False NotAsDeclared Stalled");
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_shows_less_than_was_written_is_no_drift() {
        let manners = Manners { hides: Some("redirect_uris"), ..Manners::default() };
        let world = ready_with(manners, json!({})).await;
        tokio::time::advance(INTERVAL).await;
        assert_eq!(world.work(5).await, NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_whose_answer_is_lost_is_found_to_have_arrived() {
        let world = World::new();
        world.fault_on("create record", Fault::ReplyLost);
        assert_eq!(world.pass().await, REGISTERS, "created once, and nothing is deregistered");
        assert_eq!(world.suspects(), NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_after_an_unanswered_commit_does_not_remove_the_client() {
        let world = World::new();
        world.fault_on("create record", Fault::ReplyLost);
        world.fault_on("create record", Fault::Answered(403));
        assert_eq!(world.pass().await, REGISTERS, "a quota that our own record has used up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_that_leaves_no_record_is_no_lost_race() {
        let world = World::new();
        world.fault_on("create record", Fault::Conflict);
        assert_eq!(world.pass().await, REGISTERS, "the API server says 409 when writes race for a quota");
    }

    #[tokio::test(start_paused = true)]
    async fn who_loses_the_race_for_the_record_removes_its_own_client_and_goes_on_with_the_other() {
        let world = World::new();
        world.restart(1);
        world.fault_on("create record", Fault::Held);
        let asleep = world.hold(1, world.object().unwrap()).await.unwrap();
        tokio::time::advance(SETTLE).await;
        let others = [
            "announce attempt 2",
            "register id-2",
            "create record of id-2",
            "create Secret of id-2",
            "status True Ready",
        ];
        assert_eq!(world.pass().await, others);
        world.state().log.clear();
        world.release();
        asleep.await;
        assert_eq!(world.state().log, ["deregister id-1"], "and no second registration under the same nonce");
        assert_eq!(world.settle().await, 2);
        at_rest(&world, "after the race");
    }

    #[tokio::test(start_paused = true)]
    async fn who_loses_the_race_with_a_change_of_the_record_that_it_replaces_tries_again() {
        let world = ready().await;
        lose(&world);
        world.fault_on("register", Fault::RecordTouched);
        let done = world.pass().await;
        let expected = [
            "read client: 401",
            "announce attempt 1 replacing n1",
            "register id-2",
            "deregister id-2",
            "note refusal RegistryUnavailable",
        ];
        assert_eq!(done[..5], expected);
        comes_to_rest(&world, "after the race").await.unwrap();
        assert_eq!(world.suspects(), NOTHING, "everybody knows what became of it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_record_is_refused_is_removed_again_and_counted_by_nobody() {
        let world = World::new();
        world.fault_on("create record", Fault::Answered(403));
        let removed = [
            "announce attempt 1",
            "register id-1",
            "deregister id-1",
            "note refusal RegistryUnavailable",
            "status False RegistryUnavailable",
        ];
        assert_eq!(world.pass().await, removed);
        comes_to_rest(&world, "when the quota is raised").await.unwrap();
        assert_eq!(world.suspects(), NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_outcomes_are_tried_three_times_then_halt_and_a_person_resumes() {
        let world = World::new();
        for attempt in 1..=3 {
            world.fault_on("register", Fault::Answered(500));
            let done = world.pass().await;
            assert_eq!(done[0], format!("announce attempt {attempt}"));
            assert_eq!(world.ready(), "Unknown OutcomeUnknown Reconciling");
            assert_eq!(world.pass().await, NOTHING, "not before that request must be over");
            tokio::time::advance(SETTLE).await;
        }
        assert_eq!(world.pass().await, ["status Unknown OutcomeUnknown"]);
        assert_eq!(world.ready(), "Unknown OutcomeUnknown Stalled");
        assert_eq!(world.work(5).await, NOTHING, "a person has to look");
        assert_eq!(world.suspects().len(), 2);
        let command = format!("{}={} --overwrite", annotations::RESUME, world.intent().unwrap().nonce);
        assert!(message(&world).ends_with(&command), "{}", message(&world));
        world.annotate(annotations::RESUME, json!("another nonce"));
        assert_eq!(world.pass().await, NOTHING, "that releases nothing");
        world.annotate(annotations::RESUME, json!(world.intent().unwrap().nonce));
        assert_eq!(world.pass().await, REGISTERS, "the count starts again");
        assert_eq!(world.suspects(), NOTHING, "the person has looked after what was there");
    }

    #[tokio::test(start_paused = true)]
    async fn the_policy_halt_halts_at_the_first_unknown_outcome() {
        let world = World::new();
        world.edit_registry(json!({"spec": {"dynamicRegistration": {"unknownOutcome": "Halt"}}}));
        world.fault_on("register", Fault::Lost);
        assert_eq!(world.pass().await, ["announce attempt 1", "status Unknown OutcomeUnknown"]);
        assert_eq!(world.ready(), "Unknown OutcomeUnknown Reconciling", "nobody can look before it is over");
        tokio::time::advance(SETTLE).await;
        assert_eq!(world.work(3).await, ["status Unknown OutcomeUnknown"]);
        assert_eq!(world.ready(), "Unknown OutcomeUnknown Stalled", "nothing goes on by itself");
        world.annotate(annotations::RESUME, json!(world.intent().unwrap().nonce));
        assert_eq!(world.pass().await[1], "register id-1");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_stays_unknown_when_the_intent_is_lost() {
        for lost in [json!(null), json!("{ not an intent")] {
            let world = World::new();
            world.fault_on("register", Fault::ReplyLost);
            world.pass().await;
            world.annotate(annotations::INTENT, lost.clone());
            assert_eq!(
                world.work(5).await,
                ["status Unknown OutcomeUnknown"],
                "{lost}: only the message changes"
            );
            assert_eq!(world.ready(), "Unknown OutcomeUnknown Stalled");
            assert!(
                message(&world).ends_with("oauth-operator.io/resume=uid-1 --overwrite"),
                "{}",
                message(&world)
            );
            world.annotate(annotations::RESUME, json!("uid-1"));
            assert_eq!(world.pass().await[1], "register id-2", "{lost}");
            assert_eq!(world.ready(), "True Ready");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replacement_of_unknown_outcome_stays_unknown_when_the_intent_is_lost() {
        let world = ready().await;
        lose(&world);
        world.fault_on("register", Fault::ReplyLost);
        world.pass().await;
        world.annotate(annotations::INTENT, json!(null));
        tokio::time::advance(INTERVAL).await;
        assert!(!world.work(5).await.iter().any(|done| done.starts_with("register")));
        assert_eq!(world.ready(), "Unknown OutcomeUnknown Stalled");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_not_used_up_while_the_initial_access_token_is_missing() {
        let manners = Manners { initial_access_token: Some("let me in"), ..Manners::default() };
        let world = World::with(manners, json!({}));
        world.fault_on("register", Fault::Answered(500));
        world.pass().await;
        let path = "/api/v1/namespaces/shop/secrets/initial";
        let token = world.state().objects.remove(path).unwrap();
        let done = world.work(10).await;
        assert!(!done.iter().any(|done| done.starts_with("announce")), "{done:?}");
        assert_eq!(world.ready(), "False CredentialsNotFound Reconciling");
        world.state().put(path, token);
        assert_eq!(world.pass().await[..2], ["announce attempt 2", "register id-1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_client_is_not_asked_for_again_until_something_changes() {
        let refused =
            ["announce attempt 1", "register: 400", "note refusal Rejected", "status False Rejected"];
        let changes: [(&str, Change); 3] = [
            ("the spec", |world| rename(world, "Good")),
            ("the registry", |world| {
                world.state().manners.refuses_name = None;
                world.edit_registry(json!({"spec": {"timeout": "11s"}}));
            }),
            ("what people ask for", |world| {
                world.state().manners.refuses_name = None;
                ask(world);
            }),
        ];
        for (what, change) in changes {
            let world = World::with(Manners { refuses_name: Some("App"), ..Manners::default() }, json!({}));
            assert_eq!(world.pass().await, refused);
            assert_eq!(world.ready(), "False Rejected Stalled");
            world.restart(0);
            assert_eq!(world.work(5).await, NOTHING, "{what} did not change");
            change(&world);
            assert_eq!(world.pass().await, REGISTERS, "{what} changed");
            assert_eq!(world.suspects(), NOTHING, "what was refused made no client");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_noted_although_somebody_changed_the_object_meanwhile() {
        let world = World::with(Manners { refuses_name: Some("App"), ..Manners::default() }, json!({}));
        world.fault_on("register", Fault::ObjectTouched);
        let done = world.pass().await;
        assert_eq!(done[..3], ["announce attempt 1", "register: 400", "note refusal Rejected"]);
        assert_eq!(world.ready(), "False Rejected Stalled", "and nobody takes it for an unknown outcome");
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_that_is_refused_is_not_sent_again_until_something_changes() {
        let world = ready_with(Manners { refuses_name: Some("Bad"), ..Manners::default() }, json!({})).await;
        rename(&world, "Bad");
        let refused = [
            "update record of id-1, update in flight",
            "update: 400",
            "update record of id-1, refused",
            "status False Rejected",
        ];
        assert_eq!(world.pass().await, refused);
        world.restart(0);
        assert_eq!(world.work(5).await, NOTHING);
        rename(&world, "App");
        world.settle().await;
        assert_eq!(world.ready(), "True Ready", "back to what the registry has");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_gone_is_replaced_at_the_version_of_its_record() {
        let world = ready().await;
        let before = world.record().unwrap();
        lose(&world);
        let replaced = [
            "read client: 401",
            "announce attempt 1 replacing n1",
            "register id-2",
            "update record of id-2",
            "update Secret of id-2",
            "status True Ready",
        ];
        assert_eq!(world.pass().await, replaced);
        assert_ne!(world.record().unwrap().state.nonce, before.state.nonce);
        assert_eq!(world.pass().await, NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_gone_is_replaced_with_the_initial_access_token() {
        let manners = Manners { initial_access_token: Some("let me in"), ..Manners::default() };
        let world = ready_with(manners, json!({})).await;
        lose(&world);
        assert_eq!(world.pass().await[2], "register id-2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_replacement_that_is_refused_is_not_asked_for_again() {
        let world = ready().await;
        world.state().manners.refuses_name = Some("App");
        lose(&world);
        assert!(world.pass().await.contains(&"note refusal Rejected".to_owned()));
        for _ in 0..4 {
            tokio::time::advance(INTERVAL).await;
            assert_eq!(world.pass().await, ["read client: 401"], "looked at, but not registered");
            assert_eq!(world.ready(), "False Rejected Stalled");
        }
        rename(&world, "Good");
        assert!(world.pass().await.contains(&"register id-2".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_gone_is_not_replaced_against_the_policy() {
        let world = ready_with(Manners::default(), json!({"replacementPolicy": "Never"})).await;
        lose(&world);
        assert_eq!(world.pass().await, ["read client: 401", "status False ClientGone"]);
        assert_eq!(world.ready(), "False ClientGone Stalled");
        world.edit(json!({"spec": {"replacementPolicy": "WhenGone"}}));
        assert!(world.pass().await.contains(&"register id-2".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_end_only_lost_credentials_prove_is_a_suspect() {
        let manners = Manners { rotates_on_update: true, ..Manners::default() };
        let world = ready_with(manners, json!({})).await;
        rename(&world, "Renamed");
        world.fault_on("update client", Fault::ReplyLost);
        world.pass().await;
        comes_to_rest(&world, "after the lost reply").await.unwrap();
        assert_eq!(world.state().clients.len(), 2, "the old one is there, and nobody holds its token");
        assert!(message(&world).contains("1 earlier attempt may have left a client"), "{}", message(&world));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_reply_brought_is_kept_whoever_touches_object_or_record() {
        let reading = Manners { rotates_on_read: true, ..Manners::default() };
        let updating = Manners { rotates_on_update: true, ..Manners::default() };
        for (manners, call) in [(reading, "read client"), (updating, "update client")] {
            for fault in [Fault::ObjectTouched, Fault::RecordTouched] {
                let world = ready_with(manners.clone(), json!({})).await;
                world.restart(0);
                rename(&world, "Renamed");
                world.fault_on(call, fault);
                world.pass().await;
                comes_to_rest(&world, &format!("{call}, {fault:?}")).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_whose_reads_rotate_is_read_no_more() {
        let world = ready_with(Manners { rotates_on_read: true, ..Manners::default() }, json!({})).await;
        world.restart(0);
        assert_eq!(
            world.pass().await,
            ["read id-1, which rotates", "update record of id-1"],
            "stored before all else"
        );
        tokio::time::advance(INTERVAL).await;
        assert_eq!(world.work(5).await, NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn one_read_that_is_refused_does_not_end_all_looks() {
        let world = ready().await;
        world.state().manners.forbids_reads = true;
        tokio::time::advance(INTERVAL).await;
        assert_eq!(world.work(3).await, NOTHING, "and the client stays ready");
        world.state().manners.forbids_reads = false;
        lose(&world);
        assert!(world.pass().await.contains(&"register id-2".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_expiring_secret_is_renewed_once_for_each_end() {
        for tells_no_start in [false, true] {
            let manners =
                Manners { secret_life: Some(12 * 3600), renews: true, tells_no_start, ..Manners::default() };
            let world = ready_with(manners, json!({})).await;
            for end in 1..4 {
                tokio::time::advance(Duration::from_hours(7)).await;
                let far = world.work(3).await;
                assert_eq!(far, NOTHING, "its end is far; {end}, {tells_no_start}");
                tokio::time::advance(Duration::from_hours(2)).await;
                let near = world.work(3).await;
                assert_eq!(near.iter().filter(|done| *done == "update id-1").count(), 1, "{end}: {near:?}");
            }
            assert_eq!(world.ready(), "True Ready");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_is_not_renewed_is_good_until_its_end() {
        for refuses in [None, Some("App")] {
            let manners = Manners { secret_life: Some(12 * 3600), ..Manners::default() };
            let world = ready_with(manners, json!({})).await;
            world.state().manners.refuses_name = refuses;
            tokio::time::advance(Duration::from_hours(9)).await;
            let done = world.work(5).await;
            let tried =
                done.iter().filter(|done| done.starts_with("update id-1") || *done == "update: 400").count();
            assert_eq!(tried, 1, "{refuses:?}: tried once: {done:?}");
            assert_eq!(world.ready(), "True Ready", "{refuses:?}: it is good for three hours more");
            tokio::time::advance(Duration::from_hours(3)).await;
            let done = world.work(3).await;
            assert_eq!(done, ["status False ClientSecretExpired"], "{refuses:?}: and not tried again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn secrets_that_are_near_their_end_at_once_are_no_reason_to_renew_for_ever() {
        let manners = Manners { secret_life: Some(-60), renews: true, ..Manners::default() };
        let world = World::with(manners, json!({}));
        let done = world.work(5).await;
        assert!(done.iter().filter(|done| done.starts_with("update id-1")).count() <= 1, "{done:?}");
        assert_eq!(world.ready(), "False ClientSecretExpired Stalled", "the clock of the registry is behind");
    }

    #[tokio::test(start_paused = true)]
    async fn deletion_goes_from_the_registry_to_the_record_to_the_object() {
        let world = ready().await;
        world.delete();
        assert_eq!(world.pass().await, ["deregister id-1", "delete record", "remove finalizer"]);
        assert!(world.object().is_none() && world.record().is_none() && world.secret().is_none());
        assert_eq!(said(&world, "Abandoned"), NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn deletion_waits_until_a_registration_in_flight_must_be_over_and_says_what_may_be_left() {
        let world = World::new();
        world.fault_on("register", Fault::CrashAfter);
        world.pass().await;
        world.delete();
        assert_eq!(world.pass().await, ["status False ResolvingOutcome"]);
        tokio::time::advance(SETTLE).await;
        assert_eq!(world.pass().await, ["remove finalizer"]);
        assert!(said(&world, "Abandoned")[0].contains("software_id oauth-operator/shop/app/uid-1/n1"));
    }

    #[tokio::test(start_paused = true)]
    async fn deletion_says_what_a_replacement_may_have_left() {
        let world = ready().await;
        lose(&world);
        world.fault_on("register", Fault::CrashAfter);
        world.pass().await;
        let nonce = world.intent().unwrap().nonce;
        world.delete();
        world.settle().await;
        assert!(said(&world, "Abandoned")[0].contains(&format!("/{nonce})")), "{:?}", world.seen().1);
    }

    #[tokio::test(start_paused = true)]
    async fn deletion_ends_although_the_intent_is_from_the_future_or_somebody_does_not_want_to_wait() {
        let world = World::new();
        world.fault_on("register", Fault::CrashAfter);
        world.pass().await;
        let mut intent = world.intent().unwrap();
        intent.at = "2099-01-01T00:00:00Z".parse().unwrap();
        world.annotate(annotations::INTENT, json!(intent.to_text().unwrap()));
        world.delete();
        world.pass().await;
        assert!(world.object().is_some(), "the request may still be on its way");
        tokio::time::advance(SETTLE).await;
        assert_eq!(world.pass().await, ["remove finalizer"], "nothing is announced after the deletion began");

        let world = World::new();
        world.fault_on("register", Fault::CrashAfter);
        world.pass().await;
        world.annotate(annotations::ABANDON, json!("true"));
        world.delete();
        assert_eq!(world.pass().await, ["remove finalizer"]);
    }

    #[tokio::test(start_paused = true)]
    async fn deletion_past_its_time_ends_without_the_registry_and_keeps_the_record() {
        let world = ready().await;
        world.delete();
        for _ in 0..20 {
            world.fault_on("deregister", Fault::Answered(500));
        }
        assert_eq!(world.pass().await, ["status False RegistryUnavailable"]);
        tokio::time::advance(DELETION).await;
        assert_eq!(world.pass().await, ["update record of id-1, Abandoned", "remove finalizer"]);
        assert_eq!(world.record().unwrap().released, Some(Released::Abandoned));
        assert_eq!(said(&world, "Abandoned").len(), 1);
        world.forget_faults();
        world.sweep().await;
        assert_eq!(world.state().clients.len(), 1, "what was abandoned is left to people");
    }

    #[tokio::test(start_paused = true)]
    async fn the_annotation_ends_a_deletion_at_once() {
        let world = ready().await;
        world.annotate(annotations::ABANDON, json!("true"));
        world.delete();
        assert_eq!(world.pass().await, ["update record of id-1, Abandoned", "remove finalizer"], "no call");
    }

    #[tokio::test(start_paused = true)]
    async fn retain_keeps_client_secret_and_record_whoever_touches_the_record() {
        for fault in [None, Some(Fault::RecordTouched), Some(Fault::ReplyLost)] {
            let world = ready().await;
            retain_and_delete(&world);
            if let Some(fault) = fault {
                world.fault_on("update record", fault);
            }
            let done = world.work(3).await;
            assert_eq!(done[0], "update Secret of id-1", "it must lose its owner first");
            assert_eq!(done[1..], ["update record of id-1, Retained", "remove finalizer"], "{fault:?}");
            world.sweep().await;
            assert!(world.state().clients.contains_key("id-1") && world.secret().is_some(), "{fault:?}");
            assert_eq!(world.record().unwrap().released, Some(Released::Retained), "{fault:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retain_ends_although_the_secret_cannot_be_written() {
        let world = ready().await;
        retain_and_delete(&world);
        for _ in 0..50 {
            world.fault_on("update Secret", Fault::Answered(422));
        }
        world.pass().await;
        assert_eq!(world.ready(), "False KubernetesRefused Reconciling");
        tokio::time::advance(DELETION).await;
        assert_eq!(world.pass().await, ["update record of id-1, Retained", "remove finalizer"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_finalizer_that_was_taken_away_is_put_back() {
        let world = ready().await;
        world.edit(json!({"metadata": {"finalizers": null}}));
        assert_eq!(world.pass().await, ["add finalizer"]);
        assert_eq!(world.pass().await, NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_whose_object_is_gone_is_swept_with_its_client() {
        let world = ready().await;
        world.edit(json!({"metadata": {"finalizers": null}}));
        world.delete();
        world.state().log.clear();
        world.sweep().await;
        assert_eq!(world.state().log, ["deregister id-1", "delete record"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sweep_leaves_the_living_alone() {
        let world = ready().await;
        world.state().log.clear();
        world.sweep().await;
        assert_eq!(world.state().log, NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_cannot_be_written_is_told_without_quoting_it() {
        let world = World::new();
        world.fault_on("create Secret", Fault::Answered(403));
        assert_eq!(world.pass().await[2..], ["create record of id-1", "status False KubernetesRefused"]);
        assert_eq!(world.ready(), "False KubernetesRefused Reconciling");
        comes_to_rest(&world, "when the policy lets it through").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_vanishes_while_it_is_written_is_made_again() {
        let world = ready().await;
        world.edit_at("Secret", Some(json!({"data": {"client_id": null}})));
        world.fault_on("update Secret", Fault::Answered(404));
        assert_eq!(
            world.pass().await,
            ["update Secret of id-1"],
            "in the same pass, and the status does not change"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_client_is_left_alone() {
        let world = ready().await;
        world.edit(json!({"spec": {"suspend": true, "clientName": "Renamed"}}));
        world.edit_at("Secret", None);
        assert_eq!(world.pass().await, ["status True Ready"]);
        assert!(world.condition("Suspended").is_some());
        tokio::time::advance(INTERVAL).await;
        assert_eq!(world.work(3).await, NOTHING);
        world.edit(json!({"spec": {"suspend": false}}));
        assert!(world.pass().await.contains(&"update id-1".to_owned()));
        assert!(world.condition("Suspended").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_elses_secret_is_not_touched_and_nothing_is_registered() {
        let world = World::new();
        world.edit_at("Secret", Some(json!({"data": {"mine": "bWluZQ=="}})));
        assert_eq!(world.work(3).await, ["status False SecretNotOurs"]);
        assert_eq!(world.secret().unwrap().keys().collect::<Vec<_>>(), ["mine"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_was_removed_by_hand_is_no_reason_for_another_client() {
        let world = ready().await;
        world.edit_at("record", None);
        assert_eq!(world.work(5).await, ["status False RecordLost"]);
        assert_eq!(world.ready(), "False RecordLost Stalled");
        world.annotate(annotations::RESUME, json!(world.intent().unwrap().nonce));
        world.fault_on("register", Fault::Answered(429));
        assert_eq!(world.pass().await[0], "announce attempt 1");
        let done = world.work(5).await;
        assert!(done.contains(&"register id-2".to_owned()), "nobody asks that person again: {done:?}");
        assert_eq!(world.ready(), "True Ready");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_says_that_the_client_of_a_lost_record_may_be_left() {
        let world = ready().await;
        world.edit_at("record", None);
        world.pass().await;
        tokio::time::advance(SETTLE).await;
        world.delete();
        world.settle().await;
        let left = ["Abandoned: client id-1 may still be at the registry: its record is gone"];
        assert_eq!(said(&world, "Abandoned"), left);
    }

    #[tokio::test(start_paused = true)]
    async fn suspects_are_named_until_a_person_has_looked_after_them() {
        let world = World::new();
        world.fault_on("register", Fault::ReplyLost);
        world.settle().await;
        let text = message(&world);
        assert!(text.contains("1 earlier attempt may have left a client"), "{text}");
        let command = format!("{}={} --overwrite", annotations::RESUME, world.intent().unwrap().nonce);
        assert!(text.ends_with(&command), "{text}");
        world.annotate(annotations::RESUME, json!(world.intent().unwrap().nonce));
        assert_eq!(world.pass().await, ["acknowledge", "status True Ready"]);
        assert_eq!(message(&world), "The client is registered and its credentials are stored");
        assert_eq!(world.work(3).await, NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_points_elsewhere_is_not_called() {
        let world = ready().await;
        world.edit_registry(json!({"spec": {"dynamicRegistration": {"issuer": "https://other.example"}}}));
        rename(&world, "Renamed");
        assert_eq!(world.work(3).await, ["status False RegistryChanged"]);
        world.delete();
        assert_eq!(world.pass().await[0], "deregister id-1", "where the client is");
    }

    #[tokio::test(start_paused = true)]
    async fn a_ready_client_stays_ready_while_the_registry_does_not_answer() {
        let world = ready().await;
        tokio::time::advance(INTERVAL).await;
        for _ in 0..10 {
            world.fault_on("read client", Fault::Answered(500));
        }
        assert_eq!(world.work(10).await, NOTHING);
        assert_eq!(world.ready(), "True Ready");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_too_long_for_the_status_is_cut() {
        let world = ready().await;
        world.annotate(annotations::REQUESTED_AT, json!("x".repeat(5000)));
        assert_eq!(world.pass().await, ["status True Ready"]);
        let handled = world.object().unwrap().status.unwrap().last_handled_reconcile_at.unwrap();
        assert_eq!(handled.len(), 1024, "the API server takes no longer one");
        assert_eq!(world.pass().await, NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn no_pass_comes_back_at_once() {
        for (name, change) in CHANGES {
            for call in 0..12 {
                let world = after(name, change).await;
                world.fault_at(0, call, Fault::Answered(500));
                let wake = world.pass_with(0, world.object().unwrap()).await.unwrap();
                assert!(wake >= Duration::from_millis(50), "{name}, call {call}: {wake:?}");
            }
        }
    }

    fn any_fault() -> impl Strategy<Value = Fault> {
        prop::sample::select(vec![
            Fault::CrashBefore,
            Fault::CrashAfter,
            Fault::ReplyLost,
            Fault::Lost,
            Fault::Late,
            Fault::Answered(403),
            Fault::Answered(500),
            Fault::ObjectTouched,
            Fault::RecordTouched,
            Fault::Conflict,
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn faults_in_a_row_heal(
            changes in prop::collection::vec(0..CHANGES.len(), 1..3),
            faults in prop::collection::vec((0..40_usize, any_fault()), 0..4),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let world = World::new();
                for (call, fault) in &faults {
                    world.fault_at(0, *call, *fault);
                }
                for change in &changes {
                    world.work(3).await;
                    if world.object().is_some_and(|object| object.metadata.deletion_timestamp.is_none()) {
                        CHANGES[*change].1(&world);
                    }
                }
                world.work(6).await;
                world.forget_faults();
                world.deliver();
                let what = format!("{changes:?} {faults:?}");
                comes_to_rest(&world, &what).await.unwrap_or_else(|why| panic!("{why}"));
            });
        }
    }
}
