//! `GET /api/v1/usage/stats`.

use axum::Json;
use axum::extract::State;
use tollgate_metering::question::StatsQuestion;
use tollgate_model::{CheckRequest, LimitReading, SubscriptionId};

use super::filter::{FilterParams, SpanParams, read_filter, read_span};
use super::wire::UsageStats;
use crate::error::ApiResult;
use crate::query::Query;
use crate::routes::lookup;
use crate::state::ApiState;

/// Statistics of a span.
///
/// Counts, units, errors, latencies, statuses; with one subscription asked for, where its quota
/// stands.
#[utoipa::path(
    get, path = "/api/v1/usage/stats", tag = "Usage",
    operation_id = "usage_stats",
    security(("bearer" = ["read"])),
    params(SpanParams, FilterParams),
    responses((status = 200, description = "Statistics.", body = UsageStats))
)]
pub async fn usage_stats(
    State(state): State<ApiState>,
    mut query: Query,
) -> ApiResult<Json<UsageStats>> {
    let span = read_span(&mut query, state.metering().now());
    let filter = read_filter(&state, &mut query)?;
    let span = query.finish_with(span)?;
    let quota = filter
        .subscription
        .as_ref()
        .and_then(|id| quota_of(&state, id));
    let question = StatsQuestion {
        span,
        filter,
        quota,
    };
    let stats = state.metering().stats(&question).await?;
    if stats.requests == 0 {
        lookup::check_names(&state, &question.filter).await?;
    }
    Ok(Json(UsageStats::of(stats)))
}

/// Where the subscription's quota stands; quotas come first among readings.
pub(super) fn quota_of(state: &ApiState, id: &SubscriptionId) -> Option<LimitReading> {
    let request = CheckRequest::Subscription {
        id: id.clone(),
        units: 1,
    };
    let answer = state.decisions().check(&request);
    answer
        .limits
        .into_iter()
        .find(|reading| reading.period.is_some())
}
