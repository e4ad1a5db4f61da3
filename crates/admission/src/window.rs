//! Sliding windows: 60 slots of a sixtieth of the span, aligned to the Unix epoch.
//!
//! ```text
//! slot s      = [s × span/60, (s+1) × span/60)          in ticks; span/60 need not be whole
//! a unit of s counts until (s+1) × span/60 + span       = the beginning of slot s+61
//! live at c   = slots c-60 ..= c                        61 of them
//! ```
//! So a unit counts for its span at least and a sixtieth more at most: in any interval of the
//! span's length no more units are admitted than the limit says, wherever the interval begins.
//!
//! **Invariants.** No unit is older than 60 slots before `newest`; `counted` is the sum of all;
//! `newest` never falls.

mod slots;

use tollgate_model::{Per, Ticks};

use slots::Slots;

/// Slots in a span; one more is live, the one that is just being filled.
pub const SLOTS_PER_SPAN: u64 = 60;

/// The slot that a tick lies in, counted from the Unix epoch.
#[inline]
#[must_use]
pub fn slot_at(per: Per, at: Ticks) -> u64 {
    let scaled = at.0.saturating_mul(SLOTS_PER_SPAN);
    // One arm each: a request asks this a dozen times, and dividing by a constant is cheap.
    match per {
        Per::Second => scaled / const { Per::Second.span_us() },
        Per::Minute => scaled / const { Per::Minute.span_us() },
        Per::Hour => scaled / const { Per::Hour.span_us() },
        Per::Day => scaled / const { Per::Day.span_us() },
    }
}

/// The first tick at which units of the slot no longer count.
#[inline]
#[must_use]
pub fn slot_expires_at(per: Per, slot: u64) -> Ticks {
    let first_dead = slot.saturating_add(SLOTS_PER_SPAN + 1);
    Ticks(
        first_dead
            .saturating_mul(per.span_us())
            .div_ceil(SLOTS_PER_SPAN),
    )
}

/// The units of one sliding window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    slots: Slots,
    newest: u64,
    counted: u64,
    per: Per,
}

impl Window {
    /// A window in which nothing was counted yet. Allocates nothing.
    #[must_use]
    pub fn new(per: Per) -> Self {
        Self {
            slots: Slots::new(),
            newest: 0,
            counted: 0,
            per,
        }
    }

    /// The span.
    #[inline]
    #[must_use]
    pub fn per(&self) -> Per {
        self.per
    }

    /// Units that count now, that is at the latest moment the window was moved to.
    #[inline]
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Moves the window to a moment: what is too old no longer counts. Earlier moments than the
    /// latest change nothing.
    #[inline]
    pub fn advance(&mut self, now: Ticks) {
        let slot = slot_at(self.per, now);
        if slot <= self.newest {
            return;
        }
        if self.counted > 0 {
            self.counted -= self.slots.forget(self.newest, slot);
            if self.counted == 0 {
                self.slots.clear();
            }
        }
        self.newest = slot;
    }

    /// Counts units at the latest moment.
    #[inline]
    pub fn add(&mut self, units: u64) {
        self.add_in(self.newest, units);
    }

    /// Counts units in a slot. Those of a slot that no longer counts are ignored; a slot beyond
    /// the latest moment is taken as the latest.
    #[inline]
    pub fn add_in(&mut self, slot: u64, units: u64) {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let age = self.newest.saturating_sub(slot);
        if units == 0 || age > SLOTS_PER_SPAN {
            return;
        }
        let added = self.slots.add(self.newest - age, units, self.newest);
        self.counted += u64::from(added);
    }

    /// Gives units back to the slot in which they were counted, if it still counts.
    pub fn give_back(&mut self, slot: u64, units: u64) {
        let age = self.newest.saturating_sub(slot);
        if age > SLOTS_PER_SPAN {
            return;
        }
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let taken = self.slots.take(self.newest - age, units, self.newest);
        self.counted -= u64::from(taken);
    }

