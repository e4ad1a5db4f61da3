//! What one caller sees.

use super::*;
use crate::{Checkpointed, Logged, Position, SHARDS, Totals};
use tollgate_model::{CounterKind, DenialCode, Sequence};

const MINUTE_US: u64 = 60_000_000;

#[test]
fn a_refused_request_is_charged_on_no_counter_and_makes_none() {
    let counters = MemoryCounters::new();
    let small = window(1, Per::Minute, 2);
    let large = window(2, Per::Hour, 100);
    let month = quota(3, 100, Some(100));
    let limits = [small, large, month];
    assert_eq!(spend(&counters, &limits, 10, after_us(0)), 2);
    assert_eq!(counted(&counters, &limits, after_us(0)), [2, 2, 2]);
    let never = [window(4, Per::Second, 0), large, quota(5, 9, Some(9))];
    let Err(ReserveError::Denied(denied)) = reserve(&counters, &never, 1, after_us(0)) else {
        panic!("a maximum of 0 refuses everything");
    };
    assert_eq!(denied.refusal.code, DenialCode::RateLimited);
    assert_eq!(denied.readings.len(), 3);
    assert_eq!(counted(&counters, &never, after_us(0)), [0, 2, 0]);
    assert_eq!(
        counters.totals(),
        Totals {
            counters: 3,
            ..Totals::default()
        }
    );
}

#[test]
fn a_refused_grant_charges_nothing() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Minute, 10), quota(2, 10, Some(10))];
    let refused = counters.reserve(&limits, 1, after_us(0), Enforcement::Enforce, &mut NoRoom);
    assert!(matches!(refused, Err(ReserveError::GrantRefused)));
    assert_eq!(counted(&counters, &limits, after_us(0)), [0, 0]);
    assert_eq!(counters.totals(), Totals::default());
}

#[test]
fn readings_of_a_reservation_include_it() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Minute, 10), quota(2, 50, Some(50))];
    let reservation = reserve(&counters, &limits, 3, after_us(0)).unwrap();
    let told: Vec<u64> = reservation.readings().map(|r| r.counted).collect();
    assert_eq!(told, [3, 3]);
    assert!(reservation.readings().next().unwrap().grows_at.is_some());
    settle(&counters, reservation, 3);
}

#[test]
fn marks_are_a_64th_of_what_is_left_and_written_together() {
    let counters = MemoryCounters::new();
    let limits = [
        window(1, Per::Minute, 10),
        window(2, Per::Hour, 6_400),
        quota(3, 10_000_000, Some(10_000_000)),
        quota(4, 5, None),
    ];
    let mut log = Marks::default();
    let reservation = counters
        .reserve(&limits, 1, after_us(0), Enforcement::Enforce, &mut log)
        .unwrap();
    settle(&counters, reservation, 1);
    let granted: Vec<u64> = log.0[0].iter().map(|mark| mark.granted).collect();
    assert_eq!(
        granted,
        [1, 100, 1_024],
        "a quota that refuses nobody needs none"
    );
    // The next request needs a mark on the smallest only, and one that costs more than a grant
    // gets what it costs.
    for (cost, expected) in [(1, vec![2]), (7, vec![9])] {
        let reservation = counters
            .reserve(&limits, cost, after_us(0), Enforcement::Enforce, &mut log)
            .unwrap();
        settle(&counters, reservation, cost);
        let last = log.0.last().unwrap();
        let granted: Vec<u64> = last.iter().map(|mark| mark.granted).collect();
        assert_eq!(granted, expected);
    }
    assert_eq!(log.0.len(), 3);
}

