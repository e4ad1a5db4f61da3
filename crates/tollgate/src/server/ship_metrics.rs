//! What `/metrics` shows of the way from the journal to the numbers. Names, units and what to do
//! are in `docs/metrics.md`.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tollgate_metering::{ShipLag, ShipStatus, Shipper};
use tollgate_model::Timestamp;

/// Asks the shipper when somebody reads the metrics.
pub struct ShipMetrics {
    /// Whose figures.
    pub shipper: Arc<Shipper>,
    /// When this process began to ship.
    pub started: Timestamp,
}

impl fmt::Debug for ShipMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShipMetrics").finish_non_exhaustive()
    }
}

impl Collector for ShipMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        match self.shipper.lag(self.started) {
            Ok(lag) => encode_lag(&mut encoder, lag)?,
            // A figure that is not known is left out, which alerts on absence notice.
            Err(error) => tracing::warn!(%error, "the journal's lag cannot be told"),
        }
        encode_counts(&mut encoder, &self.shipper.status())
    }
}

fn encode_lag(encoder: &mut DescriptorEncoder<'_>, lag: ShipLag) -> Result<(), fmt::Error> {
    show(
        encoder,
        "usage_waiting_entries",
        "Journal entries whose events are in no record or bucket yet",
        &ConstGauge::new(lag.entries),
    )?;
    show(
        encoder,
        "usage_waiting_seconds",
        "How long something has been waiting in the journal to be taken in; 0 while nothing waits",
        &ConstGauge::new(lag.us as f64 / 1_000_000.0),
    )
}

fn encode_counts(
    encoder: &mut DescriptorEncoder<'_>,
    status: &ShipStatus,
) -> Result<(), fmt::Error> {
    let counts = [
        (
            "usage_events",
            "Events taken into records and buckets by this process",
            status.shipped,
        ),
        (
            "usage_batches",
            "Batches of events taken in by this process",
            status.batches,
        ),
        (
            "usage_batch_conflicts",
            "Batches that the store had taken in before and that were therefore not counted again",
            status.conflicts,
        ),
        (
            "usage_ship_failures",
            "Passes over the journal that failed; the journal keeps what they did not ship",
            status.failures,
        ),
        (
            "usage_quarantined_events",
            "Events that the store refused for good; they are in no record, the log names them",
            status.quarantined,
        ),
        (
            "usage_unreadable_entries",
            "Damaged or missing journal entries that shipping went past",
            status.unreadable,
        ),
    ];
    for (name, help, count) in counts {
        show(encoder, name, help, &ConstCounter::new(count))?;
    }
    Ok(())
}

fn show(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    figure: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, None, figure.metric_type())?;
    figure.encode(encoder)
}
