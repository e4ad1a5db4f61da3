//! Plans.

use serde_json::{Value as Json, json};
use tollgate_model::{Currency, Every, OveragePrice, PeriodBasis, Plan, PlanId, PlanPrice};

use super::limit::{quota_document, read_every, read_quota, read_scope, read_uses, uses_document};
use super::object::{Source, read_id, read_name};
use crate::document::{Field, ProblemCode, Table, Value};

/// Most scopes of a plan or key.
const SCOPES_MAX: usize = 200;
/// Most live keys that a plan can grant.
const KEYS_MAX_LARGEST: u32 = 1_000_000;

const BASES: [(&str, PeriodBasis); 2] = [
    ("calendar", PeriodBasis::Calendar),
    ("anniversary", PeriodBasis::Anniversary),
];

/// Reads a plan. Its version is 0 unless it comes from the store.
pub(super) fn read(table: &Table<'_>, source: Source) -> Option<Plan> {
    let id = read_id(table, source, PlanId::declared, PlanId::new);
    let name = read_name(table, id.as_ref().map(PlanId::as_str));
    let version = match source {
        Source::Stored => table
            .required("version")
            .and_then(|f| f.integer_u32(1..=u32::MAX)),
        _ => Some(0),
    };
    let price = optional(table.optional("price"), read_price);
    let quota = optional(table.optional("quota"), read_quota);
    let overage = optional(table.optional("overage"), read_overage);
    let period = match table.optional("period") {
        Some(field) => field.choice(&BASES),
        None => Some(PeriodBasis::Calendar),
    };
    let limits = read_uses(table);
    let scopes = optional(table.optional("scopes"), |f| {
        f.distinct(SCOPES_MAX, read_scope)
    });
    let keys_max = optional(table.optional("keys_max"), |f| {
        f.integer_u32(0..=KEYS_MAX_LARGEST)
    });
    if matches!((&price, &overage), (Some(None), Some(Some(_)))) {
        let detail = "overage is paid in the plan's currency: the plan needs a price too";
        table.problem("overage", ProblemCode::Invalid, detail);
    }
    Some(Plan {
        id: id?,
        name: name?,
        version: version?,
        price: price?,
        quota: quota?,
        overage: overage?,
        period: period?,
        limits: limits?,
        scopes: scopes?,
        keys_max: keys_max?,
    })
}

/// An optional field: `Some(None)` when it is not there, `None` when it could not be read.
pub(super) fn optional<'r, T>(
    field: Option<Field<'r>>,
    read: impl FnOnce(Field<'r>) -> Option<T>,
) -> Option<Option<T>> {
    match field {
        Some(field) => read(field).map(Some),
        None => Some(None),
    }
}

fn read_price(field: Field<'_>) -> Option<PlanPrice> {
    field.table(|table| {
        let amount = table.required("amount").and_then(read_amount);
        let currency = table
            .required("currency")
            .and_then(|f| f.parse(Currency::parse));
        let every = if table.has("every") {
            read_every(table)
        } else {
            Some(Every::Month)
        };
        Some(PlanPrice {
            amount: amount?,
            currency: currency?,
            every: every?,
        })
    })
}

fn read_overage(field: Field<'_>) -> Option<OveragePrice> {
    field.table(|table| {
        let price = table.required("price").and_then(read_amount);
        let per = match table.optional("per") {
            Some(field) => field.integer(1..=1_000_000_000_000),
            None => Some(1),
        };
        Some(OveragePrice {
            price: price?,
            per: per?,
        })
    })
}

/// Amounts are text: a float would already have lost what was written.
fn read_amount(field: Field<'_>) -> Option<rust_decimal::Decimal> {
    match field.value() {
        Value::Integer(whole) => match PlanPrice::parse_amount(&whole.to_string()) {
            Ok(amount) => Some(amount),
            Err(error) => {
                field.problem(ProblemCode::Invalid, error.to_string());
                None
            }
        },
        Value::Text(_) => field.parse(PlanPrice::parse_amount),
        _ => field.wrong_type("an amount as text, such as \"0.001\""),
    }
}

/// Gives the plan its version: raised by one when anything else in it changed.
pub(super) fn complete(draft: Plan, previous: Option<&Plan>) -> Plan {
    if draft.version > 0 {
        return draft;
    }
    let version = match previous {
        None => 1,
        Some(previous) => {
            let same_version = Plan {
                version: previous.version,
                ..draft.clone()
            };
            if same_version == *previous {
                previous.version
            } else {
                previous.version.saturating_add(1)
            }
        }
    };
    Plan { version, ..draft }
}

/// A plan as JSON.
pub(super) fn document(plan: &Plan) -> Json {
    let price = |price: &PlanPrice| {
        json!({
            "amount": price.amount.to_string(),
            "currency": price.currency.as_str(),
            "every": price.every.as_str(),
        })
    };
    let overage =
        |overage: &OveragePrice| json!({ "price": overage.price.to_string(), "per": overage.per });
    let basis = BASES.iter().find(|(_, basis)| *basis == plan.period);
    json!({
        "id": plan.id.as_str(),
        "name": plan.name,
        "version": plan.version,
        "price": plan.price.as_ref().map(price),
        "quota": plan.quota.as_ref().map(quota_document),
        "overage": plan.overage.as_ref().map(overage),
        "period": basis.map(|(word, _)| word),
        "limits": uses_document(&plan.limits),
        "scopes": plan.scopes,
        "keys_max": plan.keys_max,
    })
}
