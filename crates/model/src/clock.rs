//! Time and randomness as arguments: what the outermost layer passes in.

use crate::{Ticks, Timestamp};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Wall time: sets periods, buckets and what people see.
    pub wall: Timestamp,
    /// Monotonic ticks: run rate windows and deadlines.
    pub ticks: Ticks,
}

/// The source of time. Pure code takes [`Now`] as an argument instead.
pub trait Clock: Send + Sync {
    /// Both clocks, read together.
    fn now(&self) -> Now;

    /// Lets no later reading have a smaller tick: called once with the last tick that an earlier
    /// process wrote down, before windows are restored. A clock that is set by hand may ignore it.
    fn raise_to(&self, _tick: Ticks) {}

    /// What ticks were, or would have been, when the machine was started: what ties an earlier
    /// process's ticks to this one's, whatever became of the wall clock in between. `None` where
    /// the time is not a machine's.
    fn ticks_at_boot(&self) -> Option<Ticks> {
        None
    }

    /// Goes on with the ticks of an earlier process in the same run of the machine, whose
    /// [`Clock::ticks_at_boot`] this was: called at most once, before anybody asks for ticks.
    fn continue_boot(&self, _ticks_at_boot: Ticks) {}
}

/// The source of ids and secrets.
pub trait IdGen: Send + Sync {
    /// A UUIDv7 of this instant: sorts by time, unique across nodes.
    fn uuid(&self, at: Timestamp) -> u128;
    /// Fills the buffer from a cryptographically secure source.
    fn fill(&self, secret: &mut [u8]);
}
