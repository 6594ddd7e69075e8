//! Replies of registries, whatever becomes of them on the way: nobody panics, nothing secret shows, and what may have happened is
//! never taken for a failure.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bolero::{TypeGenerator, check};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    SOME,
    damage::{Damage, Thing},
};
use crate::{
    api::OAuthClient,
    providers::{
        Reply, Request, cal_com::CalCom, meteroid::Meteroid, place::Place, teable::Teable, telnyx::Telnyx,
    },
    reconcile::record::{Record, tests::record},
    registry::{
        Client, ClientMetadata, Credentials, Error, Kind, Registry, open,
        tests::{CANARY, connection, session_answering, wanted},
    },
};

/// A Secret holds a mebibyte, and other things beside a record's data.
const ROOM_IN_A_SECRET: usize = 1_000_000;
/// All annotations of an object together have a quarter of that.
const ROOM_IN_ANNOTATIONS: usize = 200_000;
/// A condition's message takes 32768 bytes, and an error is one part of it.
const LONGEST_TEXT: usize = 8192;
const LONGEST_SILENCE: Duration = Duration::from_hours(24);

const STATUSES: [u16; 24] = [
    200, 201, 202, 204, 301, 303, 307, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 422, 429, 500,
    501, 502, 503,
];
const HEADERS: [&str; 10] = [
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-remaining-long",
    "x-ratelimit-reset-long",
    "date",
    "set-cookie",
    "content-type",
    "location",
];
const HEADER_TEXTS: [&str; 12] = [
    "0",
    "1",
    "4102444800",
    "18446744073709551616",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Friday, 31-Dec-99 23:59:60 GMT",
    "auth_session=CANARY-other; Max-Age=9223372036854775807",
    "auth_session=CANARY-other; Expires=Fri, 31 Dec 9999 23:59:59 GMT",
    "auth_session=; Max-Age=-1",
    "text/plain",
    "https://elsewhere.example/",
];

/// What is asked of a registry, and what becomes of its replies, in turn.
#[derive(Clone, Debug, TypeGenerator)]
struct Input {
    operation: Operation,
    fates: (Fate, Fate, Fate),
}

#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Operation {
    Register,
    Observe,
    Update,
    Deregister,
    List,
    IssueSecret,
    RevokeSecret,
}

/// What becomes of an honest reply.
#[derive(Clone, Debug, TypeGenerator)]
struct Fate {
    status: Option<u8>,
    headers: Vec<(u8, HeaderText)>,
    content: Content,
}

#[derive(Clone, Debug, TypeGenerator)]
enum HeaderText {
    Telling(u8),
    Number(u64),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug, TypeGenerator)]
enum Content {
    Honest,
    Damaged(Vec<Damage>),
    /// One byte is another one.
    Broken(u16, u8),
    Cut(u16),
    Bytes(Vec<u8>),
    /// What a refusal looks like anywhere, in these words, and by RFC 6749 or not.
    Refusal(Thing, bool),
    /// A refusal that repeats what it was sent.
    Echo,
    /// No reply at all.
    Lost,
}

/// An honest registry and how it is used.
struct Stage {
    registry: Value,
    spec: Value,
    credentials: Credentials,
    /// The request that makes a client.
    creates: &'static str,
    answer: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    given: Box<dyn Fn() -> Vec<String>>,
}

/// The replies that were tampered with: to which request, and their statuses.
type Seen = Arc<Mutex<Vec<(String, Option<u16>)>>>;

#[test]
fn cal_com() {
    fuzz(provider::<CalCom>);
}

#[test]
fn telnyx() {
    fuzz(provider::<Telnyx>);
}

#[test]
fn teable() {
    fuzz(provider::<Teable>);
}

#[test]
fn meteroid() {
    fuzz(provider::<Meteroid>);
}

#[test]
fn dynamic_registration() {
    fuzz(server_of_rfc_7591);
}

fn fuzz(stage: fn() -> Stage) {
    check!().with_iterations(SOME).with_type::<Input>().for_each(|input| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(stage(), input));
    });
}

fn provider<P: Place>() -> Stage {
    let asked = Arc::new(Mutex::new(P::fresh()));
    let answering = Arc::clone(&asked);
    let secrets = P::credentials();
    let text = |member: &str| secrets[member].as_str().map(str::to_owned);
    let credentials = match (text("email"), text("password")) {
        (Some(user), Some(password)) => Credentials::Password { user, password: password.into() },
        _ => Credentials::Bearer(text("token").unwrap().into()),
    };
    let mut spec = json!({"clientName": "App", "redirectUris": ["https://app.example/cb"]});
    spec.as_object_mut().unwrap().extend(P::spec().as_object().unwrap().clone());
    Stage {
        registry: P::registry("https://as.example", "secret"),
        spec,
        credentials,
        creates: P::REGISTER,
        answer: Box::new(move |request| answering.lock().unwrap().answer(request)),
        given: Box::new(move || asked.lock().unwrap().given()),
    }
}

