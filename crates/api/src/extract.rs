//! Small extractors that fail as problems instead of as the framework's own texts.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use tollgate_control::{Actor, Principal};
use tollgate_store::CallAttempt;

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

/// Who calls, proven by the guard, and under which idempotency key.
pub struct By(pub Actor);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> ApiResult<Self> {
        let principal = parts.extensions.get::<Principal>();
        let principal = principal.ok_or_else(ApiError::unauthenticated)?;
        Ok(Self(Actor {
            call: parts.extensions.get::<CallAttempt>().copied(),
            ..Actor::from(principal)
        }))
    }
}
