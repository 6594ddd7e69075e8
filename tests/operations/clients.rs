//! The fields of an `OAuthClient`.

use serde_json::{Value, json};

use super::operation::{Operation, Unset, never, set};
use crate::support::providers::{
    cal_com::CalCom, meteroid::Meteroid, place::Place, teable::Teable, telnyx::Telnyx,
};

/// An EC key, which the rows about keys begin with.
const X: &str = "zq5WI9iiK4ICOjAKY9WJrWs2Nm6hwHbjzwZhjHkPDjY";
const Y: &str = "DwB6RQhjlYK_MbPklB286pwXdXO9b1UY6hMmpHBRmaU";

/// All of them.
pub fn operations() -> Vec<Operation> {
    [metadata(), keys(), at_providers(), where_it_is(), secret(), policies()].into_iter().flatten().collect()
}

fn metadata() -> Vec<Operation> {
    let bye = ["https://portal.example/bye", "https://portal.example/ciao"];
    vec![
        set("applicationType", "web", "native").refuses("desktop", ["spec.applicationType", "web"]),
        set("clientName", "Office", "Bureau")
            .refuses("oauth-operator/a/b/c", ["spec.clientName", "owner mark"]),
        page("clientUri"),
        page("logoUri"),
        page("policyUri"),
        page("tosUri"),
        // Managed and empty is another thing than not managed.
        set("logoUri", "https://portal.example/logo", ""),
        set("contacts", json!(["ops@example.com"]), json!([])),
        set("contacts", json!(["ops@example.com"]), json!(["dev@example.com", "ops@example.com"]))
            .refuses(json!([""]), ["spec.contacts[0]"]),
        set("grantTypes", json!(["authorization_code"]), json!(["authorization_code", "client_credentials"]))
            .refuses(json!(["password"]), ["spec.grantTypes", "not offered"])
            .told(json!(["authorization_code", "urn:example:magic"]), "Rejected", "grant"),
        // What a new client has, declared.
        set("grantTypes", json!(["authorization_code", "client_credentials"]), json!(["authorization_code"])),
        set("applicationType", "native", "web"),
        set("jwksUri", "https://portal.example/jwks", "https://portal.example/keys")
            .with(json!({"tokenEndpointAuthMethod": "client_secret_post"}))
            .refuses("http://portal.example/jwks", ["spec.jwksUri"]),
        set("postLogoutRedirectUris", json!([bye[0]]), json!(bye))
            .refuses(json!(["https://*.example/"]), ["spec.postLogoutRedirectUris[0]", "wildcard"]),
        set(
            "redirectUris",
            json!(["https://a.example/"]),
            json!(["https://b.example/", "https://a.example/"]),
        )
        .with(json!({"grantTypes": ["client_credentials"]}))
        .refuses(json!(["https://a.example/#x"]), ["spec.redirectUris[0]", "fragment"]),
        set("redirectUris", json!(["https://a.example/"]), json!(["https://b.example/"]))
            .required("authorization_code needs at least one of redirectUris")
            .refuses(json!([]), ["spec.redirectUris"]),
        set("scopes", json!(["bookings.read"]), json!(["bookings.write", "bookings.read"]))
            .refuses(json!(["a b"]), ["spec.scopes[0]"]),
        set("tokenEndpointAuthMethod", "client_secret_post", "client_secret_basic")
            .refuses("magic", ["spec.tokenEndpointAuthMethod", "client_secret_post"])
            .refuses("none", ["spec.tokenEndpointAuthMethod", "public"])
            .refuses("private_key_jwt", ["spec.tokenEndpointAuthMethod", "jwks"]),
        never("requirePkce").refuses("yes", ["spec.requirePkce", "boolean"]).told(
            true,
            "Unsupported",
            "requirePkce",
        ),
    ]
}

fn page(field: &'static str) -> Operation {
    set(field, "https://portal.example/1", "https://portal.example/2").refuses("nowhere", [field])
}

/// A field that always has this value at its registry; declared it changes nothing.
fn fixed(field: &'static str, value: impl Into<Value>) -> Operation {
    let value = value.into();
    set(field, value.clone(), value).one_value("the registry has no other").shown(|_, _| true)
}

