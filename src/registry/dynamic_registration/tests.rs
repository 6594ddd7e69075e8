//! The driver against a scripted registry in memory: what real servers do beside the letter, and what a hostile one might do.

use std::{fmt::Debug, sync::Mutex};

use http::header::RETRY_AFTER;

use super::*;
use crate::{
    api::{DriftReads, RateLimit, RegistryConnection, UnknownOutcome},
    metrics::Metrics,
    registry::{
        Retry,
        transport::{Connect, Route, Transport, TransportError},
    },
};

/// Part of every credential here. No error text and no `Debug` may ever show it.
const CANARY: &str = "c4n4ry";
/// With characters that must not stand as they are in a header of RFC 7617 or in a form.
const SECRET: &str = "c4n4ry secret:/%+é";
const TOKEN: &str = "c4n4ry-token";
const INITIAL: &str = "c4n4ry-initial";

const ISSUER: &str = "https://as.example";
const REGISTER: &str = "https://as.example/register";
const MANAGED: &str = "https://as.example/register/id-1";
const TOKENS: &str = "https://as.example/token";
const METADATA: &str = "https://as.example/.well-known/oauth-authorization-server";

/// What the registry answers.
#[derive(Clone)]
enum Reply {
    Empty(u16),
    Json(u16, Value),
    Raw(u16, Vec<u8>),
    /// With `Retry-After`.
    Later(u16, &'static str),
    Interrupted,
    NotSent,
}

use Reply::{Empty, Interrupted, Json, Later, NotSent, Raw};

impl From<Reply> for Result<Response, TransportError> {
    fn from(reply: Reply) -> Self {
        let (status, after, body) = match reply {
            Empty(status) => (status, None, Vec::new()),
            Json(status, body) => (status, None, body.to_string().into_bytes()),
            Raw(status, body) => (status, None, body),
            Later(status, after) => (status, Some(after), Vec::new()),
            Interrupted => return Err(TransportError::Interrupted("the connection broke".into())),
            NotSent => return Err(TransportError::NotSent("no connection".into())),
        };
        let after = after.map(|after| (RETRY_AFTER, HeaderValue::from_static(after)));
        let headers = after.into_iter().collect();
        Ok(Response { status: StatusCode::from_u16(status).unwrap(), headers, body: body.into() })
    }
}

/// A request, as the registry saw it.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    method: Method,
    url: String,
    authorization: Given,
    body: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Given {
    Nothing,
    Bearer(String),
    Basic(String, String),
}

/// A registry that answers from a script and remembers what it was asked.
struct Scripted<F> {
    script: F,
    sent: Arc<Mutex<Vec<Sent>>>,
}

#[async_trait]
impl<F: Fn(&Sent) -> Reply + Send + Sync> Transport for Scripted<F> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let sent = Sent {
            method: request.method,
            url: request.url.into(),
            authorization: match request.authorization {
                Authorization::None => Given::Nothing,
                Authorization::Bearer(token) => Given::Bearer(token.expose_secret().into()),
                Authorization::Basic(user, password) => Given::Basic(user, password.expose_secret().into()),
            },
            body: match request.body {
                Body::Empty => Value::Null,
                Body::Json(bytes) => serde_json::from_slice(&bytes).unwrap(),
                Body::Form(bytes) => String::from_utf8(bytes.to_vec()).unwrap().into(),
            },
        };
        self.sent.lock().unwrap().push(sent.clone());
        (self.script)(&sent).into()
    }
}

struct Connects(Arc<dyn Transport>);

impl Connect for Connects {
    fn connect(&self, _: &Route) -> Result<Arc<dyn Transport>, String> {
        Ok(self.0.clone())
    }
}

