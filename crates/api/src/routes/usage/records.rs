//! `GET /api/v1/usage/records`: single requests.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tollgate_metering::MeteringError;
use tollgate_metering::question::RecordsQuestion;
use tollgate_model::{EventId, Outcome};
use tollgate_store::{StoreErrorKind, UsageRecord};
use utoipa::ToSchema;

use super::filter::{FilterParams, SpanParams, read_filter, read_span};
use super::wire::ms;
use crate::error::{ApiError, ApiResult};
use crate::page::{List, read_page};
use crate::query::Query;
use crate::routes::lookup;
use crate::state::ApiState;

/// One request.
#[derive(Debug, Serialize, ToSchema)]
pub struct Record {
    /// Identity within organization and producer.
    pub id: String,
    /// The request's id; `null` for events of outside producers.
    pub request_id: Option<String>,
    /// The moment of admission.
    pub timestamp: String,
    /// Who called, where a key was recognised.
    pub key_id: Option<String>,
    /// Whose quota was charged.
    pub subscription_id: Option<String>,
    /// The customer.
    pub organization_id: Option<String>,
    /// What was called.
    pub api: String,
    /// Template of the route.
    pub route: String,
    /// Method as sent.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Status that the client was sent.
    pub status: u16,
    /// `forwarded`, `denied`, `upstream_error`, `client_closed`, `cut`, `interrupted`, `lapsed`.
    pub outcome: &'static str,
    /// Why it was refused or failed.
    pub code: Option<&'static str>,
    /// The limit that decided a refusal.
    pub limit: Option<String>,
    /// Parsed head to last body byte.
    pub latency_ms: f64,
    /// To the head of the upstream's response.
    pub upstream_latency_ms: Option<f64>,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Who asked.
    pub address: Option<String>,
    /// ISO 3166 code.
    pub country: Option<String>,
    /// As sent.
    pub user_agent: Option<String>,
    /// What the quota was charged.
    pub units: u64,
    /// What is counted.
    pub meter: String,
    /// Own dimensions.
    pub labels: BTreeMap<String, String>,
    /// The plan in force.
    pub plan: Option<String>,
    /// Its version.
    pub plan_version: Option<u32>,
    /// The limit that would have refused, where limits are observed only.
    pub would_deny: Option<String>,
    /// Whether an emergency override was in force.
    #[serde(rename = "override")]
    pub overridden: bool,
    /// A test key's call.
    pub test: bool,
    /// Who produced the event; empty: a gateway of ours.
    pub producer: String,
    /// W3C trace id.
    pub trace_id: Option<String>,
    /// The client's own `X-Request-Id`.
    pub client_request_id: Option<String>,
    /// How many like requests this record stands for.
    pub count: u32,
    /// When the platform took it in.
    pub received_at: String,
    /// Which gateway wrote it.
    pub node: Option<String>,
    /// Catalog number in force.
    pub catalog_version: u64,
}

impl Record {
    fn of(record: UsageRecord) -> Self {
        let event = record.event;
        let text = |value: Option<std::sync::Arc<str>>| value.map(|text| text.to_string());
        Self {
            request_id: match &event.id {
                EventId::Request(id) => Some(id.as_str().to_owned()),
                EventId::Outside(_) => None,
            },
            id: event.id.as_str().to_owned(),
            timestamp: event.at.to_string(),
            key_id: event.key.map(|id| id.to_string()),
            subscription_id: event.subscription.map(|id| id.to_string()),
            organization_id: event.organization.map(|id| id.to_string()),
            api: event.api.to_string(),
            route: event.route.to_string(),
            method: event.method.to_string(),
            path: event.path.to_string(),
            status: event.status,
            outcome: event.outcome.as_str(),
            code: event.code.map(|code| code.as_str()),
            limit: text(event.limit),
            latency_ms: ms(event.latency_us),
            upstream_latency_ms: event.upstream_latency_us.map(ms),
            bytes_in: event.bytes_in,
            bytes_out: event.bytes_out,
            address: event.address.map(|address| address.to_string()),
            country: event
                .country
                .map(|code| String::from_utf8_lossy(&code).into_owned()),
            user_agent: text(event.user_agent),
            units: event.units,
            meter: event.meter.to_string(),
            labels: event
                .labels
                .iter()
                .map(|label| (label.name.to_string(), label.value.to_string()))
                .collect(),
            plan: event.plan.map(|id| id.to_string()),
            plan_version: event.plan_version,
            would_deny: text(event.would_deny),
            overridden: event.overridden,
            test: event.test,
            producer: event.producer.to_string(),
            trace_id: text(event.trace_id),
            client_request_id: text(event.client_request_id),
            count: event.count,
            received_at: record.received_at.to_string(),
            node: record.node.map(|id| id.to_string()),
            catalog_version: event.catalog_version,
        }
    }
}

/// Single requests.
///
/// Newest first. Records are single facts and no statistics, so those of test keys are among them
/// unless `include_test=false` (or `test=false`) leaves them out.
#[utoipa::path(
    get, path = "/api/v1/usage/records", tag = "Usage",
    operation_id = "usage_records",
    security(("bearer" = ["read"])),
    params(
        SpanParams, FilterParams,
        ("request_id" = Option<String>, Query, description = "Only this request."),
        ("status" = Option<u16>, Query, description = "Only this status."),
        ("outcome" = Option<String>, Query, description = "Only this outcome."),
        ("address" = Option<String>, Query, description = "Only from this address."),
        ("min_latency_ms" = Option<u64>, Query, description = "Only those that took at least so long."),
        ("test" = Option<bool>, Query, description = "Only calls of test keys, or only of others."),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before."),
    ),
    responses((status = 200, description = "Requests.", body = List<Record>))
)]
pub async fn usage_records(
    State(state): State<ApiState>,
    mut query: Query,
) -> ApiResult<Json<List<Record>>> {
    let span = read_span(&mut query, state.metering().now());
    let leaves_tests_out = query.has("include_test");
    let filter = read_filter(&state, &mut query)?;
    let page = read_page(&mut query);
    let test = query.has("test").then(|| query.flag("test"));
    let test = test.or((leaves_tests_out && !filter.include_test).then_some(false));
    let id = query.text("request_id").map(|id| EventId::parse(&id));
    let status = query
        .number("status", 100..=999)
        .and_then(|status| u16::try_from(status).ok());
    let outcomes: Vec<&str> = Outcome::ALL
        .iter()
        .map(|outcome| outcome.as_str())
        .collect();
    let outcome = query.choice("outcome", &outcomes.join(", "), Outcome::parse);
    let address = query.choice("address", "an IP address", |text| {
        text.parse::<std::net::IpAddr>().ok()
    });
    let min_latency_us = query
        .number("min_latency_ms", 0..=86_400_000)
        .map(|ms| ms * 1_000);
    let span = query.finish_with(span)?;
    let question = RecordsQuestion {
        filter,
        test,
        id,
        status,
        outcome,
        address: address.map(|address| address.to_string()),
        min_latency_us,
        limit: page.limit,
        cursor: page.cursor,
        ..RecordsQuestion::in_span(span)
    };
    match state.metering().records(&question).await {
        Ok(found) => {
            if found.items.is_empty() {
                lookup::check_names(&state, &question.filter).await?;
            }
            Ok(Json(List::of(found, Record::of)))
        }
        Err(MeteringError::Store(error))
            if error.kind == StoreErrorKind::NotFound && question.cursor.is_some() =>
        {
            let detail = "is not a cursor that a list answered";
            Err(ApiError::invalid_field("cursor", "invalid", detail))
        }
        Err(error) => Err(error.into()),
    }
}
