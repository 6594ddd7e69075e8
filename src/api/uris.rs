//! URIs that go to a registry, with the rules of RFC 6749 §3.1.2, RFC 8252 §7 and RFC 9700 §2.1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where the authorization server may send people back to. It is compared exactly, so every character counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(transparent)]
#[schemars(extend("x-kubernetes-validations" = redirect_rules()))]
pub struct RedirectUri(#[schemars(length(min = 1, max = 512))] pub String);

fn redirect_rules() -> Value {
    const FORMS: &str = "self.matches('^https://[^/?#@*[:space:]]+([/?][^#*[:space:]]*)?$') \
        || self.matches('^http://(127[.]0[.]0[.]1|[[]::1[]]|localhost)(:[0-9]{1,5})?([/?][^#*[:space:]]*)?$') \
        || self.matches('^[a-z][a-z0-9+-]*([.][a-z0-9+-]+)+:/[^#*[:space:]]*$')";
    json!([
        {"rule": "!self.contains('#')", "message": "must not have a fragment (RFC 6749 section 3.1.2)"},
        {"rule": "!self.contains('*')", "message": "must not have a wildcard: redirect URIs are compared exactly (RFC 9700 section 2.1)"},
        {"rule": "!self.matches('^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*@')", "message": "must not carry user information before the host"},
        {"rule": FORMS, "message": "must be https://…, or http:// on 127.0.0.1, [::1] or localhost, or for a public client a \
            private-use scheme with a dot such as com.example.app:/callback (RFC 8252 section 7)"},
    ])
}

/// An absolute `https` or `http` URL that people or servers may open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(transparent)]
pub struct WebUri(
    #[schemars(length(max = 2048), regex(pattern = r"^(https?://[^/?#@\s]+([/?#]\S*)?)?$"))]
    pub String,
);
