//! `GET /api/v1/keys`.

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use tollgate_model::SubscriptionId;
use tollgate_store::{KeyFilter, ObjectKind, Page};

use super::schema::Key;
use super::show::show;
use crate::error::ApiResult;
use crate::page::{List, read_page};
use crate::query::Query;
use crate::routes::lookup;
use crate::state::ApiState;

/// Keys whose usage is asked for at the same time.
const AT_ONCE: usize = 8;

/// List keys, newest first.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "Keys",
    operation_id = "list_keys",
    security(("bearer" = ["read"])),
    params(
        ("subscription_id" = Option<String>, Query, description = "Only this subscription's."),
        ("user_id" = Option<String>, Query, description = "Older name: a subscription, or the only one of the organization of this id (`userId`)."),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before."),
    ),
    responses((status = 200, description = "A page.", body = List<Key>))
)]
pub async fn list_keys(
    State(state): State<ApiState>,
    mut query: Query,
) -> ApiResult<Json<List<Value>>> {
    let page = read_page(&mut query);
    let mut subscription = query
        .text("subscription_id")
        .map(|id| SubscriptionId::new(&id));
    let user = query.text("user_id");
    if user.is_some() && subscription.is_some() {
        query.fail("user_id", "duplicate", "says the same as subscription_id");
    }
    query.finish()?;
    if let Some(user) = user {
        subscription = Some(lookup::subscription(&state, &user)?);
    }
    let filter = KeyFilter { subscription };
    let found = state.control().list_keys(&filter, &page).await?;
    if let (Some(id), true) = (&filter.subscription, found.items.is_empty()) {
        state
            .control()
            .get_object(ObjectKind::Subscription, id.as_str())?;
    }
    let shared = &state;
    let items: Vec<Value> = stream::iter(found.items)
        .map(|view| async move { show(shared, &view).await })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let shown = Page {
        items,
        next_cursor: found.next_cursor,
    };
    Ok(Json(List::of(shown, |item| item)))
}
