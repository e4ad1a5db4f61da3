//! The scopes of one shard, each with its counters: found by a hash that they bring along.
//!
//! Open addressing with linear probing. A scope's key and the way to its counters stand beside each
//! other, so a look-up waits for memory once; and what was found is named by its place, so that it
//! is looked up once however often it is asked for.
//!
//! **Invariants.** At least a quarter of the places is free, and no free place lies between where a
//! key's search begins and where it stands. A place is free exactly where its group has no counter.
//! Places change only where a scope is made or counters are forgotten.

use tollgate_model::CounterId;

use crate::counter::Counter;

/// Places that a table begins with.
const PLACES_MIN: usize = 2;

/// A counter and what tells it apart within its scope: two cache lines, the first with all that
/// moving a quiet window takes.
#[derive(Debug)]
#[repr(C, align(64))]
struct Held {
    within: u64,
    counter: Counter,
}

const _: () = assert!(size_of::<Held>() == 128);

/// The counters of one scope; few enough to be searched one by one.
#[derive(Debug, Default)]
pub(crate) struct Group(Vec<Held>);

impl Group {
    /// Where the counter stands, if it is known.
    pub(crate) fn place(&self, id: CounterId) -> Option<usize> {
        let wanted = id.within_scope();
        self.0.iter().position(|held| held.within == wanted)
    }

    /// The counter that stands there.
    pub(crate) fn get(&mut self, place: usize) -> Option<&mut Counter> {
        self.0.get_mut(place).map(|held| &mut held.counter)
    }

    /// The counter, made where it is not known.
    pub(crate) fn find_or_make(
        &mut self,
        id: CounterId,
        make: impl FnOnce() -> Counter,
    ) -> Option<&mut Counter> {
        let place = self.place(id).unwrap_or_else(|| {
            // Exactly one: most scopes stay as small as they begin.
            self.0.reserve_exact(1);
            self.0.push(Held {
                within: id.within_scope(),
                counter: make(),
            });
            self.0.len() - 1
        });
        self.get(place)
    }
}

/// Scopes and their counters.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// A power of two of them, or none.
    places: Box<[(u64, Group)]>,
    used: u32,
}

impl Table {
    /// Where the scope of this key stands.
    pub(crate) fn find(&self, key: u64) -> Option<usize> {
        self.search(key).ok()
    }

    /// The counters of the scope that stands there.
    pub(crate) fn group(&self, place: usize) -> Option<&Group> {
        self.places.get(place).map(|(_, group)| group)
    }

    /// The same, to change them.
    pub(crate) fn group_mut(&mut self, place: usize) -> Option<&mut Group> {
        self.places.get_mut(place).map(|(_, group)| group)
    }

    /// Where the scope stands, or will once it has a counter.
    pub(crate) fn find_or_make(&mut self, key: u64) -> usize {
        if let Ok(place) = self.search(key) {
            return place;
        }
        let used = self.used as usize + 1;
        if used * 4 > self.places.len() * 3 {
            self.rebuild(used);
        }
        let (Ok(place) | Err(place)) = self.search(key);
        if let Some(free) = self.places.get_mut(place) {
            free.0 = key;
            self.used += 1;
        }
        place
    }

    /// Where the key stands; otherwise the free place where its search ended.
    fn search(&self, key: u64) -> Result<usize, usize> {
        let Some(mask) = self.places.len().checked_sub(1) else {
            return Err(0);
        };
        // Keys are hashes: their lower bits spread as they are.
        let mut place = key as usize & mask;
        loop {
            match self.places.get(place) {
                Some((held, group)) if !group.0.is_empty() => {
                    if *held == key {
                        return Ok(place);
                    }
                }
                _ => return Err(place),
            }
            place = (place + 1) & mask;
        }
    }

    /// Puts all scopes into as many places as so many need.
    fn rebuild(&mut self, scopes: usize) {
        let room = match (scopes * 4).div_ceil(3) {
            0 => 0,
            some => some.next_power_of_two().max(PLACES_MIN),
        };
        let free = std::iter::repeat_with(Default::default);
        let before = std::mem::replace(&mut self.places, free.take(room).collect());
        for (key, group) in before {
            if group.0.is_empty() {
                continue;
            }
            let (Ok(place) | Err(place)) = self.search(key);
            if let Some(free) = self.places.get_mut(place) {
                *free = (key, group);
            }
        }
    }

    /// How many counters there are.
    pub(crate) fn len(&self) -> usize {
        self.places.iter().map(|(_, group)| group.0.len()).sum()
    }

    /// All counters, each with its scope's key and what tells it apart there.
    pub(crate) fn counters(&mut self) -> impl Iterator<Item = (u64, u64, &mut Counter)> {
        self.places.iter_mut().flat_map(|(key, group)| {
            let counters = group.0.iter_mut();
            counters.map(|held| (*key, held.within, &mut held.counter))
        })
    }

    /// Keeps the counters that are to be kept; how many were not.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut Counter) -> bool) -> usize {
        let (mut gone, mut scopes) = (0, 0);
        for (_, group) in &mut self.places {
            let before = group.0.len();
            group.0.retain_mut(|held| keep(&mut held.counter));
            gone += before - group.0.len();
            scopes += usize::from(!group.0.is_empty());
        }
        if scopes < self.used as usize {
            self.used = u32::try_from(scopes).unwrap_or(u32::MAX);
            self.rebuild(scopes);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tollgate_model::{CounterKind, Per, Ticks};

    fn id(within: u64) -> CounterId {
        CounterId::of_parts(0, within)
    }

    fn counter(settled: u64) -> Counter {
        let mut counter = Counter::new(CounterKind::Window(Per::Minute), Ticks(1));
        counter.settled = settled;
        counter
    }

    /// Against a map of everything, with keys that begin their search in few places and at the
    /// table's end.
    #[test]
    fn what_was_put_in_is_found_until_it_is_forgotten() {
        let (mut table, mut naive) = (Table::default(), HashMap::new());
        let mut state = 7u64;
        for step in 0..20_000u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let key =
                [(state >> 40) % 90, u64::MAX - (state >> 40) % 9][(state >> 60) as usize % 2];
            let within = (state >> 33) % 3;
            match (state >> 50) % 8 {
                0..4 => {
                    let place = table.find_or_make(key);
                    let group = table.group_mut(place).unwrap();
                    let made = group.find_or_make(id(within), || counter(step)).unwrap();
                    let held = naive.entry((key, within)).or_insert(step);
                    assert_eq!(made.settled, *held, "{step}");
                }
                4..7 => {
                    let group = table.find(key).and_then(|place| table.group(place));
                    let found = group.and_then(|group| group.place(id(within)));
                    let known = naive.contains_key(&(key, within));
                    assert_eq!(found.is_some(), known, "{step}");
                }
                _ => {
                    let part = state % 5;
                    let before = naive.len();
                    naive.retain(|_, settled| *settled % 5 != part);
                    let gone = table.retain(|counter| counter.settled % 5 != part);
                    assert_eq!(gone, before - naive.len(), "{step}");
                }
            }
            assert_eq!(table.len(), naive.len(), "{step}");
            assert!(table.used as usize * 4 <= table.places.len() * 3, "{step}");
        }
        let all = table
            .counters()
            .map(|(key, within, c)| ((key, within), c.settled));
        assert_eq!(all.collect::<HashMap<_, _>>(), naive);
        table.retain(|_| false);
        assert_eq!((table.len(), table.places.len()), (0, 0));
    }
}
