//! A provider as the people around it see it: how it is declared, and what its owner sees and does there by hand.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Provider, cal_com, meteroid, teable, telnyx};

/// What is the same at all of them.
pub trait Place: Provider + Sized {
    /// What people call it.
    const NAME: &'static str;
    /// What objects of it are called.
    const SLUG: &'static str;
    /// The registration, as the contract names it.
    const REGISTER: &'static str;
    /// The list of all clients, as the contract names it.
    const LIST: &'static str;
    /// The removal of a client, as the contract names it.
    const REMOVE: &'static str;
    /// A client as it is stored.
    type Client: Clone + Debug + PartialEq + Send;

    /// The provider as it is when nobody has used it yet.
    fn fresh() -> Self;
    /// The member of a registry's spec that names it; `secret` holds the credentials.
    fn registry(url: &str, secret: &str) -> Value;
    /// What that Secret holds.
    fn credentials() -> Value;
    /// What a client has to declare there, besides name and redirect URIs.
    fn spec() -> Value;

    /// All clients, by their client ids.
    fn all(&self) -> BTreeMap<String, Self::Client>;
    /// What it is managed by.
    fn managed_id(client: &Self::Client) -> &str;
    /// The name that people see.
    fn name(client: &Self::Client) -> String;
    /// Whether a client could get a token with this secret now.
    fn authenticates(&self, id: &str, secret: &str) -> bool;
    /// How many secrets of a client work now.
    fn secrets(&self, id: &str) -> usize;
    /// Changes a client's name.
    fn rename(&mut self, id: &str, name: &str);
    /// Removes a client.
    fn take(&mut self, id: &str);
    /// Makes clients of somebody else.
    fn settle_strangers(&mut self, count: usize);
    /// Refuses everybody for a while.
    fn throttle(&mut self, time: Duration);
    /// Shows this time from now on.
    fn set_time(&mut self, now: Timestamp);
    /// Every secret that it ever gave to anybody.
    fn given(&self) -> Vec<String>;
}

/// What all of them call the same.
macro_rules! by_hand {
    ($client:ty, $client_id:ident, $managed_id:ident) => {
        type Client = $client;

        fn fresh() -> Self {
            Self::new()
        }
        fn all(&self) -> BTreeMap<String, $client> {
            self.clients().into_iter().map(|client| (client.$client_id.clone(), client)).collect()
        }
        fn managed_id(client: &$client) -> &str {
            &client.$managed_id
        }
        fn authenticates(&self, id: &str, secret: &str) -> bool {
            self.authenticates(id, secret)
        }
        fn rename(&mut self, id: &str, name: &str) {
            self.edit(id, |client| name.clone_into(&mut client.name));
        }
        fn take(&mut self, id: &str) {
            self.remove(id);
        }
        fn settle_strangers(&mut self, count: usize) {
            self.add_foreign(count);
        }
        fn throttle(&mut self, time: Duration) {
            self.throttle_for(time);
        }
        fn set_time(&mut self, now: Timestamp) {
            self.set_time(now);
        }
        fn given(&self) -> Vec<String> {
            self.secrets_given()
        }
    };
}

impl Place for cal_com::CalCom {
    const NAME: &'static str = "Cal.com";
    const SLUG: &'static str = "cal-com";
    const REGISTER: &'static str = "POST /v2/oauth-clients";
    const LIST: &'static str = "GET /v2/oauth-clients";
    const REMOVE: &'static str = "DELETE /v2/oauth-clients/{clientId}";
    by_hand!(cal_com::Client, id, id);

    fn registry(url: &str, secret: &str) -> Value {
        json!({"calCom": {"url": url, "credentialsSecretRef": {"name": secret}}})
    }
    fn credentials() -> Value {
        json!({"token": cal_com::KEY})
    }
    fn spec() -> Value {
        json!({"scopes": ["BOOKING_READ", "PROFILE_READ"]})
    }
    fn name(client: &Self::Client) -> String {
        client.name.clone()
    }
    fn secrets(&self, id: &str) -> usize {
        self.client(id).iter().count()
    }
}

impl Place for telnyx::Telnyx {
    const NAME: &'static str = "Telnyx";
    const SLUG: &'static str = "telnyx";
    const REGISTER: &'static str = "POST /v2/oauth/clients";
    const LIST: &'static str = "GET /v2/oauth/clients";
    const REMOVE: &'static str = "DELETE /v2/oauth/clients/{id}";
    by_hand!(telnyx::Client, client_id, client_id);

    fn registry(url: &str, secret: &str) -> Value {
        json!({"telnyx": {"url": format!("{url}/v2"), "credentialsSecretRef": {"name": secret}}})
    }
    fn credentials() -> Value {
        json!({"token": telnyx::KEY})
    }
    fn spec() -> Value {
        json!({"scopes": ["admin"], "grantTypes": ["authorization_code"]})
    }
    fn name(client: &Self::Client) -> String {
        client.name.clone()
    }
    fn secrets(&self, id: &str) -> usize {
        self.client(id).iter().count()
    }
}

impl Place for teable::Teable {
    const NAME: &'static str = "Teable";
    const SLUG: &'static str = "teable";
    const REGISTER: &'static str = "POST /api/oauth/client";
    const LIST: &'static str = "GET /api/oauth/client";
    const REMOVE: &'static str = "DELETE /api/oauth/client/{clientId}";
    by_hand!(teable::Client, client_id, client_id);

    fn registry(url: &str, secret: &str) -> Value {
        json!({"teable": {"url": url, "authentication": "Password", "credentialsSecretRef": {"name": secret}}})
    }
    fn credentials() -> Value {
        json!({"email": teable::EMAIL, "password": teable::PASSWORD, "token": teable::ACCESS_TOKEN})
    }
    fn spec() -> Value {
        json!({"clientUri": "https://app.example", "scopes": ["table|read"], "teable": {"description": "For tables"}})
    }
    fn name(client: &Self::Client) -> String {
        client.name.clone()
    }
    fn secrets(&self, id: &str) -> usize {
        self.live_secrets(id)
    }
}

impl Place for meteroid::Meteroid {
    const NAME: &'static str = "Meteroid";
    const SLUG: &'static str = "meteroid";
    const REGISTER: &'static str = "POST /api/v1/oauth-apps";
    const LIST: &'static str = "GET /api/v1/oauth-apps";
    const REMOVE: &'static str = "DELETE /api/v1/oauth-apps/{id}";
    by_hand!(meteroid::App, client_id, id);

    fn registry(url: &str, secret: &str) -> Value {
        json!({"meteroid": {"url": url, "credentialsSecretRef": {"name": secret}}})
    }
    fn credentials() -> Value {
        json!({"token": meteroid::KEY})
    }
    fn spec() -> Value {
        json!({})
    }
    /// The tag behind it is the operator's business.
    fn name(client: &Self::Client) -> String {
        client.name.split(" [").next().unwrap_or_default().to_owned()
    }
    fn secrets(&self, id: &str) -> usize {
        self.live_secrets(id)
    }
}
