//! Who is calling, by address.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;
use ipnet::IpNet;

/// The header that proxies append their peer to.
pub(crate) const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether an address lies in one of the networks. An IPv4 address inside IPv6 is the IPv4 one.
pub(crate) fn is_within(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|net| net.contains(&address))
}

/// The caller's address: the peer, or, where the peer is a trusted proxy, the rightmost address of
/// `X-Forwarded-For` that is not one. What cannot be read ends the walk: the last hop that could
/// be trusted is the caller then.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut address = peer.to_canonical();
    if trusted.is_empty() || !is_within(address, trusted) {
        return address;
    }
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else {
            return address;
        };
        for hop in line.rsplit(',') {
            let Some(hop) = parse_hop(hop.trim()) else {
                return address;
            };
            address = hop;
            if !is_within(address, trusted) {
                return address;
            }
        }
    }
    address
}

/// An address as proxies write it: with or without brackets and port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|a| a.ip());
    let bracketed = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    bare.or_else(with_port)
        .or_else(bracketed)
        .map(|a| a.to_canonical())
}

/// What counts as one caller: IPv4 addresses alone, IPv6 by /64.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (!0 << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|n| n.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn forwarded_for_is_believed_from_trusted_proxies_only_right_to_left() {
        let cases: [(&str, &[&str], &[&str], &str); 10] = [
            ("9.9.9.9", &["1.1.1.1"], &[], "9.9.9.9"),
            ("9.9.9.9", &["1.1.1.1"], &["10.0.0.0/8"], "9.9.9.9"),
            ("10.0.0.1", &["1.1.1.1"], &["10.0.0.0/8"], "1.1.1.1"),
            (
                "10.0.0.1",
                &["6.6.6.6, 1.1.1.1"],
                &["10.0.0.0/8"],
                "1.1.1.1",
            ),
            (
                "10.0.0.1",
                &["6.6.6.6", "1.1.1.1, 10.0.0.7"],
                &["10.0.0.0/8"],
                "1.1.1.1",
            ),
            ("10.0.0.1", &["10.0.0.9"], &["10.0.0.0/8"], "10.0.0.9"),
            ("10.0.0.1", &[], &["10.0.0.0/8"], "10.0.0.1"),
            (
                "10.0.0.1",
                &["1.1.1.1, nonsense"],
                &["10.0.0.0/8"],
                "10.0.0.1",
            ),
            (
                "10.0.0.1",
                &["[2001:db8::1]:443"],
                &["10.0.0.0/8"],
                "2001:db8::1",
            ),
            (
                "::ffff:10.0.0.1",
                &["1.1.1.1:8"],
                &["10.0.0.0/8"],
                "1.1.1.1",
            ),
        ];
        for (peer, lines, trusted, expected) in cases {
            assert_eq!(from(peer, lines, trusted), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn ipv6_callers_are_told_apart_by_their_64_bit_network() {
        let net = |a: &str| network_of(a.parse().unwrap());
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff:1"));
        assert_ne!(net("2001:db8::1"), net("2001:db8:0:1::1"));
        assert_ne!(net("1.2.3.4"), net("1.2.3.5"));
        assert_eq!(net("::ffff:1.2.3.4"), net("1.2.3.4"));
    }
}
