//! Latency distributions that can be merged: DDSketch with 1 % relative error
//! (Masson, Rim, Lee: "DDSketch", VLDB 2019).

use sketches_ddsketch::{Config, DDSketch};

/// Upper edges of the distribution that statistics show, in milliseconds (docs/rules.md, 30).
pub const HISTOGRAM_EDGES_MS: [u64; 16] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 60_000,
];

/// A mergeable distribution of latencies in microseconds.
#[derive(Clone)]
pub struct LatencySketch(DDSketch);

impl LatencySketch {
    /// An empty sketch.
    #[must_use]
    pub fn new() -> Self {
        Self(DDSketch::new(Config::defaults()))
    }

    /// Adds one latency.
    pub fn add(&mut self, us: u64) {
        // Sketches hold values of 1 and more apart; below a microsecond nothing is measured.
        self.0.add(us.max(1) as f64);
    }

    /// Adds everything that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        // All sketches share one configuration, the only thing that merging can trip over.
        if self.0.merge(&other.0).is_err() {
            debug_assert!(false, "sketches of different configurations");
        }
    }

    /// How many latencies were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count() as u64
    }

    /// The latency in microseconds below which the share `q` (0 to 1) lies; `None` when empty.
    #[must_use]
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        self.0
            .quantile(q)
            .ok()
            .flatten()
            .map(|us| us.round() as u64)
    }

    /// How many latencies are at most each of [`HISTOGRAM_EDGES_MS`] and above the one before;
    /// the last entry counts those beyond the last edge.
    #[must_use]
    pub fn histogram(&self) -> [u64; HISTOGRAM_EDGES_MS.len() + 1] {
        let total = self.count();
        let mut out = [0; HISTOGRAM_EDGES_MS.len() + 1];
        let mut below = 0;
        for (slot, edge_ms) in out.iter_mut().zip(HISTOGRAM_EDGES_MS) {
            let at_most = self.rank_at_most(edge_ms * 1_000, total);
            *slot = at_most.saturating_sub(below);
            below = below.max(at_most);
        }
        if let Some(last) = out.last_mut() {
            *last = total.saturating_sub(below);
        }
        out
    }

    /// How many latencies are at most `us`, by bisection over ranks.
    fn rank_at_most(&self, us: u64, total: u64) -> u64 {
        let (mut low, mut high) = (0, total);
        while low < high {
            let middle = low + (high - low) / 2;
            let q = if total > 1 {
                middle as f64 / (total - 1) as f64
            } else {
                0.0
            };
            if self
                .quantile_us(q.min(1.0))
                .is_some_and(|value| value <= us)
            {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The stored form (the DDSketch protocol buffer that DataDog's Java library writes).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_java_bytes()
    }

    /// Reads the stored form; `None` when the bytes are not a sketch.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        DDSketch::from_java_bytes(bytes).ok().map(Self)
    }
}

impl Default for LatencySketch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for LatencySketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LatencySketch({})", self.count())
    }
}

impl PartialEq for LatencySketch {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_per_cent_after_merge_and_storage() {
        let (mut odd, mut even) = (LatencySketch::new(), LatencySketch::new());
        for us in 1..=10_000u64 {
            if us % 2 == 0 {
                even.add(us)
            } else {
                odd.add(us)
            }
        }
        odd.merge(&even);
        let stored = LatencySketch::from_bytes(&odd.to_bytes()).unwrap();
        assert_eq!(stored.count(), 10_000);
        for (q, expected) in [(0.5, 5_000.0), (0.95, 9_500.0), (0.99, 9_900.0)] {
            let measured = stored.quantile_us(q).unwrap() as f64;
            assert!((measured / expected - 1.0).abs() < 0.011, "{q}: {measured}");
        }
    }

    #[test]
    fn the_histogram_holds_every_latency_once() {
        let mut sketch = LatencySketch::new();
        for ms in [0, 3, 3, 40, 800, 70_000] {
            sketch.add(ms * 1_000);
        }
        let histogram = sketch.histogram();
        assert_eq!(histogram.iter().sum::<u64>(), 6);
        assert_eq!(histogram[0], 1);
        assert_eq!(histogram[2], 2);
        assert_eq!(histogram[HISTOGRAM_EDGES_MS.len()], 1);
    }
}
