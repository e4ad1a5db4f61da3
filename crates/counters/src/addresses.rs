//! Which client addresses are counted apart.
//!
//! Counters by address are the only ones that strangers can make at will. So the first
//! [`ADDRESSES_APART_MAX`] addresses have counters of their own, and as long as that many have
//! them, all further ones share one scope. An address keeps its place until none of its counters
//! can hold anything: giving it up earlier would give it a second plan.
//!
//! **Does not own** the counters; after a restart places are given out anew.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tollgate_admission::{Address, AddressHold};
use tollgate_model::Now;

/// Addresses counted apart; further ones share one scope.
pub const ADDRESSES_APART_MAX: usize = 100_000;

const PARTS: usize = 16;

type Part = Mutex<HashMap<IpAddr, AddressHold, RandomState>>;

#[derive(Debug)]
pub(crate) struct Addresses {
    parts: [Part; PARTS],
    hasher: RandomState,
    apart: AtomicUsize,
    apart_max: usize,
}

impl Addresses {
    pub(crate) fn new(apart_max: usize) -> Self {
        Self {
            parts: std::array::from_fn(|_| Part::default()),
            hasher: RandomState::new(),
            apart: AtomicUsize::new(0),
            apart_max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.apart.load(Ordering::Relaxed)
    }

    /// The scope of an address, which keeps it at least so long.
    pub(crate) fn scope(&self, address: IpAddr, hold: AddressHold) -> Address {
        let network = Address::network(address);
        let part = self.hasher.hash_one(network) as usize % PARTS;
        let Some(part) = self.parts.get(part) else {
            return Address::shared();
        };
        let mut part = part.lock();
        if let Some(held) = part.get_mut(&network) {
            held.until_ticks = held.until_ticks.max(hold.until_ticks);
            held.until_wall = held.until_wall.max(hold.until_wall);
            return Address::apart(network);
        }
        let taken = self
            .apart
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |apart| {
                (apart < self.apart_max).then_some(apart + 1)
            });
        if taken.is_err() {
            return Address::shared();
        }
        part.insert(network, hold);
        Address::apart(network)
    }

    /// Frees the places of addresses whose counters are gone by now.
    pub(crate) fn evict(&self, now: Now, kept_us: i64) {
        for part in &self.parts {
            let mut part = part.lock();
            let before = part.len();
            part.retain(|_, hold| {
                hold.until_ticks > now.ticks || hold.until_wall.plus_us(kept_us) > now.wall
            });
            self.apart.fetch_sub(before - part.len(), Ordering::Relaxed);
            if part.capacity() > 4 * part.len() {
                part.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_model::{Ticks, Timestamp};

    fn hold(until: u64) -> AddressHold {
        AddressHold {
            until_ticks: Ticks(until),
            until_wall: Timestamp(0),
        }
    }

    #[test]
    fn so_many_addresses_are_counted_apart_and_all_further_ones_together() {
        let addresses = Addresses::new(3);
        let scope = |n: u8, until| addresses.scope(IpAddr::from([192, 0, 2, n]), hold(until));
        let first = scope(1, 10);
        assert_ne!(first, scope(2, 20));
        assert_ne!(scope(3, 30), Address::shared());
        assert_eq!(scope(4, 40), Address::shared());
        assert_eq!(scope(5, 40), Address::shared());
        assert_eq!(scope(1, 25), first);
        let at = |ticks| Now {
            wall: Timestamp(1),
            ticks: Ticks(ticks),
        };
        addresses.evict(at(20), 0);
        assert_eq!(addresses.len(), 2);
        assert_ne!(scope(4, 40), Address::shared());
        assert_eq!(scope(2, 40), Address::shared());
        // The first was seen again and has kept its place.
        assert_eq!(scope(1, 40), first);
    }

    #[test]
    fn one_customer_of_ipv6_takes_one_place() {
        let addresses = Addresses::new(1);
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let other: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        assert_eq!(
            addresses.scope(one, hold(1)),
            addresses.scope(other, hold(1))
        );
        assert_eq!(addresses.len(), 1);
    }
}
