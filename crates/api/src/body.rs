//! Request bodies: bounded in length and time, and read as a whole.
//!
//! A body's content type is not looked at: calls are proven by a header that no foreign page can
//! send, and strangers with `curl -d` are answered about their JSON instead of about a header.

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult, Code, FieldError};
use crate::state::ApiState;
use crate::strict_json::{self, NotStrict};

/// Reads the whole body.
///
/// # Errors
/// 413 when it is too long, 400 when it breaks off, 503 when it takes too long.
pub(crate) async fn read_bytes(state: &ApiState, body: Body) -> ApiResult<Bytes> {
    let bytes_max = state.options().body_bytes_max;
    let too_large = || {
        let detail = format!("a body has at most {bytes_max} bytes");
        ApiError::new(Code::BODY_TOO_LARGE, detail)
    };
    // A declared length is judged before anyone waits for what it declares.
    if usize::try_from(body.size_hint().lower()).map_or(true, |declared| declared > bytes_max) {
        return Err(too_large());
    }
    let whole = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(state.options().timeout(), whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            Err(ApiError::invalid_field("", "invalid", "the body broke off").caused(error))
        }
        Err(_) => Err(ApiError::new(
            Code::TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

/// A body that is a JSON object.
pub struct JsonObject(pub Map<String, Value>);

impl FromRequest<ApiState> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> ApiResult<Self> {
        let bytes = read_bytes(state, request.into_body()).await?;
        if bytes.is_empty() {
            let detail = "the body is empty; a JSON object is expected";
            return Err(ApiError::invalid_field("", "invalid", detail));
        }
        match strict_json::read(&bytes) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(ApiError::invalid_field(
                "",
                "wrong_type",
                "a JSON object is expected",
            )),
            Err(NotStrict::Syntax(error)) => {
                let detail = format!("not JSON: {error}");
                Err(ApiError::invalid_field("", "invalid", detail))
            }
            Err(NotStrict::Repeated(names)) => {
                let told = |name| FieldError::new(name, "duplicate", "is given more than once");
                Err(ApiError::invalid(names.into_iter().map(told).collect()))
            }
        }
    }
}

/// A body that is text.
pub struct Text(pub String);

impl FromRequest<ApiState> for Text {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> ApiResult<Self> {
        let bytes = read_bytes(state, request.into_body()).await?;
        String::from_utf8(bytes.into())
            .map(Self)
            .map_err(|_| ApiError::invalid_field("", "invalid", "the body is not UTF-8"))
    }
}
