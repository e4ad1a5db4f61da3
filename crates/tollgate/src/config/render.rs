//! The settings as text: reference, JSON schema, and the commented file of `tollgate init`.

use serde_json::{Map, Value, json};

use super::fields::{ENVIRONMENT, FIELDS, Field, Kind, sections};

/// The commented configuration that `tollgate init` writes: all defaults, explained.
#[must_use]
pub fn template() -> String {
    let mut text = String::from(
        "# Tollgate: what a process needs to start. Every line shows its default.\n\
         # TOLLGATE__SECTION__KEY in the environment overrides a setting.\n",
    );
    for section in sections() {
        text.push_str(&format!("\n[{section}]\n"));
        for field in FIELDS.iter().filter(|field| field.section == section) {
            let line = match field.name {
                // The file that `init` writes beside this one.
                "file" => "file = \"catalog.toml\"".to_owned(),
                name => format!("{name} = {}", field.default),
            };
            text.push_str(&format!("{line:<38} # {}\n", field.help));
        }
    }
    text
}

/// Every setting and its meaning, for people.
#[must_use]
pub fn reference() -> Vec<Vec<String>> {
    let settings = FIELDS.iter().map(|field| {
        vec![
            format!("{}.{}", field.section, field.name),
            kind_in_words(field.kind),
            if field.default.is_empty() {
                "-".to_owned()
            } else {
                field.default.to_owned()
            },
            field.help.to_owned(),
        ]
    });
    let environment = ENVIRONMENT.iter().map(|(name, help)| {
        vec![
            (*name).to_owned(),
            "environment".to_owned(),
            "-".to_owned(),
            (*help).to_owned(),
        ]
    });
    settings.chain(environment).collect()
}

/// The JSON schema (draft 2020-12) of the file.
#[must_use]
pub fn schema() -> Value {
    let mut properties = Map::new();
    for section in sections() {
        let fields: Map<String, Value> = FIELDS
            .iter()
            .filter(|field| field.section == section)
            .map(|field| (field.name.to_owned(), property(field)))
            .collect();
        properties.insert(
            section.to_owned(),
            json!({ "type": "object", "additionalProperties": false, "properties": fields }),
        );
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tollgate.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn property(field: &Field) -> Value {
    let mut property = match field.kind {
        Kind::Count => json!({ "type": "integer", "minimum": 0 }),
        Kind::Cidrs => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Url(schemes) => {
            json!({ "type": "string", "pattern": format!("^({})", schemes.join("|")) })
        }
        Kind::Duration => json!({ "type": "string", "pattern": "^[0-9]+(us|ms|s|m|h|d)$" }),
        Kind::Bytes => json!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)?$" }),
        Kind::Secret => json!({ "type": "string", "writeOnly": true }),
        Kind::Socket | Kind::Path | Kind::Text => json!({ "type": "string" }),
    };
    if let Some(object) = property.as_object_mut() {
        object.insert("description".to_owned(), json!(field.help));
        if !field.default.is_empty() {
            let default = match field.kind {
                Kind::Count => json!(field.default.parse::<u64>().unwrap_or(0)),
                Kind::Cidrs => json!([]),
                _ => json!(field.default.trim_matches('"')),
            };
            object.insert("default".to_owned(), default);
        }
    }
    property
}

fn kind_in_words(kind: Kind) -> String {
    match kind {
        Kind::Socket => "address:port".to_owned(),
        Kind::Count => "number".to_owned(),
        Kind::Cidrs => "networks".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Bytes => "size".to_owned(),
        Kind::Choice(words) => words.join(" | "),
        Kind::Url(_) => "url".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Secret => "secret".to_owned(),
    }
}
