//! The service: holds what is in force, commits changes, publishes.
//!
//! **Invariants.** Changes go one after the other; each is decided on what is in force, committed
//! with the number it was decided on, and published before it is answered, so that publications
//! come in the order of their numbers. What is stored but cannot be read never replaces what is
//! in force.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard};
use tollgate_model::{
    ApiKey, Catalog, CatalogSink, Clock, IdGen, KeyChange, KeyDelta, KeyId, Pepper, SubscriptionId,
    Timestamp,
};
use tollgate_store::{Entity, Store, StoreError, StoreErrorKind};

use crate::change::{Change, fault_problem};
use crate::declared::{build_catalog, check_references};
use crate::entry::{Entries, read_stored};
use crate::tokens::Tokens;
use crate::{ControlError, ControlResult, pepper};

/// How often a change is decided anew when another process got in between.
const ATTEMPTS: usize = 8;
/// Keys are loaded in pages of so many.
const KEYS_PAGE: u32 = 20_000;

/// Keeps and publishes what gateways decide from. Clones share everything.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    sink: Arc<dyn CatalogSink>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    pepper: Pepper,
    tokens: Tokens,
    /// Held over every change, the store's part of it included.
    state: Mutex<State>,
    /// For reading without waiting for changes.
    view: ArcSwap<View>,
}

/// What is in force.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The store's number up to which everything is published.
    version: u64,
    view: Arc<View>,
    keys: HashMap<KeyId, Arc<ApiKey>>,
    /// A stored number that could not be read; told once.
    refused: Option<u64>,
}

impl State {
    /// The catalog in force.
    pub fn catalog(&self) -> &Catalog {
        &self.view.catalog
    }
}

/// The objects in force.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// With what is kept about them.
    pub entries: Entries,
    /// As published.
    pub catalog: Arc<Catalog>,
}

/// What a decision comes to: the answer, and the change that makes it true, if one is needed.
pub(crate) struct Decided<T> {
    pub change: Option<Change>,
    pub answer: T,
}

struct Loaded {
    version: u64,
    entries: Entries,
    keys: HashMap<KeyId, Arc<ApiKey>>,
}

