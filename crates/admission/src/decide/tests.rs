//! Decisions by table, and against a naive log.

use super::*;
use crate::name::Length;
use crate::window::slot_at;
use proptest::prelude::*;
use tollgate_model::{CounterId, Every, Per};

const NOW: Now = Now {
    wall: Timestamp(1_764_000_000_000_000),
    ticks: Ticks(1_764_000_000_000_000),
};

fn window(per: Per, max: Option<u32>, shadow_max: Option<u32>) -> Applicable {
    Applicable {
        counter: CounterId(u128::from(per.span_us())),
        name: LimitName {
            length: Length::Window(per),
            by: By::Subscription,
            on_route: false,
        },
        rule: Rule::Window {
            per,
            max,
            shadow_max,
        },
    }
}

fn quota(units: u64, refuse_at: Option<u64>, ends_in_us: i64) -> Applicable {
    Applicable {
        counter: CounterId(9),
        name: LimitName {
            length: Length::Period(Every::Month),
            by: By::Subscription,
            on_route: false,
        },
        rule: Rule::Quota {
            every: Every::Month,
            units: Some(units),
            refuse_at,
            period: Period {
                start: Timestamp(0),
                end: NOW.wall.plus_us(ends_in_us),
            },
        },
    }
}

fn full(per: Per, units: u64, limit: &Applicable, cost: u64) -> Reading {
    let mut filled = Window::new(per);
    filled.advance(NOW.ticks);
    filled.add(units);
    Reading::of_window(&filled, limit, cost)
}

fn refused(limits: &[Applicable], readings: &[Reading], cost: u64) -> Refusal {
    match decide(limits, readings, cost, NOW, Enforcement::Enforce) {
        Verdict::Deny(refusal) => refusal,
        admitted @ Verdict::Admit { .. } => panic!("{admitted:?}"),
    }
}

#[test]
fn the_limit_that_opens_last_names_the_refusal_and_its_wait_is_everyones() {
    let minute = window(Per::Minute, Some(5), None);
    let hour = window(Per::Hour, Some(5), None);
    let month = quota(5, Some(5), 1_800_000_001);
    let limits = [minute, hour, month];
    let readings = [
        full(Per::Minute, 5, &minute, 1),
        full(Per::Hour, 5, &hour, 1),
        Reading::of_quota(5),
    ];
    let refusal = refused(&limits, &readings, 1);
    assert_eq!(refusal.name.as_str(), "hour-subscription");
    assert_eq!(refusal.code, DenialCode::RateLimited);
    // Noon is the beginning of a slot of the hour, so all of it and one more slot must pass.
    assert_eq!(refusal.retry_after_s, Some(3_660));
    assert_eq!(refusal.reset_at, Some(NOW.wall.plus_us(3_660_000_000)));
    assert_eq!((refusal.limit, refusal.used, refusal.remaining), (5, 5, 0));

    let readings = [
        full(Per::Minute, 5, &minute, 1),
        full(Per::Hour, 4, &hour, 1),
        Reading::of_quota(5),
    ];
    let refusal = refused(&limits, &readings, 1);
    assert_eq!(refusal.name.as_str(), "month-subscription");
    assert_eq!(refusal.code, DenialCode::QuotaExceeded);
    assert_eq!(refusal.retry_after_s, Some(1_801));
    assert!(refusal.period.is_some());
}

#[test]
fn a_call_that_can_never_pass_is_told_no_time() {
    let minute = window(Per::Minute, Some(5), None);
    let refusal = refused(&[minute], &[full(Per::Minute, 0, &minute, 6)], 6);
    assert_eq!((refusal.retry_after_s, refusal.reset_at), (None, None));
    assert_eq!(refusal.remaining, 5);

    let nothing = window(Per::Minute, Some(0), None);
    for cost in [0, 1] {
        let refusal = refused(&[nothing], &[full(Per::Minute, 0, &nothing, cost)], cost);
        assert_eq!(refusal.retry_after_s, None);
    }
    // Never outlasts any wait.
    let month = quota(3, Some(3), 5_000_000);
    let refusal = refused(
        &[minute, month],
        &[full(Per::Minute, 5, &minute, 4), Reading::of_quota(0)],
        4,
    );
    assert_eq!(refusal.name.as_str(), "month-subscription");
    assert_eq!(refusal.retry_after_s, None);
}

