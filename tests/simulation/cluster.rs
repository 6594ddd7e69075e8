//! An API server in memory: resource versions, generations, finalizers, subresources, owner references, namespaces that end, and
//! watches that have a history and forget it. It knows no server-side apply, which the operator does not use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::Method;
use jiff::Timestamp;
use oauth_operator::lease;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A place in the API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The resource, for example `secrets`.
    pub resource: String,
    /// The namespace; empty for cluster-scoped kinds and for a list over all.
    pub namespace: String,
    /// The name; empty for a collection.
    pub name: String,
}

/// A request to the API server.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub place: Place,
    pub subresource: String,
    pub query: BTreeMap<String, String>,
    pub body: Value,
}

impl Request {
    /// Reads verb, path and query.
    pub fn read(method: Method, uri: &http::Uri, body: Value) -> Self {
        let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        // api/v1/… or apis/GROUP/VERSION/…
        let below = if segments[0] == "api" { &segments[2..] } else { &segments[3..] };
        let (namespace, below) = match below {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let part = |n: usize| below.get(n).copied().unwrap_or_default().to_owned();
        let pairs = uri.query().unwrap_or_default();
        let query = url::form_urlencoded::parse(pairs.as_bytes()).into_owned().collect();
        let place = Place { resource: part(0), namespace: namespace.into(), name: part(1) };
        Self { method, place, subresource: part(2), query, body }
    }

    /// Whether this opens a watch.
    pub fn watches(&self) -> bool {
        self.query.get("watch").is_some_and(|watch| watch == "true" || watch == "1")
    }

    /// Its name in plans and in the list of what was covered.
    pub fn name(&self) -> String {
        let collection = self.place.name.is_empty();
        let verb = match (self.method.as_str(), collection) {
            ("GET", true) if self.watches() => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "replace",
            ("PATCH", _) => "patch",
            _ => "delete",
        };
        let what = match (self.place.resource.as_str(), self.place.namespace.as_str()) {
            ("secrets", _) if self.place.name == crate::CREDENTIALS => "credentials",
            ("secrets", crate::OPERATOR_NAMESPACE) => "record",
            ("secrets", _) => "Secret",
            (resource, _) => resource,
        };
        let sub = if self.subresource.is_empty() { String::new() } else { format!("/{}", self.subresource) };
        format!("{verb} {what}{sub}")
    }

    /// Whether it can have an effect.
    pub fn writes(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether it changes what operators are there for: neither an event nor the Lease is.
    pub fn counts(&self) -> bool {
        self.writes() && !["events", "leases"].contains(&self.place.resource.as_str())
    }
}

/// What it answers: a status and a body.
pub type Answer = (u16, Value);

/// One change, as a watch tells it.
#[derive(Clone)]
pub struct Change {
    pub version: u64,
    pub place: Place,
    pub kind: &'static str,
    pub object: Value,
}

/// The store.
#[derive(Default)]
pub struct Cluster {
    objects: BTreeMap<Place, Value>,
    version: u64,
    history: Vec<Change>,
    ending: BTreeSet<String>,
    /// Told at every change.
    pub changed: Arc<Notify>,
    /// Every event that was reported, reason and note.
    pub events: Vec<String>,
}

/// A place of a namespaced object.
pub fn at(resource: &str, namespace: &str, name: &str) -> Place {
    Place { resource: resource.into(), namespace: namespace.into(), name: name.into() }
}

impl Cluster {
    /// One object, as it is.
    pub fn get(&self, place: &Place) -> Option<&Value> {
        self.objects.get(place)
    }

    /// The operator that holds the Lease.
    pub fn holder(&self) -> Option<usize> {
        let lease = self.objects.get(&at("leases", crate::OPERATOR_NAMESPACE, lease::NAME))?;
        lease["spec"]["holderIdentity"].as_str()?.parse().ok()
    }

    /// All objects of a resource, in all namespaces.
    pub fn all(&self, resource: &str) -> impl Iterator<Item = (&Place, &Value)> {
        self.objects.iter().filter(move |(place, _)| place.resource == resource)
    }

    /// Answers one request.
    pub fn answer(&mut self, request: &Request, now: Timestamp) -> Answer {
        if request.place.resource == "events" {
            let (reason, note) = (&request.body["reason"], &request.body["note"]);
            self.events.push(format!("{}: {}", text(reason), text(note)));
            return (201, request.body.clone());
        }
        match request.method {
            Method::GET if request.place.name.is_empty() => list(&self.objects, self.version, request),
            Method::GET => match self.objects.get(&request.place) {
                Some(object) => (200, object.clone()),
                None => failure(404, "NotFound"),
            },
            Method::POST => self.create(request, now),
            Method::DELETE => self.delete(request, now),
            _ => self.update(request),
        }
    }

    /// What a list showed when everything had this version.
    pub fn list_as_of(&self, version: u64, request: &Request) -> Answer {
        let mut objects = BTreeMap::new();
        for change in self.history.iter().take_while(|change| change.version <= version) {
            if change.kind == "DELETED" {
                objects.remove(&change.place);
            } else {
                objects.insert(change.place.clone(), change.object.clone());
            }
        }
        list(&objects, version, request)
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn create(&mut self, request: &Request, now: Timestamp) -> Answer {
        let mut object = request.body.clone();
        let place = Place { name: text(&object["metadata"]["name"]), ..request.place.clone() };
        if self.objects.contains_key(&place) {
            return failure(409, "AlreadyExists");
        }
        if self.ending.contains(&place.namespace) {
            let (code, mut body) = failure(403, "Forbidden");
            body["details"] = json!({"causes": [{"reason": "NamespaceTerminating"}]});
            return (code, body);
        }
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("uid-{}", self.version + 1));
        metadata["generation"] = json!(1);
        metadata["creationTimestamp"] = json!(seconds(now));
        if !place.namespace.is_empty() {
            metadata["namespace"] = json!(place.namespace);
        }
        if let Some(members) = object.as_object_mut() {
            members.remove("status");
        }
        let lost = self.lacks_its_owner(&object);
        let object = self.put(&place, object, "ADDED");
        if lost {
            self.take_away(&place);
        }
        (201, object)
    }

    /// Whether it names owners and none of them is there: such an object is collected.
    fn lacks_its_owner(&self, object: &Value) -> bool {
        let owners = object["metadata"]["ownerReferences"].as_array();
        let is_there =
            |owner: &Value| self.objects.values().any(|other| other["metadata"]["uid"] == owner["uid"]);
        owners.is_some_and(|owners| !owners.is_empty() && !owners.iter().any(is_there))
    }

    fn delete(&mut self, request: &Request, now: Timestamp) -> Answer {
        let Some(found) = self.objects.get(&request.place) else { return failure(404, "NotFound") };
        let preconditions = &request.body["preconditions"];
        for (wanted, member) in [("resourceVersion", "resourceVersion"), ("uid", "uid")] {
            let wanted = &preconditions[wanted];
            if !wanted.is_null() && *wanted != found["metadata"][member] {
                return failure(409, "Conflict");
            }
        }
        self.remove(&request.place.clone(), now);
        (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }

    fn update(&mut self, request: &Request) -> Answer {
        let Some(found) = self.objects.get(&request.place).cloned() else { return failure(404, "NotFound") };
        let expected = &request.body["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != found["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        let mut said = found.clone();
        if request.method == Method::PATCH {
            merge(&mut said, &request.body);
        } else {
            said = request.body.clone();
        }
        // Status and the rest are written by different requests.
        let mut new = found.clone();
        if request.subresource == "status" {
            new["status"] = said["status"].clone();
        } else {
            let status = found["status"].clone();
            new = said;
            for member in [
                "uid",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "resourceVersion",
                "namespace",
            ] {
                set(&mut new["metadata"], member, found["metadata"][member].clone());
            }
            set(&mut new, "status", status);
            if new["spec"] != found["spec"] {
                new["metadata"]["generation"] =
                    json!(found["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
            }
        }
        if new == found {
            return (200, found);
        }
        let new = self.put(&request.place, new, "MODIFIED");
        if is_let_go(&new) {
            self.take_away(&request.place);
        }
        (200, new)
    }

    /// Stores an object under a new version, and tells the watches.
    pub fn put(&mut self, place: &Place, mut object: Value, kind: &'static str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(place.clone(), object.clone());
        self.tell(place, kind, object.clone());
        object
    }

    /// What `kubectl` or a person's client does to an object. Creates it if there is none.
    pub fn apply(&mut self, place: &Place, patch: Value, now: Timestamp) {
        let exists = self.objects.contains_key(place);
        let (method, place_of) = if exists {
            (Method::PATCH, place.clone())
        } else {
            (Method::POST, Place { name: String::new(), ..place.clone() })
        };
        let mut body = patch;
        body["metadata"]["name"] = json!(place.name);
        let request =
            Request { method, place: place_of, subresource: String::new(), query: BTreeMap::new(), body };
        self.answer(&request, now);
    }

    /// Deletes an object, or marks it for deletion.
    pub fn remove(&mut self, place: &Place, now: Timestamp) {
        let Some(mut object) = self.objects.get(place).cloned() else { return };
        if object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            self.take_away(place);
        } else if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(seconds(now));
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            object["metadata"]["generation"] = json!(generation);
            self.put(place, object, "MODIFIED");
        }
    }

    /// Removes an object whatever its finalizers say, and what it owns.
    pub fn take_away(&mut self, place: &Place) {
        let Some(object) = self.objects.remove(place) else { return };
        self.version += 1;
        self.tell(place, "DELETED", object.clone());
        let uid = &object["metadata"]["uid"];
        let is_owned = |other: &Value| {
            other["metadata"]["ownerReferences"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|owner| owner["uid"] == *uid)
        };
        let owned: Vec<Place> = self
            .objects
            .iter()
            .filter(|(_, other)| is_owned(other))
            .map(|(place, _)| place.clone())
            .collect();
        for place in &owned {
            self.take_away(place);
        }
    }

    /// Ends a namespace: everything in it is deleted, and nothing new is let in.
    pub fn end_namespace(&mut self, namespace: &str, now: Timestamp) {
        self.ending.insert(namespace.into());
        let inside: Vec<Place> =
            self.objects.keys().filter(|place| place.namespace == namespace).cloned().collect();
        for place in &inside {
            self.remove(place, now);
        }
    }

    /// What a watch that has seen `version` is to be told.
    pub fn since(&self, version: u64, of: &Place) -> Vec<Change> {
        let told = |change: &&Change| {
            change.version > version
                && change.place.resource == of.resource
                && (of.namespace.is_empty() || of.namespace == change.place.namespace)
        };
        self.history.iter().filter(told).cloned().collect()
    }

    fn tell(&mut self, place: &Place, kind: &'static str, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push(Change { version: self.version, place: place.clone(), kind, object });
        self.changed.notify_waiters();
    }
}

fn list(objects: &BTreeMap<Place, Value>, version: u64, request: &Request) -> Answer {
    let selector = request.query.get("labelSelector").map(String::as_str).unwrap_or_default();
    let after = request.query.get("continue").filter(|token| !token.is_empty());
    let limit = request.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let mut found = objects
        .iter()
        .filter(|(place, object)| {
            place.resource == request.place.resource
                && (request.place.namespace.is_empty() || place.namespace == request.place.namespace)
                && selected(object, selector)
        })
        .filter(|(place, _)| after.is_none_or(|token| token_of(place) > *token));
    let items: Vec<(&Place, &Value)> = found.by_ref().take(limit).collect();
    let next = found.next().and(items.last()).map(|(place, _)| token_of(place)).unwrap_or_default();
    let items: Vec<&Value> = items.into_iter().map(|(_, object)| object).collect();
    let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
    (200, json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

/// A reply of kind `Status`.
pub fn failure(code: u16, reason: &str) -> Answer {
    let message = format!("the server says {reason}");
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason, "message": message}),
    )
}

fn is_let_go(object: &Value) -> bool {
    let held = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
    !object["metadata"]["deletionTimestamp"].is_null() && !held
}

fn selected(object: &Value, selector: &str) -> bool {
    selector.split(',').filter(|part| !part.is_empty()).all(|part| {
        let labels = &object["metadata"]["labels"];
        part.split_once('=')
            .map_or(!labels[part].is_null(), |(key, value)| labels[key] == value.trim_start_matches('='))
    })
}

fn token_of(place: &Place) -> String {
    format!("{}/{}", place.namespace, place.name)
}

fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn set(object: &mut Value, member: &str, value: Value) {
    let Some(members) = object.as_object_mut() else { return };
    if value.is_null() {
        members.remove(member)
    } else {
        members.insert(member.into(), value)
    };
}

/// RFC 7396.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in members {
        if value.is_null() {
            set(target, key, Value::Null);
        } else {
            merge(&mut target[key], value);
        }
    }
}
