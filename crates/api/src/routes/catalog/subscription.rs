//! What a subscription has used.

use tollgate_model::Subscription;

use crate::error::ApiResult;
use crate::routes::keys::usage::{Usage, period_start};
use crate::state::ApiState;

/// What it has used.
///
/// # Errors
/// The store's failures.
pub async fn usage(state: &ApiState, subscription: &Subscription) -> ApiResult<Usage> {
    let start = period_start(state, subscription);
    let totals = state
        .metering()
        .usage_of_subscription(&subscription.id, &subscription.time_zone, start)
        .await?;
    Ok(Usage::of(&totals))
}