#[test]
fn what_is_given_back_is_free_at_once_but_not_under_the_old_mark() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Minute, 10), quota(2, 10, Some(10))];
    let reservation = reserve(&counters, &limits, 10, after_us(0)).unwrap();
    assert!(reserve(&counters, &limits, 1, after_us(0)).is_err());
    let mut assigned = Vec::new();
    counters.settle(reservation, 4, 1, &mut |charges| {
        assigned = charges.iter().map(|c| (c.reserved, c.kept)).collect();
    });
    assert_eq!(assigned, [(10, 4), (10, 1)]);
    assert_eq!(counted(&counters, &limits, after_us(0)), [4, 1]);
    let mut log = Marks::default();
    let again = counters
        .reserve(&limits, 6, after_us(0), Enforcement::Enforce, &mut log)
        .unwrap();
    let granted: Vec<u64> = log.0[0].iter().map(|mark| mark.granted).collect();
    assert_eq!(granted, [16, 16]);
    settle(&counters, again, 99);
    assert_eq!(counted(&counters, &limits, after_us(0)), [10, 7]);
}

#[test]
fn a_request_that_outlives_its_window_gives_nothing_back_to_it() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Second, 10), quota(2, 100, Some(100))];
    let slow = reserve(&counters, &limits, 5, after_us(0)).unwrap();
    let later = after_us(3_000_000);
    assert_eq!(spend(&counters, &limits, 3, later), 3);
    settle(&counters, slow, 0);
    assert_eq!(counted(&counters, &limits, later), [3, 3]);
}

#[test]
fn observing_refuses_nothing_charges_quotas_and_tells_what_enforcing_would_have_done() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Minute, 2), quota(2, 100, Some(100))];
    let observed = |enforcement| {
        let reservation = counters
            .reserve(&limits, 1, after_us(0), enforcement, &mut Marks::default())
            .unwrap();
        let told = reservation.would_deny().map(LimitName::as_str);
        settle(&counters, reservation, 1);
        told
    };
    let told: Vec<_> = (0..4).map(|_| observed(Enforcement::Observe)).collect();
    let minute = Some("minute-subscription");
    assert_eq!(told, [None, None, minute, minute]);
    assert_eq!(observed(Enforcement::Off), None);
    assert_eq!(counted(&counters, &limits, after_us(0)), [0, 5]);
}

#[test]
fn a_limit_raised_or_lowered_holds_at_once_and_resets_nothing() {
    let counters = MemoryCounters::new();
    let with = |max, units| [window(1, Per::Minute, max), quota(2, units, Some(units))];
    assert_eq!(spend(&counters, &with(10, 100), 50, after_us(0)), 10);
    assert_eq!(spend(&counters, &with(15, 100), 50, after_us(1)), 5);
    assert_eq!(spend(&counters, &with(4, 100), 50, after_us(2)), 0);
    assert_eq!(spend(&counters, &with(20, 17), 50, after_us(3)), 2);
    assert_eq!(counted(&counters, &with(4, 1), after_us(4)), [17, 17]);
}

#[test]
fn only_counters_that_can_refuse_nobody_are_evicted() {
    let counters = MemoryCounters::new();
    let minute = window(1, Per::Minute, 3);
    let month = quota(2, 100, Some(100));
    assert_eq!(spend(&counters, &[minute, month], 3, after_us(0)), 3);
    let in_flight = reserve(&counters, &[window(3, Per::Second, 5)], 1, after_us(0)).unwrap();

    assert_eq!(counters.evict(after_us(MINUTE_US)), 0);
    assert_eq!(spend(&counters, &[minute], 1, after_us(MINUTE_US)), 0);
    assert_eq!(counters.evict(after_us(2 * MINUTE_US)), 1);
    settle(&counters, in_flight, 1);
    assert_eq!(counters.evict(after_us(2 * MINUTE_US)), 1);
    assert_eq!(counted(&counters, &[month], after_us(2 * MINUTE_US)), [3]);
    let hour = 60 * MINUTE_US;
    assert_eq!(counters.evict(after_us(PERIOD_US + hour - 1)), 0);
    assert_eq!(counters.evict(after_us(PERIOD_US + hour)), 1);
    assert_eq!(counters.totals(), Totals::default());
}

