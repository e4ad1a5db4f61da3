//! Buckets put together for an answer; what every SQL adapter does with the rows it read.

use std::collections::BTreeMap;

use tollgate_model::{BucketKey, Counts, LatencySketch, Timestamp, UsageBucket};

/// Buckets as the question wants them: as they are, or one for all starts.
#[derive(Debug)]
pub enum Gathered {
    /// As they are.
    Apart(Vec<UsageBucket>),
    /// One for all starts.
    Merged(BTreeMap<BucketKey, (Counts, Option<LatencySketch>)>),
}

impl Gathered {
    /// `merge_starts` as in [`BucketQuery`](crate::BucketQuery).
    #[must_use]
    pub fn new(merge_starts: bool) -> Self {
        if merge_starts {
            Self::Merged(BTreeMap::new())
        } else {
            Self::Apart(Vec::new())
        }
    }

    /// Adds one; they come by rising key.
    pub fn add(&mut self, mut bucket: UsageBucket) {
        let sums = match self {
            Self::Apart(buckets) => return buckets.push(bucket),
            Self::Merged(sums) => sums,
        };
        bucket.key.start = Timestamp::default();
        let (counts, latency) = sums.entry(bucket.key).or_default();
        counts.add(&bucket.counts);
        match (latency, bucket.latency) {
            (Some(mine), Some(theirs)) => mine.merge(&theirs),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }

    /// All of them, by rising key.
    #[must_use]
    pub fn into_buckets(self) -> Vec<UsageBucket> {
        match self {
            Self::Apart(buckets) => buckets,
            Self::Merged(sums) => sums
                .into_iter()
                .map(|(key, (counts, latency))| UsageBucket {
                    key,
                    counts,
                    latency,
                })
                .collect(),
        }
    }
}
