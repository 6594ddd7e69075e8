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
#[expect(missing_docs, reason = "each is the member of the spec of the same name")]
pub enum Field {
    AllowDeviceFlow,
    ApplicationType,
    AreCalendarEventsEnabled,
    AreDefaultEventTypesEnabled,
    AreEmailsEnabled,
    BookingCancelRedirectUri,
    BookingRedirectUri,
    BookingRescheduleRedirectUri,
    ClientName,
    ClientUri,
    Contacts,
    DefaultRedirectUri,
    Description,
    GrantTypes,
    Jwks,
    JwksUri,
    LogoUri,
    PolicyUri,
    PostLogoutRedirectUris,
    RedirectUris,
    RequirePkce,
    Scopes,
    TokenEndpointAuthMethod,
    TosUri,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::AllowDeviceFlow,
        Self::ApplicationType,
        Self::AreCalendarEventsEnabled,
        Self::AreDefaultEventTypesEnabled,
        Self::AreEmailsEnabled,
        Self::BookingCancelRedirectUri,
        Self::BookingRedirectUri,
        Self::BookingRescheduleRedirectUri,
        Self::ClientName,
        Self::ClientUri,
        Self::Contacts,
        Self::DefaultRedirectUri,
        Self::Description,
        Self::GrantTypes,
        Self::Jwks,
        Self::JwksUri,
        Self::LogoUri,
        Self::PolicyUri,
        Self::PostLogoutRedirectUris,
        Self::RedirectUris,
        Self::RequirePkce,
        Self::Scopes,
        Self::TokenEndpointAuthMethod,
        Self::TosUri,
    ];

    /// The name in the spec of an `OAuthClient`.
    pub fn spec_name(self) -> &'static str {
        match self {
            Self::AllowDeviceFlow => "teable.allowDeviceFlow",
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
            Self::AreCalendarEventsEnabled => "calCom.areCalendarEventsEnabled",
            Self::AreDefaultEventTypesEnabled => "calCom.areDefaultEventTypesEnabled",
            Self::AreEmailsEnabled => "calCom.areEmailsEnabled",
            Self::BookingCancelRedirectUri => "calCom.bookingCancelRedirectUri",
            Self::BookingRedirectUri => "calCom.bookingRedirectUri",
            Self::BookingRescheduleRedirectUri => "calCom.bookingRescheduleRedirectUri",
            Self::DefaultRedirectUri => "teable.defaultRedirectUri",
            Self::Description => "teable.description",
            Self::RequirePkce => "requirePkce",
        }
    }

    /// The name in RFC 7591 and OpenID Connect registration; for what those do not know, the name in the spec.
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
            Self::AllowDeviceFlow => "teable.allowDeviceFlow",
            Self::AreCalendarEventsEnabled => "calCom.areCalendarEventsEnabled",
            Self::AreDefaultEventTypesEnabled => "calCom.areDefaultEventTypesEnabled",
            Self::AreEmailsEnabled => "calCom.areEmailsEnabled",
            Self::BookingCancelRedirectUri => "calCom.bookingCancelRedirectUri",
            Self::BookingRedirectUri => "calCom.bookingRedirectUri",
            Self::BookingRescheduleRedirectUri => "calCom.bookingRescheduleRedirectUri",
            Self::DefaultRedirectUri => "teable.defaultRedirectUri",
            Self::Description => "teable.description",
            Self::RequirePkce => "require_pkce",
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
        let cal_com = spec.cal_com.clone().unwrap_or_default();
        let teable = spec.teable.clone().unwrap_or_default();
        let members = [
            (Field::AllowDeviceFlow, teable.allow_device_flow.map(|v| json!(v))),
            (Field::AreCalendarEventsEnabled, cal_com.are_calendar_events_enabled.map(|v| json!(v))),
            (Field::AreDefaultEventTypesEnabled, cal_com.are_default_event_types_enabled.map(|v| json!(v))),
            (Field::AreEmailsEnabled, cal_com.are_emails_enabled.map(|v| json!(v))),
            (Field::BookingCancelRedirectUri, cal_com.booking_cancel_redirect_uri.map(|v| json!(v))),
            (Field::BookingRedirectUri, cal_com.booking_redirect_uri.map(|v| json!(v))),
            (Field::BookingRescheduleRedirectUri, cal_com.booking_reschedule_redirect_uri.map(|v| json!(v))),
            (Field::DefaultRedirectUri, teable.default_redirect_uri.map(|v| json!(v))),
            (Field::Description, teable.description.map(|v| json!(v))),
            (Field::RequirePkce, spec.require_pkce.map(|v| json!(v))),
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
    match value {
        Value::String(text) if field == Field::Scopes => {
            set(text.split_whitespace().map(Value::from).collect())
        }
        Value::String(text) if text.is_empty() => Value::Null,
        Value::String(_) if field.is_list() => json!([value]),
        Value::Object(members) if members.is_empty() => Value::Null,
        Value::Array(items) => match set(items.clone()) {
            Value::Array(items) if !field.is_list() && items.len() == 1 => normal(field, &items[0]),
            set => set,
        },
        other => other.clone(),
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
    /// It takes any value, now and later.
    Settable,
    /// It takes any value when it registers a client, and none later.
    Immutable,
    /// It always has one of these values; declaring one is fine.
    Fixed(Vec<Value>),
    /// It does not know the field.
    Unsupported,
}

/// What becomes of a client that is ours, but whose registration nobody saw the end of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adoption {
    /// It cannot be found: clients cannot be listed.
    #[default]
    Impossible,
    /// It is found with its secret.
    AsShown,
    /// It is found, and a new secret is issued for it.
    WithNewSecret,
    /// It can be found, but its secret is lost: another one is registered, and it is removed.
    Replaced,
}

