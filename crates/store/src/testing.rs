//! Sample data for tests of stores and of what stands on them.
//!
//! **Owns** builders whose values are fixed, so that a test says only what matters to it.
//!
//! **Does not own** the fold that runs in production: [`batch`] folds just enough buckets and
//! periods for a store to have something to add up.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_model::{
    AccessToken, ApiId, ApiKey, BucketKey, Counts, DenialCode, EventId, Every, Family, Grain,
    KeyHash, KeyId, KeyState, Label, LatencySketch, LimitId, Managed, NodeId, OnExceeded,
    OrganizationId, Outcome, Per, PlanId, Quota, RateLimit, RequestId, Sequence, StreamId,
    SubscriptionId, Timestamp, TokenHash, TokenId, UsageBucket, UsageEvent,
};

use crate::{
    AuditEntry, CatalogObject, Effects, IngestBatch, IngestedEvent, KeyWrite, ObjectKind,
    PeriodScope, PeriodUnits,
};

/// A full hour, 2025-11-24T16:00:00Z, at which sample data begins.
pub const BEGIN: Timestamp = Timestamp(1_764_000_000_000_000);
/// A second in microseconds.
pub const SECOND_US: i64 = 1_000_000;
/// An hour in microseconds.
pub const HOUR_US: i64 = 3_600 * SECOND_US;

/// The instant `seconds` after [`BEGIN`].
#[must_use]
pub fn after(seconds: i64) -> Timestamp {
    BEGIN.plus_us(seconds * SECOND_US)
}

/// A journal stream of the gateway `node-a`.
#[must_use]
pub fn stream(thread: u16) -> StreamId {
    StreamId {
        node: NodeId::new("node-a"),
        epoch: 1,
        thread,
    }
}

/// A limit, as a plan or key has it.
#[must_use]
pub fn rate_limit(max: u32, per: Per) -> RateLimit {
    RateLimit {
        id: None,
        max,
        per,
        by: None,
        shadow: false,
    }
}

/// A hash that stands for number `n`.
#[must_use]
pub fn key_hash(n: u32) -> KeyHash {
    KeyHash(digest(n))
}

fn digest(n: u32) -> [u8; 32] {
    let mut bytes = [7; 32];
    for (slot, byte) in bytes.iter_mut().zip(n.to_be_bytes()) {
        *slot = byte;
    }
    bytes
}

/// A plain active key: id and hash by number, so that larger numbers are newer.
#[must_use]
pub fn api_key(n: u32, subscription: &str) -> ApiKey {
    let id = KeyId::made(u128::from(n));
    ApiKey {
        family: id.clone(),
        id,
        subscription: SubscriptionId::new(subscription),
        name: format!("key {n}"),
        hash: key_hash(n),
        prefix: "hm".to_owned(),
        last4: "abcd".to_owned(),
        state: KeyState::Active,
        test: false,
        scopes: None,
        allowed_addresses: Vec::new(),
        limits: Vec::new(),
        quota: None,
        external_id: None,
        metadata: "{}".to_owned(),
        created_at: BEGIN,
        expires_at: None,
        revoked_at: None,
    }
}

/// A key with something in every field.
#[must_use]
pub fn full_api_key(n: u32, subscription: &str) -> ApiKey {
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    ApiKey {
        family: KeyId::new("key_first"),
        state: KeyState::Revoked,
        test: true,
        scopes: Some(vec!["widgets:read".to_owned(), "ä \"quoted\"".to_owned()]),
        allowed_addresses: networks.iter().filter_map(|n| n.parse().ok()).collect(),
        limits: vec![
            RateLimit {
                id: Some(LimitId::new("strict")),
                max: RateLimit::MAX_LARGEST,
                per: Per::Hour,
                by: Some(tollgate_model::By::Address),
                shadow: true,
            },
            rate_limit(0, Per::Day),
        ],
        quota: Some(Quota {
            units: Quota::UNITS_LARGEST,
            every: Every::Week,
            on_exceeded: OnExceeded::Grace { percent: 15 },
        }),
        external_id: Some("customer's own".to_owned()),
        metadata: "{\"team\":\"blue\"}".to_owned(),
        expires_at: Some(after(60)),
        revoked_at: Some(after(30)),
        ..api_key(n, subscription)
    }
}

