//! Latency distributions that can be merged: a DDSketch with 1 % relative error
//! (Masson, Rim, Lee: "DDSketch", VLDB 2019).
//!
//! A latency falls into bin `ceil(log_g(us))` with g = (1 + a) / (1 - a), a = 0.01, and is told as
//! `2 g^bin / (g + 1)`, which is at most 1 % away from it. Only bins that hold something are kept,
//! so a sketch of few latencies is small in memory and stored, and merging is adding counts: exact,
//! in any grouping. Bins are bounded by the largest latency there is (2 219 of them).
//!
//! Stored form: a byte 1, then for each bin in rising order its distance from the one before (the
//! first: from bin 0) and its count, both as LEB128.

/// (1 + a) / (1 - a) for a relative error of a = 0.01.
const GAMMA: f64 = 1.01 / 0.99;
/// The first byte of the stored form.
const STORED_VERSION: u8 = 1;

/// Upper edges of the distribution that statistics show, in milliseconds (docs/rules.md, 30).
pub const HISTOGRAM_EDGES_MS: [u64; 16] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 60_000,
];

/// How many latencies fell into a bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bin {
    index: u16,
    count: u64,
}

impl Bin {
    /// What every latency of the bin is told as, in microseconds.
    fn us(self) -> u64 {
        let us = 2.0 * GAMMA.powi(i32::from(self.index)) / (GAMMA + 1.0);
        us.round() as u64
    }
}

/// A mergeable distribution of latencies in microseconds.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct LatencySketch {
    /// By rising index, none empty.
    bins: Vec<Bin>,
}

impl LatencySketch {
    /// An empty sketch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one latency.
    pub fn add(&mut self, us: u64) {
        // Below a microsecond nothing is measured; the logarithm of 2^64 fits the index.
        let index = ((us.max(1) as f64).ln() / GAMMA.ln()).ceil() as u16;
        match self.bins.binary_search_by_key(&index, |bin| bin.index) {
            Ok(place) => {
                if let Some(bin) = self.bins.get_mut(place) {
                    bin.count = bin.count.saturating_add(1);
                }
            }
            Err(place) => self.bins.insert(place, Bin { index, count: 1 }),
        }
    }

    /// Adds everything that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        if self.bins.is_empty() {
            self.bins.clone_from(&other.bins);
            return;
        }
        let mut at = 0;
        for theirs in &other.bins {
            at += self.bins.get(at..).map_or(0, |rest| {
                rest.partition_point(|mine| mine.index < theirs.index)
            });
            match self.bins.get_mut(at) {
                Some(mine) if mine.index == theirs.index => {
                    mine.count = mine.count.saturating_add(theirs.count);
                }
                _ => self.bins.insert(at, *theirs),
            }
        }
    }

    /// How many latencies were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        let sum = |sum: u64, bin: &Bin| sum.saturating_add(bin.count);
        self.bins.iter().fold(0, sum)
    }

    /// The latency in microseconds below which the share `q` (0 to 1) lies; `None` when empty.
    #[must_use]
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let last = self.count().checked_sub(1)?;
        let rank = (q.clamp(0.0, 1.0) * last as f64) as u64;
        let mut seen = 0u64;
        let holds_it = |bin: &&Bin| {
            seen = seen.saturating_add(bin.count);
            seen > rank
        };
        let bin = self.bins.iter().find(holds_it).or(self.bins.last());
        bin.map(|bin| bin.us())
    }

    /// How many latencies are at most each of [`HISTOGRAM_EDGES_MS`] and above the one before;
    /// the last entry counts those beyond the last edge.
    #[must_use]
    pub fn histogram(&self) -> [u64; HISTOGRAM_EDGES_MS.len() + 1] {
        let mut out = [0u64; HISTOGRAM_EDGES_MS.len() + 1];
        for bin in &self.bins {
            let us = bin.us();
            let place = HISTOGRAM_EDGES_MS.partition_point(|edge_ms| edge_ms * 1_000 < us);
            if let Some(slot) = out.get_mut(place) {
                *slot = slot.saturating_add(bin.count);
            }
        }
        out
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.bins.len() * 3);
        self.write_bytes(&mut bytes);
        bytes
    }

    /// Appends the stored form.
    pub fn write_bytes(&self, bytes: &mut Vec<u8>) {
        bytes.push(STORED_VERSION);
        let mut before = 0;
        for bin in &self.bins {
            write_leb128(u64::from(bin.index - before), bytes);
            write_leb128(bin.count, bytes);
            before = bin.index;
        }
    }

    /// Reads the stored form; `None` when the bytes are not a sketch.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&STORED_VERSION, mut rest) = bytes.split_first()? else {
            return None;
        };
        let mut bins: Vec<Bin> = Vec::with_capacity(rest.len() / 2);
        while !rest.is_empty() {
            let gap = u16::try_from(read_leb128(&mut rest)?).ok()?;
            let count = read_leb128(&mut rest)?;
            let index = match bins.last() {
                Some(before) => before.index.checked_add(gap).filter(|_| gap > 0)?,
                None => gap,
            };
            bins.push(Bin { index, count });
        }
        Some(Self { bins })
    }
}

fn write_leb128(mut number: u64, bytes: &mut Vec<u8>) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read_leb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

impl std::fmt::Debug for LatencySketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LatencySketch({})", self.count())
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

    #[test]
    fn every_latency_that_can_be_told_is_told_within_one_per_cent() {
        let mut us = 1u64;
        while us < u64::MAX / 3 * 2 {
            let mut sketch = LatencySketch::new();
            sketch.add(us);
            let told = sketch.quantile_us(0.5).unwrap() as f64;
            // Whole microseconds are told, which is coarser than 1 % below 50 of them.
            assert!(
                (told - us as f64).abs() <= us as f64 * 0.0101 + 0.5,
                "{us}: {told}"
            );
            us += us / 7 + 1;
        }
        let mut largest = LatencySketch::new();
        largest.add(u64::MAX);
        largest.add(0);
        assert_eq!(
            LatencySketch::from_bytes(&largest.to_bytes()),
            Some(largest)
        );
    }

    #[test]
    fn any_grouping_of_latencies_gives_the_same_bytes() {
        let latencies = || (1..5_000u64).map(|n| n * n % 700_001);
        let mut whole = LatencySketch::new();
        latencies().for_each(|us| whole.add(us));
        for parts in [2, 3, 17] {
            let mut merged = LatencySketch::new();
            for part in 0..parts {
                let mut sketch = LatencySketch::new();
                latencies()
                    .filter(|us| us % parts == part)
                    .for_each(|us| sketch.add(us));
                merged.merge(&LatencySketch::from_bytes(&sketch.to_bytes()).unwrap());
            }
            assert_eq!(merged.to_bytes(), whole.to_bytes());
        }
        assert!(whole.to_bytes().len() < 1_500);
    }

    #[test]
    fn bytes_that_are_no_sketch_are_refused() {
        let wrong: [&[u8]; 6] = [
            &[],
            &[2],
            &[1, 5],
            &[1, 0x80],
            &[1, 5, 1, 0, 1],
            &[1, 0xff, 0xff, 0x7f, 1],
        ];
        for bytes in wrong {
            assert_eq!(LatencySketch::from_bytes(bytes), None, "{bytes:?}");
        }
    }
}
