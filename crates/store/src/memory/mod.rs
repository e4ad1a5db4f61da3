//! The in-memory model: the plainest thing that keeps the ports' promises.
//!
//! **Owns** one mutex over maps; every method locks it once, so a method is a transaction.
//!
//! **Invariants.** A refused command leaves nothing behind: everything that can refuse is looked
//! at before anything is changed.
//!
//! **Does not own** bounds: it grows with what is put in, and is for tests and short runs.

mod calls;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use parking_lot::Mutex;
use tollgate_model::{
    AccessToken, ApiKey, BucketKey, Counts, KeyHash, KeyId, KeyState, LatencySketch, Sequence,
    StreamId, SubscriptionId, Timestamp, TokenHash,
};

use crate::{
    AuditEntry, CallId, CatalogChange, CatalogObject, CatalogStore, Effects, Entity, KEYS_LOAD_MAX,
    KeyFilter, KeyStore, KeyWrite, ObjectChange, ObjectKind, OutcomeTotals, Page, PageRequest,
    PeriodScope, SettingsStore, StoreError, StoreErrorKind, StoreResult, StoredCatalog, TokenStore,
    UsageRecord, VersionedKey,
};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    objects: BTreeMap<(ObjectKind, String), CatalogObject>,
    audit: Vec<AuditEntry>,
    keys: BTreeMap<KeyId, VersionedKey>,
    tokens: BTreeMap<String, AccessToken>,
    calls: BTreeMap<CallId, calls::Call>,
    settings: BTreeMap<String, String>,
    records: Vec<UsageRecord>,
    buckets: BTreeMap<BucketKey, (Counts, Option<LatencySketch>)>,
    periods: BTreeMap<(PeriodScope, Timestamp), u64>,
    streams: BTreeMap<StreamId, (Sequence, OutcomeTotals)>,
}

impl State {
    fn commit(&mut self, effects: Effects) -> u64 {
        self.audit.extend(effects.audit);
        if let Some(done) = effects.call {
            self.commit_call(done);
        }
        self.version += 1;
        self.version
    }

    fn count_live_keys(&self, subscription: &SubscriptionId, now: Timestamp) -> usize {
        let live = |key: &ApiKey| {
            key.subscription == *subscription
                && key.state != KeyState::Revoked
                && key.expires_at.is_none_or(|end| end > now)
        };
        self.keys.values().filter(|row| live(&row.key)).count()
    }

    fn check_new_key(&self, write: &KeyWrite) -> StoreResult<()> {
        let key = &write.key;
        if self.keys.contains_key(&key.id) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, Entity::Key));
        }
        let live = self.count_live_keys(&key.subscription, key.created_at);
        match write.live_keys_max {
            Some(max) if live >= max as usize => Err(StoreError::caused(
                StoreErrorKind::Conflict,
                Entity::Key,
                "live_keys_max is reached",
            )),
            _ => Ok(()),
        }
    }

    fn check_changed_key(&self, write: &KeyWrite) -> StoreResult<()> {
        match self.keys.get(&write.key.id) {
            None => Err(StoreError::new(StoreErrorKind::NotFound, Entity::Key)),
            Some(row) if row.version != write.expected_version => {
                Err(StoreError::new(StoreErrorKind::Conflict, Entity::Key))
            }
            Some(_) => Ok(()),
        }
    }
}

#[async_trait]
impl CatalogStore for MemoryStore {
    async fn load_catalog(&self) -> StoreResult<StoredCatalog> {
        let state = self.state.lock();
        Ok(StoredCatalog {
            version: state.version,
            objects: state.objects.values().cloned().collect(),
        })
    }

    async fn catalog_version(&self) -> StoreResult<u64> {
        Ok(self.state.lock().version)
    }

    async fn commit_catalog(&self, change: CatalogChange) -> StoreResult<u64> {
        let mut state = self.state.lock();
        if state.version != change.expected_version {
            return Err(StoreError::new(StoreErrorKind::Conflict, Entity::Catalog));
        }
        state.check_call(&change.effects)?;
        let mut objects = state.objects.clone();
        for step in change.changes {
            match step {
                ObjectChange::Put(object) => {
                    objects.insert((object.kind, object.id.clone()), object);
                }
                ObjectChange::Remove { kind, id } => {
                    if objects.remove(&(kind, id)).is_none() {
                        return Err(StoreError::new(StoreErrorKind::NotFound, Entity::Catalog));
                    }
                }
            }
        }
        state.objects = objects;
        Ok(state.commit(change.effects))
    }

