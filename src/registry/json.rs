//! Reading JSON of registries. What is wrong is said in words that quote nothing: a value may be a secret.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{metadata::Document, transport::Body};

/// Any JSON. A name in another charset, or a byte order mark, is no reason to lose the credentials beside it.
pub fn value(body: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(body);
    serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|e| format!("its body is no JSON (line {}, column {})", e.line(), e.column()))
}

/// A JSON object.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match value(body)? {
        Value::Object(members) => Ok(members),
        _ => Err("its body is JSON but no object".into()),
    }
}

/// A member that is text.
pub fn text<'a>(document: &'a Document, member: &str) -> Option<&'a str> {
    document.get(member).and_then(Value::as_str)
}

/// A member that is a point in time (RFC 3339). Kubernetes takes no year before the first.
pub fn time(document: &Document, member: &str) -> Option<Timestamp> {
    text(document, member)?.parse().ok().filter(|time: &Timestamp| *time >= Timestamp::UNIX_EPOCH)
}

/// An id, if it is one that a status can hold.
pub fn id<'a>(document: &'a Document, member: &str) -> Result<&'a str, String> {
    /// As much as the status of an object can hold.
    const LIMIT: usize = 1024;
    let id =
        text(document, member).filter(|id| !id.is_empty()).ok_or_else(|| format!("it has no {member}"))?;
    if id.chars().count() > LIMIT || id.contains(char::is_control) {
        return Err(format!("its {member} has more than {LIMIT} or unprintable characters"));
    }
    Ok(id)
}

/// A JSON body.
pub fn body(document: &Document) -> Body {
    Body::Json(Bytes::from(Value::Object(document.clone()).to_string()))
}
