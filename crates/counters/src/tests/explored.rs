//! Many schedules of a few threads: reserving, settling with the hand-over to the journal, marks,
//! snapshots and evictions, switched at every lock.
//!
//! `TOLLGATE_SHUTTLE_SCHEDULES` sets how many schedules each test walks through.

use super::*;
use crate::memory::evict_shard;
use crate::shard::shard_of;
use crate::sync::explore;
use crate::{Checkpointed, Logged, Position};
use parking_lot::Mutex;
use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use tollgate_admission::slot_at;
use tollgate_model::{Charge, Sequence, ShardSnapshot};

const CALLERS: usize = 3;

fn schedules() -> usize {
    let wanted = std::env::var("TOLLGATE_SHUTTLE_SCHEDULES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(2_000)
}

/// Counters, and a journal in which each caller has a stream.
#[derive(Default)]
struct World {
    counters: MemoryCounters,
    next: [AtomicU64; CALLERS],
    /// Never held over a switch.
    written: Mutex<Vec<(Position, Logged)>>,
    snapshots: Mutex<Vec<ShardSnapshot>>,
    admitted: AtomicUsize,
}

struct Stream<'a>(&'a World, usize);

impl Stream<'_> {
    fn write(&self, entries: impl Iterator<Item = Logged>) {
        let Self(world, caller) = self;
        let position = Position {
            epoch: 1,
            thread: *caller as u16,
            sequence: Sequence(world.next[*caller].fetch_add(1, Ordering::SeqCst)),
        };
        let entries = entries.map(|entry| (position, entry));
        world.written.lock().extend(entries);
    }
}

impl GrantLog for Stream<'_> {
    fn grant(&mut self, marks: &[Mark]) -> Result<(), GrantRefused> {
        self.write(marks.iter().map(|mark| Logged::Mark(*mark)));
        Ok(())
    }
}

impl World {
    /// One call; whether it was admitted.
    fn call(&self, caller: usize, limits: &[Applicable], cost: u64, kept: (u64, u64), us: u64) {
        let mut stream = Stream(self, caller);
        let answer = self.counters.reserve(
            limits,
            cost,
            after_us(us),
            Enforcement::Enforce,
            &mut stream,
        );
        let Ok(reservation) = answer else {
            return;
        };
        self.admitted.fetch_add(1, Ordering::SeqCst);
        let write = &mut |charges: &[Charge]| {
            stream.write(charges.iter().map(|charge| Logged::Charge(*charge)));
        };
        self.counters.settle(reservation, kept.0, kept.1, write);
    }

    fn snapshot(&self, limits: &[Applicable]) {
        let mut shards: Vec<u16> = limits.iter().map(|l| shard_of(l.counter)).collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            let mut positions = || {
                let load = |next: &AtomicU64| Sequence(next.load(Ordering::SeqCst));
                self.next.iter().map(load).collect()
            };
            let taken = self
                .counters
                .snapshot_shard(shard, after_us(0), &mut positions);
            self.snapshots.lock().extend(taken);
        }
    }

    fn charges(&self) -> Vec<(Position, Charge)> {
        let charge = |(position, logged): &(Position, Logged)| match logged {
            Logged::Charge(charge) => Some((*position, *charge)),
            Logged::Mark(_) => None,
        };
        self.written.lock().iter().filter_map(charge).collect()
    }

    /// Every snapshot holds what was settled before its positions, and in flight what was
    /// admitted before it and settled after.
    fn check_snapshots(&self) {
        let charges = self.charges();
        for snapshot in self.snapshots.lock().iter() {
            for state in &snapshot.counters {
                let of_it = charges.iter().filter(|(_, c)| c.counter == state.counter);
                let (mut settled, mut in_flight) = (0, 0);
                for (position, charge) in of_it {
                    let first_after = snapshot.positions[usize::from(position.thread)];
                    if position.sequence < first_after {
                        settled += charge.kept;
                    } else if charge.round < snapshot.round {
                        in_flight += charge.reserved;
                    }
                }
                assert_eq!(state.settled, settled);
                assert_eq!(state.spent - state.settled, in_flight);
                assert!(state.reserved <= state.granted);
            }
        }
    }

    /// What was taken never passes a mark that was written down.
    fn check_marks(&self, limits: &[Applicable]) {
        let written = self.written.lock();
        for limit in limits {
            let mut granted = 0;
            let mut reserved = 0;
            for (_, logged) in written.iter() {
                match logged {
                    Logged::Mark(mark) if mark.counter == limit.counter => {
                        granted = granted.max(mark.granted);
                    }
                    Logged::Charge(charge) if charge.counter == limit.counter => {
                        reserved += charge.reserved;
                    }
                    _ => {}
                }
            }
            assert!(reserved <= granted, "{reserved} taken, {granted} granted");
        }
    }

    /// A life that begins from the last snapshot of every shard (of as many as there are) and all
    /// entries knows every unit that was kept.
    fn check_next_life(&self, limits: &[Applicable]) {
        let mut last: Vec<ShardSnapshot> = Vec::new();
        for snapshot in self.snapshots.lock().iter() {
            last.retain(|s| s.shard != snapshot.shard);
            last.push(snapshot.clone());
        }
        let next = MemoryCounters::new();
        let checkpoint = Checkpointed {
            epoch: 1,
            shards: &last,
        };
        next.restore(Some(checkpoint), &self.written.lock(), after_us(0));
        let charges = self.charges();
        for (limit, counted) in limits.iter().zip(counted(&next, limits, after_us(1))) {
            let of_it = charges.iter().filter(|(_, c)| c.counter == limit.counter);
            let kept: u64 = of_it.map(|(_, c)| c.kept).sum();
            assert!(counted >= kept, "{counted} of {kept} units known");
        }
    }
}