/// A driver, the session below it, and what the registry was asked. Each outcome is searched for credentials on its way.
struct World {
    driver: DynamicRegistration,
    session: Arc<Session>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl World {
    fn open(
        settings: Settings,
        rate_limit: Option<RateLimit>,
        script: impl Fn(&Sent) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let sent = Arc::default();
        let transport = Scripted { script, sent: Arc::clone(&sent) };
        let connection = RegistryConnection {
            dynamic_registration: Some(settings.clone()),
            drift_interval: None,
            timeout: None,
            rate_limit,
            tls: None,
            proxy_url: None,
            insecure_http: false,
        };
        let connects = Connects(Arc::new(transport));
        let session = Arc::new(Session::open(&connection, &connects, Arc::new(Metrics::new())).unwrap());
        let driver = DynamicRegistration::new(settings, Arc::clone(&session), Some(INITIAL.into())).unwrap();
        Self { driver, session, sent }
    }

    /// A registry that publishes its metadata and otherwise follows the script.
    fn new(script: impl Fn(&Sent) -> Reply + Send + Sync + 'static) -> Self {
        Self::open(issuer(ISSUER), None, move |sent| match sent.url.as_str() {
            METADATA => Json(200, metadata()),
            _ => script(sent),
        })
    }

    /// A registry that publishes its metadata and has the same answer for everything else.
    fn always(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    /// The same with a JSON body.
    fn answering(status: u16, body: Value) -> Self {
        Self::always(Json(status, body))
    }

    /// All requests since the last time.
    fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    fn urls(&self) -> Vec<String> {
        self.sent().into_iter().map(|sent| format!("{} {}", sent.method, sent.url)).collect()
    }

    /// The last request.
    fn last(&self) -> Sent {
        self.sent().pop().expect("a request")
    }

    async fn prepare(&self) -> Result<(), Error> {
        searched(self.driver.prepare().await)
    }

    async fn register(&self, declared: &ClientMetadata) -> Result<Client, Error> {
        let wanted = Wanted { metadata: declared.clone(), software_id: "software-1".into() };
        searched(self.driver.register(&wanted).await)
    }

    async fn observe(&self, client: &Client) -> Result<Option<Client>, Error> {
        searched(self.driver.observe(client).await)
    }

    async fn update(
        &self,
        client: &Client,
        declared: &ClientMetadata,
        reset: &[Field],
    ) -> Result<Option<Client>, Error> {
        searched(self.driver.update(client, declared, reset).await)
    }

    async fn deregister(&self, client: &Client) -> Result<(), Error> {
        searched(self.driver.deregister(client).await)
    }

    /// One of the three operations on a client: whether it is still there afterwards.
    async fn manage(&self, operation: &Method, client: &Client) -> Result<bool, Kind> {
        let outcome = match *operation {
            Method::GET => self.observe(client).await.map(|found| found.is_some()),
            Method::PUT => self.update(client, &named("new"), &[]).await.map(|found| found.is_some()),
            _ => self.deregister(client).await.map(|()| false),
        };
        outcome.map_err(|error| error.kind)
    }
}

/// Fails if a credential shows.
fn searched<T: Debug>(outcome: Result<T, Error>) -> Result<T, Error> {
    let text = outcome.as_ref().err().map(ToString::to_string);
    let shown = format!("{outcome:?} {outcome:#?} {text:?}");
    assert!(!shown.contains(CANARY), "a credential shows: {shown}");
    outcome
}

fn issuer(url: &str) -> Settings {
    Settings {
        issuer: Some(WebUri(url.into())),
        registration_endpoint: None,
        initial_access_token_secret_ref: None,
        unknown_outcome: UnknownOutcome::default(),
        drift_reads: DriftReads::default(),
    }
}

fn endpoint(url: &str) -> Settings {
    Settings { issuer: None, registration_endpoint: Some(WebUri(url.into())), ..issuer(url) }
}

fn metadata() -> Value {
    json!({"issuer": ISSUER, "registration_endpoint": REGISTER, "token_endpoint": TOKENS})
}

fn declared<const N: usize>(members: [(Field, Value); N]) -> ClientMetadata {
    ClientMetadata(members.into())
}

fn named(name: &str) -> ClientMetadata {
    declared([(Field::ClientName, json!(name))])
}

/// A server's information about client `id-1`, with every credential, and these members.
fn information(members: &Value) -> Value {
    let mut body = json!({
        "client_id": "id-1", "client_secret": SECRET, "client_secret_expires_at": 0,
        "registration_access_token": TOKEN, "registration_client_uri": MANAGED,
    });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

/// Client `id-1`, as it came from its registration.
fn client() -> Client {
    Client {
        client_id: "id-1".into(),
        client_secret: Some(SECRET.into()),
        client_secret_expires_at: None,
        registered_at: None,
        management: Management::Token { uri: Url::parse(MANAGED).unwrap(), token: TOKEN.into() },
        document: Document::new(),
    }
}

fn secret(client: &Client) -> Option<&str> {
    client.client_secret.as_ref().map(ExposeSecret::expose_secret)
}

fn managed(client: &Client) -> Result<(&str, &str), &str> {
    match &client.management {
        Management::Token { uri, token } => Ok((uri.as_str(), token.expose_secret())),
        Management::None(why) => Err(why),
    }
}

fn without(value: &Value, members: &[&str]) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().retain(|member, _| !members.contains(&member.as_str()));
    value
}

mod discovery {
    use super::*;

    #[tokio::test]
    async fn metadata_is_looked_for_where_the_standards_put_it() {
        let rows = [
            (ISSUER, vec!["https://as.example/.well-known/oauth-authorization-server"], "RFC 8414 section 3"),
            (
                "https://as.example/tenant",
                vec!["https://as.example/.well-known/oauth-authorization-server/tenant"],
                "the issuer's path goes behind the well-known one",
            ),
            (
                "https://as.example/tenant/",
                vec!["https://as.example/.well-known/oauth-authorization-server/tenant"],
                "a slash at its end goes first (RFC 8414 section 3.1)",
            ),
            (
                "https://as.example/a%20b",
                vec!["https://as.example/.well-known/oauth-authorization-server/a%20b"],
                "what is encoded stays so",
            ),
            (
                "https://as.example/tenant",
                vec![
                    "https://as.example/.well-known/oauth-authorization-server/tenant",
                    "https://as.example/tenant/.well-known/openid-configuration",
                ],
                "OpenID Connect Discovery section 4 puts it before the well-known one",
            ),
        ];
        for (url, expected, reason) in rows {
            let last = (*expected.last().unwrap()).to_owned();
            let world = World::open(issuer(url), None, move |sent| {
                if sent.url == last {
                    Json(200, json!({"issuer": url, "registration_endpoint": REGISTER}))
                } else {
                    Empty(404)
                }
            });
            world.prepare().await.expect(reason);
            let sent = world.sent();
            assert_eq!(sent.iter().map(|s| s.url.as_str()).collect::<Vec<_>>(), expected, "{reason}");
            assert!(sent.iter().all(|s| s.authorization == Given::Nothing), "no credential is needed here");
        }
    }

    #[tokio::test]
    async fn a_first_document_that_is_of_no_use_does_not_hide_a_good_second_one() {
        let rows = [
            (Empty(404), "it is not there"),
            (Empty(401), "some put everything unknown behind a login"),
            (Empty(302), "and some redirect there"),
            (Raw(200, b"<html>app</html>".to_vec()), "a single-page app answers everything"),
            (Json(200, json!(["x"])), "no object"),
            (Json(200, json!({"issuer": "https://as.example/other"})), "another issuer's"),
            (Json(200, json!({"issuer": ISSUER})), "OAuth metadata without registration, OpenID's with it"),
        ];
        for (first, reason) in rows {
            let world = World::open(issuer(ISSUER), None, move |sent| match sent.url.as_str() {
                METADATA => first.clone(),
                _ => Json(200, metadata()),
            });
            assert_eq!(world.prepare().await, Ok(()), "{reason}");
        }
    }

    #[tokio::test]
    async fn metadata_that_cannot_be_trusted_is_refused_and_says_why() {
        let saying = |member: &str, value: Value| {
            let mut body = metadata();
            body[member] = value;
            Json(200, body)
        };
        let rows = [
            (
                saying("issuer", json!("https://evil.example")),
                "https://evil.example",
                "it must speak for the issuer it was asked for (RFC 8414 section 3.3)",
            ),
            (
                saying("issuer", json!("https://as.example/")),
                "\"https://as.example/\"",
                "apps compare `iss` exactly, so the issuer that goes into their Secret must be exact",
            ),
            (saying("issuer", json!(7)), "issuer", "no issuer at all"),
            (
                saying("registration_endpoint", json!("https://evil.example/register")),
                "another origin (https://evil.example)",
                "the initial access token goes nowhere else",
            ),
            (
                saying("registration_endpoint", json!("http://as.example/register")),
                "another origin",
                "the scheme is part of the origin",
            ),
            (
                saying("registration_endpoint", json!("https://as.example:8443/register")),
                "another origin",
                "the port is part of the origin",
            ),
            (
                saying("registration_endpoint", json!("https://user:c4n4ry@as.example/register")),
                "user information",
                "it would send credentials of the server's choice beside ours",
            ),
            (saying("registration_endpoint", json!("/register")), "not a URL", "relative"),
            (saying("registration_endpoint", Value::Null), "is off", "what to do: switch it on"),
            (Raw(200, b"<html>c4n4ry</html>".to_vec()), "no JSON", "a web page, of which nothing is quoted"),
            (Json(200, json!([CANARY])), "no object", "JSON, but no object"),
            (Empty(404), "answered 404", "no metadata"),
            (Empty(302), "redirect (302)", "never followed"),
            (Empty(307), "redirect (307)", "never followed"),
        ];
        for (reply, expected, reason) in rows {
            let world = World::open(issuer(ISSUER), None, move |_| reply.clone());
            let error = world.prepare().await.expect_err(reason);
            assert_eq!(error.kind, Kind::Protocol, "{reason}: {error}");
            assert!(error.summary.contains(expected), "{reason}: {error}");
            assert!(error.summary.len() < 1000, "it fits into a condition: {error}");
            assert_eq!(world.urls().len(), 2, "both places were tried: {reason}");
            let error = world.register(&named("x")).await.expect_err(reason);
            assert_eq!(error.kind, Kind::Protocol, "no registration is sent: {reason}");
            assert!(world.sent().iter().all(|sent| sent.method == Method::GET), "{reason}");
        }
    }

    #[tokio::test]
    async fn an_origin_that_a_registry_names_is_quoted_in_bounds() {
        let long = format!("https://{}.example/register", "x".repeat(100_000));
        let world = World::open(issuer(ISSUER), None, move |_| {
            Json(200, json!({"issuer": ISSUER, "registration_endpoint": long}))
        });
        let error = world.prepare().await.unwrap_err();
        assert!(error.summary.len() < 1000, "it goes into an annotation and into logs");
    }

    #[tokio::test]
    async fn a_server_that_fails_is_not_a_server_without_metadata() {
        for (reply, reason) in [
            (Empty(500), "5xx"),
            (Empty(503), "5xx"),
            (Interrupted, "an answer that broke off"),
            (NotSent, "no connection"),
        ] {
            let world = World::open(issuer(ISSUER), None, move |_| reply.clone());
            assert_eq!(world.prepare().await.unwrap_err().kind, Kind::Unavailable, "{reason}");
            assert_eq!(world.urls().len(), 1, "the next place would fail as well: {reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn metadata_is_read_once_and_again_after_an_hour_or_a_failure() {
        let (fails, failing) = tokio::sync::watch::channel(false);
        let world =
            World::new(
                move |_| {
                    if *failing.borrow() { Interrupted } else { Json(200, information(&json!({}))) }
                },
            );
        for _ in 0..3 {
            world.prepare().await.unwrap();
        }
        assert_eq!(world.urls(), [format!("GET {METADATA}")], "once");
        tokio::time::advance(Duration::from_mins(61)).await;
        world.prepare().await.unwrap();
        assert_eq!(world.urls(), [format!("GET {METADATA}")], "after an hour");
        fails.send(true).unwrap();
        assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable);
        fails.send(false).unwrap();
        world.sent();
        world.prepare().await.unwrap();
        assert_eq!(world.urls(), [format!("GET {METADATA}")], "the server may have come back as another");
    }

    #[tokio::test]
    async fn an_explicit_endpoint_needs_no_metadata_and_knows_no_issuer() {
        let world = World::open(endpoint("https://as.example/r?tenant=a"), None, |_| {
            Json(201, information(&json!({})))
        });
        world.prepare().await.unwrap();
        world.register(&named("x")).await.unwrap();
        assert_eq!(world.urls(), ["POST https://as.example/r?tenant=a"], "and nothing else");
        assert_eq!(world.driver.issuer(), None);
        assert_eq!(world.driver.origin(), "https://as.example", "where credentials may go");
    }

    #[tokio::test]
    async fn a_token_endpoint_elsewhere_is_no_witness() {
        let world = World::open(issuer(ISSUER), None, |sent| match sent.url.as_str() {
            METADATA => Json(
                200,
                json!({"issuer": ISSUER, "registration_endpoint": REGISTER, "token_endpoint": "https://evil.example/token"}),
            ),
            _ => Json(401, json!({"error": "invalid_client"})),
        });
        let error = world.observe(&client()).await.unwrap_err();
        assert_eq!(error.kind, Kind::ManagementLost, "the secret is not sent there to ask");
        assert!(world.sent().iter().all(|sent| sent.url.starts_with(ISSUER)));
    }
}

mod registration {
    use super::*;

    #[tokio::test]
    async fn a_registration_says_what_is_declared_and_what_servers_need_besides() {
        let basic = "client_secret_basic";
        let rows = [
            (
                declared([]),
                json!({"token_endpoint_auth_method": basic}),
                "some issue no secret when the method is left out; nothing else is assumed",
            ),
            (
                declared([
                    (Field::GrantTypes, json!(["client_credentials"])),
                    (Field::Scopes, json!(["a", "b:c"])),
                ]),
                json!({
                    "grant_types": ["client_credentials"], "response_types": [], "redirect_uris": [],
                    "scope": "a b:c", "token_endpoint_auth_method": basic,
                }),
                "a machine client: left out, `code` would be assumed and redirect URIs demanded",
            ),
            (
                declared([
                    (Field::GrantTypes, json!(["authorization_code", "refresh_token"])),
                    (Field::RedirectUris, json!(["https://app.example/cb"])),
                ]),
                json!({
                    "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
                    "redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": basic,
                }),
                "authorization_code goes with code (RFC 7591 section 2.1)",
            ),
            (
                declared([(Field::GrantTypes, json!(["urn:ietf:params:oauth:grant-type:device_code"]))]),
                json!({
                    "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"], "response_types": [],
                    "redirect_uris": [], "token_endpoint_auth_method": basic,
                }),
                "a device does not redirect",
            ),
            (
                declared([(Field::RedirectUris, json!(["https://app.example/cb"]))]),
                json!({"redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": basic}),
                "without declared grants the server's defaults for both agree",
            ),
            (
                declared([(Field::TokenEndpointAuthMethod, json!("none"))]),
                json!({"token_endpoint_auth_method": "none"}),
                "a declared method stays",
            ),
            (
                declared([(Field::JwksUri, json!("https://app.example/jwks"))]),
                json!({
                    "jwks_uri": "https://app.example/jwks", "token_endpoint_auth_method": "private_key_jwt",
                }),
                "who has keys of its own proves itself by them",
            ),
            (
                declared([
                    (Field::LogoUri, json!("")),
                    (Field::Scopes, json!([])),
                    (Field::Contacts, json!([])),
                ]),
                json!({"contacts": [], "token_endpoint_auth_method": basic}),
                "managed and empty: strict servers refuse an empty string, and absent means the same",
            ),
        ];
        for (declared, mut expected, reason) in rows {
            let world = World::answering(201, information(&json!({})));
            world.register(&declared).await.expect(reason);
            let sent = world.last();
            expected["software_id"] = json!("software-1");
            assert_eq!(sent.body, expected, "{reason}");
            assert_eq!((sent.method, sent.url.as_str()), (Method::POST, REGISTER), "{reason}");
        }
    }

    #[tokio::test]
    async fn the_initial_access_token_is_a_bearer_and_without_one_there_is_no_header() {
        let mut world = World::answering(201, information(&json!({})));
        world.register(&named("x")).await.unwrap();
        assert_eq!(world.last().authorization, Given::Bearer(INITIAL.into()), "RFC 7591 section 3");
        world.driver.initial_access_token = None;
        world.register(&named("x")).await.unwrap();
        assert_eq!(world.last().authorization, Given::Nothing, "open registration");
    }

    #[tokio::test]
    async fn a_token_that_no_header_can_hold_is_found_before_anything_is_announced() {
        let mut world = World::answering(201, information(&json!({})));
        for token in ["c4n4ry\nmore", "c4n4ry\u{0}"] {
            world.driver.initial_access_token = Some(token.into());
            let error = world.prepare().await.unwrap_err();
            assert_eq!(
                error.kind,
                Kind::Unauthorized,
                "the breaker would else hear of a silent registry: {error}"
            );
            assert!(error.summary.contains("initialAccessTokenSecretRef"), "what to mend: {error}");
        }
        assert_eq!(world.urls(), [""; 0]);
    }

    #[tokio::test]
    async fn a_reply_is_read_as_real_servers_write_it() {
        let at = |seconds| Timestamp::from_second(seconds).ok();
        let rows = [
            (201, json!({}), (None, None), "RFC 7591 section 3.2.1; 0 is never"),
            (200, json!({}), (None, None), "Glewlwyd answers 200"),
            (202, json!({}), (None, None), "any success with a client in it is one"),
            (
                201,
                json!({"client_id_issued_at": 1_700_000_000, "client_secret_expires_at": 1_900_000_000}),
                (at(1_700_000_000), at(1_900_000_000)),
                "seconds",
            ),
            (
                201,
                json!({"client_id_issued_at": "1700000000", "client_secret_expires_at": "1900000000"}),
                (at(1_700_000_000), at(1_900_000_000)),
                "seconds as a string",
            ),
            (
                201,
                json!({"client_id_issued_at": "today", "client_secret_expires_at": -1}),
                (None, None),
                "nonsense is not told",
            ),
            (
                201,
                json!({"client_id_issued_at": i64::MAX, "client_secret_expires_at": u64::MAX}),
                (None, None),
                "no moment that a calendar knows",
            ),
        ];
        for (status, members, (issued, expires), reason) in rows {
            let world = World::answering(status, information(&members));
            let client = world.register(&named("x")).await.expect(reason);
            assert_eq!(client.client_id, "id-1", "{reason}");
            assert_eq!(secret(&client), Some(SECRET), "{reason}");
            assert_eq!(managed(&client), Ok((MANAGED, TOKEN)), "{reason}");
            assert_eq!(
                (client.registered_at, client.client_secret_expires_at),
                (issued, expires),
                "{reason}"
            );
        }
    }

    #[tokio::test]
    async fn a_client_is_not_lost_for_the_encoding_of_its_name() {
        let body = |name: &[u8]| {
            let text = information(&json!({"client_secret": "c4n4ry", "client_name": "NAME"})).to_string();
            let at = text.find("NAME").unwrap();
            [&text.as_bytes()[..at], name, &text.as_bytes()[at + 4..]].concat()
        };
        let rows = [
            (body("Café".as_bytes()), "Café", "UTF-8, as RFC 8259 section 8.1 wants it"),
            (body(b"Caf\xe9"), "Caf\u{fffd}", "another charset: the name is spoilt, the credentials are not"),
            ([b"\xef\xbb\xbf".to_vec(), body(b"x")].concat(), "x", "a byte order mark may be ignored"),
        ];
        for (body, name, reason) in rows {
            let world = World::always(Raw(201, body));
            let client = world.register(&named("x")).await.expect(reason);
            assert_eq!(client.document["client_name"], name, "{reason}");
            assert_eq!(secret(&client), Some("c4n4ry"), "{reason}");
        }
    }

    #[tokio::test]
    async fn a_success_that_cannot_be_understood_leaves_the_outcome_open() {
        let id = |id: Value| Json(201, information(&json!({"client_id": id})));
        let rows = [
            (Raw(200, b"<html>c4n4ry</html>".to_vec()), "a web page"),
            (Json(201, json!([information(&json!({}))])), "a list of clients"),
            (Raw(201, br#"{"client_id": "id-1", "client_secret": "c4n4ry"#.to_vec()), "cut off"),
            (Raw(201, b"[".repeat(100_000)), "too deep to read"),
            (Json(201, without(&information(&json!({})), &["client_id"])), "no client_id"),
            (id(json!("")), "an empty client_id"),
            (id(Value::Null), "no client_id"),
            (id(json!("x".repeat(1025))), "an id that status cannot hold"),
            (id(json!("id\n1\u{1b}[31m")), "an id that rewrites logs"),
            (Empty(204), "nothing at all"),
        ];
        for (reply, reason) in rows {
            let world = World::always(reply);
            let error = world.register(&named("x")).await.expect_err(reason);
            assert_eq!(error.kind, Kind::Ambiguous, "the registry may have made a client: {reason}: {error}");
        }
        let odd = "dyn$ /?#:%26+<é>";
        let world = World::new(move |_| Json(201, information(&json!({"client_id": odd}))));
        assert_eq!(world.register(&named("x")).await.unwrap().client_id, odd, "an odd id is only odd");
    }

    #[tokio::test]
    async fn a_registration_that_was_not_done_is_told_from_one_that_may_have_been() {
        let error = |error: &str| json!({"error": error, "error_description": "words"});
        let rows = [
            (NotSent, Kind::Unavailable, "no byte left: definitely not done"),
            (Interrupted, Kind::Ambiguous, "it may have arrived"),
            (Empty(500), Kind::Ambiguous, "it may have failed behind the commit"),
            (Empty(502), Kind::Ambiguous, "the proxy does not know either"),
            (Empty(503), Kind::Ambiguous, "a 503 may come from behind the commit as well"),
            (Empty(504), Kind::Ambiguous, "the proxy gave up"),
            (Empty(408), Kind::Ambiguous, "a server that gave up reading, or doing"),
            (Empty(303), Kind::Ambiguous, "done, see there"),
            (Empty(301), Kind::Protocol, "never followed"),
            (Empty(307), Kind::Protocol, "never followed"),
            (Empty(308), Kind::Protocol, "never followed"),
            (Json(400, error("invalid_redirect_uri")), Kind::Rejected, "RFC 7591 section 3.2.2"),
            (Json(400, error("invalid_client_metadata")), Kind::Rejected, "RFC 7591 section 3.2.2"),
            (
                Raw(400, b"<html>c4n4ry</html>".to_vec()),
                Kind::Rejected,
                "Canaille's page for a body it cannot read",
            ),
            (Json(401, error("invalid_token")), Kind::Unauthorized, "RFC 6750 section 3.1"),
            (Empty(401), Kind::Unauthorized, "Glewlwyd says no more than that"),
            (Json(403, error("insufficient_scope")), Kind::Unauthorized, "RFC 6750 section 3.1"),
            (Json(400, error("access_denied")), Kind::Unauthorized, "Canaille's way to refuse a token"),
            (Json(400, error("invalid_token")), Kind::Unauthorized, "the code counts, not the status"),
            (Empty(404), Kind::Protocol, "nothing is there"),
            (Empty(405), Kind::Protocol, "something else is there"),
            (Empty(409), Kind::Conflict, "Hydra's duplicate"),
            (Empty(422), Kind::Rejected, "refused"),
        ];
        for (reply, kind, reason) in rows {
            let world = World::always(reply);
            let error = world.register(&named("x")).await.expect_err(reason);
            assert_eq!(error.kind, kind, "{reason}: {error}");
            let posts = world.sent().into_iter().filter(|sent| sent.method == Method::POST).count();
            assert_eq!(posts, 1, "sent once, whatever happens: {reason}");
        }
    }

    #[tokio::test]
    async fn refusals_of_the_token_are_asked_again_and_refusals_of_the_client_are_not() {
        for (error, retry, reason) in [
            ("access_denied", Retry::Slowly, "the token may be mended in its Secret, which no watch shows"),
            ("invalid_redirect_uri", Retry::OnChange, "only another declaration helps"),
        ] {
            let world = World::answering(400, json!({"error": error}));
            let error = world.register(&named("x")).await.unwrap_err();
            assert_eq!(error.kind.retry(), retry, "{reason}");
        }
    }

    #[tokio::test]
    async fn the_servers_words_are_repeated_without_the_secrets_we_know() {
        let description = format!("bad uri; you sent {INITIAL} and {TOKEN} and {SECRET}\n\u{1b}[2J");
        let body = json!({"error": "invalid_redirect_uri", "error_description": description});
        let world = World::answering(400, without(&body, &["error_description"]));
        let error = world.register(&named("x")).await.unwrap_err();
        assert!(error.summary.ends_with("400 (invalid_redirect_uri)"), "{error}");

        let only_initial = format!("bad uri; you sent {INITIAL}");
        let world = World::answering(400, json!({"error": "e", "error_description": only_initial}));
        let error = world.register(&named("x")).await.unwrap_err();
        assert!(error.summary.ends_with("(e: bad uri; you sent [redacted])"), "{error}");

        let of_the_client = format!("bad uri; you sent {TOKEN} and {SECRET}\n\u{1b}[2J");
        let world = World::answering(400, json!({"error": "e", "error_description": of_the_client}));
        let error = world.update(&client(), &named("x"), &[]).await.unwrap_err();
        assert!(error.summary.ends_with("(e: bad uri; you sent [redacted] and [redacted]  [2J)"), "{error}");

        let long = json!({"error": "e".repeat(10_000), "error_description": "d".repeat(10_000)});
        let world = World::answering(400, long);
        let error = world.register(&named("x")).await.unwrap_err();
        assert!(error.summary.len() < 600, "bounded: {}", error.summary.len());
    }

    #[tokio::test]
    async fn a_client_is_managed_only_where_its_token_may_go() {
        let token = Some(TOKEN);
        let rows = [
            (token, Some(MANAGED), Ok(MANAGED), "RFC 7592 section 3"),
            (
                token,
                Some("https://as.example/reg?client_id=id-1"),
                Ok("https://as.example/reg?client_id=id-1"),
                "IBM's query form, verbatim",
            ),
            (token, Some("https://evil.example/id-1"), Err("https://evil.example"), "another host"),
            (token, Some("http://as.example/id-1"), Err("http://as.example"), "another scheme"),
            (token, Some("https://as.example:444/id-1"), Err(":444"), "another port"),
            (
                token,
                Some("https://u:c4n4ry@as.example/id-1"),
                Err("user information"),
                "credentials of the server's choice",
            ),
            (token, Some("/register/id-1"), Err("not a URL"), "relative"),
            (token, Some("data:,x"), Err("another origin"), "an origin that is nowhere"),
            (token, None, Err("registration_client_uri"), "a token, but nowhere to go with it"),
            (None, Some(MANAGED), Err("registration_access_token"), "a place, but no token"),
            (Some(""), Some(MANAGED), Err("registration_access_token"), "an empty token is none"),
            (Some("c4n4ry\n"), Some(MANAGED), Err("registration_access_token"), "no header could hold it"),
            (None, None, Err("registration_access_token"), "RFC 7591 alone: Auth0, Duende, Doorkeeper"),
        ];
        for (token, uri, expected, reason) in rows {
            let body =
                information(&json!({"registration_access_token": token, "registration_client_uri": uri}));
            let world = World::answering(201, body);
            let client = world.register(&named("x")).await.expect(reason);
            assert_eq!(secret(&client), Some(SECRET), "the credentials count in any case: {reason}");
            match (expected, managed(&client)) {
                (Ok(uri), managed) => assert_eq!(managed, Ok((uri, TOKEN)), "{reason}"),
                (Err(words), Err(why)) => assert!(why.contains(words), "{reason}: {why}"),
                (Err(_), Ok(managed)) => panic!("{reason}: managed at {}", managed.0),
            }
            if expected.is_err() {
                world.sent();
                for operation in [Method::GET, Method::PUT, Method::DELETE] {
                    let outcome = world.manage(&operation, &client).await;
                    assert_eq!(outcome, Err(Kind::Unsupported), "{operation}: {reason}");
                }
                assert_eq!(world.urls(), [""; 0], "no token left: {reason}");
            }
        }
    }

    #[tokio::test]
    async fn a_token_stays_home_even_if_a_record_says_otherwise() {
        let elsewhere = Url::parse("https://evil.example/id-1").unwrap();
        let client =
            Client { management: Management::Token { uri: elsewhere, token: TOKEN.into() }, ..client() };
        let world = World::answering(200, information(&json!({})));
        for operation in [Method::GET, Method::PUT, Method::DELETE] {
            assert_eq!(world.manage(&operation, &client).await, Err(Kind::Unsupported), "{operation}");
        }
        assert_eq!(world.urls(), [""; 0]);
    }

    #[tokio::test]
    async fn nothing_that_prints_a_client_prints_a_credential() {
        let members = json!({
            "registration_client_uri": "https://as.example/r?key=c4n4ry",
            "previous_secret": "c4n4ry", "nested": {"token": "c4n4ry"}, "client_name": "App",
        });
        let world = World::answering(201, information(&members));
        let client = world.register(&named("App")).await.unwrap();
        assert_eq!(client.document["previous_secret"], "c4n4ry", "it is kept, as an update must repeat it");
        let shown = format!("{client:?}");
        assert!(!shown.contains(CANARY), "{shown}");
        for expected in ["id-1", "App", "previous_secret", "nested", "https://as.example"] {
            assert!(shown.contains(expected), "what can be shown helps: {expected} in {shown}");
        }
    }

    #[tokio::test]
    async fn a_document_leaves_room_for_the_rest_of_the_record() {
        let large = "x".repeat(600_000);
        let rows = [
            (json!({"client_name": "App", "vendor": "v"}), vec!["client_name", "vendor"], "an ordinary one"),
            (
                json!({"client_name": "App", "vendor": large}),
                vec!["client_name"],
                "what nobody can declare goes first",
            ),
            (
                json!({"client_name": large, "vendor": "v"}),
                vec![],
                "better without a document than without a secret",
            ),
        ];
        for (members, expected, reason) in rows {
            let world = World::answering(201, information(&members));
            let client = world.register(&named("App")).await.expect(reason);
            let kept = ["client_name", "vendor"].into_iter().filter(|m| client.document.contains_key(*m));
            assert_eq!(kept.collect::<Vec<_>>(), expected, "{reason}");
            assert_eq!(secret(&client), Some(SECRET), "{reason}");
        }
    }
}

mod management {
    use super::*;

    #[tokio::test]
    async fn requests_go_to_the_registration_client_uri_verbatim_with_the_clients_own_token() {
        let uri = "https://as.example/reg/%7Eodd?client_id=id-1&x=%2F";
        let client = Client {
            management: Management::Token { uri: Url::parse(uri).unwrap(), token: TOKEN.into() },
            ..client()
        };
        let world = World::answering(200, information(&json!({})));
        for operation in [Method::GET, Method::PUT, Method::DELETE] {
            world.manage(&operation, &client).await.unwrap();
            let sent = world.last();
            assert_eq!((sent.method, sent.url.as_str()), (operation, uri));
            assert_eq!(sent.authorization, Given::Bearer(TOKEN.into()), "not the initial access token");
        }
    }

    /// The body of an update, after the server said this at the registration.
    async fn update_after(said: &Value, declared: &ClientMetadata, reset: &[Field]) -> Value {
        let world = World::answering(200, information(said));
        let client = world.register(&named("x")).await.unwrap();
        world.update(&client, declared, reset).await.unwrap();
        let sent = world.last();
        assert_eq!(sent.method, Method::PUT);
        assert_eq!(sent.body["client_id"], "id-1", "required (RFC 7592 section 2.2)");
        without(&sent.body, &["client_id"])
    }

    #[tokio::test]
    async fn an_update_repeats_what_the_server_said_as_far_as_it_may() {
        let basic = "client_secret_basic";
        let rows = [
            (
                json!({"client_name": "App", "vendor": [1], "token_endpoint_auth_method": "none"}),
                json!({"client_name": "New", "vendor": [1], "token_endpoint_auth_method": "none"}),
                "a member that is left out is deleted (RFC 7592 section 2.2), so what others set stays in",
            ),
            (
                json!({"client_id_issued_at": 1, "client_secret_expires_at": 2}),
                json!({"client_name": "New", "token_endpoint_auth_method": basic}),
                "the five members of the server never; a stale secret would be refused, or taken",
            ),
            (
                json!({"logo_uri": null, "vendor": null}),
                json!({"client_name": "New", "token_endpoint_auth_method": basic}),
                "Canaille shows nulls",
            ),
            (
                json!({"metadata": {}, "jwks": {}, "policy_uri": "", "response_types": []}),
                json!({"client_name": "New", "token_endpoint_auth_method": basic, "response_types": []}),
                "Hydra refuses its own empty objects, others empty strings; an empty list says something",
            ),
            (
                json!({
                    "token_endpoint_auth_method": ["client_secret_post"], "scope": ["a", "b"],
                    "redirect_uris": "https://a.example/",
                }),
                json!({
                    "client_name": "New", "token_endpoint_auth_method": "client_secret_post", "scope": "a b",
                    "redirect_uris": ["https://a.example/"],
                }),
                "Glewlwyd shows the method as a list, IBM a list of one as its member: sent as they are taken",
            ),
            (
                json!({
                    "token_endpoint_auth_method": ["a", "b"], "client_uri": 7, "contacts": {"x": 1},
                    "jwks": "none", "logo_uri": [1],
                }),
                json!({"client_name": "New", "token_endpoint_auth_method": basic}),
                "what cannot be put right is left out, and a method is said as at the registration",
            ),
        ];
        for (said, expected, reason) in rows {
            assert_eq!(update_after(&said, &named("New"), &[]).await, expected, "{reason}");
        }
    }

    #[tokio::test]
    async fn an_update_leaves_no_trace_of_what_was_declared_before() {
        let basic = json!({"token_endpoint_auth_method": "client_secret_basic"});
        let machine = declared([(Field::GrantTypes, json!(["client_credentials"]))]);
        let empty =
            declared([(Field::LogoUri, json!("")), (Field::Scopes, json!([])), (Field::Contacts, json!([]))]);
        let rows = [
            (
                json!({"client_uri": "https://a.example/", "logo_uri": "https://a.example/l"}),
                declared([]),
                vec![Field::ClientUri],
                json!({"logo_uri": "https://a.example/l", "token_endpoint_auth_method": "client_secret_basic"}),
                "a field that left the spec is left out, and no other",
            ),
            (
                json!({"grant_types": ["client_credentials"], "response_types": []}),
                declared([]),
                vec![Field::GrantTypes],
                basic.clone(),
                "response_types go with the grants: the default grant would not agree with none",
            ),
            (
                json!({"token_endpoint_auth_method": "client_secret_post"}),
                declared([]),
                vec![Field::TokenEndpointAuthMethod],
                basic.clone(),
                "a method that left the spec is what a new client would get",
            ),
            (
                json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "EC"}]}}),
                declared([]),
                vec![Field::Jwks],
                basic,
                "without keys nobody can prove itself by them",
            ),
            (
                json!({"response_types": ["code"], "redirect_uris": ["https://a.example/"]}),
                machine,
                vec![Field::RedirectUris],
                json!({
                    "grant_types": ["client_credentials"], "response_types": [], "redirect_uris": [],
                    "token_endpoint_auth_method": "client_secret_basic",
                }),
                "a machine client looks as it does after a registration",
            ),
            (
                json!({"logo_uri": "https://a.example/l", "scope": "a", "contacts": ["c"]}),
                empty,
                vec![],
                json!({"contacts": [], "token_endpoint_auth_method": "client_secret_basic"}),
                "managed and empty is left out where it would be an empty string",
            ),
        ];
        for (said, declared, reset, expected, reason) in rows {
            assert_eq!(update_after(&said, &declared, &reset).await, expected, "{reason}");
        }
    }

    /// The client after a read and after an update that were answered with `client_id` and these members. Its secret was said to
    /// end at 1900000000.
    async fn after_reply(members: &Value) -> Vec<Client> {
        let known = Client {
            client_secret_expires_at: Timestamp::from_second(1_900_000_000).ok(),
            registered_at: Timestamp::from_second(1_700_000_000).ok(),
            ..client()
        };
        let mut body = members.clone();
        body["client_id"] = json!("id-1");
        let world = World::answering(200, body);
        let read = world.observe(&known).await.unwrap().unwrap();
        let updated = world.update(&known, &named("x"), &[]).await.unwrap().unwrap();
        assert_eq!(read.registered_at, known.registered_at);
        vec![read, updated]
    }

    #[tokio::test]
    async fn a_secret_that_a_reply_leaves_out_is_kept_and_one_that_it_changes_is_taken() {
        let rows = [
            (json!({}), SECRET, Some(1_900_000_000), "Hydra and oauth-as never repeat it"),
            (json!({"client_secret": null}), SECRET, Some(1_900_000_000), "null is left out"),
            (json!({"client_secret": ""}), SECRET, Some(1_900_000_000), "nobody's secret is blanked"),
            (
                json!({"client_secret_expires_at": 2_000_000_000}),
                SECRET,
                Some(2_000_000_000),
                "it lives longer",
            ),
            (
                json!({"client_secret": SECRET}),
                SECRET,
                Some(1_900_000_000),
                "it still ends when it was said to",
            ),
            (
                json!({"client_secret": SECRET, "client_secret_expires_at": 0}),
                SECRET,
                None,
                "unless it is now said never to",
            ),
            (
                json!({"client_secret": "c4n4ry-2", "client_secret_expires_at": 2_000_000_000}),
                "c4n4ry-2",
                Some(2_000_000_000),
                "a new secret (RFC 7592 section 3) has an end of its own",
            ),
            (json!({"client_secret": "c4n4ry-2"}), "c4n4ry-2", None, "and not the end of the old one"),
        ];
        for (members, expected, end, reason) in rows {
            for found in after_reply(&members).await {
                assert_eq!(secret(&found), Some(expected), "{reason}");
                assert_eq!(found.client_secret_expires_at.map(Timestamp::as_second), end, "{reason}");
                assert_eq!(managed(&found), Ok((MANAGED, TOKEN)), "{reason}");
            }
        }
    }

    #[tokio::test]
    async fn a_token_that_a_reply_leaves_out_is_kept_and_one_that_it_changes_is_taken() {
        let moved =
            |uri: &str| json!({"registration_access_token": "c4n4ry-2", "registration_client_uri": uri});
        let rows = [
            (json!({}), TOKEN, "Glewlwyd, oauth-as and Rauthy never repeat it"),
            (json!({"registration_access_token": null}), TOKEN, "null is left out"),
            (json!({"registration_access_token": ""}), TOKEN, "so is nothing"),
            (
                json!({"registration_access_token": "c4n4ry-2"}),
                "c4n4ry-2",
                "a new one counts at once (RFC 7592 section 3): Keycloak, Curity, oidc-provider",
            ),
            (
                moved("https://as.example/register/id-2"),
                "c4n4ry-2",
                "the place does not move: at another client's the token would be destroyed",
            ),
            (moved("https://evil.example/"), "c4n4ry-2", "and not to another origin"),
        ];
        for (members, expected, reason) in rows {
            for found in after_reply(&members).await {
                assert_eq!(managed(&found), Ok((MANAGED, expected)), "{reason}");
                assert_eq!(secret(&found), Some(SECRET), "{reason}");
            }
        }
    }

    #[tokio::test]
    async fn a_reply_that_speaks_of_another_client_is_not_believed() {
        let other = information(&json!({"client_id": "id-2", "client_secret": "c4n4ry-of-2"}));
        for (body, reason) in [
            (other, "another client's credentials are not ours"),
            (json!({}), "nobody's"),
            (json!([]), "nothing"),
        ] {
            for operation in [Method::GET, Method::PUT] {
                let world = World::answering(200, body.clone());
                let outcome = world.manage(&operation, &client()).await;
                assert_eq!(outcome, Err(Kind::Protocol), "{operation}: {reason}");
            }
        }
    }

    #[tokio::test]
    async fn reads_teach_what_the_registry_shows_and_whether_they_cost_a_token() {
        let same = information(&json!({"client_name": "App", "logo_uri": null, "vendor": 1}));
        let world = World::answering(200, same);
        world.observe(&client()).await.unwrap();
        {
            let learned = world.session.learned();
            assert_eq!(learned.shown, [Field::ClientName].into(), "a null shows nothing");
            assert!(!learned.reads_rotate, "the same token again");
        }
        let world = World::answering(200, information(&json!({"registration_access_token": "c4n4ry-2"})));
        world.update(&client(), &named("x"), &[]).await.unwrap();
        assert!(
            !world.session.learned().reads_rotate,
            "an update that brings a new token says nothing of reads"
        );
        world.observe(&client()).await.unwrap();
        assert!(world.session.learned().reads_rotate, "this one does");
    }

    /// A client whose document names this method.
    fn proving_itself_by(method: &str) -> Client {
        let document = json!({"token_endpoint_auth_method": method}).as_object().unwrap().clone();
        Client { document, ..client() }
    }

    #[tokio::test]
    async fn a_lost_token_and_a_lost_client_are_told_apart_by_a_second_witness() {
        const LOST: Result<bool, Kind> = Err(Kind::ManagementLost);
        const GONE: Result<bool, Kind> = Ok(false);
        let error = |error: &str| json!({"error": error});
        let denied = || Json(400, error("access_denied"));
        let unknown = || Json(401, error("invalid_client"));
        let basic = "client_secret_basic";
        let rows = [
            (Empty(401), basic, unknown(), GONE, "both witnesses agree (RFC 6749 section 5.2)"),
            (Empty(404), basic, unknown(), GONE, "404 alone proves nothing, as a wrong path has it too"),
            (Empty(410), basic, unknown(), GONE, "410 likewise"),
            (denied(), basic, unknown(), GONE, "Canaille answers so to the token of a client that is gone"),
            (Json(400, error("invalid_token")), basic, unknown(), GONE, "the code counts"),
            (Empty(401), basic, Json(400, error("invalid_client")), GONE, "400 is allowed as well"),
            (Empty(401), "client_secret_post", unknown(), GONE, "the secret in the form"),
            (Empty(401), basic, Json(200, json!({"access_token": "c4n4ry"})), LOST, "the client works"),
            (
                Empty(401),
                basic,
                Json(400, error("unauthorized_client")),
                LOST,
                "it is known, if not for this grant",
            ),
            (
                Empty(401),
                basic,
                Json(400, error("unsupported_grant_type")),
                LOST,
                "nothing is said of the client",
            ),
            (Empty(401), basic, Empty(401), LOST, "a proxy's 401 is no word of the server"),
            (Empty(401), basic, Raw(401, b"<html>c4n4ry</html>".to_vec()), LOST, "nor is a page"),
            (Empty(401), basic, Json(403, error("invalid_client")), LOST, "not a status of RFC 6749"),
            (Empty(401), basic, Empty(302), LOST, "not followed"),
            (Empty(401), basic, Json(500, error("invalid_client")), Err(Kind::Unavailable), "cannot tell"),
            (Empty(401), basic, Interrupted, Err(Kind::Unavailable), "cannot tell"),
            (
                Empty(401),
                basic,
                Later(429, "7"),
                Err(Kind::Throttled(Duration::from_secs(7))),
                "cannot tell yet",
            ),
        ];
        for (first, method, second, expected, reason) in rows {
            for operation in [Method::GET, Method::PUT, Method::DELETE] {
                // A DELETE that finds nothing is done.
                if operation == Method::DELETE && matches!(first, Empty(404 | 410)) {
                    continue;
                }
                let (first, second) = (first.clone(), second.clone());
                let world =
                    World::new(move |sent| if sent.url == TOKENS { second.clone() } else { first.clone() });
                let outcome = world.manage(&operation, &proving_itself_by(method)).await;
                assert_eq!(outcome, expected, "{operation}: {reason}");
                assert!(
                    world.urls().contains(&format!("POST {TOKENS}")),
                    "{operation}: it was asked: {reason}"
                );
            }
        }
    }

    #[tokio::test]
    async fn without_a_second_witness_nothing_is_proven() {
        let rows = [
            (Client { client_secret: None, ..client() }, "a public client has nothing to ask with"),
            (proving_itself_by("none"), "nor has one that does not authenticate"),
            (proving_itself_by("private_key_jwt"), "its key is not ours"),
            (proving_itself_by("client_secret_jwt"), "no JWT is signed just to ask"),
        ];
        for (client, reason) in rows {
            for (operation, status) in
                [(Method::GET, 401), (Method::GET, 404), (Method::PUT, 401), (Method::DELETE, 401)]
            {
                let world = World::answering(status, json!({"error": "invalid_client"}));
                let outcome = world.manage(&operation, &client).await;
                assert_eq!(outcome, Err(Kind::ManagementLost), "{operation} {status}: {reason}");
                assert!(world.sent().iter().all(|sent| sent.url != TOKENS), "{reason}");
            }
        }
        let world = World::open(endpoint(REGISTER), None, |_| Json(401, json!({"error": "invalid_client"})));
        let outcome = world.manage(&Method::GET, &client()).await;
        assert_eq!(outcome, Err(Kind::ManagementLost), "without metadata there is no token endpoint");
    }

    #[tokio::test]
    async fn the_witness_is_asked_with_form_encoded_credentials() {
        let odd = |method: &str| Client { client_id: "id/1:é&".into(), ..proving_itself_by(method) };
        let (id, password) = ("id%2F1%3A%C3%A9%26", "c4n4ry+secret%3A%2F%25%2B%C3%A9");
        let rows = [
            (
                odd("client_secret_basic"),
                Given::Basic(id.into(), password.into()),
                "grant_type=client_credentials".to_owned(),
                "RFC 6749 section 2.3.1: encoded before they are joined",
            ),
            (
                odd("client_secret_post"),
                Given::Nothing,
                format!("grant_type=client_credentials&client_id={id}&client_secret={password}"),
                "in the form",
            ),
            (
                Client { document: Document::new(), ..odd("") },
                Given::Basic(id.into(), password.into()),
                "grant_type=client_credentials".to_owned(),
                "client_secret_basic is the default (RFC 7591 section 2)",
            ),
        ];
        for (client, authorization, body, reason) in rows {
            let world = World::answering(401, json!({"error": "invalid_client"}));
            assert!(world.observe(&client).await.expect(reason).is_none(), "{reason}");
            let sent = world.last();
            let expected =
                Sent { method: Method::POST, url: TOKENS.into(), authorization, body: body.into() };
            assert_eq!(sent, expected, "{reason}");
        }
    }

    #[tokio::test]
    async fn a_deregistration_ends_with_each_answer_that_means_gone() {
        let rows = [
            (Empty(204), Ok(()), "RFC 7592 section 2.3"),
            (Empty(200), Ok(()), "Glewlwyd"),
            (Raw(200, b"<html>bye</html>".to_vec()), Ok(()), "whatever it says"),
            (Empty(404), Ok(()), "deleted before"),
            (Empty(410), Ok(()), "deleted before"),
            (
                Empty(403),
                Err(Kind::Unavailable),
                "not allowed now; a firewall may answer so too, and a deletion has time",
            ),
            (Empty(405), Err(Kind::Unsupported), "Rauthy has no DELETE"),
            (Empty(501), Err(Kind::Unsupported), "not implemented"),
            (Empty(302), Err(Kind::Protocol), "never followed"),
            (Empty(307), Err(Kind::Protocol), "never followed"),
            (Empty(500), Err(Kind::Unavailable), "again later"),
            (Empty(409), Err(Kind::Unavailable), "again later, within the deletion's time"),
            (Interrupted, Err(Kind::Unavailable), "again: a second DELETE does no harm"),
            (NotSent, Err(Kind::Unavailable), "again"),
        ];
        for (reply, expected, reason) in rows {
            let world = World::always(reply);
            let outcome = world.deregister(&client()).await;
            assert_eq!(outcome.map_err(|error| error.kind), expected, "{reason}");
        }
    }

    #[tokio::test]
    async fn replies_to_reads_and_updates_say_what_happens_next() {
        use Kind::{Protocol, Rejected, Unavailable, Unsupported};
        let rows = [
            (Empty(500), Unavailable, Unavailable, "Canaille with a new authlib"),
            (Empty(503), Unavailable, Unavailable, "again later"),
            (Empty(408), Unavailable, Unavailable, "a timeout refuses nothing"),
            (Interrupted, Unavailable, Unavailable, "again: an update that is repeated does no harm"),
            (NotSent, Unavailable, Unavailable, "again"),
            (Empty(301), Protocol, Protocol, "never followed"),
            (Empty(307), Protocol, Protocol, "never followed"),
            (Empty(403), Unsupported, Unsupported, "RFC 7592: not allowed"),
            (Empty(405), Unsupported, Unsupported, "RFC 7592: not supported"),
            (Empty(501), Unsupported, Unsupported, "not implemented"),
            (Json(400, json!({"error": "invalid_client_metadata"})), Unavailable, Rejected, "refused"),
            (
                Empty(409),
                Unavailable,
                Rejected,
                "an odd answer to one read is no reason to read no client again",
            ),
            (Raw(200, b"<html>c4n4ry</html>".to_vec()), Protocol, Protocol, "no answer of this protocol"),
        ];
        for (reply, read, update, reason) in rows {
            for (operation, kind) in [(Method::GET, read), (Method::PUT, update)] {
                let world = World::always(reply.clone());
                let outcome = world.manage(&operation, &client()).await;
                assert_eq!(outcome, Err(kind), "{operation}: {reason}");
            }
        }
    }
}

