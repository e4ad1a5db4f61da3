//! The wall time by which quotas' periods are looked up.
//!
//! **Invariant.** It never goes back, in this life or from one to the next (the checkpoint and the
//! events tell the latest time that was seen): a wall clock that is set back reopens no period. A
//! clock that was wrong in the future has begun periods of that time; quotas stay in them until
//! that time has come.

use std::sync::atomic::{AtomicI64, Ordering};

use tollgate_model::{Now, Timestamp};

/// The latest wall time that periods were looked up by.
#[derive(Debug, Default)]
pub(crate) struct PeriodClock(AtomicI64);

impl From<Timestamp> for PeriodClock {
    fn from(seen: Timestamp) -> Self {
        Self(AtomicI64::new(seen.0))
    }
}

impl PeriodClock {
    /// This moment, or a later one by which periods were looked up before.
    pub(crate) fn latest(&self, now: Now) -> Now {
        let seen = Timestamp(self.0.load(Ordering::Acquire));
        Now {
            wall: seen.max(now.wall),
            ..now
        }
    }

    /// The same, from now on for everybody: for looking periods up.
    pub(crate) fn at(&self, now: Now) -> Now {
        let before = self.0.fetch_max(now.wall.0, Ordering::AcqRel);
        Now {
            wall: Timestamp(before).max(now.wall),
            ..now
        }
    }
}

/// Clocks are set back by a little now and then; by more than this, people should know.
const SET_BACK_TOLD_US: i64 = 60_000_000;

/// Tells that quotas are in periods that are still to come.
pub(crate) fn warn_of_set_back(seen: Timestamp, now: Timestamp) {
    if seen.since(now) > SET_BACK_TOLD_US {
        tracing::warn!(%seen, %now, "the wall clock is behind what this gateway has seen before: \
            quotas stay in the periods of that time until the clock has passed it, since no period \
            is opened twice; if the clock is wrong now, set it right");
    }
}
