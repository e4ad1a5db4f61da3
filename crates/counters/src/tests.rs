//! What counters guarantee, from outside.

mod behaviour;
mod boundaries;
mod concurrency;
mod differential;
mod explored;
mod oracles;
mod restart;

use tollgate_admission::{Applicable, Enforcement, Length, LimitName, Rule};
use tollgate_model::{By, CounterId, Every, Mark, Now, Per, Period, Ticks, Timestamp};

use crate::{GrantLog, GrantRefused, MemoryCounters, Reservation, ReserveError};

/// A moment that lies on no slot's boundary.
const START_US: u64 = 1_764_000_000_000_007;

/// The end of every quota's period here.
const PERIOD_US: u64 = 30 * 86_400_000_000;

fn after_us(us: u64) -> Now {
    Now {
        wall: Timestamp((START_US + us) as i64),
        ticks: Ticks(START_US + us),
    }
}

/// A limit on the counter of this number; the shard is the number modulo [`crate::SHARDS`].
fn window(number: u128, per: Per, max: u32) -> Applicable {
    Applicable {
        counter: CounterId(number | (number + 1) << 64),
        name: LimitName {
            length: Length::Window(per),
            by: By::Subscription,
            on_route: false,
        },
        rule: Rule::Window {
            per,
            max: Some(max),
            shadow_max: None,
        },
    }
}

fn quota(number: u128, units: u64, refuse_at: Option<u64>) -> Applicable {
    Applicable {
        counter: CounterId(number | (number + 1) << 64),
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
                start: Timestamp(START_US as i64),
                end: Timestamp((START_US + PERIOD_US) as i64),
            },
        },
    }
}

/// The same limit on another counter of the scope that `first` counts for.
fn beside(first: &Applicable, limit: Applicable) -> Applicable {
    let within = limit.counter.scope() as u64 + 1;
    Applicable {
        counter: CounterId::of_parts(first.counter.scope(), within),
        ..limit
    }
}

/// Writes every mark down.
#[derive(Default)]
struct Marks(Vec<Vec<Mark>>);

impl GrantLog for Marks {
    fn grant(&mut self, marks: &[Mark]) -> Result<(), GrantRefused> {
        self.0.push(marks.to_vec());
        Ok(())
    }
}

/// Has no room.
struct NoRoom;

impl GrantLog for NoRoom {
    fn grant(&mut self, _marks: &[Mark]) -> Result<(), GrantRefused> {
        Err(GrantRefused)
    }
}

fn reserve(
    counters: &MemoryCounters,
    limits: &[Applicable],
    cost: u64,
    now: Now,
) -> Result<Reservation, ReserveError> {
    counters.reserve(
        limits,
        cost,
        now,
        Enforcement::Enforce,
        &mut Marks::default(),
    )
}

fn settle(counters: &MemoryCounters, reservation: Reservation, kept: u64) {
    counters.settle(reservation, kept, kept, &mut |_| {});
}

fn counted(counters: &MemoryCounters, limits: &[Applicable], now: Now) -> Vec<u64> {
    let readings = counters.read(limits, 1, now);
    readings.iter().map(|reading| reading.counted).collect()
}

/// Reserves and keeps as often as it is admitted.
fn spend(counters: &MemoryCounters, limits: &[Applicable], times: usize, now: Now) -> usize {
    let admitted = |_: &usize| match reserve(counters, limits, 1, now) {
        Ok(reservation) => {
            settle(counters, reservation, 1);
            true
        }
        Err(_) => false,
    };
    (0..times).filter(admitted).count()
}
