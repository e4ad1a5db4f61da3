//! Time, ids and events for tests.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_model::{
    ApiId, Charge, Clock, CounterId, CounterKind, DenialCode, EventId, IdGen, KeyId, Label, Mark,
    Now, OrganizationId, Outcome, Per, PlanId, RequestId, SubscriptionId, Ticks, Timestamp,
    UsageEvent,
};

/// Stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock at `us` microseconds since the epoch, ticks alike.
    #[must_use]
    pub fn at(us: u64) -> Self {
        Self(AtomicU64::new(us))
    }

    /// Moves both clocks on.
    pub fn advance(&self, us: u64) {
        self.0.fetch_add(us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let us = self.0.load(Ordering::SeqCst);
        Now {
            wall: Timestamp(us as i64),
            ticks: Ticks(us),
        }
    }
}

/// 1, 2, 3 …
#[derive(Debug, Default)]
pub struct CountingIds(AtomicU64);

impl IdGen for CountingIds {
    fn uuid(&self, _at: Timestamp) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn fill(&self, secret: &mut [u8]) {
        secret.fill(7);
    }
}

/// A small event; everything about it follows from `number`.
#[must_use]
pub fn event(number: u64, units: u64) -> UsageEvent {
    UsageEvent {
        id: EventId::Request(RequestId::from_uuid(u128::from(number))),
        at: Timestamp(number as i64),
        key: None,
        key_family: None,
        subscription: None,
        organization: None,
        api: ApiId::new("widgets"),
        route: Arc::from("/v1/widgets/{id}"),
        method: Arc::from("GET"),
        path: Arc::from(format!("/v1/widgets/{number}")),
        status: 200,
        outcome: Outcome::ALL
            .into_iter()
            .cycle()
            .nth((number % 7) as usize)
            .unwrap_or(Outcome::Forwarded),
        code: None,
        limit: None,
        latency_us: number,
        upstream_latency_us: None,
        bytes_in: 0,
        bytes_out: number,
        address: None,
        country: None,
        user_agent: None,
        units,
        meter: Arc::from("requests"),
        labels: Vec::new(),
        plan: None,
        plan_version: None,
        would_deny: None,
        overridden: false,
        test: false,
        producer: Arc::from(""),
        trace_id: None,
        client_request_id: None,
        count: 1,
        catalog_version: 1,
        subscription_period: None,
        key_period: None,
    }
}

/// A charge of `units` on counter `counter`.
#[must_use]
pub fn charge(counter: u128, units: u64) -> Charge {
    Charge {
        counter: CounterId(counter),
        kind: CounterKind::Window(Per::Minute),
        reserved: units,
        kept: units,
        at: Ticks(1),
        round: 0,
    }
}

/// A mark of `granted` units on counter `counter`.
#[must_use]
pub fn mark(counter: u128, granted: u64) -> Mark {
    Mark {
        counter: CounterId(counter),
        kind: CounterKind::Window(Per::Minute),
        granted,
        at: Ticks(1),
        began: Ticks(0),
    }
}

/// An event with every field set, and charges of both kinds.
#[must_use]
pub fn full_event() -> (UsageEvent, Vec<Charge>) {
    let text = |text: &str| Some(Arc::from(text));
    let label = |name: &str, value: &str| Label {
        name: Arc::from(name),
        value: Arc::from(value),
    };
    let event = UsageEvent {
        id: EventId::Outside(Arc::from("their-id")),
        at: Timestamp(-5),
        key: Some(KeyId::made(1)),
        key_family: Some(KeyId::made(2)),
        subscription: Some(SubscriptionId::new("acme-widgets")),
        organization: Some(OrganizationId::new("acme")),
        status: 429,
        outcome: Outcome::Denied,
        code: Some(DenialCode::QuotaExceeded),
        limit: text("month-subscription"),
        latency_us: u64::MAX,
        upstream_latency_us: Some(17),
        bytes_in: 1,
        bytes_out: 2,
        address: Some(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1])),
        country: Some(*b"DE"),
        user_agent: text("agent/1.0 (ä)"),
        labels: vec![label("source", "wiki"), label("long", &"x".repeat(300))],
        plan: Some(PlanId::new("starter")),
        plan_version: Some(3),
        would_deny: text("minute-key"),
        overridden: true,
        test: true,
        producer: Arc::from("billing"),
        trace_id: text("4bf92f3577b34da6a3ce929d0e0e4736"),
        client_request_id: text("mine"),
        count: 9,
        catalog_version: 77,
        subscription_period: Some(Timestamp(1_000)),
        key_period: Some(Timestamp(-1_000)),
        ..event(1, 12)
    };
    let mut charges = vec![charge(u128::MAX, u64::MAX), charge(5, 0)];
    charges.push(Charge {
        kind: CounterKind::Quota {
            ends_at: Timestamp(1_764_000_000_000_000),
        },
        round: 4,
        ..charge(6, 1)
    });
    (event, charges)
}
