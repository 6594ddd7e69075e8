//! A wrong manifest is refused by the API server, with a message that names the field.

use serde_json::json;

use crate::{
    manifests::{client, merge, registry},
    support::{Cluster, Kind},
};

/// What is wrong, the spec's members that make it so, and what the message must say.
const CLIENTS: [(&str, &str, &[&str]); 27] = [
    ("a fragment", r#"{"redirectUris": ["https://a.example/#x"]}"#, &["spec.redirectUris[0]", "fragment"]),
    ("a wildcard", r#"{"redirectUris": ["https://*.example/"]}"#, &["spec.redirectUris[0]", "wildcard"]),
    (
        "user information",
        r#"{"redirectUris": ["https://me@a.example/"]}"#,
        &["spec.redirectUris[0]", "user information"],
    ),
    ("plain http", r#"{"redirectUris": ["http://a.example/"]}"#, &["spec.redirectUris[0]", "https://"]),
    ("a script", r#"{"redirectUris": ["javascript:alert(1)"]}"#, &["spec.redirectUris[0]", "https://"]),
    (
        "a private-use scheme without a dot",
        r#"{"clientType": "public", "redirectUris": ["app:/cb"]}"#,
        &["spec.redirectUris[0]"],
    ),
    (
        "a private-use scheme of a server",
        r#"{"redirectUris": ["com.example.app:/cb"]}"#,
        &["spec.redirectUris", "public"],
    ),
    ("a grant that is not offered", r#"{"grantTypes": ["password"]}"#, &["spec.grantTypes", "not offered"]),
    (
        "a code without a redirect",
        r#"{"grantTypes": ["authorization_code"]}"#,
        &["spec.redirectUris", "at least one"],
    ),
    ("a public machine", r#"{"clientType": "public"}"#, &["spec.grantTypes", "confidential"]),
    ("a scope twice", r#"{"scopes": ["a", "b", "a"]}"#, &["spec.scopes", "no two may be equal"]),
    ("a scope with a space", r#"{"scopes": ["a b"]}"#, &["spec.scopes[0]"]),
    (
        "method and type at odds",
        r#"{"tokenEndpointAuthMethod": "none"}"#,
        &["spec.tokenEndpointAuthMethod", "public"],
    ),
    (
        "an unknown method",
        r#"{"tokenEndpointAuthMethod": "magic"}"#,
        &["spec.tokenEndpointAuthMethod", "client_secret_basic"],
    ),
    (
        "keys missing",
        r#"{"tokenEndpointAuthMethod": "private_key_jwt"}"#,
        &["spec.tokenEndpointAuthMethod", "jwks"],
    ),
    (
        "a private key",
        r#"{"jwks": {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA"}]}}"#,
        &["spec.jwks.keys[0]", "private"],
    ),
    (
        "keys twice",
        r#"{"jwksUri": "https://a.example/jwks", "jwks": {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}}"#,
        &["spec.jwks", "exclude"],
    ),
    (
        "an unknown placeholder",
        r#"{"secret": {"template": {"data": {"x": "{{ password }}"}}}}"#,
        &["spec.secret.template.data", "placeholder"],
    ),
    (
        "a tracking label",
        r#"{"secret": {"template": {"labels": {"argocd.argoproj.io/instance": "x"}}}}"#,
        &["spec.secret.template.labels", "prune"],
    ),
    (
        "one key for two values",
        r#"{"secret": {"keys": {"clientId": "x", "clientSecret": "x"}}}"#,
        &["spec.secret.keys", "differ"],
    ),
    (
        "the words of two registries",
        r#"{"calCom": {"areEmailsEnabled": true}, "teable": {"description": "x"}}"#,
        &["spec.calCom", "keep the block of yours"],
    ),
    (
        "an owner mark for a name",
        r#"{"clientName": "oauth-operator/a/b/c"}"#,
        &["spec.clientName", "owner mark"],
    ),
    (
        "an owner mark",
        r#"{"teable": {"description": "App\noauth-operator/a/b/c"}}"#,
        &["spec.teable.description", "owner mark"],
    ),
    (
        "a default redirect with a fragment",
        r#"{"teable": {"defaultRedirectUri": "https://a.example/#x"}}"#,
        &["spec.teable.defaultRedirectUri", "fragment"],
    ),
    ("a restless rotation", r#"{"rotation": {"every": "59s"}}"#, &["spec.rotation.every", "1m"]),
    (
        "an overlap without an end",
        r#"{"rotation": {"every": "1h", "overlap": "60m"}}"#,
        &["spec.rotation.overlap", "shorter than every"],
    ),
    ("an unknown field", r#"{"redirectURIs": []}"#, &["spec.redirectURIs"]),
];

const REGISTRIES: [(&str, &str, &[&str]); 14] = [
    (
        "no registry",
        r#"{"dynamicRegistration": null}"#,
        &["spec", "exactly one of calCom, dynamicRegistration"],
    ),
    (
        "two registries",
        r#"{"telnyx": {"credentialsSecretRef": {"name": "x"}}}"#,
        &["spec", "exactly one of calCom, dynamicRegistration"],
    ),
    (
        "an API key of Cal.com in the clear",
        r#"{"dynamicRegistration": null, "insecureHttp": false, "calCom": {"url": "http://a.example", "credentialsSecretRef": {"name": "x"}}}"#,
        &["spec", "insecureHttp"],
    ),
    (
        "an API key of Meteroid in the clear",
        r#"{"dynamicRegistration": null, "insecureHttp": false, "meteroid": {"url": "http://a.example", "credentialsSecretRef": {"name": "x"}}}"#,
        &["spec", "insecureHttp"],
    ),
    (
        "an API key of Telnyx in the clear",
        r#"{"dynamicRegistration": null, "insecureHttp": false, "telnyx": {"url": "http://a.example", "credentialsSecretRef": {"name": "x"}}}"#,
        &["spec", "insecureHttp"],
    ),
    (
        "a password for Teable in the clear",
        r#"{"dynamicRegistration": null, "insecureHttp": false, "teable": {"url": "http://a.example", "authentication": "Password", "credentialsSecretRef": {"name": "x"}}}"#,
        &["spec", "insecureHttp"],
    ),
    (
        "no word about the credentials",
        r#"{"dynamicRegistration": null, "teable": {"credentialsSecretRef": {"name": "x"}}}"#,
        &["spec.teable.authentication"],
    ),
    (
        "no credentials",
        r#"{"dynamicRegistration": null, "meteroid": {}}"#,
        &["spec.meteroid.credentialsSecretRef"],
    ),
    (
        "user information in a url",
        r#"{"dynamicRegistration": null, "calCom": {"url": "https://me@a.example", "credentialsSecretRef": {"name": "x"}}}"#,
        &["spec.calCom.url"],
    ),
    (
        "two ways in",
        r#"{"dynamicRegistration": {"registrationEndpoint": "https://a.example/r"}}"#,
        &["spec.dynamicRegistration", "either"],
    ),
    ("secrets in the clear", r#"{"insecureHttp": false}"#, &["spec.dynamicRegistration", "insecureHttp"]),
    ("too often", r#"{"driftInterval": "9s"}"#, &["spec.driftInterval", "10s"]),
    ("no duration", r#"{"driftInterval": "soon"}"#, &["spec.driftInterval"]),
    ("too patient", r#"{"timeout": "2m"}"#, &["spec.timeout", "60s"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn it_is_refused_with_the_fields_name() {
    let world = Cluster::connect().await.world("wrong").await;
    let cases = CLIENTS.iter().map(|case| (case, client("app")));
    let cases = cases.chain(REGISTRIES.iter().map(|case| (case, registry("http://127.0.0.1:1"))));
    for ((what, change, words), mut manifest) in cases {
        merge(&mut manifest["spec"], &serde_json::from_str(change).unwrap());
        let message = world.try_apply(manifest).await.expect_err(what);
        for word in *words {
            assert!(message.contains(word), "{what}: {word:?} is not in {message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_change_is_refused_unset_to_set_included() {
    let world = Cluster::connect().await.world("immutable").await;
    world.apply(client("app")).await;
    let mut named = client("named");
    named["spec"]["secret"] = json!({"name": "credentials"});
    world.apply(named).await;
    let cases = [
        ("app", json!({"registryRef": {"name": "other"}}), "registryRef is immutable"),
        ("app", json!({"registryRef": {"kind": "ClusterOAuthRegistry"}}), "registryRef is immutable"),
        ("app", json!({"clientType": "public"}), "clientType is immutable"),
        ("app", json!({"secret": {"name": "credentials"}}), "secret.name is immutable"),
        ("named", json!({"secret": {"name": "app"}}), "secret.name is immutable"),
        ("named", json!({"secret": null}), "secret.name is immutable"),
    ];
    for (name, change, expected) in cases {
        let message =
            world.try_patch(Kind::OAuthClient, name, &json!({"spec": change})).await.expect_err(expected);
        assert!(message.contains(expected), "{change}: {message}");
    }
    world.apply(registry("http://127.0.0.1:1")).await;
    let another = json!({"dynamicRegistration": null, "telnyx": {"credentialsSecretRef": {"name": "x"}}});
    let message = world
        .try_patch(Kind::OAuthRegistry, "registry", &json!({"spec": another}))
        .await
        .expect_err("another kind");
    assert!(message.contains("cannot become one of another kind"), "{message}");
    let layout = json!({"spec": {"secret": {"keys": {"clientId": "ID"}}}});
    world.try_patch(Kind::OAuthClient, "app", &layout).await.expect("the layout may change");
}
