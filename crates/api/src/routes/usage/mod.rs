//! Questions about usage, as calls.

mod filter;
mod records;
mod stats;
mod summary;
mod top;
mod trends;
mod wire;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::ApiState;

/// Calls that ask about usage.
pub(super) fn calls() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(stats::usage_stats))
        .routes(routes!(trends::usage_trends))
        .routes(routes!(summary::usage_summary))
        .routes(routes!(top::usage_top))
        .routes(routes!(records::usage_records))
        .routes(routes!(super::flush::flush_usage))
}