fn keys() -> Vec<Operation> {
    let ec = json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y});
    let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
    let of = |operation: Operation, key: &Value| {
        operation.with(json!({"tokenEndpointAuthMethod": "client_secret_basic", "jwks": {"keys": [key]}}))
    };
    let others = json!([{"kty": "OKP", "crv": "Ed25519", "x": X}]);
    vec![
        of(set("jwks.keys", json!([ec]), others).refuses(json!([]), ["spec.jwks.keys", "at least 1"]), &ec),
        of(set("jwks.keys[].alg", "ES256", "ES384").refuses("E".repeat(33), ["spec.jwks.keys[0].alg"]), &ec),
        of(
            set("jwks.keys[].crv", "P-256", "P-384")
                .required("an EC or OKP key needs crv and x")
                .refuses(256, ["spec.jwks.keys[0].crv", "string"]),
            &ec,
        ),
        of(never("jwks.keys[].d").refuses("AA", ["spec.jwks.keys[0]", "private or symmetric key"]), &ec),
        of(
            set("jwks.keys[].e", "AQAB", "Aw")
                .required("an RSA key needs n and e")
                .refuses("A".repeat(65), ["spec.jwks.keys[0].e"]),
            &rsa,
        ),
        of(never("jwks.keys[].k").refuses("AA", ["spec.jwks.keys[0]", "private or symmetric key"]), &ec),
        of(set("jwks.keys[].kid", "one", "two").refuses("k".repeat(257), ["spec.jwks.keys[0].kid"]), &ec),
        of(
            set("jwks.keys[].kty", "EC", "OKP")
                .required("spec.jwks.keys[0].kty: Required value")
                .refuses("oct", ["spec.jwks.keys[0].kty", "OKP"])
                .refuses("RSA", ["spec.jwks.keys[0]", "an RSA key needs n and e"]),
            &ec,
        ),
        of(
            set("jwks.keys[].n", "AQAB", "AQAC")
                .required("an RSA key needs n and e")
                .refuses("A".repeat(4097), ["spec.jwks.keys[0].n"]),
            &rsa,
        ),
        of(set("jwks.keys[].use", "sig", "enc").refuses("all", ["spec.jwks.keys[0].use", "sig"]), &ec),
        of(
            set("jwks.keys[].x", X, Y)
                .required("an EC or OKP key needs crv and x")
                .refuses("A".repeat(257), ["spec.jwks.keys[0].x"]),
            &ec,
        ),
        of(set("jwks.keys[].y", Y, X).refuses(true, ["spec.jwks.keys[0].y", "string"]), &ec),
    ]
}

/// What only one provider knows, or what is another thing there.
fn at_providers() -> Vec<Operation> {
    let uris = json!({"redirectUris": ["https://a.example", "https://b.example"]});
    let at_teable = |operation: Operation| operation.at(Teable::SLUG).with(uris.clone());
    let anew = json!({"replacementPolicy": "WhenNeeded", "rotation": {"overlap": "1s"}});
    let flag = |field| set(field, true, false).at(CalCom::SLUG).refuses("yes", [field, "boolean"]);
    vec![
        flag("calCom.areCalendarEventsEnabled"),
        flag("calCom.areDefaultEventTypesEnabled"),
        flag("calCom.areEmailsEnabled").refuses(1, ["spec.calCom.areEmailsEnabled", "boolean"]),
        page("calCom.bookingCancelRedirectUri").at(CalCom::SLUG),
        page("calCom.bookingRedirectUri").at(CalCom::SLUG),
        page("calCom.bookingRescheduleRedirectUri").at(CalCom::SLUG),
        never("calCom.areEmailsEnabled").told(true, "Unsupported", "calCom.areEmailsEnabled"),
        set("scopes", json!(["BOOKING_READ"]), json!(["BOOKING_READ", "BOOKING_WRITE"]))
            .at(CalCom::SLUG)
            .with(anew.clone())
            .replaces()
            .unset(Unset::Told("MissingField"))
            .told(json!([]), "MissingField", "scopes"),
        fixed("grantTypes", json!(["authorization_code", "refresh_token"])).at(CalCom::SLUG),
        fixed("requirePkce", true).at(Meteroid::SLUG).told(false, "Unsupported", "requirePkce"),
        fixed("tokenEndpointAuthMethod", "client_secret_post").at(Teable::SLUG),
        set("requirePkce", true, false).at(Telnyx::SLUG).refuses("yes", ["spec.requirePkce", "boolean"]),
        set("teable.allowDeviceFlow", true, false)
            .at(Teable::SLUG)
            .refuses("yes", ["spec.teable.allowDeviceFlow", "boolean"]),
        at_teable(set("teable.defaultRedirectUri", "https://b.example", "https://a.example"))
            .refuses("https://a.example/#x", ["spec.teable.defaultRedirectUri", "fragment"]),
        set("teable.description", "For tables", "For offices\nand homes")
            .at(Teable::SLUG)
            .refuses("App\noauth-operator/a/b/c", ["spec.teable.description", "owner mark"]),
        set("clientName", "Office", "Bureau").at(Meteroid::SLUG).with(anew).replaces(),
    ]
}