    async fn list_audit(&self, limit: u32) -> StoreResult<Vec<AuditEntry>> {
        let state = self.state.lock();
        Ok(state
            .audit
            .iter()
            .rev()
            .take(limit as usize)
            .cloned()
            .collect())
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn write_key(&self, write: KeyWrite) -> StoreResult<u64> {
        let mut state = self.state.lock();
        if write.expected_version == 0 {
            state.check_new_key(&write)?;
        } else {
            state.check_changed_key(&write)?;
        }
        let taken =
            |row: &VersionedKey| row.key.hash == write.key.hash && row.key.id != write.key.id;
        if state.keys.values().any(taken) {
            return Err(StoreError::new(StoreErrorKind::AlreadyExists, Entity::Key));
        }
        state.check_call(&write.effects)?;
        let last_used_at = state
            .keys
            .get(&write.key.id)
            .and_then(|row| row.last_used_at);
        let row = VersionedKey {
            version: write.expected_version + 1,
            last_used_at,
            key: write.key,
        };
        state.keys.insert(row.key.id.clone(), row);
        Ok(state.commit(write.effects))
    }

    async fn find_key(&self, id: &KeyId) -> StoreResult<Option<VersionedKey>> {
        Ok(self.state.lock().keys.get(id).cloned())
    }

    async fn find_key_by_hash(&self, hash: &KeyHash) -> StoreResult<Option<VersionedKey>> {
        let state = self.state.lock();
        Ok(state
            .keys
            .values()
            .find(|row| row.key.hash == *hash)
            .cloned())
    }

    async fn list_keys(
        &self,
        filter: &KeyFilter,
        page: &PageRequest,
    ) -> StoreResult<Page<VersionedKey>> {
        let state = self.state.lock();
        let mut found = state.keys.values().rev().filter(|row| {
            let wanted = filter.subscription.as_ref();
            let later = page.cursor.as_deref();
            wanted.is_none_or(|id| row.key.subscription == *id)
                && later.is_none_or(|cursor| row.key.id.as_str() < cursor)
        });
        let items: Vec<VersionedKey> = found
            .by_ref()
            .take(page.items_max() as usize)
            .cloned()
            .collect();
        let more = found.next().is_some();
        let last = items.last().map(|row| row.key.id.as_str().to_owned());
        Ok(Page {
            next_cursor: last.filter(|_| more),
            items,
        })
    }

    async fn load_keys(&self, after: Option<&KeyId>, limit: u32) -> StoreResult<Vec<ApiKey>> {
        let state = self.state.lock();
        Ok(state
            .keys
            .values()
            .filter(|row| after.is_none_or(|id| row.key.id > *id))
            .take(limit.clamp(1, KEYS_LOAD_MAX) as usize)
            .map(|row| row.key.clone())
            .collect())
    }

    async fn remove_keys_of(&self, subscription: &SubscriptionId) -> StoreResult<u64> {
        let mut state = self.state.lock();
        let before = state.keys.len();
        state
            .keys
            .retain(|_, row| row.key.subscription != *subscription);
        let removed = before - state.keys.len();
        if removed > 0 {
            state.commit(Effects::default());
        }
        Ok(removed as u64)
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn put_token(&self, token: AccessToken) -> StoreResult<()> {
        let mut state = self.state.lock();
        let taken = |other: &AccessToken| other.hash == token.hash && other.name != token.name;
        if state.tokens.values().any(taken) {
            return Err(StoreError::new(
                StoreErrorKind::AlreadyExists,
                Entity::Token,
            ));
        }
        state.tokens.insert(token.name.clone(), token);
        Ok(())
    }

    async fn find_token(&self, hash: &TokenHash) -> StoreResult<Option<AccessToken>> {
        let state = self.state.lock();
        Ok(state
            .tokens
            .values()
            .find(|token| token.hash == *hash)
            .cloned())
    }

    async fn list_tokens(&self) -> StoreResult<Vec<AccessToken>> {
        Ok(self.state.lock().tokens.values().cloned().collect())
    }
}

#[async_trait]
impl SettingsStore for MemoryStore {
    async fn find_setting(&self, name: &str) -> StoreResult<Option<String>> {
        Ok(self.state.lock().settings.get(name).cloned())
    }

    async fn set_setting_once(&self, name: &str, value: &str) -> StoreResult<String> {
        let mut state = self.state.lock();
        let held = state.settings.entry(name.to_owned());
        Ok(held.or_insert_with(|| value.to_owned()).clone())
    }

    async fn replace_setting(
        &self,
        name: &str,
        before: Option<&str>,
        value: &str,
    ) -> StoreResult<bool> {
        let mut state = self.state.lock();
        let holds = state.settings.get(name).map(String::as_str) == before;
        if holds {
            state.settings.insert(name.to_owned(), value.to_owned());
        }
        Ok(holds)
    }

    async fn ping(&self) -> StoreResult<()> {
        Ok(())
    }
}

/// Scopes that an event's units belong to.
fn scopes_of(event: &tollgate_model::UsageEvent) -> BTreeSet<PeriodScope> {
    let family = event.key_family.as_ref().or(event.key.as_ref());
    let subscription = event.subscription.clone().map(PeriodScope::Subscription);
    let family = family.cloned().map(PeriodScope::Key);
    subscription.into_iter().chain(family).collect()
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;

    crate::conformance_suite!(((), MemoryStore::default()));
}
