//! Things by the names that callers give them.

use tollgate_metering::question::Filter;
use tollgate_model::{ApiId, ApiKey, KeyId, OrganizationId, PlanId, SubscriptionId};
use tollgate_store::ObjectKind;

use crate::error::{ApiError, ApiResult, Code};
use crate::state::ApiState;

/// The subscription of this id, or the only one of the organization of this id.
///
/// # Errors
/// 404 `subscription_not_found`.
pub fn subscription(state: &ApiState, id: &str) -> ApiResult<SubscriptionId> {
    Ok(state.control().resolve_subscription(id)?)
}

/// What a question with an empty answer names must exist: for a name that nobody has, nothing is
/// no answer. What was removed and has usage is answered for, because its answer is not empty.
///
/// # Errors
/// 404 for the first of subscription, organization, API, plan and key that is not there; the
/// store's failures.
pub async fn check_names(state: &ApiState, filter: &Filter) -> ApiResult<()> {
    let objects = [
        (
            ObjectKind::Subscription,
            filter.subscription.as_ref().map(SubscriptionId::as_str),
        ),
        (
            ObjectKind::Organization,
            filter.organization.as_ref().map(OrganizationId::as_str),
        ),
        (ObjectKind::Api, filter.api.as_ref().map(ApiId::as_str)),
        (ObjectKind::Plan, filter.plan.as_ref().map(PlanId::as_str)),
    ];
    for (kind, id) in objects {
        if let Some(id) = id {
            state.control().get_object(kind, id)?;
        }
    }
    match &filter.key {
        Some(id) => key(state, id).await.map(drop),
        None => Ok(()),
    }
}

/// The key of this id.
///
/// # Errors
/// 404; the store's failures.
pub async fn key(state: &ApiState, id: &KeyId) -> ApiResult<ApiKey> {
    match state.store().find_key(id).await? {
        Some(found) => Ok(found.key),
        None => Err(ApiError::new(Code::NOT_FOUND, "no key has this id")),
    }
}
