//! Against limiters that others have written, where what they mean can be compared.
//!
//! `governor` is a bucket of tokens (GCRA). A bucket of `n` that refills `n` a span admits every
//! sequence with at most `n` in any span, so of any attempts it has admitted at least as many as
//! we have, at every moment. A bucket of `n/2` that refills `n/2` in 62 sixtieths of a span never
//! has more than `n` in 61 sixtieths, which is the longest that a unit counts here: it has
//! admitted at most as many.
//!
//! `limitador` has fixed windows on the system's clock: while none of them ends, it must admit
//! and count the same, all or nothing.

use super::*;
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use limitador::limit::{Context, Limit};
use proptest::prelude::*;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_window_admits_no_more_than_a_bucket_of_its_size_and_no_less_than_one_of_half(
        per in prop::sample::select(vec![Per::Second, Per::Minute, Per::Hour]),
        half in 1u32..20,
        attempts in prop::collection::vec((0u64..2_000, 1usize..12), 1..150),
    ) {
        let (n, clock) = (2 * half, FakeRelativeClock::default());
        let bucket = |burst: u32, refill: Duration| {
            let quota = Quota::with_period(refill).unwrap();
            let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap());
            RateLimiter::direct_with_clock(quota, clock.clone())
        };
        let span = Duration::from_micros(per.span_us());
        let whole = bucket(n, span / n);
        let small = bucket(half, span * 62 / 60 / half);
        let counters = MemoryCounters::new();
        let limits = [window(1, per, n)];
        let (mut us, mut ours, mut most, mut least) = (0, 0, 0, 0);
        for (thousandths, times) in attempts {
            let passed = per.span_us() * thousandths / 1_000;
            us += passed;
            clock.advance(Duration::from_micros(passed));
            for _ in 0..times {
                ours += spend(&counters, &limits, 1, after_us(us));
                most += usize::from(whole.check().is_ok());
                least += usize::from(small.check().is_ok());
                prop_assert!(least <= ours && ours <= most, "{least} <= {ours} <= {most}");
            }
        }
    }

    #[test]
    fn within_fixed_windows_the_same_calls_are_admitted_as_by_limitador(
        maxima in prop::array::uniform4(1u64..40),
        calls in prop::collection::vec((1u8..16, 1u64..5), 1..80),
    ) {
        let theirs = limitador::RateLimiter::new(100);
        let applies = |n: usize| format!("limit_{n} == 'yes'");
        for (n, max) in maxima.iter().enumerate() {
            let when = applies(n).try_into().unwrap();
            // Long enough not to end in the middle.
            let day = 86_400 + n as u64;
            theirs.add_limit(Limit::new("tollgate", *max, day, vec![when], Vec::new()));
        }
        let counters = MemoryCounters::new();
        let max = |n: usize| maxima[n] as u32;
        let first = window(1, Per::Hour, max(0));
        let limits = [
            first,
            beside(&first, window(2, Per::Day, max(1))),
            quota(3, maxima[2], Some(maxima[2])),
            window(4, Per::Day, max(3)),
        ];
        let namespace = "tollgate".into();
        for (bits, cost) in calls {
            let on = |n: &usize| bits & 1 << n != 0;
            let asked: Vec<Applicable> = (0..4).filter(on).map(|n| limits[n]).collect();
            let ours = reserve(&counters, &asked, cost, after_us(0));
            let told = |n: usize| if on(&n) { "yes" } else { "no" };
            let facts: HashMap<String, String> = (0..4)
                .map(|n| (format!("limit_{n}"), told(n).to_owned()))
                .collect();
            let context = Context::from(facts);
            let answer = theirs.check_rate_limited_and_update(&namespace, &context, cost);
            prop_assert_eq!(ours.is_ok(), !answer.unwrap().limited);
            if let Ok(reservation) = ours {
                settle(&counters, reservation, cost);
            }
        }
        // A counter that was never charged is not among theirs.
        let mut used = vec![0; 4];
        for counter in theirs.get_counters(&namespace).unwrap() {
            let n = (counter.limit().seconds() - 86_400) as usize;
            used[n] = maxima[n] - counter.remaining().unwrap();
        }
        prop_assert_eq!(counted(&counters, &limits, after_us(0)), used);
    }
}
