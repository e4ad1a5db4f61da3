//! Changes a key by a merge patch.

use serde_json::{Map, Value as Json, json};
use tollgate_model::{ApiKey, KeyId, KeyState};
use tollgate_store::KeyWrite;

use super::fields::{KeyFields, check_expiry, check_scopes, fields_json, read_state};
use super::{ATTEMPTS, KeyView, audit};
use crate::apply::field_changes;
use crate::document::{Document, Reader, merge_patch};
use crate::{Control, ControlError, ControlResult};

/// Fields that are shown with a key and cannot be changed.
const FIXED: [&str; 11] = [
    "id",
    "prefix",
    "last4",
    "subscription_id",
    "organization_id",
    "plan",
    "test",
    "created_at",
    "last_used_at",
    "revoked_at",
    "key",
];

impl Control {
    /// Merges a patch into a key.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` with every problem; `Conflict` for a revoked key; `Impossible` for
    /// scopes that the plan does not grant; `Store`.
    pub async fn patch_key(&self, id: &str, patch: &Json, actor: &str) -> ControlResult<KeyView> {
        let id = KeyId::new(id);
        let mut state = self.lock().await;
        for _ in 0..ATTEMPTS {
            let row = self.store().find_key(&id).await?;
            let row = row.ok_or_else(|| ControlError::not_found("key", id.as_str()))?;
            if row.key.state == KeyState::Revoked {
                let what = format!("key \"{id}\" is revoked for good");
                return Err(ControlError::Conflict(what));
            }
            let before = KeyView::new(row.clone(), state.catalog());
            let key = patched(&before, patch)?;
            if key == row.key {
                return Ok(before);
            }
            self.check_patched(state.catalog(), &row.key, &key)?;
            let now = self.now();
            let after = KeyView {
                key: key.clone(),
                ..before.clone()
            };
            let fields = field_changes(&before.to_json(), &after.to_json());
            let write = KeyWrite {
                effects: audit(
                    now,
                    &actor.into(),
                    "key.update",
                    &key,
                    &json!({ "fields": fields }),
                ),
                key,
                expected_version: row.version,
                live_keys_max: None,
            };
            if self.write_key(&mut state, write).await? {
                return Ok(after);
            }
        }
        Err(moving(&id))
    }

    fn check_patched(
        &self,
        catalog: &tollgate_model::Catalog,
        before: &ApiKey,
        after: &ApiKey,
    ) -> ControlResult<()> {
        if before.expires_at != after.expires_at {
            check_expiry(after.expires_at, self.now())?;
        }
        if before.scopes == after.scopes {
            return Ok(());
        }
        let subscription = catalog.subscriptions.get(&after.subscription);
        let plan = subscription.and_then(|subscription| catalog.find_plan_of(subscription));
        match (plan, &after.scopes) {
            (Some(plan), Some(scopes)) => check_scopes(plan, scopes),
            _ => Ok(()),
        }
    }
}

pub(super) fn moving(id: &KeyId) -> ControlError {
    ControlError::Conflict(format!("key \"{id}\" keeps changing; try again"))
}

fn patched(before: &KeyView, patch: &Json) -> ControlResult<ApiKey> {
    let shown = before.to_json();
    let empty = Map::new();
    let current = shown.as_object().unwrap_or(&empty);
    let merged = merge_patch(current, patch, &FIXED).map_err(ControlError::Invalid)?;
    let document = Document::from_json(&merged);
    let reader = Reader::new(&document);
    let read = reader.root().table(|table| {
        let fields = KeyFields::read(table, &merged);
        let state = match table.optional("state") {
            Some(field) => read_state(field),
            None => Some(KeyState::Active),
        };
        Some((fields?, state?))
    });
    let (fields, state) = reader.finish(read).map_err(ControlError::Invalid)?;
    // Metadata is kept as text; spelled otherwise it is still the same.
    let key = ApiKey {
        state,
        ..fields.put_into(before.key.clone())
    };
    let same = key.state == before.key.state && fields_json(&key) == fields_json(&before.key);
    Ok(if same { before.key.clone() } else { key })
}
