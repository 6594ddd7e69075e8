//! The providers, each quirk with its reason, and what holds them to their documents.

mod cal_com;
mod contract;
mod fake;
mod meteroid;
mod server;
mod teable;
mod telnyx;

use http::{HeaderMap, HeaderName, Method};
use serde_json::Value;

use crate::providers::{Fake, Provider, Request};

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    fields.iter().map(field).collect()
}

fn request(line: &str, fields: &[(&str, &str)], body: &str) -> Request {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let method = method.parse::<Method>().unwrap();
    Request { method, path: path.to_owned(), query, headers: headers(fields), body: body.to_owned().into() }
}

/// What came back.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Asks with a bearer token. Null is no body.
fn ask<P: Provider>(fake: &Fake<P>, key: &str, line: &str, body: &Value) -> Answer {
    ask_with(fake, &[("authorization", &format!("Bearer {key}"))], line, body)
}

fn ask_with<P: Provider>(fake: &Fake<P>, fields: &[(&str, &str)], line: &str, body: &Value) -> Answer {
    let (text, json) = (body.to_string(), ("content-type", "application/json"));
    let request = match body {
        Value::Null => request(line, fields, ""),
        _ => request(line, &[fields, &[json]].concat(), &text),
    };
    let reply = fake.exchange(&request).expect("a reply");
    let body = serde_json::from_slice(&reply.body).unwrap_or_default();
    Answer { status: reply.status.as_u16(), headers: reply.headers, body }
}
