//! The system's clock.
//!
//! Wall time is read anew each time and may step. Ticks follow the machine's uptime, its sleep
//! included, so that a stepped wall clock never opens or closes a rate window early. They begin at
//! wall time; where an earlier process of the same run of the machine wrote down what ticks were
//! when the machine was started, they go on from there, so that a wall clock that was set while no
//! process ran moves no window either; and never below the last tick that was written down. A
//! process that is moved into another time namespace sees another uptime.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tollgate_model::{Clock, Now, Ticks, Timestamp};

/// Wall time and monotonic ticks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    /// What ticks were when the machine was started, in microseconds.
    at_boot_us: AtomicU64,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemClock {
    /// A clock whose ticks begin at wall time.
    #[must_use]
    pub fn new() -> Self {
        Self::read(wall())
    }

    /// Where wall time is less than uptime, ticks begin at uptime.
    fn read(wall: Timestamp) -> Self {
        let wall_us = u64::try_from(wall.0).unwrap_or(0);
        Self {
            at_boot_us: AtomicU64::new(wall_us.saturating_sub(uptime_us())),
        }
    }
}

impl Clock for SystemClock {
    fn raise_to(&self, tick: Ticks) {
        let needed = tick.0.saturating_sub(uptime_us());
        self.at_boot_us.fetch_max(needed, Ordering::AcqRel);
    }

    fn ticks_at_boot(&self) -> Option<Ticks> {
        Some(Ticks(self.at_boot_us.load(Ordering::Acquire)))
    }

    fn continue_boot(&self, ticks_at_boot: Ticks) {
        self.at_boot_us.store(ticks_at_boot.0, Ordering::Release);
    }

    fn now(&self) -> Now {
        let at_boot_us = self.at_boot_us.load(Ordering::Acquire);
        Now {
            wall: wall(),
            ticks: Ticks(at_boot_us.saturating_add(uptime_us())),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where wall time is read"
)]
fn wall() -> Timestamp {
    // A clock set before 1970 reads as 1970: periods need a date, and negative ones are nonsense.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// How long the machine has been up, its sleep included.
fn uptime_us() -> u64 {
    let up = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(up.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(up.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanoseconds / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: u64 = 86_400_000_000;

    #[test]
    fn ticks_begin_at_wall_time() {
        let now = SystemClock::new().now();
        let apart_us = now.ticks.0.abs_diff(u64::try_from(now.wall.0).unwrap());
        assert!(apart_us < 1_000_000, "{apart_us}");
    }

    #[test]
    fn ticks_never_begin_below_what_was_written_down() {
        let hour_us = 3_600_000_000;
        let clock = SystemClock::new();
        let written = clock.now().ticks.plus_us(hour_us);
        clock.raise_to(written);
        let raised = clock.now().ticks;
        assert!(raised >= written);
        clock.raise_to(Ticks(1));
        assert!(clock.now().ticks >= raised);
    }

    #[test]
    fn a_wall_clock_set_while_nothing_ran_moves_no_tick_within_a_run_of_the_machine() {
        let first = SystemClock::new();
        first.raise_to(first.now().ticks.plus_us(7));
        let at_boot = first.ticks_at_boot().unwrap();
        let earlier = first.now();
        for wall_us in [0, earlier.ticks.0 - DAY_US, earlier.ticks.0 + DAY_US] {
            let next = SystemClock::read(Timestamp(i64::try_from(wall_us).unwrap()));
            next.continue_boot(at_boot);
            let passed_us = next.now().ticks.0.checked_sub(earlier.ticks.0);
            assert!(passed_us.is_some_and(|us| us < 60_000_000), "{passed_us:?}");
            assert_eq!(next.ticks_at_boot(), Some(at_boot));
        }
    }
}
