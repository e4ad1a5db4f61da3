//! Latencies of forwarded requests, from sums and sketches.

use tollgate_model::{HISTOGRAM_EDGES_MS, LatencySketch};

use super::gather::Sums;

/// How long forwarded requests took, in microseconds. All `None` where nothing was forwarded;
/// percentiles are `None` too where only counts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Half took at most so long (percentiles are exact to 1 %).
    pub p50_us: Option<u64>,
    /// 95 of 100 did.
    pub p95_us: Option<u64>,
    /// 99 of 100 did.
    pub p99_us: Option<u64>,
    /// The longest.
    pub max_us: Option<u64>,
    /// The mean, rounded down.
    pub mean_us: Option<u64>,
}

/// A bar of the distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramBin {
    /// Requests that took at most so long and longer than the bar before; `None`: the last bar,
    /// beyond every edge.
    pub at_most_ms: Option<u64>,
    /// How many.
    pub count: u64,
}

impl Latency {
    pub(crate) fn of(sums: &Sums) -> Self {
        let counts = &sums.counts;
        if counts.latencies == 0 {
            return Self::default();
        }
        let sketch = sums.sketch();
        let quantile = |q: f64| {
            sketch
                .and_then(|sketch| sketch.quantile_us(q))
                // A sketch's estimate may lie 1 % beyond the longest.
                .map(|us| us.min(counts.latency_max_us))
        };
        Self {
            p50_us: quantile(0.50),
            p95_us: quantile(0.95),
            p99_us: quantile(0.99),
            max_us: Some(counts.latency_max_us),
            mean_us: counts.latency_sum_us.checked_div(counts.latencies),
        }
    }
}

/// The distribution over the fixed edges.
pub(crate) fn histogram(sketch: &LatencySketch) -> Vec<HistogramBin> {
    HISTOGRAM_EDGES_MS
        .into_iter()
        .map(Some)
        .chain([None])
        .zip(sketch.histogram())
        .map(|(at_most_ms, count)| HistogramBin { at_most_ms, count })
        .collect()
}
