//! A gateway with a catalog, a customer, a key and an upstream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use tollgate_gateway::{Deps, Drained, Gateway, GatewayHandle, Options};
use tollgate_journal::{DiskFilesystem, Entry, SyncMode};
use tollgate_model::{
    Api, ApiId, ApiKey, Catalog, CatalogSink, Clock, CountersLost, EncodedSlash, Every, IdGen,
    JournalFull, KeyChange, KeyDelta, KeyId, KeyState, LimitUse, Mode, Now, OnExceeded,
    Organization, OrganizationId, Outcome, Pepper, Per, Period, PeriodBasis, Plan, PlanId, Quota,
    RateLimit, Route, RouteTemplate, Sequence, StaleCatalog, StatusSet, Subscription,
    SubscriptionId, SubscriptionState, Ticks, Timestamp, Unlisted, Upstream as Target, UsageEvent,
};

use crate::client::{Answer, Client};
use crate::upstream::Upstream;

pub const KEY: &str = "hm_test-of-the-gateway";

/// The system's clock, and what a test sets it forward by.
struct SystemClock {
    began: Instant,
    epoch_us: u64,
    forward_us: AtomicU64,
    /// What the wall clock, not the ticks, was set back by.
    back_us: AtomicU64,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the outermost layer of a test")]
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            began: Instant::now(),
            epoch_us: since.as_micros() as u64,
            forward_us: AtomicU64::new(0),
            back_us: AtomicU64::new(0),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let forward_us = self.forward_us.load(Ordering::SeqCst);
        let us = self.epoch_us + self.began.elapsed().as_micros() as u64 + forward_us;
        Now {
            wall: Timestamp((us - self.back_us.load(Ordering::SeqCst)) as i64),
            ticks: Ticks(us),
        }
    }
}

struct CountingIds(AtomicU64);

impl IdGen for CountingIds {
    fn uuid(&self, at: Timestamp) -> u128 {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        (at.0 as u128) << 64 | u128::from(n)
    }
    fn fill(&self, secret: &mut [u8]) {
        secret.fill(7);
    }
}

pub struct World {
    gateway: Option<Gateway>,
    pub handle: GatewayHandle,
    pub upstream: Upstream,
    pub address: SocketAddr,
    pub catalog: Catalog,
    pub key: ApiKey,
    pepper: Pepper,
    dir: tempfile::TempDir,
    options: Options,
    clock: Arc<SystemClock>,
    /// Gateways that count as killed, and their journals.
    killed: Vec<(Option<Gateway>, tempfile::TempDir)>,
}

pub fn api(upstream: SocketAddr) -> Api {
    Api {
        id: ApiId::new("widgets"),
        upstreams: vec![Target {
            tls: false,
            host: upstream.ip().to_string(),
            port: upstream.port(),
        }],
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
        connect_timeout_us: 2_000_000,
        response_timeout_us: 10_000_000,
        routes: Vec::new(),
    }
}

