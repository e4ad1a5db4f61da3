//! The system's clock.
//!
//! Wall time is read anew each time and may step. Ticks begin at wall time (or at the last tick an
//! earlier process wrote down, if that is later) and then follow the monotonic clock, so that a
//! stepped wall clock never opens or closes a rate window early.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tollgate_model::{Clock, Now, Ticks, Timestamp};

/// Wall time and monotonic ticks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    /// Ticks at `started`, in microseconds; only ever raised.
    base_us: AtomicU64,
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
        Self::starting_at(Ticks(0))
    }

    /// A clock whose ticks begin at wall time, but never below `last_known`.
    #[must_use]
    pub fn starting_at(last_known: Ticks) -> Self {
        let wall_us = u64::try_from(wall().0).unwrap_or(0);
        Self {
            started: monotonic(),
            base_us: AtomicU64::new(wall_us.max(last_known.0)),
        }
    }

    fn elapsed_us(&self) -> u64 {
        let elapsed = monotonic().saturating_duration_since(self.started);
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Clock for SystemClock {
    fn raise_to(&self, tick: Ticks) {
        let needed = tick.0.saturating_sub(self.elapsed_us());
        self.base_us.fetch_max(needed, Ordering::AcqRel);
    }

    fn now(&self) -> Now {
        let base_us = self.base_us.load(Ordering::Acquire);
        Now {
            wall: wall(),
            ticks: Ticks(base_us.saturating_add(self.elapsed_us())),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the monotonic clock is read"
)]
fn monotonic() -> Instant {
    Instant::now()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_begin_at_wall_time() {
        let now = SystemClock::new().now();
        let apart_us = now.ticks.0.abs_diff(u64::try_from(now.wall.0).unwrap());
        assert!(apart_us < 1_000_000, "{apart_us}");
    }

    #[test]
    fn ticks_never_begin_below_what_was_written_down() {
        let hour_us = 3_600_000_000;
        let written = SystemClock::new().now().ticks.plus_us(hour_us);
        assert!(SystemClock::starting_at(written).now().ticks >= written);

        let clock = SystemClock::new();
        clock.raise_to(written);
        let raised = clock.now().ticks;
        assert!(raised >= written);
        clock.raise_to(Ticks(1));
        assert!(clock.now().ticks >= raised);
    }
}
