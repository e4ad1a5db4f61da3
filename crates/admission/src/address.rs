//! Client addresses as the scope of counters.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

/// Longest text of an address: eight groups of IPv6.
const TEXT_BYTES_MAX: usize = 40;

/// An address as counters know it: IPv4 whole, IPv6 by /64, or the one scope that addresses share
/// once too many are counted apart. Allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    text: [u8; TEXT_BYTES_MAX],
    length: u8,
}

impl Address {
    /// The scope of one address, counted apart.
    #[must_use]
    pub fn apart(address: IpAddr) -> Self {
        let mut out = Self {
            text: [0; TEXT_BYTES_MAX],
            length: 0,
        };
        // The buffer holds the longest address, so writing cannot fail.
        let _written = write!(out, "{}", Self::network(address));
        out
    }

    /// The scope of all addresses that are not counted apart.
    #[must_use]
    pub fn shared() -> Self {
        let mut text = [0; TEXT_BYTES_MAX];
        if let Some(first) = text.first_mut() {
            *first = b'*';
        }
        Self { text, length: 1 }
    }

    /// What of an address tells callers apart: a v4 address, also one written as v6, whole; of
    /// v6 the first 64 bits, for one customer has all of the rest.
    #[must_use]
    pub fn network(address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        }
    }

    /// The id of its counters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text
            .get(..usize::from(self.length))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or("*")
    }
}

impl Write for Address {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            let place = self
                .text
                .get_mut(usize::from(self.length))
                .ok_or(std::fmt::Error)?;
            *place = byte;
            self.length += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_is_told_apart_whole_and_v6_by_its_first_64_bits() {
        let text = |s: &str| Address::apart(s.parse().unwrap()).as_str().to_owned();
        assert_eq!(text("203.0.113.7"), "203.0.113.7");
        assert_eq!(text("::ffff:203.0.113.7"), "203.0.113.7");
        assert_eq!(text("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(text("2001:db8:1:2::"), "2001:db8:1:2::");
        assert_ne!(text("2001:db8:1:3::"), "2001:db8:1:2::");
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(text(longest), "ffff:ffff:ffff:ffff::");
        assert_eq!(Address::shared().as_str(), "*");
    }
}
