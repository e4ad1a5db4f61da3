//! Which limits apply, by table.

use super::*;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use tollgate_model::{
    ApiId, CountersLost, EncodedSlash, Every, JournalFull, KeyHash, KeyId, KeyState, LimitId,
    LimitUse, Mode, OnExceeded, OrganizationId, PeriodBasis, PlanId, RateLimit, RouteTemplate,
    StaleCatalog, StatusSet, SubscriptionId, SubscriptionState, Unlisted,
};

fn now(text: &str) -> Now {
    let wall = Timestamp::parse(text).unwrap();
    Now {
        wall,
        ticks: Ticks(wall.0 as u64),
    }
}

fn limit(max: u32, per: Per, by: Option<By>) -> LimitUse {
    LimitUse::Inline(RateLimit {
        id: None,
        max,
        per,
        by,
        shadow: false,
    })
}

fn quota(units: u64, every: Every) -> Quota {
    Quota {
        units,
        every,
        on_exceeded: OnExceeded::Block,
    }
}

fn plan(limits: Vec<LimitUse>, quota: Option<Quota>) -> Plan {
    Plan {
        id: PlanId::new("free"),
        name: "Free".into(),
        version: 1,
        price: None,
        quota,
        overage: None,
        period: PeriodBasis::Calendar,
        limits,
        scopes: None,
        keys_max: None,
    }
}

fn subscription(id: &str, zone: &str) -> Subscription {
    Subscription {
        id: SubscriptionId::new(id),
        organization: OrganizationId::new("acme"),
        apis: vec![ApiId::new("widgets")],
        plan: PlanId::new("free"),
        time_zone: TimeZone::get(zone).unwrap(),
        started_on: Date::constant(2026, 1, 31),
        state: SubscriptionState::Active,
        created_at: Timestamp(0),
    }
}

fn key(id: &str, limits: Vec<RateLimit>, quota: Option<Quota>) -> ApiKey {
    ApiKey {
        id: KeyId::new(id),
        family: KeyId::new("key_family"),
        subscription: SubscriptionId::new("acme-widgets"),
        name: "n".into(),
        hash: KeyHash([0; 32]),
        prefix: "hm".into(),
        last4: "abcd".into(),
        state: KeyState::Active,
        test: false,
        scopes: None,
        allowed_addresses: Vec::new(),
        limits,
        quota,
        external_id: None,
        metadata: "{}".into(),
        created_at: Timestamp(0),
        expires_at: None,
        revoked_at: None,
    }
}

fn api(id: &str) -> Api {
    Api {
        id: ApiId::new(id),
        upstreams: Vec::new(),
        path_prefix: "/v1".into(),
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
        connect_timeout_us: 0,
        response_timeout_us: 0,
        routes: Vec::new(),
    }
}

fn route(path: &str, limits: Vec<LimitUse>) -> Route {
    Route {
        template: RouteTemplate::parse(path).unwrap(),
        methods: Vec::new(),
        cost: 1,
        cost_max: None,
        scope: None,
        limits,
        open: false,
        labels: BTreeMap::new(),
    }
}

const NOON: &str = "2026-11-23T12:00:00Z";

fn compiled(caller: Caller<'_>, route: Option<&Route>) -> CompiledLimits {
    CompiledLimits::new(
        &Catalog::default(),
        caller,
        &api("widgets"),
        route,
        now(NOON),
    )
}

fn names(limits: &[Applicable]) -> Vec<&'static str> {
    limits.iter().map(|limit| limit.name.as_str()).collect()
}

fn address(text: &str) -> Address {
    Address::apart(text.parse().unwrap())
}

