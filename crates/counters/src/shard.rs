//! Shards: counters under one lock each, and the locking of several in one order.
//!
//! The counters of one scope (the windows and the quota of a subscription, say) are asked
//! together, so they stand together: one lock, one look-up, memory in one place.

use smallvec::SmallVec;
use tollgate_model::{CounterId, Ticks};

use crate::counter::Counter;
use crate::sync::{Mutex, MutexGuard};
use crate::table::Table;

/// How many shards there are. Snapshots are taken shard by shard, so the number is part of a
/// checkpoint; it is large so that nobody waits long for the copy of one.
pub const SHARDS: u16 = 1_024;

/// Bits of a scope that choose the shard.
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// What of a scope does not choose the shard: what tells scopes of one shard apart.
fn key_of(scope: u128) -> u64 {
    (scope >> SHARD_BITS) as u64
}

// Nothing of a scope is lost between its shard and its key there.
const _: () = assert!(CounterId::SCOPE_BITS <= u64::BITS + SHARD_BITS);

/// Some of the counters.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    groups: Table,
    /// Snapshots taken so far.
    pub(crate) round: u64,
    /// When the last one was taken.
    pub(crate) snapshot_at: Ticks,
    /// The latest moment seen.
    pub(crate) ticks: Ticks,
    /// Which shard it is: the lower bits of all its scopes.
    number: u16,
}

impl Shard {
    /// The moment as the shard takes it: never before the latest.
    pub(crate) fn clamp(&mut self, now: Ticks) -> Ticks {
        self.ticks = self.ticks.max(now);
        self.ticks
    }

    /// The counter, made where it is not known. Places found before no longer hold then.
    pub(crate) fn find_or_make(
        &mut self,
        id: CounterId,
        make: impl FnOnce() -> Counter,
    ) -> Option<&mut Counter> {
        let group = self.groups.find_or_make(key_of(id.scope()));
        self.groups.group_mut(group)?.find_or_make(id, make)
    }

    /// The counter, if it is known.
    #[cfg(test)]
    pub(crate) fn find(&mut self, id: CounterId) -> Option<&mut Counter> {
        let group = self.groups.find(key_of(id.scope()))?;
        let group = self.groups.group_mut(group)?;
        group.place(id).and_then(|place| group.get(place))
    }

    /// How many counters there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// All counters.
    pub(crate) fn counters(&mut self) -> impl Iterator<Item = (CounterId, &mut Counter)> {
        let number = u128::from(self.number);
        self.groups.counters().map(move |(key, within, counter)| {
            let scope = u128::from(key) << SHARD_BITS | number;
            (CounterId::of_parts(scope, within), counter)
        })
    }

    /// Keeps the counters that are to be kept; how many were not.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&mut Counter) -> bool) -> usize {
        self.groups.retain(keep)
    }
}

/// The shard of a counter, which is that of its whole scope.
pub(crate) fn shard_of(counter: CounterId) -> u16 {
    (counter.scope() % u128::from(SHARDS)) as u16
}

/// A shard with its lock, in a cache line of its own: no two locks ever share one, and whoever has
/// taken the lock has read what stands behind it.
#[derive(Debug)]
#[repr(align(64))]
struct Line(Mutex<Shard>);

#[cfg(not(test))]
const _: () = assert!(size_of::<Line>() == 64);

/// All shards.
#[derive(Debug)]
pub(crate) struct Shards(Box<[Line]>);

impl Shards {
    pub(crate) fn new() -> Self {
        let shard = |number| {
            Line(Mutex::new(Shard {
                number,
                ..Shard::default()
            }))
        };
        Self((0..SHARDS).map(shard).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mutex<Shard>> {
        self.0.iter().map(|line| &line.0)
    }

    pub(crate) fn get(&self, shard: u16) -> Option<&Mutex<Shard>> {
        self.0.get(usize::from(shard)).map(|line| &line.0)
    }

    /// Locks the shards of these counters, in rising order whatever order the counters are in, so
    /// that no two callers ever wait for each other.
    #[inline]
    pub(crate) fn lock(&self, counters: impl Iterator<Item = CounterId>) -> Locked<'_> {
        let mut wanted: SmallVec<[u16; 6]> = SmallVec::new();
        for shard in counters.map(shard_of) {
            // Those of one scope follow each other.
            if wanted.last() != Some(&shard) {
                wanted.push(shard);
            }
        }
        if wanted.len() > 1 {
            wanted.sort_unstable();
            wanted.dedup();
        }
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

/// Where a counter stands among locked shards, until one is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    shard: u32,
    group: u32,
    counter: u32,
}

/// The places of several counters, `None` for those that are not known.
pub(crate) type Places = SmallVec<[Option<Place>; 6]>;

impl Locked<'_> {
    /// Where these counters stand, all in shards that were named when locking. All scopes are
    /// looked up before any of their counters, so that the processor fetches them from memory at
    /// the same time: with work in between it waits for each in turn.
    #[inline]
    pub(crate) fn places<I>(&self, counters: I) -> Places
    where
        I: Iterator<Item = CounterId> + Clone,
    {
        let mut places = Places::new();
        let mut last = (None, None);
        for counter in counters.clone() {
            // Those of one scope follow each other.
            if last.0 != Some(counter.scope()) {
                last = (Some(counter.scope()), self.group(counter));
            }
            places.push(last.1);
        }
        for (counter, place) in counters.zip(&mut places) {
            if let Some(found) = place {
                let shard = self.0.get(found.shard as usize);
                let group = shard.and_then(|(_, held)| held.groups.group(found.group as usize));
                match group.and_then(|group| group.place(counter)) {
                    Some(within) => found.counter = within as u32,
                    None => *place = None,
                }
            }
        }
        places
    }

    fn group(&self, counter: CounterId) -> Option<Place> {
        let wanted = shard_of(counter);
        let shard = self.0.iter().position(|(shard, _)| *shard == wanted)?;
        let (_, held) = self.0.get(shard)?;
        let group = held.groups.find(key_of(counter.scope()))?;
        Some(Place {
            shard: shard as u32,
            group: group as u32,
            counter: 0,
        })
    }

    /// The counter that stands there, and the round of its shard.
    #[inline]
    pub(crate) fn at(&mut self, place: Place) -> Option<(&mut Counter, u64)> {
        let (_, shard) = self.0.get_mut(place.shard as usize)?;
        let round = shard.round;
        let group = shard.groups.group_mut(place.group as usize)?;
        Some((group.get(place.counter as usize)?, round))
    }

    /// The shard of a counter that was named when locking.
    pub(crate) fn shard(&mut self, counter: CounterId) -> Option<&mut Shard> {
        let wanted = shard_of(counter);
        self.0
            .iter_mut()
            .find(|(shard, _)| *shard == wanted)
            .map(|(_, guard)| &mut **guard)
    }

    /// A counter that is known, in a shard that was named when locking.
    pub(crate) fn counter(&mut self, counter: CounterId) -> Option<&mut Counter> {
        let place = self.places(std::iter::once(counter)).into_iter().next()??;
        self.at(place).map(|(counter, _)| counter)
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
