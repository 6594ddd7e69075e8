//! What the API server lets through is what the operator can work with: the rules of the CRDs against the code behind them.

use std::collections::BTreeMap;

use bolero::{TypeGenerator, check};
use regex::Regex;
use serde_json::{Value, json};
use url::{Host, Url};

use super::MANY;
use crate::{
    api::crds,
    reconcile::{next::tests::given, secret::wanted},
};

/// What URIs are made of, to the letter of which rules differ.
const URI_PIECES: [&str; 32] = [
    "https://",
    "http://",
    "HTTPS:",
    "com.example.app:/",
    "javascript:",
    "data:",
    "//",
    "/",
    "\\",
    "?",
    "#",
    "@",
    ":",
    "*",
    "..",
    "%2f",
    "%40",
    "127.0.0.1",
    "[::1]",
    "localhost",
    "2130706433",
    "0x7f.1",
    "app.example",
    "xn--",
    "münchen",
    ":8080",
    ":99999",
    "cb",
    " ",
    "\t",
    "\u{a0}",
    "\u{3000}",
];
const TEMPLATE_PIECES: [&str; 14] = [
    "{",
    "}",
    "{{",
    "}}",
    " ",
    "\t",
    "\n",
    "clientId",
    "clientSecret",
    "issuer",
    "password",
    "{{ clientId }}",
    "é",
    "x",
];

#[derive(Clone, Debug, TypeGenerator)]
enum Piece {
    Known(u8),
    Char(char),
}

fn text(pieces: &[Piece], known: &[&str]) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Known(at) => known[usize::from(*at) % known.len()].to_owned(),
        Piece::Char(letter) => letter.to_string(),
    };
    pieces.iter().map(piece).collect()
}

/// The schema of a member of a client's spec.
fn schema(pointer: &str) -> Value {
    let crd = crds().unwrap().pop().unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {spec:#}")).clone()
}

/// A rule of one text: each alternative is a pattern that the text has, or must not have.
struct Rule(Vec<(Regex, bool)>);

impl Rule {
    fn read(rule: &str) -> Self {
        Self(rule.split(" || ").map(alternative).collect())
    }

    fn holds(&self, text: &str) -> bool {
        self.0.iter().any(|(pattern, wanted)| pattern.is_match(text) == *wanted)
    }
}

fn alternative(text: &str) -> (Regex, bool) {
    let (call, argument) = text.trim().strip_suffix("')").and_then(|text| text.split_once("('")).unwrap();
    let pattern = match call.rsplit_once('.') {
        Some((_, "contains")) => regex::escape(argument),
        // RE2 takes a lone bracket in a class, this language wants it escaped.
        Some((_, "matches")) => argument.replace("[[]", r"\[").replace("[]]", r"\]"),
        _ => panic!("another kind of rule: {text}"),
    };
    (Regex::new(&pattern).unwrap(), !call.starts_with('!'))
}

fn rules(schema: &Value) -> Vec<&str> {
    schema["x-kubernetes-validations"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|rule| rule["rule"].as_str())
        .collect()
}

#[test]
fn a_redirect_uri_that_is_let_through_leads_where_it_says() {
    let schema = schema("/properties/redirectUris/items");
    let rules: Vec<Rule> = rules(&schema).into_iter().map(Rule::read).collect();
    check!().with_iterations(MANY).with_type::<Vec<Piece>>().for_each(|pieces| {
        let written = text(pieces, &URI_PIECES);
        if !rules.iter().all(|rule| rule.holds(&written)) {
            return;
        }
        // What no parser takes, no registry takes.
        let Ok(read) = Url::parse(&written) else { return };
        assert_eq!(read.fragment(), None, "{written:?}");
        assert!(read.username().is_empty() && read.password().is_none(), "{written:?}: {read:?}");
        match (read.scheme(), read.host()) {
            ("https", Some(_)) | ("http", Some(Host::Domain("localhost"))) => {}
            ("http", Some(Host::Ipv4(ip))) => assert!(ip.is_loopback(), "{written:?}"),
            ("http", Some(Host::Ipv6(ip))) => assert!(ip.is_loopback(), "{written:?}"),
            (other, _) => assert!(other.contains('.'), "{written:?} leads to {read:?}"),
        }
    });
}

#[test]
fn a_web_uri_that_is_let_through_leads_where_it_says() {
    let pattern = schema("/properties/clientUri/pattern");
    let pattern = Regex::new(pattern.as_str().unwrap()).unwrap();
    check!().with_iterations(MANY).with_type::<Vec<Piece>>().for_each(|pieces| {
        let written = text(pieces, &URI_PIECES);
        let Some(read) = pattern.is_match(&written).then(|| Url::parse(&written).ok()).flatten() else {
            return;
        };
        assert!(["https", "http"].contains(&read.scheme()), "{written:?}");
        assert!(read.username().is_empty() && read.password().is_none(), "{written:?}: {read:?}");
    });
}

#[test]
fn a_template_that_is_let_through_is_filled() {
    let schema = schema("/properties/secret/properties/template");
    let rule = rules(&schema).into_iter().find(|rule| rule.contains("clientSecret")).unwrap();
    let (_, of_values) = rule.split_once("all(k, ").unwrap();
    let rule = Rule::read(of_values.strip_suffix(')').unwrap());
    check!().with_iterations(MANY).with_type::<Vec<Piece>>().for_each(|pieces| {
        let template = text(pieces, &TEMPLATE_PIECES);
        if rule.holds(&template) {
            let filled = filled(&template);
            assert!(!filled.contains("{{"), "{template:?} became {filled:?}");
        }
    });
}

/// What the operator makes of a template, accepted or not.
fn filled(template: &str) -> String {
    let facts = given::ready();
    let mut client = facts.client.clone();
    let data = BTreeMap::from([("x", template)]);
    client.spec.secret = serde_json::from_value(json!({"template": {"data": data}})).unwrap();
    let secret = wanted(&client, facts.record().unwrap(), "installation").create("ns", "app");
    String::from_utf8(secret.data.unwrap()["x"].0.clone()).unwrap()
}
