//! Holds exchanges against an OpenAPI 3.1 document.
//!
//! What breaks the document is told by its place and its rule, never by its value: that may be a secret.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use super::{Reply, Request};

/// Why an exchange is not as the document says.
type Held = Result<(), String>;

/// Header fields that OpenAPI describes elsewhere than among the parameters.
const NOT_PARAMETERS: [&str; 3] = ["accept", "authorization", "content-type"];

/// A document that exchanges are held against.
pub struct Contract {
    document: Document,
}

/// The place in the document that a request belongs to.
struct Place<'a> {
    template: &'a str,
    path_item: &'a Value,
    operation: &'a Value,
}

impl Contract {
    /// Reads an OpenAPI 3.1 document in YAML.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn read(yaml: &str) -> Self {
        let root: Value = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("no YAML: {error}"));
        assert!(text(&root["openapi"]).starts_with("3.1."), "no OpenAPI 3.1");
        Self { document: Document { root, compiled: Mutex::default() } }
    }

    /// The same, read once: to read and compile it takes longer than most tests.
    pub fn shared(yaml: &'static str) -> Arc<Self> {
        static READ: Mutex<BTreeMap<&str, Arc<Contract>>> = Mutex::new(BTreeMap::new());
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        read.entry(yaml).or_insert_with(|| Arc::new(Self::read(yaml))).clone()
    }

    /// The verb and the path's template, or the path itself if the document does not know it.
    pub fn operation(&self, request: &Request) -> String {
        let path = self.path(&request.path).map_or(request.path.as_str(), |(template, _)| template);
        format!("{} {path}", request.method)
    }

    /// Whether this is a request that the document describes.
    pub fn holds_request(&self, request: &Request) -> Held {
        let place = self.place(request)?;
        let parameters = self.parameters(&place);
        for parameter in &parameters {
            self.holds_parameter(parameter, request, &place)?;
        }
        self.knows_query(&parameters, request)?;
        self.holds_request_body(place.operation, request)
    }

    /// Whether the document describes this reply to this request.
    pub fn holds_reply(&self, request: &Request, reply: &Reply) -> Held {
        let place = self.place(request)?;
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&reply.status);
        if !refused && !self.is_authenticated(place.operation, request) {
            return Err(format!(
                "answered {} although the request does not authenticate",
                reply.status.as_u16()
            ));
        }
        let status = reply.status.as_u16();
        let described =
            self.response(place.operation, status).ok_or(format!("status {status} is not described"))?;
        self.holds_reply_headers(described, &reply.headers)
            .map_err(|why| format!("reply {status}: {why}"))?;
        self.holds_reply_body(described, reply).map_err(|why| format!("reply {status}: {why}"))
    }

    /// Fails unless every reference in the document leads somewhere and every schema compiles.
    pub fn assert_sound(&self) {
        self.document.assert_sound(&self.document.root);
    }

    fn place(&self, request: &Request) -> Result<Place<'_>, String> {
        let (template, path_item) = self.path(&request.path).ok_or("the path is not described")?;
        let method = request.method.as_str().to_ascii_lowercase();
        let operation = path_item.get(&method).ok_or("the method is not described for this path")?;
        Ok(Place { template, path_item, operation })
    }

    /// Of several templates that match, the one that is literal for longer.
    fn path(&self, path: &str) -> Option<(&str, &Value)> {
        let matching = members(&self.document.root["paths"]).filter(|(template, _)| matches(template, path));
        matching.min_by_key(|(template, _)| template.split('/').map(is_variable).collect::<Vec<_>>())
    }

    /// The operation's own parameters, and those of its path that it does not override.
    fn parameters<'a>(&'a self, place: &Place<'a>) -> Vec<&'a Value> {
        let resolved =
            |holder: &'a Value| items(&holder["parameters"]).map(|item| self.document.resolve(item));
        let mut parameters: Vec<_> = resolved(place.operation).collect();
        for inherited in resolved(place.path_item) {
            if !parameters.iter().any(|own| own["name"] == inherited["name"] && own["in"] == inherited["in"])
            {
                parameters.push(inherited);
            }
        }
        parameters
    }

    fn holds_parameter(&self, parameter: &Value, request: &Request, place: &Place<'_>) -> Held {
        let (name, location) = (text(&parameter["name"]), text(&parameter["in"]));
        if location == "header" && NOT_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Ok(());
        }
        let what = format!("{location} parameter {name}");
        let given = match location {
            "path" => path_values(place.template, &request.path, name),
            "query" => request.query.iter().filter(|(key, _)| key == name).map(|(_, v)| v.clone()).collect(),
            "header" => header_values(&request.headers, name),
            "cookie" => cookie(&request.headers, name).into_iter().collect(),
            other => panic!("there are no parameters in {other}"),
        };
        self.holds_texts(parameter, &given, &what)
    }

    /// A parameter or a header: text that stands for a value.
    fn holds_texts(&self, described: &Value, given: &[String], what: &str) -> Held {
        match given {
            [] if described["required"] == true => Err(format!("{what} is missing")),
            [] => Ok(()),
            _ => {
                let schema = &described["schema"];
                let value = self.document.typed(schema, given).map_err(|why| format!("{what} {why}"))?;
                self.document.hold(schema, &value, what)
            }
        }
    }

    fn knows_query(&self, parameters: &[&Value], request: &Request) -> Held {
        let in_query = |described: &Value| described["in"] == "query";
        let schemes = members(&self.document.root["components"]["securitySchemes"]).map(|(_, scheme)| scheme);
        let known: BTreeSet<&str> = parameters
            .iter()
            .copied()
            .chain(schemes)
            .filter(|described| in_query(described))
            .map(|described| text(&described["name"]))
            .collect();
        match request.query.iter().find(|(name, _)| !known.contains(name.as_str())) {
            Some((name, _)) => Err(format!("query parameter {name} is not described")),
            None => Ok(()),
        }
    }

    fn holds_request_body(&self, operation: &Value, request: &Request) -> Held {
        let described = self.document.resolve(&operation["requestBody"]);
        match request.body.is_empty() {
            true if described["required"] == true => Err("the body is missing".to_owned()),
            true => Ok(()),
            false => self.holds_content(described, &request.headers, &request.body),
        }
    }

    fn response<'a>(&'a self, operation: &'a Value, status: u16) -> Option<&'a Value> {
        let responses = operation.get("responses")?;
        let names = [status.to_string(), format!("{}XX", status / 100), "default".to_owned()];
        let described = names.iter().find_map(|name| responses.get(name))?;
        Some(self.document.resolve(described))
    }

    fn holds_reply_headers(&self, described: &Value, headers: &HeaderMap) -> Held {
        for (name, header) in members(&described["headers"]) {
            let header = self.document.resolve(header);
            self.holds_texts(header, &header_values(headers, name), &format!("header {name}"))?;
        }
        Ok(())
    }

    fn holds_reply_body(&self, described: &Value, reply: &Reply) -> Held {
        match (reply.body.is_empty(), described.get("content").is_some()) {
            (true, false) => Ok(()),
            (true, true) => Err("the body is missing".to_owned()),
            (false, _) => self.holds_content(described, &reply.headers, &reply.body),
        }
    }

    /// The body of either direction.
    fn holds_content(&self, described: &Value, headers: &HeaderMap, body: &Bytes) -> Held {
        let content = described.get("content").ok_or("there is a body, and none is described")?;
        let media_type = media_type(headers).ok_or("the body has no content type")?;
        let described =
            content.get(&media_type).ok_or(format!("content type {media_type} is not described"))?;
        let schema = described.get("schema").unwrap_or(&Value::Bool(true));
        let value = match media_type.as_str() {
            "application/x-www-form-urlencoded" => self.document.form(schema, body)?,
            json if json.ends_with("json") => {
                serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?
            }
            _ => String::from_utf8(body.to_vec()).map_err(|_| "the body is no text")?.into(),
        };
        self.document.hold(schema, &value, "body")
    }

    /// Whether the request has what one of the operation's alternatives asks for. Whether that is right, the provider knows.
    fn is_authenticated(&self, operation: &Value, request: &Request) -> bool {
        let required = operation.get("security").or_else(|| self.document.root.get("security"));
        let alternatives: Vec<_> = required.into_iter().flat_map(items).collect();
        alternatives.is_empty()
            || alternatives.iter().any(|all| members(all).all(|(scheme, _)| self.presents(scheme, request)))
    }

    fn presents(&self, scheme: &str, request: &Request) -> bool {
        let scheme = &self.document.root["components"]["securitySchemes"][scheme];
        let name = text(&scheme["name"]);
        match (text(&scheme["type"]), text(&scheme["in"])) {
            ("http", _) => authorizes(&request.headers, text(&scheme["scheme"])),
            ("apiKey", "header") => request.headers.contains_key(name),
            ("apiKey", "cookie") => cookie(&request.headers, name).is_some(),
            ("apiKey", "query") => request.query.iter().any(|(key, _)| key == name),
            other => panic!("the contract has a security scheme that this cannot check: {other:?}"),
        }
    }
}

