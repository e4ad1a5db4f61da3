//! API keys. The secret is in the answer that makes a key, and nowhere else.

mod create;
mod delete;
mod get;
mod list;
mod patch;
mod schema;
mod show;
pub(super) mod usage;
mod verify;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::ApiState;

/// Calls about keys.
pub(super) fn calls() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list::list_keys, create::create_key))
        .routes(routes!(verify::verify_key))
        .routes(routes!(get::get_key, patch::patch_key, delete::delete_key))
}
