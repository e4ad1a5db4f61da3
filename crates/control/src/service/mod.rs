//! The service: holds what is in force, commits changes, publishes.
//!
//! **Invariants.** Changes go one after the other; each is decided on what is in force, committed
//! with the number it was decided on, and published before it is answered, so that publications
//! come in the order of their numbers. What is stored but cannot be read never replaces what is
//! in force.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard};
use tollgate_model::{
    ApiKey, Catalog, CatalogSink, Clock, IdGen, KeyChange, KeyDelta, Pepper, SubscriptionId,
    Timestamp,
};
use tollgate_store::{
    Entity, KeyFilter, PAGE_ITEMS_MAX, PageRequest, Store, StoreError, StoreErrorKind, StoreResult,
    StoredCatalog,
};

use crate::change::{Change, fault_problem};
use crate::declared::{build_catalog, check_references};
use crate::entry::{Entries, read_stored};
use crate::tokens::Tokens;
use crate::{ControlError, ControlResult, pepper};

/// How often a change is decided anew when another process got in between.
const ATTEMPTS: usize = 8;
/// Keys are loaded in pages of so many.
const KEYS_PAGE: u32 = 1_000;

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
        self.take_over(&mut state).await
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
        match self.take_over(&mut state).await {
            Ok(()) => Ok(true),
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
                    self.take_over(&mut state).await?;
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
        match self.remove_stored_keys(subscription).await {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => {
                state.version += 1;
                self.inner.sink.publish_keys(KeyDelta {
                    version: state.version,
                    changes,
                });
            }
            Err(error) => {
                tracing::warn!(%subscription, %error, "keys of a removed subscription are left over");
            }
        }
    }

    async fn remove_stored_keys(
        &self,
        subscription: &SubscriptionId,
    ) -> StoreResult<Vec<KeyChange>> {
        let filter = KeyFilter {
            subscription: Some(subscription.clone()),
        };
        let mut page = PageRequest {
            limit: PAGE_ITEMS_MAX,
            cursor: None,
        };
        let mut removals = Vec::new();
        loop {
            let found = self.store().list_keys(&filter, &page).await?;
            let ids = found.items.into_iter().map(|row| row.key.id);
            removals.extend(ids.map(KeyChange::Remove));
            page.cursor = found.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        if !removals.is_empty() {
            self.store().remove_keys_of(subscription).await?;
        }
        Ok(removals)
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
            return self.take_over(state).await;
        }
        state.version = version;
        self.inner.sink.publish_keys(KeyDelta {
            version,
            changes: vec![KeyChange::Put(key)],
        });
        Ok(())
    }

    /// Publishes all that is stored: keys first. What is stored but cannot be read is refused
    /// before anything of it is published.
    async fn take_over(&self, state: &mut State) -> ControlResult<()> {
        // Keys are read after the catalog's number: what changes in between has a larger number,
        // and the next look finds it.
        let stored = self.store().load_catalog().await?;
        let entries = read_whole(&stored)?;
        let mut version = stored.version;
        for subscription in self.publish_all_keys(version, &entries).await? {
            tracing::warn!(%subscription, "removing keys of a subscription that is gone");
            version += u64::from(self.store().remove_keys_of(&subscription).await? > 0);
        }
        state.version = version;
        self.publish_catalog(state, entries);
        Ok(())
    }

    /// Publishes every key of a subscription that is there, a page at a time: there may be
    /// millions, and none is kept here. The answer is whose other keys are left over.
    async fn publish_all_keys(
        &self,
        version: u64,
        entries: &Entries,
    ) -> ControlResult<BTreeSet<SubscriptionId>> {
        let catalog = build_catalog(0, entries);
        let mut orphaned = BTreeSet::new();
        let mut page = self.store().load_keys(None, KEYS_PAGE).await?;
        while let Some(last) = page.last() {
            let after = last.id.clone();
            let publish = async {
                let mut changes = Vec::with_capacity(page.len());
                for key in page {
                    if catalog.subscriptions.contains_key(&key.subscription) {
                        changes.push(KeyChange::Put(Arc::new(key)));
                    } else {
                        orphaned.insert(key.subscription);
                    }
                }
                self.inner.sink.publish_keys(KeyDelta { version, changes });
            };
            // The store reads on while these are published.
            let (next, ()) = tokio::join!(self.store().load_keys(Some(&after), KEYS_PAGE), publish);
            page = next?;
        }
        self.inner.sink.forget_keys_before(version);
        Ok(orphaned)
    }
}

/// The objects of a stored catalog.
fn read_whole(stored: &StoredCatalog) -> ControlResult<Entries> {
    let problems = match read_stored(stored) {
        Ok(entries) => {
            let faults = check_references(&entries);
            if faults.is_empty() {
                return Ok(entries);
            }
            faults
                .iter()
                .map(|fault| fault_problem(fault, None))
                .collect()
        }
        Err(problems) => problems,
    };
    let cause = ControlError::Invalid(problems).to_string();
    Err(StoreError::caused(StoreErrorKind::Corrupt, Entity::Catalog, cause).into())
}

#[cfg(test)]
mod tests;
