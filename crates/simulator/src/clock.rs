//! Time of the simulated machine.
//!
//! Follows what the system's clock does: ticks begin at wall time when a process starts, go on by
//! uptime where the machine was not started anew, are never stepped, and are raised to what was
//! written down; wall time can be set, and can stand still.

use parking_lot::Mutex;
use tollgate_model::{Clock, Now, Ticks, Timestamp};

/// A clock that moves only when told.
#[derive(Debug)]
pub(crate) struct SimClock(Mutex<Hands>);

#[derive(Debug)]
struct Hands {
    wall_us: i64,
    ticks_us: u64,
    /// Since the machine was started.
    uptime_us: u64,
    boots: u64,
    /// The wall clock stands.
    frozen: bool,
}

impl SimClock {
    pub(crate) fn at(wall: Timestamp) -> Self {
        Self(Mutex::new(Hands {
            wall_us: wall.0,
            ticks_us: u64::try_from(wall.0).unwrap_or(0),
            uptime_us: 0,
            boots: 0,
            frozen: false,
        }))
    }

    pub(crate) fn advance_us(&self, us: u64) {
        let mut hands = self.0.lock();
        hands.ticks_us = hands.ticks_us.saturating_add(us);
        hands.uptime_us = hands.uptime_us.saturating_add(us);
        if !hands.frozen {
            hands.wall_us = hands.wall_us.saturating_add_unsigned(us);
        }
    }

    /// Somebody sets the wall clock; no time passes.
    pub(crate) fn step_wall_us(&self, us: i64) {
        let mut hands = self.0.lock();
        hands.wall_us = hands.wall_us.saturating_add(us).max(0);
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        self.0.lock().frozen = frozen;
    }

    /// The machine starts.
    pub(crate) fn reboot(&self) {
        let mut hands = self.0.lock();
        hands.uptime_us = 0;
        hands.boots += 1;
    }

    /// How often the machine was started anew.
    pub(crate) fn boots(&self) -> u64 {
        self.0.lock().boots
    }

    /// A process starts: its ticks begin at wall time.
    pub(crate) fn restart(&self) {
        let mut hands = self.0.lock();
        hands.ticks_us = u64::try_from(hands.wall_us).unwrap_or(0);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        let hands = self.0.lock();
        Now {
            wall: Timestamp(hands.wall_us),
            ticks: Ticks(hands.ticks_us),
        }
    }

    fn raise_to(&self, tick: Ticks) {
        let mut hands = self.0.lock();
        hands.ticks_us = hands.ticks_us.max(tick.0);
    }

    fn ticks_at_boot(&self) -> Option<Ticks> {
        let hands = self.0.lock();
        Some(Ticks(hands.ticks_us.saturating_sub(hands.uptime_us)))
    }

    fn continue_boot(&self, ticks_at_boot: Ticks) {
        let mut hands = self.0.lock();
        hands.ticks_us = ticks_at_boot.0.saturating_add(hands.uptime_us);
    }
}
