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
//! Buckets of a longer grain are added up from those of the shorter one. Every event adds to each
//! family once (to `label` once for each of its labels), so that the sums
//! of all families but `label` are equal. What an event does not have is the empty dimension.
//!
//! Label values are bounded: see [`LabelValues`]. Which values are folded into `other` depends on
//! the order of events, the sum over a name's values does not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tollgate_model::{
    ApiId, BucketKey, Counts, Family, Grain, Label, LatencySketch, OrganizationId, Outcome,
    SubscriptionId, Timestamp, UsageBucket, UsageEvent,
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

impl Sums {
    fn merge(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        if let Some(theirs) = &other.latency {
            self.latency.get_or_insert_default().merge(theirs);
        }
    }
}

/// A [`BucketKey`] that borrows from the events, so that adding to a bucket that is there already
/// copies nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name<'e> {
    family: Family,
    grain: Grain,
    start: Timestamp,
    api: &'e ApiId,
    organization: Option<&'e OrganizationId>,
    subscription: Option<&'e SubscriptionId>,
    plan: &'e str,
    dimension: Dimension<'e>,
    test: bool,
}

/// Each family has one kind of dimension, so that equal texts are equal here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Dimension<'e> {
    Text(&'e str),
    Status(u16),
    Made(String),
}

impl<'e> Name<'e> {
    fn of(event: &'e UsageEvent, family: Family, grain: Grain, dimension: Dimension<'e>) -> Self {
        let by_customer = family != Family::Api;
        let plan = event.plan.as_ref().filter(|_| family == Family::Route);
        Self {
            family,
            grain,
            start: event.at.floor_to(grain.span_us()),
            api: &event.api,
            organization: event.organization.as_ref().filter(|_| by_customer),
            subscription: event.subscription.as_ref().filter(|_| by_customer),
            plan: plan.map_or("", |plan| plan.as_str()),
            dimension,
            test: event.test,
        }
    }

    /// The bucket of a longer grain that this one is part of.
    fn within(&self, grain: Grain) -> Self {
        Self {
            grain,
            start: self.start.floor_to(grain.span_us()),
            ..self.clone()
        }
    }

    fn into_key(self) -> BucketKey {
        BucketKey {
            family: self.family,
            grain: self.grain,
            start: self.start,
            api: self.api.clone(),
            organization: self.organization.cloned(),
            subscription: self.subscription.cloned(),
            plan: self.plan.to_owned(),
            dimension: match self.dimension {
                Dimension::Text(text) => text.to_owned(),
                Dimension::Status(status) => status.to_string(),
                Dimension::Made(text) => text,
            },
            test: self.test,
        }
    }
}

type Buckets<'e> = HashMap<Name<'e>, Sums>;

/// Folds events; the same events in any grouping give the same sums.
#[must_use]
pub fn fold<'e>(
    events: impl IntoIterator<Item = &'e UsageEvent>,
    labels: &mut LabelValues,
) -> Folded {
    let mut buckets = Buckets::new();
    let mut periods: HashMap<(PeriodScope, Timestamp), u64> = HashMap::new();
    let mut totals = OutcomeTotals::default();
    for event in events {
        add_to_buckets(event, labels, &mut buckets);
        for period in periods_of(event) {
            let sum = periods.entry(period).or_default();
            *sum = sum.saturating_add(event.units);
        }
        totals.add(event.outcome, event.units);
    }
    for (grain, longer) in [(Grain::Minute, Grain::Hour), (Grain::Hour, Grain::Day)] {
        add_to_longer(&mut buckets, grain, longer);
    }
    let mut buckets: Vec<UsageBucket> = buckets
        .into_iter()
        .map(|(name, sums)| UsageBucket {
            key: name.into_key(),
            counts: sums.counts,
            latency: sums.latency,
        })
        .collect();
    buckets.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let mut periods: Vec<PeriodUnits> = periods
        .into_iter()
        .map(|((scope, start), units)| PeriodUnits {
            scope,
            start,
            units,
        })
        .collect();
    periods.sort_unstable_by(|a, b| (&a.scope, a.start).cmp(&(&b.scope, b.start)));
    Folded {
        buckets,
        periods,
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

/// Adds an event to the shortest bucket of each family; [`add_to_longer`] does the rest.
fn add_to_buckets<'e>(event: &'e UsageEvent, labels: &mut LabelValues, buckets: &mut Buckets<'e>) {
    let counts = Counts::of(event);
    let mut add = |family: Family, grain: Grain, dimension: Dimension<'e>| {
        let name = Name::of(event, family, grain, dimension);
        let sums = buckets.entry(name).or_default();
        sums.counts.add(&counts);
        if matches!(family, Family::Route | Family::Api) {
            let latency = sums.latency.get_or_insert_default();
            if event.outcome == Outcome::Forwarded {
                latency.add(event.latency_us);
            }
        }
    };
    let key = event.key.as_ref().map_or("", |key| key.as_str());
    // No country is an empty text; a code that is no text is told as questions tell it.
    let country = match event.country.as_ref().map(|code| std::str::from_utf8(code)) {
        Some(Err(_)) => Dimension::Made(country_name(event)),
        Some(Ok(code)) => Dimension::Text(code),
        None => Dimension::Text(""),
    };
    add(Family::Route, Grain::Minute, Dimension::Text(&event.route));
    add(Family::Key, Grain::Hour, Dimension::Text(key));
    add(Family::Status, Grain::Hour, Dimension::Status(event.status));
    add(Family::Country, Grain::Hour, country);
    add(Family::Api, Grain::Hour, Dimension::Text(""));
    for label in &event.labels {
        let value = Dimension::Made(labels.admit(event.at, label));
        add(Family::Label, Grain::Hour, value);
    }
}

/// Adds up buckets into those of a longer grain, for the families that keep both.
fn add_to_longer(buckets: &mut Buckets<'_>, grain: Grain, longer: Grain) {
    let family = if longer == Grain::Hour {
        Family::Route
    } else {
        Family::Api
    };
    let mut sums = Buckets::new();
    for (name, part) in &*buckets {
        if name.family == family && name.grain == grain {
            sums.entry(name.within(longer)).or_default().merge(part);
        }
    }
    buckets.extend(sums);
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
