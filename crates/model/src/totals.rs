//! Running totals of events, kept in journals and in stores alike.

use crate::Outcome;

/// Count of events and sum of units, by outcome in the order of [`Outcome::ALL`]. Kept after the
/// events themselves are deleted, so that the ledger can be proved whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutcomeTotals {
    /// Events (a summary record counts once).
    pub events: [u64; Outcome::ALL.len()],
    /// Units.
    pub units: [u64; Outcome::ALL.len()],
}

impl OutcomeTotals {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_by_outcome_and_never_wrap() {
        let mut totals = OutcomeTotals::default();
        totals.add(Outcome::Denied, 0);
        totals.add(Outcome::Forwarded, u64::MAX);
        let mut more = OutcomeTotals::default();
        more.add(Outcome::Forwarded, 7);
        totals.merge(&more);
        assert_eq!((totals.events_sum(), totals.units_sum()), (3, u64::MAX));
        let denied = Outcome::ALL.iter().position(|o| *o == Outcome::Denied);
        assert_eq!(totals.events[denied.unwrap()], 1);
    }
}
