//! Client metadata in the words of RFC 7591 section 2: what is declared, what a registry shows, and how the two compare.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api::{ClientType, OAuthClient, TokenEndpointAuthMethod};

/// A registry's document about a client, as received, without credentials.
pub type Document = Map<String, Value>;

/// A member of the metadata that users can declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each is the member of RFC 7591 of the same name")]
pub enum Field {
    ApplicationType,
    ClientName,
    ClientUri,
    Contacts,
    GrantTypes,
    Jwks,
    JwksUri,
    LogoUri,
    PolicyUri,
    PostLogoutRedirectUris,
    RedirectUris,
    Scopes,
    TokenEndpointAuthMethod,
    TosUri,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ApplicationType,
        Self::ClientName,
        Self::ClientUri,
        Self::Contacts,
        Self::GrantTypes,
        Self::Jwks,
        Self::JwksUri,
        Self::LogoUri,
        Self::PolicyUri,
        Self::PostLogoutRedirectUris,
        Self::RedirectUris,
        Self::Scopes,
        Self::TokenEndpointAuthMethod,
        Self::TosUri,
    ];

    /// The name in the spec of an `OAuthClient`.
    pub fn spec_name(self) -> &'static str {
        match self {
            Self::ApplicationType => "applicationType",
            Self::ClientName => "clientName",
            Self::ClientUri => "clientUri",
            Self::Contacts => "contacts",
            Self::GrantTypes => "grantTypes",
            Self::Jwks => "jwks",
            Self::JwksUri => "jwksUri",
            Self::LogoUri => "logoUri",
            Self::PolicyUri => "policyUri",
            Self::PostLogoutRedirectUris => "postLogoutRedirectUris",
            Self::RedirectUris => "redirectUris",
            Self::Scopes => "scopes",
            Self::TokenEndpointAuthMethod => "tokenEndpointAuthMethod",
            Self::TosUri => "tosUri",
        }
    }

    /// The name in RFC 7591 and OpenID Connect registration.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::ApplicationType => "application_type",
            Self::ClientName => "client_name",
            Self::ClientUri => "client_uri",
            Self::Contacts => "contacts",
            Self::GrantTypes => "grant_types",
            Self::Jwks => "jwks",
            Self::JwksUri => "jwks_uri",
            Self::LogoUri => "logo_uri",
            Self::PolicyUri => "policy_uri",
            Self::PostLogoutRedirectUris => "post_logout_redirect_uris",
            Self::RedirectUris => "redirect_uris",
            Self::Scopes => "scope",
            Self::TokenEndpointAuthMethod => "token_endpoint_auth_method",
            Self::TosUri => "tos_uri",
        }
    }

    fn is_list(self) -> bool {
        matches!(
            self,
            Self::Contacts
                | Self::GrantTypes
                | Self::PostLogoutRedirectUris
                | Self::RedirectUris
                | Self::Scopes
        )
    }
}

/// Metadata as declared: a field that is absent is not managed, an empty one is managed and empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientMetadata(pub BTreeMap<Field, Value>);

impl ClientMetadata {
    /// What an object declares. The name always is; a public client also declares that it does not authenticate.
    pub fn declared(client: &OAuthClient) -> Self {
        let spec = &client.spec;
        let method = spec.token_endpoint_auth_method.or(match spec.client_type {
            ClientType::Public => Some(TokenEndpointAuthMethod::None),
            ClientType::Confidential => None,
        });
        let members = [
            (Field::ApplicationType, spec.application_type.as_ref().map(|v| json!(v))),
            (Field::ClientName, Some(json!(client.client_name()))),
            (Field::ClientUri, spec.client_uri.as_ref().map(|v| json!(v))),
            (Field::Contacts, spec.contacts.as_ref().map(|v| json!(v))),
            (Field::GrantTypes, spec.grant_types.as_ref().map(|v| json!(v))),
            (Field::Jwks, spec.jwks.as_ref().map(|v| json!(v))),
            (Field::JwksUri, spec.jwks_uri.as_ref().map(|v| json!(v))),
            (Field::LogoUri, spec.logo_uri.as_ref().map(|v| json!(v))),
            (Field::PolicyUri, spec.policy_uri.as_ref().map(|v| json!(v))),
            (Field::PostLogoutRedirectUris, spec.post_logout_redirect_uris.as_ref().map(|v| json!(v))),
            (Field::RedirectUris, spec.redirect_uris.as_ref().map(|v| json!(v))),
            (Field::Scopes, spec.scopes.as_ref().map(|v| json!(v))),
            (Field::TokenEndpointAuthMethod, method.map(|v| json!(v.as_str()))),
            (Field::TosUri, spec.tos_uri.as_ref().map(|v| json!(v))),
        ];
        Self(members.into_iter().filter_map(|(field, value)| Some((field, value?))).collect())
    }

