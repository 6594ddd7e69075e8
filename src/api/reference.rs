//! The CRDs as a page for people: `docs/api.md`.

use serde_json::{Map, Value};

use super::{crds, duration};

const OPENING: &str = "\
# API reference

Generated from the CRDs by `make generate`. Do not edit. `kubectl explain oac.spec` tells the same at the terminal.

A field that is left out is not managed; an empty one (`[]`, `\"\"`) is managed and empty. A *duration* is written like `90s`,
`10m` or `1h30m`. What stands under *refused* is checked by the API server: `kubectl apply` fails with these words.
";

/// The text of `docs/api.md`.
///
/// # Errors
/// If a CRD is not JSON, which would be a bug here.
pub fn reference() -> serde_json::Result<String> {
    let mut page = Page { text: OPENING.to_owned(), sections: Vec::new() };
    let mut kinds = crds()?;
    // Most people come for the client.
    kinds.rotate_right(1);
    for crd in &kinds {
        page.kind(crd);
    }
    Ok(page.text)
}

/// The page as far as it is written.
struct Page {
    text: String,
    /// What has a section, and its heading: equal objects share the first one.
    sections: Vec<(Value, String)>,
}

impl Page {
    fn kind(&mut self, crd: &Value) {
        let names = &crd["spec"]["names"];
        let version = &crd["spec"]["versions"][0];
        let kind = text(&names["kind"]);
        let schema = &version["schema"]["openAPIV3Schema"];
        self.lines(&[&format!("## {kind}"), text(&schema["description"]), &identity(crd), &columns(version)]);
        for part in ["spec", "status"] {
            self.section(&format!("{kind}.{part}"), &schema["properties"][part]);
        }
    }

    /// An object: what it is, its fields, what is refused; then the objects in it.
    fn section(&mut self, heading: &str, schema: &Value) {
        self.lines(&[&format!("### {heading}"), text(&schema["description"])]);
        let mut inner = Vec::new();
        let mut table =
            "| field | type | allowed | default | is |\n| --- | --- | --- | --- | --- |".to_owned();
        for (name, field) in members(schema) {
            let link = object_in(field).map(|object| {
                let (target, is_new) = self.place(&format!("{heading}.{name}"), object);
                inner.extend(is_new.then_some((target.clone(), object)));
                format!("[object](#{})", anchor(&target))
            });
            table.push_str(&row(name, field, link.as_deref(), is_required(schema, name)));
        }
        self.lines(&[&table, &refusals(schema)]);
        for (heading, object) in inner {
            self.section(&heading, object);
        }
    }

    /// The section that describes an object, and whether it is still to be written.
    fn place(&mut self, heading: &str, object: &Value) -> (String, bool) {
        let mut content = object.clone();
        // Of two objects that differ in this alone, the row of the table says enough.
        content.as_object_mut().map(|members| members.remove("description"));
        if let Some((_, first)) = self.sections.iter().find(|(known, _)| *known == content) {
            return (first.clone(), false);
        }
        self.sections.push((content, heading.to_owned()));
        (heading.to_owned(), true)
    }

    /// Paragraphs; empty ones are left out.
    fn lines(&mut self, paragraphs: &[&str]) {
        for paragraph in paragraphs.iter().filter(|paragraph| !paragraph.is_empty()) {
            self.text.push('\n');
            self.text.push_str(paragraph);
            self.text.push('\n');
        }
    }
}

/// How the kind is called and where it lives.
fn identity(crd: &Value) -> String {
    let spec = &crd["spec"];
    let version = &spec["versions"][0];
    let mut said = vec![
        format!("`apiVersion: {}/{}`", text(&spec["group"]), text(&version["name"])),
        if spec["scope"] == "Namespaced" { "namespaced".to_owned() } else { "cluster-scoped".to_owned() },
        format!("short name {}", quoted(&spec["names"]["shortNames"])),
        format!("category {}", quoted(&spec["names"]["categories"])),
    ];
    for selectable in list(&version["selectableFields"]) {
        said.push(format!("field selector `{}`", text(&selectable["jsonPath"]).trim_start_matches('.')));
    }
    said.join(" · ")
}

/// What `kubectl get` shows.
fn columns(version: &Value) -> String {
    let columns = list(&version["additionalPrinterColumns"]);
    let (wide, narrow): (Vec<_>, Vec<_>) =
        columns.iter().partition(|column| column["priority"].as_i64() > Some(0));
    let names = |columns: Vec<&Value>| {
        columns.iter().map(|column| text(&column["name"])).collect::<Vec<_>>().join(", ")
    };
    let with_wide =
        if wide.is_empty() { String::new() } else { format!("; with `-o wide` also {}", names(wide)) };
    format!("`kubectl get` shows {}{with_wide}.", names(narrow))
}

