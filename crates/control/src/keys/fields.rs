//! The fields of a key that callers set.

use ipnet::IpNet;
use serde_json::{Value as Json, json};
use tollgate_model::{ApiKey, By, KeyState, Plan, Quota, RateLimit, Timestamp};

use crate::declared::{
    inline_limit_document, quota_document, read_inline_limit, read_quota, read_scope,
};
use crate::document::{Field, ProblemCode, Table};
use crate::{ControlError, ControlResult};

const TEXT_CHARACTERS_MAX: usize = 200;
const SCOPES_MAX: usize = 200;
const NETWORKS_MAX: usize = 100;
const LIMITS_MAX: usize = 32;
/// Largest `metadata`, as JSON text.
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// What callers may set when a key is made and change afterwards.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KeyFields {
    pub name: String,
    pub scopes: Option<Vec<String>>,
    pub expires_at: Option<Timestamp>,
    pub allowed_addresses: Vec<IpNet>,
    pub limits: Vec<RateLimit>,
    pub quota: Option<Quota>,
    pub external_id: Option<String>,
    /// A JSON object as text.
    pub metadata: String,
}

impl KeyFields {
    /// Reads the fields. `input` is the document that the table comes from: metadata is kept as
    /// it is.
    pub fn read(table: &Table<'_>, input: &Json) -> Option<Self> {
        let name = table
            .required("name")
            .and_then(|f| f.short_text(TEXT_CHARACTERS_MAX));
        let scopes = optional(table, "scopes", |f| f.distinct(SCOPES_MAX, read_scope));
        let expires_at = optional(table, "expires_at", |f| f.timestamp());
        let allowed_addresses = optional(table, "allowed_addresses", |f| {
            f.distinct(NETWORKS_MAX, |item| item.network())
        });
        let limits = optional(table, "limits", |f| f.list(LIMITS_MAX, read_own_limit));
        let quota = optional(table, "quota", read_quota);
        let external_id = optional(table, "external_id", |f| f.short_text(TEXT_CHARACTERS_MAX));
        let metadata = match table.optional("metadata") {
            Some(field) => read_metadata(field, input.get("metadata")),
            None => Some("{}".to_owned()),
        };
        Some(Self {
            name: name?.to_owned(),
            scopes: scopes?,
            expires_at: expires_at?,
            allowed_addresses: allowed_addresses?.unwrap_or_default(),
            limits: limits?.unwrap_or_default(),
            quota: quota?,
            external_id: external_id?.map(str::to_owned),
            metadata: metadata?,
        })
    }

    /// The key with these fields.
    pub fn put_into(self, key: ApiKey) -> ApiKey {
        ApiKey {
            name: self.name,
            scopes: self.scopes,
            expires_at: self.expires_at,
            allowed_addresses: self.allowed_addresses,
            limits: self.limits,
            quota: self.quota,
            external_id: self.external_id,
            metadata: self.metadata,
            ..key
        }
    }
}

fn optional<'r, T>(
    table: &Table<'r>,
    name: &'static str,
    read: impl FnOnce(Field<'r>) -> Option<T>,
) -> Option<Option<T>> {
    match table.optional(name) {
        Some(field) => read(field).map(Some),
        None => Some(None),
    }
}

/// A key's own limit counts the key, unless it says otherwise.
fn read_own_limit(field: Field<'_>) -> Option<RateLimit> {
    let limit = read_inline_limit(field)?;
    Some(RateLimit {
        by: limit.by.or(Some(By::Key)),
        ..limit
    })
}

fn read_metadata(field: Field<'_>, value: Option<&Json>) -> Option<String> {
    if !field.is_table() {
        return field.wrong_type("a table");
    }
    let text = value.unwrap_or(&Json::Null).to_string();
    if text.len() > METADATA_BYTES_MAX {
        let detail = format!("must be at most 16 KiB as JSON, found {} bytes", text.len());
        field.problem(ProblemCode::OutOfRange, detail);
        return None;
    }
    Some(text)
}

/// Refuses an end that has passed.
pub(super) fn check_expiry(expires_at: Option<Timestamp>, now: Timestamp) -> ControlResult<()> {
    if expires_at.is_some_and(|end| end <= now) {
        let detail = "must lie in the future";
        return Err(ControlError::invalid(
            "expires_at",
            ProblemCode::OutOfRange,
            detail,
        ));
    }
    Ok(())
}

/// Refuses scopes that the plan does not grant. Where it grants any, a scope may be given before
/// a route asks for it.
pub(super) fn check_scopes(plan: &Plan, scopes: &[String]) -> ControlResult<()> {
    let Some(granted) = &plan.scopes else {
        return Ok(());
    };
    match scopes.iter().find(|scope| !granted.contains(scope)) {
        None => Ok(()),
        Some(scope) => Err(ControlError::Impossible(format!(
            "plan \"{}\" does not grant the scope {scope}",
            plan.id
        ))),
    }
}

/// The fields as JSON, in their one spelling.
pub(super) fn fields_json(key: &ApiKey) -> Json {
    let networks: Vec<String> = key.allowed_addresses.iter().map(IpNet::to_string).collect();
    let limits: Vec<Json> = key.limits.iter().map(inline_limit_document).collect();
    let metadata: Json = serde_json::from_str(&key.metadata).unwrap_or_else(|_| json!({}));
    json!({
        "name": key.name,
        "scopes": key.scopes,
        "expires_at": key.expires_at.map(|at| at.to_string()),
        "allowed_addresses": networks,
        "limits": limits,
        "quota": key.quota.as_ref().map(quota_document),
        "external_id": key.external_id,
        "metadata": metadata,
    })
}

/// The states that a caller can put a key into.
pub(super) fn read_state(field: Field<'_>) -> Option<KeyState> {
    if field.is_text() && field.text() == Some(KeyState::Revoked.as_str()) {
        field.problem(ProblemCode::Invalid, "a key is revoked by deleting it");
        return None;
    }
    field.choice(&[
        ("active", KeyState::Active),
        ("disabled", KeyState::Disabled),
    ])
}
