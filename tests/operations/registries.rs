//! The fields of an `OAuthRegistry` and a `ClusterOAuthRegistry`. In values, `{url}` is where the registry is, `{ca}` a certificate,
//! and `{namespace}` that of the clients.

use serde_json::json;

use super::{
    DEVELOPMENT,
    operation::{Operation, Unset, set},
};
use crate::support::providers::{
    cal_com::CalCom, meteroid::Meteroid, place::Place, teable::Teable, telnyx::Telnyx,
};

/// Nobody listens there.
const DEAD: &str = "http://127.0.0.1:1";

/// Those of both kinds.
pub fn operations() -> Vec<Operation> {
    [common(), dynamic_registration(), by_token(), teable()].into_iter().flatten().collect()
}

/// Those of a cluster's registry: what only it has, and what is in another namespace than its clients. The rest is one schema.
pub fn of_the_cluster() -> Vec<Operation> {
    let secrets = operations().into_iter().filter(|operation| operation.field.ends_with("SecretRef.name"));
    secrets.chain(allowed_namespaces()).collect()
}

/// The namespace has a label `team`, which is `shop`.
fn allowed_namespaces() -> Vec<Operation> {
    let selector =
        |selector| json!({"allowedNamespaces": {"matchLabels": null, "matchExpressions": selector}});
    let exists = json!([{"key": "team", "operator": "Exists"}]);
    let one_of = json!([{"key": "team", "operator": "In", "values": ["shop"]}]);
    let name = "kubernetes.io/metadata.name";
    vec![
        set("allowedNamespaces.matchLabels", json!({"team": "shop"}), json!({name: "{namespace}"}))
            .unset(Unset::Told("NamespaceNotAllowed"))
            .refuses(json!({"team": 5}), ["spec.allowedNamespaces.matchLabels.team", "string"])
            .told(json!({"team": "mall"}), "NamespaceNotAllowed", "allowedNamespaces"),
        set("allowedNamespaces.matchExpressions", exists.clone(), one_of.clone())
            .with(selector(json!(null)))
            .unset(Unset::Told("NamespaceNotAllowed"))
            .refuses(json!([{"key": "team"}]), ["spec.allowedNamespaces.matchExpressions[0].operator"])
            .told(json!([{"key": "team", "operator": "Magic"}]), "NamespaceNotAllowed", "allowedNamespaces"),
        set("allowedNamespaces.matchExpressions[].key", "team", name)
            .with(selector(exists.clone()))
            .required("matchExpressions[0].key: Required value")
            .refuses(5, ["spec.allowedNamespaces.matchExpressions[0].key", "string"])
            .told("tier", "NamespaceNotAllowed", "allowedNamespaces"),
        set("allowedNamespaces.matchExpressions[].operator", "Exists", "Exists")
            .one_value("no two operators are for the same key and values and let in the same namespace")
            .with(selector(exists))
            .required("matchExpressions[0].operator: Required value")
            .refuses(5, ["spec.allowedNamespaces.matchExpressions[0].operator", "string"])
            .told("DoesNotExist", "NamespaceNotAllowed", "allowedNamespaces"),
        set("allowedNamespaces.matchExpressions[].values", json!(["shop"]), json!(["mall", "shop"]))
            .with(selector(one_of))
            .unset(Unset::Told("NamespaceNotAllowed"))
            .refuses("shop", ["spec.allowedNamespaces.matchExpressions[0].values", "expected list"])
            .told(json!(["mall"]), "NamespaceNotAllowed", "allowedNamespaces"),
    ]
}

fn common() -> Vec<Operation> {
    let grants = ["authorization_code", "refresh_token"];
    vec![
        set("driftInterval", "10s", "20s").refuses("9s", ["spec.driftInterval", "10s"]),
        set(
            "guardrails.allowedGrantTypes",
            json!(grants),
            json!([&grants[..], &["client_credentials"]].concat()),
        )
        .refuses("client_credentials", ["spec.guardrails.allowedGrantTypes"])
        .told(json!([]), "NotAllowed", "grantTypes"),
        set("guardrails.allowedRedirectHosts", json!(["portal.example"]), json!(["*.example"]))
            .refuses(json!(["https://app.example"]), ["spec.guardrails.allowedRedirectHosts"])
            .told(json!([]), "NotAllowed", "redirectUris"),
        set("guardrails.allowedScopes", json!(["bookings.read"]), json!(["bookings.read", "bookings.write"]))
            .refuses(json!([""]), ["spec.guardrails.allowedScopes"])
            .told(json!(["bookings.write"]), "NotAllowed", "scopes"),
        set("insecureHttp", true, true)
            .one_value("no registry here has a certificate")
            .required("insecureHttp: true")
            .refuses(false, ["spec.dynamicRegistration", "insecureHttp: true"]),
        set("proxyUrl", "{url}", "{url}/").at(CalCom::SLUG).refuses("nowhere", ["spec.proxyUrl"]).told(
            DEAD,
            "RegistryUnavailable",
            "does not answer",
        ),
        set("rateLimit.burst", 10, 1000)
            .with(json!({"rateLimit": {"requestsPerSecond": 1000}}))
            .refuses(0, ["spec.rateLimit.burst"]),
        set("rateLimit.requestsPerSecond", 500, 1000)
            .with(json!({"rateLimit": null}))
            .refuses(0, ["spec.rateLimit.requestsPerSecond"]),
        set("timeout", "20s", "10s").refuses("2m", ["spec.timeout", "60s"]),
        set("tls.caBundle", "{ca}", "{ca}{ca}").refuses("", ["spec.tls.caBundle"]).told(
            "no certificate",
            "InvalidRegistry",
            "caBundle",
        ),
    ]
}