pub fn route(template: &str, methods: &[&str]) -> Route {
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

pub fn per_minute(max: u32) -> LimitUse {
    LimitUse::Inline(RateLimit {
        id: None,
        max,
        per: Per::Minute,
        by: None,
        shadow: false,
    })
}

fn catalog(api: Api) -> Catalog {
    let plan = Plan {
        id: PlanId::new("free"),
        name: "Free".into(),
        version: 1,
        price: None,
        quota: Some(Quota {
            units: 1_000,
            every: Every::Month,
            on_exceeded: OnExceeded::Block,
        }),
        overage: None,
        period: PeriodBasis::Calendar,
        limits: vec![per_minute(100)],
        scopes: None,
        keys_max: None,
    };
    let subscription = Subscription {
        id: SubscriptionId::new("acme-widgets"),
        organization: OrganizationId::new("acme"),
        apis: vec![api.id.clone()],
        plan: plan.id.clone(),
        time_zone: jiff::tz::TimeZone::UTC,
        started_on: jiff::civil::date(2026, 1, 1),
        state: SubscriptionState::Active,
        created_at: Timestamp(0),
    };
    let organization = Organization {
        id: OrganizationId::new("acme"),
        name: "Acme".into(),
    };
    let mut catalog = Catalog {
        version: 1,
        ..Catalog::default()
    };
    catalog.apis.insert(api.id.clone(), Arc::new(api));
    catalog.plans.insert(plan.id.clone(), Arc::new(plan));
    let id = organization.id.clone();
    catalog.organizations.insert(id, Arc::new(organization));
    let id = subscription.id.clone();
    catalog.subscriptions.insert(id, Arc::new(subscription));
    catalog
}

pub fn key_of(id: &str, hash: tollgate_model::KeyHash) -> ApiKey {
    ApiKey {
        id: KeyId::new(id),
        family: KeyId::new(id),
        subscription: SubscriptionId::new("acme-widgets"),
        name: "test".into(),
        hash,
        prefix: "hm".into(),
        last4: "eway".into(),
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

/// What a test wants otherwise than usual.
#[derive(Default)]
pub struct Wish {
    pub api: Option<fn(&mut Api)>,
    pub catalog: Option<fn(&mut Catalog)>,
    pub options: Option<fn(&mut Options)>,
    /// Not opened yet.
    pub closed: bool,
}

impl World {
    pub fn new() -> Self {
        Self::with(Wish::default())
    }

    pub fn with_api(change: fn(&mut Api)) -> Self {
        Self::with(Wish {
            api: Some(change),
            ..Wish::default()
        })
    }

    pub fn with(wish: Wish) -> Self {
        let upstream = Upstream::start();
        let mut api = api(upstream.address);
        if let Some(change) = wish.api {
            change(&mut api);
        }
        let mut catalog = catalog(api);
        if let Some(change) = wish.catalog {
            change(&mut catalog);
        }
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let mut options = Options::new(listen, dir.path());
        options.workers = 2;
        options.journal.segment_bytes = 1 << 20;
        if let Some(change) = wish.options {
            change(&mut options);
        }
        let pepper = Pepper::new(b"pepper".to_vec());
        let key = key_of("key_1", pepper.hash(KEY.as_bytes()));
        let clock = Arc::new(SystemClock::new());
        let gateway = start(&options, &clock, &pepper);
        let world = Self {
            handle: gateway.handle(),
            address: gateway.local_addr(),
            gateway: Some(gateway),
            upstream,
            catalog,
            key,
            pepper,
            dir,
            options,
            clock,
            killed: Vec::new(),
        };
        if wish.closed {
            return world;
        }
        world.publish();
        world
    }

    /// Publishes catalog and key, and opens the gateway.
    pub fn publish(&self) {
        self.handle.publish_catalog(Arc::new(self.catalog.clone()));
        self.put_key(&self.key, 1);
        self.gateway().open();
    }

    pub fn put_key(&self, key: &ApiKey, version: u64) {
        self.handle.publish_keys(KeyDelta {
            version,
            changes: vec![KeyChange::Put(Arc::new(key.clone()))],
        });
    }

    pub fn change_key(&self, version: u64, change: impl FnOnce(&mut ApiKey)) {
        let mut key = self.key.clone();
        change(&mut key);
        self.put_key(&key, version);
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    pub fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One call with the key on a connection of its own.
    pub fn call(&self, path: &str) -> Answer {
        self.client().get(path, &[("x-api-key", KEY)])
    }

    /// Every event in the journal, in no particular order.
    pub fn events(&self) -> Vec<UsageEvent> {
        let entries = self.entries();
        let event = |entry| match entry {
            Entry::Event { event, .. } => Some(event),
            _ => None,
        };
        entries.into_iter().filter_map(event).collect()
    }

    pub fn entries(&self) -> Vec<Entry> {
        let reader = self.gateway().reader().unwrap();
        let mut entries = Vec::new();
        for stream in reader.streams() {
            let mut from = stream.first;
            while from < stream.next {
                let range = reader.read(&stream.id, from, 1_000, 1 << 20).unwrap();
                entries.extend(range.entries.into_iter().map(|(_, entry)| entry));
                from = Sequence(range.next.0);
            }
        }
        entries
    }

    /// The only event, waited for: the end of a broken-off exchange is noticed a little later
    /// than the test breaks it off.
    pub fn the_event(&self) -> UsageEvent {
        self.wait_for_events(1).remove(0)
    }

    pub fn wait_for_events(&self, count: usize) -> Vec<UsageEvent> {
        let events = self.wait_until("events", |events| events.len() >= count);
        assert_eq!(events.len(), count, "{events:#?}");
        events
    }

    /// Waits until the journal holds what is asked for. Polls: the journal tells of new entries
    /// to one reader only, and that is the shipper.
    pub fn wait_until(&self, what: &str, there: impl Fn(&[UsageEvent]) -> bool) -> Vec<UsageEvent> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let events = runtime.block_on(async {
            let waiting = async {
                loop {
                    let events = self.events();
                    if there(&events) {
                        return events;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), waiting).await
        });
        events.unwrap_or_else(|_| panic!("{what}: {:?}", self.events()))
    }

    /// Waits for a progress entry.
    pub fn wait_for_progress(&self) {
        let there = |entry: &Entry| matches!(entry, Entry::Progress { .. });
        self.wait_until("progress", |_| self.entries().iter().any(there));
    }

    /// Units of the subscription's quota that are used.
    pub fn used(&self) -> u64 {
        use tollgate_model::{CheckRequest, Decisions};
        let answer = self.handle.check(&CheckRequest::Subscription {
            id: SubscriptionId::new("acme-widgets"),
            units: 1,
        });
        let quota = answer.limits.iter().find(|l| l.period.is_some()).unwrap();
        quota.used
    }

    /// Units in the subscription's window of a minute.
    pub fn in_window(&self) -> u64 {
        use tollgate_model::{CheckRequest, Decisions};
        let answer = self.handle.check(&CheckRequest::Subscription {
            id: SubscriptionId::new("acme-widgets"),
            units: 1,
        });
        let window = answer.limits.iter().find(|l| l.period.is_none()).unwrap();
        window.used
    }

    pub fn drain(&mut self, deadline: Duration) -> Drained {
        self.gateway.take().unwrap().drain(deadline)
    }

    /// Starts again on the same journal.
    pub fn restart(&mut self) {
        drop(self.gateway.take());
        let gateway = start(&self.options, &self.clock, &self.pepper);
        self.handle = gateway.handle();
        self.address = gateway.local_addr();
        self.gateway = Some(gateway);
        self.publish();
    }

    /// Sets the gateway's clock forward.
    pub fn pass(&self, span: Duration) {
        let us = span.as_micros() as u64;
        self.clock.forward_us.fetch_add(us, Ordering::SeqCst);
    }

    /// Sets the gateway's wall clock back.
    pub fn set_back(&self, span: Duration) {
        let us = span.as_micros() as u64;
        self.clock.back_us.fetch_add(us, Ordering::SeqCst);
    }

    /// Most bytes of the journal, from the next start on.
    pub fn limit_journal(&mut self, bytes: u64) {
        self.options.journal.disk_bytes_max = bytes;
    }

    /// Ships everything, and has what is shipped deleted.
    pub fn make_room(&self) {
        let reader = self.gateway().reader().unwrap();
        for _ in 0..2 {
            for stream in reader.streams() {
                reader.shipped(&stream.id, stream.next);
            }
            assert!(self.handle.checkpoint());
        }
        self.gateway().journal().unwrap().purge();
    }

    /// The current period of the subscription's quota.
    pub fn quota_period(&self) -> Period {
        use tollgate_model::{CheckRequest, Decisions};
        let answer = self.handle.check(&CheckRequest::Subscription {
            id: SubscriptionId::new("acme-widgets"),
            units: 1,
        });
        answer.limits.iter().find_map(|l| l.period).unwrap()
    }

    /// Goes on as after `kill -9` at this moment: a second gateway starts on a copy of what the
    /// kernel has of the journal. The first one is left alone.
    pub fn crash(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(self.dir.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        self.options.journal.dir = copy.path().to_owned();
        let gateway = start(&self.options, &self.clock, &self.pepper);
        self.handle = gateway.handle();
        self.address = gateway.local_addr();
        self.killed
            .push((self.gateway.take(), std::mem::replace(&mut self.dir, copy)));
        self.gateway = Some(gateway);
        self.publish();
    }
}

pub fn durable(options: &mut Options) {
    options.journal.sync = SyncMode::Durable;
}

fn start(options: &Options, clock: &Arc<SystemClock>, pepper: &Pepper) -> Gateway {
    let deps = Deps {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        ids: Arc::new(CountingIds(AtomicU64::new(1))),
        pepper: pepper.clone(),
        filesystem: Arc::new(DiskFilesystem),
    };
    Gateway::start(options.clone(), deps, &mut Registry::default()).unwrap()
}

/// Outcome, status and units of an event.
pub fn gist(event: &UsageEvent) -> (Outcome, u16, u64) {
    (event.outcome, event.status, event.units)
}