#[test]
fn quotas_refuse_at_their_ceiling_only() {
    let admits = |refuse_at, used, cost| {
        let limit = quota(1_000, refuse_at, 1_000_000);
        let verdict = decide(
            &[limit],
            &[Reading::of_quota(used)],
            cost,
            NOW,
            Enforcement::Enforce,
        );
        matches!(verdict, Verdict::Admit { .. })
    };
    assert!(admits(Some(1_000), 999, 1));
    assert!(!admits(Some(1_000), 1_000, 1));
    assert!(!admits(Some(1_000), 998, 3));
    assert!(admits(Some(1_100), 1_099, 1));
    assert!(!admits(Some(1_100), 1_100, 1));
    assert!(admits(None, 5_000_000, 7));
}

#[test]
fn shadows_and_observed_limits_refuse_nothing_and_are_told() {
    let shadowed = window(Per::Minute, Some(10), Some(3));
    let reading = |units| full(Per::Minute, units, &shadowed, 1);
    let decided = |units, enforcement| decide(&[shadowed], &[reading(units)], 1, NOW, enforcement);
    let admitted = |would_deny: bool, charge_windows| Verdict::Admit {
        would_deny: would_deny.then_some(shadowed.name),
        charge_windows,
    };
    assert_eq!(decided(2, Enforcement::Enforce), admitted(false, true));
    assert_eq!(decided(3, Enforcement::Enforce), admitted(true, true));
    assert!(matches!(
        decided(10, Enforcement::Enforce),
        Verdict::Deny(_)
    ));
    assert_eq!(decided(3, Enforcement::Observe), admitted(true, true));
    assert_eq!(decided(10, Enforcement::Observe), admitted(true, false));
    assert_eq!(decided(10, Enforcement::Off), admitted(false, false));
}

#[test]
fn a_cost_as_large_as_the_allowance_waits_for_the_next_period() {
    let month = quota(5, Some(5), 7_500_000);
    let refusal = refused(&[month], &[Reading::of_quota(1)], 5);
    assert_eq!(refusal.retry_after_s, Some(8));
    assert_eq!(refusal.reset_at, Some(NOW.wall.plus_us(7_500_000)));
    let refusal = refused(&[month], &[Reading::of_quota(1)], 6);
    assert_eq!((refusal.retry_after_s, refusal.reset_at), (None, None));
    let closed = quota(5, Some(0), 7_500_000);
    for cost in [0, 1] {
        let refusal = refused(&[closed], &[Reading::of_quota(0)], cost);
        assert_eq!((refusal.retry_after_s, refusal.reset_at), (None, None));
    }
}

/// One unit in each of ten seconds.
fn one_a_second(per: Per) -> Window {
    let mut filled = Window::new(per);
    for s in 0..10 {
        filled.advance(NOW.ticks.plus_us(s * 1_000_000));
        filled.add(1);
    }
    filled
}

#[test]
fn a_refusal_waits_for_the_limit_and_not_for_its_shadow() {
    let limit = window(Per::Minute, Some(10), Some(3));
    let reading = Reading::of_window(&one_a_second(Per::Minute), &limit, 1);
    // The first unit leaves after a span and a slot: then the tenth fits, the third long not.
    assert_eq!(reading.opens_at, Some(NOW.ticks.plus_us(61_000_000)));
    assert_eq!(reading.grows_at, Some(NOW.ticks.plus_us(61_000_000)));
    assert_eq!(reading.counted, 10);
    // Where only the shadow would refuse, its own wait counts.
    let limit = window(Per::Minute, Some(20), Some(3));
    let reading = Reading::of_window(&one_a_second(Per::Minute), &limit, 1);
    assert_eq!(reading.opens_at, Some(NOW.ticks.plus_us(68_000_000)));
    assert_eq!(reading.grows_at, Some(NOW.ticks.plus_us(61_000_000)));
    // Where both have room nothing is waited for.
    let limit = window(Per::Minute, Some(20), Some(15));
    let reading = Reading::of_window(&one_a_second(Per::Minute), &limit, 1);
    assert_eq!(reading.opens_at, Some(Ticks(0)));
}