#[test]
fn plan_key_and_route_limits_and_both_quotas_apply_together() {
    let strict = RateLimit {
        id: Some(LimitId::new("strict")),
        max: 10,
        per: Per::Minute,
        by: None,
        shadow: false,
    };
    let mut catalog = Catalog::default();
    catalog
        .limits
        .insert(LimitId::new("strict"), Arc::new(strict.clone()));
    let plan = plan(
        vec![
            limit(500, Per::Hour, None),
            limit(30, Per::Minute, None),
            limit(3, Per::Second, Some(By::Key)),
        ],
        Some(quota(1_000, Every::Month)),
    );
    let key = key("key_1", vec![strict], Some(quota(50, Every::Day)));
    let subscription = subscription("acme-widgets", "UTC");
    let route = route("/v1/w/{id}", vec![LimitUse::Named(LimitId::new("strict"))]);
    let compiled = CompiledLimits::new(
        &catalog,
        Caller::Subscribed {
            key: Some((&key).into()),
            subscription: &subscription,
            plan: &plan,
        },
        &api("widgets"),
        Some(&route),
        now(NOON),
    );
    assert_eq!(
        names(&compiled.at(now(NOON), None)),
        [
            "second-key",
            "minute-subscription",
            "minute-key",
            "minute-subscription-route",
            "hour-subscription",
            "month-subscription",
            "day-key",
        ]
    );
    assert_eq!(
        compiled.policy().unwrap(),
        "\"second-key\";q=3;w=1, \"minute-subscription\";q=30;w=60, \"minute-key\";q=10;w=60, \
         \"minute-subscription-route\";q=10;w=60, \"hour-subscription\";q=500;w=3600, \
         \"month-subscription\";q=1000, \"day-key\";q=50"
    );
    assert!(!compiled.needs_address());
}

#[test]
fn on_one_counter_the_lowest_maximum_holds_and_shadows_stay_shadows() {
    let shadow = LimitUse::Inline(RateLimit {
        id: None,
        max: 4,
        per: Per::Minute,
        by: Some(By::Subscription),
        shadow: true,
    });
    let plan = plan(
        vec![
            limit(30, Per::Minute, None),
            limit(9, Per::Minute, Some(By::Subscription)),
            shadow,
        ],
        None,
    );
    let subscription = subscription("acme-widgets", "UTC");
    let caller = Caller::Subscribed {
        key: None,
        subscription: &subscription,
        plan: &plan,
    };
    let limits = compiled(caller, None).at(now(NOON), None);
    assert_eq!(
        limits[0].rule,
        Rule::Window {
            per: Per::Minute,
            max: Some(9),
            shadow_max: Some(4)
        }
    );
    // And the unlimited month, which no header names.
    assert_eq!(
        names(&limits),
        ["minute-subscription", "month-subscription"]
    );
    assert_eq!(limits[1].allowance(), None);
}

#[test]
fn keys_of_one_subscription_share_its_counters_and_rotation_stays_in_the_family() {
    let plan = plan(
        vec![
            limit(30, Per::Minute, None),
            limit(30, Per::Minute, Some(By::Key)),
        ],
        Some(quota(5, Every::Month)),
    );
    let subscription = subscription("acme-widgets", "UTC");
    let old = key("key_old", Vec::new(), None);
    let mut new = key("key_new", Vec::new(), None);
    let counters = |key: &ApiKey| -> Vec<CounterId> {
        let caller = Caller::Subscribed {
            key: Some(key.into()),
            subscription: &subscription,
            plan: &plan,
        };
        let limits = compiled(caller, None).at(now(NOON), None);
        limits.iter().map(|limit| limit.counter).collect()
    };
    assert_eq!(counters(&old), counters(&new));
    new.family = KeyId::new("key_other");
    assert_eq!(counters(&old)[0], counters(&new)[0]);
    assert_ne!(counters(&old)[1], counters(&new)[1]);
    assert_eq!(counters(&old)[2], counters(&new)[2]);
}

#[test]
fn counters_go_by_what_by_says() {
    let in_place = |by: By, subscription_id: &str, api_id: &str, path: &str, on_route: bool| {
        let on = |wanted: bool| {
            if on_route == wanted {
                vec![limit(30, Per::Minute, Some(by))]
            } else {
                Vec::new()
            }
        };
        let plan = plan(on(false), None);
        let route = route(path, on(true));
        let subscription = subscription(subscription_id, "UTC");
        let caller = Caller::Subscribed {
            key: None,
            subscription: &subscription,
            plan: &plan,
        };
        let compiled = CompiledLimits::new(
            &Catalog::default(),
            caller,
            &api(api_id),
            Some(&route),
            now(NOON),
        );
        compiled.at(now(NOON), None)[0].counter
    };
    // (by, on a route) and whether another subscription, API or route shares the counter.
    let table = [
        (By::Subscription, false, [false, true, true]),
        (By::Organization, false, [true, true, true]),
        (By::Api, false, [true, false, true]),
        (By::Route, false, [true, false, false]),
        (By::Subscription, true, [false, false, false]),
        (By::Organization, true, [true, false, false]),
        (By::Api, true, [true, false, false]),
        (By::Route, true, [true, false, false]),
    ];
    for (by, on_route, shared) in table {
        let base = in_place(by, "one", "widgets", "/v1/a", on_route);
        let others = [
            in_place(by, "two", "widgets", "/v1/a", on_route),
            in_place(by, "one", "gadgets", "/v1/a", on_route),
            in_place(by, "one", "widgets", "/v1/b", on_route),
        ];
        assert_eq!(
            others.map(|other| other == base),
            shared,
            "{by:?} {on_route}"
        );
    }
}

