//! The record: what the operator must never forget about a client, in a Secret of its own namespace. Pure.
//!
//! A registry shows credentials once, so the *create* of this Secret is the commit of a registration. The user's Secret is
//! derived from it and can be lost or edited without harm. It has no owner reference: it outlives its object until the
//! registry has let the client go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::intent::Refusal;
use crate::{
    api::{DeletionPolicy, RegistryRef, annotations},
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
    unmanaged_because: Option<String>,
    document: Document,
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
        let unmanaged_because = match &client.management {
            Management::Token { uri, token } => {
                data.insert(URI.into(), bytes(uri.as_str()));
                data.insert(TOKEN.into(), bytes(token.expose_secret()));
                None
            }
            Management::None(why) => Some(why.clone()),
        };
        let stored = Stored {
            state: self.state.clone(),
            client_secret_expires_at: client.client_secret_expires_at,
            registered_at: client.registered_at,
            unmanaged_because,
            document: client.document.clone(),
        };
        data.insert(STATE.into(), ByteString(serde_json::to_vec(&stored)?));
        Ok(data)
    }

    /// What must stand in no text.
    pub fn secrets(&self) -> Vec<&str> {
        let token = match &self.client.management {
            Management::Token { token, .. } => Some(token),
            Management::None(_) => None,
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
        let client = Client {
            client_id: text(CLIENT_ID)?.filter(|id| !id.is_empty()).ok_or("it has no client_id")?,
            client_secret: text(CLIENT_SECRET)?.map(SecretString::from),
            client_secret_expires_at: stored.client_secret_expires_at,
            registered_at: stored.registered_at,
            management: management(text(URI)?, text(TOKEN)?, stored.unmanaged_because)?,
            document: stored.document,
        };
        let notes = secret.metadata.annotations.clone().unwrap_or_default();
        let released = match notes.get(annotations::RELEASED).map(String::as_str) {
            Some("Retained") => Some(Released::Retained),
            Some(_) => Some(Released::Abandoned),
            None => None,
        };
        let owner = owner(&notes).ok_or("its annotations do not say whose it is")?;
        let version = secret.metadata.resource_version.clone();
        Ok(Self { owner, client, state: stored.state, released, version })
    }
}

/// Whether a stored Secret says what we wanted to store. Its annotations count as far as they say that it was released.
pub fn says(stored: &Secret, wanted: &Secret) -> bool {
    let released =
        |secret: &Secret| secret.metadata.annotations.as_ref()?.get(annotations::RELEASED).cloned();
    stored.data == wanted.data && released(stored) == released(wanted)
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
                client_id: "id-1".into(),
                client_secret: Some("s3cr3t".into()),
                client_secret_expires_at: None,
                registered_at: None,
                management: Management::Token {
                    uri: Url::parse("https://as.example/register/id-1").unwrap(),
                    token: "t0ken".into(),
                },
                document: applied.to_document(),
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
            },
            released: None,
            version: Some("7".into()),
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
