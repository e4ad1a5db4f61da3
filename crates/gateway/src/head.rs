//! What a request's head must look like before anything else is asked.
//!
//! hyper has parsed the head and [`crate::wire`] has judged its framing; here follows what a proxy
//! adds: exactly one host, an origin-form target, a method and headers that mean the same to us
//! and to the upstream.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};

use crate::options::{CLIENT_REQUEST_ID_BYTES_MAX, METHOD_BYTES_MAX, URI_BYTES_MAX};
use crate::path::{PathFacts, check_path};

/// What a well-formed head told.
#[derive(Debug)]
pub(crate) struct HeadFacts<'a> {
    /// The host asked for: lower case, without port; empty without one (HTTP/1.0).
    pub(crate) host: Cow<'a, str>,
    /// What of the path depends on its API.
    pub(crate) path: PathFacts,
    /// The length that the body declares.
    pub(crate) content_length: Option<u64>,
}

/// Checks a head; the error is what the caller is told.
pub(crate) fn check_head(parts: &Parts) -> Result<HeadFacts<'_>, &'static str> {
    if parts.method == Method::CONNECT {
        return Err("CONNECT is not offered.");
    }
    if parts.method.as_str().len() > METHOD_BYTES_MAX {
        return Err("The method is too long.");
    }
    if parts
        .uri
        .path_and_query()
        .is_some_and(|p| p.as_str().len() > URI_BYTES_MAX)
    {
        return Err("The request target is too long.");
    }
    let host = check_host(parts)?;
    let path = check_path(parts.uri.path()).map_err(|e| e.detail())?;
    let content_length = check_framing(&parts.headers)?;
    let met = |expect: &HeaderValue| expect.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !parts.headers.get_all(EXPECT).iter().all(met) {
        return Err("The only expectation that is met is 100-continue.");
    }
    Ok(HeadFacts {
        host,
        path,
        content_length,
    })
}

fn check_host(parts: &Parts) -> Result<Cow<'_, str>, &'static str> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err("The request has more than one Host header."),
        (None, None) if parts.version == Version::HTTP_11 => {
            return Err("The request has no Host header.");
        }
        (None, None) => None,
        (Some(host), None) => Some(parse_host(host)?),
    };
    let Some(authority) = parts.uri.authority() else {
        return Ok(host.map_or(Cow::Borrowed(""), |(name, _)| name));
    };
    let scheme = parts.uri.scheme_str().unwrap_or("");
    if !matches!(scheme, "http" | "https") || authority.as_str().contains('@') {
        return Err("The request target is not one that this gateway serves.");
    }
    let (target, port) = split_authority(authority.as_str()).ok_or(BAD_HOST)?;
    let same = |(name, host_port): &(Cow<'_, str>, Option<u16>)| {
        let default = if scheme == "https" { 443 } else { 80 };
        *name == target && host_port.unwrap_or(default) == port.unwrap_or(default)
    };
    match host {
        Some(host) if !same(&host) => Err("The request target and the Host header differ."),
        _ => Ok(target),
    }
}

const BAD_HOST: &str = "The Host header is not a host name.";