/// The command that makes a key.
#[must_use]
pub fn new_key(key: ApiKey) -> KeyWrite {
    KeyWrite {
        effects: effects("key.create", key.id.as_str()),
        key,
        expected_version: 0,
        live_keys_max: None,
    }
}

/// One audit row.
#[must_use]
pub fn effects(action: &str, subject: &str) -> Effects {
    Effects {
        audit: vec![AuditEntry {
            at: BEGIN,
            actor: "bootstrap".to_owned(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: "{\"by\":\"test\"}".to_owned(),
        }],
        call: None,
    }
}

/// An access token with hash number `n`.
#[must_use]
pub fn access_token(name: &str, n: u32) -> AccessToken {
    AccessToken {
        id: TokenId::made(u128::from(n)),
        name: name.to_owned(),
        hash: TokenHash(digest(n)),
        scopes: vec!["read".to_owned(), "ingest".to_owned()],
        created_at: BEGIN,
        expires_at: Some(after(3_600)),
    }
}

/// A catalog object.
#[must_use]
pub fn object(kind: ObjectKind, id: &str) -> CatalogObject {
    CatalogObject {
        kind,
        id: id.to_owned(),
        organization: None,
        document: format!("{{\"name\":\"{id}\"}}"),
        managed: Managed::Api,
        created_at: BEGIN,
        updated_at: after(1),
    }
}

/// A forwarded request `n` seconds after [`BEGIN`]: 1 unit, 1 ms for each of `n`, by key 1 of
/// subscription `acme-widgets`, counted in the period that starts at [`BEGIN`].
#[must_use]
pub fn event(n: u32) -> UsageEvent {
    let key = KeyId::made(1);
    UsageEvent {
        id: EventId::Request(RequestId::from_uuid(u128::from(n) + 1)),
        at: after(i64::from(n)),
        key_family: Some(key.clone()),
        key: Some(key),
        subscription: Some(SubscriptionId::new("acme-widgets")),
        organization: Some(OrganizationId::new("acme")),
        api: ApiId::new("widgets"),
        route: Arc::from("/v1/widgets/{id}"),
        method: Arc::from("GET"),
        path: Arc::from("/v1/widgets/7"),
        status: 200,
        outcome: Outcome::Forwarded,
        code: None,
        limit: None,
        latency_us: u64::from(n) * 1_000,
        upstream_latency_us: None,
        bytes_in: 10,
        bytes_out: 100,
        address: None,
        country: None,
        user_agent: None,
        units: 1,
        meter: Arc::from("requests"),
        labels: Vec::new(),
        plan: Some(PlanId::new("free")),
        plan_version: None,
        would_deny: None,
        overridden: false,
        test: false,
        producer: Arc::from(""),
        trace_id: None,
        client_request_id: None,
        count: 1,
        catalog_version: 1,
        subscription_period: Some(BEGIN),
        key_period: None,
    }
}

/// A request of nobody that was refused: every field that may be empty is.
#[must_use]
pub fn bare_event(n: u32) -> UsageEvent {
    UsageEvent {
        key: None,
        key_family: None,
        subscription: None,
        organization: None,
        plan: None,
        subscription_period: None,
        status: 401,
        outcome: Outcome::Denied,
        units: 0,
        ..event(n)
    }
}

/// An event with something in every field.
#[must_use]
pub fn full_event(n: u32) -> UsageEvent {
    let label = |name: &str, value: &str| Label {
        name: Arc::from(name),
        value: Arc::from(value),
    };
    let some = |text: &str| Some(Arc::from(text));
    UsageEvent {
        id: EventId::Outside(Arc::from(format!("operation/{n} ä").as_str())),
        key: Some(KeyId::new("key_second")),
        key_family: Some(KeyId::new("key_first")),
        status: 429,
        outcome: Outcome::Denied,
        code: Some(DenialCode::RateLimited),
        limit: some("minute-subscription"),
        latency_us: u64::MAX >> 1,
        upstream_latency_us: Some(0),
        bytes_in: 1 << 40,
        bytes_out: (1 << 53) + 1,
        address: "2001:db8::7".parse().ok(),
        country: Some(*b"DE"),
        user_agent: some("curl/8.9 \u{1f980}"),
        units: 12,
        meter: Arc::from("tokens"),
        labels: vec![
            label("source", "wiki"),
            label("quote\"d", ""),
            label("source", "twice"),
        ],
        plan_version: Some(u32::MAX),
        would_deny: some("month-subscription"),
        overridden: true,
        test: true,
        producer: Arc::from("exporter"),
        trace_id: some("4bf92f3577b34da6a3ce929d0e0e4736"),
        client_request_id: some("their own"),
        count: 250,
        catalog_version: 99,
        key_period: Some(after(-7)),
        ..event(n)
    }
}

/// Events of one stream from `first` on without gaps, folded into hour and day buckets of the
/// API, minute and hour buckets of the route, hour buckets of the key, and periods.
#[must_use]
pub fn batch(stream: StreamId, first: u64, events: Vec<UsageEvent>) -> IngestBatch {
    let mut buckets = BTreeMap::new();
    let mut periods = BTreeMap::new();
    for event in &events {
        fold_buckets(&mut buckets, event);
        let mut add = |scope: PeriodScope, start: Timestamp| {
            *periods.entry((scope, start)).or_insert(0) += event.units;
        };
        if let (Some(id), Some(start)) = (&event.subscription, event.subscription_period) {
            add(PeriodScope::Subscription(id.clone()), start);
        }
        if let (Some(id), Some(start)) = (&event.key_family, event.key_period) {
            add(PeriodScope::Key(id.clone()), start);
        }
    }
    let ingested = |(n, event)| IngestedEvent {
        sequence: Sequence(n),
        event,
    };
    IngestBatch {
        stream,
        first: Sequence(first),
        next: Sequence(first + events.len() as u64),
        events: (first..).zip(events).map(ingested).collect(),
        buckets: buckets.into_values().collect(),
        periods: periods
            .into_iter()
            .map(|((scope, start), units)| PeriodUnits {
                scope,
                start,
                units,
            })
            .collect(),
        received_at: after(86_400),
    }
}

fn fold_buckets(buckets: &mut BTreeMap<BucketKey, UsageBucket>, event: &UsageEvent) {
    for (family, grain) in [
        (Family::Api, Grain::Hour),
        (Family::Api, Grain::Day),
        (Family::Route, Grain::Minute),
        (Family::Route, Grain::Hour),
        (Family::Key, Grain::Hour),
    ] {
        let key = bucket_key(family, grain, event);
        let bucket = buckets.entry(key.clone()).or_insert_with(|| UsageBucket {
            key,
            counts: Counts::default(),
            latency: (family != Family::Key).then(LatencySketch::new),
        });
        bucket.counts.add(&Counts::of(event));
        if let (Outcome::Forwarded, Some(sketch)) = (event.outcome, &mut bucket.latency) {
            sketch.add(event.latency_us);
        }
    }
}

/// The name of the bucket that an event falls into.
#[must_use]
pub fn bucket_key(family: Family, grain: Grain, event: &UsageEvent) -> BucketKey {
    let by_api = family == Family::Api;
    let plan = event.plan.as_ref().filter(|_| family == Family::Route);
    BucketKey {
        family,
        grain,
        start: event.at.floor_to(grain.span_us()),
        api: event.api.clone(),
        organization: event.organization.clone().filter(|_| !by_api),
        subscription: event.subscription.clone().filter(|_| !by_api),
        plan: plan.map_or_else(String::new, |id| id.as_str().to_owned()),
        dimension: match family {
            Family::Route => event.route.to_string(),
            Family::Key => event.key.as_ref().map_or("", KeyId::as_str).to_owned(),
            _ => String::new(),
        },
        test: event.test,
    }
}
