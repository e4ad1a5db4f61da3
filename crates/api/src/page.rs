//! Pages of lists: `limit`, `cursor`, and `{"items": [...], "next_cursor": null}`.

use serde::Serialize;
use tollgate_store::{Page, PageRequest};
use utoipa::ToSchema;

use crate::query::Query;

/// Items of a page when the caller names no number.
pub const LIMIT_DEFAULT: u32 = 50;
/// Most items of a page.
pub const LIMIT_MAX: u32 = 1_000;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T: ToSchema> {
    /// What was found.
    pub items: Vec<T>,
    /// Hand this back as `cursor` for the next page; `null` at the end.
    pub next_cursor: Option<String>,
}

impl<T: ToSchema> List<T> {
    /// Shows each item of a page.
    pub fn of<U>(page: Page<U>, show: impl FnMut(U) -> T) -> Self {
        Self {
            items: page.items.into_iter().map(show).collect(),
            next_cursor: page.next_cursor,
        }
    }
}

/// Reads `limit` and `cursor`.
pub fn read_page(query: &mut Query) -> PageRequest {
    let limit = query
        .number("limit", 1..=u64::from(LIMIT_MAX))
        .and_then(|limit| u32::try_from(limit).ok())
        .unwrap_or(LIMIT_DEFAULT);
    PageRequest {
        limit,
        cursor: query.text("cursor"),
    }
}
