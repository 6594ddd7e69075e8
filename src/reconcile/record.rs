//! The record: what the operator must never forget about a client. Pure.
//!
//! Most registries show credentials once, so the record is a Secret of the operator's own namespace, and its *create* is the
//! commit of a registration. The user's Secret is derived from it and can be lost or edited without harm. It has no owner
//! reference: it outlives its object until the registry has let the client go.
//!
//! Where every read shows the secret, the record is an annotation of the user's Secret: that is the commit then, and what is lost
//! is read again. As soon as it has to tell of another client than that one, it is kept apart there too.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    intent::{Named, Refusal},
    protocol::Rule,
    rotation::Schedule,
};
use crate::{
    api::{DeletionPolicy, OAuthClient, RegistryRef, annotations},
    registry::{Client, ClientMetadata, Document, Field, Management},
};

/// The label by which records are listed.
pub const LABEL: &str = "oauth-operator.io/record";
const TYPE: &str = "oauth-operator.io/record";

const CLIENT_ID: &str = "client_id";
const CLIENT_SECRET: &str = "client_secret";
const TOKEN: &str = "registration_access_token";
const URI: &str = "registration_client_uri";
const STATE: &str = "state";

/// What the operator must never forget about a client.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose it is.
    pub owner: Owner,
    /// The client at the registry, with its credentials.
    pub client: Client,
    /// Everything else.
    pub state: State,
    /// Why it outlives its object, if it does.
    pub released: Option<Released>,
    /// The version that was read; `None` before it was stored.
    pub version: Option<String>,
    /// Where it is kept.
    pub place: Place,
}

/// Where a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a Secret of the operator's namespace.
    Apart,
    /// With the user's Secret.
    WithSecret,
}

/// The object that a record belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The object's UID, which names the record.
    pub uid: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// What is neither credential nor owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The attempt that made the client.
    pub nonce: String,
    /// Scheme, host and port of the registry that has the client: the only place where its token is sent.
    pub origin: String,
    /// The registry object.
    pub registry: RegistryRef,
    /// What becomes of the client when its object goes, even without a last word.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// The issuer, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What was declared at the last write that the registry accepted.
    pub applied: ClientMetadata,
    /// What a write that is on its way declares; its outcome is unknown until it is stored as `applied`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<ClientMetadata>,
    /// An update that the registry refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// When we were given a secret that expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_since: Option<Timestamp>,
    /// The end of the secret's life for which an update was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_for: Option<Timestamp>,
    /// Fields that left the spec and that the registry would not clear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_cleared: Vec<Field>,
    /// The fingerprint of the registry's credentials that registered the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// When the secret was changed, and when it is changed next.
    #[serde(default)]
    pub schedule: Schedule,
    /// The secret before this one, where it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// Secrets that are about to be revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoking: Vec<String>,
    /// A reply may have been lost that brought a secret: the client may have one that nobody knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stray_secrets: bool,
    /// Earlier clients of the object that are removed when their time has come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retiring: Vec<Retiring>,
}

/// The secret before the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its id.
    pub id: String,
    /// When it is revoked.
    pub until: Timestamp,
}

/// An earlier client of the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retiring {
    /// Which.
    #[serde(flatten)]
    pub client: Named,
    /// When it is removed.
    pub until: Timestamp,
}

/// Why a record outlives its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// `deletionPolicy: Retain`.
    Retained,
    /// The registry could not be told; the record is the ledger of the orphan.
    Abandoned,
}

impl Released {
    fn as_str(self) -> &'static str {
        match self {
            Self::Retained => "Retained",
            Self::Abandoned => "Abandoned",
        }
    }
}

/// The part of the stored state that belongs to [`Client`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    #[serde(flatten)]
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registered_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registration_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_hint: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    managed_by_registry: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unmanaged_because: Option<String>,
    document: Document,
}

impl Stored {
    /// Other ids, what is to be removed, and the registry whose credentials would be used.
    fn forget_what_leads_elsewhere(&mut self, registry: &RegistryRef) {
        self.state.registry.clone_from(registry);
        (self.registration_id, self.secret_id) = (None, None);
        (self.state.previous, self.state.stray_secrets) = (None, false);
        self.state.revoking.clear();
        self.state.retiring.clear();
    }

    fn of(record: &Record) -> Self {
        let client = &record.client;
        let (managed_by_registry, unmanaged_because) = match &client.management {
            Management::Token { .. } => (false, None),
            Management::Registry => (true, None),
            Management::None(why) => (false, Some(why.clone())),
        };
        Self {
            state: record.state.clone(),
            client_secret_expires_at: client.client_secret_expires_at,
            registered_at: client.registered_at,
            registration_id: client.registration_id.clone(),
            account_id: client.account_id.clone(),
            secret_id: client.secret_id.clone(),
            secret_hint: client.secret_hint.clone(),
            managed_by_registry,
            unmanaged_because,
            document: client.document.clone(),
        }
    }