/// The document itself, and its schemas, each compiled when it is first needed.
struct Document {
    root: Value,
    compiled: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Document {
    fn hold(&self, schema: &Value, value: &Value, what: &str) -> Held {
        let validator = self.validator(schema);
        let broken: Vec<_> = validator
            .iter_errors(value)
            .map(|error| {
                format!("{what}{} breaks {}: {}", error.instance_path(), rule(&error), error.masked())
            })
            .collect();
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }

    /// References in a schema start at the document's root, so the components come along.
    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let compile = || {
            let whole = json!({ "allOf": [schema], "components": self.root["components"] });
            let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
            Arc::new(options.build(&whole).unwrap_or_else(|error| panic!("no schema: {error}")))
        };
        compiled.entry(schema.to_string()).or_insert_with(compile).clone()
    }

    fn assert_sound(&self, part: &Value) {
        self.resolve(part);
        if let Some(schema) = part.get("schema") {
            self.validator(schema);
        }
        members(part).map(|(_, member)| member).chain(items(part)).for_each(|inner| self.assert_sound(inner));
    }

    /// What a reference leads to; anything else is itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return value };
        let pointer = reference.strip_prefix('#').expect("a reference stays within the document");
        self.resolve(self.root.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere")))
    }

    /// The value that texts stand for: several are an array.
    fn typed(&self, schema: &Value, texts: &[String]) -> Result<Value, String> {
        let schema = self.resolve(schema);
        match texts {
            _ if is_of_type(schema, "array") => {
                texts.iter().map(|text| self.typed_one(&schema["items"], text)).collect()
            }
            [text] => self.typed_one(schema, text),
            _ => Err("is there more than once".to_owned()),
        }
    }

