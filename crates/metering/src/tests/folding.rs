//! Folding is indifferent to grouping, and every family counts every event.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{event_of, seeds};
use crate::{Folded, LABEL_VALUES_MAX, LabelValues, fold};
use proptest::prelude::*;
use tollgate_model::{BucketKey, Counts, Family, Grain, Label, LatencySketch, UsageEvent};
use tollgate_store::PeriodUnits;
use tollgate_store::testing::HOUR_US;

type Sums = BTreeMap<BucketKey, (Counts, Option<LatencySketch>)>;

fn add(sums: &mut Sums, folded: &Folded) {
    for bucket in &folded.buckets {
        let (counts, latency) = sums.entry(bucket.key.clone()).or_default();
        counts.add(&bucket.counts);
        if let Some(more) = &bucket.latency {
            latency.get_or_insert_with(LatencySketch::new).merge(more);
        }
    }
}

fn add_periods(sums: &mut BTreeMap<String, u64>, periods: &[PeriodUnits]) {
    for period in periods {
        let name = format!("{:?} {}", period.scope, period.start);
        *sums.entry(name).or_default() += period.units;
    }
}

proptest! {
    #[test]
    fn any_grouping_gives_equal_sums(
        seeds in seeds(50 * HOUR_US, 120),
        cuts in prop::collection::vec(0usize..120, 0..6),
    ) {
        let events: Vec<UsageEvent> =
            seeds.iter().enumerate().map(|(n, seed)| event_of(n, seed)).collect();
        let whole = fold(&events, &mut LabelValues::default());
        let (mut expected, mut expected_periods) = (Sums::new(), BTreeMap::new());
        add(&mut expected, &whole);
        add_periods(&mut expected_periods, &whole.periods);

        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(events.len())).collect();
        cuts.extend([0, events.len()]);
        cuts.sort_unstable();
        let (mut sums, mut periods) = (Sums::new(), BTreeMap::new());
        let mut totals = tollgate_store::OutcomeTotals::default();
        // The parts in reverse: the order of batches has no meaning either.
        for part in cuts.windows(2).rev() {
            let folded = fold(&events[part[0]..part[1]], &mut LabelValues::default());
            add(&mut sums, &folded);
            add_periods(&mut periods, &folded.periods);
            totals.merge(&folded.totals);
        }
        prop_assert_eq!(sums, expected);
        prop_assert_eq!(periods, expected_periods);
        prop_assert_eq!(totals, whole.totals);
    }

    #[test]
    fn every_family_but_labels_counts_every_event(seeds in seeds(50 * HOUR_US, 60)) {
        let events: Vec<UsageEvent> =
            seeds.iter().enumerate().map(|(n, seed)| event_of(n, seed)).collect();
        let mut whole = Counts::default();
        events.iter().for_each(|event| whole.add(&Counts::of(event)));
        let folded = fold(&events, &mut LabelValues::default());
        for (family, grain) in [
            (Family::Route, Grain::Minute),
            (Family::Route, Grain::Hour),
            (Family::Key, Grain::Hour),
            (Family::Status, Grain::Hour),
            (Family::Country, Grain::Hour),
            (Family::Api, Grain::Hour),
            (Family::Api, Grain::Day),
        ] {
            let mut sum = Counts::default();
            for bucket in &folded.buckets {
                if bucket.key.family == family && bucket.key.grain == grain {
                    sum.add(&bucket.counts);
                }
            }
            prop_assert_eq!(sum, whole, "{:?} {:?}", family, grain);
        }
    }
}

#[test]
fn label_values_beyond_the_bound_are_counted_as_other() {
    let mut labels = LabelValues::default();
    let mut sums = Sums::new();
    for n in 0..LABEL_VALUES_MAX + 30 {
        let mut event = tollgate_store::testing::event(0);
        event.labels = vec![Label {
            name: Arc::from("source"),
            value: Arc::from(format!("value {n}")),
        }];
        // Over many batches, and a value that came early stays known.
        let early = UsageEvent {
            labels: vec![Label {
                name: Arc::from("source"),
                value: Arc::from("value 0"),
            }],
            ..event.clone()
        };
        add(&mut sums, &fold([&event, &early], &mut labels));
    }
    let by_value: BTreeMap<&str, u64> = sums
        .iter()
        .filter(|(key, _)| key.family == Family::Label)
        .map(|(key, (counts, _))| (key.dimension.as_str(), counts.requests))
        .collect();
    assert_eq!(by_value.len(), LABEL_VALUES_MAX + 1);
    assert_eq!(by_value["source=other"], 30);
    assert_eq!(by_value["source=value 0"], LABEL_VALUES_MAX as u64 + 31);
}
