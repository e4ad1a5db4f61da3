//! The slots of one window: few beside the window itself, many in a ring on the heap.
//!
//! Most callers are quiet: their few slots are found with what is read anyway. Those of the others
//! are a ring of numbers, in which the slot that is being filled and the one that expires next are
//! neighbours, so that a decision touches one place of it however many slots hold units.
//!
//! **Invariant.** All slots that hold units lie within [`SLOTS_PER_SPAN`] of the newest one, which
//! the window knows and names; [`Slots::forget`] keeps that so when it moves on.
//!
//! **Does not own** which moment a slot is, or what units mean.

use std::ops::RangeInclusive;

use super::SLOTS_PER_SPAN;

/// Slots kept beside the window itself.
const FEW: usize = 4;

/// Places of the ring: the first power of two that holds all live slots.
const RING: u64 = 64;

const _: () = assert!(SLOTS_PER_SPAN < RING);

/// Units by slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slots {
    Few(Few),
    /// By the slot's number modulo [`RING`].
    Many(Box<[u32; RING as usize]>),
}

/// So many slots, in rising order; places behind them are zero. Slots' numbers are kept modulo
/// 2^32: the rest of them follows from the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Few {
    length: u8,
    slots: [(u32, u32); FEW],
}

impl Few {
    fn used(&self) -> &[(u32, u32)] {
        self.slots.get(..usize::from(self.length)).unwrap_or(&[])
    }

    /// The units of a slot that holds some.
    fn find(&mut self, slot: u64) -> Option<&mut u32> {
        let used = self.slots.iter_mut().take(usize::from(self.length));
        // The one that is being filled is the last.
        let found = used.rev().find(|(low, _)| *low == low_bits(slot));
        found.map(|(_, units)| units)
    }

    /// Takes those out that are empty.
    fn tidy(&mut self) {
        let all = std::mem::take(self);
        for one in all.used().iter().filter(|(_, units)| *units > 0) {
            self.push(*one);
        }
    }

    fn push(&mut self, slot: (u32, u32)) {
        if let Some(place) = self.slots.get_mut(usize::from(self.length)) {
            *place = slot;
            self.length += 1;
        }
    }

    /// A slot that holds none yet, put among the others; false where all places are taken.
    fn insert(&mut self, slot: u64, units: u32, newest: u64) -> bool {
        if usize::from(self.length) == FEW {
            return false;
        }
        self.push((low_bits(slot), units));
        // Nearly always it is the newest and stands right.
        if let Some(used) = self.slots.get_mut(..usize::from(self.length)) {
            used.sort_by_key(|(low, _)| full(*low, newest));
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
            Self::Few(few) => (few.used(), None),
            Self::Many(ring) => (&[][..], Some(ring)),
        };
        let few = few
            .iter()
            .map(move |(low, units)| (full(*low, newest), *units));
        let many = ring.into_iter().flat_map(move |ring| {
            live(newest).map(move |slot| (slot, ring.get(place(slot)).copied().unwrap_or(0)))
        });
        few.chain(many.filter(|(_, units)| *units > 0))
    }

    /// The first slot that holds units: what [`Self::iter`] begins with, found at once.
    pub(super) fn oldest(&self, newest: u64) -> Option<u64> {
        match self {
            Self::Few(few) => few.used().first().map(|(low, _)| full(*low, newest)),
            Self::Many(ring) => live(newest).find(|slot| ring.get(place(*slot)) != Some(&0)),
        }
    }

    /// Adds units to a live slot; how many fitted.
    pub(super) fn add(&mut self, slot: u64, units: u32, newest: u64) -> u32 {
        if let Some(held) = self.find(slot) {
            let before = *held;
            *held = before.saturating_add(units);
            return *held - before;
        }
        if let Self::Few(few) = self
            && !few.insert(slot, units, newest)
        {
            self.widen(newest);
            return self.add(slot, units, newest);
        }
        units
    }

    /// Takes units out of a live slot, as far as it has them; how many.
    pub(super) fn take(&mut self, slot: u64, units: u32) -> u32 {
        let Some(held) = self.find(slot) else {
            return 0;
        };
        let taken = units.min(*held);
        *held -= taken;
        if let (0, Self::Few(few)) = (*held, self) {
            few.tidy();
        }
        taken
    }

    /// Forgets what no longer lives now that the newest slot is another; how many units.
    pub(super) fn forget(&mut self, newest_before: u64, newest: u64) -> u64 {
        let dead = |slot: u64| newest - slot > SLOTS_PER_SPAN;
        let mut gone = 0;
        match self {
            Self::Few(few) => {
                for (low, units) in few.slots.iter_mut().take(usize::from(few.length)) {
                    if !dead(full(*low, newest_before)) {
                        break;
                    }
                    gone += u64::from(std::mem::take(units));
                }
                if gone > 0 {
                    few.tidy();
                }
            }
            Self::Many(ring) => {
                for slot in live(newest_before).take_while(|slot| dead(*slot)) {
                    if let Some(units) = ring.get_mut(place(slot)) {
                        gone += u64::from(std::mem::take(units));
                    }
                }
            }
        }
        gone
    }

    /// Holds nothing any more: gives the heap back.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    fn find(&mut self, slot: u64) -> Option<&mut u32> {
        match self {
            Self::Few(few) => few.find(slot),
            Self::Many(ring) => ring.get_mut(place(slot)),
        }
    }

    /// Moves the slots into a ring.
    fn widen(&mut self, newest: u64) {
        let mut ring = Box::new([0; RING as usize]);
        for (slot, units) in self.iter(newest) {
            if let Some(held) = ring.get_mut(place(slot)) {
                *held = units;
            }
        }
        *self = Self::Many(ring);
    }
}

fn live(newest: u64) -> RangeInclusive<u64> {
    newest.saturating_sub(SLOTS_PER_SPAN)..=newest
}

/// The number of a live slot of which the lower bits are known.
fn full(low: u32, newest: u64) -> u64 {
    newest - u64::from(low_bits(newest).wrapping_sub(low))
}

fn place(slot: u64) -> usize {
    (slot % RING) as usize
}

fn low_bits(slot: u64) -> u32 {
    (slot & u64::from(u32::MAX)) as u32
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
                assert_eq!(slots.take(oldest, back), back);
                assert_eq!(ring.take(oldest, back), back);
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
            assert_eq!(slots.take(START - 1, 5), 0);
            assert_eq!(slots.take(START, 5), 5);
            assert_eq!(slots.take(START, u32::MAX), u32::MAX - 5);
            assert_eq!(held(&slots, START), []);
            assert_eq!(slots.oldest(START), None);
        }
    }
}
