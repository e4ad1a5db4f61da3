//! The slots of one window: few beside the window itself, many in a ring on the heap.
//!
//! Most callers are quiet: their few slots are found with what is read anyway. Those of the others
//! are a ring of numbers. Which of its places hold units, and the units of the newest slot, stand
//! beside the window too: the ring is touched when a window moves on to another slot, not by every
//! decision.
//!
//! **Invariant.** All slots that hold units lie within [`SLOTS_PER_SPAN`] of the newest one, which
//! the window knows and names; [`Slots::forget`] keeps that so when it moves on.
//!
//! **Does not own** which moment a slot is, or what units mean.

use std::ops::RangeInclusive;

use super::SLOTS_PER_SPAN;

/// Slots kept beside the window itself: as many as leave it the size that one slot less would.
const FEW: usize = 5;
/// Places of the ring: the first power of two that holds all live slots.
const RING: u64 = 64;

const _: () = assert!(SLOTS_PER_SPAN < RING);

/// Units by slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slots {
    Few(Few),
    Many(Ring),
}

/// So many slots, by their numbers modulo [`RING`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ring {
    /// The newest slot's place is empty here.
    units: Box<Places>,
    /// The newest slot's units.
    filling: u32,
    /// The places that hold units, the newest slot's among them: a bit each.
    held: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Places([u32; RING as usize]);

impl Default for Places {
    fn default() -> Self {
        Self([0; RING as usize])
    }
}

impl Ring {
    fn units(&self, slot: u64, newest: u64) -> u32 {
        if slot == newest {
            self.filling
        } else {
            self.units.0.get(place(slot)).copied().unwrap_or(0)
        }
    }

    /// Puts in the units of a live slot.
    fn put(&mut self, slot: u64, units: u32, newest: u64) {
        if slot == newest {
            self.filling = units;
        } else if let Some(held) = self.units.0.get_mut(place(slot)) {
            *held = units;
        }
        let bit = 1 << place(slot);
        self.held = if units == 0 {
            self.held & !bit
        } else {
            self.held | bit
        };
    }

    /// The first live slot that holds units.
    fn oldest(&self, newest: u64) -> Option<u64> {
        // Bit n: the slot that is n places after the one just behind the newest.
        let by_age = self.held.rotate_right(place(newest + 1) as u32);
        (by_age != 0).then(|| newest + 1 + u64::from(by_age.trailing_zeros()) - RING)
    }

    /// Makes another slot the newest; how many units no longer count.
    fn forget(&mut self, newest_before: u64, newest: u64) -> u64 {
        let filled = std::mem::take(&mut self.filling);
        if let Some(held) = self.units.0.get_mut(place(newest_before)) {
            *held = filled;
        }
        let mut gone = 0;
        while let Some(oldest) = self.oldest(newest_before)
            && newest - oldest > SLOTS_PER_SPAN
        {
            if let Some(units) = self.units.0.get_mut(place(oldest)) {
                gone += u64::from(std::mem::take(units));
            }
            self.held &= !(1 << place(oldest));
        }
        gone
    }
}

// A counter's window and its name fill one cache line.
const _: () = assert!(size_of::<Slots>() == 32);

/// So many slots, in rising order; places behind them are zero. Slots' numbers are kept modulo
/// 256: the rest of them follows from the newest, which is less than that away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Few {
    length: u8,
    slots: [u8; FEW],
    units: [u32; FEW],
}

const _: () = assert!(SLOTS_PER_SPAN < 1 << u8::BITS);

