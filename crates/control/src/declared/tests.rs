//! What is written reads back as the same object, whatever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use tollgate_model::*;
use tollgate_store::StoredCatalog;

use super::*;
use crate::entry::{Entry, read_stored};

fn id() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9-]{0,10}"
}

fn rate_limit() -> impl Strategy<Value = RateLimit> {
    let by = option::of(proptest::sample::select(By::ALL.to_vec()));
    let per = proptest::sample::select(Per::ALL.to_vec());
    (0..=RateLimit::MAX_LARGEST, per, by, any::<bool>()).prop_map(|(max, per, by, shadow)| {
        RateLimit {
            id: None,
            max,
            per,
            by,
            shadow,
        }
    })
}

fn limits() -> impl Strategy<Value = Vec<LimitUse>> {
    let named = id().prop_map(|id| LimitUse::Named(LimitId::new(&id)));
    let used = prop_oneof![named, rate_limit().prop_map(LimitUse::Inline)];
    vec(used, 0..4).prop_map(|mut limits| {
        let mut seen: Vec<LimitUse> = Vec::new();
        limits.retain(|limit| {
            let new = !seen.contains(limit);
            seen.push(limit.clone());
            new
        });
        limits
    })
}

fn every() -> impl Strategy<Value = Every> {
    proptest::sample::select(Every::ALL.to_vec())
}

fn quota() -> impl Strategy<Value = Quota> {
    let policy = prop_oneof![
        Just(OnExceeded::Block),
        Just(OnExceeded::Warn),
        Just(OnExceeded::Overage),
        (1u32..=1_000).prop_map(|percent| OnExceeded::Grace { percent }),
    ];
    (0..=Quota::UNITS_LARGEST, every(), policy).prop_map(|(units, every, on_exceeded)| Quota {
        units,
        every,
        on_exceeded,
    })
}

fn amount() -> impl Strategy<Value = rust_decimal::Decimal> {
    (0..i64::MAX, 0u32..=12).prop_map(|(number, places)| rust_decimal::Decimal::new(number, places))
}

fn plan() -> impl Strategy<Value = Object> {
    let price = (amount(), every()).prop_map(|(amount, every)| PlanPrice {
        amount,
        currency: Currency::parse("USD").unwrap(),
        every,
    });
    let priced = (price, option::of((amount(), 1u64..1_000_000)));
    let scopes = option::of(btree_set("[a-z]{1,8}:[a-z]{1,8}", 0..4));
    (
        id(),
        "[ -~]{0,20}x",
        1u32..9,
        option::of(priced),
        option::of(quota()),
        any::<bool>(),
        limits(),
        scopes,
        option::of(0u32..1_000),
    )
        .prop_map(
            |(id, name, version, priced, quota, anniversary, limits, scopes, keys_max)| {
                let (price, overage) = match priced {
                    Some((price, overage)) => (Some(price), overage),
                    None => (None, None),
                };
                Object::Plan(Arc::new(Plan {
                    id: PlanId::new(&id),
                    name,
                    version,
                    price,
                    quota,
                    overage: overage.map(|(price, per)| OveragePrice { price, per }),
                    period: if anniversary {
                        PeriodBasis::Anniversary
                    } else {
                        PeriodBasis::Calendar
                    },
                    limits,
                    scopes: scopes.map(|scopes| scopes.into_iter().collect()),
                    keys_max,
                }))
            },
        )
}

type RouteParts = (
    u32,
    (
        String,
        BTreeSet<String>,
        (u32, Option<u32>),
        Vec<LimitUse>,
        bool,
        BTreeMap<String, String>,
    ),
);

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let methods = btree_set("GET|POST|PUT|M[A-Z]{2,5}", 0..3);
    let labels = btree_map("[a-zA-Z0-9_.-]{1,8}", "[!-~]{1,10}", 0..3);
    let cost = (0u32..50, option::of(50u32..100));
    let route = (
        "[a-z]{1,6}(/\\{[a-z]{1,3}\\})?(/\\{rest\\.\\.\\.\\})?",
        methods,
        cost,
        limits(),
        any::<bool>(),
        labels,
    );
    btree_map(0u32..100, route, 0..4).prop_map(|routes| {
        let route =
            |(n, (path, methods, (cost, cost_max), limits, open, labels)): RouteParts| Route {
                template: RouteTemplate::parse(&format!("/p/{n}/{path}")).unwrap(),
                methods: methods.into_iter().collect(),
                cost,
                cost_max,
                scope: (!open).then(|| "a:b".to_owned()),
                limits,
                open,
                labels,
            };
        routes.into_iter().map(route).collect()
    })
}