    /// The value of a field, if it is declared.
    pub fn get(&self, field: Field) -> Option<&Value> {
        self.0.get(&field)
    }

    /// The members as RFC 7591 writes them: `scope` is one string, everything else as declared.
    pub fn to_document(&self) -> Document {
        let wire = |(field, value): (&Field, &Value)| {
            let value = match (field, value) {
                (Field::Scopes, Value::Array(scopes)) => {
                    json!(scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
                }
                _ => value.clone(),
            };
            (field.wire_name().to_owned(), value)
        };
        self.0.iter().map(wire).collect()
    }

    /// The declared fields that a registry's document shows otherwise.
    pub fn differing(&self, document: &Document) -> Vec<Field> {
        let differs = |(field, value): (&Field, &Value)| normal(*field, value) != shown(*field, document);
        self.0.iter().filter(|member| differs(*member)).map(|(field, _)| *field).collect()
    }
}

/// The value of a field in a registry's document, in its normal form.
pub fn shown(field: Field, document: &Document) -> Value {
    document.get(field.wire_name()).map_or(Value::Null, |value| normal(field, value))
}

/// The form in which values are compared. Absent, `null`, `""`, `[]` and `{}` are one; lists are sets; `scope` may be a string;
/// a list of one may be its member, and the other way round (seen at real servers).
pub fn normal(field: Field, value: &Value) -> Value {
    let value = match value {
        Value::String(text) if field == Field::Scopes => json!(text.split_whitespace().collect::<Vec<_>>()),
        Value::String(_) if field.is_list() => json!([value]),
        Value::Array(items) if !field.is_list() && items.len() == 1 => items[0].clone(),
        other => other.clone(),
    };
    match value {
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Object(members) if members.is_empty() => Value::Null,
        Value::Array(items) => set(items),
        other => other,
    }
}

fn set(mut items: Vec<Value>) -> Value {
    items.retain(|item| !item.is_null() && item != "");
    items.sort_by_key(Value::to_string);
    items.dedup();
    if items.is_empty() { Value::Null } else { Value::Array(items) }
}

/// What a registry does with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It takes any value.
    Settable,
    /// It always has this value; declaring the same is fine.
    Fixed(Value),
    /// It does not know the field.
    Unsupported,
}

/// What a registry can do; all that the planner knows about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The fields that are not simply settable.
    pub fields: BTreeMap<Field, Support>,
    /// The fields without which it registers nothing.
    pub required: Vec<Field>,
}

impl Capabilities {
    /// Whether and how a field is supported.
    pub fn support(&self, field: Field) -> &Support {
        self.fields.get(&field).unwrap_or(&Support::Settable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_compare_as_the_standards_and_real_servers_mean_them() {
        let cases = [
            (Field::Scopes, json!(["b", "a"]), json!("a  b"), true, "scope is a set in one string"),
            (
                Field::RedirectUris,
                json!(["https://a"]),
                json!("https://a"),
                true,
                "a list of one as its member",
            ),
            (
                Field::TokenEndpointAuthMethod,
                json!("none"),
                json!(["none"]),
                true,
                "a member as a list of one",
            ),
            (Field::Contacts, json!([]), Value::Null, true, "managed and empty is absent there"),
            (Field::LogoUri, json!(""), Value::Null, true, "managed and empty is absent there"),
            (Field::Contacts, json!(["a", "b"]), json!(["b", "a", "a"]), true, "lists are sets"),
            (Field::RedirectUris, json!(["https://a"]), json!(["https://a/"]), false, "exact comparison"),
            (Field::ClientName, json!("A"), json!("a"), false, "case matters"),
        ];
        for (field, declared, found, same, reason) in cases {
            let declared = ClientMetadata([(field, declared)].into());
            let document = [(field.wire_name().to_owned(), found)].into_iter().collect();
            assert_eq!(declared.differing(&document).is_empty(), same, "{field:?}: {reason}");
        }
    }

    #[test]
    fn what_is_sent_and_read_back_does_not_differ() {
        let declared = ClientMetadata(
            [
                (Field::Scopes, json!(["x", "y"])),
                (Field::RedirectUris, json!(["https://b", "https://a"])),
                (Field::ClientName, json!("n")),
            ]
            .into(),
        );
        assert_eq!(declared.differing(&declared.to_document()), []);
    }
}
