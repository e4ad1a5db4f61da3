//! What Prometheus is told. Labels are bounded: APIs, classes and codes, never keys or paths.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate_counters::Totals;
use tollgate_journal::JournalStatus;
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
    /// Bytes of the journal on disk.
    pub(crate) journal_bytes: Gauge,
    /// Bytes of it that are not synced.
    pub(crate) journal_unsynced_bytes: Gauge,
    /// Entries of it that cannot be read.
    pub(crate) journal_missing: Gauge,
    /// 1 while it has no room.
    pub(crate) journal_full: Gauge,
    /// Counters held.
    pub(crate) counters: Gauge,
    /// Addresses counted apart.
    pub(crate) addresses: Gauge,
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

    /// Shows how the journal and the counters are doing.
    pub(crate) fn show(&self, journal: &JournalStatus, counters: &Totals) {
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.journal_bytes, journal.disk_bytes);
        set(&self.journal_unsynced_bytes, journal.unsynced_bytes);
        set(&self.journal_missing, journal.missing);
        set(&self.journal_full, u64::from(journal.full.is_some()));
        set(&self.counters, counters.counters as u64);
        set(&self.addresses, counters.addresses as u64);
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
        gauge("journal_bytes", "journal on disk", &self.journal_bytes);
        let unsynced = &self.journal_unsynced_bytes;
        gauge("journal_unsynced_bytes", "journal not yet synced", unsynced);
        let missing = &self.journal_missing;
        gauge(
            "journal_missing",
            "journal entries that cannot be read",
            missing,
        );
        gauge(
            "journal_full",
            "1 while the journal has no room",
            &self.journal_full,
        );
        gauge("counters", "counters held", &self.counters);
        gauge("addresses", "addresses counted apart", &self.addresses);
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