/// An API with its address and routes; policies are put in by [`api`].
fn plain_api() -> impl Strategy<Value = Api> {
    let upstream = (any::<bool>(), "[a-z]{1,5}(\\.[a-z]{1,5})?|::1", 1u16..);
    let upstreams = btree_set(upstream, 1..4);
    let charge = (0u8..32, btree_set(100u16..=599, 0..4));
    let parts = (
        id(),
        upstreams,
        option::of("[a-z]{1,8}\\.com"),
        option::of(id()),
        charge,
        routes(),
    );
    parts.prop_map(
        |(id, upstreams, host, anonymous, (classes, single), routes)| Api {
            id: ApiId::new(&id),
            upstreams: upstreams
                .into_iter()
                .map(|(tls, host, port)| Upstream { tls, host, port })
                .collect(),
            path_prefix: "/p".to_owned(),
            host,
            key_prefix: "hm".to_owned(),
            anonymous_plan: anonymous.as_deref().map(PlanId::new),
            charge: StatusSet {
                classes: classes << 1,
                single: single.into_iter().collect(),
            },
            on_journal_full: JournalFull::default(),
            on_counters_lost: CountersLost::default(),
            on_stale_catalog: StaleCatalog::Serve,
            mode: Mode::default(),
            encoded_slash: EncodedSlash::default(),
            unlisted: Unlisted::default(),
            preserve_host: false,
            body_bytes_max: None,
            connect_timeout_us: 0,
            response_timeout_us: 0,
            routes,
        },
    )
}

fn api() -> impl Strategy<Value = Object> {
    let lost = prop_oneof![
        Just(CountersLost::Closed),
        Just(CountersLost::LeaseOnly),
        (0u64..1 << 53).prop_map(CountersLost::Open),
    ];
    let time_us = || 1_000u64..86_400_000_000;
    let times = (time_us(), time_us(), option::of(time_us()));
    let body = option::of(0u64..1 << 53);
    (plain_api(), lost, times, any::<[bool; 5]>(), body).prop_map(
        |(api, on_counters_lost, (connect, response, stale), [a, b, c, d, e], body)| {
            Object::Api(Arc::new(Api {
                on_journal_full: [JournalFull::Refuse, JournalFull::DeclareLoss][usize::from(a)],
                on_counters_lost,
                on_stale_catalog: stale.map_or(StaleCatalog::Serve, |stale_after_us| {
                    StaleCatalog::Refuse { stale_after_us }
                }),
                mode: [Mode::Enforce, Mode::Observe][usize::from(b)],
                encoded_slash: [EncodedSlash::Refuse, EncodedSlash::Pass][usize::from(c)],
                unlisted: [Unlisted::Pass, Unlisted::Refuse][usize::from(d)],
                preserve_host: e,
                body_bytes_max: body,
                connect_timeout_us: connect,
                response_timeout_us: response,
                ..api
            }))
        },
    )
}

fn customers() -> impl Strategy<Value = Object> {
    let organization = (id(), "[ -~]{0,20}x").prop_map(|(id, name)| {
        Object::Organization(Arc::new(Organization {
            id: OrganizationId::new(&id),
            name,
        }))
    });
    let zones = proptest::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
    ]);
    let state = proptest::sample::select(SubscriptionState::ALL.to_vec());
    let day = (1970i16..2100, 1i8..=12, 1i8..=28);
    let subscription = (
        id(),
        id(),
        btree_set(id(), 1..4),
        zones,
        state,
        day,
        0i64..4_000_000_000_000_000,
    );
    let subscription = subscription.prop_map(|(id, other, apis, zone, state, day, at)| {
        Object::Subscription(Arc::new(Subscription {
            id: SubscriptionId::new(&id),
            organization: OrganizationId::new(&other),
            apis: apis.iter().map(|api| ApiId::new(api)).collect(),
            plan: PlanId::new(&other),
            time_zone: TimeZone::get(zone).unwrap(),
            started_on: Date::new(day.0, day.1, day.2).unwrap(),
            state,
            created_at: Timestamp(at),
        }))
    });
    let limit = (id(), rate_limit()).prop_map(|(id, limit)| {
        Object::Limit(Arc::new(RateLimit {
            id: Some(LimitId::new(&id)),
            ..limit
        }))
    });
    prop_oneof![organization, subscription, limit]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_reads_back_as_the_same_object(
        object in prop_oneof![plan(), api(), customers()]
    ) {
        let entry = Entry {
            object,
            managed: Managed::File,
            created_at: Timestamp(1),
            updated_at: Timestamp(2),
        };
        let stored = StoredCatalog { version: 1, objects: vec![entry.to_stored()] };
        let read = read_stored(&stored).map_err(|problems| {
            TestCaseError::fail(format!("{problems:?}"))
        })?;
        let read = read.get(&entry.object.key()).map(|read| read.as_ref().clone());
        prop_assert_eq!(read, Some(entry));
    }
}
