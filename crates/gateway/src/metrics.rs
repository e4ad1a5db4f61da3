//! What Prometheus is told. Labels are bounded: APIs, classes and codes, never keys or paths.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate_model::{ApiId, DenialCode};

type Count = Counter<u64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    api: String,
    class: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabels {
    api: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: String,
}

/// All figures of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Family<ClassLabels, Count>,
    upstream_errors: Family<ApiLabels, Count>,
    denials: Family<CodeLabels, Count>,
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Requests being served.
    pub(crate) in_flight: Gauge,
    /// Heads that could not be read at all.
    pub(crate) unreadable: Count,
    /// Events that could not be written down, by declared loss or failure.
    pub(crate) events_lost: Count,
    /// Refusals that were recorded as part of a summary.
    pub(crate) summarised: Count,
    /// Costs stated by upstreams above what their route allows.
    pub(crate) costs_capped: Count,
    /// Live exchanges that were cut.
    pub(crate) cuts: Count,
    /// Checkpoints written.
    pub(crate) checkpoints: Count,
    /// Checkpoints that could not be written.
    pub(crate) checkpoint_failures: Count,
    /// Keys known.
    pub(crate) keys: Gauge,
    /// Number of the catalog in force.
    pub(crate) catalog_version: Gauge,
}

/// The figures of one API, found once per catalog.
#[derive(Debug)]
pub(crate) struct ApiMetrics {
    classes: [Count; 5],
    pub(crate) upstream_errors: Count,
}

impl ApiMetrics {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        if let Some(count) = self.classes.get(class) {
            count.inc();
        }
    }
}

impl Metrics {
    /// The figures of one API.
    pub(crate) fn of_api(&self, api: &ApiId) -> ApiMetrics {
        let class = |class: &str| {
            self.requests
                .get_or_create(&ClassLabels {
                    api: api.to_string(),
                    class: class.to_owned(),
                })
                .clone()
        };
        let errors = self.upstream_errors.get_or_create(&ApiLabels {
            api: api.to_string(),
        });
        ApiMetrics {
            classes: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(class),
            upstream_errors: errors.clone(),
        }
    }

    /// Counts a refusal.
    pub(crate) fn denied(&self, code: DenialCode) {
        let labels = CodeLabels {
            code: code.as_str().to_owned(),
        };
        self.denials.get_or_create(&labels).inc();
    }

    /// Makes the figures visible.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("gateway");
        let mut count = |name: &str, help: &str, count: &Count| {
            registry.register(name, help, count.clone());
        };
        count(
            "unreadable",
            "heads that could not be read",
            &self.unreadable,
        );
        count("events_lost", "events not written down", &self.events_lost);
        count("summarised", "refusals in summaries", &self.summarised);
        count(
            "costs_capped",
            "stated costs above the maximum",
            &self.costs_capped,
        );
        count("cuts", "live exchanges cut", &self.cuts);
        count("checkpoints", "checkpoints written", &self.checkpoints);
        let failures = &self.checkpoint_failures;
        count("checkpoint_failures", "checkpoints not written", failures);
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(name, help, gauge.clone());
        };
        gauge("connections", "open connections", &self.connections);
        gauge("in_flight", "requests being served", &self.in_flight);
        gauge("keys", "keys known", &self.keys);
        gauge("catalog_version", "catalog in force", &self.catalog_version);
        registry.register(
            "requests",
            "answers by API and class",
            self.requests.clone(),
        );
        registry.register("denials", "refusals by code", self.denials.clone());
        let errors = self.upstream_errors.clone();
        registry.register("upstream_errors", "failed upstreams by API", errors);
    }
}
