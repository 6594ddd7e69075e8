//! What people see and do at a provider past its API, in the words of RFC 7591 for all of them.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, patch, post},
};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::providers::{
    Fake, Provider, cal_com, cal_com::CalCom, meteroid, meteroid::Meteroid, teable, teable::Teable, telnyx,
    telnyx::Telnyx,
};

/// A provider with pages of its own for people.
pub trait ByHand: Provider {
    /// What opens it to the operator: keys of a Secret and their values.
    const CREDENTIALS: &[(&str, &str)];

    /// A provider whose clock shows this.
    fn showing(now: Timestamp) -> Self;

    /// All clients, without their secrets.
    fn list(&self) -> Value;

    /// Changes what people can change; false if there is no such client or no such thing to change.
    fn change(&mut self, client_id: &str, member: &str, value: &str) -> bool;

    /// Whether a client may come in with this secret now.
    fn lets_in(&self, client_id: &str, secret: &str) -> bool;
}

/// The pages, below `/inspect`.
pub fn routes<P: ByHand>(fake: Fake<P>) -> Router {
    Router::new()
        .route("/inspect/clients", get(list))
        .route("/inspect/clients/{client_id}", patch(change))
        .route("/inspect/authenticate", post(authenticate))
        .route("/inspect/credentials", get(credentials::<P>))
        .with_state(fake)
}

async fn list<P: ByHand>(State(fake): State<Fake<P>>) -> Json<Value> {
    Json(fake.at(|provider| provider.list()))
}

/// All that was sent, or nothing but what came before the first that cannot be changed.
async fn change<P: ByHand>(
    State(fake): State<Fake<P>>,
    Path(client_id): Path<String>,
    body: String,
) -> Result<Json<Value>, StatusCode> {
    let body: Map<String, Value> = serde_json::from_str(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    for (member, value) in &body {
        let value = value.as_str().ok_or(StatusCode::BAD_REQUEST)?;
        if !fake.at(|provider| provider.change(&client_id, member, value)) {
            return Err(StatusCode::NOT_FOUND);
        }
    }
    Ok(list(State(fake)).await)
}

async fn authenticate<P: ByHand>(State(fake): State<Fake<P>>, body: String) -> Json<Value> {
    let sent = |wanted: &str| {
        let mut form = url::form_urlencoded::parse(body.as_bytes());
        form.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let (client_id, secret) = (sent("client_id"), sent("client_secret"));
    Json(json!({ "authenticates": fake.at(|provider| provider.lets_in(&client_id, &secret)) }))
}

/// As `kubectl create secret --from-env-file` reads them.
async fn credentials<P: ByHand>() -> String {
    P::CREDENTIALS.iter().map(|(key, value)| [key, "=", value, "\n"].concat()).collect()
}

/// All of them have the same methods for this, but no trait of their own that says so.
macro_rules! by_hand {
    ($provider:ty, $credentials:expr, $member:literal is $field:ident, $shown:expr) => {
        impl ByHand for $provider {
            const CREDENTIALS: &[(&str, &str)] = $credentials;

            fn showing(now: Timestamp) -> Self {
                let mut provider = Self::new();
                provider.set_time(now);
                provider
            }

            fn list(&self) -> Value {
                self.clients().iter().map($shown).collect()
            }

            fn change(&mut self, client_id: &str, member: &str, value: &str) -> bool {
                let can = member == $member && self.client(client_id).is_some();
                if can {
                    self.edit(client_id, |client| value.clone_into(&mut client.$field));
                }
                can
            }

            fn lets_in(&self, client_id: &str, secret: &str) -> bool {
                self.authenticates(client_id, secret)
            }
        }
    };
}

by_hand!(CalCom, &[("token", cal_com::KEY)], "client_name" is name, |client| {
    json!({
        "client_id": client.id,
        "client_name": client.name,
        "redirect_uris": client.redirect_uris,
        "scope": cal_com::permitted(client.permissions).join(" "),
    })
});

by_hand!(Telnyx, &[("token", telnyx::KEY)], "client_name" is name, |client| {
    json!({
        "client_id": client.client_id,
        "client_name": client.name,
        "grant_types": client.allowed_grant_types,
        "redirect_uris": client.redirect_uris,
        "scope": client.allowed_scopes.join(" "),
    })
});

by_hand!(Teable, &[("email", teable::EMAIL), ("password", teable::PASSWORD)], "client_name" is name, |client| {
    json!({
        "client_id": client.client_id,
        "client_name": client.name,
        "redirect_uris": client.redirect_uris,
        "scope": client.scopes.clone().unwrap_or_default().join(" "),
        "secrets": client.secrets.len(),
    })
});

// Nobody can change an app there, but its secret.
by_hand!(Meteroid, &[("token", meteroid::KEY)], "client_secret" is client_secret, |app| {
    json!({
        "client_id": app.client_id,
        "client_name": app.name,
        "redirect_uris": app.redirect_uris,
        "scope": app.scopes.join(" "),
    })
});
