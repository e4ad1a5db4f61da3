//! Takes a key back, for good.

use serde_json::json;
use tollgate_model::{ApiKey, KeyId, KeyState};
use tollgate_store::KeyWrite;

use super::patch::moving;
use super::{ATTEMPTS, audit};
use crate::{Control, ControlError, ControlResult};

impl Control {
    /// Revokes a key; revoking it again changes nothing.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when others keep changing the key; `Store`.
    pub async fn revoke_key(&self, id: &str, actor: &str) -> ControlResult<()> {
        let id = KeyId::new(id);
        let mut state = self.lock().await;
        for _ in 0..ATTEMPTS {
            let row = self.store().find_key(&id).await?;
            let row = row.ok_or_else(|| ControlError::not_found("key", id.as_str()))?;
            if row.key.state == KeyState::Revoked {
                return Ok(());
            }
            let now = self.now();
            let key = ApiKey {
                state: KeyState::Revoked,
                revoked_at: Some(now),
                ..row.key
            };
            let write = KeyWrite {
                effects: audit(now, &actor.into(), "key.revoke", &key, &json!({})),
                key,
                expected_version: row.version,
                live_keys_max: None,
            };
            if self.write_key(&mut state, write).await? {
                return Ok(());
            }
        }
        Err(moving(&id))
    }
}
