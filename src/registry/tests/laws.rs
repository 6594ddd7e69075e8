//! The laws of comparing: what is declared, sent and shown again differs in nothing, whatever is declared; at every registry.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use proptest::{collection::vec, option, prelude::*, sample::subsequence, strategy::Union};
use serde_json::json;

use super::*;
use crate::{
    providers::{cal_com, meteroid, place::Place, teable, telnyx},
    registry::{Capabilities, Credentials, Document, Registry, Support, metadata::normal, open},
};

const CASES: u32 = 128;
const URIS: [&str; 4] =
    ["https://a.example/cb", "https://b.example/cb", "https://a.example", "http://127.0.0.1/cb"];
const GRANTS: [&str; 3] = ["authorization_code", "refresh_token", "client_credentials"];
/// No generated value is like it.
const FOREIGN: &str = "somebody else's";

fn config() -> ProptestConfig {
    ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() }
}

fn some_of(pool: &[&'static str], at_least: usize) -> BoxedStrategy<Value> {
    subsequence(pool.to_vec(), at_least..=pool.len()).prop_shuffle().prop_map(|items| json!(items)).boxed()
}

fn one_of(values: Vec<Value>) -> BoxedStrategy<Value> {
    Union::new(values.into_iter().map(Just)).boxed()
}

/// A value that users can declare; a required one is not empty.
fn value(field: Field, scopes: &[&'static str], required: bool) -> BoxedStrategy<Value> {
    let at_least = usize::from(required);
    match field {
        Field::AllowDeviceFlow
        | Field::AreCalendarEventsEnabled
        | Field::AreDefaultEventTypesEnabled
        | Field::AreEmailsEnabled
        | Field::RequirePkce => any::<bool>().prop_map(Value::from).boxed(),
        Field::ApplicationType => one_of(vec![json!("web"), json!("native")]),
        Field::ClientName => "[A-Za-z][A-Za-z \\[\\]-]{0,12}[a-z]".prop_map(Value::from).boxed(),
        Field::Contacts => some_of(&["a@example.com", "b@example.com", "c@example.com"], at_least),
        Field::Description => "[a-z]{0,5}(\n[a-z ]{0,5}){0,2}".prop_map(Value::from).boxed(),
        Field::GrantTypes => some_of(&GRANTS, at_least),
        Field::Jwks => {
            one_of(vec![json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}), json!({"keys": []})])
        }
        Field::PostLogoutRedirectUris | Field::RedirectUris => some_of(&URIS, at_least),
        Field::Scopes => some_of(scopes, at_least),
        Field::TokenEndpointAuthMethod => one_of(admin_api::SECRET_METHODS.map(Value::from).to_vec()),
        _ if required => one_of(URIS.map(Value::from).to_vec()),
        _ => one_of(URIS.into_iter().chain([""]).map(Value::from).collect()),
    }
}

/// What users can declare at a registry of these capabilities.
fn declarations(capabilities: &Capabilities, scopes: &[&'static str]) -> BoxedStrategy<ClientMetadata> {
    let member = |(field, support): (&Field, &Support)| {
        let field = *field;
        let required = field == Field::ClientName || capabilities.required.contains(&field);
        let value = match support {
            Support::Fixed(values) => {
                one_of(values.iter().filter(|value| *value != "none").cloned().collect())
            }
            _ => value(field, scopes, required),
        };
        let value = if required { value.prop_map(Some).boxed() } else { option::of(value).boxed() };
        value.prop_map(move |value| Some((field, value?)))
    };
    let members: Vec<_> = capabilities.fields.iter().map(member).collect();
    members.prop_map(|members| coherent(ClientMetadata(members.into_iter().flatten().collect()))).boxed()
}

/// A redirect URI by default is one of those that are declared.
fn coherent(mut declared: ClientMetadata) -> ClientMetadata {
    let last = declared.get(Field::RedirectUris).and_then(|uris| uris.as_array()?.last().cloned());
    if let (Some(last), Some(default)) = (last, declared.0.get_mut(&Field::DefaultRedirectUri)) {
        *default = last;
    }
    declared
}

/// Whatever a registry may show in the place of a value.
fn shown_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[ab ]{0,3}".prop_map(Value::from),
        (0..3).prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec(inner, 0..2).prop_map(|items| items.into_iter().map(|item| ("a".to_owned(), item)).collect())
        ]
    })
}

fn fields() -> impl Strategy<Value = Field> {
    Union::new(Field::ALL.map(Just))
}

