//! Refusals, and the one place where they become HTTP.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use tollgate_admission::{Length, Refusal, whole_seconds};
use tollgate_model::{DenialCode, RequestId};

use crate::forward::AnswerBody;

/// A refusal: what is wrong, and what the caller may know about it.
#[derive(Debug, Clone)]
pub(crate) struct Denial {
    pub(crate) code: DenialCode,
    pub(crate) detail: Cow<'static, str>,
    /// The limit that refused.
    pub(crate) refusal: Option<Refusal>,
    /// Methods that would have been taken.
    pub(crate) allow: Option<String>,
    /// Seconds after which asking again makes sense.
    pub(crate) retry_after_s: Option<u64>,
    /// Close the connection after the answer.
    pub(crate) close: bool,
}

impl Denial {
    pub(crate) fn new(code: DenialCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            refusal: None,
            allow: None,
            retry_after_s: None,
            close: false,
        }
    }

    /// A request out of form: the connection cannot be trusted to stay in step.
    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            close: true,
            ..Self::new(DenialCode::RequestInvalid, detail)
        }
    }

    /// A limit was reached.
    pub(crate) fn limited(refusal: Refusal) -> Self {
        let what = match refusal.code {
            DenialCode::QuotaExceeded => "quota",
            _ => "rate limit",
        };
        let (name, limit) = (refusal.name, refusal.limit);
        let detail = match (refusal.retry_after_s, limit) {
            (Some(_), _) => format!("The {what} {name} is used up."),
            (None, 0) => format!("The {what} {name} is 0: it lets no call pass."),
            (None, _) => format!(
                "The call costs more than the {what} {name} allows in all ({limit}): it can never \
                 pass, however long you wait."
            ),
        };
        Self {
            refusal: Some(refusal),
            retry_after_s: refusal.retry_after_s,
            ..Self::new(refusal.code, detail)
        }
    }

    /// The gateway cannot serve this now: a hint of 1 to 5 seconds, spread by the request's id so
    /// that callers do not return together.
    pub(crate) fn unavailable(code: DenialCode, detail: &'static str, id: RequestId) -> Self {
        let spread = id.as_str().bytes().last().unwrap_or(0);
        Self {
            retry_after_s: Some(1 + u64::from(spread) % 5),
            ..Self::new(code, detail)
        }
    }

    /// The answer, without the headers that depend on the caller.
    pub(crate) fn answer(&self, id: RequestId) -> Response<AnswerBody> {
        let body = Bytes::from(self.body(id));
        let mut answer = Response::new(AnswerBody::Whole(Some(body)));
        *answer.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let headers = answer.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.code.status() == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = &self.allow
            && let Ok(allow) = HeaderValue::from_str(allow)
        {
            headers.insert(ALLOW, allow);
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// RFC 9457. Numbers and names here are ours and need no escaping, but the detail may quote.
    fn body(&self, id: RequestId) -> String {
        let code = self.code.as_str();
        let detail = serde_json::Value::from(self.detail.as_ref());
        let mut out = String::with_capacity(384);
        // Writing into a String cannot fail.
        let _written = write!(
            out,
            r#"{{"type":"/docs/errors/{code}","title":"{}","status":{},"detail":{detail},"code":"{code}","request_id":"{id}""#,
            title(self.code),
            self.code.status(),
        );
        if let Some(refusal) = &self.refusal {
            let _written = limit_fields(&mut out, refusal);
        }
        out.push('}');
        out
    }
}

fn limit_fields(out: &mut String, refusal: &Refusal) -> std::fmt::Result {
    let (kind, length) = match refusal.name.length {
        Length::Window(per) => ("window", per.as_str()),
        Length::Period(every) => ("period", every.as_str()),
    };
    write!(
        out,
        r#","limit":{},"used":{},"remaining":{},"scope":"{}","{kind}":"{length}","limit_name":"{}""#,
        refusal.limit,
        refusal.used,
        refusal.remaining,
        refusal.scope.as_str(),
        refusal.name,
    )?;
    if let Some(seconds) = refusal.retry_after_s {
        write!(out, r#","retry_after":{seconds}"#)?;
    }
    if let Some(at) = refusal.reset_at {
        write!(out, r#","reset_at":"{}""#, whole_seconds(at).as_str())?;
    }
    Ok(())
}

const fn title(code: DenialCode) -> &'static str {
    match code {
        DenialCode::RequestInvalid => "The request is malformed",
        DenialCode::BodyTooLarge => "The body is too long",
        DenialCode::HeadersTooLarge => "The head is too long",
        DenialCode::ApiNotFound => "No API lives here",
        DenialCode::RouteNotFound => "No route lives here",
        DenialCode::MethodNotAllowed => "The method is not allowed",
        DenialCode::KeyMissing => "An API key is needed",
        DenialCode::KeyInvalid => "The API key is not known",
        DenialCode::KeyExpired => "The API key has expired",
        DenialCode::KeyRevoked => "The API key was revoked",
        DenialCode::KeyDisabled => "The API key is disabled",
        DenialCode::ApiNotSubscribed => "The subscription does not hold this API",
        DenialCode::AddressNotAllowed => "The address is not allowed",
        DenialCode::ScopeMissing => "A scope is missing",
        DenialCode::SubscriptionSuspended => "The subscription is suspended",
        DenialCode::SubscriptionCancelled => "The subscription was cancelled",
        DenialCode::RateLimited => "Too many requests",
        DenialCode::QuotaExceeded => "The quota is used up",
        DenialCode::UpstreamUnreachable => "The upstream cannot be reached",
        DenialCode::UpstreamFailed => "The upstream failed",
        DenialCode::UpstreamTimeout => "The upstream was too slow",
        DenialCode::Overloaded => "The gateway is overloaded",
        DenialCode::CountersUnavailable => "Counters are being restored",
        DenialCode::JournalFull => "The journal is full",
        DenialCode::CatalogStale => "The catalog is too old",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_admission::LimitName;
    use tollgate_model::{By, Per, Timestamp};

    fn json(denial: &Denial) -> serde_json::Value {
        serde_json::from_str(&denial.body(RequestId::from_uuid(7))).unwrap()
    }

    #[test]
    fn problems_carry_the_stable_code_and_the_request_id() {
        let denial = Denial::new(DenialCode::KeyMissing, "Say \"who\" you are.");
        let body = json(&denial);
        assert_eq!(body["code"], "key_missing");
        assert_eq!(body["status"], 401);
        assert_eq!(body["detail"], "Say \"who\" you are.");
        assert_eq!(body["request_id"], "req_00000000000000000000000007");
        let answer = denial.answer(RequestId::from_uuid(7));
        assert_eq!(answer.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn refusals_by_a_limit_tell_its_numbers() {
        let denial = Denial::limited(Refusal {
            code: DenialCode::RateLimited,
            name: LimitName {
                length: Length::Window(Per::Minute),
                by: By::Subscription,
                on_route: false,
            },
            limit: 10,
            used: 10,
            remaining: 0,
            scope: By::Subscription,
            period: None,
            retry_after_s: Some(7),
            reset_at: Some(Timestamp(1_764_000_000_000_000)),
        });
        let body = json(&denial);
        for (field, value) in [
            ("limit", 10),
            ("used", 10),
            ("remaining", 0),
            ("retry_after", 7),
        ] {
            assert_eq!(body[field], value, "{field}");
        }
        assert_eq!(body["window"], "minute");
        assert_eq!(body["scope"], "subscription");
        assert_eq!(body["reset_at"], "2025-11-24T16:00:00Z");
        assert_eq!(
            denial.answer(RequestId::from_uuid(7)).headers()[RETRY_AFTER],
            "7"
        );
    }
}
