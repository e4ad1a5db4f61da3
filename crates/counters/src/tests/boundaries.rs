//! The edges of windows and periods, to the tick; limits that change; costs that are not known.

use super::*;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use tollgate_admission::{Cost, Ended, SLOTS_PER_SPAN, charge, slot_at, slot_expires_at};
use tollgate_model::{By, CounterScope, Outcome, PeriodBasis, StatusSet, period_at};

fn at_tick(tick: u64) -> Now {
    Now {
        wall: Timestamp(tick as i64),
        ticks: Ticks(tick),
    }
}

/// The first tick of a slot near the start.
fn slot_start(per: Per, slots_on: u64) -> u64 {
    let slot = slot_at(per, Ticks(START_US)) + slots_on;
    (slot * per.span_us()).div_ceil(SLOTS_PER_SPAN)
}

#[test]
fn a_full_window_refuses_until_the_tick_before_it_opens_and_admits_on_that_tick() {
    for per in Per::ALL {
        for offset in [-1i64, 0, 1] {
            let counters = MemoryCounters::new();
            let limits = [window(1, per, 5)];
            let filled = slot_start(per, 3).checked_add_signed(offset).unwrap();
            assert_eq!(spend(&counters, &limits, 9, at_tick(filled)), 5);
            let opens = slot_expires_at(per, slot_at(per, Ticks(filled))).0;
            assert!(opens - filled > per.span_us(), "{per:?} {offset}");
            for early in [
                filled + per.span_us() - 1,
                filled + per.span_us(),
                opens - 1,
            ] {
                assert_eq!(spend(&counters, &limits, 1, at_tick(early)), 0);
            }
            assert_eq!(spend(&counters, &limits, 9, at_tick(opens)), 5);
        }
    }
}

#[test]
fn the_instant_a_period_ends_belongs_to_the_next_one() {
    for zone in [
        "UTC",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "Pacific/Apia",
    ] {
        let zone = TimeZone::get(zone).unwrap();
        let scope = CounterScope {
            by: By::Subscription,
            id: "acme",
            route: None,
        };
        let of = |at: Timestamp| {
            let anchor = jiff::civil::date(2026, 1, 31);
            let period = period_at(at, Every::Month, PeriodBasis::Anniversary, anchor, &zone);
            let period = period.unwrap();
            let mut limit = quota(1, 3, Some(3));
            limit.counter = CounterId::quota(scope).in_period(period.start);
            if let Rule::Quota { period: of, .. } = &mut limit.rule {
                *of = period;
            }
            (limit, period)
        };
        let counters = MemoryCounters::new();
        let mut at = Timestamp(START_US as i64);
        for _ in 0..14 {
            let (_, period) = of(at);
            let (last, first) = (Timestamp(period.end.0 - 1), period.end);
            assert_eq!(of(first).1.start, period.end);
            assert_eq!(
                spend(&counters, &[of(last).0], 9, at_tick(last.0 as u64)),
                3
            );
            assert_eq!(
                spend(&counters, &[of(period.start).0], 9, at_tick(last.0 as u64)),
                0
            );
            assert_eq!(
                spend(&counters, &[of(first).0], 1, at_tick(first.0 as u64)),
                1
            );
            assert_eq!(
                spend(&counters, &[of(first).0], 9, at_tick(first.0 as u64)),
                2
            );
            // The next round begins with this one full: its last instant admits nothing more.
            at = first;
            let next = of(at).1;
            assert_eq!(
                spend(&counters, &[of(at).0], 9, at_tick(next.end.0 as u64 - 1)),
                0
            );
            at = next.end;
        }
    }
}

/// Moments on the edges of slots and around them, now and then far on.
fn edge(per: Per) -> impl Strategy<Value = u64> {
    (
        0u64..200,
        prop_oneof![Just(-1i64), Just(0), Just(1), -500i64..500],
    )
        .prop_map(move |(slot, off)| slot_start(per, slot).saturating_add_signed(off))
}