impl Control {
    /// Puts the service together. Nothing is read before [`Self::start`].
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        sink: Arc<dyn CatalogSink>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGen>,
        pepper: Pepper,
    ) -> Self {
        let tokens = Tokens::new(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&ids));
        Self {
            inner: Arc::new(Inner {
                store,
                sink,
                clock,
                ids,
                pepper,
                tokens,
                state: Mutex::default(),
                view: ArcSwap::default(),
            }),
        }
    }

    /// Checks the pepper, loads the catalog and every key, and publishes both: keys first, so that
    /// none is unknown once the catalog opens the gate.
    ///
    /// # Errors
    /// `PepperMismatch`; `Store` when the store fails or holds a catalog that cannot be read.
    pub async fn start(&self) -> ControlResult<()> {
        pepper::check(self.store(), &self.inner.pepper).await?;
        let mut state = self.inner.state.lock().await;
        let loaded = self.load().await?;
        self.adopt(&mut state, loaded);
        Ok(())
    }

    /// Takes over what another process changed in the store; to be called about once a second.
    /// Cheap when nothing changed. The answer is whether something was taken over.
    ///
    /// # Errors
    /// `Store`: the last good catalog stays in force. Of a stored catalog that cannot be read,
    /// only the first call after the change tells.
    pub async fn refresh(&self) -> ControlResult<bool> {
        let mut state = self.inner.state.lock().await;
        let version = self.store().catalog_version().await?;
        if version == state.version || state.refused == Some(version) {
            return Ok(false);
        }
        match self.load().await {
            Ok(loaded) => {
                self.adopt(&mut state, loaded);
                Ok(true)
            }
            Err(error) => {
                if let ControlError::Store(cause) = &error
                    && cause.kind == StoreErrorKind::Corrupt
                {
                    tracing::error!(version, %error, "the stored catalog cannot be read; the last good one stays");
                    state.refused = Some(version);
                }
                Err(error)
            }
        }
    }

    /// Access tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    /// The catalog as last published.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.inner.view.load().catalog)
    }

    /// A key as last published. Asks nothing of the store; waits for a change that is under way.
    pub async fn find_published_key(&self, id: &KeyId) -> Option<Arc<ApiKey>> {
        self.lock().await.keys.get(id).cloned()
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.inner.view.load_full()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.inner.store.as_ref()
    }

    pub(crate) fn ids(&self) -> &dyn IdGen {
        self.inner.ids.as_ref()
    }

    pub(crate) fn pepper(&self) -> &Pepper {
        &self.inner.pepper
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now().wall
    }

    pub(crate) async fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().await
    }

    /// Decides, commits, publishes; decides anew when another process got in between.
    pub(crate) async fn change<T>(
        &self,
        decide: impl Fn(&Entries, Timestamp) -> ControlResult<Decided<T>>,
    ) -> ControlResult<T> {
        let mut state = self.lock().await;
        for _ in 0..ATTEMPTS {
            let decided = decide(&state.view.entries, self.now())?;
            let Some(change) = decided.change.filter(|change| !change.is_empty()) else {
                return Ok(decided.answer);
            };
            match self
                .store()
                .commit_catalog(change.to_commit(state.version))
                .await
            {
                Ok(version) => {
                    self.publish(&mut state, version, change).await;
                    return Ok(decided.answer);
                }
                Err(error) if ControlError::is_store_conflict(&error) => {
                    let loaded = self.load().await?;
                    self.adopt(&mut state, loaded);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ControlError::Conflict(
            "the catalog keeps changing; try again".to_owned(),
        ))
    }

    async fn publish(&self, state: &mut State, version: u64, change: Change) {
        let gone = change.removed_subscriptions();
        state.version = version;
        self.publish_catalog(state, change.after);
        for subscription in gone {
            self.remove_keys(state, &subscription).await;
        }
    }

    fn publish_catalog(&self, state: &mut State, entries: Entries) {
        let catalog = Arc::new(build_catalog(state.version, &entries));
        state.view = Arc::new(View {
            entries,
            catalog: Arc::clone(&catalog),
        });
        state.refused = None;
        self.inner.sink.publish_catalog(catalog);
        self.inner.view.store(Arc::clone(&state.view));
    }

    /// The keys of a subscription that is gone. Should the store fail now, they are left over
    /// there: without a subscription they open nothing, and the next load removes them.
    async fn remove_keys(&self, state: &mut State, subscription: &SubscriptionId) {
        let of_it = |key: &Arc<ApiKey>| key.subscription == *subscription;
        let keys = state.keys.values().filter(|key| of_it(key));
        let changes: Vec<_> = keys.map(|key| KeyChange::Remove(key.id.clone())).collect();
        if changes.is_empty() {
            return;
        }
        state.keys.retain(|_, key| !of_it(key));
        match self.store().remove_keys_of(subscription).await {
            Ok(0) => {}
            Ok(_) => state.version += 1,
            Err(error) => {
                tracing::warn!(%subscription, %error, "keys of a removed subscription are left over")
            }
        }
        self.inner.sink.publish_keys(KeyDelta {
            version: state.version,
            changes,
        });
    }

    /// Publishes a key that was just written. When another process changed something in between,
    /// that is taken over first, because numbers are published in order.
    pub(crate) async fn publish_key(
        &self,
        state: &mut State,
        version: u64,
        key: Arc<ApiKey>,
    ) -> ControlResult<()> {
        if version != state.version + 1 {
            let loaded = self.load().await?;
            self.adopt(state, loaded);
            return Ok(());
        }
        state.version = version;
        state.keys.insert(key.id.clone(), Arc::clone(&key));
        self.inner.sink.publish_keys(KeyDelta {
            version,
            changes: vec![KeyChange::Put(key)],
        });
        Ok(())
    }

    async fn load(&self) -> ControlResult<Loaded> {
        // Keys are read after the catalog's number: what changes in between has a larger number,
        // and the next look finds it.
        let stored = self.store().load_catalog().await?;
        let mut problems = Vec::new();
        let entries = match read_stored(&stored) {
            Ok(entries) => entries,
            Err(found) => {
                problems = found;
                Entries::new()
            }
        };
        if problems.is_empty() {
            let faults = check_references(&entries);
            problems = faults
                .iter()
                .map(|fault| fault_problem(fault, None))
                .collect();
        }
        if !problems.is_empty() {
            let cause = ControlError::Invalid(problems).to_string();
            let error = StoreError::caused(StoreErrorKind::Corrupt, Entity::Catalog, cause);
            return Err(error.into());
        }
        let (keys, removals) = self.load_keys(&entries).await?;
        Ok(Loaded {
            version: stored.version + removals,
            entries,
            keys,
        })
    }

    /// Every key of a subscription that is there; others are removed, and it is answered how many
    /// numbers that took.
    async fn load_keys(
        &self,
        entries: &Entries,
    ) -> ControlResult<(HashMap<KeyId, Arc<ApiKey>>, u64)> {
        let catalog = build_catalog(0, entries);
        let mut keys = HashMap::new();
        let mut orphaned: Vec<SubscriptionId> = Vec::new();
        let mut after: Option<KeyId> = None;
        loop {
            let page = self.store().load_keys(after.as_ref(), KEYS_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for key in page {
                if catalog.subscriptions.contains_key(&key.subscription) {
                    keys.insert(key.id.clone(), Arc::new(key));
                } else if !orphaned.contains(&key.subscription) {
                    orphaned.push(key.subscription);
                }
            }
        }
        let mut removals = 0;
        for subscription in orphaned {
            tracing::warn!(%subscription, "removing keys of a subscription that is gone");
            removals += u64::from(self.store().remove_keys_of(&subscription).await? > 0);
        }
        Ok((keys, removals))
    }

    /// Puts what was loaded in force and publishes what is different.
    fn adopt(&self, state: &mut State, loaded: Loaded) {
        let Loaded {
            version,
            entries,
            keys,
        } = loaded;
        let changed = keys
            .values()
            .filter(|key| state.keys.get(&key.id) != Some(*key))
            .map(|key| KeyChange::Put(Arc::clone(key)));
        let removed = state.keys.keys().filter(|id| !keys.contains_key(*id));
        let changes: Vec<_> = changed
            .chain(removed.map(|id| KeyChange::Remove(id.clone())))
            .collect();
        state.version = version;
        state.keys = keys;
        self.inner.sink.publish_keys(KeyDelta { version, changes });
        self.publish_catalog(state, entries);
    }
}

#[cfg(test)]
mod tests;
