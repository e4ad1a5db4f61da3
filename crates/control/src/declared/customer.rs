//! Organizations and subscriptions.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};
use tollgate_model::{
    ApiId, Organization, OrganizationId, PlanId, Subscription, SubscriptionId, SubscriptionState,
    Timestamp,
};

use super::object::{Source, read_id, read_name};
use super::plan::optional;
use crate::document::{Field, ProblemCode, Table};

/// Most APIs of one subscription.
const APIS_MAX: usize = 200;

/// Reads an organization.
pub(super) fn read_organization(table: &Table<'_>, source: Source) -> Option<Organization> {
    let id = read_id(table, source, OrganizationId::declared, OrganizationId::new);
    let name = read_name(table, id.as_ref().map(OrganizationId::as_str));
    Some(Organization {
        id: id?,
        name: name?,
    })
}

/// An organization as JSON.
pub(super) fn organization_document(organization: &Organization) -> Json {
    json!({ "id": organization.id.as_str(), "name": organization.name })
}

/// A subscription as declared: what is `None` stays as it is, or takes its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionDraft {
    /// Its name in the catalog.
    pub id: SubscriptionId,
    /// Who bought it.
    pub organization: OrganizationId,
    /// What it may call.
    pub apis: Vec<ApiId>,
    /// What it bought.
    pub plan: PlanId,
    /// Where its days begin.
    pub time_zone: TimeZone,
    /// Anchor of anniversary periods; by default the day of creation.
    pub started_on: Option<Date>,
    /// Where it stands; active when made. A file cannot set it.
    pub state: Option<SubscriptionState>,
    /// Only from the store.
    pub created_at: Option<Timestamp>,
}

impl SubscriptionDraft {
    /// The whole subscription.
    pub(super) fn complete(self, previous: Option<&Subscription>, now: Timestamp) -> Subscription {
        let created_at = self
            .created_at
            .or(previous.map(|previous| previous.created_at))
            .unwrap_or(now);
        let day_of_creation = || {
            let zoned = created_at.to_jiff().to_zoned(self.time_zone.clone());
            zoned.date()
        };
        let started_on = self
            .started_on
            .or(previous.map(|previous| previous.started_on))
            .unwrap_or_else(day_of_creation);
        let state = self
            .state
            .or(previous.map(|previous| previous.state))
            .unwrap_or(SubscriptionState::Active);
        Subscription {
            id: self.id,
            organization: self.organization,
            apis: self.apis,
            plan: self.plan,
            time_zone: self.time_zone,
            started_on,
            state,
            created_at,
        }
    }
}

/// Reads a subscription.
pub(super) fn read_subscription(table: &Table<'_>, source: Source) -> Option<SubscriptionDraft> {
    let id = read_id(table, source, SubscriptionId::declared, SubscriptionId::new);
    let organization = table.required("organization").and_then(read_reference);
    let apis = table.required("apis").and_then(|field| {
        let apis = field.distinct(APIS_MAX, |item| {
            read_reference(item).map(|id| ApiId::new(&id))
        })?;
        if apis.is_empty() {
            field.problem(ProblemCode::OutOfRange, "must name at least one API");
            return None;
        }
        Some(apis)
    });
    let plan = table
        .required_as("plan", &["tier"])
        .and_then(read_reference);
    let time_zone = match table.optional("time_zone") {
        Some(field) => field.parse(read_zone),
        None => Some(TimeZone::UTC),
    };
    let started_on = optional(table.optional("started_on"), |f| f.date());
    let state = match source {
        Source::File => Some(None),
        _ => optional(table.optional("state"), read_state),
    };
    let created_at = match source {
        Source::Stored => table
            .required("created_at")
            .and_then(|f| f.timestamp().map(Some)),
        _ => Some(None),
    };
    Some(SubscriptionDraft {
        id: id?,
        organization: OrganizationId::new(&organization?),
        apis: apis?,
        plan: PlanId::new(&plan?),
        time_zone: time_zone?,
        started_on: started_on?,
        state: state?,
        created_at: created_at?,
    })
}

/// The id of another object; whether it is there is checked over the whole catalog.
pub(super) fn read_reference(field: Field<'_>) -> Option<String> {
    field.short_text(200).map(str::to_owned)
}

fn read_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .ok()
        .filter(|zone| zone.iana_name().is_some())
        .ok_or_else(|| format!("no time zone \"{name}\"; names look like Europe/Berlin"))
}

fn read_state(field: Field<'_>) -> Option<SubscriptionState> {
    field.choice(&SubscriptionState::ALL.map(|state| (state.as_str(), state)))
}

/// A subscription as JSON.
pub(super) fn subscription_document(subscription: &Subscription) -> Json {
    let apis: Vec<&str> = subscription.apis.iter().map(ApiId::as_str).collect();
    json!({
        "id": subscription.id.as_str(),
        "organization": subscription.organization.as_str(),
        "apis": apis,
        "plan": subscription.plan.as_str(),
        "time_zone": subscription.time_zone.iana_name().unwrap_or("UTC"),
        "started_on": subscription.started_on.to_string(),
        "state": subscription.state.as_str(),
        "created_at": subscription.created_at.to_string(),
    })
}
