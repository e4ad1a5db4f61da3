//! `POST /api/v1/usage/flush`: makes what waits visible.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult, Code};
use crate::state::ApiState;

/// Everything that was answered before the call is visible now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Flushed {
    /// Always true; a flush that does not succeed is an error.
    pub flushed: bool,
}

/// Ship and fold what waits.
///
/// Returns when every request that was answered before this call is visible in statistics and
/// records; waits at most 10 s. 503 names what did not answer.
#[utoipa::path(
    post, path = "/api/v1/usage/flush", tag = "Usage",
    operation_id = "flush_usage",
    security(("bearer" = ["write"])),
    responses((status = 200, description = "All is visible.", body = Flushed))
)]
pub async fn flush_usage(State(state): State<ApiState>) -> ApiResult<Json<Flushed>> {
    match state.flush().flush().await {
        Ok(()) => Ok(Json(Flushed { flushed: true })),
        Err(error) => Err(ApiError::new(Code::UNAVAILABLE, error.to_string())),
    }
}