/// Where a registry has room for the owner mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MarkPlace {
    /// Nowhere.
    #[default]
    Nowhere,
    /// In the name, until the object names the client.
    PendingName,
    /// Beside what is declared, for good.
    Beside,
}

/// How a registry lets a client secret be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// Not at all: a new client takes the place of the old one.
    #[default]
    Recreate,
    /// The new secret ends the old one at once.
    Replace,
    /// Both work until the old one is revoked.
    Overlap,
}

/// What a registry can do; all that the planner knows about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The fields that it knows. What is not here is unsupported.
    pub fields: BTreeMap<Field, Support>,
    /// The fields without which it registers nothing.
    pub required: Vec<Field>,
    /// What a new client may have of a field that nobody declares, where that is not nothing.
    pub defaults: BTreeMap<Field, Vec<Value>>,
    /// What becomes of a client of an unknown outcome.
    pub adoption: Adoption,
    /// Where the owner mark stands.
    pub mark: MarkPlace,
    /// How a secret is changed.
    pub rotation: Rotation,
    /// Every read shows the secret, so that no record is needed beside the user's Secret.
    pub shows_secrets: bool,
    /// A list shows all that is compared; otherwise each client is read on its own now and then.
    pub list_is_whole: bool,
}

impl Capabilities {
    /// Whether and how a field is supported.
    pub fn support(&self, field: Field) -> &Support {
        self.fields.get(&field).unwrap_or(&Support::Unsupported)
    }

    /// Whether a client of which nobody declares this field has this value by itself.
    pub fn is_default(&self, field: Field, value: &Value) -> bool {
        let same = |known: &Value| normal(field, known) == normal(field, value);
        match self.support(field) {
            Support::Fixed(values) => values.iter().any(same),
            _ => {
                same(&Value::Null) || self.defaults.get(&field).is_some_and(|values| values.iter().any(same))
            }
        }
    }

    /// Whether clients can be listed.
    pub fn lists(&self) -> bool {
        self.adoption != Adoption::Impossible
    }

    /// Whether a client that is found is taken over.
    pub fn adopts(&self) -> bool {
        matches!(self.adoption, Adoption::AsShown | Adoption::WithNewSecret)
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