impl Few {
    fn used(&self) -> impl Iterator<Item = (u8, u32)> + '_ {
        let all = self.slots.iter().copied().zip(self.units.iter().copied());
        all.take(usize::from(self.length))
    }

    /// The units of a slot that holds some.
    fn find(&mut self, slot: u64) -> Option<&mut u32> {
        let wanted = low_bits(slot);
        let used = self.slots.iter().zip(&mut self.units);
        let used = used.take(usize::from(self.length));
        // The one that is being filled is the last.
        let found = used.rev().find(|(low, _)| **low == wanted);
        found.map(|(_, units)| units)
    }

    /// Takes those out that are empty.
    fn tidy(&mut self) {
        let all = std::mem::take(self);
        for (slot, units) in all.used().filter(|(_, units)| *units > 0) {
            self.push(slot, units);
        }
    }

    fn push(&mut self, slot: u8, units: u32) {
        let last = usize::from(self.length);
        if let (Some(low), Some(held)) = (self.slots.get_mut(last), self.units.get_mut(last)) {
            (*low, *held) = (slot, units);
            self.length += 1;
        }
    }

    /// A slot that holds none yet, put among the others; false where all places are taken.
    fn insert(&mut self, slot: u64, units: u32, newest: u64) -> bool {
        if usize::from(self.length) == FEW {
            return false;
        }
        // Nearly always it is the newest and stands last.
        let later = |(low, _): &(u8, u32)| full(*low, newest) > slot;
        if self.used().any(|one| later(&one)) {
            let all = std::mem::take(self);
            for (low, units) in all.used().filter(|one| !later(one)) {
                self.push(low, units);
            }
            self.push(low_bits(slot), units);
            for (low, units) in all.used().filter(later) {
                self.push(low, units);
            }
        } else {
            self.push(low_bits(slot), units);
        }
        true
    }
}

impl Slots {
    /// No units.
    pub(super) fn new() -> Self {
        Self::Few(Few::default())
    }

    /// The slots that hold units, in rising order.
    pub(super) fn iter(&self, newest: u64) -> impl Iterator<Item = (u64, u32)> + '_ {
        let (few, ring) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(ring) => (None, Some(ring)),
        };
        let few = few.into_iter().flat_map(Few::used);
        let few = few.map(move |(low, units)| (full(low, newest), units));
        let many = ring
            .into_iter()
            .flat_map(move |ring| live(newest).map(move |slot| (slot, ring.units(slot, newest))));
        few.chain(many.filter(|(_, units)| *units > 0))
    }

    /// The first slot that holds units: what [`Self::iter`] begins with, found at once.
    #[inline]
    pub(super) fn oldest(&self, newest: u64) -> Option<u64> {
        match self {
            Self::Few(few) => few.used().next().map(|(low, _)| full(low, newest)),
            Self::Many(ring) => ring.oldest(newest),
        }
    }

    /// Adds units to a live slot; how many fitted.
    #[inline]
    pub(super) fn add(&mut self, slot: u64, units: u32, newest: u64) -> u32 {
        match self {
            Self::Few(few) => {
                if let Some(held) = few.find(slot) {
                    let before = *held;
                    *held = before.saturating_add(units);
                    return *held - before;
                }
                if !few.insert(slot, units, newest) {
                    self.widen(newest);
                    return self.add(slot, units, newest);
                }
                units
            }
            Self::Many(ring) => {
                let before = ring.units(slot, newest);
                let after = before.saturating_add(units);
                ring.put(slot, after, newest);
                after - before
            }
        }
    }

    /// Takes units out of a live slot, as far as it has them; how many.
    pub(super) fn take(&mut self, slot: u64, units: u32, newest: u64) -> u32 {
        match self {
            Self::Few(few) => {
                let Some(held) = few.find(slot) else {
                    return 0;
                };
                let taken = units.min(*held);
                *held -= taken;
                if *held == 0 {
                    few.tidy();
                }
                taken
            }
            Self::Many(ring) => {
                let before = ring.units(slot, newest);
                let taken = units.min(before);
                ring.put(slot, before - taken, newest);
                taken
            }
        }
    }

    /// Forgets what no longer lives now that the newest slot is another; how many units.
    pub(super) fn forget(&mut self, newest_before: u64, newest: u64) -> u64 {
        let few = match self {
            Self::Few(few) => few,
            Self::Many(ring) => return ring.forget(newest_before, newest),
        };
        let mut gone = 0;
        let used = few.slots.iter().zip(&mut few.units);
        for (low, units) in used.take(usize::from(few.length)) {
            if newest - full(*low, newest_before) <= SLOTS_PER_SPAN {
                break;
            }
            gone += u64::from(std::mem::take(units));
        }
        if gone > 0 {
            few.tidy();
        }
        gone
    }

    /// Holds nothing any more: gives the heap back.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Moves the slots into a ring.
    fn widen(&mut self, newest: u64) {
        let mut ring = Ring::default();
        for (slot, units) in self.iter(newest) {
            ring.put(slot, units, newest);
        }
        *self = Self::Many(ring);
    }
}

