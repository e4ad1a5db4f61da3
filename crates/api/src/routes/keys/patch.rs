//! `PATCH /api/v1/keys/{id}`.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::schema::{Key, KeyPatch};
use super::show::show;
use crate::body::JsonObject;
use crate::error::ApiResult;
use crate::extract::{By, Id};
use crate::state::ApiState;

/// Change a key by a JSON merge patch.
///
/// `state` switches it off (`disabled`) and on again (`active`); revoking is DELETE, and final.
#[utoipa::path(
    patch, path = "/api/v1/keys/{id}", tag = "Keys",
    operation_id = "patch_key",
    security(("bearer" = ["write"])),
    params(("id" = String, Path, description = "The key's id, not its secret.")),
    request_body = KeyPatch,
    responses((status = 200, description = "The key as it is now.", body = Key))
)]
pub async fn patch_key(
    State(state): State<ApiState>,
    By(actor): By,
    Id(id): Id,
    JsonObject(patch): JsonObject,
) -> ApiResult<Json<Value>> {
    let view = state
        .control()
        .patch_key(&id, &Value::Object(patch), &actor.name)
        .await?;
    show(&state, &view).await.map(Json)
}