fn dynamic_registration() -> Vec<Operation> {
    let either = "give either issuer";
    vec![
        set("dynamicRegistration.driftReads", "Auto", "Never")
            .refuses("Often", ["spec.dynamicRegistration.driftReads"]),
        set("dynamicRegistration.issuer", "{url}", "{url}")
            .one_value("a client stays with its issuer")
            .required(either)
            .refuses("ftp://login.example.com", ["spec.dynamicRegistration.issuer"])
            .told(DEAD, "RegistryUnavailable", "does not answer"),
        set("dynamicRegistration.registrationEndpoint", "{url}/register", "{url}/register?again")
            .with(json!({"dynamicRegistration": {"issuer": null}}))
            .required(either)
            .refuses("ftp://login.example.com", ["spec.dynamicRegistration.registrationEndpoint"])
            .told("{url}/nowhere", "RegistryProtocolError", "registrationEndpoint"),
        set("dynamicRegistration.unknownOutcome", "Halt", "Retry")
            .refuses("Hope", ["spec.dynamicRegistration.unknownOutcome"]),
        secret("dynamicRegistration.initialAccessTokenSecretRef.name", DEVELOPMENT)
            .unset(Unset::Told("Unauthorized")),
        key("dynamicRegistration.initialAccessTokenSecretRef.key", DEVELOPMENT),
    ]
}

fn by_token() -> Vec<Operation> {
    vec![
        secret("calCom.credentialsSecretRef.name", CalCom::SLUG),
        key("calCom.credentialsSecretRef.key", CalCom::SLUG),
        url("calCom.url", CalCom::SLUG, "https://api.cal.com"),
        secret("meteroid.credentialsSecretRef.name", Meteroid::SLUG),
        key("meteroid.credentialsSecretRef.key", Meteroid::SLUG),
        url("meteroid.url", Meteroid::SLUG, "https://api.meteroid.com"),
        secret("telnyx.credentialsSecretRef.name", Telnyx::SLUG),
        key("telnyx.credentialsSecretRef.key", Telnyx::SLUG),
        Operation {
            values: Some([json!("{url}/v2"), json!("{url}/v2/")]),
            ..url("telnyx.url", Telnyx::SLUG, "https://api.telnyx.com/v2")
        },
    ]
}

fn teable() -> Vec<Operation> {
    let renamed = |field, first, second| {
        set(field, first, second).at(Teable::SLUG).refuses("", [field]).told(
            "absent",
            "CredentialsNotFound",
            "absent",
        )
    };
    vec![
        set("teable.authentication", "Password", "Bearer")
            .at(Teable::SLUG)
            .required("spec.teable.authentication: Required value")
            .refuses("Magic", ["spec.teable.authentication", "Password"]),
        secret("teable.credentialsSecretRef.name", Teable::SLUG),
        renamed("teable.credentialsSecretRef.emailKey", "email", "next-email"),
        renamed("teable.credentialsSecretRef.passwordKey", "password", "next-password"),
        renamed("teable.credentialsSecretRef.tokenKey", "token", "next-token")
            .with(json!({"teable": {"authentication": "Bearer"}})),
        url("teable.url", Teable::SLUG, "https://app.teable.ai"),
    ]
}

/// The name of the Secret with a registry's credentials.
fn secret(field: &'static str, at: &'static str) -> Operation {
    set(field, at, format!("{at}-next")).at(at).required("Required value").refuses("", [field]).told(
        "nobody",
        "CredentialsNotFound",
        "nobody",
    )
}

fn key(field: &'static str, at: &'static str) -> Operation {
    set(field, "token", "next-token").at(at).refuses("", [field]).told(
        "absent",
        "CredentialsNotFound",
        "absent",
    )
}

fn url(field: &'static str, at: &'static str, default: &'static str) -> Operation {
    set(field, "{url}", "{url}/")
        .at(at)
        .unset(Unset::Default(default))
        .refuses("ftp://api.example.com", [field])
        .told(DEAD, "RegistryUnavailable", "does not answer")
}
