//! Catalog objects for the tests of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_model::{
    Api, ApiId, ApiKey, Catalog, CountersLost, EncodedSlash, JournalFull, KeyHash, KeyId, KeyState,
    Mode, OrganizationId, PeriodBasis, Plan, PlanId, Route, RouteTemplate, StaleCatalog, StatusSet,
    Subscription, SubscriptionId, SubscriptionState, Timestamp, Unlisted, Upstream,
};

use crate::payers::{Payer, scope_of_subscription};

pub(crate) fn api(id: &str, prefix: &str, routes: Vec<Route>) -> Api {
    Api {
        id: ApiId::new(id),
        upstreams: vec![Upstream {
            tls: false,
            host: "127.0.0.1".into(),
            port: 9,
        }],
        path_prefix: prefix.into(),
        host: None,
        key_prefix: "hm".into(),
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
        routes,
    }
}

pub(crate) fn route(template: &str, methods: &[&str]) -> Route {
    Route {
        template: RouteTemplate::parse(template).unwrap(),
        methods: methods.iter().map(|m| (*m).to_owned()).collect(),
        cost: 1,
        cost_max: None,
        scope: None,
        limits: Vec::new(),
        open: false,
        labels: BTreeMap::new(),
    }
}

pub(crate) fn catalog_of(apis: Vec<Api>) -> Catalog {
    Catalog {
        version: 1,
        apis: apis
            .into_iter()
            .map(|a| (a.id.clone(), Arc::new(a)))
            .collect(),
        ..Catalog::default()
    }
}

pub(crate) fn key(id: &str, byte: u8) -> ApiKey {
    ApiKey {
        id: KeyId::new(id),
        family: KeyId::new(id),
        subscription: SubscriptionId::new("sub"),
        name: id.into(),
        hash: KeyHash([byte; 32]),
        prefix: "hm".into(),
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

pub(crate) fn plan(id: &str) -> Plan {
    Plan {
        id: PlanId::new(id),
        name: id.into(),
        version: 1,
        price: None,
        quota: None,
        overage: None,
        period: PeriodBasis::Calendar,
        limits: Vec::new(),
        scopes: None,
        keys_max: None,
    }
}

pub(crate) fn subscription(id: &str, plan: &str, apis: &[&str]) -> Subscription {
    Subscription {
        id: SubscriptionId::new(id),
        organization: OrganizationId::new("org"),
        apis: apis.iter().map(|a| ApiId::new(a)).collect(),
        plan: PlanId::new(plan),
        time_zone: jiff::tz::TimeZone::UTC,
        started_on: jiff::civil::date(2026, 1, 1),
        state: SubscriptionState::Active,
        created_at: Timestamp(0),
    }
}

pub(crate) fn payer(subscription: Subscription, plan: Plan) -> Arc<Payer> {
    Arc::new(Payer {
        scope: scope_of_subscription(&subscription.id),
        apis: subscription.apis.as_slice().into(),
        state: subscription.state,
        subscription: Arc::new(subscription),
        plan: Arc::new(plan),
        calendar: 0,
    })
}
