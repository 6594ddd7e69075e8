//! What is done to a field: its values, and what becomes of it when it is changed, unset or wrong.

use serde_json::{Map, Value};

use crate::manifests::merge;

/// A field of a spec with everything that is done to it.
#[derive(Clone)]
pub struct Operation {
    /// Its path; `[]` stands for the first item of a list.
    pub field: &'static str,
    /// The registry.
    pub at: &'static str,
    /// What else is declared.
    pub with: Value,
    /// Two valid values; none where nothing is valid.
    pub values: Option<[Value; 2]>,
    /// What a change of the value does.
    pub change: Change,
    /// What happens when it leaves the spec.
    pub unset: Unset,
    /// Values that are wrong.
    pub wrong: Vec<Wrong>,
    /// Whether a state shows the value; otherwise the registry's client has it.
    pub shows: Option<fn(&Value, &Value) -> bool>,
}

/// What a change of a value does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The client follows.
    InPlace,
    /// Another client takes its place.
    Replaces,
    /// The API server refuses it in these words.
    Refused(&'static str),
    /// There is only one valid value, for this reason.
    OneValue(&'static str),
}

/// What happens to a field that leaves the spec.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// Everything is as if it had never been there.
    Clears,
    /// The API server refuses that in these words.
    Refused(&'static str),
    /// It means this default, which no test may use.
    Default(&'static str),
    /// It cannot work, and this reason says so.
    Told(&'static str),
}

/// A wrong value.
#[derive(Clone)]
pub enum Wrong {
    /// The API server refuses it in these words.
    Refused(Value, Vec<&'static str>),
    /// It is let in; the status says why it cannot be had, by a reason and a word.
    Told(Value, &'static str, &'static str),
}

/// A field with two values, at the development registry, that are seen there.
pub fn set(field: &'static str, first: impl Into<Value>, second: impl Into<Value>) -> Operation {
    Operation { values: Some([first.into(), second.into()]), ..never(field) }
}

/// A field that has no valid value.
pub fn never(field: &'static str) -> Operation {
    Operation {
        field,
        at: super::DEVELOPMENT,
        with: Value::Object(Map::new()),
        values: None,
        change: Change::InPlace,
        unset: Unset::Clears,
        wrong: Vec::new(),
        shows: None,
    }
}

impl Operation {
    /// At another registry.
    pub fn at(self, at: &'static str) -> Self {
        Self { at, ..self }
    }

    /// With this in the spec, too.
    pub fn with(self, with: Value) -> Self {
        Self { with, ..self }
    }

    /// Where its value shows, if that is not at the registry.
    pub fn shown(self, shows: fn(&Value, &Value) -> bool) -> Self {
        Self { shows: Some(shows), ..self }
    }

    /// The API server takes no other value, in these words.
    pub fn immutable(self, words: &'static str) -> Self {
        Self { change: Change::Refused(words), ..self }
    }

    /// Both values are the same, for this reason.
    pub fn one_value(self, reason: &'static str) -> Self {
        Self { change: Change::OneValue(reason), ..self }
    }

    /// Another value needs another client.
    pub fn replaces(self) -> Self {
        Self { change: Change::Replaces, ..self }
    }

    /// It cannot leave the spec: the API server says this.
    pub fn required(self, words: &'static str) -> Self {
        Self { unset: Unset::Refused(words), ..self }
    }

    /// What happens when it leaves the spec.
    pub fn unset(self, unset: Unset) -> Self {
        Self { unset, ..self }
    }

    /// The API server refuses this value in these words.
    pub fn refuses<const N: usize>(mut self, value: impl Into<Value>, words: [&'static str; N]) -> Self {
        self.wrong.push(Wrong::Refused(value.into(), words.to_vec()));
        self
    }

    /// This value is let in, and the status says why it cannot be had.
    pub fn told(mut self, value: impl Into<Value>, reason: &'static str, word: &'static str) -> Self {
        self.wrong.push(Wrong::Told(value.into(), reason, word));
        self
    }

    /// What an object has in the place of the field.
    pub fn value_in<'a>(&self, object: &'a Value) -> &'a Value {
        steps(self.field)
            .into_iter()
            .fold(object, |object, step| if step == "[]" { &object[0] } else { &object[step] })
    }

    /// A spec with this value, or without the field.
    pub fn spec(&self, base: &Value, value: Option<&Value>) -> Value {
        let mut spec = base.clone();
        merge(&mut spec, &self.with);
        match value {
            Some(value) => put(&mut spec, &steps(self.field), value),
            None => take(&mut spec, &steps(self.field)),
        }
        spec
    }
}

/// The members on the way to a field.
fn steps(field: &str) -> Vec<&str> {
    field
        .split('.')
        .flat_map(|step| step.strip_suffix("[]").map_or(vec![step], |list| vec![list, "[]"]))
        .collect()
}

fn put(object: &mut Value, steps: &[&str], value: &Value) {
    match steps {
        [] => object.clone_from(value),
        ["[]", rest @ ..] => put(&mut object[0], rest, value),
        [step, rest @ ..] => put(&mut object[*step], rest, value),
    }
}

/// Takes a field away, and what is empty without it.
fn take(object: &mut Value, steps: &[&str]) {
    let (Some((step, rest)), true) = (steps.split_first(), object.is_object() || object.is_array()) else {
        return;
    };
    if *step == "[]" {
        return take(&mut object[0], rest);
    }
    if !rest.is_empty() {
        take(&mut object[*step], rest);
    }
    let Some(members) = object.as_object_mut() else { return };
    let empty = members.get(*step).is_some_and(|member| member.as_object().is_some_and(Map::is_empty));
    if rest.is_empty() || empty || members.get(*step).is_some_and(Value::is_null) {
        members.remove(*step);
    }
}
