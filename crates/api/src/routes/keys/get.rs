//! `GET /api/v1/keys/{id}`.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::schema::Key;
use super::show::show;
use crate::error::ApiResult;
use crate::extract::Id;
use crate::state::ApiState;

/// Read a key.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}", tag = "Keys",
    operation_id = "get_key",
    security(("bearer" = ["read"])),
    params(("id" = String, Path, description = "The key's id, not its secret.")),
    responses((status = 200, description = "The key.", body = Key))
)]
pub async fn get_key(State(state): State<ApiState>, Id(id): Id) -> ApiResult<Json<Value>> {
    let view = state.control().get_key(&id).await?;
    show(&state, &view).await.map(Json)
}
