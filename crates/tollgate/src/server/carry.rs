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
//! then is shipped first.
//!
//! **Invariants.** In the meantime nothing passes on such a quota: from before the catalog is
//! published until a checkpoint holds the sum, calls on it are refused as where counters are lost
//! (a few milliseconds; while the store fails, until it answers). The sum is made after every
//! thread decides by the new catalog, so that nothing is charged to the old period any more.
//!
//! **Does not own** quotas of keys and of addresses: nothing in the store sums these up by time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio::sync::Mutex;
use tollgate_gateway::GatewayHandle;
use tollgate_metering::{Metering, Shipper};
use tollgate_model::{
    By, Catalog, CatalogSink, Clock, Every, KeyDelta, Period, PeriodBasis, Subscription,
    SubscriptionId, Timestamp, period_at,
};

/// How often it is looked whether threads have turned.
const TURN_LOOK: Duration = Duration::from_millis(1);
/// Earlier periods of which requests may still be in flight: those of two days, and one to spare.
const PERIODS_BACK: usize = 3;

/// Where the periods of a subscription's quota begin and end.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    every: Every,
    basis: PeriodBasis,
    anchor: Date,
    zone: TimeZone,
}

impl Calendar {
    /// As the catalog says; a plan without a quota is counted by month.
    #[must_use]
    pub fn of(catalog: &Catalog, subscription: &Subscription) -> Option<Self> {
        let plan = catalog.find_plan_of(subscription)?;
        Some(Self {
            every: plan.quota.map_or(Every::Month, |quota| quota.every),
            basis: plan.period,
            anchor: match plan.period {
                PeriodBasis::Calendar => Date::ZERO,
                PeriodBasis::Anniversary => subscription.started_on,
            },
            zone: subscription.time_zone.clone(),
        })
    }

    /// The same for a quota of another length: a key's own.
    #[must_use]
    pub fn every(self, every: Every) -> Self {
        Self { every, ..self }
    }

    /// The period that holds an instant.
    ///
    /// # Errors
    /// Beyond the calendar's ten thousand years.
    pub fn at(&self, at: Timestamp) -> anyhow::Result<Period> {
        let period = period_at(at, self.every, self.basis, self.anchor, &self.zone);
        period.context("the time is beyond the calendar")
    }
}

/// A quota whose periods were changed.
#[derive(Debug, Clone)]
struct Moved {
    subscription: SubscriptionId,
    before: Calendar,
    after: Calendar,
    /// Starts of the periods on which nothing passes meanwhile.
    shut: Vec<Timestamp>,
}

/// What was used between the starts of two periods that hold the same instant.
#[derive(Debug, Clone, Copy)]
struct Between {
    old: Period,
    new: Period,
    units: u64,
    /// Counted on the new period before the catalog was published.
    already: u64,
}

impl Between {
    /// Used of the new period, where so much is counted on the old one and so much of earlier ones
    /// is in flight.
    fn used(&self, counted: u64, late: u64) -> u64 {
        if self.new.start < self.old.start {
            counted.saturating_add(self.units).saturating_add(late)
        } else {
            counted.saturating_sub(self.units)
        }
    }
}

/// What is not carried yet, and what is needed to see what changes next.
#[derive(Default)]
struct State {
    catalog: Option<Arc<Catalog>>,
    waiting: Vec<Moved>,
}

/// Publishes to the gateway, and carries over what was used.
pub struct Carrier {
    gateway: GatewayHandle,
    pub(super) metering: Metering,
    clock: Arc<dyn Clock>,
    pub(super) shipper: Arc<Shipper>,
    /// Held while something is carried: one at a time.
    state: Mutex<State>,
}

impl Carrier {
    /// In front of a gateway.
    #[must_use]
    pub fn new(
        gateway: GatewayHandle,
        metering: Metering,
        clock: Arc<dyn Clock>,
        shipper: Arc<Shipper>,
    ) -> Self {
        Self {
            gateway,
            metering,
            clock,
            shipper,
            state: Mutex::default(),
        }
    }

