//! What stands in a journal, and what is summed up over it.

use tollgate_model::{Charge, Mark, Outcome, UsageEvent};

/// One entry of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A request ended.
    Event {
        /// The event, final.
        event: UsageEvent,
        /// What its counters were charged.
        charges: Vec<Charge>,
    },
    /// Marks were raised; nothing beyond the old ones was spent before this was written.
    Grant(Vec<Mark>),
    /// A long exchange is still going on. Its event so far, with `units` and `kept` as reserved,
    /// becomes the record if the gateway dies.
    Progress {
        /// The event so far; same id as the final one.
        event: UsageEvent,
        /// What its counters were charged at admission.
        charges: Vec<Charge>,
    },
}

/// Count of events and sum of units, by outcome in the order of [`Outcome::ALL`]. Kept after the
/// events themselves are deleted, so that the ledger can be proved whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Events (a summary record counts once).
    pub events: [u64; Outcome::ALL.len()],
    /// Units.
    pub units: [u64; Outcome::ALL.len()],
}

impl Totals {
    /// Adds one event.
    pub fn add(&mut self, outcome: Outcome, units: u64) {
        let place = Outcome::ALL.iter().position(|o| *o == outcome).unwrap_or(0);
        if let (Some(events), Some(sum)) = (self.events.get_mut(place), self.units.get_mut(place)) {
            *events = events.saturating_add(1);
            *sum = sum.saturating_add(units);
        }
    }

    /// Adds other totals.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.events.iter_mut().zip(other.events) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in self.units.iter_mut().zip(other.units) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// Events of every outcome.
    #[must_use]
    pub fn events_sum(&self) -> u64 {
        self.events.iter().sum()
    }

    /// Units of every outcome.
    #[must_use]
    pub fn units_sum(&self) -> u64 {
        self.units.iter().sum()
    }
}
