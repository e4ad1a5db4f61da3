//! API keys: create, get, list, patch, revoke.
//!
//! **Invariants.** A key's secret is answered once, when it is made, and is nowhere else; a
//! revoked key stays revoked; a key never has a scope that its plan does not grant when it is
//! given; every change is published before it is answered.
//!
//! One operation, one file; rotating and importing will be files of their own beside them.

mod create;
mod fields;
mod find;
mod patch;
mod revoke;
mod view;

pub use create::CreatedKey;
pub use view::KeyView;

use std::sync::Arc;

use serde_json::Value as Json;
use tollgate_model::{ApiKey, Timestamp};
use tollgate_store::{AuditEntry, Effects, KeyWrite};

use crate::service::State;
use crate::{Actor, Control, ControlError, ControlResult};

/// How often a change is decided anew when the key's row has moved.
const ATTEMPTS: usize = 8;

/// What is written down about an act on a key.
fn audit(at: Timestamp, actor: &Actor, action: &str, key: &ApiKey, detail: &Json) -> Effects {
    actor.effects(vec![AuditEntry {
        at,
        actor: actor.name.clone(),
        action: action.to_owned(),
        subject: key.id.to_string(),
        detail: detail.to_string(),
    }])
}

impl Control {
    /// Writes a key and publishes it. `false`: the row has moved (or no more keys are allowed),
    /// and nothing was written.
    async fn write_key(&self, state: &mut State, write: KeyWrite) -> ControlResult<bool> {
        let key = Arc::new(write.key.clone());
        match self.store().write_key(write).await {
            Ok(version) => {
                self.publish_key(state, version, key).await?;
                Ok(true)
            }
            Err(error) if ControlError::is_store_conflict(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
