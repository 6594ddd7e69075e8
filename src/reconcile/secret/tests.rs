use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::reconcile::next::tests::given;

type Change = fn(&mut Secret);
type Names<'a> = &'a [&'a str];

/// The object with this `spec.secret`.
fn object(secret: &Value) -> OAuthClient {
    given::new_client().spec(json!({"secret": secret})).client
}

fn record() -> Record {
    given::ready().stored().clone()
}

fn wanted_by(secret: &Value) -> Wanted {
    wanted(&object(secret), &record(), "installation")
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(key)?;
    Some(String::from_utf8(value.0.clone()).unwrap())
}

fn keys<V>(map: Option<&BTreeMap<String, V>>) -> Vec<&str> {
    map.into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// The names of the annotations that are not ours.
fn notes(secret: &Secret) -> Vec<&str> {
    let all = keys(secret.metadata.annotations.as_ref());
    all.into_iter().filter(|name| !name.starts_with("oauth-operator.io/")).collect()
}

#[test]
fn a_new_secret_holds_what_the_app_needs_and_says_whose_it_is() {
    let secret = wanted_by(&json!({})).create("ns", "app");
    assert_eq!(keys(secret.data.as_ref()), ["client_id", "client_secret", "issuer"], "no token, no nonce");
    assert_eq!(text(&secret, "client_id").unwrap(), "id-1");
    assert_eq!(text(&secret, "client_secret").unwrap(), "s3cr3t");
    assert_eq!(text(&secret, "issuer").unwrap(), "https://as.example");
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert_eq!(secret.metadata.labels, None, "nothing is copied from the client");
    let annotations = secret.metadata.annotations.unwrap();
    assert_eq!(annotations[annotations::OWNER_UID], "uid-1");
    assert_eq!(annotations[annotations::INSTALLATION], "installation");
    let owner = &secret.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.uid.as_str(), owner.controller), ("uid-1", Some(true)));
}

#[test]
fn what_a_client_does_not_have_has_no_key() {
    let mut record = record();
    record.client.client_secret = None;
    record.state.issuer = None;
    let template = json!({"template": {"data": {"url": "{{ issuer }}?{{ clientSecret }}"}}});
    let secret = wanted(&object(&template), &record, "installation").create("ns", "app");
    assert_eq!(keys(secret.data.as_ref()), ["client_id", "url"]);
    assert_eq!(text(&secret, "url").unwrap(), "?");
}

#[test]
fn a_changed_layout_removes_exactly_what_the_old_one_named() {
    let old = json!({
        "keys": {"clientId": "ID", "clientSecret": "SECRET", "issuer": "ISSUER"},
        "template": {"data": {"extra": "x"}, "labels": {"ours": "1"}, "annotations": {"note": "1"}},
    });
    let cases: [(&str, Value, Names, Names, Names); 4] = [
        (
            "the same layout changes nothing",
            old.clone(),
            &["ID", "ISSUER", "SECRET", "extra", "theirs"],
            &["ours", "theirs"],
            &["note", "theirs"],
        ),
        (
            "all of it goes",
            json!({}),
            &["client_id", "client_secret", "issuer", "theirs"],
            &["theirs"],
            &["theirs"],
        ),
        (
            "one key is renamed",
            json!({"keys": {"clientId": "id", "clientSecret": "SECRET", "issuer": "ISSUER"}}),
            &["ISSUER", "SECRET", "id", "theirs"],
            &["theirs"],
            &["theirs"],
        ),
        (
            "others' names are taken over while they are declared",
            json!({"template": {"data": {"theirs": "ours"}, "labels": {"theirs": "2"}}}),
            &["client_id", "client_secret", "issuer", "theirs"],
            &["theirs"],
            &["theirs"],
        ),
    ];
    for (reason, new, data, labels, annotations) in cases {
        let mut found = wanted_by(&old).create("ns", "app");
        found.data.as_mut().unwrap().insert("theirs".into(), bytes("theirs"));
        found.metadata.labels.as_mut().unwrap().insert("theirs".into(), "theirs".into());
        found.metadata.annotations.as_mut().unwrap().insert("theirs".into(), "theirs".into());
        found.metadata.resource_version = Some("5".into());
        let merged = wanted_by(&new).over(&found);
        assert_eq!(keys(merged.data.as_ref()), data, "{reason}");
        assert_eq!(keys(merged.metadata.labels.as_ref()), labels, "{reason}");
        assert_eq!(notes(&merged), annotations, "{reason}");
        assert_eq!(merged.metadata.resource_version.as_deref(), Some("5"), "the precondition of the write");
    }
}