#[test]
fn callers_without_a_key_are_counted_by_address_and_each_has_the_whole_plan() {
    let plan = plan(
        vec![
            limit(5, Per::Minute, None),
            limit(9, Per::Minute, Some(By::Organization)),
            limit(50, Per::Hour, Some(By::Api)),
        ],
        Some(quota(100, Every::Day)),
    );
    let route = route(
        "/v1/a",
        vec![
            limit(7, Per::Minute, None),
            limit(8, Per::Minute, Some(By::Route)),
        ],
    );
    let compiled = compiled(Caller::Anonymous { plan: &plan }, Some(&route));
    assert!(compiled.needs_address());
    let one = compiled.at(now(NOON), Some(&address("192.0.2.1")));
    assert_eq!(
        names(&one),
        [
            "minute-address",
            "minute-address-route",
            "minute-route-route",
            "hour-address",
            "day-address"
        ]
    );
    assert_eq!(one[0].allowance(), Some(5));
    let two = compiled.at(now(NOON), Some(&address("192.0.2.2")));
    let shared: Vec<bool> = one
        .iter()
        .zip(&two)
        .map(|(a, b)| a.counter == b.counter)
        .collect();
    assert_eq!(shared, [false, false, true, false, false]);
    let hold = compiled.address_hold(now(NOON));
    assert_eq!(hold.until_ticks, now(NOON).ticks.plus_us(3_720_000_000));
    assert_eq!(hold.until_wall, now("2026-11-24T00:00:00Z").wall);
    assert_eq!(names(&compiled.at(now(NOON), None)), ["minute-route-route"]);
}

#[test]
fn a_plan_with_a_quota_alone_needs_the_address_of_callers_without_a_key() {
    let plan = plan(Vec::new(), Some(quota(100, Every::Day)));
    let compiled = compiled(Caller::Anonymous { plan: &plan }, None);
    assert!(compiled.needs_address());
    let limits = compiled.at(now(NOON), Some(&address("192.0.2.1")));
    assert_eq!(names(&limits), ["day-address"]);
}

#[test]
fn on_open_routes_only_the_routes_own_limits_hold_and_by_address() {
    let route = route("/v1/open", vec![limit(7, Per::Minute, Some(By::Api))]);
    let compiled = compiled(Caller::Open, Some(&route));
    let limits = compiled.at(now(NOON), Some(&address("2001:db8::1")));
    assert_eq!(names(&limits), ["minute-address-route"]);
    assert!(compiled.needs_address());
    assert_eq!(names(&compiled.at(now(NOON), None)), [""; 0]);
    assert_eq!(compiled.period(By::Subscription, now(NOON)), None);
}

#[test]
fn a_new_period_is_a_new_counter_and_a_clock_set_back_reopens_none() {
    let plan = plan(Vec::new(), Some(quota(5, Every::Month)));
    let berlin = subscription("acme-widgets", "Europe/Berlin");
    let caller = Caller::Subscribed {
        key: None,
        subscription: &berlin,
        plan: &plan,
    };
    let compiled = compiled(caller, None);
    let at = |text: &str| compiled.at(now(text), None)[0];
    let november = at(NOON);
    let december = at("2026-11-30T23:00:00Z");
    assert_eq!(november.counter, at("2026-11-30T22:59:59.999999Z").counter);
    assert_ne!(november.counter, december.counter);
    assert!(compiled.is_current(now("2026-11-30T22:59:59Z")));
    assert!(!compiled.is_current(now("2026-11-30T23:00:00Z")));
    assert_eq!(november.counter, at("2026-10-01T00:00:00Z").counter);
    assert_eq!(
        compiled
            .period(By::Subscription, now(NOON))
            .unwrap()
            .start
            .to_whole_seconds(),
        "2026-10-31T23:00:00Z"
    );
    let fresh = CompiledLimits::new(
        &Catalog::default(),
        caller,
        &api("widgets"),
        None,
        now("2026-12-05T00:00:00Z"),
    );
    assert_eq!(
        fresh.at(now("2026-12-05T00:00:00Z"), None)[0].counter,
        december.counter
    );
}