fn row(name: &str, field: &Value, link: Option<&str>, required: bool) -> String {
    let default = match &field["default"] {
        Value::Null if required => "**required**".to_owned(),
        // Its members' own defaults say it.
        Value::Null | Value::Object(_) => String::new(),
        value => quoted(value),
    };
    let cells = [
        format!("`{name}`"),
        type_of(field, link),
        allowed(field).join("; "),
        default,
        text(&field["description"]).into(),
    ];
    let cells = cells.map(|cell| cell.replace('\n', " ").replace('|', "\\|"));
    format!("\n| {} |", cells.join(" | "))
}

fn type_of(schema: &Value, link: Option<&str>) -> String {
    match (text(&schema["type"]), &schema["additionalProperties"]) {
        ("array", _) => format!("list of {}", type_of(&schema["items"], link)),
        ("object", values @ Value::Object(_)) => format!("map of {}", type_of(values, link)),
        ("object", _) => link.unwrap_or("object").to_owned(),
        ("string", _) if schema["format"] == "date-time" => "time".to_owned(),
        ("string", _) if schema["pattern"] == duration::PATTERN => "duration".to_owned(),
        (name, _) => name.to_owned(),
    }
}

/// The bounds of a value, and of what is in it.
fn allowed(schema: &Value) -> Vec<String> {
    let ranges = [
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " entries"),
        ("minimum", "maximum", ""),
    ];
    let ranges = ranges.iter().filter_map(|(least, most, unit)| range(&schema[least], &schema[most], unit));
    // The page says once what a duration looks like.
    let pattern = schema["pattern"].as_str().filter(|pattern| *pattern != duration::PATTERN);
    let inner = [&schema["items"], &schema["additionalProperties"]];
    let inner = inner
        .into_iter()
        .filter(|inner| inner.is_object())
        .flat_map(allowed)
        .map(|bound| format!("each {bound}"));
    let choices = schema["enum"].is_array().then(|| quoted(&schema["enum"]));
    let pattern = pattern.map(|pattern| format!("`{pattern}`"));
    choices.into_iter().chain(ranges).chain(pattern).chain(inner).collect()
}

fn range(least: &Value, most: &Value, unit: &str) -> Option<String> {
    match (least.as_f64(), most.as_f64()) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    }
}

/// The rules of an object and of its fields, by their messages.
fn refusals(schema: &Value) -> String {
    let of_object = rules(schema).iter().map(|rule| (text(&rule["fieldPath"]).trim_start_matches('.'), rule));
    // An object has a section of its own for its rules.
    let values = members(schema).filter(|(_, field)| object_in(field).is_none());
    let of_values = values.flat_map(|(name, field)| {
        rules(field).iter().chain(rules(&field["items"])).map(move |rule| (name.as_str(), rule))
    });
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for (field, rule) in of_object.chain(of_values) {
        let message = text(&rule["message"]);
        match found.iter_mut().find(|(known, _)| *known == message) {
            Some((_, fields)) => fields.push(field),
            None => found.push((message, vec![field])),
        }
    }
    let lines: Vec<_> = found.iter().map(|(message, fields)| refusal(message, fields)).collect();
    if lines.is_empty() { String::new() } else { format!("Refused:\n\n{}", lines.join("\n")) }
}

/// The message, behind the fields that it does not name itself.
fn refusal(message: &str, fields: &[&str]) -> String {
    let unnamed = |field: &&&str| !field.is_empty() && !message.contains(**field);
    let fields: Vec<_> = fields.iter().filter(unnamed).map(|field| format!("`{field}`")).collect();
    let whose = if fields.is_empty() { String::new() } else { format!("{}: ", fields.join(", ")) };
    format!("- {whose}{}", message.replace('*', "\\*"))
}

fn rules(schema: &Value) -> &[Value] {
    list(&schema["x-kubernetes-validations"])
}

/// The object that a field is, or that its items are.
fn object_in(field: &Value) -> Option<&Value> {
    [field, &field["items"]].into_iter().find(|schema| schema["properties"].is_object())
}

fn members(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flat_map(Map::iter)
}

fn is_required(schema: &Value, name: &str) -> bool {
    list(&schema["required"]).iter().any(|required| required == name)
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    heading.replace('.', "").to_lowercase()
}

/// Words and numbers as they are written in a manifest.
fn quoted(value: &Value) -> String {
    match value {
        Value::Array(values) => values.iter().map(quoted).collect::<Vec<_>>().join(", "),
        Value::String(word) => format!("`{word}`"),
        other => format!("`{other}`"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
