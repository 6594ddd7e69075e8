//! The checker has to be able to fail: every way in which an exchange can be wrong is a row.

use http::StatusCode;

use super::{headers, request};
use crate::providers::Reply;
use crate::providers::contract::{Contract, decoded};

const DOCUMENT: &str = r##"
openapi: 3.1.0
info: { title: Things, version: "1" }
security: [{ key: [] }, { session: [], token: [] }]
paths:
  /things/{thing}:
    parameters:
      - { name: thing, in: path, required: true, schema: { type: string, pattern: "^[a-z]+$" } }
      - { name: version, in: header, required: true, schema: { type: string } }
    get:
      parameters:
        - $ref: "#/components/parameters/Limit"
        - { name: "tag[is]", in: query, schema: { type: array, items: { type: boolean } } }
        - { name: version, in: header, schema: { enum: ["1"] } }
      responses:
        "200":
          headers:
            limit: { required: true, schema: { type: integer } }
            reset: { schema: { type: integer, minimum: 0 } }
          content:
            application/json: { schema: { $ref: "#/components/schemas/Thing" } }
            text/plain: { schema: { type: string, maxLength: 3 } }
        4XX: { $ref: "#/components/responses/Failed" }
        "404": { description: not there }
        default: { description: anything }
    put:
      requestBody:
        required: true
        content:
          application/json: { schema: { $ref: "#/components/schemas/Thing" } }
          application/x-www-form-urlencoded: { schema: { $ref: "#/components/schemas/Form" } }
      responses: { "200": { description: done } }
    delete:
      requestBody: { content: { application/merge-patch+json: {} } }
      responses: { "204": { description: gone } }
  /things/public:
    get: { security: [], responses: { 4XX: { $ref: "#/components/responses/Failed" }, default: { description: anything } } }
  /{any}/{thing}:
    get: { responses: { default: { description: anything } } }
components:
  securitySchemes:
    key: { type: http, scheme: bearer }
    session: { type: apiKey, in: cookie, name: sid }
    token: { type: apiKey, in: query, name: token }
  parameters:
    Limit: { name: limit, in: query, schema: { type: integer, maximum: 9 } }
  responses:
    Failed: { content: { application/json: { schema: { type: object, required: [why] } } } }
  schemas:
    Thing:
      type: object
      required: [id]
      additionalProperties: false
      properties: { id: { $ref: "#/components/schemas/Id" }, kind: { enum: [small] }, at: { format: date-time } }
    Id: { type: string, format: uuid }
    Form: { type: object, required: [size], properties: { size: { type: integer } }, additionalProperties: false }
"##;

const ID: &str = r#"{"id":"d5a1d0b4-3c53-4e4c-9d0e-0a4f5f2a8a11"}"#;
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const KEY: (&str, &str) = ("authorization", "bearer k");
const VERSION: (&str, &str) = ("version", "1");
const LIMIT: (&str, &str) = ("limit", "7");

fn reply(status: u16, fields: &[(&str, &str)], body: &'static str) -> Reply {
    Reply { status: StatusCode::from_u16(status).unwrap(), headers: headers(fields), body: body.into() }
}

fn assert_told(held: Result<(), String>, expected: Option<&str>, reason: &str) {
    match (held, expected) {
        (Ok(()), None) => {}
        (Err(told), Some(expected)) => assert!(told.contains(expected), "{reason}: {told}"),
        (held, expected) => panic!("{reason}: {held:?} instead of {expected:?}"),
    }
}

#[test]
fn an_operation_is_named_by_its_template() {
    let contract = Contract::read(DOCUMENT);
    let rows = [
        ("GET /things/abc", "GET /things/{thing}", "a variable segment"),
        ("GET /things/a%2Fb", "GET /things/{thing}", "an encoded slash separates nothing"),
        ("GET /things/public", "GET /things/public", "the literal segment wins"),
        ("GET /things/p%75blic", "GET /things/public", "encoded or not"),
        ("GET /others/public", "GET /{any}/{thing}", "nothing more literal matches"),
        ("POST /things/abc", "POST /things/{thing}", "the path is known, though not this verb for it"),
        ("GET /things/", "GET /things/", "a variable is never empty"),
        ("GET /things/a/b", "GET /things/a/b", "longer than any template"),
    ];
    for (line, expected, reason) in rows {
        assert_eq!(contract.operation(&request(line, &[], "")), expected, "{reason}");
    }
}