    /// Tries again what could not be carried because the store failed. Cheap when nothing waits.
    pub async fn retry(&self) {
        let mut state = self.state.lock().await;
        if state.waiting.is_empty() {
            return;
        }
        let mut moved = std::mem::take(&mut state.waiting);
        self.shut(&mut moved);
        match self.carry_late(&moved).await {
            Ok(()) => tracing::info!(quotas = moved.len(), "what was used has been carried over"),
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "not carried over yet");
                state.waiting = moved;
            }
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
        let between = self.read_between(&moved).await;
        self.shut(&mut moved);
        self.gateway.publish_catalog(catalog);
        let carried = match between {
            Ok(between) => self.carry(&moved, &between).await,
            Err(error) => Err(error),
        };
        if let Err(error) = carried {
            tracing::warn!(
                quotas = moved.len(),
                error = format!("{error:#}"),
                "the periods of quotas were changed, and what was used of the new ones is not \
                 known yet: calls on them are refused until the store tells",
            );
            state.waiting.extend(moved);
        }
    }

    /// Nothing passes from here on: in the period of this moment and in the one after it, should
    /// it begin meanwhile.
    fn shut(&self, moved: &mut [Moved]) {
        for one in moved {
            if let Ok(period) = one.after.at(self.now()) {
                let starts = [period.start, period.end];
                self.gateway.quotas_are_unknown(&one.subscription, &starts);
                one.shut.extend(starts);
            }
        }
    }

    async fn read_between(&self, moved: &[Moved]) -> anyhow::Result<Vec<Between>> {
        self.shipper.flush().await?;
        let now = self.now();
        let mut between = Vec::with_capacity(moved.len());
        for one in moved {
            let (old, new) = (one.before.at(now)?, one.after.at(now)?);
            let (from, to) = (old.start.min(new.start), old.start.max(new.start));
            let units = self
                .metering
                .units_of_subscription(&one.subscription, from, to)
                .await?;
            between.push(Between {
                old,
                new,
                units,
                already: self.counted(&one.subscription, new),
            });
        }
        Ok(between)
    }

    /// After the new catalog was published.
    async fn carry(&self, moved: &[Moved], between: &[Between]) -> anyhow::Result<()> {
        while !self.gateway.has_turned() {
            tokio::time::sleep(TURN_LOOK).await;
        }
        let now = self.now();
        for (one, between) in moved.iter().zip(between) {
            let (old, new) = (between.old, between.new);
            ensure!(
                old.contains(now) && new.contains(now),
                "a period ended while its units were summed up"
            );
            if old.start == new.start {
                continue;
            }
            let counted = self.counted(&one.subscription, old);
            let late = self.in_flight_before(one, old, new.start)?;
            // A quota that never refuses is charged meanwhile.
            let since = self.counted(&one.subscription, new);
            let since = since.saturating_sub(between.already);
            let used = between.used(counted, late).saturating_add(since);
            self.tell(&one.subscription, new, used);
        }
        self.finish(moved).await
    }

    /// When the store answers again: whatever was charged meanwhile, where the quota never
    /// refuses, has been shipped and is summed up by time.
    async fn carry_late(&self, moved: &[Moved]) -> anyhow::Result<()> {
        let between = self.read_between(moved).await?;
        for (one, between) in moved.iter().zip(&between) {
            let (from, to) = (between.new.start, self.now().plus_us(1));
            let used = self
                .metering
                .units_of_subscription(&one.subscription, from, to)
                .await?;
            self.tell(&one.subscription, between.new, used);
        }
        self.carry(moved, &between).await
    }

    fn tell(&self, subscription: &SubscriptionId, period: Period, used: u64) {
        let id = subscription.as_str();
        self.gateway.carry_quota(By::Subscription, id, period, used);
    }

    fn counted(&self, subscription: &SubscriptionId, period: Period) -> u64 {
        let id = subscription.as_str();
        let found = self.gateway.find_quota(By::Subscription, id, period.start);
        found.map_or(0, |quota| quota.used)
    }

    /// Units in flight of earlier periods that end after `from`: no record tells of them yet.
    fn in_flight_before(
        &self,
        one: &Moved,
        mut period: Period,
        from: Timestamp,
    ) -> anyhow::Result<u64> {
        let mut units = 0u64;
        for _ in 0..PERIODS_BACK {
            if period.start <= from {
                break;
            }
            period = one.before.at(period.start.plus_us(-1))?;
            let id = one.subscription.as_str();
            let found = self.gateway.find_quota(By::Subscription, id, period.start);
            units = units.saturating_add(found.map_or(0, |quota| quota.in_flight));
        }
        Ok(units)
    }

    /// Calls pass again once a kill forgets nothing of it.
    async fn finish(&self, moved: &[Moved]) -> anyhow::Result<()> {
        let gateway = self.gateway.clone();
        let written = tokio::task::spawn_blocking(move || gateway.checkpoint()).await?;
        ensure!(written, "no checkpoint could be written");
        for one in moved {
            self.gateway.quotas_are_ready(&one.subscription, &one.shut);
        }
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
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
            let place = self.waiting.iter().position(|w| w.subscription == *id);
            let waited = place.map(|place| self.waiting.swap_remove(place));
            let (before, shut) = waited.map_or((before, Vec::new()), |w| (w.before, w.shut));
            moved.push(Moved {
                subscription: id.clone(),
                before,
                after,
                shut,
            });
        }
        moved
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    fn period(start_day: i64, days: i64) -> Period {
        let start = Timestamp(start_day * DAY_US);
        Period {
            start,
            end: start.plus_us(days * DAY_US),
        }
    }

    #[test]
    fn used_is_the_sum_of_the_new_period_whichever_began_first() {
        // The twelfth of a month: 70 units before today, 5 today, of which 1 is in flight.
        let (month, day) = (period(0, 30), period(11, 1));
        let between = |old, new| Between {
            old,
            new,
            units: 70,
            already: 0,
        };
        assert_eq!(between(day, month).used(5, 0), 75);
        assert_eq!(between(month, day).used(75, 0), 5);
        // Admitted yesterday and not ended yet: no record tells of it.
        assert_eq!(between(day, month).used(5, 2), 77);
        // More is recorded of the past than was counted: nothing of today is known to be used.
        assert_eq!(between(month, day).used(60, 0), 0);
    }

    #[test]
    fn a_started_on_that_sets_no_period_is_no_change() -> anyhow::Result<()> {
        let calendar = |anchor| Calendar {
            every: Every::Month,
            basis: PeriodBasis::Calendar,
            anchor,
            zone: TimeZone::UTC,
        };
        let at = Timestamp(1_764_000_000_000_000);
        let some = calendar(Date::constant(2026, 1, 31));
        assert_eq!(some.at(at)?, calendar(Date::ZERO).at(at)?);
        Ok(())
    }
}
