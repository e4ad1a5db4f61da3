//! What was used of a period goes with a quota whose periods were changed: its length, its basis,
//! its anchor or the subscription's zone.
//!
//! Used = Σ units of the events whose time lies in the period, whatever periods they were charged
//! to. A gateway counts by period, so under another catalog it would begin a new one at 0. It never
//! reads the store; hence this stands where the catalog is published.
//!
//! ```text
//!  new period began earlier     ├──── new ────────────────    Σ store of [new, old) + counted of old
//!                                     ├── old ────────────
//!  new period began later       ├──── old ────────────────    counted of old - Σ store of [old, new)
//!                                     ├── new ────────────
//! ```
//! Counted is what the gateway has in memory: exact, held and in-flight units among it. What is
//! read of the store ended before the later of the two periods began, and everything journaled by
//! then is shipped first. Two that began together share a counter, which is kept for the longer.
//!
//! **Invariants.** In the meantime nothing passes on such a quota: from before the catalog is
//! published until a checkpoint holds the sum, calls on it are refused as where counters are lost
//! (a few milliseconds; while the store fails, until it answers). The sum is made after every
//! thread decides by the new catalog, so that nothing is charged to the old period any more.
//! Publishing waits for the store a second at most: who publishes holds back every other change,
//! a key's end among them. What takes longer is tried again while nobody waits.
//!
//! **Does not own** quotas of keys and of addresses: nothing in the store sums these up by time.

mod used;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tollgate_gateway::GatewayHandle;
use tollgate_metering::{Metering, MeteringError, Shipper};
use tollgate_model::{By, Catalog, CatalogSink, KeyDelta, SubscriptionId, Timestamp};

use self::used::{Sources, Used};
use super::calendar::Calendar;

/// How often it is looked whether threads have turned.
const TURN_LOOK: Duration = Duration::from_millis(1);
/// How long publishing waits for what is journaled to be shipped.
const FLUSH_AT_MOST: Duration = Duration::from_millis(250);
/// How long publishing waits for the store's sums, that shipping among it.
const READ_AT_MOST: Duration = Duration::from_secs(1);

/// A quota whose periods were changed.
#[derive(Debug, Clone)]
struct Moved {
    subscription: SubscriptionId,
    before: Calendar,
    after: Calendar,
    /// Starts of the periods on which nothing passes meanwhile.
    shut: BTreeSet<Timestamp>,
}

impl Moved {
    /// The same change: what was read for one holds for the other.
    fn is_as(&self, other: &Self) -> bool {
        self.subscription == other.subscription
            && self.before == other.before
            && self.after == other.after
    }
}

/// What is not carried yet, and what is needed to see what changes next.
#[derive(Default)]
struct State {
    catalog: Option<Arc<Catalog>>,
    waiting: BTreeMap<SubscriptionId, Moved>,
    /// Why something waits, as it was last told.
    told: Option<String>,
}

/// Publishes to the gateway, and carries over what was used.
pub struct Carrier {
    gateway: GatewayHandle,
    pub(super) metering: Metering,
    pub(super) shipper: Arc<Shipper>,
    /// Held while something is published or carried: one at a time. Never while the store is asked
    /// without a bound.
    state: Mutex<State>,
}

impl Carrier {
    /// In front of a gateway.
    #[must_use]
    pub fn new(gateway: GatewayHandle, metering: Metering, shipper: Arc<Shipper>) -> Self {
        Self {
            gateway,
            metering,
            shipper,
            state: Mutex::default(),
        }
    }

