//! All calls, by what they are about. A handler reads its input, asks a room, and shows the
//! answer; it decides nothing.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::{ApiError, Code};
use crate::state::ApiState;

/// Every call.
pub(crate) fn calls() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(ping))
}

#[utoipa::path(get, path = "/api/v1/ping", tag="x", security(("bearer" = ["read"])), responses((status=200)))]
async fn ping() {}

/// What lives nowhere.
pub(crate) async fn not_found() -> ApiError {
    ApiError::new(Code::NOT_FOUND, "no call lives at this path")
}
