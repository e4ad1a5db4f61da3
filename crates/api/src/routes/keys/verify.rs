//! `POST /api/v1/keys/verify`: is this key good?

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value};
use tollgate_control::document::{Document, Reader};
use tollgate_control::{ControlError, KeyView};
use tollgate_model::{CheckRequest, DenialCode};
use utoipa::ToSchema;

use crate::body::JsonObject;
use crate::error::ApiResult;
use crate::routes::standing::Standing;
use crate::state::ApiState;

/// Which key, and for what.
#[derive(Serialize, ToSchema)]
pub struct VerifyRequest {
    /// The key as presented.
    pub key: String,
    /// A scope that it must have.
    pub scope: Option<String>,
}

/// Whether a key is good.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Verification {
    /// Whether it may be used (and has the scope). Limits do not matter here: see `limits`.
    pub valid: bool,
    /// Why not: `key_invalid`, `key_expired`, `key_revoked`, `key_disabled`, `scope_missing`, ….
    pub code: Option<&'static str>,
    /// The key.
    pub key_id: Option<String>,
    /// Whose key it is.
    pub subscription_id: Option<String>,
    /// The customer.
    pub organization_id: Option<String>,
    /// The plan in force.
    pub plan: Option<String>,
    /// What it may do; `null`: all that the plan allows.
    pub scopes: Option<Vec<String>>,
    /// The owner's own notes.
    #[schema(value_type = Option<Object>)]
    pub metadata: Value,
    /// Every limit and quota.
    pub limits: Vec<Standing>,
}

/// Is this key good?
///
/// Consumes nothing, and is answered with 200 also for a wrong key.
#[utoipa::path(
    post, path = "/api/v1/keys/verify", tag = "Decisions",
    operation_id = "verify_key",
    security(("bearer" = ["decide"])),
    request_body = VerifyRequest,
    responses((status = 200, description = "Whether it is.", body = Verification))
)]
pub async fn verify_key(
    State(state): State<ApiState>,
    JsonObject(input): JsonObject,
) -> ApiResult<Json<Verification>> {
    let (secret, scope) = read(input)?;
    let answer = state.decisions().check(&CheckRequest::Credential {
        secret,
        units: 0,
        address: None,
    });
    let code = answer.code.filter(|code| is_about_the_key(*code));
    let mut shown = Verification {
        valid: answer.key.is_some() && code.is_none(),
        code: code.map(DenialCode::as_str),
        limits: Standing::all_of(&answer),
        ..Verification::default()
    };
    if let Some(id) = &answer.key {
        let view = state.control().get_key(id.as_str()).await?;
        describe(&mut shown, &view);
        if shown.valid && !has_scope(&state, &view, scope.as_deref()) {
            shown.valid = false;
            shown.code = Some(DenialCode::ScopeMissing.as_str());
        }
    }
    Ok(Json(shown))
}

/// Whether a refusal lasts whatever is left of limits and whatever the gateway's own state is.
fn is_about_the_key(code: DenialCode) -> bool {
    matches!(
        code,
        DenialCode::KeyMissing
            | DenialCode::KeyInvalid
            | DenialCode::KeyExpired
            | DenialCode::KeyRevoked
            | DenialCode::KeyDisabled
            | DenialCode::ApiNotSubscribed
            | DenialCode::AddressNotAllowed
            | DenialCode::ScopeMissing
            | DenialCode::SubscriptionSuspended
            | DenialCode::SubscriptionCancelled
    )
}

fn read(input: Map<String, Value>) -> ApiResult<(String, Option<String>)> {
    let document = Document::from_json(&Value::Object(input));
    let reader = Reader::new(&document);
    let read = reader.root().table(|table| {
        let key = table
            .required_as("key", &["subscription_key"])
            .and_then(|field| field.short_text(512));
        let scope = match table.optional("scope") {
            Some(field) => field.short_text(200).map(|scope| Some(scope.to_owned())),
            None => Some(None),
        };
        Some((key?.to_owned(), scope?))
    });
    Ok(reader.finish(read).map_err(ControlError::Invalid)?)
}

fn describe(shown: &mut Verification, view: &KeyView) {
    shown.key_id = Some(view.key.id.to_string());
    shown.subscription_id = Some(view.key.subscription.to_string());
    shown.organization_id = view.organization.as_ref().map(ToString::to_string);
    shown.plan = view.plan.as_ref().map(ToString::to_string);
    shown.scopes = view.key.scopes.clone();
    shown.metadata = serde_json::from_str(&view.key.metadata).unwrap_or(Value::Null);
}

/// Whether the key holds the scope: its own list decides, else its plan's.
fn has_scope(state: &ApiState, view: &KeyView, scope: Option<&str>) -> bool {
    let Some(scope) = scope else {
        return true;
    };
    if let Some(scopes) = &view.key.scopes {
        return scopes.iter().any(|held| held == scope);
    }
    let catalog = state.control().catalog();
    let plan = view.plan.as_ref().and_then(|id| catalog.plans.get(id));
    plan.and_then(|plan| plan.scopes.as_ref())
        .is_none_or(|scopes| scopes.iter().any(|held| held == scope))
}
