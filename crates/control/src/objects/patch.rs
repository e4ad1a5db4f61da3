//! Changes an object by a merge patch.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tollgate_model::{Managed, Subscription, SubscriptionState, Timestamp};
use tollgate_store::ObjectKind;

use super::create::read;
use super::{SHOWN, check_change, object_json};
use crate::apply::field_changes;
use crate::change::Change;
use crate::declared::{Object, ObjectKey, Source};
use crate::document::merge_patch;
use crate::entry::{Entries, Entry};
use crate::service::Decided;
use crate::{Control, ControlError, ControlResult};

impl Control {
    /// Merges a patch into an object.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` with every problem; `ManagedByFile`; `Impossible` for a subscription
    /// that was cancelled for good; `Conflict` when others keep changing the catalog; `Store`.
    pub async fn patch_object(
        &self,
        kind: ObjectKind,
        id: &str,
        patch: &Json,
        actor: &str,
    ) -> ControlResult<Entry> {
        let key = ObjectKey::new(kind, id);
        self.change(|entries, now| decide(entries, &key, patch, actor, now))
            .await
    }
}

fn decide(
    entries: &Entries,
    key: &ObjectKey,
    patch: &Json,
    actor: &str,
    now: Timestamp,
) -> ControlResult<Decided<Entry>> {
    let kind = key.kind.as_str();
    let before = entries
        .get(key)
        .ok_or_else(|| ControlError::not_found(kind, &key.id))?;
    let object = patched(before, key, patch, now)?;
    if object == before.object {
        return Ok(Decided {
            change: None,
            answer: before.as_ref().clone(),
        });
    }
    if before.managed == Managed::File && !only_state_differs(&before.object, &object) {
        return Err(ControlError::ManagedByFile {
            kind,
            id: key.id.to_string(),
        });
    }
    check_state(&before.object, &object)?;
    let fields = field_changes(&before.object.to_document(), &object.to_document());
    let entry = Entry {
        object,
        updated_at: now,
        ..before.as_ref().clone()
    };
    let mut change = Change::new(entries, actor, now);
    change.put(entry.clone(), "update", &json!({ "fields": fields }));
    check_change(&change, key)?;
    Ok(Decided {
        change: Some(change),
        answer: entry,
    })
}

fn patched(before: &Entry, key: &ObjectKey, patch: &Json, now: Timestamp) -> ControlResult<Object> {
    let shown = object_json(before);
    let empty = Map::new();
    let current = shown.as_object().unwrap_or(&empty);
    let mut fixed = vec!["id"];
    fixed.extend(SHOWN);
    if key.kind == ObjectKind::Plan {
        fixed.push("version");
    }
    let mut merged = merge_patch(current, patch, &fixed).map_err(ControlError::Invalid)?;
    if let Json::Object(fields) = &mut merged {
        fields.insert("id".to_owned(), json!(&*key.id));
    }
    let draft = read(key.kind, &merged, Source::Known)?;
    Ok(draft.complete(Some(&before.object), now))
}

/// The state of a subscription is never declared, so it may be changed on declared ones too.
fn only_state_differs(before: &Object, after: &Object) -> bool {
    match (before, after) {
        (Object::Subscription(before), Object::Subscription(after)) => {
            let same_state = Subscription {
                state: before.state,
                ..after.as_ref().clone()
            };
            Arc::new(same_state) == *before
        }
        _ => false,
    }
}

fn check_state(before: &Object, after: &Object) -> ControlResult<()> {
    let (Object::Subscription(before), Object::Subscription(after)) = (before, after) else {
        return Ok(());
    };
    if before.state == SubscriptionState::Cancelled && after.state != SubscriptionState::Cancelled {
        return Err(ControlError::Impossible(format!(
            "subscription \"{}\" was cancelled for good; make a new one",
            before.id
        )));
    }
    Ok(())
}
