//! `GET /api/v1/quota/check`: would a call pass, and what is left.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::Serialize;
use tollgate_model::{CheckAnswer, CheckRequest, KeyId};
use utoipa::ToSchema;

use super::peer::Peer;
use super::standing::{Standing, headline, percentage, warnings};
use crate::error::{ApiError, ApiResult};
use crate::guard::{authenticate, bearer, check_scope};
use crate::query::Query;
use crate::state::ApiState;

const UNITS_MAX: u64 = 1 << 53;

/// Whether a call would pass, and what is left.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuotaCheck {
    /// Whether a call of so many units would pass now.
    pub allowed: bool,
    /// Units left; `null`: unlimited.
    pub remaining: Option<u64>,
    /// The allowance; `null`: unlimited.
    pub limit: Option<u64>,
    /// Units used.
    pub used: u64,
    /// Used units in percent of the allowance; 0 where there is none.
    pub usage_percentage: f64,
    /// A sentence for every quota of which 80 % or more is used.
    pub warnings: Vec<String>,
    /// When `remaining` next grows.
    pub reset_at: Option<String>,
    /// The same as `reset_at`, for older callers.
    #[serde(rename = "resetAt")]
    pub reset_at_older: Option<String>,
    /// Why not: a code such as `quota_exceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Seconds until the same call would pass, if it ever would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The plan in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Whose quota it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<String>,
    /// Every limit that was weighed.
    pub limits: Vec<Standing>,
}

impl QuotaCheck {
    fn of(answer: &CheckAnswer) -> Self {
        let shown = headline(answer);
        let reset_at = shown
            .and_then(|reading| reading.resets_at)
            .map(|at| at.to_string());
        Self {
            allowed: answer.allowed,
            remaining: shown.and_then(|reading| reading.remaining),
            limit: shown.and_then(|reading| reading.limit),
            used: shown.map_or(0, |reading| reading.used),
            usage_percentage: percentage(shown),
            warnings: warnings(answer),
            reset_at_older: reset_at.clone(),
            reset_at,
            reason: answer.code.map(|code| code.as_str()),
            retry_after: answer.retry_after_s,
            plan: answer.plan.as_ref().map(|id| id.as_str().to_owned()),
            subscription_id: answer
                .subscription
                .as_ref()
                .map(|id| id.as_str().to_owned()),
            limits: Standing::all_of(answer),
        }
    }
}

/// Would a call pass?
///
/// Weighs every limit and quota of the key's subscription and consumes nothing. The key alone
/// suffices (`subscription_key`, `X-Subscription-Key` or `X-API-Key`); a wrong key is answered
/// with `allowed: false` and its reason. With a token of scope `decide` a subscription or key can
/// be named by its id instead. `subscriptionKey` is read as `subscription_key`.
#[utoipa::path(
    get, path = "/api/v1/quota/check", tag = "Decisions",
    operation_id = "check_quota",
    security((), ("bearer" = ["decide"])),
    params(
        ("subscription_key" = Option<String>, Query, description = "The key that a call would carry; redacted in every log."),
        ("X-Subscription-Key" = Option<String>, Header, description = "The key, outside the URL."),
        ("subscription_id" = Option<String>, Query, description = "Instead of a key: this subscription (needs a token)."),
        ("key_id" = Option<String>, Query, description = "Instead of a key: this key by its id (needs a token)."),
        ("units" = Option<u64>, Query, description = "Units that the call would cost; 1 by default."),
    ),
    responses((status = 200, description = "What the gateway would say.", body = QuotaCheck))
)]
pub async fn check_quota(
    State(state): State<ApiState>,
    headers: HeaderMap,
    peer: Peer,
    mut query: Query,
) -> ApiResult<Json<QuotaCheck>> {
    let presented = presented_key(&headers, &mut query);
    let units = query.number("units", 1..=UNITS_MAX).unwrap_or(1);
    let subscription = query.text("subscription_id");
    let key = query.text("key_id");
    let named = [presented.is_some(), subscription.is_some(), key.is_some()];
    if named.into_iter().filter(|given| *given).count() > 1 {
        query.fail(
            "subscription_id",
            "duplicate",
            "give a key, key_id or subscription_id: one of them",
        );
    }
    query.finish()?;
    let request = match (presented, subscription, key) {
        (Some(secret), _, _) => CheckRequest::Credential {
            secret,
            units,
            address: caller_address(&state, &headers, peer).await?,
        },
        (None, Some(id), _) => {
            require_decide(&state, &headers).await?;
            let id = super::lookup::subscription(&state, &id)?;
            CheckRequest::Subscription { id, units }
        }
        (None, None, Some(id)) => {
            require_decide(&state, &headers).await?;
            let id = KeyId::new(&id);
            super::lookup::key(&state, &id).await?;
            CheckRequest::Key { id, units }
        }
        (None, None, None) => return check_bearer(&state, &headers, units, peer).await,
    };
    Ok(Json(QuotaCheck::of(&state.decisions().check(&request))))
}

/// Where the key's owner is: here, unless a service asks on its behalf.
async fn caller_address(
    state: &ApiState,
    headers: &HeaderMap,
    peer: Peer,
) -> ApiResult<Option<IpAddr>> {
    match authenticate(state, headers).await? {
        Some(_service) => Ok(None),
        None => Ok(peer.0),
    }
}

/// With nothing but `Authorization`, it may be the caller's own key.
async fn check_bearer(
    state: &ApiState,
    headers: &HeaderMap,
    units: u64,
    peer: Peer,
) -> ApiResult<Json<QuotaCheck>> {
    let secret = bearer(headers).ok_or_else(ApiError::unauthenticated)?;
    let answer = state.decisions().check(&CheckRequest::Credential {
        secret: secret.to_owned(),
        units,
        address: peer.0,
    });
    if answer.key.is_some() {
        return Ok(Json(QuotaCheck::of(&answer)));
    }
    require_decide(state, headers).await?;
    Err(ApiError::invalid_field(
        "subscription_key",
        "missing",
        "say whose quota: subscription_key, key_id or subscription_id",
    ))
}

async fn require_decide(state: &ApiState, headers: &HeaderMap) -> ApiResult<()> {
    let principal = authenticate(state, headers)
        .await?
        .ok_or_else(ApiError::unauthenticated)?;
    check_scope(&principal, "decide")
}

/// The caller's own key from the headers or the query; the same key in several places is one.
fn presented_key(headers: &HeaderMap, query: &mut Query) -> Option<String> {
    let from_query = query.text("subscription_key");
    let from_headers = match super::me::key_header(headers) {
        Ok(key) => key,
        Err(error) => {
            for fault in error.errors {
                query.fail(&fault.field, &fault.code, fault.detail);
            }
            None
        }
    };
    if let (Some(query_key), Some(header_key)) = (&from_query, &from_headers)
        && query_key != header_key
    {
        query.fail(
            "subscription_key",
            "duplicate",
            "differs from the key in the headers",
        );
    }
    from_query.or(from_headers)
}
