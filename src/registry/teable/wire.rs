//! What Teable writes, in the words of RFC 7591, and the other way round.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::registry::{
    Client, ClientMetadata, Field, IssuedSecret, Management, Mark, ShownMark, ShownSecret, Wanted, admin_api,
    json::text, metadata::Document,
};

/// As much of a secret as Teable shows later: the end of its mask.
const TAIL: usize = 10;

/// A record must fit into a Secret (1 MiB) beside everything else.
const DOCUMENT_LIMIT: usize = 256 * 1024;

/// What every app is and has no member for: codes and refresh tokens, a secret in the form, PKCE welcome but not demanded.
pub fn fixed() -> [(Field, Value); 3] {
    [
        (Field::GrantTypes, json!(["authorization_code", "refresh_token"])),
        (Field::RequirePkce, json!(false)),
        (Field::TokenEndpointAuthMethod, json!("client_secret_post")),
    ]
}

/// The body that registers a client.
pub fn creation(wanted: &Wanted) -> Document {
    let none = Client::named("", Management::Registry);
    let mut body = body(&none, &wanted.metadata, &[], Some(&wanted.mark.text()));
    // Left out they are empty at a new client.
    body.retain(|_, value| value != "" && value != &json!([]));
    body
}

/// The body that makes a client what is declared: all of it, since `scopes` that are left out would be cleared, while a
/// `description` or `logo` that is left out would stay. `null` is refused, so what is not there is an empty string.
pub fn replacement(client: &Client, wanted: &ClientMetadata, reset: &[Field]) -> Document {
    let mark = client.mark.as_ref().map(mark_text);
    body(client, wanted, reset, mark.as_deref())
}

fn body(client: &Client, wanted: &ClientMetadata, reset: &[Field], mark: Option<&str>) -> Document {
    let value = |field: Field| {
        let kept = || client.document.get(field.wire_name()).filter(|_| !reset.contains(&field));
        wanted.get(field).or_else(kept).filter(|value| !value.is_null()).cloned()
    };
    let or_empty = |field: Field| value(field).unwrap_or_else(|| json!(""));
    let mut members = vec![
        ("name", or_empty(Field::ClientName)),
        ("homepage", or_empty(Field::ClientUri)),
        ("redirectUris", redirect_uris(value(Field::RedirectUris), wanted.get(Field::DefaultRedirectUri))),
        ("description", description(client, wanted, reset, mark)),
        ("logo", or_empty(Field::LogoUri)),
        ("scopes", value(Field::Scopes).unwrap_or_else(|| json!([]))),
    ];
    let flow = value(Field::AllowDeviceFlow).unwrap_or(Value::Bool(false));
    // Only servers of 2026 know it.
    if flow == true || wanted.get(Field::AllowDeviceFlow).is_some() || reset.contains(&Field::AllowDeviceFlow)
    {
        members.push(("allowDeviceFlow", flow));
    }
    members.into_iter().map(|(member, value)| (member.to_owned(), value)).collect()
}

/// The default one first: a request that names none gets it.
fn redirect_uris(uris: Option<Value>, default: Option<&Value>) -> Value {
    let uris = uris.and_then(|uris| uris.as_array().cloned()).unwrap_or_default();
    let mut ordered: Vec<&Value> = Vec::new();
    for uri in default.into_iter().chain(&uris) {
        if !ordered.contains(&uri) {
            ordered.push(uri);
        }
    }
    json!(ordered)
}

/// A description with the mark as its last line. If somebody has written behind an earlier one, their words stay and it goes.
fn description(client: &Client, wanted: &ClientMetadata, reset: &[Field], mark: Option<&str>) -> Value {
    let kept = || {
        let shown = text(&client.document, Field::Description.wire_name());
        let lines = shown.filter(|_| !reset.contains(&Field::Description)).unwrap_or_default().split('\n');
        lines.filter(|line| Some(*line) != mark).collect::<Vec<_>>().join("\n")
    };
    let declared = wanted.get(Field::Description).map(|value| value.as_str().unwrap_or_default().to_owned());
    let declared = declared.unwrap_or_else(kept);
    let parts: Vec<&str> =
        [declared.as_str()].into_iter().filter(|text| !text.is_empty()).chain(mark).collect();
    json!(parts.join("\n"))
}

/// A description without its mark. Only the last line counts: what a user declares stands before ours, whatever it looks like.
fn unmarked(description: &str) -> (&str, Option<ShownMark>) {
    let (declared, last) = description.rsplit_once('\n').unwrap_or(("", description));
    match ShownMark::read(last.trim()) {
        Some(mark) => (declared, Some(mark)),
        None => (description, None),
    }
}