#[test]
fn a_window_from_which_all_was_given_back_is_not_evicted_before_its_span_is_over() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Second, 3)];
    let reservation = reserve(&counters, &limits, 3, after_us(0)).unwrap();
    settle(&counters, reservation, 0);
    assert_eq!(counters.evict(after_us(0)), 0);
    assert_eq!(counters.evict(after_us(1_000_000)), 0);
    assert_eq!(counters.evict(after_us(1_000_001)), 1);
}

#[test]
fn a_wall_clock_set_back_reopens_no_quota_that_was_forgotten() {
    let counters = MemoryCounters::new();
    let month = [quota(2, 5, Some(5))];
    assert_eq!(spend(&counters, &month, 9, after_us(0)), 5);
    counters.evict(after_us(PERIOD_US + 60 * MINUTE_US));
    assert_eq!(counters.totals().counters, 0);
    assert_eq!(spend(&counters, &month, 9, after_us(10)), 0);
}

#[test]
fn nor_does_it_after_a_restart() {
    let counters = MemoryCounters::new();
    let month = [quota(2, 5, Some(5))];
    assert_eq!(spend(&counters, &month, 9, after_us(0)), 5);
    let over = after_us(PERIOD_US + 60 * MINUTE_US);
    counters.evict(over);
    let snapshot = |shard| counters.snapshot_shard(shard, over, &mut Vec::new);
    let shards: Vec<_> = (0..SHARDS).filter_map(snapshot).collect();
    let restarted = MemoryCounters::new();
    let checkpoint = Checkpointed {
        epoch: 1,
        shards: &shards,
    };
    restarted.restore(Some(checkpoint), &[], over);
    assert_eq!(spend(&restarted, &month, 9, after_us(10)), 0);
}

#[test]
fn ticks_that_go_backwards_are_taken_as_the_latest() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Second, 5)];
    assert_eq!(spend(&counters, &limits, 9, after_us(5_000_000)), 5);
    let reservation = reserve(
        &counters,
        &[window(1 + u128::from(SHARDS), Per::Second, 5)],
        1,
        after_us(0),
    )
    .unwrap();
    assert_eq!(reservation.at(), after_us(5_000_000).ticks);
    settle(&counters, reservation, 1);
    assert_eq!(spend(&counters, &limits, 9, after_us(0)), 0);
    assert_eq!(counted(&counters, &limits, after_us(0)), [5]);
}

#[test]
fn lost_windows_are_full_for_a_span_and_quotas_come_from_elsewhere() {
    let counters = MemoryCounters::new();
    counters.declare_lost(after_us(0).ticks);
    let limits = [window(1, Per::Minute, 5)];
    assert_eq!(spend(&counters, &limits, 9, after_us(MINUTE_US - 1)), 0);
    let Err(ReserveError::Denied(denied)) = reserve(&counters, &limits, 1, after_us(0)) else {
        panic!("a lost window is full");
    };
    assert!((60..=61).contains(&denied.refusal.retry_after_s.unwrap()));
    assert_eq!(
        spend(&counters, &limits, 9, after_us(MINUTE_US + 1_000_000)),
        5
    );

    let month = quota(2, 10, Some(10));
    counters.seed_quota(month.counter, month.kind(), 7, after_us(0));
    assert_eq!(spend(&counters, &[month], 9, after_us(0)), 3);
    counters.seed_quota(month.counter, month.kind(), 4, after_us(0));
    assert_eq!(counted(&counters, &[month], after_us(0)), [10]);
}

#[test]
fn periods_that_begin_together_share_their_counter_until_the_longer_ends() {
    let counters = MemoryCounters::new();
    let (month, day) = month_and_its_first_day();
    assert_eq!(spend(&counters, &[day], 3, after_us(0)), 3);
    assert_eq!(spend(&counters, &[month], 1, after_us(0)), 1);
    assert_eq!(spend(&counters, &[day], 1, after_us(0)), 1);
    assert_eq!(counters.evict(after_us(3 * 86_400_000_000)), 0);
    assert_eq!(counted(&counters, &[month], after_us(0)), [5]);
}

