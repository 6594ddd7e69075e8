//! The driver against a server in memory that keeps to Teable's contract, and against answers that no good server gives.

mod bodies;
mod refusals;
mod secrets;
mod sessions;

use serde_json::json;

use super::*;
use crate::{
    api::RegistryConnection,
    providers::{
        Fake, Fault, Reply, Request,
        teable::{ACCESS_TOKEN, EMAIL, PASSWORD, Switch, Teable as Server},
    },
    registry::{
        Management, ShownMark,
        tests::{Log, connection, declared, searched, secret, session_answering, shown, wanted},
    },
};

const REDIRECT: &str = "https://app.example/cb";
/// As [`wanted`] marks it.
const MARK: &str = "oauth-operator/inst-1/uid-1/n1";

fn spec(authentication: &str) -> RegistryConnection {
    connection(json!({"teable": {
        "url": "https://teable.example",
        "authentication": authentication,
        "credentialsSecretRef": {"name": "teable"},
    }}))
}

fn by_password(password: &str) -> Credentials {
    Credentials::Password { user: EMAIL.into(), password: password.into() }
}

fn by_token() -> Credentials {
    Credentials::Bearer(ACCESS_TOKEN.into())
}

/// The least that Teable wants of a client.
fn least() -> ClientMetadata {
    declared([
        (Field::ClientName, json!("App")),
        (Field::ClientUri, json!("https://app.example")),
        (Field::RedirectUris, json!([REDIRECT])),
    ])
}

fn but<const N: usize>(mut declared: ClientMetadata, members: [(Field, Value); N]) -> ClientMetadata {
    declared.0.extend(members);
    declared
}

/// A server, and a driver that has never spoken to it.
struct World {
    fake: Fake<Server>,
    log: Log,
    session: Arc<Session>,
    driver: Teable,
}

impl World {
    fn with(credentials: Credentials) -> Self {
        let (fake, log) = (Fake::new(Server::new()), Log::default());
        let (answering, noting) = (fake.clone(), log.clone());
        let session = session_answering(&spec("Password"), move |request| {
            noting.note(request);
            answering.exchange(request)
        });
        let driver = driver(&session, credentials);
        Self { fake, log, session, driver }
    }

    /// Signed in.
    async fn new() -> Self {
        let world = Self::with(by_password(PASSWORD));
        world.driver.prepare().await.unwrap();
        world.log.take();
        world
    }

    /// Signed in at a server of another kind.
    async fn at(switch: Switch) -> Self {
        let world = Self::new().await;
        world.fake.at(|server| server.switches.insert(switch));
        world
    }

    async fn register(&self, metadata: ClientMetadata) -> Client {
        self.driver.prepare().await.unwrap();
        let wanted = wanted(self.driver.normalised(metadata), "n1");
        searched(self.driver.register(&wanted).await).unwrap()
    }

    async fn read(&self, client: &Client) -> Client {
        searched(self.driver.observe(client).await).unwrap().expect("a client")
    }

    async fn issue(&self, client: &Client) -> Result<IssuedSecret, Error> {
        self.driver.prepare().await.unwrap();
        searched(self.driver.issue_secret(client).await)
    }
}

fn driver(session: &Arc<Session>, credentials: Credentials) -> Teable {
    let settings = session.connection.teable.clone().unwrap();
    Teable::new(&settings, session.clone(), credentials).unwrap()
}

/// A driver with an access token, and a server that always answers this.
fn answering(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Teable {
    driver(&session_answering(&spec("Bearer"), move |request| Some(reply(request))), by_token())
}

/// What the server says of client `clt1`, with these members.
fn told(members: &Value) -> Value {
    let mut body = json!({
        "clientId": "clt1", "name": "App", "homepage": "https://app.example", "redirectUris": [REDIRECT],
    });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

fn client() -> Client {
    Client::named("clt1", Management::Registry)
}

#[tokio::test(start_paused = true)]
async fn a_client_lives_through_everything_that_can_be_asked() {
    let world = World::new().await;
    let client = world.register(least()).await;
    assert_eq!((secret(&client), &client.secrets), (None, &None), "a registration shows no secret");
    assert!(matches!(client.management, Management::Registry));

    let read = world.read(&client).await;
    assert_eq!(read.secrets.as_deref(), Some(&[][..]), "the member is left out when there are none");
    assert_eq!(read.document, client.document, "the registration shows the client whole");

    let renamed = but(least(), [(Field::ClientName, json!("Renamed"))]);
    let updated = searched(world.driver.update(&read, &renamed, &[]).await).unwrap().unwrap();
    assert_eq!((shown(&updated, Field::ClientName), &updated.mark), (&json!("Renamed"), &client.mark));

    searched(world.driver.deregister(&client).await).unwrap();
    assert!(searched(world.driver.observe(&client).await).unwrap().is_none(), "absent");
    searched(world.driver.deregister(&client).await).unwrap();
    world.fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn the_list_tells_ours_from_a_thousand_others() {
    let world = World::new().await;
    world.fake.at(|server| server.add_foreign(1200));
    let ours = world.register(but(least(), [(Field::Description, json!("Ours"))])).await;
    world.log.take();
    let list = searched(world.driver.list().await).unwrap();
    assert_eq!((list.len(), world.log.lines()), (1201, vec!["GET /api/oauth/client".to_owned()]));
    let marked: Vec<_> = list.iter().filter(|client| client.mark.is_some()).collect();
    assert_eq!(marked.len(), 1);
    assert_eq!((&marked[0].client_id, &marked[0].mark), (&ours.client_id, &ours.mark));
    let members: Vec<_> = marked[0].document.keys().map(String::as_str).collect();
    assert_eq!(
        members,
        ["client_name", "client_uri", "logo_uri", "teable.description"],
        "nothing is said of what the list does not show"
    );
    assert_eq!(marked[0].document["teable.description"], "Ours", "without the mark");
}

#[test]
fn all_that_a_client_can_have_is_known_or_fixed() {
    let driver = answering(|_| Reply::empty(500));
    let capabilities = driver.capabilities();
    let fixed = |value: Value| Support::Fixed(vec![value]);
    let rows = [
        (Field::AllowDeviceFlow, Support::Settable),
        (Field::DefaultRedirectUri, Support::Settable),
        (Field::GrantTypes, fixed(json!(["authorization_code", "refresh_token"]))),
        (Field::TokenEndpointAuthMethod, fixed(json!("client_secret_post"))),
        (Field::RequirePkce, fixed(json!(false))),
        (Field::TosUri, Support::Unsupported),
    ];
    for (field, support) in rows {
        assert_eq!(*capabilities.support(field), support, "{field:?}");
    }
    assert_eq!((driver.origin(), driver.issuer()), ("https://teable.example".to_owned(), None));
}
