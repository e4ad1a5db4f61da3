//! What applying a file changes, in a form for programs; the command line writes it as text.

use serde::Serialize;
use serde_json::Value as Json;

use crate::declared::ObjectKey;

/// What a file changes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ApplyReport {
    /// Whether nothing was done about it.
    pub dry_run: bool,
    /// Made.
    pub added: Vec<AppliedChange>,
    /// Changed, field by field.
    pub changed: Vec<AppliedChange>,
    /// Declared before, no longer named, and removed.
    pub removed: Vec<AppliedChange>,
    /// Declared before, no longer named, and left to the API.
    pub kept: Vec<AppliedChange>,
    /// How many objects of the file were there already just as declared.
    pub unchanged: usize,
}

impl ApplyReport {
    /// Whether applying changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.changed.is_empty()
            && self.removed.is_empty()
            && self.kept.is_empty()
    }
}

/// One object of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AppliedChange {
    /// `api`, `limit`, `plan`, `organization`, `subscription`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// What differs, for changed objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
}

impl AppliedChange {
    pub(super) fn of(key: &ObjectKey, fields: Vec<FieldChange>) -> Self {
        Self {
            kind: key.kind.as_str(),
            id: key.id.to_string(),
            fields,
        }
    }
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// Such as `quota.units` or `route[0].cost`.
    pub field: String,
    /// As it was; null where it was not set.
    pub old: Json,
    /// As it will be.
    pub new: Json,
}

/// Every field in which two documents of one object differ, by name.
pub(crate) fn field_changes(old: &Json, new: &Json) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    compare("", old, new, &mut changes);
    // How JSON maps are ordered depends on how the JSON library was built.
    changes.sort_by(|a, b| a.field.cmp(&b.field));
    changes
}

fn compare(path: &str, old: &Json, new: &Json, changes: &mut Vec<FieldChange>) {
    match (old, new) {
        _ if old == new => {}
        (Json::Object(before), Json::Object(after)) => {
            let gone = before.keys().filter(|name| !after.contains_key(*name));
            for name in after.keys().chain(gone) {
                let field = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                let value = |fields: &serde_json::Map<String, Json>| {
                    fields.get(name).cloned().unwrap_or(Json::Null)
                };
                compare(&field, &value(before), &value(after), changes);
            }
        }
        (Json::Array(before), Json::Array(after)) if before.len() == after.len() => {
            for (n, (old, new)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}[{n}]"), old, new, changes);
            }
        }
        _ => changes.push(FieldChange {
            field: path.to_owned(),
            old: old.clone(),
            new: new.clone(),
        }),
    }
}
