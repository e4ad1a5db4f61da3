//! What is folded from usage events.
//!
//! A bucket is a pure fold: adding counts and merging sketches is associative and commutative, so
//! that batches may come in any grouping and the sum is the same.

use std::hash::{Hash, Hasher};

use crate::{ApiId, LatencySketch, OrganizationId, Outcome, SubscriptionId, Timestamp, UsageEvent};

/// The length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grain {
    /// Kept for 48 hours.
    Minute,
    /// Kept.
    Hour,
    /// Kept.
    Day,
}

impl Grain {
    /// The length in microseconds (a day is a UTC day here).
    #[must_use]
    pub const fn span_us(self) -> i64 {
        match self {
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
            Self::Day => 86_400_000_000,
        }
    }

    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Minute, Self::Hour, Self::Day]
            .into_iter()
            .find(|grain| grain.as_str() == text)
    }
}

/// Which questions a bucket answers. Not the product of all dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// By subscription, plan and route; minute and hour; with latencies. `dimension`: route.
    Route,
    /// By key; hour; counts. `dimension`: key id.
    Key,
    /// By status; hour; counts. `dimension`: status.
    Status,
    /// By country; hour; counts. `dimension`: country.
    Country,
    /// By label value; hour; counts. `dimension`: `name=value`.
    Label,
    /// By API alone; hour and day; with latencies. `dimension`: empty.
    Api,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 6] = [
        Self::Route,
        Self::Key,
        Self::Status,
        Self::Country,
        Self::Label,
        Self::Api,
    ];

    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Key => "key",
            Self::Status => "status",
            Self::Country => "country",
            Self::Label => "label",
            Self::Api => "api",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.as_str() == text)
    }
}

/// The name of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketKey {
    /// Which questions it answers.
    pub family: Family,
    /// How long it is.
    pub grain: Grain,
    /// Its first instant.
    pub start: Timestamp,
    /// The API called.
    pub api: ApiId,
    /// The customer; `None` for callers without one and for [`Family::Api`].
    pub organization: Option<OrganizationId>,
    /// The subscription; `None` likewise.
    pub subscription: Option<SubscriptionId>,
    /// The plan in force; empty but for [`Family::Route`].
    pub plan: String,
    /// What the family is by.
    pub dimension: String,
    /// Whether test keys made the calls.
    pub test: bool,
}

/// By what tells names apart: whoever takes in events looks for some buckets for every event, and
/// hashing every field was a twelfth of its work. A subscription has one organization, and seldom
/// another plan.
impl Hash for BucketKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let kind = (self.family as i64) << 3 | (self.grain as i64) << 1 | i64::from(self.test);
        (self.start.0 ^ (kind << 55)).hash(state);
        self.api.hash(state);
        self.subscription.hash(state);
        self.dimension.hash(state);
    }
}

/// Sums over requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them, refused ones too.
    pub requests: u64,
    /// What quotas were charged.
    pub units: u64,
    /// Refused at the gate.
    pub denied: u64,
    /// Status 400 and above that we did not refuse.
    pub errors: u64,
    /// Of these, 400 to 499.
    pub client_errors: u64,
    /// Of these, 500 and above.
    pub server_errors: u64,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// How many latencies are in the sums below (forwarded requests only).
    pub latencies: u64,
    /// Their sum in microseconds.
    pub latency_sum_us: u64,
    /// The longest in microseconds.
    pub latency_max_us: u64,
}

impl Counts {
    /// What one event adds.
    #[must_use]
    pub fn of(event: &UsageEvent) -> Self {
        let count = u64::from(event.count);
        let denied = event.outcome == Outcome::Denied;
        let error = |low: u16, high: u16| {
            if !denied && (low..high).contains(&event.status) {
                count
            } else {
                0
            }
        };
        let forwarded = event.outcome == Outcome::Forwarded;
        Self {
            requests: count,
            units: event.units,
            denied: if denied { count } else { 0 },
            errors: error(400, u16::MAX),
            client_errors: error(400, 500),
            server_errors: error(500, u16::MAX),
            bytes_in: event.bytes_in,
            bytes_out: event.bytes_out,
            latencies: u64::from(forwarded),
            latency_sum_us: if forwarded { event.latency_us } else { 0 },
            latency_max_us: if forwarded { event.latency_us } else { 0 },
        }
    }

    /// Adds another sum (saturating: a count that large is wrong anyway, and must not panic).
    pub fn add(&mut self, other: &Self) {
        let sum = |mine: &mut u64, theirs: u64| *mine = mine.saturating_add(theirs);
        sum(&mut self.requests, other.requests);
        sum(&mut self.units, other.units);
        sum(&mut self.denied, other.denied);
        sum(&mut self.errors, other.errors);
        sum(&mut self.client_errors, other.client_errors);
        sum(&mut self.server_errors, other.server_errors);
        sum(&mut self.bytes_in, other.bytes_in);
        sum(&mut self.bytes_out, other.bytes_out);
        sum(&mut self.latencies, other.latencies);
        sum(&mut self.latency_sum_us, other.latency_sum_us);
        self.latency_max_us = self.latency_max_us.max(other.latency_max_us);
    }
}

/// One bucket, or one batch's addition to it.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageBucket {
    /// Its name.
    pub key: BucketKey,
    /// Its sums.
    pub counts: Counts,
    /// Latencies of forwarded requests, in families that keep them.
    pub latency: Option<LatencySketch>,
}
