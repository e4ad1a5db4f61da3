//! `POST /api/v1/keys`.

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::Value;

use super::schema::{CreatedKey, NewKey};
use super::show::complete;
use super::usage::{Usage, period_start};
use crate::body::JsonObject;
use crate::error::ApiResult;
use crate::extract::By;
use crate::idempotency::ShownOnce;
use crate::state::ApiState;

/// Make a key.
///
/// The answer holds the secret in `key`: it is shown once. Gateways in this process accept the key
/// already when this is answered. Sent again under its `Idempotency-Key`, the call is answered
/// alike while this process remembers; afterwards with 409 `idempotency_answer_lost`, which names
/// the key: the secret is not kept anywhere.
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "Keys",
    operation_id = "create_key",
    security(("bearer" = ["write"])),
    request_body = NewKey,
    responses((status = 201, description = "The key and its secret.", body = CreatedKey))
)]
pub async fn create_key(
    State(state): State<ApiState>,
    By(actor): By,
    JsonObject(input): JsonObject,
) -> ApiResult<(StatusCode, Extension<ShownOnce>, Json<Value>)> {
    let made = state
        .control()
        .create_key(&Value::Object(input), actor)
        .await?;
    let key = &made.view.key;
    let catalog = state.control().catalog();
    let has_period = catalog
        .subscriptions
        .get(&key.subscription)
        .and_then(|subscription| period_start(&state, subscription))
        .is_some();
    // A key that was just made has used nothing; a failing store must not cost its only showing.
    let usage = Usage {
        today: 0,
        period: has_period.then_some(0),
        total: 0,
    };
    let mut shown = made.to_json();
    complete(&mut shown, key, state.clock().now().wall, usage.to_json());
    Ok((StatusCode::CREATED, Extension(ShownOnce), Json(shown)))
}