#[test]
fn of_several_shadows_the_one_that_opens_last_is_told() {
    // The hour's shadow needs less room than the minute's, but its slots are longer.
    let minute = window(Per::Minute, Some(20), Some(3));
    let hour = window(Per::Hour, Some(20), Some(9));
    let limits = [minute, hour];
    let readings = [
        Reading::of_window(&one_a_second(Per::Minute), &minute, 1),
        Reading::of_window(&one_a_second(Per::Hour), &hour, 1),
    ];
    let verdict = |limits: &[Applicable], readings: &[Reading]| {
        decide(limits, readings, 1, NOW, Enforcement::Enforce)
    };
    let told = Verdict::Admit {
        would_deny: Some(hour.name),
        charge_windows: true,
    };
    assert_eq!(verdict(&limits, &readings), told);
    let (limits, readings) = ([hour, minute], [readings[1], readings[0]]);
    assert_eq!(verdict(&limits, &readings), told);
}

#[test]
fn where_a_limit_stands_is_told_quotas_first() {
    let minute = window(Per::Minute, Some(10), None);
    let told = describe(
        &[minute, quota(100, Some(100), 5_000_000)],
        &[full(Per::Minute, 4, &minute, 1), Reading::of_quota(120)],
        NOW,
    );
    assert_eq!(&*told[0].name, "month-subscription");
    assert_eq!((told[0].used, told[0].remaining), (120, Some(0)));
    assert_eq!(told[0].resets_at, Some(NOW.wall.plus_us(5_000_000)));
    assert_eq!(&*told[1].name, "minute-subscription");
    assert_eq!((told[1].limit, told[1].remaining), (Some(10), Some(6)));
    assert_eq!(told[1].resets_at, Some(NOW.wall.plus_us(61_000_000)));
}

