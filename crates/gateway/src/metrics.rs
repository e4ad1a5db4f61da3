//! What Prometheus is told. Labels are bounded: APIs, classes and codes, never keys or paths.
//!
//! Every figure is explained in `docs/metrics.md`; the test of this module fails on one that is
//! not. Counters get `_total` from the encoder.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tollgate_counters::Totals;
use tollgate_journal::{DamageReport, JournalStatus, Recovered};
use tollgate_model::{ApiId, DenialCode, Now, Ticks};

use crate::recover::Finished;

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
    refused_units: Family<CodeLabels, Count>,
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Requests being served.
    pub(crate) in_flight: Gauge,
    /// Heads that could not be read at all.
    pub(crate) unreadable: Count,
    /// Events that could not be written down, by declared loss or failure.
    pub(crate) events_lost: Count,
    /// Units of these.
    pub(crate) lost_units: Count,
    /// Units admitted above a limit that holds.
    pub(crate) over_admitted_units: Count,
    /// Exchanges of an earlier life that were recorded as interrupted.
    pub(crate) interrupted: Count,
    /// Of these, those that there is no room to record yet.
    pub(crate) unfinished: Gauge,
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
    /// Bytes of it that cannot be used.
    journal_damaged_bytes: Gauge,
    /// Bytes at its ends that were cut off at this start, never acknowledged as synced.
    journal_torn_bytes: Gauge,
    /// Most bytes on disk.
    journal_max_bytes: Gauge,
    /// Length of the time before this start from which a power cut may have taken entries.
    journal_lost_span_seconds: Gauge<f64, AtomicU64>,
    /// When counters were lost (seconds since 1970), 0 where they never were: windows whose span
    /// has not passed since count as full.
    counters_lost_timestamp_seconds: Gauge,
    /// 1 while it has no room.
    pub(crate) journal_full: Gauge,
    /// Units of quotas that count without a record.
    held_units: Gauge,
    /// Units that open grants allow and nobody has taken.
    granted_units: Gauge,
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

    /// Counts the units of a request that was refused: for its limits, or for want of room.
    pub(crate) fn refused(&self, code: DenialCode, units: u64) {
        let labels = CodeLabels {
            code: code.as_str().to_owned(),
        };
        self.refused_units.get_or_create(&labels).inc_by(units);
    }

    /// Shows what a start found.
    pub(crate) fn show_start(&self, recovered: &Recovered, finished: &Finished) {
        self.interrupted.inc_by(finished.recorded() as u64);
        set(&self.unfinished, finished.left.len() as u64);
        let span_us = recovered
            .lost_span
            .map_or(0, |span| span.to.since(span.from));
        self.journal_lost_span_seconds.set(span_us as f64 / 1e6);
    }

    /// Shows that counters were lost, and when.
    pub(crate) fn show_loss(&self, lost_at: Ticks, now: Now) {
        let ago_us = i64::try_from(now.ticks.since(lost_at)).unwrap_or(i64::MAX);
        let at_us = now.wall.0.saturating_sub(ago_us);
        self.counters_lost_timestamp_seconds.set(at_us / 1_000_000);
    }

    /// Shows how the journal and the counters are doing.
    pub(crate) fn show(&self, journal: &JournalStatus, damage: &DamageReport, counters: &Totals) {
        set(&self.journal_bytes, journal.disk_bytes);
        set(&self.journal_max_bytes, journal.disk_bytes_max);
        set(&self.journal_unsynced_bytes, journal.unsynced_bytes);
        set(&self.journal_missing, journal.missing);
        set(&self.journal_full, u64::from(journal.full.is_some()));
        let damaged = damage.spots.iter().map(|spot| spot.bytes).sum();
        set(&self.journal_damaged_bytes, damaged);
        let torn = damage.torn.iter().map(|tail| tail.bytes).sum();
        set(&self.journal_torn_bytes, torn);
        set(&self.counters, counters.counters as u64);
        set(&self.addresses, counters.addresses as u64);
        set(&self.held_units, counters.held_units);
        set(&self.granted_units, counters.granted_units);
    }

    /// Makes the figures visible.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("gateway");
        for (name, help, count) in self.counts() {
            registry.register(name, help, count.clone());
        }
        for (name, help, gauge) in self.gauges() {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "journal_lost_span_seconds",
            "time before this start from which a power cut may have taken entries",
            self.journal_lost_span_seconds.clone(),
        );
        registry.register(
            "requests",
            "answers by API and class",
            self.requests.clone(),
        );
        registry.register("denials", "refusals by code", self.denials.clone());
        registry.register(
            "refused_units",
            "units refused by a limit or for want of room",
            self.refused_units.clone(),
        );
        let errors = self.upstream_errors.clone();
        registry.register("upstream_errors", "failed upstreams by API", errors);
    }

    fn counts(&self) -> [(&'static str, &'static str, &Count); 10] {
        [
            (
                "over_admitted_units",
                "units admitted above a limit: must be 0",
                &self.over_admitted_units,
            ),
            ("events_lost", "events not written down", &self.events_lost),
            ("lost_units", "units of events lost", &self.lost_units),
            (
                "interrupted",
                "exchanges that a crash broke off, recorded since",
                &self.interrupted,
            ),
            (
                "unreadable",
                "heads that could not be read",
                &self.unreadable,
            ),
            ("summarised", "refusals in summaries", &self.summarised),
            (
                "costs_capped",
                "stated costs above the maximum",
                &self.costs_capped,
            ),
            ("cuts", "live exchanges cut", &self.cuts),
            ("checkpoints", "checkpoints written", &self.checkpoints),
            (
                "checkpoint_failures",
                "checkpoints not written",
                &self.checkpoint_failures,
            ),
        ]
    }

    fn gauges(&self) -> [(&'static str, &'static str, &Gauge); 17] {
        [
            ("connections", "open connections", &self.connections),
            ("in_flight", "requests being served", &self.in_flight),
            (
                "held_units",
                "units of quotas that count without a record",
                &self.held_units,
            ),
            (
                "granted_units",
                "units granted and not taken: what a kill now would hold",
                &self.granted_units,
            ),
            (
                "unfinished",
                "broken-off exchanges that wait for room to be recorded",
                &self.unfinished,
            ),
            (
                "counters_lost_timestamp_seconds",
                "when counters were lost, 0 where never; windows count as full for their span",
                &self.counters_lost_timestamp_seconds,
            ),
            ("journal_bytes", "journal on disk", &self.journal_bytes),
            (
                "journal_max_bytes",
                "most bytes of the journal on disk",
                &self.journal_max_bytes,
            ),
            (
                "journal_unsynced_bytes",
                "journal not yet synced",
                &self.journal_unsynced_bytes,
            ),
            (
                "journal_missing",
                "journal entries that cannot be read",
                &self.journal_missing,
            ),
            (
                "journal_damaged_bytes",
                "journal bytes that cannot be used",
                &self.journal_damaged_bytes,
            ),
            (
                "journal_torn_bytes",
                "bytes cut off the journal's ends at this start",
                &self.journal_torn_bytes,
            ),
            (
                "journal_full",
                "1 while the journal has no room",
                &self.journal_full,
            ),
            ("counters", "counters held", &self.counters),
            ("addresses", "addresses counted apart", &self.addresses),
            ("keys", "keys known", &self.keys),
            ("catalog_version", "catalog in force", &self.catalog_version),
        ]
    }
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_explained() {
        let page = include_str!("../../../docs/metrics.md");
        let metrics = Metrics::default();
        let counts = metrics.counts().map(|(name, ..)| format!("{name}_total"));
        let gauges = metrics.gauges().map(|(name, ..)| name.to_owned());
        let families = [
            "requests_total",
            "denials_total",
            "refused_units_total",
            "upstream_errors_total",
            "journal_lost_span_seconds",
        ];
        let families = families.map(str::to_owned);
        for name in counts.into_iter().chain(gauges).chain(families) {
            let row = format!("| `tollgate_gateway_{name}");
            assert!(page.contains(&row), "docs/metrics.md has no row for {name}");
        }
    }
}
