//! Limits, quotas and scopes: what plans, routes and keys have in common.

use serde_json::{Value as Json, json};
use tollgate_model::{By, Every, LimitId, LimitUse, OnExceeded, Per, Quota, RateLimit};

use super::object::{Source, read_id};
use crate::document::{Field, ProblemCode, Table};

/// Most limits in one place.
const LIMITS_MAX: usize = 32;

/// Reads a `[[limit]]`.
pub(super) fn read(table: &Table<'_>, source: Source) -> Option<RateLimit> {
    let id = read_id(table, source, LimitId::declared, LimitId::new);
    let limit = read_fields(table);
    Some(RateLimit {
        id: Some(id?),
        ..limit?
    })
}

/// Reads a limit that is written out where it is used.
pub(crate) fn read_inline_limit(field: Field<'_>) -> Option<RateLimit> {
    field.table(read_fields)
}

fn read_fields(table: &Table<'_>) -> Option<RateLimit> {
    let max = table
        .required("max")
        .and_then(|f| f.integer_u32(0..=RateLimit::MAX_LARGEST));
    let per = table
        .required("per")
        .and_then(|f| f.choice(&Per::ALL.map(|per| (per.as_str(), per))));
    let by = match table.optional("by") {
        Some(field) => field.choice(&By::ALL.map(|by| (by.as_str(), by))).map(Some),
        None => Some(None),
    };
    let shadow = match table.optional("shadow") {
        Some(field) => field.boolean(),
        None => Some(false),
    };
    Some(RateLimit {
        id: None,
        max: max?,
        per: per?,
        by: by?,
        shadow: shadow?,
    })
}

/// Reads an optional list of limits: names, or limits written out.
pub(super) fn read_uses(table: &Table<'_>) -> Option<Vec<LimitUse>> {
    let Some(field) = table.optional("limits") else {
        return Some(Vec::new());
    };
    field.distinct(LIMITS_MAX, |item| {
        if item.is_text() {
            item.short_text(200)
                .map(|id| LimitUse::Named(LimitId::new(id)))
        } else if item.is_table() {
            read_inline_limit(item).map(LimitUse::Inline)
        } else {
            item.wrong_type("a limit's id, or a table such as { max = 10, per = \"minute\" }")
        }
    })
}

/// Reads a quota.
pub(crate) fn read_quota(field: Field<'_>) -> Option<Quota> {
    field.table(|table| {
        let units = table
            .required("units")
            .and_then(|f| f.integer(0..=Quota::UNITS_LARGEST));
        let every = read_every(table);
        let on_exceeded = read_on_exceeded(table);
        Some(Quota {
            units: units?,
            every: every?,
            on_exceeded: on_exceeded?,
        })
    })
}

/// Reads the required field `every`.
pub(super) fn read_every(table: &Table<'_>) -> Option<Every> {
    table
        .required("every")
        .and_then(|f| f.choice(&Every::ALL.map(|every| (every.as_str(), every))))
}

fn read_on_exceeded(table: &Table<'_>) -> Option<OnExceeded> {
    let policies = [
        ("block", OnExceeded::Block),
        ("warn", OnExceeded::Warn),
        ("grace", OnExceeded::Grace { percent: 0 }),
        ("overage", OnExceeded::Overage),
    ];
    let policy = match table.optional("on_exceeded") {
        Some(field) => field.choice(&policies),
        None => Some(OnExceeded::Block),
    };
    let percent = table
        .optional("grace_percent")
        .map(|field| field.integer_u32(1..=1_000));
    match (policy?, percent) {
        (OnExceeded::Grace { .. }, None) => {
            let detail = "is missing: how far beyond the quota calls still pass";
            table.problem("grace_percent", ProblemCode::Missing, detail);
            None
        }
        (OnExceeded::Grace { .. }, Some(percent)) => Some(OnExceeded::Grace { percent: percent? }),
        (_, Some(_)) => {
            let detail = "is only for on_exceeded = \"grace\"";
            table.problem("grace_percent", ProblemCode::Invalid, detail);
            None
        }
        (policy, None) => Some(policy),
    }
}

/// Reads one scope.
pub(crate) fn read_scope(field: Field<'_>) -> Option<String> {
    field.parse(|text| {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b',');
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(text.to_owned())
        } else {
            Err("a scope is 1 to 64 visible characters such as widgets:read, without \" \\ and ,")
        }
    })
}

/// A named limit as JSON.
pub(super) fn document(limit: &RateLimit) -> Json {
    let mut document = inline_limit_document(limit);
    if let Some(fields) = document.as_object_mut() {
        fields.insert(
            "id".to_owned(),
            json!(limit.id.as_ref().map(LimitId::as_str)),
        );
    }
    document
}

/// A limit that is written out, as JSON.
pub(crate) fn inline_limit_document(limit: &RateLimit) -> Json {
    json!({
        "max": limit.max,
        "per": limit.per.as_str(),
        "by": limit.by.map(By::as_str),
        "shadow": limit.shadow,
    })
}

/// Limits where they are used, as JSON.
pub(super) fn uses_document(limits: &[LimitUse]) -> Json {
    let document = |limit: &LimitUse| match limit {
        LimitUse::Named(id) => json!(id.as_str()),
        LimitUse::Inline(limit) => inline_limit_document(limit),
    };
    limits.iter().map(document).collect()
}

/// A quota as JSON.
pub(crate) fn quota_document(quota: &Quota) -> Json {
    let (policy, percent) = match quota.on_exceeded {
        OnExceeded::Block => ("block", None),
        OnExceeded::Warn => ("warn", None),
        OnExceeded::Grace { percent } => ("grace", Some(percent)),
        OnExceeded::Overage => ("overage", None),
    };
    json!({
        "units": quota.units,
        "every": quota.every.as_str(),
        "on_exceeded": policy,
        "grace_percent": percent,
    })
}
