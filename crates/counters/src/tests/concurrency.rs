//! Many threads on few counters: admitted is exactly the limit.

use super::*;
use crate::SHARDS;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use tollgate_model::{Charge, Sequence};

/// Settlements with their places.
type Log = Vec<(u64, Vec<Charge>)>;

/// Attempts by several threads at once; the answer is how many were admitted.
fn storm(
    counters: &MemoryCounters,
    limits: &[Applicable],
    threads: usize,
    attempts: usize,
    kept: u64,
) -> usize {
    let admitted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for n in 0..attempts / threads {
                    if let Ok(reservation) = reserve(counters, limits, 1, after_us(n as u64)) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                        settle(counters, reservation, kept);
                    }
                }
            });
        }
    });
    admitted.into_inner()
}

#[test]
fn as_many_are_admitted_as_the_limit_says_whoever_asks_at_once() {
    for threads in [1, 2, 8, 64] {
        for max in [1u32, 7, 1_000, 100_000] {
            let counters = MemoryCounters::new();
            let limits = [window(1, Per::Hour, max)];
            let attempts = (max as usize * 2).max(20_000);
            let admitted = storm(&counters, &limits, threads, attempts, 1);
            assert_eq!(admitted, max as usize, "{threads} threads, limit {max}");
            assert_eq!(
                counted(&counters, &limits, after_us(0)),
                [u64::from(max)],
                "refused attempts are charged nothing"
            );
        }
    }
}

#[test]
fn several_windows_and_quotas_are_charged_all_or_none() {
    for threads in [1, 4, 64] {
        let counters = MemoryCounters::new();
        // Threads name them in different orders; locks are taken in one.
        let forth = [
            window(9, Per::Hour, 4_000),
            window(70, Per::Day, 9_000),
            quota(3, 2_500, Some(2_500)),
            quota(131, 7_000, Some(7_000)),
        ];
        let back: Vec<Applicable> = forth.iter().rev().copied().collect();
        let admitted = AtomicUsize::new(0);
        thread::scope(|scope| {
            for n in 0..threads {
                let limits = if n % 2 == 0 { &forth[..] } else { &back[..] };
                let (counters, admitted) = (&counters, &admitted);
                scope.spawn(move || {
                    let mine = spend(counters, limits, 60_000 / threads, after_us(0));
                    admitted.fetch_add(mine, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(admitted.into_inner(), 2_500);
        assert_eq!(counted(&counters, &forth, after_us(0)), [2_500; 4]);
    }
}

#[test]
fn what_is_given_back_by_many_at_once_is_all_there_again() {
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Hour, 64), quota(2, 64, Some(64))];
    // Never more than 8 in flight, each given back in full: all are admitted.
    assert_eq!(storm(&counters, &limits, 8, 80_000, 0), 80_000);
    assert_eq!(counted(&counters, &limits, after_us(0)), [0, 0]);
    assert_eq!(counters.totals().charges_in_flight, 0);
}

#[test]
fn a_snapshot_holds_a_settlement_if_and_only_if_its_place_lies_before_the_positions() {
    const THREADS: usize = 4;
    const CALLS: u64 = 20_000;
    let counters = MemoryCounters::new();
    let limits = [window(1, Per::Hour, 4_000_000), quota(2, 1 << 40, None)];
    let next: [AtomicU64; THREADS] = Default::default();
    let logs: [Mutex<Log>; THREADS] = Default::default();
    let snapshots = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (counters, next, logs) = (&counters, &next[thread], &logs[thread]);
            scope.spawn(move || {
                for n in 0..CALLS {
                    let reservation = reserve(counters, &limits, 3, after_us(n)).unwrap();
                    counters.settle(reservation, n % 4, n % 3, &mut |charges| {
                        let sequence = next.fetch_add(1, Ordering::Relaxed);
                        logs.lock().push((sequence, charges.to_vec()));
                    });
                }
            });
        }
        scope.spawn(|| {
            for n in 0..2_000u16 {
                let mut positions = || {
                    next.iter()
                        .map(|n| Sequence(n.load(Ordering::Relaxed)))
                        .collect()
                };
                let taken = counters.snapshot_shard(n % SHARDS, after_us(0), &mut positions);
                snapshots.lock().extend(taken);
            }
        });
    });
    let logs: Vec<_> = logs.into_iter().map(Mutex::into_inner).collect();
    for snapshot in snapshots.into_inner() {
        for state in &snapshot.counters {
            let before: u64 = logs
                .iter()
                .zip(&snapshot.positions)
                .flat_map(|(log, position)| log.iter().filter(|(s, _)| *s < position.0))
                .flat_map(|(_, charges)| charges)
                .filter(|charge| charge.counter == state.counter)
                .map(|charge| charge.kept)
                .sum();
            assert_eq!(state.settled, before);
        }
    }
}