    /// Tries again what could not be carried because the store failed. Cheap when nothing waits.
    pub async fn retry(&self) {
        let waiting: Vec<Moved> = {
            let mut state = self.state.lock().await;
            // Another period may have begun since.
            state.waiting.values_mut().for_each(|one| self.shut(one));
            state.waiting.values().cloned().collect()
        };
        if waiting.is_empty() {
            return;
        }
        let read = self.read_late(&waiting).await;
        let mut state = self.state.lock().await;
        let carried = match read {
            Ok(read) => {
                // What another catalog has changed meanwhile was read in vain.
                let still = |(one, used): (&Moved, Used)| {
                    let waits = state.waiting.get(&one.subscription)?;
                    waits.is_as(one).then(|| (waits.clone(), used))
                };
                let read: Vec<_> = waiting.iter().zip(read).filter_map(still).collect();
                self.carry_late(&read).await.map(|()| read)
            }
            Err(error) => Err(error),
        };
        match carried {
            Ok(carried) => state.forget(&carried),
            Err(error) => state.tell(&error),
        }
    }

    async fn publish(&self, catalog: Arc<Catalog>) {
        let mut state = self.state.lock().await;
        let mut moved = state.find_moved(&catalog);
        state.catalog = Some(Arc::clone(&catalog));
        if moved.is_empty() {
            self.gateway.publish_catalog(catalog);
            return;
        }
        // The sums are made while the gateway still decides by the catalog before.
        let read = timeout(READ_AT_MOST, self.read(&moved)).await;
        let read = read.unwrap_or_else(|_| Err(anyhow!("the store is slow")));
        moved.iter_mut().for_each(|one| self.shut(one));
        self.gateway.publish_catalog(catalog);
        let carried = match read {
            Ok(read) => {
                let read: Vec<_> = moved.iter().cloned().zip(read).collect();
                self.carry(&read).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = carried {
            let moved = moved.into_iter().map(|one| (one.subscription.clone(), one));
            state.waiting.extend(moved);
            state.tell(&error);
        }
    }

    /// Nothing passes from here on: in the period of this moment and in the one after it, should
    /// it begin meanwhile.
    fn shut(&self, one: &mut Moved) {
        if let Ok(period) = one.after.at(self.gateway.latest_wall()) {
            let starts = [period.start, period.end];
            self.gateway.quotas_are_unknown(&one.subscription, &starts);
            one.shut.extend(starts);
        }
    }

    /// Before the new catalog is published.
    async fn read(&self, moved: &[Moved]) -> anyhow::Result<Vec<Used>> {
        let now = self.gateway.latest_wall();
        let begins = |calendar: &Calendar| calendar.at(now).map(|period| period.start);
        let mut asks = false;
        for one in moved {
            asks |= begins(&one.before)? != begins(&one.after)?;
        }
        if asks {
            let shipped = timeout(FLUSH_AT_MOST, self.shipper.flush()).await;
            shipped
                .ok()
                .context("what is journaled is not shipped yet")??;
        }
        self.read_each(moved, false).await
    }

    /// After it was. Takes as long as the store does.
    async fn read_late(&self, moved: &[Moved]) -> anyhow::Result<Vec<Used>> {
        self.shipper.flush().await?;
        self.read_each(moved, true).await
    }

    async fn read_each(&self, moved: &[Moved], late: bool) -> anyhow::Result<Vec<Used>> {
        let now = self.gateway.latest_wall();
        let mut read = Vec::with_capacity(moved.len());
        for one in moved {
            read.push(self.sources().used(one, now, late).await?);
        }
        Ok(read)
    }

    /// After the new catalog was published; it was read before.
    async fn carry(&self, read: &[(Moved, Used)]) -> anyhow::Result<()> {
        self.turn().await;
        for (one, used) in read {
            // A quota that never refuses is charged meanwhile.
            let since = self.counted(one, used.new.start);
            self.tell(one, used, since.saturating_sub(used.already))?;
        }
        self.finish(read).await
    }

    /// The same where it was read afterwards: what was charged meanwhile is recorded, or in flight.
    async fn carry_late(&self, read: &[(Moved, Used)]) -> anyhow::Result<()> {
        self.turn().await;
        for (one, used) in read {
            let id = one.subscription.as_str();
            let new = self
                .gateway
                .find_quota(By::Subscription, id, used.new.start);
            self.tell(one, used, new.map_or(0, |quota| quota.in_flight))?;
        }
        self.finish(read).await
    }

    /// Tells the gateway what was used of the new period: so much is charged to it already.
    fn tell(&self, one: &Moved, used: &Used, charged: u64) -> anyhow::Result<()> {
        let now = self.gateway.latest_wall();
        ensure!(
            used.old.contains(now) && used.new.contains(now),
            "a period ended while its units were summed up"
        );
        let units = if used.is_counted() {
            0
        } else {
            let units = used.units(|start| self.counted(one, start));
            units.saturating_add(charged)
        };
        let id = one.subscription.as_str();
        self.gateway
            .carry_quota(By::Subscription, id, used.new, units);
        Ok(())
    }

    /// Waits until every thread decides by what was published.
    async fn turn(&self) {
        while !self.gateway.has_turned() {
            tokio::time::sleep(TURN_LOOK).await;
        }
    }

    /// Calls pass again once a kill forgets nothing of it.
    async fn finish(&self, carried: &[(Moved, Used)]) -> anyhow::Result<()> {
        let gateway = self.gateway.clone();
        let written = tokio::task::spawn_blocking(move || gateway.checkpoint()).await?;
        ensure!(written, "no checkpoint could be written");
        for (one, _) in carried {
            let shut: Vec<Timestamp> = one.shut.iter().copied().collect();
            self.gateway.quotas_are_ready(&one.subscription, &shut);
        }
        Ok(())
    }

    fn counted(&self, one: &Moved, start: Timestamp) -> u64 {
        self.sources().counted(&one.subscription, start)
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            gateway: &self.gateway,
            metering: &self.metering,
        }
    }
}

impl State {
    /// Quotas whose periods the catalog changes. One that still waits is carried from where it
    /// came.
    fn find_moved(&mut self, catalog: &Catalog) -> Vec<Moved> {
        let Some(known) = &self.catalog else {
            return Vec::new();
        };
        let mut moved = Vec::new();
        for (id, subscription) in &catalog.subscriptions {
            let calendar = |catalog, of| Calendar::of(catalog, of);
            let old = known.subscriptions.get(id);
            let before = old.and_then(|old| calendar(known, old));
            let after = calendar(catalog, subscription);
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            if before == after {
                continue;
            }
            let waited = self.waiting.remove(id);
            let (before, shut) = waited.map_or((before, BTreeSet::new()), |w| (w.before, w.shut));
            moved.push(Moved {
                subscription: id.clone(),
                before,
                after,
                shut,
            });
        }
        moved
    }

