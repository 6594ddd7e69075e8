//! The registries, each a class of its own: what is declared there, and what its owner sees and does.

mod dynamic;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    CREDENTIALS,
    providers::{Fake, Reply, Request, cal_com, meteroid, place::Place, teable, telnyx},
};
pub use dynamic::Dynamic;

/// A registry in memory.
pub trait Registry: Send {
    /// One exchange.
    fn exchange(&mut self, request: &Request) -> Option<Reply>;
    /// What the request is called in its API's own words.
    fn operation(&self, request: &Request) -> String;
    /// Ids and names of the clients that were not there before us.
    fn names(&self) -> BTreeMap<String, String>;
    /// The `software_id` of a client, where that is a member of it.
    fn software_id(&self, _: &str) -> Option<String> {
        None
    }
    /// Whether the pair opens anything.
    fn authenticates(&self, id: &str, secret: &str) -> bool;
    /// How many secrets of the client work.
    fn secrets(&self, id: &str) -> usize;
    /// Somebody renames a client by hand.
    fn rename(&mut self, id: &str, name: &str);
    /// Somebody removes a client by hand.
    fn take(&mut self, id: &str);
    /// Somebody replaces or revokes a client's secret by hand.
    fn spoil(&mut self, id: &str);
    /// A new account without clients, and the credentials that open it.
    fn other_account(&mut self) -> Value;
    /// Clients that are not ours.
    fn strangers(&self) -> Vec<String>;
    /// Every secret that ever left it.
    fn secrets_given(&self) -> Vec<String>;
    /// What was not as its API says, or was done to a client that is not ours.
    fn complaints(&self) -> Vec<String>;
}

/// How a class is declared, and what it can do.
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own, in any combination")]
pub struct Class {
    /// As the table names it.
    pub name: &'static str,
    /// A registry of it, with foreign clients.
    pub open: fn() -> Box<dyn Registry>,
    /// The spec of the registry object.
    pub registry: fn() -> Value,
    /// The credentials Secret.
    pub credentials: fn() -> Value,
    /// What a client's spec needs there.
    pub spec: fn() -> Value,
    /// Whether an unknown outcome can be found again, so that nothing is ever orphaned.
    pub findable: bool,
    /// Whether a client that was cut off from its object by hand cannot be found again: its mark is off, and its record went along.
    pub forgets: bool,
    /// Whether a client can be changed.
    pub updates: bool,
    /// Whether reads change secret and token, so that nothing is read on a schedule.
    pub rotates_on_read: bool,
    /// Whether a secret can be rotated at all.
    pub rotates: bool,
    /// Whether somebody else can replace or revoke a secret, and it shows.
    pub spoils: bool,
}

/// Where every registry is.
pub const ORIGIN: &str = "https://as.example";

const fn rfc7592(name: &'static str, open: fn() -> Box<dyn Registry>) -> Class {
    Class {
        name,
        open,
        registry: dynamic::registry,
        credentials: || json!({"token": "initial"}),
        spec: || json!({}),
        findable: false,
        forgets: false,
        updates: true,
        rotates_on_read: false,
        rotates: false,
        spoils: false,
    }
}

const fn provider<P: Meddled>(name: &'static str) -> Class {
    Class {
        name,
        open: Known::<P>::open,
        registry: || P::registry(ORIGIN, CREDENTIALS),
        credentials: P::credentials,
        spec: P::spec,
        findable: true,
        forgets: false,
        updates: true,
        rotates_on_read: false,
        rotates: true,
        spoils: false,
    }
}

/// All of them.
pub static CLASSES: [Class; 6] = [
    rfc7592("rfc7592", || Box::new(Dynamic::new(false))),
    Class { rotates_on_read: true, ..rfc7592("rfc7592-rotating", || Box::new(Dynamic::new(true))) },
    Class { forgets: true, ..provider::<cal_com::CalCom>("cal-com") },
    provider::<telnyx::Telnyx>("telnyx"),
    Class { spoils: true, ..provider::<teable::Teable>("teable") },
    Class { updates: false, spoils: true, ..provider::<meteroid::Meteroid>("meteroid") },
];