mod pace {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn throttled(outcome: Result<impl Debug, Error>) -> Duration {
        match outcome.expect_err("throttled").kind {
            Kind::Throttled(wait) => wait,
            kind => panic!("{kind:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_429_no_request_leaves_until_its_window_ends() {
        let rows = [
            (Some("40"), Duration::from_secs(40), "Retry-After in seconds"),
            (None, WINDOW, "none: a pause of our own"),
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), WINDOW, "the form as a date likewise"),
            (Some("999999999"), Duration::from_hours(24), "bounded"),
        ];
        for (header, window, reason) in rows {
            let world = World::always(header.map_or(Empty(429), |header| Later(429, header)));
            world.prepare().await.unwrap();
            assert_eq!(throttled(world.register(&named("x")).await), window, "{reason}");
            world.sent();
            tokio::time::advance(window / 2).await;
            for operation in [Method::GET, Method::PUT, Method::DELETE] {
                let outcome = world.manage(&operation, &client()).await;
                assert_eq!(outcome, Err(Kind::Throttled(window / 2)), "{operation}: {reason}");
            }
            assert_eq!(throttled(world.prepare().await), window / 2, "{reason}");
            assert_eq!(
                throttled(world.register(&named("x")).await),
                window / 2,
                "a turn from before: {reason}"
            );
            assert_eq!(world.urls(), [""; 0], "{reason}");
            tokio::time::advance(window / 2).await;
            assert_eq!(
                throttled(world.register(&named("x")).await),
                window,
                "asked again after it: {reason}"
            );
            assert_eq!(world.last().method, Method::POST, "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_window_is_slept_by_a_turn_that_was_taken_before_it() {
        let world = World::new(|sent| match sent.method {
            Method::GET => Later(429, "1"),
            _ => Json(201, information(&json!({}))),
        });
        world.prepare().await.unwrap();
        throttled(world.observe(&client()).await);
        let began = Instant::now();
        world.register(&named("x")).await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_503_closes_the_lane_only_if_it_says_for_how_long() {
        let world = World::always(Later(503, "30"));
        assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable);
        world.sent();
        assert_eq!(throttled(world.observe(&client()).await), WINDOW);
        assert_eq!(world.urls(), [""; 0]);
        let world = World::always(Empty(503));
        for _ in 0..2 {
            assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable);
        }
        assert_eq!(world.urls().len(), 2, "backoff is the object's own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_asks_for_patience_has_not_failed() {
        let world = World::always(Later(429, "1"));
        for _ in 0..20 {
            throttled(world.observe(&client()).await);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(world.urls().len(), 20, "429 is an answer: the breaker stays closed");

        let world = World::always(Empty(500));
        for _ in 0..20 {
            drop(world.observe(&client()).await);
        }
        assert_eq!(world.urls().len(), 5, "5xx is none: the breaker opens after five");
    }

    #[tokio::test(start_paused = true)]
    async fn the_breakers_one_trial_is_not_spent_on_a_request_that_may_not_go() {
        let world = World::always(Later(503, "25"));
        for _ in 0..5 {
            assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable);
            tokio::time::advance(Duration::from_secs(25)).await;
        }
        assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable, "the trial");
        world.sent();
        // It closes the breaker for 10 seconds and the lane for 25, in which others keep asking.
        for _ in 0..22 {
            throttled(world.observe(&client()).await);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(world.urls(), [""; 0]);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable, "the next trial");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_our_own_rate_are_slept() {
        let rate = |requests_per_second, burst| Some(RateLimit { requests_per_second, burst });
        let world = World::open(endpoint(REGISTER), rate(1, 1), |_| Json(200, information(&json!({}))));
        let began = Instant::now();
        for _ in 0..3 {
            world.observe(&client()).await.unwrap();
        }
        assert!(began.elapsed() >= Duration::from_secs(2), "one a second: {:?}", began.elapsed());
        assert_eq!(world.urls().len(), 3);
    }
}
