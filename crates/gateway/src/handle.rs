//! What other rooms hold of a gateway.

use std::sync::Arc;

use tollgate_model::{
    By, Catalog, CatalogSink, CheckAnswer, CheckRequest, CounterId, CounterKind, CounterScope,
    Decisions, KeyDelta, Period,
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
        self.node.awaits_quotas()
    }

    /// What the platform knows was used of a quota in a period. Never lowers what is counted here.
    /// `by` is whose quota it is: a subscription's or a key family's.
    pub fn seed_quota(&self, by: By, id: &str, period: Period, used: u64) {
        let scope = CounterScope {
            by,
            id,
            route: None,
        };
        let counter = CounterId::quota(scope).in_period(period.start);
        let kind = CounterKind::Quota {
            ends_at: period.end,
        };
        let now = self.node.clock.now();
        self.node.counters.seed_quota(counter, kind, used, now);
    }

    /// Every quota was seeded.
    pub fn quotas_are_known(&self) {
        self.node.quotas_are_known();
    }
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