proptest! {
    /// Asking again when `Retry-After` says succeeds; asking a second before the instant does not.
    #[test]
    fn asking_again_after_retry_after_succeeds_and_not_a_second_sooner(
        steps in prop::collection::vec((0u64..2_000_000, 1u64..5), 1..60),
        maxima in prop::collection::vec(1u32..30, 3),
        cost in 1u64..6,
        quota_used in 0u64..20,
        quota_ends_in_us in 1i64..100_000_000,
    ) {
        let pers = [Per::Second, Per::Minute, Per::Hour];
        let limits: Vec<Applicable> = pers.iter().zip(&maxima)
            .map(|(per, max)| window(*per, Some(*max), None))
            .collect();
        let mut windows: Vec<Window> = pers.iter().map(|per| Window::new(*per)).collect();
        let mut us = 0;
        for (pass, units) in steps {
            us += pass;
            for window in &mut windows {
                window.advance(NOW.ticks.plus_us(us));
                window.add(units);
            }
        }
        let month = quota(20, Some(20), quota_ends_in_us + us as i64);
        let at = |us: u64| Now { wall: NOW.wall.plus_us(us as i64), ticks: NOW.ticks.plus_us(us) };
        let verdict_at = |us: u64| {
            let mut all = limits.clone();
            let mut readings: Vec<Reading> = windows.iter().zip(&limits).map(|(window, limit)| {
                let mut window = window.clone();
                window.advance(at(us).ticks);
                Reading::of_window(&window, limit, cost)
            }).collect();
            // After its period the quota is another, empty counter.
            if us < (month_end(&month).0 - NOW.wall.0) as u64 {
                all.push(month);
                readings.push(Reading::of_quota(quota_used));
            }
            decide(&all, &readings, cost, at(us), Enforcement::Enforce)
        };
        if let Verdict::Deny(refusal) = verdict_at(us) {
            match refusal.retry_after_s {
                Some(s) => {
                    let again = verdict_at(us + s * 1_000_000);
                    prop_assert!(!denied(&again), "after {} s: {:?}", s, again);
                    let reset = (refusal.reset_at.unwrap().0 - NOW.wall.0) as u64;
                    prop_assert!(!denied(&verdict_at(reset)));
                    prop_assert!(denied(&verdict_at(reset - 1)));
                    prop_assert!(reset - us <= s * 1_000_000 && (s == 1 || reset - us > (s - 1) * 1_000_000));
                }
                None => prop_assert!(maxima.iter().any(|max| cost > u64::from(*max))),
            }
        }
    }

    /// Against a list of everything ever admitted, over several windows at once.
    #[test]
    fn no_interval_of_any_window_ever_holds_more_than_its_maximum(
        steps in prop::collection::vec((0u64..700_000, 1u64..4), 1..300),
        second in 1u32..12,
        minute in 1u32..40,
    ) {
        let limits = [window(Per::Second, Some(second), None), window(Per::Minute, Some(minute), None)];
        let mut windows = [Window::new(Per::Second), Window::new(Per::Minute)];
        let mut log: Vec<(u64, u64)> = Vec::new();
        let mut us = 1_764_000_000_000_003u64;
        for (pass, cost) in steps {
            us += pass;
            let now = Now { wall: Timestamp(us as i64), ticks: Ticks(us) };
            let mut readings = Vec::new();
            for (window, limit) in windows.iter_mut().zip(&limits) {
                window.advance(now.ticks);
                readings.push(Reading::of_window(window, limit, cost));
            }
            let verdict = decide(&limits, &readings, cost, now, Enforcement::Enforce);
            let naive = [(Per::Second, second), (Per::Minute, minute)].into_iter().all(|(per, max)| {
                let current = slot_at(per, now.ticks);
                let counted: u64 = log.iter()
                    .filter(|(at, _)| current - slot_at(per, Ticks(*at)) <= 60)
                    .map(|(_, units)| units).sum();
                counted + cost <= u64::from(max)
            });
            prop_assert_eq!(matches!(verdict, Verdict::Admit { .. }), naive);
            if naive {
                log.push((us, cost));
                for window in &mut windows {
                    window.add(cost);
                }
            }
            for (per, max) in [(Per::Second, second), (Per::Minute, minute)] {
                let inside: u64 = log.iter()
                    .filter(|(at, _)| us - at < per.span_us())
                    .map(|(_, units)| units).sum();
                prop_assert!(inside <= u64::from(max));
            }
        }
    }
}

#[test]
fn a_slots_end_is_one_instant_however_the_two_clocks_are_read() {
    let limit = window(Per::Minute, Some(10), None);
    let opens = NOW.ticks.plus_us(41_500_000);
    let reading = Reading {
        counted: 10,
        grows_at: Some(opens),
        opens_at: Some(opens),
    };
    let told = |ticks_us: u64, wall_us: i64| {
        let now = Now {
            wall: NOW.wall.plus_us(wall_us),
            ticks: NOW.ticks.plus_us(ticks_us),
        };
        let refused = decide(&[limit], &[reading], 1, now, Enforcement::Enforce);
        let Verdict::Deny(refusal) = refused else {
            panic!("it is full");
        };
        assert_eq!(refusal.reset_at, grows_at(&limit, &reading, now));
        refusal.reset_at
    };
    let first = told(0, 0);
    assert_eq!(first, Some(NOW.wall.plus_us(41_500_000)));
    for (ticks_us, wall_us) in [(1_000, 1_001), (1_000, 999), (2_000_000, 2_000_003)] {
        assert_eq!(told(ticks_us, wall_us), first);
    }
    // A wall clock that was set an hour ahead is told ahead.
    let hour_us = 3_600_000_000;
    assert_eq!(told(0, hour_us), first.map(|at| at.plus_us(hour_us)));
}

fn denied(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Deny(_))
}

fn month_end(limit: &Applicable) -> Timestamp {
    match limit.rule {
        Rule::Quota { period, .. } => period.end,
        Rule::Window { .. } => Timestamp(0),
    }
}
