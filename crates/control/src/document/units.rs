//! Fields with a unit or a form of their own: durations, sizes, addresses, times.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use jiff::civil::Date;
use tollgate_model::{TimeError, Timestamp, Upstream, parse_duration_us};

use super::{Field, ProblemCode, Value};

impl Field<'_> {
    /// A duration such as `250ms` or `24h`, in microseconds and within a range.
    #[must_use]
    pub fn duration_us(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let us = self.parse(parse_duration_us)?;
        if range.contains(&us) {
            return Some(us);
        }
        let (low, high) = (duration_text(*range.start()), duration_text(*range.end()));
        let detail = format!("must be {low} to {high}");
        self.problem(ProblemCode::OutOfRange, detail);
        None
    }

    /// A size: a number of bytes, or text such as `64KiB` or `4GiB`.
    #[must_use]
    pub fn bytes(&self, range: RangeInclusive<u64>) -> Option<u64> {
        if !matches!(self.value(), Value::Text(_)) {
            return self.integer(range);
        }
        let bytes = self.parse(parse_bytes)?;
        if range.contains(&bytes) {
            return Some(bytes);
        }
        let (low, high) = (range.start(), range.end());
        let detail = format!("must be {low} to {high} bytes");
        self.problem(ProblemCode::OutOfRange, detail);
        None
    }

    /// A network such as `10.0.0.0/8`, or a single address. Bits beyond the prefix must be zero,
    /// because they are nearly always a slip.
    #[must_use]
    pub fn network(&self) -> Option<IpNet> {
        self.parse(|text| {
            let network =
                match text.parse::<IpNet>() {
                    Ok(network) => network,
                    Err(_) => IpNet::from(text.parse::<std::net::IpAddr>().map_err(|_| {
                        "not a network such as 10.0.0.0/8 or 2001:db8::/32".to_owned()
                    })?),
                };
            if network.trunc() == network {
                Ok(network)
            } else {
                Err(format!(
                    "has bits beyond its prefix: write {}",
                    network.trunc()
                ))
            }
        })
    }

    /// An address to listen on, such as `127.0.0.1:8080`.
    #[must_use]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.parse(|text| {
            text.parse()
                .map_err(|_| "not an address and port such as 127.0.0.1:8080")
        })
    }

    /// Where an API runs: `http://host:port`, no path.
    #[must_use]
    pub fn origin(&self) -> Option<Upstream> {
        self.parse(parse_origin)
    }

    /// An instant: RFC 3339 with any offset.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        if let Value::Date(text) = self.value() {
            match Timestamp::parse(text) {
                Ok(at) => return Some(at),
                Err(error) => self.problem(ProblemCode::Invalid, error.to_string()),
            }
            return None;
        }
        self.parse(|text| Timestamp::parse(text).map_err(|error: TimeError| error))
    }

    /// A civil day such as `2026-01-31`.
    #[must_use]
    pub fn date(&self) -> Option<Date> {
        let read = |text: &str| {
            // The parser would take a time too, and drop it.
            match (text.len(), text.parse::<Date>()) {
                (10, Ok(date)) => Ok(date),
                _ => Err("not a day such as 2026-01-31"),
            }
        };
        match self.value() {
            Value::Date(text) => match read(text) {
                Ok(date) => Some(date),
                Err(detail) => {
                    self.problem(ProblemCode::Invalid, detail);
                    None
                }
            },
            _ => self.parse(read),
        }
    }
}

/// A duration as [`Field::duration_us`] reads it, in its largest whole unit.
#[must_use]
pub fn duration_text(us: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
        (1, "us"),
    ];
    let fits = |(size, _): &(u64, &str)| us > 0 && us.is_multiple_of(*size);
    match UNITS.into_iter().find(fits) {
        Some((size, unit)) => format!("{}{unit}", us / size),
        None => "0s".to_owned(),
    }
}

fn parse_bytes(text: &str) -> Result<u64, &'static str> {
    const DETAIL: &str = "not a size such as 65536, 64KiB, 10MiB or 4GiB";
    let split = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| DETAIL)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(DETAIL),
    };
    number.checked_mul(1 << shift).ok_or(DETAIL)
}

fn parse_origin(text: &str) -> Result<Upstream, &'static str> {
    const FORM: &str = "not a URL such as http://127.0.0.1:9001";
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    let tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err("must begin with http:// or https://"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err("must have no path: requests keep theirs");
    }
    if rest.contains('@') {
        return Err("must have no user or password");
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(FORM)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| FORM)?;
            (
                host,
                port.strip_prefix(':').or(port.is_empty().then_some("")),
            )
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, Some("")),
        },
    };
    let named = host.contains(':') || check_host(host).is_ok();
    let port = match port.ok_or(FORM)? {
        "" if rest.ends_with(':') => return Err(FORM),
        "" if tls => 443,
        "" => 80,
        port => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or("the port must be 1 to 65535")?,
    };
    if !named {
        return Err(FORM);
    }
    Ok(Upstream {
        tls,
        host: host.to_ascii_lowercase(),
        port,
    })
}

/// A host name or IPv4 address: letters, digits, hyphens, dots.
pub(crate) fn check_host(host: &str) -> Result<(), &'static str> {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if !host.is_empty() && host.len() <= 253 && host.split('.').all(label) {
        Ok(())
    } else {
        Err("not a host name such as api.example.com, without scheme and port")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_in_the_form_that_reads_back() {
        for us in [
            0,
            1,
            250_000,
            5_000_000,
            86_400_000_000,
            90_000_000,
            u64::MAX / 4,
        ] {
            assert_eq!(parse_duration_us(&duration_text(us)), Ok(us));
        }
        assert_eq!(duration_text(2_000_000), "2s");
        assert_eq!(duration_text(86_400_000_000), "1d");
    }

    #[test]
    fn an_upstream_is_scheme_host_and_port() {
        let upstream = |tls, host: &str, port| {
            Ok(Upstream {
                tls,
                host: host.to_owned(),
                port,
            })
        };
        assert_eq!(
            parse_origin("http://127.0.0.1:9001"),
            upstream(false, "127.0.0.1", 9001)
        );
        assert_eq!(
            parse_origin("https://API.example.com/"),
            upstream(true, "api.example.com", 443)
        );
        assert_eq!(parse_origin("http://[::1]:80"), upstream(false, "::1", 80));
        assert_eq!(parse_origin("http://[::1]"), upstream(false, "::1", 80));
        for bad in [
            "",
            "127.0.0.1:9001",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://a?b",
            "http://u:p@a",
            "http://a:0",
            "http://a:",
            "http://a:70000",
            "http://[::1",
            "http://[x]:1",
            "http://a b",
            "http://::1",
        ] {
            assert!(parse_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_numbers_with_binary_units() {
        assert_eq!(parse_bytes("4GiB"), Ok(4 << 30));
        assert_eq!(parse_bytes("7"), Ok(7));
        for bad in ["", "GiB", "4GB", "4 GiB", "99999999TiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