fn server_of_rfc_7591() -> Stage {
    const URL: &str = "https://as.example";
    let answer = |request: &Request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", path) if path.starts_with("/.well-known/") => Reply::json(
            200,
            &json!({
                "issuer": URL,
                "registration_endpoint": format!("{URL}/register"),
                "token_endpoint": format!("{URL}/token"),
            }),
        ),
        ("POST", "/token") => Reply::json(400, &json!({"error": "unauthorized_client"})),
        ("DELETE", _) => Reply::empty(204),
        _ => {
            let mut client = request.json().unwrap_or_else(|| json!({"client_name": "App"}));
            client["client_id"] = json!("id-1");
            client["client_secret"] = json!(format!("{CANARY}-secret"));
            client["client_secret_expires_at"] = json!(0);
            client["registration_access_token"] = json!(format!("{CANARY}-registration"));
            client["registration_client_uri"] = json!(format!("{URL}/register/id-1"));
            Reply::json(201, &client)
        }
    };
    Stage {
        registry: json!({"dynamicRegistration": {"issuer": URL}}),
        spec: json!({"clientName": "App", "redirectUris": ["https://app.example/cb"]}),
        credentials: Credentials::Bearer(format!("{CANARY}-initial").into()),
        creates: "POST /register",
        answer: Box::new(answer),
        given: Box::new(|| {
            ["secret", "registration", "initial"].map(|kind| format!("{CANARY}-{kind}")).into()
        }),
    }
}

async fn play(stage: Stage, input: &Input) {
    let (first, second, third) = &input.fates;
    let fates = [first.clone(), second.clone(), third.clone()];
    let tampering = Arc::new(Mutex::new(false));
    let (seen, begun, answer) = (Seen::default(), tampering.clone(), stage.answer);
    let noted = seen.clone();
    let session = session_answering(&connection(stage.registry.clone()), move |request| {
        let honest = answer(request);
        if !*begun.lock().unwrap() {
            return Some(honest);
        }
        let mut seen = noted.lock().unwrap();
        let reply = fates[seen.len() % fates.len()].befall(honest, request);
        let status = reply.as_ref().map(|reply| reply.status.as_u16());
        seen.push((format!("{} {}", request.method, request.path), status));
        reply
    });
    let registry = open(session, Some(stage.credentials)).unwrap();
    let metadata = registry.normalised(declared(&stage.spec));
    registry.prepare().await.unwrap();
    let known = match input.operation {
        Operation::Register => None,
        _ => Some(registry.register(&wanted(metadata.clone(), "n1")).await.unwrap()),
    };
    *tampering.lock().unwrap() = true;
    let outcome = ask(registry.as_ref(), input.operation, known.as_ref(), &metadata).await;

    let mut secrets = (stage.given)();
    secrets.push(CANARY.to_owned());
    nothing_secret_shows(&outcome, &secrets);
    let seen = seen.lock().unwrap();
    match &outcome {
        Err(error) => a_failure_is_no_guess(input.operation, error, &seen, stage.creates),
        Ok(clients) if clients.is_empty() => absence_was_told(input.operation, &seen),
        Ok(clients) => clients.iter().for_each(can_be_stored),
    }
}

fn declared(spec: &Value) -> ClientMetadata {
    let mut spec = spec.clone();
    spec["registryRef"] = json!({"name": "registry"});
    let object: OAuthClient =
        serde_json::from_value(json!({"metadata": {"name": "app"}, "spec": spec})).unwrap();
    ClientMetadata::declared(&object)
}

/// The clients that the registry told of.
async fn ask(
    registry: &dyn Registry,
    operation: Operation,
    known: Option<&Client>,
    metadata: &ClientMetadata,
) -> Result<Vec<Client>, Error> {
    let nobody = Client::named("nobody", crate::registry::Management::Registry);
    let client = known.unwrap_or(&nobody);
    Ok(match operation {
        Operation::Register => vec![registry.register(&wanted(metadata.clone(), "n1")).await?],
        Operation::Observe => registry.observe(client).await?.into_iter().collect(),
        Operation::Update => registry.update(client, metadata, &[]).await?.into_iter().collect(),
        Operation::List => registry.list().await?,
        Operation::Deregister => registry.deregister(client).await.map(|()| vec![client.clone()])?,
        Operation::RevokeSecret => {
            registry.revoke_secret(client, "secret-1").await.map(|()| vec![client.clone()])?
        }
        Operation::IssueSecret => {
            let issued = registry.issue_secret(client).await?;
            let shown = format!("{issued:?}");
            assert!(!shown.contains(CANARY) || issued.hint.is_some(), "{shown}");
            vec![Client { client_secret: Some(issued.secret), secret_id: issued.id, ..client.clone() }]
        }
    })
}

fn nothing_secret_shows(outcome: &Result<Vec<Client>, Error>, secrets: &[String]) {
    let text = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let shown = format!("{text} {outcome:?} {outcome:#?}");
    for secret in secrets {
        assert!(!shown.contains(secret.as_str()), "{secret} shows: {shown}");
    }
    assert!(text.len() <= LONGEST_TEXT, "{} bytes: {text}", text.len());
    assert!(!text.contains(char::is_control), "unprintable: {text:?}");
}

