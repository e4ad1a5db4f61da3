//! `GET /api/v1/usage/summary`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tollgate_metering::question::{Filter, NearLimit, SummaryQuestion};
use utoipa::ToSchema;

use super::filter::{FilterParams, SpanParams, read_filter, read_span};
use super::stats::quota_of;
use super::wire::{NearLimitItem, RankedItem, UsageStats};
use crate::error::ApiResult;
use crate::query::Query;
use crate::routes::lookup;
use crate::state::ApiState;

/// Most subscriptions whose quotas are looked at for `near_limit`, by id.
const QUOTAS_MAX: usize = 10_000;

/// A span beside the one before it.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageSummary {
    /// The span asked for.
    pub now: UsageStats,
    /// The span of the same length before it.
    pub before: UsageStats,
    /// Routes with most requests.
    pub top_routes: Vec<RankedItem>,
    /// Customers with most requests.
    pub top_organizations: Vec<RankedItem>,
    /// Subscriptions that have used 80 % of their quota and more, the fullest first.
    pub near_limit: Vec<NearLimitItem>,
}

/// A span beside the one before it.
///
/// Statistics of both, what was called most, who called most, and whose quota is nearly used.
#[utoipa::path(
    get, path = "/api/v1/usage/summary", tag = "Usage",
    operation_id = "usage_summary",
    security(("bearer" = ["read"])),
    params(SpanParams, FilterParams),
    responses((status = 200, description = "A summary.", body = UsageSummary))
)]
pub async fn usage_summary(
    State(state): State<ApiState>,
    mut query: Query,
) -> ApiResult<Json<UsageSummary>> {
    let span = read_span(&mut query, state.metering().now());
    let filter = read_filter(&state, &mut query)?;
    let span = query.finish_with(span)?;
    let quotas = quotas_of(&state, &filter);
    let question = SummaryQuestion {
        span,
        filter,
        quotas,
    };
    let filter = question.filter.clone();
    let summary = state.metering().summary(question).await?;
    if summary.now.requests == 0 && summary.before.requests == 0 {
        lookup::check_names(&state, &filter).await?;
    }
    let ranked = |items: Vec<_>| items.into_iter().map(RankedItem::of).collect();
    Ok(Json(UsageSummary {
        now: UsageStats::of(summary.now),
        before: UsageStats::of(summary.before),
        top_routes: ranked(summary.top_routes),
        top_organizations: ranked(summary.top_organizations),
        near_limit: summary.near_limit.iter().map(NearLimitItem::of).collect(),
    }))
}

/// Where the quotas of the subscriptions in question stand.
fn quotas_of(state: &ApiState, filter: &Filter) -> Vec<NearLimit> {
    let catalog = state.control().catalog();
    let mut subscriptions: Vec<_> = catalog
        .subscriptions
        .values()
        .filter(|subscription| {
            let organization = filter.organization.as_ref();
            let named = filter.subscription.as_ref();
            named.is_none_or(|id| *id == subscription.id)
                && organization.is_none_or(|id| *id == subscription.organization)
                && filter
                    .plan
                    .as_ref()
                    .is_none_or(|id| *id == subscription.plan)
                && filter
                    .api
                    .as_ref()
                    .is_none_or(|id| subscription.apis.contains(id))
        })
        .collect();
    subscriptions.sort_by(|a, b| a.id.cmp(&b.id));
    subscriptions
        .into_iter()
        .take(QUOTAS_MAX)
        .filter_map(|subscription| {
            Some(NearLimit {
                subscription: subscription.id.clone(),
                organization: Some(subscription.organization.clone()),
                reading: quota_of(state, &subscription.id)?,
            })
        })
        .collect()
}
