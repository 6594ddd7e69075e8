//! What may become of an honest document on its way.

use bolero::TypeGenerator;
use serde_json::{Value, json};

/// Texts that some decoder has an opinion of.
const TELLING: [&str; 21] = [
    "",
    ".",
    "..",
    "a/b",
    "id-1",
    "null",
    "Cannot GET /",
    "not_found",
    "invalid_client",
    "invalid_token",
    "invalid_credentials",
    "NOT_FOUND",
    "oauth-operator/inst-1/uid-1/n1",
    "oauth-operator/inst-2/uid-1/n1",
    "App [af123b-a75079c1d35c-af55]",
    "https://as.example/register/id-2",
    "https://me@as.example/register/id-1",
    "https://elsewhere.example/register/id-1",
    "9999-12-31T23:59:59Z",
    "-009999-01-01T00:00:00Z",
    "\u{feff}\u{202e}\u{1b}[31m\r\n",
];

/// A change of a JSON document. Places are counted over all its nodes.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Damage {
    /// Another value in the place of one.
    Put(u8, Thing),
    /// A member or item that is left out.
    Drop(u8),
    /// A list or object with one thing more.
    Add(u8, Thing),
}

/// A value.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Thing {
    /// None.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(i64),
    /// Any text.
    Text(String),
    /// One that a decoder looks for.
    Telling(u8),
    /// One of a length that some limit is about.
    Long(u8),
    /// A list.
    List(Vec<bool>),
    /// A list in a list in a list.
    Deep(u8),
}

impl Thing {
    /// As text, where only that fits.
    pub fn text(&self) -> String {
        match self.value() {
            Value::String(text) => text,
            value => value.to_string(),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => json!(value),
            Self::Number(number) => json!(number),
            Self::Text(text) => json!(text),
            Self::Telling(at) => json!(TELLING[usize::from(*at) % TELLING.len()]),
            Self::Long(doublings) => json!("x".repeat(1 << (doublings % 20))),
            Self::List(items) => json!(items),
            Self::Deep(depth) => (0..*depth).fold(Value::Null, |inner, _| json!([inner])),
        }
    }
}

impl Damage {
    /// The document with all of this done to it.
    pub fn done(damages: &[Self], document: &mut Value) {
        for damage in damages {
            damage.strike(document);
        }
    }

    fn strike(&self, document: &mut Value) {
        match self {
            Self::Put(at, thing) => *node(document, *at) = thing.value(),
            Self::Drop(at) => remove(document, &pointer(document, *at)),
            Self::Add(at, thing) => match node(document, *at) {
                Value::Object(members) => drop(members.insert(thing.text(), thing.value())),
                Value::Array(items) => items.push(items.first().cloned().unwrap_or_else(|| thing.value())),
                _ => {}
            },
        }
    }
}

fn node(document: &mut Value, at: u8) -> &mut Value {
    let pointer = pointer(document, at);
    document.pointer_mut(&pointer).expect("a pointer to what was seen")
}

fn remove(document: &mut Value, pointer: &str) {
    let Some((around, step)) = pointer.rsplit_once('/') else { return };
    match document.pointer_mut(around) {
        Some(Value::Object(members)) => drop(members.remove(&step.replace("~1", "/").replace("~0", "~"))),
        Some(Value::Array(items)) => drop(items.remove(step.parse().expect("an index"))),
        _ => {}
    }
}

/// Where one of all nodes is (RFC 6901).
fn pointer(document: &Value, at: u8) -> String {
    let mut pointers = Vec::new();
    collect(document, String::new(), &mut pointers);
    pointers.swap_remove(usize::from(at) % pointers.len())
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (step, value) in inner {
        collect(value, format!("{at}/{step}"), pointers);
    }
    pointers.push(at);
}