    fn client(self, id: String, secret: Option<String>, management: Management) -> (Client, State) {
        let client = Client {
            client_secret: secret.map(SecretString::from),
            client_secret_expires_at: self.client_secret_expires_at,
            registered_at: self.registered_at,
            registration_id: self.registration_id,
            account_id: self.account_id,
            secret_id: self.secret_id,
            secret_hint: self.secret_hint,
            document: self.document,
            ..Client::named(id, management)
        };
        (client, self.state)
    }
}

/// The record as the user's Secret keeps it: ids only, for the secret itself stands in the data.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Beside {
    client_id: String,
    /// The key in the data that holds the secret.
    secret_key: String,
    #[serde(flatten)]
    stored: Stored,
}

impl Owner {
    /// The object itself.
    pub fn of(client: &OAuthClient) -> Self {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let metadata = &client.metadata;
        Self { uid: part(&metadata.uid), namespace: part(&metadata.namespace), name: part(&metadata.name) }
    }
}

/// The record's name.
pub fn name(uid: &str) -> String {
    format!("oauth-client-{uid}")
}

impl Record {
    /// The Secret that keeps this record.
    ///
    /// # Errors
    /// If the state is no JSON, which would be a bug here.
    pub fn to_secret(&self, namespace: &str, installation: &str) -> serde_json::Result<Secret> {
        let mut annotations = BTreeMap::from([
            (annotations::CLIENT.to_owned(), format!("{}/{}", self.owner.namespace, self.owner.name)),
            (annotations::OWNER_UID.to_owned(), self.owner.uid.clone()),
            (annotations::INSTALLATION.to_owned(), installation.to_owned()),
        ]);
        if let Some(released) = self.released {
            annotations.insert(annotations::RELEASED.into(), released.as_str().into());
        }
        Ok(Secret {
            metadata: ObjectMeta {
                name: Some(name(&self.owner.uid)),
                namespace: Some(namespace.into()),
                labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
                annotations: Some(annotations),
                resource_version: self.version.clone(),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.into()),
            data: Some(self.data()?),
            ..Secret::default()
        })
    }

    fn data(&self) -> serde_json::Result<BTreeMap<String, ByteString>> {
        let client = &self.client;
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let mut data = BTreeMap::from([(CLIENT_ID.to_owned(), bytes(&client.client_id))]);
        if let Some(secret) = &client.client_secret {
            data.insert(CLIENT_SECRET.into(), bytes(secret.expose_secret()));
        }
        if let Management::Token { uri, token } = &client.management {
            data.insert(URI.into(), bytes(uri.as_str()));
            data.insert(TOKEN.into(), bytes(token.expose_secret()));
        }
        let stored = Stored::of(self);
        data.insert(STATE.into(), ByteString(serde_json::to_vec(&stored)?));
        Ok(data)
    }

    /// What must stand in no text.
    pub fn secrets(&self) -> Vec<&str> {
        let token = match &self.client.management {
            Management::Token { token, .. } => Some(token),
            Management::Registry | Management::None(_) => None,
        };
        self.client.client_secret.iter().chain(token).map(ExposeSecret::expose_secret).collect()
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// What is wrong with it, in words that quote no value.
    pub fn read(secret: &Secret) -> Result<Self, String> {
        let data = secret.data.as_ref().ok_or("it is empty")?;
        let text = |key: &str| {
            let bytes = data.get(key).map(|value| value.0.clone());
            bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| format!("{key} is no text"))).transpose()
        };
        let state = data.get(STATE).ok_or("it has no state")?;
        let stored: Stored = serde_json::from_slice(&state.0)
            .map_err(|e| format!("its state cannot be read (line {}, column {})", e.line(), e.column()))?;
        let id = text(CLIENT_ID)?.filter(|id| !id.is_empty()).ok_or("it has no client_id")?;
        let management = if stored.managed_by_registry {
            Management::Registry
        } else {
            management(text(URI)?, text(TOKEN)?, stored.unmanaged_because.clone())?
        };
        let (client, state) = stored.client(id, text(CLIENT_SECRET)?, management);
        let notes = secret.metadata.annotations.clone().unwrap_or_default();
        let released = match notes.get(annotations::RELEASED).map(String::as_str) {
            Some("Retained") => Some(Released::Retained),
            Some(_) => Some(Released::Abandoned),
            None => None,
        };
        let owner = owner(&notes).ok_or("its annotations do not say whose it is")?;
        let version = secret.metadata.resource_version.clone();
        Ok(Self { owner, client, state, released, version, place: Place::Apart })
    }

    /// The text that the user's Secret keeps.
    ///
    /// # Errors
    /// If the state is no JSON, which would be a bug here.
    pub fn to_annotation(&self, secret_key: &str) -> serde_json::Result<String> {
        let (client_id, stored) = (self.client.client_id.clone(), Stored::of(self));
        serde_json::to_string(&Beside { client_id, secret_key: secret_key.into(), stored })
    }

    /// Reads a record that the user's Secret keeps; `None` if it keeps none that can be read. Everybody who may write the Secret could
    /// have written it, so whatever could lead to another client is left out: other ids, what is to be removed, and the registry
    /// whose credentials would be used.
    pub fn beside(secret: &Secret, object: &OAuthClient) -> Option<Self> {
        let text = secret.metadata.annotations.as_ref()?.get(annotations::RECORD)?;
        let Beside { client_id, secret_key, mut stored } = serde_json::from_str(text).ok()?;
        let value = secret.data.as_ref().and_then(|data| data.get(&secret_key));
        let value = value.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        if Rule::Trust.holds() {
            stored.forget_what_leads_elsewhere(&object.spec.registry_ref);
        }
        let owner = Owner::of(object);
        let (client, state) = stored.client(client_id, value, Management::Registry);
        let version = secret.metadata.resource_version.clone();
        Some(Self { owner, client, state, released: None, version, place: Place::WithSecret })
    }
}

