//! Who may call what, for how much: the catalog, how it changes, and, worked out again from the
//! rules' text alone, which counters a request is bound by.
//!
//! **Invariant.** [`Market::bounds`] shares no code with `admission`: it is the naive reading of
//! docs/rules.md, 2 to 4.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::date;
use jiff::tz::TimeZone;
use tollgate_model::{
    Api, ApiId, ApiKey, By, Catalog, CountersLost, EncodedSlash, Every, JournalFull, KeyChange,
    KeyDelta, KeyId, KeyState, LimitUse, Mode, OnExceeded, Organization, OrganizationId, Pepper,
    Per, PeriodBasis, Plan, PlanId, Quota, RateLimit, Route, RouteTemplate, StaleCatalog,
    StatusSet, Subscription, SubscriptionId, SubscriptionState, Timestamp, Unlisted, Upstream,
    period_at,
};

use crate::dice::Dice;

/// Subscriptions; the last one calls the API that rather loses records than refuses.
pub(crate) const SUBSCRIPTIONS: usize = 4;
/// Keys of each subscription.
const KEYS_EACH: usize = 2;
/// Routes of each API, and what they cost: (path, cost, cost_max).
const ROUTES: [(&str, u32, Option<u32>); 4] = [
    ("cheap", 1, None),
    ("dear", 3, None),
    ("stated", 2, Some(7)),
    ("tight", 1, None),
];
pub(crate) const ROUTES_EACH: usize = ROUTES.len();
const ZONES: [&str; 4] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
];

/// A key and its secret.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) key: ApiKey,
    pub(crate) secret: String,
    pub(crate) subscription: usize,
}

/// All there is to decide by.
#[derive(Debug)]
pub(crate) struct Market {
    version: u64,
    plans: Vec<Plan>,
    route_limits: Vec<RateLimit>,
    subscriptions: Vec<Subscription>,
    pub(crate) holders: Vec<Holder>,
}

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum What {
    /// A sliding window.
    Window(Per),
    /// A quota's period, by its start.
    Quota(i64),
}

/// A counter's name: no plan, no maximum, no catalog number is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) what: What,
    pub(crate) by: By,
    pub(crate) id: usize,
    /// The route that the limit stands on.
    pub(crate) on: Option<(usize, usize)>,
}

/// A limit of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) name: Name,
    /// Most units, if it refuses at all.
    pub(crate) ceiling: Option<u64>,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) holder: usize,
    pub(crate) route: usize,
    pub(crate) address: usize,
}

/// The price of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Price {
    pub(crate) cost: u64,
    pub(crate) most: Option<u64>,
}

impl Price {
    pub(crate) fn reserved(self) -> u64 {
        self.most.map_or(self.cost, |most| most.max(self.cost))
    }
}

fn limit(max: u32, per: Per, by: Option<By>) -> RateLimit {
    RateLimit {
        id: None,
        max,
        per,
        by,
        shadow: false,
    }
}

fn plan(id: usize, limits: Vec<RateLimit>, quota: Option<Quota>, period: PeriodBasis) -> Plan {
    Plan {
        id: PlanId::new(&format!("plan-{id}")),
        name: format!("Plan {id}"),
        version: 1,
        price: None,
        quota,
        overage: None,
        period,
        limits: limits.into_iter().map(LimitUse::Inline).collect(),
        scopes: None,
        keys_max: None,
    }
}

fn plans() -> Vec<Plan> {
    let quota = |units, every, on_exceeded| {
        Some(Quota {
            units,
            every,
            on_exceeded,
        })
    };
    let first = vec![
        limit(15, Per::Second, None),
        limit(60, Per::Minute, None),
        limit(400, Per::Hour, Some(By::Organization)),
    ];
    let second = vec![
        limit(40, Per::Minute, Some(By::Key)),
        limit(30, Per::Minute, Some(By::Address)),
        limit(2_000, Per::Day, None),
    ];
    let third = vec![limit(120, Per::Minute, Some(By::Api))];
    let calendar = PeriodBasis::Calendar;
    vec![
        plan(
            0,
            first,
            quota(900, Every::Day, OnExceeded::Block),
            calendar,
        ),
        plan(
            1,
            second,
            quota(3_000, Every::Week, OnExceeded::Grace { percent: 10 }),
            PeriodBasis::Anniversary,
        ),
        plan(
            2,
            third,
            quota(4_000, Every::Month, OnExceeded::Overage),
            PeriodBasis::Anniversary,
        ),
    ]
}

