//! Writing down what happened: exactly one event per permit and per recorded denial.
//!
//! Appending is synchronous, so that it works in `Drop`. **Invariant:** an event's sequence is
//! claimed while its counters are locked, so that a snapshot of them holds both the settlement
//! and the place, or neither; no other entry of the thread is appended in between, because
//! nothing here waits.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderMap;
use http::header::USER_AGENT;
use http::request::Parts;
use tollgate_admission::CompiledLimits;
use tollgate_journal::{Entry, Room};
use tollgate_model::{ApiId, By, Charge, DenialCode, EventId, Now, Outcome, RequestId, UsageEvent};

use crate::authenticate::Caller;
use crate::forward::new_trace_id;
use crate::head::{client_request_id, trace_parent};
use crate::options::{PATH_RECORDED_BYTES_MAX, USER_AGENT_BYTES_MAX};
use crate::routes::RouteMatch;
use crate::worker::Worker;

/// Resolves when a record is on disk: false where that failed.
pub(crate) type Synced = Pin<Box<dyn Future<Output = bool>>>;

/// How far a record has come.
pub(crate) enum Recorded {
    /// As far as it must before its answer may end.
    Done,
    /// In the kernel; on disk when this resolves.
    Waiting(Synced),
    /// Nowhere: its answer must not end.
    Failed,
}

impl Recorded {
    /// Waits until the answer may end; false: it must be broken off.
    pub(crate) async fn done(self) -> bool {
        match self {
            Self::Done => true,
            Self::Waiting(synced) => synced.await,
            Self::Failed => false,
        }
    }
}

/// What is known of a request before it is decided. Its texts are made when it is admitted or
/// recorded, not before.
pub(crate) struct Facts {
    pub(crate) id: RequestId,
    /// The moment of admission.
    pub(crate) now: Now,
    pub(crate) address: IpAddr,
    pub(crate) route: RouteMatch,
    pub(crate) caller: Caller,
    pub(crate) catalog_version: u64,
    pub(crate) method: Arc<str>,
    pub(crate) path: Arc<str>,
    pub(crate) user_agent: Option<Arc<str>>,
    pub(crate) client_request_id: Option<Arc<str>>,
    /// The client's trace.
    pub(crate) trace_id: Option<Arc<str>>,
}

impl Facts {
    /// What the head of a request tells.
    pub(crate) fn of(
        parts: &Parts,
        visit: &crate::service::Visit,
        route: RouteMatch,
        caller: Caller,
    ) -> Self {
        let headers = &parts.headers;
        Self {
            id: visit.id,
            now: visit.now,
            address: visit.address,
            route,
            caller,
            catalog_version: visit.catalog.version(),
            method: visit.worker.method_name(&parts.method),
            path: Arc::from(cut(parts.uri.path(), PATH_RECORDED_BYTES_MAX)),
            user_agent: user_agent(headers),
            client_request_id: client_request_id(headers).map(Arc::from),
            trace_id: trace_parent(headers).map(|(id, _)| Arc::from(id)),
        }
    }
}

/// The user agent as recorded: what is not visible ASCII is replaced, what is long is cut.
fn user_agent(headers: &HeaderMap) -> Option<Arc<str>> {
    let bytes = headers.get(USER_AGENT)?.as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Arc::from(cut(text, USER_AGENT_BYTES_MAX))),
        Err(_) => {
            let text: String = bytes
                .iter()
                .take(USER_AGENT_BYTES_MAX)
                .map(|b| {
                    if b.is_ascii_graphic() {
                        char::from(*b)
                    } else {
                        '?'
                    }
                })
                .collect();
            Some(Arc::from(text))
        }
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or("")
}

/// What became of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fate {
    pub(crate) status: u16,
    pub(crate) code: Option<DenialCode>,
    /// Name of the limit that refused.
    pub(crate) limit: Option<&'static str>,
    pub(crate) would_deny: Option<&'static str>,
    pub(crate) latency_us: u64,
    pub(crate) upstream_latency_us: Option<u64>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) units: u64,
}

