//! How often one address may ask what anyone may ask.
//!
//! **Invariants.** At most so many calls of an address in any second. Memory is bounded: when too
//! many addresses are known, those that have been silent for a second are forgotten, and when none
//! has, further addresses share one place.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use tollgate_model::Ticks;

const SPAN_US: u64 = 1_000_000;

/// Counts calls by address (IPv6 by /64).
pub(crate) struct CallLimit {
    calls: Mutex<HashMap<IpAddr, VecDeque<Ticks>>>,
    calls_max: usize,
    addresses_max: usize,
}

impl CallLimit {
    pub(crate) fn new(calls_max: usize, addresses_max: usize) -> Self {
        Self {
            calls: Mutex::default(),
            calls_max,
            addresses_max,
        }
    }

    /// Whether the address may call now; counts the call if so.
    pub(crate) fn admit(&self, address: IpAddr, now: Ticks) -> bool {
        // A panic while holding the lock leaves at worst one call uncounted.
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = network(address);
        if !calls.contains_key(&place) && calls.len() >= self.addresses_max {
            calls.retain(|_, times| times.back().is_some_and(|last| now.since(*last) < SPAN_US));
            if calls.len() >= self.addresses_max {
                place = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let times = calls.entry(place).or_default();
        while times
            .front()
            .is_some_and(|first| now.since(*first) >= SPAN_US)
        {
            times.pop_front();
        }
        if times.len() >= self.calls_max {
            return false;
        }
        times.push_back(now);
        true
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Ticks {
        Ticks(ms * 1_000)
    }

    #[test]
    fn an_address_may_ask_so_often_in_any_second() {
        let call_limit = CallLimit::new(10, 100);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let admitted = (0..30)
            .filter(|n| call_limit.admit(address, at(n * 100)))
            .count();
        assert_eq!(admitted, 30, "ten a second are fine for ever");
        let admitted = (0..20)
            .filter(|_| call_limit.admit(address, at(2_950)))
            .count();
        assert_eq!(admitted, 0, "the second before was used up");
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        assert!(call_limit.admit(other, at(2_950)));
    }

    #[test]
    fn neighbours_in_one_ipv6_network_count_together() {
        let call_limit = CallLimit::new(1, 100);
        assert!(call_limit.admit("2001:db8::1".parse().unwrap(), at(0)));
        assert!(!call_limit.admit("2001:db8::2".parse().unwrap(), at(0)));
        assert!(call_limit.admit("2001:db8:0:1::1".parse().unwrap(), at(0)));
    }

    #[test]
    fn memory_is_bounded_and_silent_addresses_go_first() {
        let call_limit = CallLimit::new(1, 3);
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        for n in 0..3 {
            assert!(call_limit.admit(address(n), at(0)));
        }
        assert!(call_limit.admit(address(3), at(0)), "the shared place");
        assert!(!call_limit.admit(address(4), at(0)), "is shared");
        assert!(call_limit.admit(address(5), at(1_000)));
        assert_eq!(call_limit.calls.lock().unwrap().len(), 1);
    }
}