type Task = Box<dyn FnOnce(&World) + Send>;

fn run(tasks: Vec<Task>) -> Arc<World> {
    let world = Arc::new(World::default());
    let threads: Vec<_> = tasks
        .into_iter()
        .map(|task| {
            let world = Arc::clone(&world);
            shuttle::thread::spawn(move || task(&world))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    world
}

fn caller(n: usize, calls: usize, limits: Vec<Applicable>, cost: u64, kept: (u64, u64)) -> Task {
    Box::new(move |world| {
        for _ in 0..calls {
            world.call(n, &limits, cost, kept, 0);
        }
    })
}

#[test]
fn in_every_schedule_exactly_the_limit_is_admitted_and_refusals_charge_nothing() {
    explore(schedules(), || {
        let limits = [
            window(1, Per::Hour, 3),
            window(2, Per::Day, 5),
            quota(3, 4, Some(4)),
        ];
        let back: Vec<Applicable> = limits.iter().rev().copied().collect();
        // The third caller is bound by another limit as well, which refuses it first.
        let mut more = limits.to_vec();
        more.push(window(4, Per::Hour, 1));
        let world = run(vec![
            caller(0, 2, limits.to_vec(), 1, (1, 1)),
            caller(1, 2, back, 1, (1, 1)),
            caller(2, 2, more, 1, (1, 1)),
        ]);
        assert_eq!(world.admitted.load(Ordering::SeqCst), 3);
        assert_eq!(counted(&world.counters, &limits, after_us(0)), [3, 3, 3]);
        assert_eq!(world.counters.totals().charges_in_flight, 0);
        world.check_marks(&limits);
    });
}

#[test]
fn in_every_schedule_a_snapshot_and_the_journal_agree_on_every_settlement() {
    explore(schedules(), || {
        let first = window(1, Per::Hour, 4_000);
        let limits = [
            first,
            beside(&first, window(2, Per::Day, 4_000)),
            quota(3, 9_000, Some(9_000)),
        ];
        let snapshots: Task = Box::new(move |world| {
            world.snapshot(&limits);
            world.snapshot(&limits);
        });
        let world = run(vec![
            caller(0, 2, limits.to_vec(), 3, (2, 0)),
            caller(1, 2, limits[1..].to_vec(), 2, (2, 1)),
            snapshots,
        ]);
        world.check_snapshots();
        world.check_marks(&limits);
        assert_eq!(counted(&world.counters, &limits, after_us(0)), [4, 8, 2]);
        world.check_next_life(&limits);
    });
}

#[test]
fn in_every_schedule_eviction_forgets_nothing_that_counts_and_nobody_in_flight() {
    explore(schedules(), || {
        let limits = [window(1, Per::Second, 2), quota(2, 100, Some(100))];
        let evictions: Task = Box::new(move |world| {
            for us in [0, 1_100_000, 2_200_000] {
                for limit in &limits {
                    let shard = world.counters.shards.get(shard_of(limit.counter));
                    let now = after_us(us);
                    evict_shard(shard.unwrap(), now.ticks, now.wall);
                }
            }
        });
        let late: Task = Box::new(move |world| {
            world.call(1, &limits, 1, (1, 1), 1_500_000);
            world.call(1, &limits, 1, (1, 1), 2_600_000);
        });
        let world = run(vec![
            caller(0, 3, limits.to_vec(), 1, (1, 1)),
            late,
            evictions,
        ]);
        let charges = world.charges();
        let on = |limit: &Applicable| {
            let of_it = charges.iter().map(|(_, charge)| *charge);
            let id = limit.counter;
            of_it.filter(move |charge| charge.counter == id)
        };
        let now = after_us(2_600_000);
        let live = |charge: &Charge| {
            slot_at(Per::Second, now.ticks) - slot_at(Per::Second, charge.at) <= 60
        };
        let truly = [
            on(&limits[0]).filter(live).map(|c| c.kept).sum(),
            on(&limits[1]).map(|c| c.kept).sum::<u64>(),
        ];
        assert_eq!(counted(&world.counters, &limits, now), truly);
        for charge in on(&limits[0]) {
            let since = |c: &Charge| c.at <= charge.at && charge.at.since(c.at) < 1_000_000;
            assert!(
                on(&limits[0]).filter(since).count() <= 2,
                "never over in any span"
            );
        }
        assert_eq!(world.counters.totals().charges_in_flight, 0);
    });
}
