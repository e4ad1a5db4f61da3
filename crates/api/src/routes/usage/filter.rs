//! The span and the filter that all questions share.

use tollgate_metering::MeteringError;
use tollgate_metering::question::{Filter, Span, SpanInput};
use tollgate_model::{ApiId, KeyId, OrganizationId, PlanId, SubscriptionId, Timestamp};
use utoipa::IntoParams;

use crate::error::ApiResult;
use crate::query::Query;
use crate::routes::lookup;
use crate::state::ApiState;

/// Which span of time. Nothing at all is the last 24 hours.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "declares parameters; they are read by `read_span`"
)]
pub struct SpanParams {
    /// First instant inside (RFC 3339).
    from: Option<String>,
    /// First instant outside.
    to: Option<String>,
    /// Instead: so many days up to now.
    days: Option<u32>,
    /// Instead: `1h`, `24h`, `7d` or `30d` up to now.
    range: Option<String>,
}

/// Whose usage. All that are given must hold.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "declares parameters; they are read by `read_filter`"
)]
pub struct FilterParams {
    /// Only this subscription's.
    subscription_id: Option<String>,
    /// Older name: a subscription, or the only one of the organization of this id (`userId`).
    user_id: Option<String>,
    /// Only this customer's.
    organization_id: Option<String>,
    /// Only calls of this API.
    api: Option<String>,
    /// Only calls with this key, by its id (`apiKeyId`).
    key_id: Option<String>,
    /// Only calls of this route, by its template (`endpoint`).
    route: Option<String>,
    /// Only calls under this plan (`tier`).
    plan: Option<String>,
    /// Calls of test keys too; `false` by default, but for single records, which show all.
    include_test: Option<bool>,
}

/// Reads the span.
pub fn read_span(query: &mut Query, now: Timestamp) -> Option<Span> {
    let range = query.text("range");
    let input = SpanInput {
        from: query.timestamp("from"),
        to: query.timestamp("to"),
        days: query
            .number("days", 1..=3_660)
            .and_then(|days| u32::try_from(days).ok()),
        range: range.as_deref(),
    };
    match Span::resolve(input, now) {
        Ok(span) => Some(span),
        Err(MeteringError::Invalid { field, detail }) => {
            query.fail(field, "invalid", detail);
            None
        }
        Err(other) => {
            query.fail("from", "invalid", other.to_string());
            None
        }
    }
}

/// Reads the filter.
///
/// # Errors
/// 404 when `user_id` names no single subscription.
pub fn read_filter(state: &ApiState, query: &mut Query) -> ApiResult<Filter> {
    let mut subscription = query
        .text("subscription_id")
        .map(|id| SubscriptionId::new(&id));
    if let Some(user) = query.text("user_id") {
        let found = lookup::subscription(state, &user)?;
        match &subscription {
            Some(other) if *other != found => {
                query.fail(
                    "user_id",
                    "duplicate",
                    "names another subscription than subscription_id",
                );
            }
            _ => subscription = Some(found),
        }
    }
    Ok(Filter {
        subscription,
        organization: query
            .text("organization_id")
            .map(|id| OrganizationId::new(&id)),
        api: query.text("api").map(|id| ApiId::new(&id)),
        key: query.text("key_id").map(|id| KeyId::new(&id)),
        route: query.text("route"),
        plan: query.text("plan").map(|id| PlanId::new(&id)),
        include_test: query.flag("include_test"),
    })
}
