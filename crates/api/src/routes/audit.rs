//! `GET /api/v1/audit`: who changed what.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use tollgate_store::{AuditEntry, Page};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::page::{LIMIT_DEFAULT, LIMIT_MAX, List};
use crate::query::Query;
use crate::state::ApiState;

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditRow {
    /// When.
    pub at: String,
    /// Who: a token's name, a file, the command line.
    pub actor: String,
    /// Such as `key.create`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// What changed; no secrets.
    #[schema(value_type = Object)]
    pub detail: Value,
}

impl AuditRow {
    fn of(entry: AuditEntry) -> Self {
        let detail = serde_json::from_str(&entry.detail).unwrap_or(Value::String(entry.detail));
        Self {
            at: entry.at.to_string(),
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            detail,
        }
    }
}

/// The latest changes.
///
/// Newest first. There are no further pages: ask for as many as are needed, up to 1 000.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "Audit",
    operation_id = "list_audit",
    security(("bearer" = ["admin"])),
    params(("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default.")),
    responses((status = 200, description = "Changes.", body = List<AuditRow>))
)]
pub async fn list_audit(
    State(state): State<ApiState>,
    mut query: Query,
) -> ApiResult<Json<List<AuditRow>>> {
    let limit = query
        .number("limit", 1..=u64::from(LIMIT_MAX))
        .and_then(|limit| u32::try_from(limit).ok())
        .unwrap_or(LIMIT_DEFAULT);
    query.finish()?;
    let items = state.store().list_audit(limit).await?;
    let page = Page {
        items,
        next_cursor: None,
    };
    Ok(Json(List::of(page, AuditRow::of)))
}
