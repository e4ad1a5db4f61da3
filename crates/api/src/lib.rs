//! The platform's HTTP API: one router over control, metering and the gateway's decisions.
//!
//! **Owns** how things look on the wire (JSON, query parameters, problem+json), who may make which
//! call, idempotency, the OpenAPI document and the pages made from it, and the health port.
//!
//! **Invariants.**
//! - A route exists only together with its entry in the OpenAPI document, and is guarded by what
//!   that entry declares: code and document cannot drift.
//! - Errors become HTTP in [`error`] and nowhere else; causes are logged, never sent.
//! - Every answer carries `X-Request-Id`; every body and every call is bounded; a panic is a 500.
//! - No key or token is written to a log, an error or a URL of ours.
//! - A change that was begun is finished even when its caller leaves.
//!
//! **Does not own** rules (rooms decide), sockets (the binary serves the routers), or sessions.

mod body;
mod call_limit;
mod docs;
pub mod error;
mod extract;
mod frame;
mod guard;
pub mod health;
mod idempotency;
mod metrics;
mod openapi;
mod options;
mod page;
mod query;
mod redact;
mod routes;
mod state;
mod strict_json;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;

pub use error::{ApiError, Code, FieldError};
pub use health::{Condition, Health, health_router};
pub use metrics::ApiMetrics;
pub use options::Options;
pub use state::{ApiParts, ApiState, Flush, FlushError};

/// The platform's router, ready to be served.
///
/// # Errors
/// When the OpenAPI document cannot be written as JSON, which no input causes.
pub fn router(state: ApiState) -> Result<Router, serde_json::Error> {
    let (calls, document) = openapi::calls();
    let operations = Arc::new(guard::Operations::of(&document)?);
    Ok(calls
        .route_layer(from_fn_with_state(state.clone(), idempotency::idempotency))
        .route_layer(from_fn_with_state(
            (state.clone(), operations),
            guard::guard,
        ))
        .merge(docs::pages_router(&document)?)
        .fallback(routes::not_found)
        .layer(from_fn_with_state(state.clone(), frame::frame))
        .with_state(state))
}

/// The OpenAPI document of all calls.
#[must_use]
pub fn openapi_document() -> utoipa::openapi::OpenApi {
    openapi::calls().1
}
