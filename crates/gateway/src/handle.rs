//! What other rooms hold of a gateway.

use std::sync::Arc;

use tollgate_counters::QuotaUse;
use tollgate_model::{
    By, Catalog, CatalogSink, CheckAnswer, CheckRequest, CounterId, CounterKind, CounterScope,
    Decisions, KeyDelta, KeyId, Period, Quota, SubscriptionId, Timestamp,
};

use crate::decide;
use crate::node::{Node, Stage};

/// A cheap handle: publishes to the gateway and asks it.
#[derive(Clone)]
pub struct GatewayHandle {
    node: Arc<Node>,
}

impl GatewayHandle {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Whether requests are served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.node.is_ready()
    }

    /// The catalog number in force.
    #[must_use]
    pub fn catalog_version(&self) -> u64 {
        self.node.catalog.load().version()
    }

    /// Cuts what is still in flight now, without waiting for the drain's deadline.
    pub fn cut(&self) {
        self.node.advance(Stage::Cutting);
    }

    /// Whether quotas were lost with an earlier life and wait for what the platform knows: then
    /// [`Self::seed_quota`] for each, and [`Self::quotas_are_known`].
    #[must_use]
    pub fn awaits_quotas(&self) -> bool {
        self.node.lost.awaits_quotas()
    }

    /// What the platform knows was used of a quota in a period. Never lowers what is counted here.
    /// `by` is whose quota it is: a subscription's or a key family's.
    pub fn seed_quota(&self, by: By, id: &str, period: Period, used: u64) {
        let counter = counter_of(by, id, period.start);
        let kind = CounterKind::Quota {
            ends_at: period.end,
        };
        let now = self.node.clock.now();
        self.node.counters.seed_quota(counter, kind, used, now);
    }

    /// The wall time by which quotas' periods are looked up: the latest that was seen, also where
    /// the clock has been set back since.
    #[must_use]
    pub fn latest_wall(&self) -> Timestamp {
        self.node.periods.latest(self.node.clock.now()).wall
    }

    /// What is counted here on a quota of the period that began then, if anything is.
    #[must_use]
    pub fn find_quota(&self, by: By, id: &str, start: Timestamp) -> Option<QuotaUse> {
        self.node.counters.find_quota(counter_of(by, id, start))
    }

    /// From here on calls on these quotas are refused as where counters are lost, until
    /// [`Self::quotas_are_ready`]: `starts` of the periods of a subscription's quota. To be asked
    /// for before a catalog is published under which they begin.
    pub fn quotas_are_unknown(&self, id: &SubscriptionId, starts: &[Timestamp]) {
        self.node.lost.set_unknown(&counters_of(id, starts), true);
    }

    /// What these quotas had used has been told.
    pub fn quotas_are_ready(&self, id: &SubscriptionId, starts: &[Timestamp]) {
        self.node.lost.set_unknown(&counters_of(id, starts), false);
    }

    /// At least so many units were used in a period, those counted here already among them; the
    /// others under periods of another length. Never lowers what is counted here.
    pub fn carry_quota(&self, by: By, id: &str, period: Period, used: u64) {
        let counter = counter_of(by, id, period.start);
        let kind = CounterKind::Quota {
            ends_at: period.end,
        };
        let now = self.node.clock.now();
        self.node.counters.carry_quota(counter, kind, used, now);
    }

    /// Whether no thread decides by an earlier catalog than the one in force any more. That is a
    /// turn of each thread's loop after publishing.
    #[must_use]
    pub fn has_turned(&self) -> bool {
        self.node.has_turned()
    }

    /// The quota that stands on a key of its own, and whose key it is. A family is found while its
    /// first key is there.
    #[must_use]
    pub fn find_own_quota(&self, family: &KeyId) -> Option<(SubscriptionId, Quota)> {
        let key = self.node.keys.find_by_id(family)?;
        let (subscription, quota) = key.own_quota()?;
        Some((subscription.clone(), quota))
    }

    /// Writes a checkpoint and waits for it: whether a kill forgets nothing of what is counted
    /// now. Blocks.
    #[must_use]
    pub fn checkpoint(&self) -> bool {
        self.node.orders.write_now()
    }

    /// Every quota was seeded.
    pub fn quotas_are_known(&self) {
        self.node.lost.quotas_are_known();
    }
}

fn counter_of(by: By, id: &str, start: Timestamp) -> CounterId {
    let scope = CounterScope {
        by,
        id,
        route: None,
    };
    CounterId::quota(scope).in_period(start)
}

fn counters_of(id: &SubscriptionId, starts: &[Timestamp]) -> Vec<CounterId> {
    let counter = |start: &Timestamp| counter_of(By::Subscription, id.as_str(), *start);
    starts.iter().map(counter).collect()
}

impl CatalogSink for GatewayHandle {
    fn publish_catalog(&self, catalog: Arc<Catalog>) {
        self.node.publish(catalog);
    }

    fn publish_keys(&self, delta: KeyDelta) {
        let now = self.node.clock.now().wall;
        let ended = self.node.keys.apply(&delta, now);
        self.node.keys_changed(delta.version, &ended);
    }

    fn forget_keys_before(&self, version: u64) {
        let gone = self.node.keys.forget_before(version);
        self.node.keys_changed(version, &gone);
    }
}

impl Decisions for GatewayHandle {
    fn check(&self, request: &CheckRequest) -> CheckAnswer {
        decide::check(&self.node, request, self.node.clock.now())
    }
}

impl std::fmt::Debug for GatewayHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayHandle")
            .field("catalog_version", &self.catalog_version())
            .finish_non_exhaustive()
    }
}
