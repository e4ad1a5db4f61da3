//! What the calls of all kinds of objects do.

use serde_json::{Map, Value};
use tollgate_control::{Actor, Entry, Object, ObjectFilter, object_json};
use tollgate_model::OrganizationId;
use tollgate_store::{ObjectKind, Page};

use super::subscription;
use crate::error::ApiResult;
use crate::page::{List, read_page};
use crate::query::Query;
use crate::state::ApiState;

/// A page of objects.
///
/// # Errors
/// 400 for bad parameters; the store's failures where usage is shown.
pub async fn list(state: &ApiState, kind: ObjectKind, mut query: Query) -> ApiResult<List<Value>> {
    let page = read_page(&mut query);
    let organization = query.text("organization_id");
    query.finish()?;
    let filter = ObjectFilter {
        organization: organization.map(|id| OrganizationId::new(&id)),
    };
    let found = state.control().list_objects(kind, &filter, &page)?;
    let mut items = Vec::with_capacity(found.items.len());
    for entry in &found.items {
        items.push(show(state, entry).await?);
    }
    let shown = Page {
        items,
        next_cursor: found.next_cursor,
    };
    Ok(List::of(shown, |item| item))
}

/// Makes an object.
///
/// # Errors
/// What `control` refuses.
pub async fn create(
    state: &ApiState,
    kind: ObjectKind,
    input: Map<String, Value>,
    actor: &Actor,
) -> ApiResult<Value> {
    let entry = state
        .control()
        .create_object(kind, &Value::Object(input), actor.clone())
        .await?;
    show(state, &entry).await
}

/// One object.
///
/// # Errors
/// 404; the store's failures where usage is shown.
pub async fn get(state: &ApiState, kind: ObjectKind, id: &str) -> ApiResult<Value> {
    show(state, &state.control().get_object(kind, id)?).await
}

/// Changes an object.
///
/// # Errors
/// What `control` refuses.
pub async fn patch(
    state: &ApiState,
    kind: ObjectKind,
    id: &str,
    patch: Map<String, Value>,
    actor: &Actor,
) -> ApiResult<Value> {
    let entry = state
        .control()
        .patch_object(kind, id, &Value::Object(patch), &actor.name)
        .await?;
    show(state, &entry).await
}

/// Deletes an object.
///
/// # Errors
/// What `control` refuses.
pub async fn delete(state: &ApiState, kind: ObjectKind, id: &str, actor: &Actor) -> ApiResult<()> {
    Ok(state.control().delete_object(kind, id, &actor.name).await?)
}

/// The object's fields; a subscription's usage beside them.
async fn show(state: &ApiState, entry: &Entry) -> ApiResult<Value> {
    let mut shown = object_json(entry);
    if let Object::Subscription(subscription) = &entry.object
        && let Some(fields) = shown.as_object_mut()
    {
        let usage = subscription::usage(state, subscription).await?;
        fields.insert("usage".to_owned(), usage.to_json());
    }
    Ok(shown)
}
