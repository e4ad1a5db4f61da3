//! `GET /api/v1/usage/trends`.

use axum::Json;
use axum::extract::State;
use jiff::tz::TimeZone;
use serde::Serialize;
use tollgate_metering::question::{Every, GroupBy, Point, TrendsQuestion};
use utoipa::ToSchema;

use super::filter::{FilterParams, SpanParams, read_filter, read_span};
use super::wire::LatencyMs;
use crate::error::ApiResult;
use crate::query::Query;
use crate::routes::lookup;
use crate::state::ApiState;

/// Usage over time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Trends {
    /// By rising start; starts without events are there with zeros.
    pub points: Vec<TrendPoint>,
}

/// One point, and one group of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrendPoint {
    /// The first instant of its minute, hour or day.
    pub start: String,
    /// All requests, refused ones too.
    pub requests: u64,
    /// Units charged.
    pub units: u64,
    /// Refused at the gate.
    pub denied: u64,
    /// Status 400 and above that we did not refuse.
    pub errors: u64,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// Latencies of forwarded requests.
    pub latency_ms: LatencyMs,
    /// The group, where the answer is grouped; `other` for what is beyond the largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl TrendPoint {
    fn of(point: Point) -> Self {
        Self {
            start: point.start.to_string(),
            requests: point.requests,
            units: point.units,
            denied: point.denied,
            errors: point.errors,
            bytes_in: point.bytes_in,
            bytes_out: point.bytes_out,
            latency_ms: LatencyMs::of(&point.latency),
            group: point.group,
        }
    }
}

/// Usage over time.
///
/// Points a minute, an hour or a day apart; grouped, the largest groups stand alone and the rest
/// is `other`.
#[utoipa::path(
    get, path = "/api/v1/usage/trends", tag = "Usage",
    operation_id = "usage_trends",
    security(("bearer" = ["read"])),
    params(
        SpanParams, FilterParams,
        ("every" = Option<String>, Query, description = "`minute`, `hour` (default) or `day`."),
        ("group_by" = Option<String>, Query, description = "`route`, `key`, `organization`, `plan`, `status`, `country` or `label:NAME`."),
        ("time_zone" = Option<String>, Query, description = "Where days begin and end, such as `Europe/Berlin`; UTC by default."),
    ),
    responses((status = 200, description = "Points.", body = Trends))
)]
pub async fn usage_trends(
    State(state): State<ApiState>,
    mut query: Query,
) -> ApiResult<Json<Trends>> {
    let span = read_span(&mut query, state.metering().now());
    let filter = read_filter(&state, &mut query)?;
    let every = query
        .choice("every", "minute, hour, day", Every::parse)
        .unwrap_or(Every::Hour);
    let group_by = query.choice(
        "group_by",
        "route, key, organization, plan, status, country, label:NAME",
        GroupBy::parse,
    );
    let time_zone = query
        .choice("time_zone", "an IANA zone such as Europe/Berlin", |name| {
            TimeZone::get(name).ok()
        })
        .unwrap_or(TimeZone::UTC);
    let span = query.finish_with(span)?;
    let question = TrendsQuestion {
        span,
        filter,
        every,
        group_by,
        time_zone,
    };
    let points = state.metering().trends(&question).await?;
    if points.iter().all(|point| point.requests == 0) {
        lookup::check_names(&state, &question.filter).await?;
    }
    Ok(Json(Trends {
        points: points.into_iter().map(TrendPoint::of).collect(),
    }))
}
