//! `/.well-known/tollgate/`: comes before every API, is neither recorded nor charged.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use serde_json::{Map, Value, json};
use tollgate_admission::{Length, LimitName, Refusal};
use tollgate_model::{
    By, CheckAnswer, DenialCode, KeyId, LimitReading, Now, OrganizationId, Per, PlanId,
    SubscriptionId,
};

use crate::answer::{Rates, identify, name_caller, tell_rates};
use crate::authenticate::{Caller, Directory, detail};
use crate::credentials::Presented;
use crate::decide::weigh;
use crate::forward::AnswerBody;
use crate::options::ME_CALLS_PER_SECOND;
use crate::problem::Denial;
use crate::service::Visit;

const PREFIX: &str = "/.well-known/tollgate/";

/// Whether the path is one of ours.
pub(crate) fn is_ours(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// Answers a call of ours. Refusals here are answers, too: they are told and not recorded.
pub(crate) fn answer<E: From<Denial>>(
    visit: &Visit,
    parts: &Parts,
    presented: Presented<'_>,
) -> Result<Response<AnswerBody>, E> {
    let node = visit.worker.node();
    if !node.may_ask(visit.address, visit.now.wall) {
        return Err(too_often(visit.now).into());
    }
    if parts.uri.path().strip_prefix(PREFIX) != Some("me") {
        let detail = "No such resource of the gateway's own.";
        return Err(Denial::new(DenialCode::RouteNotFound, detail).into());
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        let detail = "Ask with GET.";
        let mut denial = Denial::new(DenialCode::MethodNotAllowed, detail);
        denial.allow = Some("GET, HEAD".to_owned());
        return Err(denial.into());
    }
    let (Presented::Header(secret) | Presented::Bearer(secret)) = presented else {
        let code = DenialCode::KeyMissing;
        return Err(Denial::new(code, detail(code)).into());
    };
    let directory = Directory {
        catalog: &visit.catalog.catalog,
        payers: &visit.catalog.payers,
        keys: &node.keys,
        pepper: &node.pepper,
    };
    let caller = directory
        .recognise(secret, visit.now.wall)
        .map_err(|(code, _)| Denial::new(code, detail(code)))?;
    let address = Some(visit.address);
    let (said, told) = weigh(node, &visit.catalog, &caller, None, 1, address, visit.now);
    let mut answer = respond(visit, parts, &caller, &said);
    if let Some(told) = &told {
        let rates = Rates {
            values: told.values,
            policy: told.compiled.policy(),
        };
        tell_rates(answer.headers_mut(), &rates);
    }
    Ok(answer)
}

/// The refusal of an address that asks more often than it may: until the second is over.
fn too_often(now: Now) -> Denial {
    const SECOND_US: i64 = 1_000_000;
    let allowed = u64::from(ME_CALLS_PER_SECOND);
    let refusal = Refusal {
        code: DenialCode::RateLimited,
        name: LimitName {
            length: Length::Window(Per::Second),
            by: By::Address,
            on_route: false,
        },
        limit: allowed,
        used: allowed,
        remaining: 0,
        scope: By::Address,
        period: None,
        retry_after_s: Some(1),
        reset_at: Some(now.wall.floor_to(SECOND_US).plus_us(SECOND_US)),
    };
    Denial {
        detail: "An address may ask so often in a second; ask less often.".into(),
        ..Denial::limited(refusal)
    }
}

fn respond(
    visit: &Visit,
    parts: &Parts,
    caller: &Caller,
    told: &CheckAnswer,
) -> Response<AnswerBody> {
    let text = describe(told).to_string();
    let length = text.len();
    let body = (parts.method != Method::HEAD).then(|| Bytes::from(text));
    let mut response = Response::new(AnswerBody::Whole(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let now = visit.worker.now();
    identify(headers, visit.id, visit.now.ticks, now.ticks);
    name_caller(headers, caller);
    response
}

/// The same fields as the platform's `GET /api/v1/me`.
fn describe(told: &CheckAnswer) -> Value {
    json!({
        "key_id": told.key.as_ref().map(KeyId::as_str),
        "subscription_id": told.subscription.as_ref().map(SubscriptionId::as_str),
        "organization_id": told.organization.as_ref().map(OrganizationId::as_str),
        "plan": told.plan.as_ref().map(PlanId::as_str),
        "allowed": told.allowed,
        "code": told.code.map(DenialCode::as_str),
        "retry_after": told.retry_after_s,
        "limits": told.limits.iter().map(limit).collect::<Vec<_>>(),
    })
}

fn limit(reading: &LimitReading) -> Value {
    let kind = if reading.period.is_some() {
        "quota"
    } else {
        "window"
    };
    let mut told = Map::new();
    let mut tell = |name: &str, value: Value| told.insert(name.to_owned(), value);
    tell("name", json!(&*reading.name));
    tell("kind", json!(kind));
    tell("limit", json!(reading.limit));
    tell("used", json!(reading.used));
    tell("remaining", json!(reading.remaining));
    tell(
        "reset_at",
        json!(reading.resets_at.map(|at| at.to_string())),
    );
    if let Some(period) = reading.period {
        tell("period_start", json!(period.start.to_string()));
        tell("period_end", json!(period.end.to_string()));
    }
    if reading.shadow {
        tell("shadow", json!(true));
    }
    Value::Object(told)
}
