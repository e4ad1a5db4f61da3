//! Things by the names that callers give them.

use tollgate_model::{ApiKey, KeyId, SubscriptionId};

use crate::error::{ApiError, ApiResult, Code};
use crate::state::ApiState;

/// The subscription of this id, or the only one of the organization of this id.
///
/// # Errors
/// 404 `subscription_not_found`.
pub fn subscription(state: &ApiState, id: &str) -> ApiResult<SubscriptionId> {
    Ok(state.control().resolve_subscription(id)?)
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
