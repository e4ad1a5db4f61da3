//! Small extractors that fail as problems instead of as the framework's own texts.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use tollgate_control::Principal;

use crate::error::{ApiError, ApiResult, Code};

/// Longest id in a path, in bytes.
const ID_BYTES_MAX: usize = 200;

/// The `{id}` of a path. What cannot be an id is not found.
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) if !id.is_empty() && id.len() <= ID_BYTES_MAX => Ok(Self(id)),
            _ => Err(ApiError::new(Code::NOT_FOUND, "that cannot be an id")),
        }
    }
}

/// Who calls, proven by the guard.
pub struct By(pub Principal);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> ApiResult<Self> {
        parts
            .extensions
            .get::<Principal>()
            .cloned()
            .map(Self)
            .ok_or_else(ApiError::unauthenticated)
    }
}
