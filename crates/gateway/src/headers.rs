//! Which headers and trailers cross the gateway, in both directions.
//!
//! **Invariants.** Hop-by-hop headers end here, those that `Connection` names included; names by
//! which we tell the upstream who is calling are taken from nobody else, in any case, with `_`
//! for `-`, as header or trailer; the key never goes on; our answer headers are added after the
//! upstream's of the same names were taken away, so nothing of theirs can remove or double ours.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;
use tollgate_admission::parse_stated_cost;

use crate::credentials::{API_KEY, SUBSCRIPTION_KEY};

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Headers by which gateways speak to upstreams: only ours are believed.
const IDENTITY: [&str; 12] = [
    "x-user-id",
    "x-demo-mode",
    "x-request-id",
    "x-client-request-id",
    "x-real-ip",
    "forwarded",
    "x-response-time",
    "true-client-ip",
    // Some servers take the path from these: it would not be the path that was metered.
    "x-original-url",
    "x-rewrite-url",
    API_KEY,
    SUBSCRIPTION_KEY,
];
const IDENTITY_PREFIXES: [&str; 3] = ["x-tollgate-", "tollgate-", "x-forwarded-"];

/// Answer headers that are ours alone.
const OURS: [&str; 11] = [
    "x-ratelimit-limit",
    "x-ratelimit-used",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "ratelimit",
    "ratelimit-policy",
    "x-user-id",
    "x-request-id",
    "x-response-time",
    "x-demo-mode",
    "x-client-request-id",
];

/// What the upstream says a call cost.
const COST: &str = "tollgate-cost";

/// What the upstream says the call cost; the most, where it says so more than once.
pub(crate) fn stated_cost(headers: &HeaderMap) -> Option<u64> {
    let stated = headers.get_all(COST).iter();
    stated
        .filter_map(|value| parse_stated_cost(value.as_bytes()))
        .max()
}

/// The name with `_` read as `-`, as some servers do.
fn folded(name: &str) -> std::borrow::Cow<'_, str> {
    if name.contains('_') {
        name.replace('_', "-").into()
    } else {
        name.into()
    }
}

fn is_identity(name: &str) -> bool {
    // Cheap way out for the many headers that begin with another letter.
    if !name.starts_with(['x', 't', 'f', 'a']) {
        return false;
    }
    let name = folded(name);
    IDENTITY.contains(&name.as_ref()) || IDENTITY_PREFIXES.iter().any(|p| name.starts_with(p))
}

/// An underscore spelling of a header that steers framing, routing or authority somewhere.
fn is_disguised(name: &str) -> bool {
    const STEERING: [&str; 5] = [
        "content-length",
        "transfer-encoding",
        "host",
        "authorization",
        "connection",
    ];
    name.contains('_') && STEERING.contains(&folded(name).as_ref())
}

type Names = SmallVec<[HeaderName; 4]>;

fn named_by_connection(headers: &HeaderMap) -> Names {
    let mut names = Names::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|b| *b == b',') {
            if let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) {
                names.push(name);
            }
        }
    }
    names
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        // Framing and routing are decided from these already; naming them changes nothing.
        if name != CONTENT_LENGTH && name != HOST && name != TRAILER {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The protocol of an upgrade that is asked for and that we tunnel. Cleartext HTTP/2 and TLS are
/// not: inside them requests would pass unmetered.
pub(crate) fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = named_by_connection(headers).contains(&UPGRADE);
    let mut values = headers.get_all(UPGRADE).iter();
    let (true, Some(value), None) = (asked, values.next(), values.next()) else {
        return None;
    };
    let text = value.to_str().ok()?.to_ascii_lowercase();
    let token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let one_token = !text.is_empty() && text.bytes().all(token);
    let speaks_http = text == "h2c" || text.starts_with("http/") || text.starts_with("tls/");
    (one_token && !speaks_http).then(|| value.clone())
}

