//! `GET /api/v1/me`: what a key's owner may know about it.

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::Serialize;
use tollgate_model::{CheckAnswer, CheckRequest, DenialCode};
use utoipa::ToSchema;

use super::peer::Peer;
use super::standing::Standing;
use crate::error::{ApiError, ApiResult, Code};
use crate::guard::bearer;
use crate::state::ApiState;

/// Whose key it is and where its limits stand.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The key.
    pub key_id: String,
    /// Its subscription.
    pub subscription_id: Option<String>,
    /// Its customer.
    pub organization_id: Option<String>,
    /// The plan in force.
    pub plan: Option<String>,
    /// Whether a call of one unit would pass now.
    pub allowed: bool,
    /// Why not.
    pub code: Option<&'static str>,
    /// Seconds until it would, if it ever would.
    pub retry_after: Option<u64>,
    /// Every limit and quota.
    pub limits: Vec<Standing>,
}

impl Me {
    fn of(key_id: String, answer: &CheckAnswer) -> Self {
        Self {
            key_id,
            subscription_id: answer
                .subscription
                .as_ref()
                .map(|id| id.as_str().to_owned()),
            organization_id: answer
                .organization
                .as_ref()
                .map(|id| id.as_str().to_owned()),
            plan: answer.plan.as_ref().map(|id| id.as_str().to_owned()),
            allowed: answer.allowed,
            code: answer.code.map(DenialCode::as_str),
            retry_after: answer.retry_after_s,
            limits: Standing::all_of(answer),
        }
    }
}

/// The caller's own key.
///
/// Called with the key itself (`X-API-Key`, `X-Subscription-Key` or `Authorization: Bearer`):
/// plan, limits, what is used and when it resets. Consumes nothing; 10 calls a second and address.
#[utoipa::path(
    get, path = "/api/v1/me", tag = "Decisions",
    operation_id = "get_me",
    security(()),
    responses((status = 200, description = "The key and its limits.", body = Me))
)]
pub async fn get_me(
    State(state): State<ApiState>,
    headers: HeaderMap,
    peer: Peer,
) -> ApiResult<Json<Me>> {
    let now = state.clock().now().ticks;
    if peer
        .0
        .is_some_and(|address| !state.call_limit().admit(address, now))
    {
        let error = ApiError::new(Code::RATE_LIMITED, "10 calls a second and address");
        return Err(ApiError {
            retry_after_s: Some(1),
            ..error
        });
    }
    let secret = match key_header(&headers)? {
        Some(key) => key,
        None => bearer(&headers)
            .ok_or_else(|| {
                ApiError::new(
                    Code::UNAUTHENTICATED,
                    "send your key in X-API-Key or Authorization: Bearer",
                )
            })?
            .to_owned(),
    };
    let answer = state.decisions().check(&CheckRequest::Credential {
        secret,
        units: 1,
        address: peer.0,
    });
    let ended = matches!(
        answer.code,
        Some(DenialCode::KeyInvalid | DenialCode::KeyExpired | DenialCode::KeyRevoked)
    );
    match &answer.key {
        Some(key) if !ended => Ok(Json(Me::of(key.as_str().to_owned(), &answer))),
        _ => {
            let reason = answer.code.unwrap_or(DenialCode::KeyInvalid);
            Err(ApiError::new(
                Code::UNAUTHENTICATED,
                format!("the key is not usable: {}", reason.as_str()),
            ))
        }
    }
}

/// The key in `X-API-Key` or `X-Subscription-Key`.
///
/// # Errors
/// 400 when they differ or cannot be read.
pub(super) fn key_header(headers: &HeaderMap) -> ApiResult<Option<String>> {
    let mut found: Option<&str> = None;
    for name in ["x-api-key", "x-subscription-key"] {
        for value in headers.get_all(name) {
            let key = value
                .to_str()
                .map_err(|_| ApiError::invalid_field(name, "invalid", "only visible ASCII"))?
                .trim();
            match found {
                Some(other) if other != key => {
                    let detail = "X-API-Key and X-Subscription-Key carry different keys";
                    return Err(ApiError::invalid_field(name, "duplicate", detail));
                }
                _ => found = Some(key),
            }
        }
    }
    Ok(found.filter(|key| !key.is_empty()).map(str::to_owned))
}
