//! All calls, by what they are about. A handler reads its input, asks a room, and shows the
//! answer; it decides nothing.

mod apply;
mod audit;
mod catalog;
mod check;
mod flush;
mod keys;
mod lookup;
mod me;
mod peer;
mod standing;
mod usage;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::{ApiError, Code};
use crate::state::ApiState;

/// Every call.
pub(crate) fn calls() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .merge(keys::calls())
        .routes(routes!(check::check_quota))
        .routes(routes!(me::get_me))
        .merge(usage::calls())
        .merge(catalog::calls())
        .routes(routes!(apply::apply_catalog))
        .routes(routes!(apply::diff_catalog))
        .routes(routes!(audit::list_audit))
}

/// What lives nowhere.
pub(crate) async fn not_found() -> ApiError {
    ApiError::new(Code::NOT_FOUND, "no call lives at this path")
}
