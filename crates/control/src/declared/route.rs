//! Routes of an API.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tollgate_model::{Route, RouteTemplate, Segment};

use super::limit::{read_scope, read_uses, uses_document};
use super::plan::optional;
use crate::document::{Field, ProblemCode, Table};

/// Longest template in bytes.
const PATH_BYTES_MAX: usize = 512;
/// Most methods of a route.
const METHODS_MAX: usize = 16;
/// Most units that one call can cost.
const COST_LARGEST: u32 = 1_000_000;
/// Most labels of an event.
const LABELS_MAX: usize = 16;
const LABEL_NAME_BYTES_MAX: usize = 64;
const LABEL_VALUE_CHARACTERS_MAX: usize = 256;

/// Reads one route.
pub(super) fn read(field: Field<'_>) -> Option<Route> {
    field.table(|table| {
        let template = table.required("path").and_then(read_template);
        let methods = match table.optional("methods") {
            Some(field) => field.distinct(METHODS_MAX, read_method),
            None => Some(Vec::new()),
        };
        let cost = match table.optional("cost") {
            Some(field) => field.integer_u32(0..=COST_LARGEST),
            None => Some(1),
        };
        let cost_max = optional(table.optional("cost_max"), |field| {
            field.integer_u32(cost.unwrap_or(0)..=COST_LARGEST)
        });
        let scope = optional(table.optional("scope"), read_scope);
        let limits = read_uses(table);
        let open = match table.optional("open") {
            Some(field) => field.boolean(),
            None => Some(false),
        };
        let labels = match table.optional("labels") {
            Some(field) => field.table(read_labels),
            None => Some(BTreeMap::new()),
        };
        if matches!((open, &scope), (Some(true), Some(Some(_)))) {
            let detail = "an open route asks for no key, so it cannot ask for a scope";
            table.problem("scope", ProblemCode::Invalid, detail);
        }
        Some(Route {
            template: template?,
            methods: methods?,
            cost: cost?,
            cost_max: cost_max?,
            scope: scope?,
            limits: limits?,
            open: open?,
            labels: labels?,
        })
    })
}

fn read_template(field: Field<'_>) -> Option<RouteTemplate> {
    let text = field.text()?;
    if text.len() > PATH_BYTES_MAX {
        let detail = format!("must be at most {PATH_BYTES_MAX} bytes");
        field.problem(ProblemCode::OutOfRange, detail);
        return None;
    }
    field.parse(RouteTemplate::parse)
}

fn read_method(field: Field<'_>) -> Option<String> {
    field.parse(|text| {
        if (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic()) {
            Ok(text.to_ascii_uppercase())
        } else {
            Err("not a method such as \"GET\"")
        }
    })
}

fn read_labels(table: &Table<'_>) -> Option<BTreeMap<String, String>> {
    let all = table.all();
    if all.len() > LABELS_MAX {
        let detail = format!("must be at most {LABELS_MAX} labels, found {}", all.len());
        table.whole().problem(ProblemCode::OutOfRange, detail);
        return None;
    }
    let count = all.len();
    let mut labels = BTreeMap::new();
    for (name, field) in all {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let named = (1..=LABEL_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
        if !named {
            let detail = "a label's name is 1 to 64 letters, digits, _ - and .";
            field.problem(ProblemCode::Invalid, detail);
        } else if let Some(value) = field.short_text(LABEL_VALUE_CHARACTERS_MAX) {
            labels.insert(name.to_owned(), value.to_owned());
        }
    }
    (labels.len() == count).then_some(labels)
}

/// Whether requests for the template can belong to an API with this prefix.
pub(super) fn lies_under(template: &str, prefix: &str) -> bool {
    let rest = template.strip_prefix(prefix);
    prefix == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Which paths and methods the routes so far take.
#[derive(Default)]
pub(super) struct Taken {
    by_shape: BTreeMap<String, Vec<Vec<String>>>,
}

impl Taken {
    /// Notes a route; tells when an earlier one takes the same requests. Names of parameters do
    /// not tell routes apart.
    pub(super) fn find_clash(&mut self, route: &Route) -> Option<String> {
        let mut shape = String::new();
        for segment in &route.template.segments {
            shape.push('/');
            match segment {
                Segment::Literal(text) => shape.push_str(text),
                Segment::Parameter(_) => shape.push_str("{}"),
                Segment::Rest(_) => shape.push_str("{...}"),
            }
        }
        let taken = self.by_shape.entry(shape).or_default();
        let clash = taken.iter().find_map(|methods| {
            if methods.is_empty() || route.methods.is_empty() {
                return Some("every method of it".to_owned());
            }
            methods.iter().find(|m| route.methods.contains(m)).cloned()
        });
        taken.push(route.methods.clone());
        clash.map(|what| format!("an earlier route takes the same path already ({what})"))
    }
}

/// A route as JSON.
pub(super) fn document(route: &Route) -> Json {
    json!({
        "path": route.template.text,
        "methods": route.methods,
        "cost": route.cost,
        "cost_max": route.cost_max,
        "scope": route.scope,
        "limits": uses_document(&route.limits),
        "open": route.open,
        "labels": route.labels,
    })
}