fn mark_text(mark: &ShownMark) -> String {
    match mark.clone() {
        ShownMark::Full { installation, uid, nonce } => {
            Mark { installation, uid, nonce, replaces: None }.text()
        }
        ShownMark::Tag(tag) => tag,
    }
}

/// A client as a list shows it: without redirect URIs and scopes, whatever it has.
pub fn listed(item: &Value) -> Result<Client, String> {
    brief(item.as_object().ok_or("one of its items is no object")?)
}

fn brief(members: &Document) -> Result<Client, String> {
    let client_id = admin_api::client_id(members, "clientId")?;
    let (description, mark) = unmarked(text(members, "description").unwrap_or_default());
    let document = [
        (Field::ClientName, required(members, "name", Value::is_string)?),
        (Field::ClientUri, required(members, "homepage", Value::is_string)?),
        (Field::Description, Some(description).filter(|text| !text.is_empty()).into()),
        (Field::LogoUri, members.get("logo").cloned().unwrap_or_default()),
    ];
    let document = document.map(|(field, value)| (field.wire_name().to_owned(), value));
    let document = document.into_iter().collect();
    Ok(Client { mark, document, ..Client::named(client_id, Management::Registry) })
}

/// A client as all other answers show it.
pub fn whole(members: &Document) -> Result<Client, String> {
    let mut client = brief(members)?;
    let uris = required(members, "redirectUris", Value::is_array)?;
    let further = [
        (Field::DefaultRedirectUri, uris.get(0).cloned().unwrap_or_default()),
        (Field::RedirectUris, uris),
        (Field::Scopes, members.get("scopes").cloned().unwrap_or_default()),
        // A server that does not show it has no such flow, or has not switched it on.
        (Field::AllowDeviceFlow, json!(members.get("allowDeviceFlow") == Some(&json!(true)))),
    ];
    let further = further.into_iter().chain(fixed());
    client.document.extend(further.map(|(field, value)| (field.wire_name().to_owned(), value)));
    let large = serde_json::to_vec(&client.document).is_ok_and(|text| text.len() > DOCUMENT_LIMIT);
    if large {
        Err(format!("the client has more than {DOCUMENT_LIMIT} bytes of metadata"))
    } else {
        Ok(client)
    }
}

/// The same of a client that is known.
pub fn again(members: &Document, known: &Client) -> Result<Client, String> {
    let secret_id = known.secret_id.clone();
    Ok(Client { secret_id, ..whole(members)?.following(known)? })
}

fn required(members: &Document, member: &str, is: impl Fn(&Value) -> bool) -> Result<Value, String> {
    members.get(member).filter(|value| is(value)).cloned().ok_or_else(|| format!("it has no {member}"))
}

/// The masks of the secrets that work, newest first. The member is left out when there are none.
pub fn secrets(members: &Document) -> Result<Vec<ShownSecret>, String> {
    let Some(shown) = members.get("secrets").filter(|shown| !shown.is_null()) else { return Ok(Vec::new()) };
    let items = shown.as_array().ok_or("its secrets are no list")?;
    let read = |item: &Value| {
        let (id, mask) = (item.get("id")?.as_str()?, item.get("secret")?.as_str()?);
        Some(ShownSecret { id: id.to_owned(), tail: tail(mask) })
    };
    items
        .iter()
        .map(|item| read(item).ok_or_else(|| "one of its secrets has no id or no mask".into()))
        .collect()
}

/// A new client with the secret that its registration shows, where that shows one: no server seen so far does.
pub fn with_plain_secret(client: Client, members: &Document) -> Result<Client, String> {
    let newest = members.get("secrets").and_then(|secrets| secrets.get(0)).and_then(Value::as_object);
    let plain = newest.filter(|newest| text(newest, "secret").is_some_and(|secret| !secret.starts_with('*')));
    let Some(IssuedSecret { secret, id, hint }) = plain.map(issued).transpose()? else { return Ok(client) };
    Ok(Client { client_secret: Some(secret), secret_id: id, secret_hint: hint, ..client })
}

/// A secret that was issued just now; it is shown in plain this one time.
pub fn issued(members: &Document) -> Result<IssuedSecret, String> {
    let secret = admin_api::client_secret(members, "secret")?.ok_or("it has no secret")?;
    let id = text(members, "id").filter(|id| !id.is_empty()).ok_or("it has no id")?;
    let hint = tail(text(members, "maskedSecret").unwrap_or(secret.expose_secret()));
    Ok(IssuedSecret { id: Some(id.to_owned()), hint: Some(hint), secret })
}

fn tail(text: &str) -> String {
    let start = text.char_indices().rev().nth(TAIL - 1).map_or(0, |(at, _)| at);
    text[start..].to_owned()
}