#[test]
fn a_request_line_and_its_parameters_are_held_against_the_document() {
    let contract = Contract::read(DOCUMENT);
    let (one, two) = (vec![VERSION], vec![("version", "2")]);
    let rows = [
        ("GET /things/abc", &one, None, "all is well"),
        ("GET /else", &one, Some("the path is not described"), "unknown path"),
        ("POST /things/abc", &one, Some("the method is not described"), "unknown verb"),
        ("GET /things/AB", &one, Some("path parameter thing breaks /pattern"), "a value in the path"),
        ("GET /things/abc?limit=3&tag[is]=true&tag[is]=false", &one, None, "all query parameters"),
        ("GET /things/abc?limit=ten", &one, Some("query parameter limit is no number"), "no number"),
        ("GET /things/abc?limit=10", &one, Some("query parameter limit breaks"), "a number too large"),
        ("GET /things/abc?limit=1&limit=2", &one, Some("limit is there more than once"), "repeated"),
        ("GET /things/abc?tag[is]=yes", &one, Some("tag[is] is neither true nor false"), "no boolean"),
        ("GET /things/abc?other=1", &one, Some("query parameter other is not described"), "unknown"),
        ("GET /things/abc?token=t", &one, None, "a credential in the query is described as such"),
        ("GET /things/abc", &two, Some("header parameter version breaks /enum"), "its own, not its path's"),
        ("DELETE /things/abc", &two, None, "its path's"),
        ("DELETE /things/abc", &vec![], Some("header parameter version is missing"), "required by its path"),
    ];
    for (line, fields, expected, reason) in rows {
        assert_told(contract.holds_request(&request(line, fields, "")), expected, reason);
    }
}

