//! The one place where failures become HTTP: `application/problem+json` (RFC 9457) with a stable
//! code.
//!
//! **Invariants.** What clients may see (`detail`, `errors`) and what happened inside (`source`)
//! are separate; the inside is logged with the request's id and never sent. A handler returns an
//! [`ApiError`]; the frame around all handlers renders it (`render`), because only the frame
//! knows the request's id.

mod code;
mod convert;

use std::error::Error;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use tollgate_model::RequestId;
use utoipa::ToSchema;

pub use code::Code;

/// What handlers answer with.
pub type ApiResult<T> = Result<T, ApiError>;

/// Seconds after which a caller may try again when nothing better is known.
const RETRY_AFTER_S: u64 = 1;

/// Most fields that `detail` names; `errors` has all.
const FIELDS_NAMED_MAX: usize = 8;

/// What is wrong with one field or parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Path of the field (`quota.units`, `limits[0].max`), or the parameter's name; empty when it
    /// is the whole body.
    pub field: String,
    /// Stable code.
    pub code: String,
    /// For people.
    pub detail: String,
    /// Line in a submitted file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in a submitted file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl FieldError {
    /// A fault of a field that has no place in a file.
    pub fn new(
        field: impl Into<String>,
        code: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            code: code.into(),
            detail: detail.into(),
            line: None,
            column: None,
        }
    }
}

/// A failure on its way to the client.
#[derive(Debug)]
pub struct ApiError {
    /// Status and words.
    pub code: Code,
    /// What happened this time, for the client.
    pub detail: String,
    /// Every field that is wrong.
    pub errors: Vec<FieldError>,
    /// Seconds after which the same request may succeed.
    pub retry_after_s: Option<u64>,
    /// The cause, for the log only.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// A failure told in words that the client may read.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: (code.status.as_u16() == 503).then_some(RETRY_AFTER_S),
            source: None,
        }
    }

    /// 400 with everything that is wrong.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut fields: Vec<&str> = errors
            .iter()
            .map(|error| error.field.as_str())
            .filter(|field| !field.is_empty())
            .collect();
        let more = fields.len().saturating_sub(FIELDS_NAMED_MAX);
        fields.truncate(FIELDS_NAMED_MAX);
        let detail = match (fields.is_empty(), more) {
            (true, _) => errors
                .first()
                .map_or_else(|| "not valid".to_owned(), |error| error.detail.clone()),
            (false, 0) => format!("not valid: {}", fields.join(", ")),
            (false, more) => format!("not valid: {} and {more} more", fields.join(", ")),
        };
        Self {
            errors,
            ..Self::new(Code::REQUEST_INVALID, detail)
        }
    }

    /// 400 for one field.
    pub fn invalid_field(field: &str, code: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, code, detail)])
    }

    /// 401.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(
            Code::UNAUTHENTICATED,
            "send Authorization: Bearer with a valid access token",
        )
    }

    /// 500 whose cause is logged, not sent.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(Code::INTERNAL, "the cause was logged under this request_id")
        }
    }

    /// Adds the cause for the log.
    #[must_use]
    pub fn caused(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// The body of every answer that is an error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem<'a> {
    /// A page that explains the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short name, the same for every occurrence of the code.
    pub title: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: &'a str,
    /// Stable code.
    pub code: &'a str,
    /// The id under which the request stands in the log.
    pub request_id: &'a str,
    /// Every field that is wrong.
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    pub errors: &'a [FieldError],
}

/// How an error travels from a handler to the frame.
#[derive(Clone)]
pub(crate) struct Failure(pub(crate) Arc<ApiError>);

impl IntoResponse for ApiError {
    /// The status alone; the frame renders the body.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.code.status;
        response.extensions_mut().insert(Failure(Arc::new(self)));
        response
    }
}

/// Turns a failure into the answer that the client sees, and logs its cause.
pub(crate) fn render(error: &ApiError, request_id: RequestId) -> Response {
    if let Some(source) = &error.source {
        if error.code.status.is_server_error() {
            tracing::error!(%request_id, code = error.code.name, cause = %chain(source.as_ref()), "request failed");
        } else {
            tracing::debug!(%request_id, code = error.code.name, cause = %chain(source.as_ref()), "request refused");
        }
    }
    let problem = Problem {
        kind: format!("/docs/errors/{}", error.code.name),
        title: error.code.title,
        status: error.code.status.as_u16(),
        detail: &error.detail,
        code: error.code.name,
        request_id: request_id.as_str(),
        errors: &error.errors,
    };
    // Strings and numbers only: writing them as JSON cannot fail.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = error.code.status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if error.code == Code::UNAUTHENTICATED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = error.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// An error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let mut names: Vec<&str> = Code::ALL.iter().map(|code| code.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| code.status.as_u16() >= 400));
    }

    #[test]
    fn the_detail_stays_short_however_much_is_wrong() {
        let errors = |count| (0..count).map(|n| FieldError::new(format!("f{n}"), "x", "y"));
        let detail = |count| ApiError::invalid(errors(count).collect()).detail;
        assert_eq!(detail(2), "not valid: f0, f1");
        assert!(detail(200).ends_with("f7 and 192 more"));
    }

    #[test]
    fn the_cause_is_told_in_one_line_and_not_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner")]
        struct Outer(#[source] std::fmt::Error);
        assert!(chain(&Outer(std::fmt::Error)).starts_with("outer: inner"));
    }
}