/// The quota of a month, and of its first day: both begin together.
fn month_and_its_first_day() -> (Applicable, Applicable) {
    let month = quota(2, 10, Some(10));
    let mut day = month;
    if let Rule::Quota { period, .. } = &mut day.rule {
        period.end = period.start.plus_us(86_400_000_000);
    }
    (month, day)
}

#[test]
fn a_used_up_quota_stays_used_up_where_its_period_becomes_longer() {
    type Lengthen = fn(&MemoryCounters, &Applicable);
    let ways: [(&str, Lengthen); 4] = [
        ("a refused call", |counters, month| {
            assert_eq!(spend(counters, &[*month], 1, after_us(1)), 0);
        }),
        ("a question", |counters, month| {
            assert_eq!(counted(counters, &[*month], after_us(1)), [10]);
        }),
        ("what the platform knows", |counters, month| {
            counters.seed_quota(month.counter, month.kind(), 10, after_us(1));
        }),
        ("what is carried over", |counters, month| {
            counters.carry_quota(month.counter, month.kind(), 0, after_us(1));
        }),
    ];
    for (way, lengthen) in ways {
        let counters = MemoryCounters::new();
        let (month, day) = month_and_its_first_day();
        assert_eq!(spend(&counters, &[day], 20, after_us(0)), 10);
        lengthen(&counters, &month);
        assert_eq!(counters.evict(after_us(3 * 86_400_000_000)), 0, "{way}");
        assert_eq!(
            spend(&counters, &[month], 1, after_us(3 * 86_400_000_000)),
            0,
            "{way}"
        );
    }
}

#[test]
fn a_start_keeps_the_longest_of_the_periods_that_shared_a_counter() {
    let before = MemoryCounters::new();
    let (month, day) = month_and_its_first_day();
    assert_eq!(spend(&before, &[day], 3, after_us(0)), 3);
    let copy = |shard| before.snapshot_shard(shard, after_us(1), &mut || vec![Sequence(1)]);
    let shards: Vec<_> = (0..SHARDS).filter_map(copy).collect();
    // The first mark under the longer period lies behind the checkpoint.
    let mut marks = Marks::default();
    let taken = before
        .reserve(&[month], 7, after_us(2), Enforcement::Enforce, &mut marks)
        .unwrap();
    let position = |sequence| Position {
        epoch: 0,
        thread: 0,
        sequence: Sequence(sequence),
    };
    let marked = (position(1), Logged::Mark(marks.0[0][0]));
    let charged = (position(2), Logged::Charge(taken.charges().next().unwrap()));
    for entries in [vec![marked], vec![charged], vec![marked, charged]] {
        let after = MemoryCounters::new();
        let checkpoint = Checkpointed {
            epoch: 0,
            shards: &shards,
        };
        after.restore(Some(checkpoint), &entries, after_us(3));
        assert_eq!(after.evict(after_us(3 * 86_400_000_000)), 0, "{entries:?}");
        assert_eq!(
            spend(&after, &[month], 1, after_us(3 * 86_400_000_000)),
            0,
            "{entries:?}"
        );
    }
}

#[test]
fn what_is_in_flight_is_among_what_is_carried_over() {
    let counters = MemoryCounters::new();
    let month = quota(3, 100, Some(100));
    let taken = reserve(&counters, &[month], 10, after_us(0)).unwrap();
    counters.carry_quota(month.counter, month.kind(), 30, after_us(1));
    assert_eq!(counted(&counters, &[month], after_us(1)), [30]);
    settle(&counters, taken, 10);
    assert_eq!(counted(&counters, &[month], after_us(2)), [30]);
}