    fn typed_one(&self, schema: &Value, text: &str) -> Result<Value, String> {
        let schema = self.resolve(schema);
        let parsed = || serde_json::from_str::<Value>(text).ok();
        if is_of_type(schema, "integer") || is_of_type(schema, "number") {
            parsed().filter(Value::is_number).ok_or_else(|| "is no number".to_owned())
        } else if is_of_type(schema, "boolean") {
            parsed().filter(Value::is_boolean).ok_or_else(|| "is neither true nor false".to_owned())
        } else {
            Ok(text.into())
        }
    }

    /// The object that a form stands for.
    fn form(&self, schema: &Value, body: &[u8]) -> Result<Value, String> {
        let properties = &self.resolve(schema)["properties"];
        let mut object = Map::new();
        for (name, text) in url::form_urlencoded::parse(body) {
            let value = self.typed(&properties[name.as_ref()], &[text.into_owned()]);
            let value = value.map_err(|why| format!("form field {name} {why}"))?;
            if object.insert(name.to_string(), value).is_some() {
                return Err(format!("form field {name} is there more than once"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// The segments of a path without their percent-encoding.
pub fn decoded(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let (mut plain, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escape = segment.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let digits = escape.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn is_variable(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

fn matches(template: &str, path: &str) -> bool {
    let (expected, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let same = |(expected, given): (&&str, &&str)| {
        if is_variable(expected) { !given.is_empty() } else { *expected == decoded(given) }
    };
    expected.len() == given.len() && expected.iter().zip(&given).all(same)
}

fn path_values(template: &str, path: &str, name: &str) -> Vec<String> {
    let segments = template.split('/').zip(path.split('/'));
    let variable = format!("{{{name}}}");
    segments.filter(|(expected, _)| *expected == variable).map(|(_, given)| decoded(given)).collect()
}

fn header_values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// The value of a cookie that a request brings.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = header_values(headers, header::COOKIE.as_str());
    let mut pairs =
        all.iter().flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// Whether the `Authorization` field is of this scheme and not empty.
fn authorizes(headers: &HeaderMap, scheme: &str) -> bool {
    let given = header_values(headers, header::AUTHORIZATION.as_str());
    given
        .iter()
        .filter_map(|line| line.split_once(' '))
        .any(|(given, credentials)| given.eq_ignore_ascii_case(scheme) && !credentials.trim().is_empty())
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(given.split(';').next()?.trim().to_ascii_lowercase())
}

/// The rule's place in the document; that it was compiled within `allOf` is our own doing.
fn rule(error: &jsonschema::ValidationError<'_>) -> String {
    error.schema_path().as_str().trim_start_matches("/allOf/0").to_owned()
}

fn is_of_type(schema: &Value, name: &str) -> bool {
    schema["type"] == name || items(&schema["type"]).any(|one| one == name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