fn where_it_is() -> Vec<Operation> {
    let public = json!({"clientType": "public", "grantTypes": ["authorization_code"]});
    vec![
        set("clientType", "public", "confidential")
            .with(public)
            .immutable("clientType is immutable")
            .required("clientType is immutable")
            .shown(|state, _| state["secret"]["data"].get("client_secret").is_none())
            .refuses("secret", ["spec.clientType", "confidential"]),
        set("clientType", "confidential", "public")
            .immutable("clientType is immutable")
            .unset(Unset::Clears)
            .shown(|state, _| state["secret"]["data"].get("client_secret").is_some()),
        set("registryRef.kind", "OAuthRegistry", "ClusterOAuthRegistry")
            .immutable("registryRef is immutable")
            .shown(|_, _| true)
            .refuses("Registry", ["spec.registryRef.kind", "ClusterOAuthRegistry"]),
        set("registryRef.name", super::DEVELOPMENT, Telnyx::SLUG)
            .immutable("registryRef is immutable")
            .required("spec.registryRef")
            .shown(|_, _| true)
            .refuses("", ["spec.registryRef.name"]),
        set("secret.name", "{name}-credentials", "{name}-others")
            .immutable("secret.name is immutable")
            .required("secret.name is immutable")
            .shown(|state, _| state["status"]["secretRef"]["name"] == "NAME-credentials")
            .refuses("Credentials", ["spec.secret.name"]),
    ]
}

fn secret() -> Vec<Operation> {
    vec![
        key("secret.keys.clientId").shown(|state, key| at(state, key) == "ID"),
        key("secret.keys.clientSecret").shown(|state, key| at(state, key) == "SECRET"),
        key("secret.keys.issuer")
            .shown(|state, key| at(state, key).as_str().is_some_and(|issuer| issuer.starts_with("http://"))),
        set("secret.template.annotations", json!({"example.com/a": "1"}), json!({"example.com/b": "2"}))
            .shown(|state, notes| state["secret"]["annotations"] == *notes)
            .refuses(
                json!({"argocd.argoproj.io/sync-wave": "1"}),
                ["spec.secret.template.annotations", "prune"],
            )
            .told(json!({"two words": "1"}), "KubernetesRefused", "two words"),
        set(
            "secret.template.data",
            json!({"dsn": "as://{{ clientId }}"}),
            json!({"url": "as:{{ clientSecret }}"}),
        )
        .shown(|state, data| {
            let filled =
                data.to_string().replace("{{ clientId }}", "ID").replace("{{ clientSecret }}", "SECRET");
            let filled: Value = serde_json::from_str(&filled).unwrap();
            filled.as_object().unwrap().iter().all(|(key, value)| state["secret"]["data"][key] == *value)
        })
        .refuses(json!({"x": "{{ password }}"}), ["spec.secret.template.data", "placeholder"]),
        set("secret.template.labels", json!({"team": "shop"}), json!({"tier": "web"}))
            .shown(|state, labels| state["secret"]["labels"] == *labels)
            .refuses(json!({"app.kubernetes.io/instance": "x"}), ["spec.secret.template.labels", "prune"])
            .told(json!({"team": "-shop-"}), "KubernetesRefused", "-shop-"),
    ]
}

/// What the Secret holds under a key.
fn at<'a>(state: &'a Value, key: &Value) -> &'a Value {
    &state["secret"]["data"][key.as_str().unwrap()]
}

fn key(field: &'static str) -> Operation {
    set(field, "FIRST", "SECOND").refuses("a/b", [field])
}

fn policies() -> Vec<Operation> {
    let every = |state: &Value, every: &Value| {
        every.as_str().unwrap().strip_suffix('h') == state["status"]["rotation"]["next"].as_str()
    };
    vec![
        set("deletionPolicy", "Retain", "Delete")
            .shown(|state, policy| (state["secret"]["owners"] == 1) == (policy == "Delete"))
            .refuses("Keep", ["spec.deletionPolicy", "Retain"]),
        // It only counts when something has to be replaced.
        set("replacementPolicy", "Never", "WhenNeeded")
            .shown(|_, _| true)
            .refuses("Always", ["spec.replacementPolicy", "WhenGone"]),
        set("rotation.every", "2h", "3h")
            .at(Teable::SLUG)
            .shown(every)
            .refuses("59s", ["spec.rotation.every", "1m"]),
        never("rotation.every").told("1h", "Unsupported", "rotation"),
        // It only counts when something is rotated.
        set("rotation.overlap", "10m", "20m")
            .at(Teable::SLUG)
            .with(json!({"rotation": {"every": "2h"}}))
            .shown(|_, _| true)
            .refuses("2h", ["spec.rotation.overlap", "shorter than every"]),
        set("suspend", true, false)
            .shown(|state, suspend| {
                let conditions = state["status"]["conditions"].as_array().unwrap();
                conditions.iter().any(|condition| condition["type"] == "Suspended") == (*suspend == true)
            })
            .refuses("yes", ["spec.suspend", "boolean"]),
    ]
}