fn live(newest: u64) -> RangeInclusive<u64> {
    newest.saturating_sub(SLOTS_PER_SPAN)..=newest
}

/// The number of a live slot of which the lower bits are known.
fn full(low: u8, newest: u64) -> u64 {
    newest - u64::from(low_bits(newest).wrapping_sub(low))
}

fn place(slot: u64) -> usize {
    (slot % RING) as usize
}

fn low_bits(slot: u64) -> u8 {
    (slot & u64::from(u8::MAX)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots on both sides of where the kept bits of their numbers begin anew.
    const START: u64 = (1 << 32) - 70;

    fn held(slots: &Slots, newest: u64) -> Vec<(u64, u32)> {
        slots.iter(newest).collect()
    }

    #[test]
    fn few_and_many_slots_hold_the_same_and_forget_the_same() {
        for step in 1..=SLOTS_PER_SPAN + 2 {
            let (mut slots, mut ring) = (Slots::new(), Slots::new());
            ring.widen(START);
            let mut newest = START;
            let mut naive: Vec<(u64, u32)> = Vec::new();
            for n in 1..=130u32 {
                let before = newest;
                newest += if n % 7 == 0 { step * 9 } else { step };
                let dead = |(slot, _): &&(u64, u32)| newest - slot > SLOTS_PER_SPAN;
                let gone: u64 = naive.iter().filter(dead).map(|(_, n)| u64::from(*n)).sum();
                naive.retain(|one| !dead(&one));
                assert_eq!(slots.forget(before, newest), gone, "{step} {n}");
                assert_eq!(ring.forget(before, newest), gone, "{step} {n}");
                // Into the newest slot, and a late one into an older.
                for slot in [newest, newest - u64::from(n % 61)] {
                    assert_eq!(slots.add(slot, n, newest), n);
                    assert_eq!(ring.add(slot, n, newest), n);
                    match naive.iter_mut().find(|(held, _)| *held == slot) {
                        Some((_, units)) => *units += n,
                        None => naive.push((slot, n)),
                    }
                }
                naive.sort_unstable();
                // Back out of the oldest, every now and then all of it.
                let (oldest, units) = naive[0];
                let back = if n % 3 == 0 { units } else { 1 };
                assert_eq!(slots.take(oldest, back, newest), back);
                assert_eq!(ring.take(oldest, back, newest), back);
                naive[0].1 -= back;
                naive.retain(|(_, units)| *units > 0);
                assert_eq!(held(&slots, newest), naive, "{step} {n}");
                assert_eq!(held(&ring, newest), naive, "{step} {n}");
                let first = naive.first().map(|(slot, _)| *slot);
                assert_eq!(slots.oldest(newest), first);
                assert_eq!(ring.oldest(newest), first);
            }
        }
    }

    #[test]
    fn a_slot_that_is_full_stays_full_and_gives_back_no_more_than_it_held() {
        for many in [false, true] {
            let mut slots = Slots::new();
            if many {
                slots.widen(START);
            }
            assert_eq!(slots.add(START, u32::MAX - 1, START), u32::MAX - 1);
            assert_eq!(slots.add(START, 5, START), 1);
            assert_eq!(held(&slots, START), [(START, u32::MAX)]);
            assert_eq!(slots.take(START - 1, 5, START), 0);
            assert_eq!(slots.take(START, 5, START), 5);
            assert_eq!(slots.take(START, u32::MAX, START), u32::MAX - 5);
            assert_eq!(held(&slots, START), []);
            assert_eq!(slots.oldest(START), None);
        }
    }
}
