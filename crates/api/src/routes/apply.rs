//! `POST /api/v1/catalog/apply` and `/diff`: a catalog file against what is there.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use tollgate_control::{AppliedChange, ApplyOptions, ApplyReport};
use utoipa::ToSchema;

use crate::body::Text;
use crate::error::ApiResult;
use crate::extract::By;
use crate::query::Query;
use crate::state::ApiState;

/// What a file changes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Difference {
    /// Whether nothing was done about it.
    pub dry_run: bool,
    /// Made.
    pub added: Vec<ChangedObject>,
    /// Changed, field by field.
    pub changed: Vec<ChangedObject>,
    /// Declared before, no longer named, and removed.
    pub removed: Vec<ChangedObject>,
    /// Declared before, no longer named, and left to the API.
    pub released: Vec<ChangedObject>,
    /// How many objects were there already just as declared.
    pub unchanged: usize,
}

/// One object of a difference.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedObject {
    /// `api`, `limit`, `plan`, `organization`, `subscription`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// What differs, for changed objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<ChangedField>,
}

/// One field that differs.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedField {
    /// Such as `quota.units`.
    pub field: String,
    /// As it was; null where it was not set.
    #[schema(value_type = Option<Object>)]
    pub old: Value,
    /// As it will be.
    #[schema(value_type = Option<Object>)]
    pub new: Value,
}

impl Difference {
    fn of(report: ApplyReport) -> Self {
        let shown = |changes: Vec<AppliedChange>| changes.into_iter().map(changed).collect();
        Self {
            dry_run: report.dry_run,
            added: shown(report.added),
            changed: shown(report.changed),
            removed: shown(report.removed),
            released: shown(report.kept),
            unchanged: report.unchanged,
        }
    }
}

fn changed(change: AppliedChange) -> ChangedObject {
    let fields = change.fields.into_iter().map(|field| ChangedField {
        field: field.field,
        old: field.old,
        new: field.new,
    });
    ChangedObject {
        kind: change.kind,
        id: change.id,
        fields: fields.collect(),
    }
}

/// Make the catalog what a file declares.
///
/// The body is the text of a `catalog.toml`. Applying it again changes nothing. A file with any
/// problem changes nothing; every problem is told with its line and column.
#[utoipa::path(
    post, path = "/api/v1/catalog/apply", tag = "Catalog",
    operation_id = "apply_catalog",
    security(("bearer" = ["write"])),
    params(
        ("prune" = Option<bool>, Query, description = "Also remove what an earlier file declared and this one does not name."),
        ("dry_run" = Option<bool>, Query, description = "Only tell what would change."),
    ),
    request_body(content = String, content_type = "application/toml"),
    responses((status = 200, description = "What was changed.", body = Difference))
)]
pub async fn apply_catalog(
    State(state): State<ApiState>,
    By(actor): By,
    mut query: Query,
    Text(text): Text,
) -> ApiResult<Json<Difference>> {
    let options = ApplyOptions {
        prune: query.flag("prune"),
        dry_run: query.flag("dry_run"),
        actor,
    };
    query.finish()?;
    let report = state.control().apply(&text, &options).await?;
    Ok(Json(Difference::of(report)))
}

/// Tell what a file would change.
///
/// The same as `apply` with `dry_run=true`.
#[utoipa::path(
    post, path = "/api/v1/catalog/diff", tag = "Catalog",
    operation_id = "diff_catalog",
    security(("bearer" = ["read"])),
    params(("prune" = Option<bool>, Query, description = "As for `apply`.")),
    request_body(content = String, content_type = "application/toml"),
    responses((status = 200, description = "What would be changed.", body = Difference))
)]
pub async fn diff_catalog(
    State(state): State<ApiState>,
    By(actor): By,
    mut query: Query,
    Text(text): Text,
) -> ApiResult<Json<Difference>> {
    let options = ApplyOptions {
        prune: query.flag("prune"),
        dry_run: true,
        actor,
    };
    query.finish()?;
    let report = state.control().apply(&text, &options).await?;
    Ok(Json(Difference::of(report)))
}
