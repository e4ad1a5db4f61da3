//! Shards: counters by id under one lock each, and the locking of several in one order.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tollgate_model::{CounterId, Ticks};

use crate::counter::Counter;

/// How many shards there are. Snapshots are taken shard by shard, so the number is part of a
/// checkpoint.
pub const SHARDS: u16 = 64;

/// Counter ids are hashes already: half of their bits serve as they are. The shard is chosen by
/// bits of the other half.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = (id >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Ids come through `write_u128`; anything else is folded in, slowly and correctly.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

/// Some of the counters. Aligned so that two shards' locks never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Shard {
    pub(crate) counters: HashMap<CounterId, Counter, BuildHasherDefault<IdHasher>>,
    /// Snapshots taken so far.
    pub(crate) round: u64,
    /// When the last one was taken.
    pub(crate) snapshot_at: Ticks,
    /// The latest moment seen.
    pub(crate) ticks: Ticks,
}

impl Shard {
    /// The moment as the shard takes it: never before the latest.
    pub(crate) fn clamp(&mut self, now: Ticks) -> Ticks {
        self.ticks = self.ticks.max(now);
        self.ticks
    }
}

/// The shard of a counter.
pub(crate) fn shard_of(counter: CounterId) -> u16 {
    (counter.0 % u128::from(SHARDS)) as u16
}

/// All shards.
#[derive(Debug)]
pub(crate) struct Shards(Box<[Mutex<Shard>]>);

impl Shards {
    pub(crate) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mutex<Shard>> {
        self.0.iter()
    }

    pub(crate) fn get(&self, shard: u16) -> Option<&Mutex<Shard>> {
        self.0.get(usize::from(shard))
    }

    /// Locks the shards of these counters, in rising order whatever order the counters are in, so
    /// that no two callers ever wait for each other.
    pub(crate) fn lock(&self, counters: impl Iterator<Item = CounterId>) -> Locked<'_> {
        // One bit a shard: reading them from the lowest is sorting without repetition.
        let mut wanted = counters.fold(0u64, |set, counter| set | 1 << shard_of(counter));
        let mut locked = Locked(SmallVec::new());
        while wanted != 0 {
            let shard = wanted.trailing_zeros() as u16;
            wanted &= wanted - 1;
            if let Some(held) = self.get(shard) {
                locked.0.push((shard, held.lock()));
            }
        }
        locked
    }
}

const _: () = assert!(SHARDS as u32 <= u64::BITS);

/// Locked shards, few enough to be searched one by one.
pub(crate) struct Locked<'a>(SmallVec<[(u16, MutexGuard<'a, Shard>); 6]>);

impl Locked<'_> {
    /// The shard of a counter that was named when locking.
    pub(crate) fn shard(&mut self, counter: CounterId) -> Option<&mut Shard> {
        let wanted = shard_of(counter);
        self.0
            .iter_mut()
            .find(|(shard, _)| *shard == wanted)
            .map(|(_, guard)| &mut **guard)
    }

    /// A counter in a shard that was named when locking.
    pub(crate) fn counter(&mut self, counter: CounterId) -> Option<&mut Counter> {
        self.shard(counter)?.counters.get_mut(&counter)
    }

    /// Moves all locked shards to one moment, no earlier than the latest any of them has seen.
    pub(crate) fn clamp(&mut self, now: Ticks) -> Ticks {
        let at = self
            .0
            .iter()
            .fold(now, |latest, (_, shard)| latest.max(shard.ticks));
        for (_, shard) in &mut self.0 {
            shard.ticks = at;
        }
        at
    }
}