#[test]
fn snapshots_hold_every_counter_and_idle_ones_give_their_grants_back() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Hour, 64_000), quota(2, 64_000, Some(64_000))];
    assert_eq!(spend(&counters, &limits, 3, after_us(0)), 3);
    let snapshot = |shard| {
        counters
            .snapshot_shard(shard, after_us(1), &mut Vec::new)
            .unwrap()
    };
    let first = snapshot(1);
    assert_eq!((first.round, first.counters.len()), (1, 1));
    let state = &first.counters[0];
    assert_eq!((state.settled, state.spent, state.reserved), (3, 3, 3));
    assert_eq!(state.granted, 1_000);
    assert_eq!(state.slots.iter().map(|(_, units)| units).sum::<u32>(), 3);
    let second = snapshot(1);
    assert_eq!((second.round, second.counters[0].granted), (2, 3));
    assert!(matches!(
        snapshot(2).counters[0].kind,
        CounterKind::Quota { .. }
    ));
    counters.return_grants();
    assert_eq!(snapshot(2).counters[0].granted, 3);
    assert!(
        counters
            .snapshot_shard(SHARDS, after_us(1), &mut Vec::new)
            .is_none()
    );
}

#[test]
fn a_quota_that_never_refuses_is_counted_beyond_its_allowance() {
    let counters = MemoryCounters::new();
    let limits = [quota(2, 5, None)];
    assert_eq!(spend(&counters, &limits, 9, after_us(0)), 9);
    assert_eq!(counted(&counters, &limits, after_us(0)), [9]);
}

#[test]
fn what_others_account_for_is_held_and_never_lowers_what_is_counted() {
    let counters = MemoryCounters::new();
    let month = quota(3, 100, Some(100));
    assert_eq!(spend(&counters, &[month], 10, after_us(0)), 10);
    let used = || counted(&counters, &[month], after_us(0));
    counters.carry_quota(month.counter, month.kind(), 30, after_us(1));
    assert_eq!(used(), [30]);
    // Told again, or told less: nothing changes.
    counters.carry_quota(month.counter, month.kind(), 30, after_us(2));
    counters.carry_quota(month.counter, month.kind(), 7, after_us(3));
    assert_eq!(used(), [30]);
    assert_eq!(counters.totals().held_units, 20);
    assert_eq!(spend(&counters, &[month], 100, after_us(4)), 70);
    let found = counters.find_quota(month.counter).unwrap();
    assert_eq!((found.used, found.in_flight), (100, 0));
}

#[test]
fn a_request_without_a_record_stays_counted_and_is_not_settled() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Minute, 10), quota(2, 50, Some(50))];
    let taken = reserve(&counters, &limits, 3, after_us(0)).unwrap();
    counters.settle_unrecorded(taken, 3, 2);
    assert_eq!(counted(&counters, &limits, after_us(0)), [3, 2]);
    assert_eq!(counters.totals().held_units, 2);
    assert_eq!(counters.totals().charges_in_flight, 0);
    assert_eq!(settled_of(&counters, limits[1].counter), 0);
}

#[test]
fn a_late_record_settles_what_was_held_for_it() {
    let counters = MemoryCounters::new();
    let limits = [quota(2, 50, Some(50))];
    let taken = reserve(&counters, &limits, 3, after_us(0)).unwrap();
    let charges: Vec<_> = taken.charges().collect();
    counters.settle_unrecorded(taken, 3, 3);
    let mut placed = 0;
    counters.settle_held(&charges, &mut || placed += 1);
    assert_eq!(placed, 1);
    assert_eq!(counted(&counters, &limits, after_us(0)), [3]);
    assert_eq!(counters.totals().held_units, 0);
    assert_eq!(settled_of(&counters, limits[0].counter), 3);
}

fn settled_of(counters: &MemoryCounters, id: tollgate_model::CounterId) -> u64 {
    let shard = (id.0 % u128::from(SHARDS)) as u16;
    let copy = counters.snapshot_shard(shard, after_us(9), &mut Vec::new);
    let copy = copy.unwrap();
    let state = copy.counters.iter().find(|state| state.counter == id);
    state.unwrap().settled
}
