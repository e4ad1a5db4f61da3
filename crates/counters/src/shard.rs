//! Shards: counters under one lock each, and the locking of several in one order.
//!
//! The counters of one scope (the windows and the quota of a subscription, say) are asked
//! together, so they stand together: one lock, one look-up, memory in one place.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use smallvec::SmallVec;
use tollgate_model::{CounterId, Ticks};

use crate::counter::Counter;
use crate::sync::{Mutex, MutexGuard};

/// How many shards there are. Snapshots are taken shard by shard, so the number is part of a
/// checkpoint; it is large so that nobody waits long for the copy of one.
pub const SHARDS: u16 = 1_024;

/// Bits of a scope that choose the shard.
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// What of a scope does not choose the shard: what tells scopes of one shard apart.
fn key_of(scope: u128) -> u64 {
    (scope >> SHARD_BITS) as u64
}

/// Scopes are hashes already: they serve as they are.
#[derive(Default)]
pub(crate) struct ScopeHasher(u64);

impl Hasher for ScopeHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Scopes come through `write_u64`; anything else is folded in, slowly and correctly.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

/// The counters of one scope; few enough to be searched one by one.
#[derive(Debug, Default)]
pub(crate) struct Group(Vec<(u64, Counter)>);

// Nothing of a scope is lost between its shard and its key there.
const _: () = assert!(CounterId::SCOPE_BITS <= u64::BITS + SHARD_BITS);

impl Group {
    /// Reads a little of every counter.
    fn touch(&self) -> u64 {
        self.0.iter().fold(0, |all, (within, _)| all ^ within)
    }

    /// The counter, if it is known.
    pub(crate) fn find(&mut self, id: CounterId) -> Option<&mut Counter> {
        let wanted = id.within_scope();
        self.0
            .iter_mut()
            .find(|(within, _)| *within == wanted)
            .map(|(_, counter)| counter)
    }

    /// The counter, made where it is not known.
    pub(crate) fn find_or_make(
        &mut self,
        id: CounterId,
        make: impl FnOnce() -> Counter,
    ) -> Option<&mut Counter> {
        let wanted = id.within_scope();
        let place = self.0.iter().position(|(within, _)| *within == wanted);
        let place = place.unwrap_or_else(|| {
            // Exactly one: most scopes stay as small as they begin.
            self.0.reserve_exact(1);
            self.0.push((wanted, make()));
            self.0.len() - 1
        });
        self.0.get_mut(place).map(|(_, counter)| counter)
    }
}

/// Some of the counters, in a cache line of their own: two shards' locks never share one, and all
/// shards take as little of the cache as can be.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Shard {
    /// Which shard it is: the lower bits of all its scopes.
    number: u16,
    groups: HashMap<u64, Group, BuildHasherDefault<ScopeHasher>>,
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

    /// The counters of the scope that this one belongs to.
    pub(crate) fn group(&mut self, id: CounterId) -> Option<&mut Group> {
        self.groups.get_mut(&key_of(id.scope()))
    }

    /// The same, made where there are none.
    pub(crate) fn group_or_make(&mut self, id: CounterId) -> &mut Group {
        self.groups.entry(key_of(id.scope())).or_default()
    }

    /// How many counters there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.values().map(|group| group.0.len()).sum()
    }

    /// All counters.
    pub(crate) fn counters(&mut self) -> impl Iterator<Item = (CounterId, &mut Counter)> {
        let number = u128::from(self.number);
        self.groups.iter_mut().flat_map(move |(key, group)| {
            let scope = u128::from(*key) << SHARD_BITS | number;
            let of_scope = group.0.iter_mut();
            of_scope.map(move |(within, counter)| (CounterId::of_parts(scope, *within), counter))
        })
    }

    /// Keeps the counters that are to be kept; how many were not.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut Counter) -> bool) -> usize {
        let mut gone = 0;
        self.groups.retain(|_, group| {
            let before = group.0.len();
            group.0.retain_mut(|(_, counter)| keep(counter));
            gone += before - group.0.len();
            !group.0.is_empty()
        });
        if self.groups.capacity() > 4 * self.groups.len() {
            self.groups.shrink_to_fit();
        }
        gone
    }
}

/// The shard of a counter, which is that of its whole scope.
pub(crate) fn shard_of(counter: CounterId) -> u16 {
    (counter.scope() % u128::from(SHARDS)) as u16
}

/// All shards.
#[derive(Debug)]
pub(crate) struct Shards(Box<[Mutex<Shard>]>);

impl Shards {
    pub(crate) fn new() -> Self {
        let shard = |number| {
            Mutex::new(Shard {
                number,
                ..Shard::default()
            })
        };
        Self((0..SHARDS).map(shard).collect())
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
        let mut wanted: SmallVec<[u16; 6]> = SmallVec::new();
        for shard in counters.map(shard_of) {
            // Those of one scope follow each other.
            if wanted.last() != Some(&shard) {
                wanted.push(shard);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut locked = Locked(SmallVec::new());
        for shard in wanted {
            if let Some(held) = self.get(shard) {
                locked.0.push((shard, held.lock()));
            }
        }
        locked
    }
}

const _: () = assert!(SHARDS.is_power_of_two());

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

    /// The counters of one scope, in a shard that was named when locking.
    pub(crate) fn group(&mut self, counter: CounterId) -> Option<&mut Group> {
        self.shard(counter)?.group(counter)
    }

    /// A counter that is known, in a shard that was named when locking.
    pub(crate) fn counter(&mut self, counter: CounterId) -> Option<&mut Counter> {
        self.group(counter)?.find(counter)
    }

    /// Lets the processor fetch the counters of several scopes from memory at the same time: where
    /// they are asked one after the other, with work in between, it waits for each in turn.
    pub(crate) fn fetch(&mut self, scopes: impl Iterator<Item = CounterId>) {
        for scope in scopes {
            std::hint::black_box(self.group(scope).map_or(0, |group| group.touch()));
        }
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
