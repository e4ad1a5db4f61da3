//! `DELETE /api/v1/keys/{id}`.

use axum::extract::State;
use http::StatusCode;

use crate::error::ApiResult;
use crate::extract::{By, Id};
use crate::state::ApiState;

/// Revoke a key.
///
/// It is refused from now on and its open exchanges end; it stays listed as `revoked`. Revoking it
/// again changes nothing.
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}", tag = "Keys",
    operation_id = "delete_key",
    security(("bearer" = ["write"])),
    params(("id" = String, Path, description = "The key's id, not its secret.")),
    responses((status = 204, description = "Revoked."))
)]
pub async fn delete_key(
    State(state): State<ApiState>,
    By(actor): By,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.control().revoke_key(&id, &actor.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
