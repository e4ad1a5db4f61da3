//! Pages for people: the start page, the list of calls, and a page for every error code.
//!
//! **Invariants.** All pages are made once, at start, from the OpenAPI document and the texts in
//! `docs/errors/`: they cannot say anything else than what runs. No scripts, nothing from other
//! hosts, and a policy that forbids both.

mod error_pages;
mod html;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use crate::error::{ApiError, Code};

const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// Routes of the pages and of the document itself.
///
/// # Errors
/// When the document cannot be written as JSON.
pub(crate) fn pages_router<S: Clone + Send + Sync + 'static>(
    document: &utoipa::openapi::OpenApi,
) -> Result<Router<S>, serde_json::Error> {
    let value = serde_json::to_value(document)?;
    let json = Bytes::from(serde_json::to_vec_pretty(&value)?);
    let calls = Bytes::from(html::calls_page(&value));
    let start = Bytes::from(html::start_page());
    let errors: Arc<HashMap<&'static str, Bytes>> = Arc::new(
        error_pages::ERROR_PAGES
            .iter()
            .map(|(code, text)| (*code, Bytes::from(html::error_page(code, text))))
            .collect(),
    );
    let index = Bytes::from(html::error_index(error_pages::ERROR_PAGES));
    let html = |page: Bytes| get(move || async move { answer("text/html; charset=utf-8", page) });
    Ok(Router::new()
        .route("/", html(start))
        .route("/docs", html(calls))
        .route("/docs/errors", html(index))
        .route(
            "/docs/errors/{code}",
            get(move |path: Path<String>| async move {
                match errors.get(path.0.as_str()) {
                    Some(page) => answer("text/html; charset=utf-8", page.clone()),
                    None => ApiError::new(Code::NOT_FOUND, "no such code").into_response(),
                }
            }),
        )
        .route(
            "/openapi.json",
            get(move || async move { answer("application/json", json) }),
        ))
}

fn answer(kind: &'static str, body: Bytes) -> Response {
    (
        [(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, PAGE_POLICY)],
        body,
    )
        .into_response()
}