fn a_failure_is_no_guess(operation: Operation, error: &Error, seen: &[(String, Option<u16>)], creates: &str) {
    if let Kind::Throttled(wait) = error.kind {
        assert!(wait <= LONGEST_SILENCE, "{wait:?}");
    }
    let last = seen.iter().rfind(|(line, _)| line == creates);
    if let (Operation::Register, Some((_, None | Some(200..=299 | 500..)))) = (operation, last) {
        assert_eq!(error.kind, Kind::Ambiguous, "a client may have been made: {error} {seen:?}");
    }
}

fn absence_was_told(operation: Operation, seen: &[(String, Option<u16>)]) {
    let told = seen.iter().any(|(_, status)| matches!(status, Some(400 | 401 | 404 | 410 | 500)));
    assert!(told || matches!(operation, Operation::List), "nobody said that it is gone: {seen:?}");
}

/// What a registry shows has to fit where credentials are kept, and comes out of there as it went in.
fn can_be_stored(client: &Client) {
    let id = &client.client_id;
    for id in [id].into_iter().chain(&client.registration_id).chain(&client.account_id) {
        assert!((1..=1024).contains(&id.chars().count()) && !id.contains(char::is_control), "{id:?}");
    }
    assert!(client.secret_hint.as_ref().is_none_or(|hint| hint.chars().count() <= 256), "a hint for status");
    assert!(
        client.registered_at.is_none_or(|at| at >= Timestamp::UNIX_EPOCH),
        "a year that Kubernetes takes"
    );
    let stored = Record { client: client.clone(), ..record(ClientMetadata::default()) };
    let secret = stored.to_secret("ns", "installation").unwrap();
    let size: usize = secret.data.iter().flatten().map(|(key, value)| key.len() + value.0.len()).sum();
    assert!(size <= ROOM_IN_A_SECRET, "{size} bytes");
    let beside = stored.to_annotation("client_secret").unwrap().len();
    assert!(beside <= ROOM_IN_ANNOTATIONS, "{beside} bytes");
    let read = Record::read(&secret).unwrap().client;
    assert!(read.has_credentials_of(client), "the same credentials");
    assert_eq!((&read.client_id, read.managed_id()), (id, client.managed_id()));
}

impl Fate {
    fn befall(&self, honest: Reply, request: &Request) -> Option<Reply> {
        let mut reply = self.content.befall(honest, request)?;
        if let Some(at) = self.status {
            reply.status = StatusCode::from_u16(STATUSES[usize::from(at) % STATUSES.len()]).unwrap();
        }
        for (at, text) in &self.headers {
            let name = HeaderName::from_static(HEADERS[usize::from(*at) % HEADERS.len()]);
            if let Some(value) = text.value() {
                reply.headers.append(name, value);
            }
        }
        Some(reply)
    }
}

impl HeaderText {
    fn value(&self) -> Option<HeaderValue> {
        match self {
            Self::Telling(at) => {
                Some(HeaderValue::from_static(HEADER_TEXTS[usize::from(*at) % HEADER_TEXTS.len()]))
            }
            Self::Number(number) => Some((*number).into()),
            Self::Bytes(bytes) => HeaderValue::from_bytes(bytes).ok(),
        }
    }
}

impl Content {
    fn befall(&self, mut honest: Reply, request: &Request) -> Option<Reply> {
        let mut body = honest.body.to_vec();
        match self {
            Self::Honest => {}
            Self::Damaged(damages) => {
                let mut document = serde_json::from_slice(&body).unwrap_or_default();
                Damage::done(damages, &mut document);
                body = document.to_string().into();
            }
            Self::Broken(at, byte) => {
                let at = usize::from(*at) % body.len().max(1);
                body.splice(at..body.len().min(at + 1), [*byte]);
            }
            Self::Cut(at) => body.truncate(usize::from(*at) % (body.len() + 1)),
            Self::Bytes(bytes) => body.clone_from(bytes),
            Self::Refusal(words, plain) => return Some(refusal(&words.text(), *plain)),
            Self::Echo => return Some(refusal(&echo(request), true)),
            Self::Lost => return None,
        }
        honest.body = body.into();
        Some(honest)
    }
}

/// A refusal in the words of all registries at once.
fn refusal(words: &str, plain: bool) -> Reply {
    let error = if plain { json!(words) } else { json!({"code": words, "message": words}) };
    let body = json!({
        "status": "error", "code": words, "message": words, "error": error, "error_description": words,
        "errors": [{"code": words, "title": words, "detail": words}],
    });
    Reply::json(400, &body)
}

fn echo(request: &Request) -> String {
    let headers = ["authorization", "cookie"].map(|name| request.header(name).unwrap_or_default().to_owned());
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let body = if request.method == Method::POST { body } else { String::new() };
    format!("what is {} {body}?", headers.concat())
}
