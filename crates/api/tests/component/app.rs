//! The one door through which all tests go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::Notify;
use tollgate_api::{ApiMetrics, ApiParts, ApiState, Flush, FlushError, Options, router};
use tollgate_control::{ApplyOptions, Control};
use tollgate_metering::Metering;
use tollgate_model::{
    ApiKey, Catalog, CatalogSink, CheckAnswer, CheckRequest, Clock, Decisions, DenialCode, IdGen,
    KeyChange, KeyDelta, KeyHash, KeyState, LimitReading, Now, Pepper, Period, Subscription, Ticks,
    Timestamp,
};
use tollgate_store::{MemoryStore, Store};

/// Some afternoon.
pub const START: &str = "2026-11-23T14:37:12Z";

pub const ADMIN: &str = "admin-token-of-24-characters";

pub const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["http://127.0.0.1:9001"]
path_prefix = "/v1"
key_prefix = "hm"
[[api.route]]
path = "/v1/widgets/{id}"
scope = "widgets:read"

[[limit]]
id = "strict"
max = 10
per = "minute"

[[plan]]
id = "free"
quota = { units = 1000, every = "month" }
scopes = ["widgets:read"]
[[plan]]
id = "open"

[[organization]]
id = "acme"
name = "Acme"
[[organization]]
id = "zoo"

[[subscription]]
id = "acme-widgets"
organization = "acme"
apis = ["widgets"]
plan = "free"
[[subscription]]
id = "zoo-one"
organization = "zoo"
apis = ["widgets"]
plan = "open"
[[subscription]]
id = "zoo-two"
organization = "zoo"
apis = ["widgets"]
plan = "open"
"#;

/// A clock that stands until it is moved.
pub struct ManualClock(Mutex<Now>);

impl ManualClock {
    fn at(text: &str) -> Self {
        let wall = Timestamp::parse(text).unwrap();
        Self(Mutex::new(Now {
            wall,
            ticks: Ticks(u64::try_from(wall.0).unwrap()),
        }))
    }

    pub fn advance_s(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        now.wall = now.wall.plus_us(seconds * 1_000_000);
        now.ticks = now.ticks.plus_us(seconds.unsigned_abs() * 1_000_000);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.0.lock().unwrap()
    }
}

/// Ids that count up.
#[derive(Default)]
pub struct CountingIds(AtomicU64);

impl IdGen for CountingIds {
    fn uuid(&self, at: Timestamp) -> u128 {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        (u128::from(at.0.unsigned_abs()) << 70) | u128::from(n)
    }

    fn fill(&self, secret: &mut [u8]) {
        for byte in secret {
            let n = self.0.fetch_add(1, Ordering::Relaxed);
            *byte = (n.wrapping_mul(2_654_435_761) >> 7) as u8;
        }
    }
}

/// A gateway that knows what was published and has counters that tests set.
pub struct FakeGateway {
    pepper: Pepper,
    clock: Arc<ManualClock>,
    catalog: Mutex<Arc<Catalog>>,
    keys: Mutex<HashMap<KeyHash, Arc<ApiKey>>>,
    /// Units that every subscription has used of its quota.
    pub used: AtomicU64,
}

impl CatalogSink for FakeGateway {
    fn publish_catalog(&self, catalog: Arc<Catalog>) {
        *self.catalog.lock().unwrap() = catalog;
    }

    fn publish_keys(&self, delta: KeyDelta) {
        let mut keys = self.keys.lock().unwrap();
        for change in delta.changes {
            match change {
                KeyChange::Put(key) => {
                    keys.insert(key.hash, key);
                }
                KeyChange::Remove(id) => keys.retain(|_, key| key.id != id),
            }
        }
    }

    fn forget_keys_before(&self, _version: u64) {}
}

/// A credential at which the gateway panics.
pub const PANIC: &str = "hm_panic";

