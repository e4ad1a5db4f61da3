//! Crashes at any moment, against a world that remembers everything.

use super::*;
use crate::shard::{SHARDS, shard_of};
use crate::{Checkpointed, Logged, Position};
use proptest::prelude::*;
use tollgate_admission::slot_at;
use tollgate_model::{Charge, Sequence, ShardSnapshot};

const THREADS: usize = 2;
const COUNTERS: usize = 4;
/// The counters below lie in these.
const SHARDS_USED: u16 = 3;

/// One request as it really was.
struct Truth {
    at: Ticks,
    limits: u8,
    reserved: u64,
    kept: u64,
}

/// The journal of one gateway: what a process that is killed leaves behind.
#[derive(Default)]
struct Disk {
    epoch: u64,
    next: [u64; THREADS],
    /// Placed, and not written before the crash.
    pending: [Vec<(Position, Logged)>; THREADS],
    written: Vec<(Position, Logged)>,
}

impl Disk {
    fn place(&mut self, thread: usize) -> Position {
        let sequence = Sequence(self.next[thread]);
        self.next[thread] += 1;
        Position {
            epoch: self.epoch,
            thread: thread as u16,
            sequence,
        }
    }

    fn write(&mut self, thread: usize) {
        let pending = std::mem::take(&mut self.pending[thread]);
        self.written.extend(pending);
    }

    fn positions(&self) -> Vec<Sequence> {
        self.next.iter().map(|next| Sequence(*next)).collect()
    }
}

struct Thread<'a>(&'a mut Disk, usize);

impl GrantLog for Thread<'_> {
    fn grant(&mut self, marks: &[Mark]) -> Result<(), GrantRefused> {
        // A thread writes in order, so what it has placed before is written too.
        self.0.write(self.1);
        let position = self.0.place(self.1);
        let marks = marks.iter().map(|mark| (position, Logged::Mark(*mark)));
        self.0.written.extend(marks);
        Ok(())
    }
}

struct Checkpoint {
    epoch: u64,
    shards: Vec<ShardSnapshot>,
}

impl Checkpoint {
    fn handed_in(&self) -> Checkpointed<'_> {
        Checkpointed {
            epoch: self.epoch,
            shards: &self.shards,
        }
    }
}

struct World {
    limits: [Applicable; COUNTERS],
    counters: MemoryCounters,
    disk: Disk,
    us: u64,
    truth: Vec<Truth>,
    in_flight: Vec<(Reservation, usize)>,
    taking: Vec<ShardSnapshot>,
    /// Oldest first.
    published: Vec<Checkpoint>,
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Reserve {
        thread: usize,
        limits: u8,
        cost: u64,
    },
    Settle {
        thread: usize,
        which: usize,
        kept: u64,
    },
    Write(usize),
    Snapshot,
    Publish,
    Evict,
    Return,
    Crash {
        down_us: u64,
        damaged: bool,
        progress: bool,
    },
}

fn step(damage: bool) -> impl Strategy<Value = Step> {
    let thread = 0..THREADS;
    prop_oneof![
        6 => (0u64..900_000).prop_map(Step::Pass),
        1 => (0u64..100_000_000).prop_map(Step::Pass),
        24 => (thread.clone(), 1u8..16, 0u64..30)
            .prop_map(|(thread, limits, cost)| Step::Reserve { thread, limits, cost }),
        12 => (thread.clone(), 0usize..1_000, 0u64..40)
            .prop_map(|(thread, which, kept)| Step::Settle { thread, which, kept }),
        8 => thread.prop_map(Step::Write),
        6 => Just(Step::Snapshot),
        3 => Just(Step::Publish),
        1 => Just(Step::Evict),
        1 => Just(Step::Return),
        2 => (prop_oneof![Just(0u64), 0u64..2_000_000], prop::bool::weighted(0.3), any::<bool>())
            .prop_map(move |(down_us, damaged, progress)| Step::Crash {
                down_us,
                damaged: damaged && damage,
                progress,
            }),
    ]
}