#[test]
fn without_a_readable_layout_nothing_is_removed() {
    for layout in [None, Some("not JSON"), Some("[]")] {
        let mut found = wanted_by(&json!({"keys": {"clientId": "ID"}})).create("ns", "app");
        let notes = found.metadata.annotations.as_mut().unwrap();
        notes.remove(annotations::LAYOUT);
        notes.extend(layout.map(|layout| (annotations::LAYOUT.to_owned(), layout.to_owned())));
        let merged = wanted_by(&json!({})).over(&found);
        assert_eq!(keys(merged.data.as_ref()), ["ID", "client_id", "client_secret", "issuer"], "{layout:?}");
    }
}

#[test]
fn a_template_is_filled_once_and_leaves_what_it_does_not_know() {
    let mut record = record();
    record.client.client_secret = Some("{{ clientId }}".into());
    let values = Values::of(&record);
    let cases = [
        ("plain", "plain", "no placeholder"),
        ("{{ clientId }}", "id-1", "a placeholder"),
        ("{{clientId}}|{{  issuer  }}", "id-1|https://as.example", "spaces do not count"),
        ("{{ clientSecret }}", "{{ clientId }}", "a value is no template"),
        ("{{ clientId", "{{ clientId", "never closed"),
        ("a {{ b {{ clientId }}", "a {{ b {{ clientId }}", "unknown"),
        ("{{ other }}", "{{ other }}", "unknown"),
        ("}} {", "}} {", "no placeholder"),
        ("", "", "empty"),
    ];
    for (template, filled, reason) in cases {
        assert_eq!(values.fill(template), filled, "{template:?}: {reason}");
    }
}

#[test]
fn the_keys_of_credentials_win_over_the_template() {
    let secret = wanted_by(&json!({"template": {"data": {"client_id": "mine"}}})).create("ns", "app");
    assert_eq!(text(&secret, "client_id").unwrap(), "id-1");
}

#[test]
fn a_retained_secret_has_no_owner_of_ours_and_loses_the_one_it_had() {
    let retained = given::new_client().spec(json!({"deletionPolicy": "Retain"})).client;
    let wanted = wanted(&retained, &record(), "installation");
    assert_eq!(wanted.create("ns", "app").metadata.owner_references, None);
    let mut owned = wanted_by(&json!({})).create("ns", "app");
    let other = OwnerReference { uid: "uid-9".into(), controller: None, ..OwnerReference::default() };
    owned.metadata.owner_references.as_mut().unwrap().push(other.clone());
    assert!(!wanted.is(&owned));
    let freed = wanted.over(&owned);
    assert_eq!(freed.metadata.owner_references, Some(vec![other]), "others own it still");
    assert!(wanted.is(&freed));
}

#[test]
fn a_secret_is_ours_by_annotation_or_by_owner() {
    let ours = || wanted_by(&json!({})).create("ns", "app");
    let bare = || Secret::default();
    let cases: [(&str, Option<Secret>, &str); 6] = [
        ("nothing is there", None, "absent"),
        ("both", Some(ours()), "ours"),
        (
            "somebody removed the annotations",
            Some(Secret { metadata: ObjectMeta { annotations: None, ..ours().metadata }, ..ours() }),
            "ours",
        ),
        (
            "it was retained",
            Some(Secret { metadata: ObjectMeta { owner_references: None, ..ours().metadata }, ..ours() }),
            "ours",
        ),
        ("no mark at all", Some(bare()), "foreign"),
        (
            "the mark of another object",
            Some(
                wanted(
                    &object(&json!({})),
                    &Record {
                        owner: crate::reconcile::record::Owner { uid: "uid-2".into(), ..record().owner },
                        ..record()
                    },
                    "installation",
                )
                .create("ns", "app"),
            )
            .map(|mut secret| {
                secret.metadata.owner_references = None;
                secret
            }),
            "foreign",
        ),
    ];
    for (reason, secret, expected) in cases {
        let found = match judge(secret, "uid-1") {
            Found::Absent => "absent",
            Found::Foreign => "foreign",
            Found::Ours(_) => "ours",
        };
        assert_eq!(found, expected, "{reason}");
    }
}

