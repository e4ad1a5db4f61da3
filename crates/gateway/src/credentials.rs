//! Which credential a request carries, if any.
//!
//! `X-API-Key` and `X-Subscription-Key` first; without them `Authorization: Bearer`. Beside one of
//! the first two, `Authorization` is the upstream's business and passes. Two credentials that
//! differ are refused rather than one of them chosen.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The header that carries a key.
pub(crate) const API_KEY: &str = "x-api-key";
/// Its older name.
pub(crate) const SUBSCRIPTION_KEY: &str = "x-subscription-key";

/// What was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// Nothing.
    None,
    /// A key in a header of its own; `Authorization` passes to the upstream.
    Header(&'a [u8]),
    /// A bearer token.
    Bearer(&'a [u8]),
}

/// Two credentials that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// Finds the credential.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Presented<'_>, Ambiguous> {
    let mut key: Option<&[u8]> = None;
    for name in [API_KEY, SUBSCRIPTION_KEY] {
        for value in headers.get_all(name) {
            match key {
                None => key = Some(value.as_bytes()),
                Some(first) if first == value.as_bytes() => {}
                Some(_) => return Err(Ambiguous),
            }
        }
    }
    if let Some(key) = key {
        return Ok(Presented::Header(key));
    }
    let mut authorizations = headers.get_all(AUTHORIZATION).iter();
    let first = authorizations.next();
    if authorizations.next().is_some() {
        return Err(Ambiguous);
    }
    Ok(first.map_or(Presented::None, |v| bearer(v.as_bytes())))
}

/// The bearer tokens of all `Authorization` lines.
pub(crate) fn bearers(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(AUTHORIZATION).iter();
    values.filter_map(|value| match bearer(value.as_bytes()) {
        Presented::Bearer(token) => Some(token),
        _ => None,
    })
}

fn bearer(value: &[u8]) -> Presented<'_> {
    const SCHEME: &[u8] = b"bearer";
    let Some((scheme, rest)) = value.split_at_checked(SCHEME.len()) else {
        return Presented::None;
    };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Presented::None;
    }
    match rest.first() {
        None => Presented::Bearer(b""),
        Some(b' ' | b'\t') => Presented::Bearer(rest.trim_ascii()),
        Some(_) => Presented::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn a_key_is_taken_from_its_header_first_then_from_bearer() {
        use Presented::*;
        let cases: [(&[(&str, &str)], Presented<'_>); 11] = [
            (&[], None),
            (&[("x-api-key", "k")], Header(b"k")),
            (&[("x-subscription-key", "k")], Header(b"k")),
            (&[("authorization", "Bearer k")], Bearer(b"k")),
            (&[("authorization", "bEaReR   k")], Bearer(b"k")),
            (&[("authorization", "Bearer\tk")], Bearer(b"k")),
            (&[("authorization", "Bearer")], Bearer(b"")),
            (&[("authorization", "Bearerx k")], None),
            (&[("authorization", "Basic abc")], None),
            (
                &[("x-api-key", "k"), ("authorization", "Bearer other")],
                Header(b"k"),
            ),
            (
                &[("x-api-key", "k"), ("x-subscription-key", "k")],
                Header(b"k"),
            ),
        ];
        for (list, expected) in cases {
            let list: Vec<_> = list
                .iter()
                .map(|(n, v)| (*n, v.to_string().leak() as &'static str))
                .collect();
            let mut map = HeaderMap::new();
            for (name, value) in &list {
                map.append(
                    http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    value.parse().unwrap(),
                );
            }
            assert_eq!(presented(&map), Ok(expected), "{list:?}");
        }
    }

    #[test]
    fn two_different_credentials_are_refused() {
        for list in [
            [("x-api-key", "a"), ("x-subscription-key", "b")],
            [("x-api-key", "a"), ("x-api-key", "b")],
            [("authorization", "Bearer a"), ("authorization", "Bearer b")],
        ] {
            assert_eq!(presented(&headers(&list)), Err(Ambiguous), "{list:?}");
        }
    }
}
