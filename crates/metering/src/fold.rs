//! Events to buckets, periods and totals: pure, and indifferent to grouping.
//!
//! | family | grains | by | latencies |
//! |---|---|---|---|
//! | route | minute, hour | api, organization, subscription, plan, route | yes |
//! | key | hour | api, organization, subscription, key | no |
//! | status | hour | api, organization, subscription, status | no |
//! | country | hour | api, organization, subscription, country | no |
//! | label | hour | api, organization, subscription, `name=value` | no |
//! | api | hour, day | api | yes |
//!
//! Every event adds to each family once (to `label` once for each of its labels), so that the sums
//! of all families but `label` are equal. What an event does not have is the empty dimension.
//!
//! Label values are bounded: see [`LabelValues`]. Which values are folded into `other` depends on
//! the order of events, the sum over a name's values does not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tollgate_model::{
    BucketKey, Counts, Family, Grain, Label, LatencySketch, Outcome, Timestamp, UsageBucket,
    UsageEvent,
};
use tollgate_store::{OutcomeTotals, PeriodScope, PeriodUnits};

/// Most values of one label name that are told apart on one UTC day.
pub const LABEL_VALUES_MAX: usize = 100;
/// Most label names that are told apart on one UTC day.
pub const LABEL_NAMES_MAX: usize = 100;
/// Days of label values that are remembered: late events go back 35.
const LABEL_DAYS_MAX: usize = 40;
/// Where label values beyond the bound are counted.
pub(crate) const OTHER: &str = "other";

/// What a batch adds to the store besides its records.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Folded {
    /// Additions to buckets, each key once, by rising key.
    pub buckets: Vec<UsageBucket>,
    /// Additions to periods, each scope and start once, in rising order.
    pub periods: Vec<PeriodUnits>,
    /// Count and units by outcome.
    pub totals: OutcomeTotals,
}

/// The label values seen so far: at most [`LABEL_VALUES_MAX`] a name and [`LABEL_NAMES_MAX`] names
/// on each day; what comes later is counted under the value `other` (and the name `other`).
#[derive(Debug, Clone, Default)]
pub struct LabelValues {
    days: BTreeMap<Timestamp, HashMap<Arc<str>, HashSet<Arc<str>>>>,
}

impl LabelValues {
    /// The dimension that a label is counted under.
    fn admit(&mut self, at: Timestamp, label: &Label) -> String {
        let day = at.floor_to(Grain::Day.span_us());
        if !self.days.contains_key(&day) && self.days.len() >= LABEL_DAYS_MAX {
            self.days.pop_first();
        }
        let names = self.days.entry(day).or_default();
        if !names.contains_key(&label.name) && names.len() >= LABEL_NAMES_MAX {
            return format!("{OTHER}={OTHER}");
        }
        let values = names.entry(label.name.clone()).or_default();
        let known = values.contains(&label.value);
        if !known && values.len() >= LABEL_VALUES_MAX {
            return format!("{}={OTHER}", label.name);
        }
        if !known {
            values.insert(label.value.clone());
        }
        format!("{}={}", label.name, label.value)
    }
}

#[derive(Default)]
struct Sums {
    counts: Counts,
    latency: Option<LatencySketch>,
}

/// Folds events; the same events in any grouping give the same sums.
#[must_use]
pub fn fold<'a>(
    events: impl IntoIterator<Item = &'a UsageEvent>,
    labels: &mut LabelValues,
) -> Folded {
    let mut buckets: HashMap<BucketKey, Sums> = HashMap::new();
    let mut periods: BTreeMap<(PeriodScope, Timestamp), u64> = BTreeMap::new();
    let mut totals = OutcomeTotals::default();
    for event in events {
        add_to_buckets(event, labels, &mut buckets);
        for (scope, start) in periods_of(event) {
            let sum = periods.entry((scope, start)).or_default();
            *sum = sum.saturating_add(event.units);
        }
        totals.add(event.outcome, event.units);
    }
    let mut buckets: Vec<UsageBucket> = buckets
        .into_iter()
        .map(|(key, sums)| UsageBucket {
            key,
            counts: sums.counts,
            latency: sums.latency,
        })
        .collect();
    buckets.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Folded {
        buckets,
        periods: periods
            .into_iter()
            .map(|((scope, start), units)| PeriodUnits {
                scope,
                start,
                units,
            })
            .collect(),
        totals,
    }
}

/// The quota periods that an event's units were charged to; none where nothing was charged.
pub(crate) fn periods_of(event: &UsageEvent) -> impl Iterator<Item = (PeriodScope, Timestamp)> {
    let subscription = event
        .subscription
        .clone()
        .zip(event.subscription_period)
        .map(|(id, start)| (PeriodScope::Subscription(id), start));
    let key = event
        .key_family
        .clone()
        .or_else(|| event.key.clone())
        .zip(event.key_period)
        .map(|(id, start)| (PeriodScope::Key(id), start));
    let charged = event.units > 0;
    subscription.into_iter().chain(key).filter(move |_| charged)
}

fn add_to_buckets(
    event: &UsageEvent,
    labels: &mut LabelValues,
    buckets: &mut HashMap<BucketKey, Sums>,
) {
    let counts = Counts::of(event);
    let mut add = |family: Family, grain: Grain, dimension: String| {
        let sums = buckets
            .entry(key_of(event, family, grain, dimension))
            .or_default();
        sums.counts.add(&counts);
        if matches!(family, Family::Route | Family::Api) {
            let latency = sums.latency.get_or_insert_with(LatencySketch::new);
            if event.outcome == Outcome::Forwarded {
                latency.add(event.latency_us);
            }
        }
    };
    add(Family::Route, Grain::Minute, event.route.to_string());
    add(Family::Route, Grain::Hour, event.route.to_string());
    add(Family::Key, Grain::Hour, key_name(event));
    add(Family::Status, Grain::Hour, event.status.to_string());
    add(Family::Country, Grain::Hour, country_name(event));
    add(Family::Api, Grain::Hour, String::new());
    add(Family::Api, Grain::Day, String::new());
    for label in &event.labels {
        add(Family::Label, Grain::Hour, labels.admit(event.at, label));
    }
}

fn key_of(event: &UsageEvent, family: Family, grain: Grain, dimension: String) -> BucketKey {
    let by_customer = family != Family::Api;
    let plan = match (&event.plan, family) {
        (Some(plan), Family::Route) => plan.as_str().to_owned(),
        _ => String::new(),
    };
    BucketKey {
        family,
        grain,
        start: event.at.floor_to(grain.span_us()),
        api: event.api.clone(),
        organization: event.organization.clone().filter(|_| by_customer),
        subscription: event.subscription.clone().filter(|_| by_customer),
        plan,
        dimension,
        test: event.test,
    }
}

/// The key's id; empty without one.
pub(crate) fn key_name(event: &UsageEvent) -> String {
    event
        .key
        .as_ref()
        .map(|key| key.as_str().to_owned())
        .unwrap_or_default()
}

/// The country's code; empty where it is not known.
pub(crate) fn country_name(event: &UsageEvent) -> String {
    event
        .country
        .map(|code| String::from_utf8_lossy(&code).into_owned())
        .unwrap_or_default()
}
