//! The headers that every answer of ours carries.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use tollgate_admission::{HeaderValues, decimal};
use tollgate_model::{RequestId, Ticks};

use crate::authenticate::Caller;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESPONSE_TIME: HeaderName = HeaderName::from_static("x-response-time");
const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const DEMO_MODE: HeaderName = HeaderName::from_static("x-demo-mode");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const USED: HeaderName = HeaderName::from_static("x-ratelimit-used");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const TIGHTEST: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What the answer tells a caller about its limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates<'a> {
    pub(crate) values: HeaderValues,
    pub(crate) policy: Option<&'a str>,
}

fn text(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The request's id and the time to this head.
pub(crate) fn identify(headers: &mut HeaderMap, id: RequestId, started: Ticks, now: Ticks) {
    headers.insert(REQUEST_ID, text(id.as_str().as_bytes()));
    headers.insert(RESPONSE_TIME, milliseconds(now.since(started)));
}

/// Milliseconds with three decimals.
fn milliseconds(us: u64) -> HeaderValue {
    let mut out = [0u8; 24];
    let mut at = out.len();
    let mut rest = us;
    let mut digits = 0;
    while digits < 4 || rest > 0 {
        if digits == 3 {
            at -= 1;
            if let Some(slot) = out.get_mut(at) {
                *slot = b'.';
            }
        }
        at -= 1;
        if let Some(slot) = out.get_mut(at) {
            *slot = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        digits += 1;
        if at <= 1 {
            break;
        }
    }
    text(out.get(at..).unwrap_or(&[]))
}

/// Who we think the caller is.
pub(crate) fn name_caller(headers: &mut HeaderMap, caller: &Caller) {
    headers.insert(USER_ID, text(caller.user_id().as_bytes()));
    if caller.anonymous.is_some() {
        headers.insert(DEMO_MODE, HeaderValue::from_static("true"));
    }
}

/// Where the caller's limits stand after this request.
pub(crate) fn tell_rates(headers: &mut HeaderMap, rates: &Rates<'_>) {
    if let Some(least) = &rates.values.least_left {
        headers.insert(LIMIT, text(decimal(least.limit).as_bytes()));
        headers.insert(USED, text(decimal(least.used).as_bytes()));
        headers.insert(REMAINING, text(decimal(least.remaining).as_bytes()));
        headers.insert(RESET, text(least.reset_text().as_bytes()));
    }
    if let Some(tightest) = &rates.values.tightest {
        headers.insert(TIGHTEST, text(tightest.text().as_bytes()));
    }
    if let Some(policy) = rates.policy {
        headers.insert(POLICY, text(policy.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_times_are_milliseconds_with_three_decimals() {
        for (us, expected) in [
            (0, "0.000"),
            (7, "0.007"),
            (1_234, "1.234"),
            (61_000_000, "61000.000"),
        ] {
            assert_eq!(milliseconds(us), expected);
        }
        assert!(milliseconds(u64::MAX).to_str().unwrap().contains('.'));
    }
}
