//! The user's Secret: derived from the record, in the layout that the app wants. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::record::{Place, Record};
use crate::api::{DeletionPolicy, OAuthClient, annotations};

/// What stands at the place of the user's Secret.
#[derive(Clone)]
pub enum Found {
    /// Nothing.
    Absent,
    /// Somebody else's Secret.
    Foreign,
    /// Ours.
    Ours(Box<Secret>),
}

/// What the Secret should hold. Not `Debug`: it holds the credentials.
#[derive(PartialEq)]
pub struct Wanted {
    data: BTreeMap<String, ByteString>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    owner: Option<OwnerReference>,
}

/// The names that we wrote, so that we remove exactly those when the layout changes.
#[derive(Default, Serialize, Deserialize)]
struct Layout {
    data: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<String>,
}

/// Tells whose a Secret is: ours if it bears the object's UID, as annotation or as owner.
pub fn judge(secret: Option<Secret>, uid: &str) -> Found {
    let Some(secret) = secret else { return Found::Absent };
    let marked =
        secret.metadata.annotations.iter().flatten().any(|(k, v)| k == annotations::OWNER_UID && v == uid);
    let owned = secret.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid);
    if marked || owned { Found::Ours(Box::new(secret)) } else { Found::Foreign }
}

/// What the Secret of `client` should hold.
pub fn wanted(client: &OAuthClient, record: &Record, installation: &str) -> Wanted {
    let spec = client.spec.secret.clone().unwrap_or_default();
    let template = spec.template.unwrap_or_default();
    let values = Values::of(record);
    let mut data: BTreeMap<String, ByteString> = BTreeMap::new();
    for (key, text) in template.data.unwrap_or_default() {
        data.insert(key, bytes(&values.fill(&text)));
    }
    let secret_key = spec.keys.client_secret.clone();
    for (key, value) in [
        (spec.keys.client_id, Some(values.client_id)),
        (spec.keys.client_secret, values.client_secret),
        (spec.keys.issuer, values.issuer),
    ] {
        if let Some(value) = value {
            data.insert(key, bytes(value));
        }
    }
    let labels = template.labels.unwrap_or_default();
    let mut notes = template.annotations.unwrap_or_default();
    let layout = Layout {
        data: data.keys().cloned().collect(),
        labels: labels.keys().cloned().collect(),
        annotations: notes.keys().cloned().collect(),
    };
    if record.place == Place::WithSecret {
        // As with the layout: serializing cannot fail, and a lost record is read again from the registry.
        notes.insert(annotations::RECORD.into(), record.to_annotation(&secret_key).unwrap_or_default());
    }
    notes.insert(annotations::OWNER_UID.into(), record.owner.uid.clone());
    notes.insert(annotations::INSTALLATION.into(), installation.into());
    // Serializing three lists of strings cannot fail; an empty layout would only mean that nothing is removed later.
    notes.insert(annotations::LAYOUT.into(), serde_json::to_string(&layout).unwrap_or_default());
    Wanted { data, labels, annotations: notes, owner: owner(client) }
}

/// Under `Retain` the Secret outlives the object, so it has no owner.
fn owner(client: &OAuthClient) -> Option<OwnerReference> {
    match client.spec.deletion_policy {
        DeletionPolicy::Delete => client.controller_owner_ref(&()),
        DeletionPolicy::Retain => None,
    }
}

struct Values<'a> {
    client_id: &'a str,
    client_secret: Option<&'a str>,
    issuer: Option<&'a str>,
}

impl<'a> Values<'a> {
    fn of(record: &'a Record) -> Self {
        Self {
            client_id: &record.client.client_id,
            client_secret: record.client.client_secret.as_ref().map(ExposeSecret::expose_secret),
            issuer: record.state.issuer.as_deref(),
        }
    }

    /// Replaces `{{ clientId }}`, `{{ clientSecret }}` and `{{ issuer }}`; what it does not know stays, since CEL refused it before.
    fn fill(&self, template: &str) -> String {
        let mut filled = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            filled.push_str(before);
            let Some((name, behind)) = after.split_once("}}") else {
                filled.push_str("{{");
                rest = after;
                continue;
            };
            match name.trim() {
                "clientId" => filled.push_str(self.client_id),
                "clientSecret" => filled.push_str(self.client_secret.unwrap_or_default()),
                "issuer" => filled.push_str(self.issuer.unwrap_or_default()),
                _ => {
                    filled.push_str("{{");
                    filled.push_str(name);
                    filled.push_str("}}");
                }
            }
            rest = behind;
        }
        filled.push_str(rest);
        filled
    }
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

impl Wanted {
    /// Whether a Secret already holds all of it, and nothing that an older layout left.
    pub fn is(&self, secret: &Secret) -> bool {
        let merged = self.over(secret);
        merged.data == secret.data
            && merged.metadata.labels == secret.metadata.labels
            && merged.metadata.annotations == secret.metadata.annotations
            && merged.metadata.owner_references == secret.metadata.owner_references
    }

    /// A new Secret.
    pub fn create(&self, namespace: &str, name: &str) -> Secret {
        let bare = Secret {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(namespace.into()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".into()),
            ..Secret::default()
        };
        self.over(&bare)
    }

    /// An existing Secret with this laid over it. What others added stays; what an older layout of ours named goes.
    pub fn over(&self, secret: &Secret) -> Secret {
        let mut merged = secret.clone();
        let notes = secret.metadata.annotations.as_ref();
        let mut old: Layout = notes
            .and_then(|notes| notes.get(annotations::LAYOUT))
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        // Ours even if no layout names it: a record that is kept apart now, or that somebody made up.
        old.annotations.push(annotations::RECORD.into());
        replace(&mut merged.data, &old.data, &self.data);
        replace(&mut merged.metadata.labels, &old.labels, &self.labels);
        replace(&mut merged.metadata.annotations, &old.annotations, &self.annotations);
        let uid = self.annotations.get(annotations::OWNER_UID);
        let owners = merged.metadata.owner_references.get_or_insert_default();
        owners.retain(|owner| Some(&owner.uid) != uid);
        owners.extend(self.owner.clone());
        if owners.is_empty() {
            merged.metadata.owner_references = None;
        }
        merged
    }
}

fn replace<V: Clone>(map: &mut Option<BTreeMap<String, V>>, old: &[String], new: &BTreeMap<String, V>) {
    let members = map.get_or_insert_default();
    members.retain(|key, _| !old.contains(key));
    members.extend(new.clone());
    if members.is_empty() {
        *map = None;
    }
}

#[cfg(test)]
mod tests;