    /// The moment from which on `cost` units fit under `max` if nothing else is counted;
    /// `None`: never. A moment in the past where they fit already.
    #[inline]
    #[must_use]
    pub fn opens_at(&self, max: u64, cost: u64) -> Option<Ticks> {
        if max == 0 || cost > max {
            return None;
        }
        let mut excess = self.counted.saturating_sub(max - cost);
        if excess == 0 {
            return Some(Ticks(0));
        }
        for (slot, units) in self.slots() {
            excess = excess.saturating_sub(u64::from(units));
            if excess == 0 {
                return Some(slot_expires_at(self.per, slot));
            }
        }
        None
    }

    /// The moment at which what is left of `max` next grows; `None` where it cannot.
    #[inline]
    #[must_use]
    pub fn grows_at(&self, max: u64) -> Option<Ticks> {
        if self.counted >= max {
            return self.opens_at(max, 1);
        }
        let oldest = self.slots.oldest(self.newest)?;
        Some(slot_expires_at(self.per, oldest))
    }

    /// The live slots in rising order, with their units.
    pub fn slots(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.slots.iter(self.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u64 = 1_764_000_000_000_007;

    #[test]
    fn a_unit_counts_for_its_span_at_least_and_a_sixtieth_more_at_most() {
        for per in Per::ALL {
            for offset in [0, 1, 16_666, 16_667, 999_999, 123_456_789] {
                let at = Ticks(START + offset);
                let dead = slot_expires_at(per, slot_at(per, at));
                let counted_for = dead.0 - at.0;
                assert!(counted_for > per.span_us() - 1, "{per:?} {offset}");
                assert!(counted_for <= per.span_us() + per.span_us().div_ceil(60));
                let mut window = Window::new(per);
                window.advance(at);
                window.add(3);
                window.advance(Ticks(dead.0 - 1));
                assert_eq!(window.counted(), 3, "{per:?} {offset}");
                window.advance(dead);
                assert_eq!(window.counted(), 0, "{per:?} {offset}");
            }
        }
    }

    #[test]
    fn units_come_back_in_their_slot_and_only_while_it_counts() {
        let mut window = Window::new(Per::Minute);
        window.advance(Ticks(START));
        window.add(5);
        let slot = slot_at(Per::Minute, Ticks(START));
        window.give_back(slot, 2);
        assert_eq!(window.counted(), 3);
        window.give_back(slot, 9);
        assert_eq!(window.counted(), 0);
        window.add(1);
        window.advance(Ticks(START + 200_000_000));
        window.add(7);
        window.give_back(slot, 1);
        assert_eq!(window.counted(), 7);
    }

    #[test]
    fn a_window_opens_when_enough_has_expired_and_never_for_more_than_the_maximum() {
        let mut window = Window::new(Per::Minute);
        let at = |s: u64| Ticks(1_764_000_000_000_000 + s * 1_000_000);
        for s in 0..10 {
            window.advance(at(s));
            window.add(1);
        }
        assert_eq!(window.opens_at(10, 0), Some(Ticks(0)));
        assert_eq!(window.opens_at(10, 1), Some(at(61)));
        assert_eq!(window.opens_at(10, 3), Some(at(63)));
        assert_eq!(window.opens_at(4, 1), Some(at(67)));
        assert_eq!(window.opens_at(10, 11), None);
        assert_eq!(window.opens_at(0, 0), None);
        // As much as the maximum fits once everything has expired.
        assert_eq!(window.opens_at(10, 10), Some(at(70)));
        assert_eq!(window.grows_at(10), Some(at(61)));
        assert_eq!(window.grows_at(20), Some(at(61)));
        assert_eq!(window.grows_at(8), Some(at(63)));
        assert_eq!(Window::new(Per::Hour).grows_at(5), None);
    }

    #[test]
    fn slots_are_restored_in_any_order_and_only_those_that_still_count() {
        let newest = slot_at(Per::Minute, Ticks(START));
        let mut window = Window::new(Per::Minute);
        window.advance(Ticks(START));
        for (age, units) in [(3, 7), (60, 2), (61, 50), (10, 4), (1, 0), (3, 1), (0, 5)] {
            window.add_in(newest - age, units);
        }
        // What lies ahead is taken as the latest.
        window.add_in(newest + 9, 3);
        let slots: Vec<(u64, u32)> = window.slots().collect();
        let expected = [(60, 2), (10, 4), (3, 8), (0, 8)];
        assert_eq!(slots, expected.map(|(age, units)| (newest - age, units)));
        assert_eq!(window.counted(), 22);
        // Given back where it was counted, also in the oldest slot, not beyond it.
        for (age, units) in [(60, 1), (61, 9), (10, 4), (5, 6), (3, 3)] {
            window.give_back(newest - age, units);
        }
        let slots: Vec<(u64, u32)> = window.slots().collect();
        let expected = [(60, 1), (3, 5), (0, 8)];
        assert_eq!(slots, expected.map(|(age, units)| (newest - age, units)));
        assert_eq!(window.counted(), 14);
    }

    #[test]
    fn moving_to_the_same_or_an_earlier_moment_changes_nothing() {
        let mut window = Window::new(Per::Second);
        window.advance(Ticks(START));
        window.add(4);
        let before = window.clone();
        for back in [0, 1, 5_000_000] {
            window.advance(Ticks(START - back));
            assert_eq!(window, before);
        }
        assert_eq!(window.per(), Per::Second);
    }

    #[test]
    fn more_than_a_slot_can_tell_of_counts_as_more_than_any_limit() {
        let mut window = Window::new(Per::Minute);
        window.advance(Ticks(START));
        window.add(u64::MAX);
        window.add(7);
        let most = u64::from(tollgate_model::RateLimit::MAX_LARGEST);
        assert!(window.counted() > most);
        assert_eq!(
            window.opens_at(most, 1),
            Some(slot_expires_at(Per::Minute, window.newest))
        );
        window.advance(Ticks(START + 62_000_000));
        assert_eq!(window.counted(), 0);
    }

    #[test]
    fn a_window_that_has_emptied_takes_no_more_room_than_a_new_one() {
        let mut window = Window::new(Per::Minute);
        for s in 0..40 {
            window.advance(Ticks(START + s * 1_000_000));
            window.add(1);
        }
        assert!(matches!(window.slots, Slots::Many(_)));
        window.advance(Ticks(START + 200_000_000));
        assert_eq!(window.slots, Slots::new());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Pass(u64),
        Add(u64),
        GiveBack(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u64..3_000_000).prop_map(Step::Pass),
            1 => (0u64..80_000_000).prop_map(Step::Pass),
            4 => (0u64..20).prop_map(Step::Add),
            2 => (any::<prop::sample::Index>(), 0u64..25).prop_map(|(i, n)| Step::GiveBack(i.index(1000), n)),
        ]
    }

    proptest! {
        /// Against a list of everything that was ever counted.
        #[test]
        fn a_window_counts_what_a_naive_log_counts(
            per in prop::sample::select(vec![Per::Second, Per::Minute]),
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut log: Vec<(u64, u64)> = Vec::new();
            let mut window = Window::new(per);
            let mut now = START;
            window.advance(Ticks(now));
            for step in steps {
                match step {
                    Step::Pass(us) => now += us,
                    Step::Add(units) => {
                        window.advance(Ticks(now));
                        window.add(units);
                        log.push((slot_at(per, Ticks(now)), units));
                    }
                    Step::GiveBack(which, units) if !log.is_empty() => {
                        let n = which % log.len();
                        let taken = units.min(log[n].1);
                        log[n].1 -= taken;
                        window.give_back(log[n].0, taken);
                    }
                    Step::GiveBack(..) => {}
                }
                window.advance(Ticks(now));
                let current = slot_at(per, Ticks(now));
                let naive: u64 = log.iter().filter(|(s, _)| current - s <= 60).map(|(_, n)| n).sum();
                prop_assert_eq!(window.counted(), naive);
                let sum: u64 = window.slots().map(|(_, n)| u64::from(n)).sum();
                prop_assert_eq!(sum, naive);
                for max in [1, naive / 2, naive, naive + 3] {
                    if let Some(opens) = window.opens_at(max, 1).filter(|t| t.0 > 0) {
                        let live = |t: u64| -> u64 {
                            let c = slot_at(per, Ticks(t));
                            log.iter().filter(|(s, _)| c - s <= 60).map(|(_, n)| n).sum()
                        };
                        prop_assert!(live(opens.0) < max);
                        prop_assert!(live(opens.0 - 1) + 1 > max);
                    }
                }
            }
        }
    }
}