/// Whether the client takes trailers.
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().any(|value| {
        let mut tokens = value.as_bytes().split(|b| *b == b',');
        tokens.any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// Takes from a request's headers what may not go on. `bearer_is_ours`: `Authorization` carried
/// the key.
pub(crate) fn strip_request(headers: &mut HeaderMap, bearer_is_ours: bool) {
    remove_hop_by_hop(headers);
    headers.remove(EXPECT);
    headers.remove(HOST);
    if bearer_is_ours {
        headers.remove(AUTHORIZATION);
    }
    let doomed: SmallVec<[HeaderName; 8]> = headers
        .keys()
        .filter(|name| is_identity(name.as_str()) || is_disguised(name.as_str()))
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Takes from an answer's headers what is hop-by-hop, ours, or meant for us.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    for name in OURS {
        headers.remove(name);
    }
    remove_disguised(headers);
}

/// Takes away the names of ours that are no fixed list, and every spelling of ours with `_`.
fn remove_disguised(headers: &mut HeaderMap) {
    let ours = |name: &HeaderName| {
        let name = name.as_str();
        if !name.starts_with(['x', 't', 'r']) {
            return false;
        }
        let plain = folded(name);
        plain.starts_with("tollgate-")
            || plain.starts_with("x-tollgate-")
            || name.contains('_') && OURS.contains(&plain.as_ref())
    };
    let doomed: SmallVec<[HeaderName; 4]> = headers.keys().filter(|n| ours(n)).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Takes from trailers what may not travel there: framing, routing, credentials, identity.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    let doomed: SmallVec<[HeaderName; 8]> = trailers
        .keys()
        .filter(|name| !may_be_trailer(name.as_str()))
        .cloned()
        .collect();
    for name in doomed {
        trailers.remove(name);
    }
}

fn may_be_trailer(name: &str) -> bool {
    const NEVER: [&str; 12] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "range",
        "set-cookie",
        "trailer",
    ];
    let folded = folded(name);
    let plain = folded.as_ref();
    !(NEVER.contains(&plain)
        || HOP_BY_HOP.contains(&plain)
        || OURS.contains(&plain)
        || is_identity(plain)
        || plain == TRANSFER_ENCODING.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn left(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn of_several_stated_costs_the_largest_counts_and_nonsense_says_nothing() {
        assert_eq!(stated_cost(&map(&[("X", "1")])), None);
        assert_eq!(stated_cost(&map(&[("Tollgate-Cost", "much")])), None);
        let mut twice = map(&[("Tollgate-Cost", "2")]);
        for more in ["much", "7", "3"] {
            twice.append(COST, HeaderValue::from_static(more));
        }
        assert_eq!(stated_cost(&twice), Some(7));
    }

    #[test]
    fn identity_from_outside_is_stripped_in_every_spelling() {
        let mut headers = map(&[
            ("X-Tollgate-Subscription", "evil"),
            ("x_tollgate_organization", "evil"),
            ("X-TOLLGATE_KEY-ID", "evil"),
            ("X_User_Id", "evil"),
            ("x-user-id", "evil"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("x_forwarded_host", "evil"),
            ("Forwarded", "for=1.1.1.1"),
            ("X-Real-IP", "1.1.1.1"),
            ("Tollgate-Cost", "0"),
            ("tollgate_label_x", "1"),
            ("X-API-Key", "secret"),
            ("x_api_key", "secret"),
            ("X-Subscription-Key", "secret"),
            ("Content_Length", "9"),
            ("Host", "client"),
            ("Accept", "*/*"),
            ("X-Own", "1"),
        ]);
        strip_request(&mut headers, false);
        assert_eq!(left(&headers), ["accept", "x-own"]);
    }

    #[test]
    fn hop_by_hop_headers_end_here_and_those_named_by_connection_too() {
        let mut headers = map(&[
            ("Connection", "close, X-Mine, Content-Length"),
            ("X-Mine", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authorization", "x"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "websocket"),
            ("Content-Length", "3"),
            ("Expect", "100-continue"),
            ("Accept", "*/*"),
        ]);
        strip_request(&mut headers, false);
        assert_eq!(left(&headers), ["accept", "content-length"]);
    }

    #[test]
    fn authorization_passes_unless_it_carried_the_key() {
        let mut headers = map(&[("Authorization", "Basic abc")]);
        strip_request(&mut headers, false);
        assert_eq!(left(&headers), ["authorization"]);
        strip_request(&mut headers, true);
        assert!(left(&headers).is_empty());
    }

    #[test]
    fn the_upstreams_headers_of_our_names_are_replaced() {
        let mut headers = map(&[
            ("X-RateLimit-Limit", "9"),
            ("RateLimit", "x"),
            ("X-Request-Id", "theirs"),
            ("X-User-Id", "theirs"),
            ("Tollgate-Cost", "3"),
            ("Tollgate-Label-Team", "x"),
            ("X-Tollgate-Key-Id", "x"),
            ("Retry-After", "7"),
            ("Content-Type", "text/plain"),
        ]);
        headers.insert("x_ratelimit_limit", HeaderValue::from_static("9"));
        headers.insert("ratelimit_policy", HeaderValue::from_static("9"));
        strip_response(&mut headers);
        assert_eq!(left(&headers), ["content-type", "retry-after"]);
    }

    #[test]
    fn trailers_carry_neither_framing_nor_identity() {
        let mut trailers = map(&[
            ("X-Checksum", "1"),
            ("Grpc-Status", "0"),
            ("Content-Length", "3"),
            ("Transfer-Encoding", "chunked"),
            ("Host", "x"),
            ("Authorization", "x"),
            ("X_Tollgate_Key_Id", "x"),
            ("Tollgate-Cost", "5"),
            ("X-User-Id", "x"),
            ("Cookie", "x"),
        ]);
        strip_trailers(&mut trailers);
        assert_eq!(left(&trailers), ["grpc-status", "x-checksum"]);
    }

    #[test]
    fn only_upgrades_that_connection_names_and_that_hide_no_http_are_tunnelled() {
        let asked = |list: &[(&str, &str)]| requested_upgrade(&map(list)).is_some();
        assert!(asked(&[
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket")
        ]));
        assert!(!asked(&[("Upgrade", "websocket")]));
        assert!(!asked(&[("Connection", "Upgrade")]));
        assert!(!asked(&[("Connection", "Upgrade"), ("Upgrade", "h2c")]));
        assert!(!asked(&[("Connection", "Upgrade"), ("Upgrade", "TLS/1.2")]));
        assert!(!asked(&[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket, h2c")
        ]));
    }
}