#[test]
fn what_differs_is_seen() {
    let wanted = wanted_by(&json!({"template": {"labels": {"team": "shop"}}}));
    let good = wanted.create("ns", "app");
    let cases: [(&str, bool, Change); 9] = [
        ("nothing changed", true, |_| {}),
        ("somebody added a key", true, |s| drop(s.data.as_mut().unwrap().insert("more".into(), bytes("x")))),
        ("somebody added a label", true, |s| {
            drop(s.metadata.labels.as_mut().unwrap().insert("more".into(), "x".into()));
        }),
        ("a value", false, |s| drop(s.data.as_mut().unwrap().insert("client_id".into(), bytes("other")))),
        ("a key is gone", false, |s| drop(s.data.as_mut().unwrap().remove("issuer"))),
        ("a label", false, |s| {
            drop(s.metadata.labels.as_mut().unwrap().insert("team".into(), "other".into()));
        }),
        ("the layout", false, |s| drop(s.metadata.annotations.as_mut().unwrap().remove(annotations::LAYOUT))),
        ("the mark", false, |s| {
            drop(s.metadata.annotations.as_mut().unwrap().remove(annotations::OWNER_UID));
        }),
        ("the owner", false, |s| s.metadata.owner_references = None),
    ];
    for (reason, same, change) in cases {
        let mut found = good.clone();
        change(&mut found);
        assert_eq!(wanted.is(&found), same, "{reason}");
        assert!(wanted.is(&wanted.over(&found)), "{reason}: mended");
    }
}

fn names() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-c]", "[x-z]{0,2}", 0..4)
}

prop_compose! {
    /// A `spec.secret` whose names collide with those of others.
    fn layouts()(data in names(), labels in names(), notes in names(), id in "[a-d]", retain: bool) -> (Value, bool) {
        let keys = json!({"clientId": id, "clientSecret": "s", "issuer": "i"});
        (json!({"keys": keys, "template": {"data": data, "labels": labels, "annotations": notes}}), retain)
    }
}

prop_compose! {
    /// Whatever stands there, with a layout that somebody may have edited.
    fn found()(data in names(), labels in prop::option::of(names()), notes in names(), named in prop::collection::vec("[a-f]|oauth-operator.io/owner-uid", 0..3), owners in 0..3_usize) -> Secret {
        let layout = Layout { data: named.clone(), labels: named.clone(), annotations: named };
        let mut annotations = notes;
        annotations.insert(annotations::LAYOUT.into(), serde_json::to_string(&layout).unwrap());
        let owner = |uid: &str| OwnerReference { uid: uid.into(), ..OwnerReference::default() };
        let owners = [None, Some(vec![]), Some(vec![owner("uid-1"), owner("uid-2")])][owners].clone();
        let data = data.iter().map(|(key, value)| (key.clone(), bytes(value))).collect::<BTreeMap<_, _>>();
        Secret {
            metadata: ObjectMeta { labels, annotations: Some(annotations), owner_references: owners, ..ObjectMeta::default() },
            data: (!data.is_empty()).then_some(data),
            ..Secret::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_laid_over_is_as_wanted_and_takes_nothing_from_others(
        (old, old_retain) in layouts(),
        (new, new_retain) in layouts(),
        found in found(),
    ) {
        let lay = |layout: &Value, retain: bool| {
            let policy = if retain { "Retain" } else { "Delete" };
            let client = given::new_client().spec(json!({"secret": layout, "deletionPolicy": policy})).client;
            wanted(&client, &record(), "installation")
        };
        let (old, new) = (lay(&old, old_retain), lay(&new, new_retain));
        let first = old.over(&found);
        prop_assert!(old.is(&first));
        prop_assert!(old.over(&first) == first, "once is enough");
        let second = new.over(&first);
        prop_assert!(new.is(&second));
        let expected: Vec<&String> = {
            let theirs = first.data.iter().flatten().map(|(key, _)| key).filter(|key| !old.data.contains_key(*key));
            let mut all: Vec<&String> = theirs.chain(new.data.keys()).collect();
            all.sort();
            all.dedup();
            all
        };
        let data = second.data.clone().unwrap_or_default();
        prop_assert_eq!(data.keys().collect::<Vec<_>>(), expected, "exactly what the old layout named goes");
        let others = second.metadata.owner_references.iter().flatten().filter(|owner| owner.uid == "uid-2").count();
        let before = found.metadata.owner_references.iter().flatten().filter(|owner| owner.uid == "uid-2").count();
        prop_assert_eq!(others, before, "other owners stay");
    }
}
