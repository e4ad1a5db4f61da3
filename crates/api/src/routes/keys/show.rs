//! A key as callers see it.

use serde_json::{Value, json};
use tollgate_control::KeyView;
use tollgate_model::{ApiKey, KeyState, Timestamp};

use super::usage::{Usage, period_start};
use crate::error::ApiResult;
use crate::state::ApiState;

/// `active`, `disabled`, `revoked` or `expired`. Expiry follows from the clock and comes before
/// `disabled`, as it does at the gate.
pub fn state_at(key: &ApiKey, now: Timestamp) -> &'static str {
    let expired = key.expires_at.is_some_and(|end| end <= now);
    if key.state != KeyState::Revoked && expired {
        "expired"
    } else {
        key.state.as_str()
    }
}

/// The key's fields with its state now and what it has used.
///
/// # Errors
/// The store's failures.
pub async fn show(state: &ApiState, view: &KeyView) -> ApiResult<Value> {
    let catalog = state.control().catalog();
    let subscription = catalog.subscriptions.get(&view.key.subscription);
    let usage = match subscription {
        Some(subscription) => {
            let start = period_start(state, subscription);
            let totals = state
                .metering()
                .usage_of_key(&view.key.id, &subscription.time_zone, start)
                .await?;
            Usage::of(&totals).to_json()
        }
        None => Value::Null,
    };
    let mut shown = view.to_json();
    complete(&mut shown, &view.key, state.clock().now().wall, usage);
    Ok(shown)
}

/// Adds to a key's document what only the present knows.
pub fn complete(shown: &mut Value, key: &ApiKey, now: Timestamp, usage: Value) {
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("state".to_owned(), json!(state_at(key, now)));
        fields.insert("usage".to_owned(), usage);
    }
}