    /// These do not wait any more.
    fn forget(&mut self, carried: &[(Moved, Used)]) {
        for (one, _) in carried {
            self.waiting.remove(&one.subscription);
        }
        if self.waiting.is_empty() {
            self.told = None;
            tracing::info!("what was used of quotas has been carried over: calls on them pass");
        }
    }

    /// Says why quotas wait, once for each cause.
    fn tell(&mut self, error: &anyhow::Error) {
        let cause = cause_of(error);
        if self.told.as_ref() == Some(&cause) {
            return;
        }
        tracing::warn!(
            quotas = self.waiting.len(),
            error = cause,
            "the periods of quotas were changed, and what was used of the new ones is not known \
             yet: calls on them are refused until the store tells",
        );
        self.told = Some(cause);
    }
}

/// Without how far shipping is, which differs each time.
fn cause_of(error: &anyhow::Error) -> String {
    match error.downcast_ref() {
        Some(MeteringError::Lagging { cause, .. }) => {
            let cause = cause.as_deref().unwrap_or("the store is slow");
            format!("not everything was taken in: {cause}")
        }
        _ => format!("{error:#}"),
    }
}

impl CatalogSink for Carrier {
    fn publish_catalog(&self, catalog: Arc<Catalog>) {
        // The call returns when the gateway decides by the catalog. Changes of it are rare and
        // come from the platform's threads, one at a time: a question to the store may be waited
        // for.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.publish(catalog));
        });
    }

    fn publish_keys(&self, delta: KeyDelta) {
        self.gateway.publish_keys(delta);
    }

    fn forget_keys_before(&self, version: u64) {
        self.gateway.forget_keys_before(version);
    }
}
