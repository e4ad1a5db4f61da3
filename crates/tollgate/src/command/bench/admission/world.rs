//! A catalog and keys of any size, the same at every run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context;
use jiff::civil::date;
use jiff::tz::TimeZone;
use tollgate_gateway::Probe;
use tollgate_journal::Recovered;
use tollgate_lifecycle::{SystemClock, SystemIds};
use tollgate_model::{
    Api, ApiId, ApiKey, By, Catalog, CatalogSink, CountersLost, EncodedSlash, Every, JournalFull,
    KeyChange, KeyDelta, KeyId, KeyState, LimitUse, Mode, OnExceeded, Organization, OrganizationId,
    Pepper, Per, PeriodBasis, Plan, PlanId, Quota, RateLimit, Route, RouteTemplate, StaleCatalog,
    StatusSet, Subscription, SubscriptionId, SubscriptionState, Timestamp, Unlisted, Upstream,
};

/// Where every call goes.
pub const PATH: &str = "/v1/widgets";

/// Keys that are published together.
const BATCH: u32 = 10_000;

/// A gateway's inside with so many keys in force.
///
/// # Errors
/// When the catalog cannot be built.
pub fn probe(
    keys: u32,
    keys_per_subscription: u32,
    threads: u16,
    recovered: Option<&Recovered>,
) -> anyhow::Result<Probe> {
    let pepper = Pepper::new(vec![7; 32]);
    let clock = Arc::new(SystemClock::new());
    let probe = Probe::new(pepper, clock, Arc::new(SystemIds), threads, recovered);
    let handle = probe.handle();
    let catalog = catalog(keys.div_ceil(keys_per_subscription))?;
    handle.publish_catalog(Arc::new(catalog));
    let mut n = 0;
    while n < keys {
        let until = keys.min(n.saturating_add(BATCH));
        let put = |n| KeyChange::Put(Arc::new(key(&probe, n, n / keys_per_subscription)));
        handle.publish_keys(KeyDelta {
            version: 2,
            changes: (n..until).map(put).collect(),
        });
        n = until;
    }
    Ok(probe)
}

/// The secret of a key, as long as real ones are.
#[must_use]
pub fn secret(n: u32) -> [u8; 35] {
    let mut text = *b"tg_0123456789abcdefghijklm000000000";
    let mut rest = n;
    for byte in text.iter_mut().rev().take(9) {
        *byte = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    text
}

fn key(probe: &Probe, n: u32, subscription: u32) -> ApiKey {
    let id = KeyId::made(u128::from(n) << 64 | 7);
    ApiKey {
        family: KeyId::new(id.as_str()),
        id,
        subscription: subscription_id(subscription),
        name: format!("key {n}"),
        hash: probe.hash(&secret(n)),
        prefix: "tg".into(),
        last4: "0000".into(),
        state: KeyState::Active,
        test: false,
        scopes: None,
        allowed_addresses: Vec::new(),
        limits: Vec::new(),
        quota: None,
        external_id: None,
        metadata: "{}".into(),
        created_at: Timestamp(0),
        expires_at: None,
        revoked_at: None,
    }
}

fn subscription_id(n: u32) -> SubscriptionId {
    SubscriptionId::new(&format!("subscription-{n}"))
}

fn catalog(subscriptions: u32) -> anyhow::Result<Catalog> {
    let api = api()?;
    let plan = plan();
    let organization = OrganizationId::new("organization");
    let subscribed = |n| {
        let subscription = Subscription {
            id: subscription_id(n),
            organization: organization.clone(),
            apis: vec![api.id.clone()],
            plan: plan.id.clone(),
            time_zone: TimeZone::UTC,
            started_on: date(2026, 1, 1),
            state: SubscriptionState::Active,
            created_at: Timestamp(0),
        };
        (subscription.id.clone(), Arc::new(subscription))
    };
    let organizations = [(
        organization.clone(),
        Arc::new(Organization {
            id: organization.clone(),
            name: "organization".into(),
        }),
    )];
    Ok(Catalog {
        version: 1,
        subscriptions: (0..subscriptions).map(subscribed).collect(),
        organizations: HashMap::from(organizations),
        plans: HashMap::from([(plan.id.clone(), Arc::new(plan))]),
        apis: HashMap::from([(api.id.clone(), Arc::new(api))]),
        limits: HashMap::new(),
    })
}

/// Limits that hardly anybody reaches: what is measured are calls that pass.
fn plan() -> Plan {
    let limit = |per, max| {
        LimitUse::Inline(RateLimit {
            id: None,
            max,
            per,
            by: Some(By::Key),
            shadow: false,
        })
    };
    Plan {
        id: PlanId::new("plan"),
        name: "plan".into(),
        version: 1,
        price: None,
        quota: Some(Quota {
            units: 10_000_000_000,
            every: Every::Month,
            on_exceeded: OnExceeded::Block,
        }),
        overage: None,
        period: PeriodBasis::Calendar,
        limits: vec![
            limit(Per::Second, 1_000_000),
            limit(Per::Minute, 10_000_000),
            limit(Per::Hour, 100_000_000),
        ],
        scopes: None,
        keys_max: None,
    }
}

fn api() -> anyhow::Result<Api> {
    let template = RouteTemplate::parse(PATH).ok().context("a template")?;
    Ok(Api {
        id: ApiId::new("api"),
        upstreams: vec![Upstream {
            tls: false,
            host: "127.0.0.1".into(),
            port: 9,
        }],
        path_prefix: "/".into(),
        host: None,
        key_prefix: "tg".into(),
        anonymous_plan: None,
        charge: StatusSet::default_charge(),
        on_journal_full: JournalFull::Refuse,
        on_counters_lost: CountersLost::LeaseOnly,
        on_stale_catalog: StaleCatalog::Serve,
        mode: Mode::Enforce,
        encoded_slash: EncodedSlash::Refuse,
        unlisted: Unlisted::Pass,
        preserve_host: false,
        body_bytes_max: None,
        connect_timeout_us: 5_000_000,
        response_timeout_us: 30_000_000,
        routes: vec![Route {
            template,
            methods: vec!["GET".into()],
            cost: 1,
            cost_max: None,
            scope: None,
            limits: Vec::new(),
            open: false,
            labels: BTreeMap::new(),
        }],
    })
}