fn parse_host(value: &HeaderValue) -> Result<(Cow<'_, str>, Option<u16>), &'static str> {
    let text = value.to_str().map_err(|_| BAD_HOST)?;
    split_authority(text).ok_or(BAD_HOST)
}

/// Name (lower case, without a dot at the end) and port.
fn split_authority(text: &str) -> Option<(Cow<'_, str>, Option<u16>)> {
    let (name, port) = match text.rfind([':', ']']) {
        Some(at) if text.as_bytes().get(at) == Some(&b':') => {
            let (name, port) = text.split_at(at);
            (name, port.get(1..).unwrap_or(""))
        }
        _ => (text, ""),
    };
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let bracketed = name.starts_with('[') && name.ends_with(']');
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let inside_brackets = |b: u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
    let fine = if bracketed {
        name.trim_matches(['[', ']']).bytes().all(inside_brackets)
    } else {
        name.bytes().all(plain)
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if !fine || name.is_empty() {
        return None;
    }
    let upper = name.bytes().any(|b| b.is_ascii_uppercase());
    let name = if upper {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    Some((name, port))
}

/// What hyper left of the framing headers; [`crate::wire`] has refused ambiguous ones before.
fn check_framing(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err("The only transfer coding that is taken is chunked."),
    };
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => return Ok(None),
        (Some(length), None) if !chunked => length.to_str().ok().and_then(parse_length),
        _ => None,
    };
    let wrong = "The Content-Length header is not one whole number.";
    length.map(Some).ok_or(wrong)
}

pub(crate) fn parse_length(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The client's own id of the request, if it is one that we pass on.
pub(crate) fn client_request_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("x-request-id")?.to_str().ok()?;
    let fits = (1..=CLIENT_REQUEST_ID_BYTES_MAX).contains(&text.len());
    (fits && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
}

/// The trace id of a valid W3C `traceparent`, and the header itself.
pub(crate) fn trace_parent(headers: &HeaderMap) -> Option<(&str, &HeaderValue)> {
    let mut values = headers.get_all("traceparent").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let text = value.to_str().ok()?;
    let mut parts = text.splitn(4, '-');
    let (version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
    let flags = parts.next()?;
    let hex = |part: &str, len: usize| {
        part.len() == len
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some = |part: &str| part.bytes().any(|b| b != b'0');
    let flags_fit = hex(flags, 2) || (version != "00" && hex(flags.get(..2)?, 2));
    let valid = hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && some(trace)
        && hex(parent, 16)
        && some(parent)
        && flags_fit;
    valid.then_some((trace, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn host_of(uri: &str, headers: &[(&str, &str)]) -> Result<String, &'static str> {
        check_head(&parts(uri, Version::HTTP_11, headers)).map(|f| f.host.into_owned())
    }

    #[test]
    fn one_canonical_host_is_found_or_the_request_refused() {
        let good = [
            ("/", "Example.COM", "example.com"),
            ("/", "example.com:8080", "example.com"),
            ("/", "example.com.", "example.com"),
            ("/", "[::1]:8080", "[::1]"),
            ("/", "127.0.0.1", "127.0.0.1"),
            ("http://example.com/", "example.com:80", "example.com"),
            ("http://EXAMPLE.com:80/", "example.com", "example.com"),
        ];
        for (uri, host, expected) in good {
            assert_eq!(host_of(uri, &[("host", host)]).as_deref(), Ok(expected));
        }
        let bad: [(&str, &[(&str, &str)]); 9] = [
            ("/", &[]),
            ("/", &[("host", "a"), ("host", "a")]),
            ("/", &[("host", "")]),
            ("/", &[("host", "a b")]),
            ("/", &[("host", "a/b")]),
            ("/", &[("host", "a:8x")]),
            ("/", &[("host", "user@a")]),
            ("http://a/", &[("host", "b")]),
            ("http://a:81/", &[("host", "a")]),
        ];
        for (uri, headers) in bad {
            assert!(host_of(uri, headers).is_err(), "{uri} {headers:?}");
        }
        let old = parts("/", Version::HTTP_10, &[]);
        assert_eq!(check_head(&old).unwrap().host, "");
    }

    #[test]
    fn framing_headers_must_leave_no_choice() {
        let check = |headers: &[(&str, &str)]| {
            let mut all = vec![("host", "a")];
            all.extend_from_slice(headers);
            check_head(&parts("/", Version::HTTP_11, &all)).map(|f| f.content_length)
        };
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&[("content-length", "10")]), Ok(Some(10)));
        assert_eq!(check(&[("transfer-encoding", "Chunked")]), Ok(None));
        let bad: [&[(&str, &str)]; 9] = [
            &[("expect", "100-continue"), ("expect", "200-ok")],
            &[("content-length", "+1")],
            &[("content-length", "1, 1")],
            &[("content-length", "")],
            &[("content-length", "1"), ("content-length", "1")],
            &[("content-length", "1"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("expect", "200-ok")],
        ];
        for headers in bad {
            assert!(check(headers).is_err(), "{headers:?}");
        }
    }

    #[test]
    fn only_valid_trace_parents_are_passed_on() {
        let trace = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            trace_parent(&headers).map(|(id, _)| id.to_owned())
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        let good = format!("00-{id}-b7ad6b7169203331-01");
        assert_eq!(trace(&good).as_deref(), Some(id));
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &format!("ff-{id}-b7ad6b7169203331-01"),
            &format!("00-{id}-0000000000000000-01"),
            &format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            &format!("{good}-extra"),
        ] {
            assert_eq!(trace(bad), None, "{bad}");
        }
    }

    #[test]
    fn client_request_ids_are_short_visible_text_or_nothing() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", value.parse().unwrap());
            client_request_id(&headers).map(str::to_owned)
        };
        assert_eq!(id("abc-1").as_deref(), Some("abc-1"));
        assert_eq!(id("two words"), None);
        assert_eq!(id(""), None);
        assert_eq!(id(&"a".repeat(129)), None);
    }
}