#[test]
fn a_request_body_is_held_against_the_document() {
    const PLAIN: (&str, &str) = ("content-type", "text/plain");
    const PATCH: (&str, &str) = ("content-type", "application/merge-patch+json");
    let contract = Contract::read(DOCUMENT);
    let rows = [
        ("GET", vec![JSON], "{}", Some("there is a body, and none is described"), "an unexpected body"),
        ("PUT", vec![], "", Some("the body is missing"), "a required body"),
        ("PUT", vec![], ID, Some("the body has no content type"), "no content type"),
        ("PUT", vec![PLAIN], ID, Some("content type text/plain is not"), "the wrong content type"),
        ("PUT", vec![JSON], ID, None, "a good body"),
        ("PUT", vec![JSON], "{", Some("the body is no JSON"), "half a body"),
        (
            "PUT",
            vec![JSON],
            "{}",
            Some("body breaks /components/schemas/Thing/required"),
            "a required member",
        ),
        ("PUT", vec![JSON], r#"{"id":"x"}"#, Some("body/id breaks"), "a format, behind two references"),
        ("PUT", vec![FORM], "size=3", None, "a good form"),
        ("PUT", vec![FORM], "size=big", Some("form field size is no number"), "a form with a bad number"),
        ("PUT", vec![FORM], "size=1&size=2", Some("form field size is there more than once"), "repeated"),
        ("PUT", vec![FORM], "size=1&more=2", Some("additionalProperties"), "an unknown field"),
        ("DELETE", vec![], "", None, "an optional body"),
        ("DELETE", vec![PATCH], "1", None, "without a schema anything goes"),
        ("DELETE", vec![PATCH], "?", Some("the body is no JSON"), "if it is JSON"),
    ];
    for (verb, fields, body, expected, reason) in rows {
        let request = request(&format!("{verb} /things/abc"), &[&[VERSION], &fields[..]].concat(), body);
        assert_told(contract.holds_request(&request), expected, reason);
    }
}

#[test]
fn a_reply_is_held_against_the_document() {
    let contract = Contract::read(DOCUMENT);
    let (html, plain) = (("content-type", "text/html"), ("content-type", "text/plain"));
    let (get, put, delete) = ("GET /things/abc", "PUT /things/abc", "DELETE /things/abc");
    let (all, early) = (("limit", "all"), ("reset", "-1"));
    let rows = [
        (get, 200, vec![LIMIT, JSON], ID, None, "all is well"),
        (get, 200, vec![LIMIT, ("reset", "0"), ("more", "x"), JSON], ID, None, "further header fields"),
        (get, 200, vec![JSON], ID, Some("reply 200: header limit is missing"), "a required header"),
        (get, 200, vec![all, JSON], ID, Some("header limit is no number"), "a header of the wrong form"),
        (get, 200, vec![LIMIT, early, JSON], ID, Some("header reset breaks /minimum"), "an optional one too"),
        (get, 200, vec![LIMIT, JSON], "{}", Some("reply 200: body breaks"), "the body"),
        (get, 200, vec![LIMIT], "", Some("the body is missing"), "no body"),
        (get, 200, vec![LIMIT, plain], "abc", None, "the other content type"),
        (get, 200, vec![LIMIT, plain], "abcd", Some("body breaks /maxLength"), "text has a schema as well"),
        (get, 200, vec![LIMIT, html], "abc", Some("content type text/html is not"), "a page"),
        (get, 404, vec![], "", None, "the exact status comes first"),
        (get, 422, vec![JSON], r#"{"why":1}"#, None, "then its class"),
        (get, 422, vec![JSON], r#"{"because":1}"#, Some("reply 422: body breaks"), "which has a schema"),
        (get, 500, vec![], "", None, "then the default"),
        (put, 404, vec![], "", Some("status 404 is not described"), "no default here"),
        (delete, 204, vec![JSON], ID, Some("there is a body, and none is described"), "a body too many"),
        ("GET /else", 200, vec![], "", Some("the path is not described"), "nothing is known of it"),
    ];
    for (line, status, fields, body, expected, reason) in rows {
        let held = contract.holds_reply(&request(line, &[KEY], ""), &reply(status, &fields, body));
        assert_told(held, expected, reason);
    }
}

#[test]
fn who_does_not_authenticate_is_only_ever_refused() {
    let contract = Contract::read(DOCUMENT);
    let (get, cookie) = ("GET /things/abc", ("cookie", "a=1; sid=s"));
    let told = Some("although the request does not authenticate");
    let rows = [
        (get, vec![KEY], None, "a bearer token"),
        ("GET /things/abc?token=t", vec![cookie], None, "the other alternative, both parts of it"),
        (get, vec![cookie], told, "one part of it"),
        (get, vec![], told, "nothing"),
        (get, vec![("authorization", "Basic k")], told, "another scheme"),
        (get, vec![("authorization", "Bearer ")], told, "an empty token"),
        ("GET /things/public", vec![], None, "the operation asks for nothing"),
    ];
    for (line, fields, expected, reason) in rows {
        let request = request(line, &fields, "");
        assert_told(contract.holds_reply(&request, &reply(500, &[], "")), expected, reason);
        for refusal in [401, 403] {
            let reply = reply(refusal, &[JSON], r#"{"why":1}"#);
            assert_told(contract.holds_reply(&request, &reply), None, reason);
        }
    }
}

#[test]
fn what_is_told_holds_no_value() {
    let contract = Contract::read(DOCUMENT);
    let rows = [
        ("PUT /things/abc", r#"{"id":"CANARY"}"#),
        ("PUT /things/abc", r#"{"id":["CANARY"],"kind":"CANARY","at":"CANARY","more":"CANARY"}"#),
        ("PUT /things/abc", r#"{"id":CANARY}"#),
        ("PUT /things/CANARY", ID),
        ("GET /things/abc?limit=CANARY", ""),
        ("GET /things/abc?tag[is]=CANARY", ""),
    ];
    for (line, body) in rows {
        let told = contract.holds_request(&request(line, &[VERSION, JSON], body)).unwrap_err();
        assert!(!told.contains("CANARY"), "{told}");
    }
}

#[test]
fn percent_encoding_is_undone_where_there_is_any() {
    let rows = [("a%20b", "a b"), ("a+b", "a+b"), ("%C3%A9", "é"), ("100%", "100%"), ("%zz%é", "%zz%é")];
    for (encoded, plain) in rows {
        assert_eq!(decoded(encoded), plain);
    }
}
