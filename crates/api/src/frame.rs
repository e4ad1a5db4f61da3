//! What surrounds every call: request id, time limit, panics, headers, access log.
//!
//! **Invariants.** Every answer carries `X-Request-Id`; every error is problem+json; a panic is
//! answered with 500 and unwinds no further. A change that was begun is finished even when its
//! caller leaves or its time is over, because it runs in a task of its own that the state owns and
//! waits for at the end: a commit is never cut off from its publication.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tollgate_model::RequestId;

use crate::error::{ApiError, Code, Failure, render};
use crate::guard::CallerName;
use crate::redact;
use crate::state::ApiState;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of every answer that does not say otherwise.
const DEFAULT_HEADERS: [(HeaderName, &str); 5] = [
    (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (http::header::X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
];

/// Runs a call inside the frame.
pub(crate) async fn frame(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = state.clock().now();
    let request_id = RequestId::from_uuid(state.ids().uuid(started.wall));
    let method = request.method().clone();
    let target = redact::target(request.uri());
    let caller = CallerName::default();
    request.extensions_mut().insert(request_id);
    request.extensions_mut().insert(caller.clone());

    let answer = run(&state, &method, request, next).await;
    let response = finish(answer, request_id);

    let status = response.status();
    let latency_us = state.clock().now().ticks.since(started.ticks);
    let name = caller.0.get().map_or("-", String::as_str);
    tracing::info!(
        target: "tollgate_api::access",
        %request_id, %method, target, status = status.as_u16(), latency_us, caller = name, "answered"
    );
    state.metrics().answered(&method, status, latency_us);
    response
}

/// The handler's answer; what kept it from answering otherwise.
async fn run(
    state: &ApiState,
    method: &Method,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let limit = state.options().timeout();
    let work = AssertUnwindSafe(async move { next.run(request).await }).catch_unwind();
    let outcome = if method.is_safe() {
        tokio::time::timeout(limit, work).await
    } else {
        match tokio::time::timeout(limit, state.tasks().spawn(work)).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(gone)) => return Err(ApiError::internal(gone)),
            Err(over) => Err(over),
        }
    };
    match outcome {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(panic)) => Err(ApiError::internal(format!(
            "panic: {}",
            panic_text(panic.as_ref())
        ))),
        Err(_) => Err(ApiError::new(
            Code::TIMEOUT,
            format!("not done within {} s", limit.as_secs()),
        )),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Renders errors and adds what every answer carries.
fn finish(answer: Result<Response, ApiError>, request_id: RequestId) -> Response {
    let mut response = match answer {
        Err(error) => render(&error, request_id),
        Ok(response) => render_failures(response, request_id),
    };
    let headers = response.headers_mut();
    for (name, value) in DEFAULT_HEADERS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert(X_REQUEST_ID, id);
    }
    response
}

fn render_failures(response: Response, request_id: RequestId) -> Response {
    if let Some(Failure(error)) = response.extensions().get::<Failure>() {
        return render(error, request_id);
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let error = ApiError::new(Code::METHOD_NOT_ALLOWED, "see the header Allow");
        let mut rendered = render(&error, request_id);
        if let Some(allow) = response.headers().get(ALLOW) {
            rendered.headers_mut().insert(ALLOW, allow.clone());
        }
        return rendered;
    }
    response
}