fn edges() -> impl Strategy<Value = (Per, Vec<(u64, u64)>)> {
    prop::sample::select(Per::ALL.to_vec()).prop_flat_map(|per| {
        let attempts = prop::collection::vec((edge(per), 1u64..4), 1..120);
        (Just(per), attempts)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// No burst of twice the limit over an edge, and no refusal without reason.
    #[test]
    fn any_span_holds_the_limit_at_most_and_a_refusal_means_that_the_last_span_was_full(
        (per, mut attempts) in edges(),
        max in 1u32..12,
    ) {
        attempts.sort_unstable();
        let counters = MemoryCounters::new();
        let limits = [window(1, per, max)];
        let max = u64::from(max);
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (tick, cost) in attempts {
            let units_since = |since: u64| -> u64 {
                admitted.iter().filter(|(at, _)| *at > since).map(|(_, n)| n).sum()
            };
            // Half open: what was admitted exactly one span ago is no longer in the span.
            let in_span = units_since(tick - per.span_us());
            let in_longest = units_since(tick - per.span_us() - per.span_us() / 60 - 1);
            match reserve(&counters, &limits, cost, at_tick(tick)) {
                Ok(reservation) => {
                    prop_assert!(in_span + cost <= max, "{in_span} + {cost} > {max}");
                    settle(&counters, reservation, cost);
                    admitted.push((tick, cost));
                }
                Err(_) => prop_assert!(in_longest + cost > max),
            }
        }
    }

    /// What was consumed carries over every change of the maximum: what is admitted in all is
    /// never more than the highest maximum there was, and after a change exactly what is left.
    #[test]
    fn a_limit_raised_or_lowered_keeps_what_was_consumed(
        maxima in prop::collection::vec(0u32..50, 1..12),
        asks in prop::collection::vec(0usize..20, 12),
    ) {
        let counters = MemoryCounters::new();
        let mut consumed = 0;
        for (max, asks) in maxima.iter().zip(asks) {
            let (max, units) = (*max, u64::from(*max));
            let limits = [window(1, Per::Day, max), quota(2, units, Some(units))];
            let left = (max as usize).saturating_sub(consumed);
            let admitted = spend(&counters, &limits, asks, after_us(0));
            prop_assert_eq!(admitted, asks.min(left));
            consumed += admitted;
            prop_assert_eq!(counted(&counters, &limits, after_us(0)), vec![consumed as u64; 2]);
        }
    }

    /// Calls whose cost is told at the end reserve the most it can come to: what is settled and
    /// what may still come never pass the limit, whatever upstreams state.
    #[test]
    fn calls_of_unknown_cost_never_come_to_more_than_the_limit(
        calls in prop::collection::vec(
            (0u64..5, 0u64..20, prop::option::of(0u64..60), 0usize..4, any::<bool>()),
            1..120,
        ),
        max in 1u32..200,
    ) {
        let counters = MemoryCounters::new();
        let limits = [
            window(1, Per::Hour, max),
            quota(2, u64::from(max), Some(u64::from(max))),
        ];
        let charged = StatusSet::default_charge();
        let mut open: Vec<(Reservation, Cost, u64)> = Vec::new();
        let mut settled = [0u64; 2];
        for (cost, cost_max, stated, which, ends) in calls {
            let price = Cost { cost, cost_max: Some(cost_max) };
            if let Ok(reservation) = reserve(&counters, &limits, price.reserved(), after_us(0)) {
                open.push((reservation, price, price.reserved()));
            }
            if ends && !open.is_empty() {
                let (reservation, price, reserved) = open.swap_remove(which % open.len());
                let kept = charge(price, &Ended {
                    outcome: [Outcome::Forwarded, Outcome::ClientClosed][which % 2],
                    sent: true,
                    head_status: Some([200, 503][which / 2]),
                    stated,
                    charged: &charged,
                });
                prop_assert!(kept.windows <= reserved && kept.quotas <= kept.windows);
                counters.settle(reservation, kept.windows, kept.quotas, &mut |_| {});
                settled[0] += kept.windows;
                settled[1] += kept.quotas;
            }
            let in_flight: u64 = open.iter().map(|(_, _, reserved)| reserved).sum();
            let now = settled.map(|units| units + in_flight);
            prop_assert!(now.iter().all(|units| *units <= u64::from(max)));
            prop_assert_eq!(counted(&counters, &limits, after_us(0)), now);
        }
        for (reservation, ..) in open {
            settle(&counters, reservation, 0);
        }
    }
}