impl Market {
    pub(crate) fn new(pepper: &Pepper) -> Self {
        let subscription = |n: usize| Subscription {
            id: SubscriptionId::new(&format!("sub-{n}")),
            organization: OrganizationId::new(&format!("org-{}", n / 2)),
            apis: vec![ApiId::new(api_name(api_of(n)))],
            plan: PlanId::new(&format!("plan-{}", n % 3)),
            time_zone: ZONES
                .get(n)
                .and_then(|zone| TimeZone::get(zone).ok())
                .unwrap_or(TimeZone::UTC),
            started_on: date(2026, 1, 31),
            state: SubscriptionState::Active,
            created_at: Timestamp(0),
        };
        let mut holders = Vec::new();
        for n in 0..SUBSCRIPTIONS * KEYS_EACH {
            let secret = format!("hm_key-of-the-simulation-{n}");
            let id = KeyId::new(&format!("key_{n}"));
            let own = n % KEYS_EACH == 1;
            let key = ApiKey {
                family: id.clone(),
                id,
                subscription: SubscriptionId::new(&format!("sub-{}", n / KEYS_EACH)),
                name: format!("key {n}"),
                hash: pepper.hash(secret.as_bytes()),
                prefix: "hm".into(),
                last4: "0000".into(),
                state: KeyState::Active,
                test: false,
                scopes: None,
                allowed_addresses: Vec::new(),
                limits: own
                    .then(|| limit(25, Per::Minute, None))
                    .into_iter()
                    .collect(),
                quota: own.then_some(Quota {
                    units: 500,
                    every: Every::Day,
                    on_exceeded: OnExceeded::Block,
                }),
                external_id: None,
                metadata: "{}".into(),
                created_at: Timestamp(0),
                expires_at: None,
                revoked_at: None,
            };
            holders.push(Holder {
                key,
                secret,
                subscription: n / KEYS_EACH,
            });
        }
        Self {
            version: 1,
            plans: plans(),
            route_limits: vec![
                limit(20, Per::Second, Some(By::Route)),
                limit(10, Per::Minute, None),
            ],
            subscriptions: (0..SUBSCRIPTIONS).map(subscription).collect(),
            holders,
        }
    }