impl World {
    fn new(scale: u32) -> Self {
        let first = window(0, Per::Second, 5 * scale);
        Self {
            limits: [
                first,
                beside(&first, window(1, Per::Minute, 40 * scale)),
                quota(2, 300 * u64::from(scale), Some(300 * u64::from(scale))),
                window(SHARDS.into(), Per::Second, 9 * scale),
            ],
            counters: MemoryCounters::new(),
            disk: Disk::default(),
            us: 0,
            truth: Vec::new(),
            in_flight: Vec::new(),
            taking: Vec::new(),
            published: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        after_us(self.us)
    }

    fn applying(&self, bits: u8) -> Vec<Applicable> {
        (0..COUNTERS)
            .filter(|n| bits & (1 << n) != 0)
            .map(|n| self.limits[n])
            .collect()
    }

    /// Units that really count on a counter, in flight ones as reserved.
    fn truly_counted(&self, n: usize) -> u64 {
        let now = self.now().ticks;
        self.truth
            .iter()
            .filter(|truth| truth.limits & (1 << n) != 0)
            .filter(|truth| match self.limits[n].rule {
                Rule::Window { per, .. } => slot_at(per, now) - slot_at(per, truth.at) <= 60,
                Rule::Quota { .. } => true,
            })
            .map(|truth| truth.kept)
            .sum()
    }

    fn counted(&self) -> Vec<u64> {
        counted(&self.counters, &self.limits, self.now())
    }

    /// Nothing that was admitted is forgotten, and none was admitted beyond a maximum.
    fn check(&self) -> Result<(), TestCaseError> {
        for (n, counted) in self.counted().into_iter().enumerate() {
            let truly = self.truly_counted(n);
            prop_assert!(truly <= counted, "counter {}: {} > {}", n, truly, counted);
            prop_assert!(truly <= self.limits[n].ceiling().unwrap());
        }
        self.check_ledger()
    }

    /// What counters say was settled is what the journal says was kept, charge by charge; what is
    /// held on suspicion is not among it.
    fn check_ledger(&self) -> Result<(), TestCaseError> {
        for limit in &self.limits {
            let shard = self.counters.shards.get(shard_of(limit.counter)).unwrap();
            let mut shard = shard.lock();
            let Some(counter) = shard.find(limit.counter).filter(|_| limit.is_quota()) else {
                continue;
            };
            let told = self.disk.pending.iter().flatten().chain(&self.disk.written);
            let kept = told.filter_map(|(_, logged)| match logged {
                Logged::Charge(charge) if charge.counter == limit.counter => Some(charge.kept),
                _ => None,
            });
            prop_assert_eq!(counter.settled, kept.sum::<u64>());
        }
        Ok(())
    }

    fn apply(&mut self, step: Step, strict: bool) -> Result<(), TestCaseError> {
        match step {
            Step::Pass(us) => self.us += us,
            Step::Reserve {
                thread,
                limits,
                cost,
            } => self.reserve(thread, limits, cost),
            Step::Settle {
                thread,
                which,
                kept,
            } => self.settle(thread, which, kept),
            Step::Write(thread) => self.disk.write(thread),
            Step::Snapshot => self.snapshot(),
            Step::Publish => self.publish(),
            Step::Evict => {
                self.counters.evict(self.now());
            }
            Step::Return => self.counters.return_grants(),
            Step::Crash {
                down_us,
                damaged,
                progress,
            } => {
                self.crash(down_us, damaged, progress, strict)?;
            }
        }
        self.check()
    }

    fn reserve(&mut self, thread: usize, bits: u8, cost: u64) {
        let limits = self.applying(bits);
        let mut log = Thread(&mut self.disk, thread);
        let now = after_us(self.us);
        let answer = self
            .counters
            .reserve(&limits, cost, now, Enforcement::Enforce, &mut log);
        if let Ok(reservation) = answer {
            self.truth.push(Truth {
                at: reservation.at(),
                limits: bits,
                reserved: cost,
                kept: cost,
            });
            self.in_flight.push((reservation, self.truth.len() - 1));
        }
    }

    fn settle(&mut self, thread: usize, which: usize, kept: u64) {
        if self.in_flight.is_empty() {
            return;
        }
        let (reservation, n) = self.in_flight.swap_remove(which % self.in_flight.len());
        self.truth[n].kept = kept.min(self.truth[n].reserved);
        let disk = &mut self.disk;
        self.counters
            .settle(reservation, kept, kept, &mut |charges| {
                let position = disk.place(thread);
                let charges = charges.iter().map(|c| (position, Logged::Charge(*c)));
                disk.pending[thread].extend(charges);
            });
    }

    /// Copies the next shard of a checkpoint.
    fn snapshot(&mut self) {
        let shard = self.taking.len() as u16;
        if shard < SHARDS_USED {
            let (now, disk) = (self.now(), &self.disk);
            let taken = self
                .counters
                .snapshot_shard(shard, now, &mut || disk.positions());
            self.taking.extend(taken);
        }
    }

    /// A checkpoint counts once it is whole and every thread has written up to its positions.
    fn publish(&mut self) {
        if self.taking.len() == usize::from(SHARDS_USED) {
            (0..THREADS).for_each(|thread| self.disk.write(thread));
            self.published.push(Checkpoint {
                epoch: self.disk.epoch,
                shards: std::mem::take(&mut self.taking),
            });
        }
    }

    fn crash(
        &mut self,
        down_us: u64,
        damaged: bool,
        progress: bool,
        strict: bool,
    ) -> Result<(), TestCaseError> {
        self.us += down_us;
        let before = self.counted();
        let lost = self.lost_charges();
        if progress {
            self.write_progress();
        }
        if damaged && self.published.len() > 1 {
            self.published.pop();
        }
        let checkpoint = self.published.last().map(Checkpoint::handed_in);
        self.counters = MemoryCounters::new();
        self.counters
            .restore(checkpoint, &self.disk.written, after_us(self.us));
        // The start counts as later than anything that was written down.
        self.us += 1;
        self.disk.epoch += 1;
        self.disk.next = [0; THREADS];
        self.disk.pending = Default::default();
        self.in_flight.clear();
        self.taking.clear();
        if strict {
            self.check_under_admission(&before, &lost)?;
            (0..SHARDS_USED).for_each(|_| self.snapshot());
            self.publish();
        }
        Ok(())
    }

    /// What the journal does not say the end of: in flight, or ended and not written.
    fn lost_charges(&self) -> Vec<Charge> {
        let open = self.in_flight.iter().flat_map(|(r, _)| r.charges());
        // These count as before the crash, with what they would keep.
        let open = open.map(|charge| Charge {
            kept: charge.reserved,
            ..charge
        });
        let pending = self.disk.pending.iter().flatten();
        let pending = pending.filter_map(|(_, logged)| match logged {
            Logged::Charge(charge) => Some(*charge),
            Logged::Mark(_) => None,
        });
        open.chain(pending).collect()
    }

    /// At most one grant a counter, and what was in flight without the journal knowing counts as
    /// spent now, in full and from now on.
    fn check_under_admission(&self, before: &[u64], lost: &[Charge]) -> Result<(), TestCaseError> {
        for (n, counted) in self.counted().into_iter().enumerate() {
            let limit = &self.limits[n];
            let moved: u64 = lost
                .iter()
                .filter(|charge| charge.counter == limit.counter)
                .map(|charge| match limit.rule {
                    Rule::Window { per, .. }
                        if slot_at(per, self.now().ticks) - slot_at(per, charge.at) > 60 =>
                    {
                        charge.reserved
                    }
                    _ => charge.reserved - charge.kept,
                })
                .sum();
            let grant = (limit.ceiling().unwrap() / 64).max(30);
            prop_assert!(
                counted <= before[n] + moved + grant,
                "counter {}: {} > {} + {} + {}",
                n,
                counted,
                before[n],
                moved,
                grant
            );
        }
        Ok(())
    }

    /// The start finds progress entries of what was in flight: they become charges that kept all.
    fn write_progress(&mut self) {
        for (reservation, _) in &self.in_flight {
            let position = self.disk.place(0);
            let charges = reservation.charges();
            let charges = charges.map(|c| (position, Logged::Charge(c)));
            self.disk.written.extend(charges);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn over_any_crashes_nothing_admitted_is_forgotten_and_one_grant_a_counter_is_lost(
        scale in prop::sample::select(vec![1u32, 10, 1_000]),
        steps in prop::collection::vec(step(false), 1..300),
    ) {
        let mut world = World::new(scale);
        for step in steps {
            world.apply(step, true)?;
        }
    }

    /// With the newest checkpoint damaged and none taken after the start, more may be lost to
    /// callers, but still nothing is forgotten.
    #[test]
    fn an_older_checkpoint_forgets_nothing_either(
        scale in prop::sample::select(vec![1u32, 10, 1_000]),
        steps in prop::collection::vec(step(true), 1..300),
    ) {
        let mut world = World::new(scale);
        for step in steps {
            world.apply(step, false)?;
        }
    }
}

#[test]
fn a_clean_stop_loses_not_a_unit() {
    let mut world = World::new(1_000);
    for n in 0..50 {
        world.reserve(n % THREADS, 15, 7);
        world.settle(n % THREADS, 0, 5);
        world.us += 1_000;
    }
    world.counters.return_grants();
    (0..SHARDS_USED).for_each(|_| world.snapshot());
    world.publish();
    let before = world.counted();
    world.crash(0, false, false, false).unwrap();
    assert_eq!(world.counted(), before);
    assert_eq!(before, [250, 250, 250, 250]);
}

#[test]
fn without_a_checkpoint_the_whole_journal_tells_the_same() {
    let mut world = World::new(1_000);
    for n in 0..50 {
        world.reserve(n % THREADS, 15, 7);
        world.settle(n % THREADS, 0, 5);
        world.disk.write(n % THREADS);
    }
    world.crash(0, false, false, false).unwrap();
    let grants = [5_000 / 64, 40_000 / 64, 300_000u64 / 64, 9_000 / 64];
    for (counted, grant) in world.counted().into_iter().zip(grants) {
        assert!((250..=250 + grant.min(1_024)).contains(&counted));
    }
}

#[test]
fn a_quota_that_refuses_nobody_is_what_was_recorded_over_crashes_and_a_later_maximum() {
    let now = after_us(0);
    let open = [quota(1, 1_000, None)];
    let counters = MemoryCounters::new();
    let mut marks = Marks::default();
    let mut written = Vec::new();
    let mut take = |counters: &MemoryCounters, limits: &[Applicable], marks: &mut Marks| {
        let reserved = counters.reserve(limits, 5, now, Enforcement::Enforce, marks);
        counters.settle(reserved.unwrap(), 3, 3, &mut |charges| {
            written.extend(charges.iter().map(|charge| Logged::Charge(*charge)));
        });
    };
    for _ in 0..10 {
        take(&counters, &open, &mut marks);
    }
    assert!(marks.0.is_empty(), "nothing is granted");
    let _in_flight_at_the_crash = reserve(&counters, &open, 5, now).unwrap();
    // A maximum in the middle of the period needs marks again, above all that was taken.
    let closed = [quota(1, 1_000, Some(1_000))];
    for _ in 0..10 {
        take(&counters, &closed, &mut marks);
    }
    let marks = marks.0.concat();
    let granted = marks.last().unwrap().granted;
    assert!((105..105 + 1_000 / 64).contains(&granted), "{granted}");

    let restart = |entries: Vec<Logged>| {
        let place = |(sequence, logged): (u64, Logged)| {
            let position = Position {
                epoch: 1,
                thread: 0,
                sequence: Sequence(sequence),
            };
            (position, logged)
        };
        let again = MemoryCounters::new();
        let entries: Vec<_> = (0..).zip(entries).map(place).collect();
        again.restore(None, &entries, now);
        (counted(&again, &open, now)[0], again.totals().held_units)
    };
    assert_eq!(restart(written.iter().take(10).copied().collect()), (30, 0));
    let all = written.iter().copied();
    let all = all.chain(marks.into_iter().map(Logged::Mark)).collect();
    // Once there is a maximum, what was in flight is held, and one grant at most.
    let (used, held) = restart(all);
    assert_eq!(used, 60 + held);
    assert!((5..5 + 1_000 / 64).contains(&held), "{held}");
}