impl Decisions for FakeGateway {
    fn check(&self, request: &CheckRequest) -> CheckAnswer {
        let now = self.clock.now().wall;
        match request {
            CheckRequest::Credential { secret, .. } if secret == PANIC => panic!("a bug"),
            CheckRequest::Credential { secret, units, .. } => {
                let hash = self.pepper.hash(secret.as_bytes());
                let key = self.keys.lock().unwrap().get(&hash).cloned();
                let Some(key) = key else {
                    return refused(DenialCode::KeyInvalid);
                };
                let subscription = self.subscription(key.subscription.as_str());
                let mut answer = self.weigh(subscription.as_deref(), *units);
                answer.key = Some(key.id.clone());
                let code = match key.state {
                    KeyState::Revoked => Some(DenialCode::KeyRevoked),
                    _ if key.expires_at.is_some_and(|end| end <= now) => {
                        Some(DenialCode::KeyExpired)
                    }
                    KeyState::Disabled => Some(DenialCode::KeyDisabled),
                    KeyState::Active => None,
                };
                if code.is_some() {
                    answer.allowed = false;
                    answer.code = code;
                }
                answer
            }
            CheckRequest::Subscription { id, units } => {
                self.weigh(self.subscription(id.as_str()).as_deref(), *units)
            }
            CheckRequest::Key { id, units } => {
                let keys = self.keys.lock().unwrap();
                let key = keys.values().find(|key| key.id == *id).cloned();
                drop(keys);
                let subscription = key.and_then(|key| self.subscription(key.subscription.as_str()));
                let mut answer = self.weigh(subscription.as_deref(), *units);
                answer.key = Some(id.clone());
                answer
            }
        }
    }
}

fn refused(code: DenialCode) -> CheckAnswer {
    CheckAnswer {
        allowed: false,
        code: Some(code),
        limit: None,
        retry_after_s: None,
        key: None,
        subscription: None,
        organization: None,
        plan: None,
        limits: Vec::new(),
    }
}

impl FakeGateway {
    fn subscription(&self, id: &str) -> Option<Arc<Subscription>> {
        self.catalog.lock().unwrap().subscriptions.get(id).cloned()
    }

    fn weigh(&self, subscription: Option<&Subscription>, units: u64) -> CheckAnswer {
        let Some(subscription) = subscription else {
            return refused(DenialCode::KeyInvalid);
        };
        let catalog = self.catalog.lock().unwrap().clone();
        let plan = catalog.find_plan_of(subscription).unwrap();
        let used = self.used.load(Ordering::Relaxed);
        let end = Timestamp::parse("2026-12-01T00:00:00Z").unwrap();
        let limits: Vec<LimitReading> = plan
            .quota
            .iter()
            .map(|quota| LimitReading {
                name: "month-subscription".into(),
                limit: Some(quota.units),
                used,
                remaining: Some(quota.units.saturating_sub(used)),
                resets_at: Some(end),
                period: Some(Period {
                    start: Timestamp::parse("2026-11-01T00:00:00Z").unwrap(),
                    end,
                }),
                shadow: false,
            })
            .collect();
        let full = limits
            .iter()
            .any(|reading| reading.used + units > reading.limit.unwrap_or(u64::MAX));
        CheckAnswer {
            allowed: !full,
            code: full.then_some(DenialCode::QuotaExceeded),
            limit: full.then(|| "month-subscription".into()),
            retry_after_s: full.then_some(600_000),
            key: None,
            subscription: Some(subscription.id.clone()),
            organization: Some(subscription.organization.clone()),
            plan: Some(plan.id.clone()),
            limits,
        }
    }
}

/// What the next flushes do.
#[derive(Default)]
pub struct FakeFlush {
    pub failure: Mutex<Option<String>>,
    /// When set, a flush tells that it has begun and waits.
    pub gate: Mutex<Option<Arc<Gate>>>,
    pub done: AtomicU64,
}

#[derive(Default)]
pub struct Gate {
    pub begun: Notify,
    pub open: Notify,
}

impl Flush for FakeFlush {
    fn flush(&self) -> futures_util::future::BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async move {
            let gate = self.gate.lock().unwrap().clone();
            if let Some(gate) = gate {
                gate.begun.notify_one();
                gate.open.notified().await;
            }
            if let Some(failure) = self.failure.lock().unwrap().clone() {
                return Err(FlushError(failure));
            }
            self.done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }
}

/// The API under test and what stands around it.
pub struct App {
    router: Router,
    pub state: ApiState,
    pub clock: Arc<ManualClock>,
    ids: Arc<CountingIds>,
    pub gateway: Arc<FakeGateway>,
    pub flush: Arc<FakeFlush>,
    pub store: Arc<MemoryStore>,
    pub control: Control,
}