    /// The catalog as it stands.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        let mut catalog = Catalog {
            version: self.version,
            ..Catalog::default()
        };
        for index in 0..2 {
            let api = self.api(index);
            catalog.apis.insert(api.id.clone(), Arc::new(api));
        }
        for plan in &self.plans {
            catalog
                .plans
                .insert(plan.id.clone(), Arc::new(plan.clone()));
        }
        for one in &self.subscriptions {
            let id = one.organization.clone();
            let organization = Organization {
                name: id.as_str().to_owned(),
                id: id.clone(),
            };
            catalog.organizations.insert(id, Arc::new(organization));
            let shared = Arc::new(one.clone());
            catalog.subscriptions.insert(one.id.clone(), shared);
        }
        Arc::new(catalog)
    }

    fn api(&self, index: usize) -> Api {
        let name = api_name(index);
        let route = |(n, (path, cost, cost_max)): (usize, &(&str, u32, Option<u32>))| {
            let limits = if n + 1 == ROUTES_EACH {
                self.route_limits.as_slice()
            } else {
                &[]
            };
            Some(Route {
                template: RouteTemplate::parse(&format!("/{name}/{path}")).ok()?,
                methods: Vec::new(),
                cost: *cost,
                cost_max: *cost_max,
                scope: None,
                limits: limits.iter().cloned().map(LimitUse::Inline).collect(),
                open: false,
                labels: BTreeMap::new(),
            })
        };
        Api {
            id: ApiId::new(name),
            upstreams: vec![Upstream {
                tls: false,
                host: "127.0.0.1".into(),
                port: 9,
            }],
            path_prefix: format!("/{name}"),
            host: None,
            key_prefix: "hm".into(),
            anonymous_plan: None,
            charge: StatusSet::default_charge(),
            on_journal_full: if index == 0 {
                JournalFull::Refuse
            } else {
                JournalFull::DeclareLoss
            },
            on_counters_lost: CountersLost::LeaseOnly,
            on_stale_catalog: StaleCatalog::Serve,
            mode: Mode::Enforce,
            encoded_slash: EncodedSlash::Refuse,
            unlisted: Unlisted::Pass,
            preserve_host: false,
            body_bytes_max: None,
            connect_timeout_us: 5_000_000,
            response_timeout_us: 30_000_000,
            routes: ROUTES.iter().enumerate().filter_map(route).collect(),
        }
    }

    /// Every key, as published to a gateway that knows none.
    pub(crate) fn all_keys(&self) -> KeyDelta {
        self.keys_of(self.holders.iter())
    }

    fn keys_of<'a>(&self, holders: impl Iterator<Item = &'a Holder>) -> KeyDelta {
        KeyDelta {
            version: self.version,
            changes: holders
                .map(|holder| KeyChange::Put(Arc::new(holder.key.clone())))
                .collect(),
        }
    }

    /// Raises, lowers, adds or removes a limit or quota.
    pub(crate) fn change_limits(&mut self, dice: &Dice) -> Arc<Catalog> {
        self.version += 1;
        let factor = dice.pick(&[1u32, 2, 3, 6], 1);
        let place = dice.index(self.plans.len());
        let base = plans();
        if let (Some(plan), Some(original)) = (self.plans.get_mut(place), base.get(place)) {
            plan.version += 1;
            plan.limits = original.limits.clone();
            let number = dice.index(plan.limits.len() + 1);
            if let Some(LimitUse::Inline(chosen)) = plan.limits.get_mut(number) {
                chosen.max = chosen.max * factor / 2;
                chosen.shadow = dice.once_in(8);
            }
            if dice.once_in(6) {
                plan.limits.pop();
            }
            plan.quota = original.quota.map(|quota| Quota {
                units: quota.units * u64::from(factor) / 2,
                ..quota
            });
        }
        if dice.once_in(4)
            && let Some(first) = self.route_limits.first_mut()
        {
            first.max = 10 * factor;
        }
        self.catalog()
    }

    /// Lifts everything that could refuse: for the last request of a run.
    pub(crate) fn lift_limits(&mut self) -> (Arc<Catalog>, KeyDelta) {
        self.version += 1;
        for plan in &mut self.plans {
            plan.limits.clear();
            plan.quota = None;
        }
        self.route_limits.clear();
        for holder in &mut self.holders {
            holder.key.state = KeyState::Active;
            holder.key.limits.clear();
            holder.key.quota = None;
        }
        (self.catalog(), self.all_keys())
    }

    /// Revokes a key, or makes it usable again as an operator's mistake is mended.
    pub(crate) fn flip_key(&mut self, holder: usize) -> KeyDelta {
        self.version += 1;
        if let Some(holder) = self.holders.get_mut(holder) {
            holder.key.state = match holder.key.state {
                KeyState::Revoked => KeyState::Active,
                _ => KeyState::Revoked,
            };
        }
        self.keys_of(self.holders.get(holder).into_iter())
    }

    pub(crate) fn is_revoked(&self, holder: usize) -> bool {
        let holder = self.holders.get(holder);
        holder.is_none_or(|holder| holder.key.state == KeyState::Revoked)
    }

    pub(crate) fn path(&self, call: Call) -> String {
        let (path, ..) = ROUTES.get(call.route).copied().unwrap_or(("", 0, None));
        format!("/{}/{path}", api_name(self.api_of_call(call)))
    }

    pub(crate) fn price(call: Call) -> Price {
        let (_, cost, most) = ROUTES.get(call.route).copied().unwrap_or(("", 1, None));
        Price {
            cost: u64::from(cost),
            most: most.map(u64::from),
        }
    }

    pub(crate) fn subscription_of(&self, holder: usize) -> usize {
        self.holders.get(holder).map_or(0, |h| h.subscription)
    }

    fn api_of_call(&self, call: Call) -> usize {
        api_of(self.subscription_of(call.holder))
    }

    /// Every window that bears on a call.
    pub(crate) fn windows(&self, call: Call) -> Vec<Bound> {
        let mut all = Vec::new();
        let subscription = self.subscription_of(call.holder);
        let api = self.api_of_call(call);
        let mut add = |limit: &RateLimit, unset: By, on: Option<(usize, usize)>| {
            let by = limit.by.unwrap_or(unset);
            let id = match by {
                By::Subscription => subscription,
                By::Key => call.holder,
                By::Organization => subscription / 2,
                By::Api => api,
                By::Route => api * ROUTES_EACH + call.route,
                By::Address => call.address,
            };
            all.push(Bound {
                name: Name {
                    what: What::Window(limit.per),
                    by,
                    id,
                    on,
                },
                ceiling: (!limit.shadow).then_some(u64::from(limit.max)),
            });
        };
        for used in self.plan_of(subscription).iter().flat_map(|p| &p.limits) {
            if let LimitUse::Inline(limit) = used {
                add(limit, By::Subscription, None);
            }
        }
        if let Some(holder) = self.holders.get(call.holder) {
            for limit in &holder.key.limits {
                add(limit, By::Key, None);
            }
        }
        if call.route + 1 == ROUTES_EACH {
            for limit in &self.route_limits {
                add(limit, By::Subscription, Some((api, call.route)));
            }
        }
        all
    }

    fn plan_of(&self, subscription: usize) -> Option<&Plan> {
        self.plans.get(subscription % 3)
    }

    /// The quotas that bear on a call: whose, how long, and where they refuse.
    pub(crate) fn quotas(&self, call: Call) -> Vec<(By, usize, Every, Option<u64>)> {
        let subscription = self.subscription_of(call.holder);
        let refuse_at = |quota: &Quota| match quota.on_exceeded {
            OnExceeded::Block => Some(quota.units),
            OnExceeded::Grace { percent } => Some(quota.units * (100 + u64::from(percent)) / 100),
            OnExceeded::Warn | OnExceeded::Overage => None,
        };
        let of_plan = self.plan_of(subscription).and_then(|plan| plan.quota);
        let every = of_plan.map_or(Every::Month, |quota| quota.every);
        let ceiling = of_plan.as_ref().and_then(refuse_at);
        let mut all = vec![(By::Subscription, subscription, every, ceiling)];
        let own = self.holders.get(call.holder).and_then(|h| h.key.quota);
        if let Some(quota) = own {
            all.push((By::Key, call.holder, quota.every, refuse_at(&quota)));
        }
        all
    }

    /// The start of a subscription's period at a moment.
    pub(crate) fn period(
        &self,
        subscription: usize,
        every: Every,
        at: Timestamp,
    ) -> Option<(i64, i64)> {
        let plan = self.plan_of(subscription)?;
        let one = self.subscriptions.get(subscription)?;
        let period = period_at(at, every, plan.period, one.started_on, &one.time_zone).ok()?;
        Some((period.start.0, period.end.0))
    }
}

fn api_of(subscription: usize) -> usize {
    usize::from(subscription + 1 == SUBSCRIPTIONS)
}

fn api_name(index: usize) -> &'static str {
    if index == 0 { "widgets" } else { "gadgets" }
}