/// What else people do at the four.
trait Meddled: Place {
    /// Somebody replaces or revokes a client's secret by hand, where that shows.
    fn spoil(&mut self, _: &str) {}
    /// Opens a new account without clients, and returns the credentials for it.
    fn open_other(&mut self) -> Value;
}

const STRANGERS: usize = 3;
const OTHER: &str = "the-key-of-another-account";

impl Meddled for cal_com::CalCom {
    fn open_other(&mut self) -> Value {
        self.key(OTHER, 77, cal_com::Role::Admin);
        json!({"token": OTHER})
    }
}

impl Meddled for telnyx::Telnyx {
    fn open_other(&mut self) -> Value {
        self.key(OTHER, "another organisation");
        json!({"token": OTHER})
    }
}

impl Meddled for teable::Teable {
    fn spoil(&mut self, id: &str) {
        self.edit(id, |client| client.secrets.clear());
    }
    fn open_other(&mut self) -> Value {
        self.add_user("other@example.com", OTHER, "an access token of another");
        json!({"email": "other@example.com", "password": OTHER})
    }
}

impl Meddled for meteroid::Meteroid {
    fn spoil(&mut self, id: &str) {
        self.edit(id, |app| app.client_secret = "somebody-elses-secret".into());
    }
    fn open_other(&mut self) -> Value {
        self.add_organization(OTHER);
        json!({"token": OTHER})
    }
}

/// One of the four, under its contract, with strangers in it.
struct Known<P: Meddled> {
    fake: Fake<P>,
    strangers: BTreeMap<String, P::Client>,
}

impl<P: Meddled> Known<P> {
    fn open() -> Box<dyn Registry> {
        let mut provider = P::fresh();
        provider.settle_strangers(STRANGERS);
        let strangers = provider.all();
        Box::new(Self { fake: Fake::new(provider), strangers })
    }
}

impl<P: Meddled> Registry for Known<P> {
    fn exchange(&mut self, request: &Request) -> Option<Reply> {
        self.fake.exchange(request)
    }
    fn operation(&self, request: &Request) -> String {
        self.fake.operation(request)
    }
    fn names(&self) -> BTreeMap<String, String> {
        let all = self.fake.at(|provider| provider.all());
        let ours = all.iter().filter(|(id, _)| !self.strangers.contains_key(*id));
        ours.map(|(id, client)| (id.clone(), P::name(client))).collect()
    }
    fn authenticates(&self, id: &str, secret: &str) -> bool {
        self.fake.at(|provider| provider.authenticates(id, secret))
    }
    fn secrets(&self, id: &str) -> usize {
        self.fake.at(|provider| provider.secrets(id))
    }
    fn rename(&mut self, id: &str, name: &str) {
        self.fake.at(|provider| provider.rename(id, name));
    }
    fn take(&mut self, id: &str) {
        self.fake.at(|provider| provider.take(id));
    }
    fn spoil(&mut self, id: &str) {
        self.fake.at(|provider| provider.spoil(id));
    }
    fn other_account(&mut self) -> Value {
        self.fake.at(P::open_other)
    }
    fn strangers(&self) -> Vec<String> {
        self.strangers.keys().cloned().collect()
    }
    fn secrets_given(&self) -> Vec<String> {
        self.fake.at(|provider| provider.given())
    }
    fn complaints(&self) -> Vec<String> {
        let all = self.fake.at(|provider| provider.all());
        let touched = self.strangers.iter().filter(|(id, stranger)| all.get(*id) != Some(stranger));
        let touched = touched.map(|(id, _)| format!("I3: the stranger {id} was touched"));
        self.fake.take_violations().into_iter().chain(touched).collect()
    }
}
