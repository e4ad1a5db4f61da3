//! Counters after a restart, from the last checkpoint and the journal after it.
//!
//! For one counter, let the checkpoint's copy of it be taken at moment *s* (an absent copy is an
//! empty one) and let the crash come at *k*. Requests are told apart by when they were admitted
//! and whether the journal holds their end:
//!
//! ```text
//!                          ended before s   its end lies after s   its end is unknown
//! admitted before s        A: in the copy   B: in the copy as      C: in the copy as
//!                                              reserved               reserved
//! admitted from s to k     -                D: not in the copy     E: not in the copy
//! ```
//! Journal and copy agree on which side of *s* an end lies: settling takes the event's sequence
//! under the shard's lock, the copy takes all positions under the same lock, and a checkpoint
//! counts only once the journal is written up to them. Which side an admission lies on is the
//! charge's `round` against the copy's.
//!
//! **Nothing is forgotten.** A, B and C are in the copy's slots and sum; B is corrected by
//! `kept - reserved`, D is added with `kept`, each in its slot of admission. So only E is left.
//! What was taken never passes the mark, and marks are written before anything is taken beyond
//! the one before. So with G the highest mark known and R the units taken by A to D (the copy's
//! `reserved`, and `reserved` of D), E ≤ G - R. These units count as spent at the moment of the
//! start, which is no earlier than any admission of E: a window counts them too long rather than
//! too short. The counter then stands at or above its true state at every later moment, hence
//! admitted units never pass the maximum.
//!
//! **Quotas that refuse nobody** grant nothing: there is no mark to hold R against, so E is not held.
//! What is forgotten by it was neither answered nor recorded, and nobody was refused by the quota
//! then; where it refuses later in the same period, it may let E pass once more.
//!
//! **The ledger stays provable.** `settled` is the sum of what A, B and D kept, which is the sum of
//! their records; C, E and what of the last grant was not used stand apart in `held`. What is used
//! is both.
//!
//! **Hardly anything is counted twice.** Marks are raised to what was taken plus one grant, so
//! G - R is E and at most one grant that was not used.
//!
//! **Lives.** A counter that was evicted and made again counts `reserved` and marks from 0. It
//! carries the tick of its making; marks and charges of an earlier life are left out of G and R.
//! Nothing was in flight between two lives and nothing counted, so they add nothing to E. Slots
//! take all charges, as slots are absolute.
//!
//! A requested end of E that becomes known at the start (the last progress entry of a request
//! that took long) is handed in as a charge that kept all it reserved: it moves from E to D.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use tollgate_admission::slot_at;
use tollgate_model::{Charge, CounterId, CounterState, Mark, Now, Sequence, ShardSnapshot, Ticks};

use crate::counter::{Body, Counter};
use crate::memory::MemoryCounters;
use crate::shard::shard_of;

/// Where an entry lies in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The start of the gateway that wrote it.
    pub epoch: u64,
    /// The thread.
    pub thread: u16,
    /// The entry's sequence.
    pub sequence: Sequence,
}

/// What the journal holds about counters. Entries that the checkpoint already covers may be among
/// them; they are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// A raised mark.
    Mark(Mark),
    /// What an ended request was charged.
    Charge(Charge),
}

/// The counters' part of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Checkpointed<'a> {
    /// The start of the gateway that took it.
    pub epoch: u64,
    /// One snapshot of every shard.
    pub shards: &'a [ShardSnapshot],
}

/// What is known about one counter.
#[derive(Default)]
struct Known<'a> {
    copy: Option<&'a CounterState>,
    marks: Vec<Mark>,
    charges: Vec<Charge>,
}