fn everything() -> Capabilities {
    let fields = Field::ALL.into_iter().map(|field| (field, Support::Settable)).collect();
    Capabilities { fields, ..Capabilities::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_normal_form_of_a_normal_form_is_itself(field in fields(), value in shown_values()) {
        let once = normal(field, &value);
        prop_assert_eq!(normal(field, &once), once);
    }

    #[test]
    fn what_is_declared_does_not_differ_from_itself_in_any_order(
        (declared, dice) in (declarations(&everything(), &["a", "b", "c"]), any::<prop::sample::Index>())
    ) {
        let mut document = declared.to_document();
        prop_assert_eq!(declared.differing(&document), []);
        document.iter_mut().for_each(|(member, value)| turn(member, value, dice.index(4)));
        prop_assert_eq!(declared.differing(&document), [], "{:?}", document);
    }

    #[test]
    fn a_difference_names_exactly_the_fields_that_differ(
        declared in declarations(&everything(), &["a", "b", "c"]),
        changed in vec(fields(), 0..6),
    ) {
        let mut document = declared.to_document();
        for field in &changed {
            document.insert(field.wire_name().into(), json!(FOREIGN));
        }
        let changed: BTreeSet<Field> = changed.into_iter().filter(|field| declared.get(*field).is_some()).collect();
        prop_assert_eq!(declared.differing(&document), changed.into_iter().collect::<Vec<_>>());
    }
}

/// Another order of the same, and one item twice, as registries show what they keep as a set.
fn turn(member: &str, value: &mut Value, by: usize) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            let by = by % items.len();
            items.rotate_left(by);
            items.push(items[0].clone());
        }
        Value::String(scopes) if member == Field::Scopes.wire_name() => {
            *scopes = scopes.split(' ').rev().collect::<Vec<_>>().join("  ");
        }
        _ => {}
    }
}

/// A registry that keeps what it is told, registers `first` and is then told `second`.
async fn keeps_its_word(registry: &dyn Registry, first: ClientMetadata, second: ClientMetadata) {
    let capabilities = registry.capabilities();
    let first = normalised(registry, first);
    registry.prepare().await.unwrap();
    let client = registry.register(&wanted(first.clone(), "nonce-1")).await.unwrap();
    is_shown(&first, &client, "the reply to the registration");
    if capabilities.fields.values().all(|support| *support != Support::Settable) {
        let seen = registry.observe(&client).await.unwrap().unwrap();
        return is_shown(&first, &seen, "a read");
    }
    let client = is_updated(registry, &client, &first, &[]).await;
    let mut second = normalised(registry, as_far_as_settable(&capabilities, &first, second));
    second.0.retain(|field, value| value != "" || !cannot_be_cleared(&client, *field));
    let reset: Vec<Field> = first.0.keys().filter(|field| second.get(**field).is_none()).copied().collect();
    let client = is_updated(registry, &client, &second, &reset).await;
    for field in reset.into_iter().filter(|field| !cannot_be_cleared(&client, *field)) {
        let shown = crate::registry::metadata::shown(field, &client.document);
        assert!(capabilities.is_default(field, &shown), "{field:?} was reset and is {shown}");
    }
}

/// Telnyx takes no `null`: a URI that was set stays.
fn cannot_be_cleared(client: &Client, field: Field) -> bool {
    let is_telnyx = client.document.contains_key(Field::RequirePkce.wire_name());
    is_telnyx && [Field::LogoUri, Field::PolicyUri, Field::TosUri].contains(&field)
}

fn normalised(registry: &dyn Registry, declared: ClientMetadata) -> ClientMetadata {
    let once = registry.normalised(declared);
    assert_eq!(registry.normalised(once.clone()), once, "to normalise twice is to normalise once");
    once
}

async fn is_updated(
    registry: &dyn Registry,
    client: &Client,
    wanted: &ClientMetadata,
    reset: &[Field],
) -> Client {
    let client = registry.update(client, wanted, reset).await.unwrap().unwrap();
    is_shown(wanted, &client, "the reply to the update");
    let seen = registry.observe(&client).await.unwrap().unwrap();
    is_shown(wanted, &seen, "a read");
    if registry.capabilities().lists() {
        let listed =
            registry.list().await.unwrap().into_iter().find(|line| line.client_id == client.client_id);
        is_shown(wanted, &listed.expect("the client is listed").over(&seen), "a list");
    }
    client
}

