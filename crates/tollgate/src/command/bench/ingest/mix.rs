//! Traffic as a busy installation has it: a few APIs, keys and customers of which some call far
//! more than others, routes, countries, statuses, refusals, labels. The same numbers every time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tollgate_model::{
    ApiId, DenialCode, EventId, IdGen, KeyId, Label, OrganizationId, Outcome, PlanId, RequestId,
    SubscriptionId, Timestamp, UsageEvent,
};

/// APIs that subscriptions are spread over.
const APIS: usize = 3;
/// Routes of each API.
const ROUTES: usize = 8;
const COUNTRIES: [&[u8; 2]; 12] = [
    b"DE", b"US", b"FR", b"GB", b"NL", b"PL", b"ES", b"IT", b"IN", b"BR", b"JP", b"AU",
];
const USER_AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "python-requests/2.32.3",
    "okhttp/4.12.0",
    "curl/8.9.1",
];
const MONTH_US: i64 = 30 * 86_400_000_000;

/// How many keys and subscriptions call.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub keys: u32,
    pub subscriptions: u32,
}

/// What is measured unless one mix is asked for.
pub const MIXES: [Mix; 3] = [
    Mix {
        keys: 20,
        subscriptions: 10,
    },
    Mix {
        keys: 500,
        subscriptions: 10,
    },
    Mix {
        keys: 5_000,
        subscriptions: 1_000,
    },
];

/// Makes events, one after the other.
pub struct Traffic {
    callers: Vec<UsageEvent>,
    routes: Vec<[Arc<str>; 2]>,
    agents: Vec<Arc<str>>,
    labels: Vec<Label>,
    state: u64,
}

impl Traffic {
    pub fn new(mix: Mix) -> Self {
        let callers = (0..mix.keys).map(|key| caller(key, key % mix.subscriptions));
        let parts = ["widgets", "orders", "search", "events"];
        let routes = (0..ROUTES).zip(parts.iter().cycle()).map(|(n, part)| {
            let tail = if n < parts.len() { "" } else { "/{id}" };
            let path = if n < parts.len() { "" } else { "/018f3c2e91" };
            [format!("/v1/{part}{tail}"), format!("/v1/{part}{path}")].map(Arc::from)
        });
        let label = |n: u32| Label {
            name: Arc::from("source"),
            value: Arc::from(format!("campaign-{n}")),
        };
        Self {
            callers: callers.collect(),
            routes: routes.collect(),
            agents: USER_AGENTS.map(Arc::from).to_vec(),
            labels: (0..20).map(label).collect(),
            state: 7,
        }
    }

    /// The next event, admitted at `at`.
    pub fn next(&mut self, at: Timestamp, ids: &dyn IdGen) -> UsageEvent {
        let place = skewed(draw(&mut self.state));
        let mut event = pick(&self.callers, place).map_or_else(|| caller(0, 0), Clone::clone);
        let chance = draw(&mut self.state);
        event.id = EventId::Request(RequestId::from_uuid(ids.uuid(at)));
        event.at = at;
        event.subscription_period = Some(at.floor_to(MONTH_US));
        if let Some([route, path]) = pick(&self.routes, skewed(draw(&mut self.state))) {
            (event.route, event.path) = (route.clone(), path.clone());
        }
        event.user_agent = pick(&self.agents, draw(&mut self.state)).cloned();
        // Most of a customer's calls come from one country.
        if chance.is_multiple_of(8) {
            event.country = pick(&COUNTRIES, draw(&mut self.state)).map(|code| **code);
        }
        if chance.is_multiple_of(10) {
            event.labels = pick(&self.labels, draw(&mut self.state))
                .cloned()
                .into_iter()
                .collect();
        }
        // 1.5 ms to 1.5 s, most of them short.
        let latency = draw(&mut self.state);
        event.latency_us = 1_500 + (latency % 40_000) + (1_500_000 >> (latency >> 40 & 15));
        event.upstream_latency_us = Some(event.latency_us - 200);
        event.bytes_out = latency >> 20 & 0xffff;
        decide(&mut event, chance >> 8 & 0xff);
        event
    }
}

/// How the call ended: nine of ten well.
fn decide(event: &mut UsageEvent, die: u64) {
    (event.status, event.outcome) = match die {
        0..8 => (429, Outcome::Denied),
        8..10 => (401, Outcome::Denied),
        10..18 => (404, Outcome::Forwarded),
        18..20 => (500, Outcome::Forwarded),
        20 => (502, Outcome::UpstreamError),
        21 => (499, Outcome::ClientClosed),
        22..40 => (201, Outcome::Forwarded),
        _ => (200, Outcome::Forwarded),
    };
    if event.outcome == Outcome::Denied {
        event.units = 0;
        event.upstream_latency_us = None;
        event.code = Some(DenialCode::RateLimited);
        event.limit = Some(Arc::from("minute-subscription"));
    }
}

/// A call of one key, to be completed.
fn caller(key: u32, subscription: u32) -> UsageEvent {
    let id = KeyId::made(u128::from(key) << 40 | 0x018f_3c2e_91d2_7000_8000_0000_0000_0000);
    let api = subscription as usize % APIS;
    let country = COUNTRIES.get(key as usize % COUNTRIES.len());
    UsageEvent {
        id: EventId::Outside(Arc::from("")),
        at: Timestamp::default(),
        key_family: Some(id.clone()),
        key: Some(id),
        subscription: Some(SubscriptionId::new(&format!(
            "customer-{subscription}-widgets"
        ))),
        organization: Some(OrganizationId::new(&format!(
            "customer-{}",
            subscription / 2
        ))),
        api: ApiId::new(&format!("api-{api}")),
        route: Arc::from("/"),
        method: Arc::from("GET"),
        path: Arc::from("/"),
        status: 200,
        outcome: Outcome::Forwarded,
        code: None,
        limit: None,
        latency_us: 0,
        upstream_latency_us: None,
        bytes_in: 0,
        bytes_out: 0,
        address: Some(IpAddr::V4(Ipv4Addr::from_bits(0xC633_6400 | key))),
        country: country.map(|code| **code),
        user_agent: None,
        units: 1,
        meter: Arc::from("requests"),
        labels: Vec::new(),
        plan: Some(PlanId::new(if subscription.is_multiple_of(4) {
            "pro"
        } else {
            "free"
        })),
        plan_version: Some(1),
        would_deny: None,
        overridden: false,
        test: false,
        producer: Arc::from(""),
        trace_id: key
            .is_multiple_of(2)
            .then(|| Arc::from("4bf92f3577b34da6a3ce929d0e0e4736")),
        client_request_id: None,
        count: 1,
        catalog_version: 7,
        subscription_period: None,
        key_period: None,
    }
}

/// SplitMix64: a sequence that is the same every time.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The square of a share: half of all draws fall on the first quarter, a tenth on the first
/// hundredth.
fn skewed(drawn: u64) -> u64 {
    let share = drawn >> 32;
    share * share
}

/// The item at a share of the list, the share being `drawn` of 2^64.
fn pick<T>(items: &[T], drawn: u64) -> Option<&T> {
    let place = (u128::from(drawn) * items.len() as u128) >> 64;
    items.get(usize::try_from(place).ok()?)
}
