//! `GET /api/v1/usage/top`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tollgate_metering::question::{TOP_ITEMS_MAX, TopBy, TopQuestion};
use utoipa::ToSchema;

use super::filter::{FilterParams, SpanParams, read_filter, read_span};
use super::wire::RankedItem;
use crate::error::ApiResult;
use crate::query::Query;
use crate::routes::lookup;
use crate::state::ApiState;

const LIMIT_DEFAULT: u32 = 10;

/// A ranking.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ranking {
    /// Most requests first.
    pub items: Vec<RankedItem>,
}

/// What is called most, or who calls most.
///
/// Most requests first; calls without what is ranked by are left out.
#[utoipa::path(
    get, path = "/api/v1/usage/top", tag = "Usage",
    operation_id = "usage_top",
    security(("bearer" = ["read"])),
    params(
        SpanParams, FilterParams,
        ("by" = Option<String>, Query, description = "`route` (default), `key`, `organization`, `address` or `country`."),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 10 by default."),
    ),
    responses((status = 200, description = "A ranking.", body = Ranking))
)]
pub async fn usage_top(
    State(state): State<ApiState>,
    mut query: Query,
) -> ApiResult<Json<Ranking>> {
    let span = read_span(&mut query, state.metering().now());
    let filter = read_filter(&state, &mut query)?;
    let by = query
        .choice(
            "by",
            "route, key, organization, address, country",
            TopBy::parse,
        )
        .unwrap_or(TopBy::Route);
    let limit = query
        .number("limit", 1..=u64::from(TOP_ITEMS_MAX))
        .and_then(|limit| u32::try_from(limit).ok())
        .unwrap_or(LIMIT_DEFAULT);
    let span = query.finish_with(span)?;
    let question = TopQuestion {
        span,
        filter,
        by,
        limit,
    };
    let top = state.metering().top(&question).await?;
    if top.items.is_empty() {
        lookup::check_names(&state, &question.filter).await?;
    }
    Ok(Json(Ranking {
        items: top.items.into_iter().map(RankedItem::of).collect(),
    }))
}