impl App {
    /// With the catalog above and the admin token.
    pub async fn start() -> Self {
        Self::with_options(Options::default()).await
    }

    pub async fn with_options(options: Options) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let app = Self::over(Arc::default(), clock, Arc::default(), options).await;
        let apply = ApplyOptions {
            prune: false,
            dry_run: false,
            actor: "file:catalog.toml".into(),
        };
        app.control.apply(CATALOG, &apply).await.unwrap();
        app.control.tokens().ensure_bootstrap(ADMIN).await.unwrap();
        app
    }

    /// As after a restart: the store is what it was, and nothing is remembered.
    pub async fn restarted(&self) -> Self {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Self::over(store, clock, self.ids.clone(), Options::default()).await
    }

    async fn over(
        store: Arc<MemoryStore>,
        clock: Arc<ManualClock>,
        ids: Arc<CountingIds>,
        options: Options,
    ) -> Self {
        let pepper = Pepper::new(b"pepper".to_vec());
        let gateway = Arc::new(FakeGateway {
            pepper: pepper.clone(),
            clock: clock.clone(),
            catalog: Mutex::default(),
            keys: Mutex::default(),
            used: AtomicU64::new(0),
        });
        let control = Control::new(
            store.clone() as Arc<dyn Store>,
            gateway.clone(),
            clock.clone(),
            ids.clone(),
            pepper,
        );
        control.start().await.unwrap();
        let flush = Arc::new(FakeFlush::default());
        let state = ApiState::new(ApiParts {
            control: control.clone(),
            metering: Metering::new(store.clone(), clock.clone()),
            decisions: gateway.clone(),
            store: store.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            flush: flush.clone(),
            metrics: ApiMetrics::default(),
            options,
        });
        Self {
            router: router(state.clone()).unwrap(),
            state,
            clock,
            ids,
            gateway,
            flush,
            store,
            control,
        }
    }

    /// A token with one scope.
    pub async fn token(&self, scope: &str) -> String {
        let scopes = [scope.to_owned()];
        let made = self.control.tokens().create(None, &scopes, None).await;
        made.unwrap().secret.reveal().to_owned()
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = tower::ServiceExt::oneshot(self.router.clone(), request)
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// A call as the admin.
    pub async fn call(&self, method: &str, path: &str, body: impl ToString) -> Answer {
        self.call_with(method, path, &[], body).await
    }

    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl ToString,
    ) -> Answer {
        let mut request = request(method, path, body.to_string());
        let mut names = vec![("authorization", format!("Bearer {ADMIN}"))];
        names.extend(
            headers
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        for (name, value) in names {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        self.send(request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    /// Makes a key and answers its document with the secret.
    pub async fn key(&self, subscription: &str) -> Value {
        let body = serde_json::json!({ "subscription_id": subscription, "name": "k" });
        self.call("POST", "/api/v1/keys", body).await.expect(201)
    }
}

/// A request without credentials.
pub fn request(method: &str, path: &str, body: String) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(Body::from(body))
        .unwrap()
}

/// An answer, read as a whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The JSON of an answer of this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.text).unwrap()
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .to_str()
            .unwrap()
    }

    /// The code of a problem of this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], self.header("x-request-id"));
        body["code"].as_str().unwrap().to_owned()
    }

    /// The faulty fields of a 400, in order, each with its code.
    #[track_caller]
    pub fn faults(&self) -> Vec<(String, String)> {
        assert_eq!(self.problem(400), "request_invalid");
        let body = self.expect(400);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut faults: Vec<_> = body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| (text(&error["field"]), text(&error["code"])))
            .collect();
        faults.sort();
        faults
    }
}

/// Pairs for comparing with [`Answer::faults`].
pub fn faults(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = pairs
        .iter()
        .map(|(field, code)| ((*field).to_owned(), (*code).to_owned()))
        .collect();
    pairs.sort();
    pairs
}

/// Names of an object's fields, sorted.
pub fn names(object: &Value) -> Vec<String> {
    let mut names: Vec<String> = object.as_object().unwrap().keys().cloned().collect();
    names.sort();
    names
}
