//! What is kept in Kubernetes, and may have been written by others: an intent, a record, a layout. Whatever they say, a pass goes
//! on, no text shows a credential, and a tenant reaches no client but its own.

use bolero::{TypeGenerator, check};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::Value;

use super::{SOME, damage::Damage};
use crate::{
    api::{OAuthClient, annotations},
    reconcile::{
        intent::Intent,
        next::{next, tests::given},
        record::{Place, Record},
        secret::{Found, wanted},
    },
    registry::MarkPlace,
};

/// The credentials of [`given::ready`].
const SECRETS: [&str; 2] = ["s3cr3t", "t0ken"];

/// What somebody made of a text that we had written.
#[derive(Clone, Debug, TypeGenerator)]
enum Edit {
    Damaged(Vec<Damage>),
    Cut(u8),
    Text(String),
}

impl Edit {
    fn of(&self, text: &str) -> String {
        match self {
            Self::Damaged(damages) => {
                let mut document: Value = serde_json::from_str(text).unwrap();
                Damage::done(damages, &mut document);
                document.to_string()
            }
            Self::Cut(at) => text.chars().take(usize::from(*at) * 4).collect(),
            Self::Text(text) => text.clone(),
        }
    }
}

fn annotated(client: &OAuthClient, annotation: &str, text: String) -> OAuthClient {
    let mut client = client.clone();
    client.metadata.annotations.get_or_insert_default().insert(annotation.into(), text);
    client
}

#[test]
fn an_intent_that_a_tenant_wrote() {
    check!().with_iterations(SOME).with_type::<(Edit, u8)>().for_each(|(edit, situation)| {
        let mut facts = given::ready();
        match situation % 3 {
            0 => facts.record = Ok(None),
            1 => facts.known().capabilities.mark = MarkPlace::PendingName,
            _ => {}
        }
        let honest = given::ready().replacing(60).refused(false).intent.unwrap();
        let honest = honest.next("nonce-3".into(), None, given::now(), false);
        let object = annotated(&facts.client, annotations::INTENT, edit.of(&honest.to_text().unwrap()));
        let intent = Intent::of(&object);
        if let Some(intent) = &intent {
            assert_eq!(intent.uid, "uid-1", "one that was copied counts for nothing");
            let next = intent.next("n".into(), None, given::now(), false);
            assert!(next.attempt >= intent.attempt, "what was tried is not forgotten");
            assert_eq!(
                Intent::of(&annotated(&object, annotations::INTENT, next.to_text().unwrap())),
                Some(next)
            );
        }
        (facts.client, facts.intent) = (object, intent);
        let step = format!("{:?}", next(&facts));
        assert!(SECRETS.iter().all(|secret| !step.contains(secret)), "{step}");
    });
}

#[test]
fn a_record_that_a_tenant_wrote() {
    check!().with_iterations(SOME).with_type::<Edit>().for_each(|edit| {
        let mut facts = given::ready();
        facts.stored().place = Place::WithSecret;
        facts.known().capabilities.shows_secrets = true;
        let honest = wanted(&facts.client, facts.record().unwrap(), "installation").create("ns", "app");
        let written = edit.of(&honest.metadata.annotations.as_ref().unwrap()[annotations::RECORD]);
        let mut secret = honest;
        secret.metadata.annotations.get_or_insert_default().insert(annotations::RECORD.into(), written);
        let Some(record) = Record::beside(&secret, &facts.client) else { return };
        assert_eq!(record.owner.uid, "uid-1");
        assert_eq!(record.state.registry, facts.client.spec.registry_ref, "no other registry's credentials");
        assert_eq!((&record.client.registration_id, &record.client.secret_id), (&None, &None), "no other id");
        assert!(record.state.retiring.is_empty() && record.state.revoking.is_empty(), "nothing is removed");
        let again = wanted(&facts.client, &record, "installation").over(&secret);
        assert!(wanted(&facts.client, &record, "installation").is(&again), "once is enough");
        facts.record = Ok(Some(record));
        facts.secret = Found::Ours(Box::new(again));
        let step = format!("{:?}", next(&facts));
        assert!(SECRETS.iter().all(|secret| !step.contains(secret)), "{step}");
    });
}

#[test]
fn a_record_of_ours_that_somebody_edited() {
    check!().with_iterations(SOME).with_type::<(Edit, bool, Vec<u8>)>().for_each(|(edit, raw, bytes)| {
        let mut facts = given::ready();
        let mut secret = facts.stored().to_secret("ns", "installation").unwrap();
        let data = secret.data.get_or_insert_default();
        let state = String::from_utf8(data["state"].0.clone()).unwrap();
        data.insert("state".into(), ByteString(edit.of(&state).into_bytes()));
        if *raw {
            data.insert("registration_client_uri".into(), ByteString(bytes.clone()));
        }
        let read = Record::read(&secret);
        let shown = format!("{read:?}");
        assert!(SECRETS.iter().all(|secret| !shown.contains(secret)), "{shown}");
        facts.record = read.map(Some);
        let step = format!("{:?}", next(&facts));
        assert!(SECRETS.iter().all(|secret| !step.contains(secret)), "{step}");
    });
}

#[test]
fn a_layout_that_a_tenant_wrote() {
    check!().with_iterations(SOME).with_type::<Edit>().for_each(|edit| {
        let facts = given::ready();
        let wanted = wanted(&facts.client, facts.record().unwrap(), "installation");
        let mut secret: Secret = wanted.create("ns", "app");
        let notes = secret.metadata.annotations.get_or_insert_default();
        let written = edit.of(&notes[annotations::LAYOUT]);
        notes.insert(annotations::LAYOUT.into(), written);
        assert!(wanted.is(&wanted.over(&secret)), "it is put right, and once is enough");
    });
}