/// The event of a request.
pub(crate) fn event(
    facts: &Facts,
    limits: Option<&CompiledLimits>,
    outcome: Outcome,
    fate: &Fate,
) -> UsageEvent {
    let period = |by| limits.and_then(|l| l.period(by, facts.now).map(|p| p.start));
    let caller = &facts.caller;
    let key = caller.key.as_ref();
    UsageEvent {
        id: EventId::Request(facts.id),
        at: facts.now.wall,
        key: key.map(|k| k.id.clone()),
        key_family: key.map(|k| k.family().clone()),
        subscription: caller.subscription().map(|s| s.id.clone()),
        organization: caller.organization().cloned(),
        api: facts.route.api().id.clone(),
        route: Arc::clone(facts.route.name()),
        method: Arc::clone(&facts.method),
        path: Arc::clone(&facts.path),
        status: fate.status,
        outcome,
        code: fate.code,
        limit: fate.limit.map(Arc::from),
        latency_us: fate.latency_us,
        upstream_latency_us: fate.upstream_latency_us,
        bytes_in: fate.bytes_in,
        bytes_out: fate.bytes_out,
        address: Some(facts.address),
        country: None,
        user_agent: facts.user_agent.clone(),
        units: fate.units,
        meter: meter(),
        labels: facts.route.labels().to_vec(),
        plan: caller.plan().map(|p| p.id.clone()),
        plan_version: caller.plan().map(|p| p.version),
        would_deny: fate.would_deny.map(Arc::from),
        overridden: false,
        test: key.is_some_and(|k| k.test),
        producer: empty(),
        trace_id: trace_id(facts, outcome),
        client_request_id: facts.client_request_id.clone(),
        count: 1,
        catalog_version: facts.catalog_version,
        subscription_period: period(By::Subscription),
        key_period: period(By::Key),
    }
}

/// The trace that the upstream was told of: the client's, or one that began here.
fn trace_id(facts: &Facts, outcome: Outcome) -> Option<Arc<str>> {
    let begun = || (outcome != Outcome::Denied).then(|| Arc::from(new_trace_id(facts.id)));
    facts.trace_id.clone().or_else(begun)
}

/// One record that stands for many refusals of one kind.
pub(crate) fn summary(
    id: RequestId,
    now: Now,
    api: &ApiId,
    code: DenialCode,
    count: u32,
    catalog_version: u64,
) -> UsageEvent {
    UsageEvent {
        id: EventId::Request(id),
        at: now.wall,
        key: None,
        key_family: None,
        subscription: None,
        organization: None,
        api: api.clone(),
        route: Arc::from("*"),
        method: Arc::from("*"),
        path: Arc::from("*"),
        status: code.status(),
        outcome: Outcome::Denied,
        code: Some(code),
        limit: None,
        latency_us: 0,
        upstream_latency_us: None,
        bytes_in: 0,
        bytes_out: 0,
        address: None,
        country: None,
        user_agent: None,
        units: 0,
        meter: meter(),
        labels: Vec::new(),
        plan: None,
        plan_version: None,
        would_deny: None,
        overridden: false,
        test: false,
        producer: empty(),
        trace_id: None,
        client_request_id: None,
        count,
        catalog_version,
        subscription_period: None,
        key_period: None,
    }
}

thread_local! {
    static METER: Arc<str> = Arc::from("requests");
    static EMPTY: Arc<str> = Arc::from("");
}

fn meter() -> Arc<str> {
    METER.with(Arc::clone)
}

fn empty() -> Arc<str> {
    EMPTY.with(Arc::clone)
}

/// Appends an event whose sequence has been claimed (or that has no charges).
pub(crate) fn append(
    worker: &Worker,
    room: Room,
    event: UsageEvent,
    charges: Vec<Charge>,
) -> Recorded {
    worker.append(room, &Entry::Event { event, charges })
}
