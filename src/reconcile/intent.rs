//! The write-ahead intent: what the operator was about to do at the registry, kept on the object itself.
//!
//! It is written with the object's `resourceVersion` before the first effect, so a pass with a stale view loses the race
//! instead of acting. It is superseded, never cleared; a nonce is spent once.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    api::{OAuthClient, annotations},
    registry::{Client, Management},
};

/// An announced registration, or an announced secret for a client that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The object's UID. An intent that was copied with its YAML bears another one and counts for nothing.
    pub uid: String,
    /// Names this attempt, and no other.
    pub nonce: String,
    /// The nonce of the record that stays good until the new one is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The client that a secret is issued for; absent if a client is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_for: Option<Named>,
    /// The client that is good still, and stays for a while beside the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retires: Option<String>,
    /// The client whose record was lost, and which a person gave up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<String>,
    /// Counts the attempts of which no one knows the outcome, this one included. From 1.
    pub attempt: u32,
    /// When the attempt was announced.
    pub at: Timestamp,
    /// What became of it, as far as somebody saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// Earlier attempts of which no one knows the outcome: each may have left a client behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<Suspect>,
}

/// A client by its ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// The client id.
    pub client_id: String,
    /// The id by which the registry manages it, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_id: Option<String>,
}

impl Named {
    /// The ids of a client.
    pub fn of(client: &Client) -> Self {
        Self { client_id: client.client_id.clone(), registration_id: client.registration_id.clone() }
    }

    /// A client of which nothing but the ids is known, at a registry that manages all by its own credentials.
    pub fn client(&self) -> Client {
        let registration_id = self.registration_id.clone();
        Client { registration_id, ..Client::named(&self.client_id, Management::Registry) }
    }
}

/// The registry said no: it made no client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The condition reason.
    pub reason: String,
    /// The safe text.
    pub message: String,
    /// What was asked of whom, as a fingerprint; absent if asking again unchanged may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_for: Option<String>,
}

/// An attempt of which no one knows the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Its nonce, which is part of the `software_id` that it sent.
    pub nonce: String,
    /// When it was announced.
    pub at: Timestamp,
}

impl Intent {
    /// The intent on an object, if it is the object's own.
    pub fn of(client: &OAuthClient) -> Option<Self> {
        let text = client.metadata.annotations.as_ref()?.get(annotations::INTENT)?;
        let intent: Self = serde_json::from_str(text).ok()?;
        (client.metadata.uid.as_deref() == Some(intent.uid.as_str())).then_some(intent)
    }

    /// A first attempt.
    pub fn first(uid: &str, nonce: String, replaces: Option<String>, at: Timestamp) -> Self {
        Self {
            uid: uid.into(),
            nonce,
            replaces,
            secret_for: None,
            retires: None,
            gave_up: None,
            attempt: 1,
            at,
            refused: None,
            suspects: Vec::new(),
        }
    }

    /// The attempt after this one. If nobody saw how this one ended, it becomes a suspect and is counted; unless a person has
    /// looked and `released` it: then the count starts again.
    #[must_use]
    pub fn next(&self, nonce: String, replaces: Option<String>, at: Timestamp, released: bool) -> Self {
        let mut suspects = self.suspects.clone();
        let mut attempt = self.attempt;
        if self.refused.is_none() {
            suspects.push(Suspect { nonce: self.nonce.clone(), at: self.at });
            attempt = attempt.saturating_add(1);
        }
        if released {
            (attempt, suspects) = (1, Vec::new());
        }
        Self { nonce, replaces, attempt, at, refused: None, suspects, ..self.clone() }
    }

    /// The attempt after a person has looked after its suspects.
    #[must_use]
    pub fn looked_after(&self) -> Self {
        Self { suspects: Vec::new(), ..self.clone() }
    }

    /// The attempt with its refusal noted.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> Self {
        Self { refused: Some(refusal), ..self.clone() }
    }

    /// The annotation's text.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests;