/// Whether a stored Secret says what we wanted to store. Its annotations count as far as they say that it was released.
pub fn says(stored: &Secret, wanted: &Secret) -> bool {
    let released =
        |secret: &Secret| secret.metadata.annotations.as_ref()?.get(annotations::RELEASED).cloned();
    let beside = |secret: &Secret| secret.metadata.annotations.as_ref()?.get(annotations::RECORD).cloned();
    stored.data == wanted.data && released(stored) == released(wanted) && beside(stored) == beside(wanted)
}

fn management(uri: Option<String>, token: Option<String>, why: Option<String>) -> Result<Management, String> {
    match (uri, token) {
        (Some(uri), Some(token)) => Ok(Management::Token {
            uri: Url::parse(&uri).map_err(|_| "its registration_client_uri is no URL")?,
            token: token.into(),
        }),
        _ => Ok(Management::None(why.unwrap_or_else(|| "the record has no registration token".into()))),
    }
}

fn owner(notes: &BTreeMap<String, String>) -> Option<Owner> {
    let (namespace, name) = notes.get(annotations::CLIENT)?.split_once('/')?;
    let uid = notes.get(annotations::OWNER_UID)?;
    Some(Owner { uid: uid.clone(), namespace: namespace.into(), name: name.into() })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A record of the client `ns/app` with the given declaration applied.
    pub(crate) fn record(applied: ClientMetadata) -> Record {
        Record {
            owner: Owner { uid: "uid-1".into(), namespace: "ns".into(), name: "app".into() },
            client: Client {
                client_secret: Some("s3cr3t".into()),
                document: applied.to_document(),
                ..Client::named(
                    "id-1",
                    Management::Token {
                        uri: Url::parse("https://as.example/register/id-1").unwrap(),
                        token: "t0ken".into(),
                    },
                )
            },
            state: State {
                nonce: "nonce-1".into(),
                origin: "https://as.example".into(),
                registry: RegistryRef { kind: crate::api::RegistryKind::default(), name: "dev".into() },
                deletion_policy: DeletionPolicy::Delete,
                issuer: Some("https://as.example".into()),
                applied,
                in_flight: None,
                refused: None,
                secret_since: None,
                renewed_for: None,
                not_cleared: vec![Field::LogoUri],
                credentials: None,
                schedule: Schedule::default(),
                previous: None,
                revoking: Vec::new(),
                stray_secrets: false,
                retiring: Vec::new(),
            },
            released: None,
            version: Some("7".into()),
            place: Place::Apart,
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let applied = ClientMetadata([(Field::ClientName, json!("App"))].into());
        let mut written = record(applied);
        written.released = Some(Released::Abandoned);
        let secret = written.to_secret("operator", "installation").unwrap();
        let read = Record::read(&secret).unwrap();
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
        let secret_of =
            |record: &Record| record.client.client_secret.clone().unwrap().expose_secret().to_owned();
        assert_eq!(secret_of(&read), secret_of(&written), "Debug does not show it");
    }

    #[test]
    fn debug_shows_no_credential() {
        let shown = format!("{:?}", record(ClientMetadata::default()));
        assert!(!shown.contains("s3cr3t") && !shown.contains("t0ken"), "{shown}");
    }

    #[test]
    fn a_broken_record_says_what_is_wrong_and_quotes_nothing() {
        let good = record(ClientMetadata::default()).to_secret("operator", "installation").unwrap();
        let broken = |change: fn(&mut BTreeMap<String, ByteString>)| {
            let mut secret = good.clone();
            change(secret.data.as_mut().unwrap());
            Record::read(&secret).unwrap_err()
        };
        assert_eq!(broken(|data| drop(data.remove("client_id"))), "it has no client_id");
        assert_eq!(broken(|data| drop(data.remove("state"))), "it has no state");
        let garbage = broken(|data| drop(data.insert("state".into(), ByteString(b"s3cr3t".to_vec()))));
        assert!(garbage.starts_with("its state cannot be read") && !garbage.contains("s3cr3t"), "{garbage}");
    }
}