impl MemoryCounters {
    /// Puts the counters back as the checkpoint and the journal tell. Without a checkpoint the
    /// entries must be all that was ever written. Called once, before anything is reserved; the
    /// caller takes a checkpoint right after, so that what is counted on suspicion now is known.
    pub fn restore(
        &self,
        checkpoint: Option<Checkpointed<'_>>,
        entries: &[(Position, Logged)],
        now: Now,
    ) {
        let mut known: HashMap<CounterId, Known<'_>> = HashMap::new();
        let mut latest = Ticks(0);
        let copies = checkpoint.map_or(&[][..], |taken| taken.shards);
        for copy in copies {
            latest = latest.max(copy.at);
            for state in &copy.counters {
                known.entry(state.counter).or_default().copy = Some(state);
            }
        }
        let by_shard: HashMap<u16, &ShardSnapshot> =
            copies.iter().map(|copy| (copy.shard, copy)).collect();
        // A clock set back must not open again what an earlier life has forgotten.
        let closed_before = copies.iter().map(|copy| copy.closed_before.0).max();
        self.closed_before
            .fetch_max(closed_before.unwrap_or(i64::MIN), Ordering::AcqRel);
        let copy_of = |counter| by_shard.get(&shard_of(counter)).copied();
        for (position, logged) in entries {
            let (counter, at) = match logged {
                Logged::Mark(mark) => (mark.counter, mark.at),
                Logged::Charge(charge) => (charge.counter, charge.at),
            };
            latest = latest.max(at);
            if checkpoint.is_some_and(|c| is_covered(*position, c.epoch, copy_of(counter))) {
                continue;
            }
            let known = known.entry(counter).or_default();
            match logged {
                Logged::Mark(mark) => known.marks.push(*mark),
                Logged::Charge(charge) => known.charges.push(*charge),
            }
        }
        // One tick later than anything known, so that a counter made now has a life of its own.
        let start = now.ticks.max(latest.plus_us(1));
        for (shard, held) in (0u16..).zip(self.shards.iter()) {
            let mut held = held.lock();
            held.clamp(start);
            if let Some(copy) = by_shard.get(&shard) {
                held.round = held.round.max(copy.round);
            }
        }
        for (id, known) in known {
            let round = copy_of(id).map_or(0, |copy| copy.round);
            let Some(counter) = rebuild(&known, round, start) else {
                continue;
            };
            if let Some(shard) = self.shards.get(shard_of(id)) {
                let mut shard = shard.lock();
                shard.find_or_make(id, || counter);
            }
        }
    }
}

/// Whether the copy of the counter's shard already holds what the entry says.
fn is_covered(position: Position, epoch: u64, copy: Option<&ShardSnapshot>) -> bool {
    let Some(copy) = copy else {
        return false;
    };
    if position.epoch != epoch {
        return position.epoch < epoch;
    }
    copy.positions
        .get(usize::from(position.thread))
        .is_some_and(|first_after| position.sequence < *first_after)
}

/// One counter at the moment of the start. See the module's proof.
fn rebuild(known: &Known<'_>, round: u64, start: Ticks) -> Option<Counter> {
    let kind = known
        .copy
        .map(|copy| copy.kind)
        .or_else(|| known.marks.first().map(|mark| mark.kind))
        .or_else(|| known.charges.first().map(|charge| charge.kind))?;
    let life_of_copy = known.copy.map(|copy| copy.began);
    let life = known
        .marks
        .iter()
        .map(|mark| mark.began)
        .chain(life_of_copy)
        .max()
        .unwrap_or(start);
    let copy_lives = known.copy.filter(|copy| copy.began == life);

    let mut counter = Counter::new(kind, start);
    // Periods of several lengths may have shared it: the longest holds.
    for mark in &known.marks {
        counter.prolong(mark.kind);
    }
    for charge in &known.charges {
        counter.prolong(charge.kind);
    }
    counter.began = life;
    counter.settled = known.copy.map_or(0, |copy| copy.settled);
    // C and what was held before; B leaves it again, below.
    counter.held = known
        .copy
        .map_or(0, |copy| copy.spent.saturating_sub(copy.settled));
    counter.reserved = copy_lives.map_or(0, |copy| copy.reserved);
    counter.granted = known
        .marks
        .iter()
        .filter(|mark| mark.began == life)
        .map(|mark| mark.granted)
        .chain(copy_lives.map(|copy| copy.granted))
        .max()
        .unwrap_or(0);
    for (slot, units) in known.copy.iter().flat_map(|copy| &copy.slots) {
        add_in_slot(&mut counter, *slot, u64::from(*units));
    }
    for charge in &known.charges {
        apply(&mut counter, charge, charge.round < round);
    }
    // E, and what of the last grant was not used.
    let unknown = counter.granted.saturating_sub(counter.reserved);
    counter.held = counter.held.saturating_add(unknown);
    if let Body::Window(window) = &mut counter.body {
        window.add(unknown);
    }
    counter.granted = counter.granted.max(counter.reserved);
    counter.reserved = counter.granted;
    Some(counter)
}

/// Corrects the counter by one ended request, of B or of D.
fn apply(counter: &mut Counter, charge: &Charge, in_copy: bool) {
    if in_copy {
        let back = charge.reserved.saturating_sub(charge.kept);
        counter.settled = counter.settled.saturating_add(charge.kept);
        counter.held = counter.held.saturating_sub(charge.reserved);
        if let Body::Window(window) = &mut counter.body {
            let slot = slot_at(window.per(), charge.at);
            window.give_back(slot, back);
        }
    } else {
        counter.settled = counter.settled.saturating_add(charge.kept);
        if charge.at >= counter.began {
            counter.reserved = counter.reserved.saturating_add(charge.reserved);
        }
        if let Body::Window(window) = &mut counter.body {
            let slot = slot_at(window.per(), charge.at);
            window.add_in(slot, charge.kept);
        }
    }
}

fn add_in_slot(counter: &mut Counter, slot: u64, units: u64) {
    if let Body::Window(window) = &mut counter.body {
        window.add_in(slot, units);
    }
}