fn is_shown(declared: &ClientMetadata, client: &Client, by: &str) {
    let differing = declared.differing(&client.document);
    assert_eq!(differing, [], "{by} shows {:?} of {declared:?}", client.document);
}

/// What never changes stays as it was declared first.
fn as_far_as_settable(
    capabilities: &Capabilities,
    first: &ClientMetadata,
    second: ClientMetadata,
) -> ClientMetadata {
    let settable = |field: &Field| *capabilities.support(*field) == Support::Settable;
    let kept =
        first.0.iter().filter(|(field, _)| !settable(field)).map(|(field, value)| (*field, value.clone()));
    let new = second.0.into_iter().filter(|(field, _)| settable(field));
    coherent(ClientMetadata(kept.chain(new).collect()))
}

/// Any two declarations at a registry, one after the other.
fn whatever_is_declared(scopes: &[&'static str], open: impl Fn() -> Box<dyn Registry>) {
    let declaration = || declarations(&open().capabilities(), scopes);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    proptest!(config(), |(first in declaration(), second in declaration())| {
        runtime.block_on(keeps_its_word(open().as_ref(), first, second));
    });
}

fn at<P: Place>(prepare: impl Fn(&mut P)) -> Box<dyn Registry> {
    let fake = Fake::new(P::fresh());
    fake.at(prepare);
    let session = session_over(&fake, &connection(P::registry("https://api.example", "key")));
    let text = |member: &str| P::credentials()[member].as_str().unwrap().to_owned();
    let credentials = match P::credentials().get("email") {
        Some(_) => Credentials::Password { user: text("email"), password: text("password").into() },
        None => Credentials::Bearer(text("token").into()),
    };
    open(session, Some(credentials)).unwrap()
}

#[test]
fn cal_com_keeps_its_word() {
    whatever_is_declared(&["*", "BOOKING_READ", "BOOKING_WRITE", "PROFILE_READ"], || {
        at::<cal_com::CalCom>(|_| {})
    });
}

#[test]
fn telnyx_keeps_its_word() {
    whatever_is_declared(&["admin", "calls.read", "calls.write"], || at::<telnyx::Telnyx>(|_| {}));
}

#[test]
fn teable_keeps_its_word() {
    whatever_is_declared(&["table|read", "record|read", "record|create"], || {
        at::<teable::Teable>(|provider| provider.switches.extend([teable::Switch::DeviceFlow]))
    });
}

#[test]
fn meteroid_keeps_its_word() {
    whatever_is_declared(&["read", "write"], || at::<meteroid::Meteroid>(|_| {}));
}

#[test]
fn a_server_of_rfc_7592_keeps_its_word() {
    whatever_is_declared(&["openid", "profile", "email"], || faithful(Value::clone));
}

#[test]
fn a_server_of_rfc_7592_that_shows_other_types_than_it_takes_keeps_its_word() {
    whatever_is_declared(&["openid", "profile", "email"], || {
        faithful(|value| match value {
            Value::Array(items) if items.len() == 1 => items[0].clone(),
            Value::String(text) if !text.contains(' ') => json!([text]),
            other => other.clone(),
        })
    });
}

/// A server of RFC 7591 and RFC 7592 that keeps what it is told and shows it in its own way.
fn faithful(in_its_way: fn(&Value) -> Value) -> Box<dyn Registry> {
    const REGISTER: &str = "https://as.example/register";
    let kept = Arc::new(Mutex::new(Document::new()));
    let answer = move |request: &providers::Request| {
        let mut kept = kept.lock().unwrap();
        if let Some(Value::Object(told)) = request.json() {
            *kept = told;
        }
        let known = |member: &str| Field::ALL.iter().any(|field| field.wire_name() == member);
        let mut shown: Document = kept
            .iter()
            .filter(|(member, _)| known(member))
            .map(|(member, value)| (member.clone(), in_its_way(value)))
            .collect();
        let own = json!({
            "client_id": "id-1", "client_secret": "s3cr3t", "registration_access_token": "t0ken",
            "registration_client_uri": format!("{REGISTER}/id-1"),
        });
        shown.extend(own.as_object().cloned().unwrap());
        let status = if request.method == http::Method::POST { 201 } else { 200 };
        Some(Reply::json(status, &shown.into()))
    };
    let settings = json!({"dynamicRegistration": {"registrationEndpoint": REGISTER}});
    open(session_answering(&connection(settings), answer), None).unwrap()
}
