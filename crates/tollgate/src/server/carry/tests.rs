//! What a changed period carries over, on a real gateway and a real store, by a clock that is set.

use std::path::Path;

use prometheus_client::registry::Registry;
use tollgate_control::{ApplyOptions, Control};
use tollgate_gateway::{Deps, Gateway, Options};
use tollgate_journal::DiskFilesystem;
use tollgate_metering::{LocalJournal, ShipOptions};
use tollgate_model::{Clock, Every, Pepper, Period, PeriodBasis, Plan};
use tollgate_store::Store;
use tollgate_store_sqlite::SqliteStore;
use tollgate_testkit::client::{self, Call, Reply};
use tollgate_testkit::{ManualClock, Oracle, SeededIds};

use super::*;
use crate::server::seed;

const DAY_US: u64 = 86_400_000_000;
/// Units of each call.
const COST: u64 = 10;
const ALLOWED: u64 = 100;

/// Everything between a caller and the store.
struct World {
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    oracle: Oracle,
    key: String,
    parts: Option<Parts>,
}

/// What ends with a process.
struct Parts {
    gateway: Gateway,
    shipper: Arc<Shipper>,
    carrier: Arc<Carrier>,
    control: Control,
}

impl Parts {
    async fn start(folder: &Path, clock: &Arc<ManualClock>) -> anyhow::Result<Self> {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(
            &folder.join("store.db"),
            &tollgate_store_sqlite::Options::default(),
        )?);
        let clock: Arc<dyn Clock> = clock.clone();
        let ids = Arc::new(SeededIds::new(u64::try_from(clock.now().wall.0)?));
        let pepper = Pepper::new(b"the pepper of this test".to_vec());
        let mut options = Options::new("127.0.0.1:0".parse()?, folder.join("journal"));
        options.workers = 1;
        let deps = Deps {
            clock: clock.clone(),
            ids: ids.clone(),
            pepper: pepper.clone(),
            filesystem: Arc::new(DiskFilesystem),
        };
        let gateway = Gateway::start(options, deps, &mut Registry::default())?;
        let reader = gateway.reader().context("the journal is closed")?;
        let shipper = Arc::new(Shipper::new(
            Arc::new(LocalJournal::new(gateway.node_id().clone(), reader)),
            store.clone(),
            clock.clone(),
            ids.clone(),
            ShipOptions::default(),
        ));
        let carrier = Arc::new(Carrier::new(
            gateway.handle(),
            Metering::new(store.clone(), clock.clone()),
            shipper.clone(),
        ));
        let sink = carrier.clone() as Arc<dyn CatalogSink>;
        let control = Control::new(store.clone(), sink, clock, ids, pepper);
        control.start().await?;
        let sources = seed::Sources::of(&control, store.as_ref(), &carrier);
        seed::quotas(&gateway, &sources).await?;
        gateway.open();
        Ok(Self {
            gateway,
            shipper,
            carrier,
            control,
        })
    }

    async fn apply(&self, text: &str) -> anyhow::Result<()> {
        let options = ApplyOptions {
            prune: false,
            dry_run: false,
            actor: "test".into(),
        };
        self.control.apply(text, &options).await?;
        Ok(())
    }
}

impl World {
    /// A subscription with 100 units of this length, at an instant.
    async fn start(every: &str, instant: &str) -> anyhow::Result<Self> {
        let clock = Arc::new(ManualClock::at_text(instant));
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("journal"))?;
        let parts = Parts::start(folder.path(), &clock).await?;
        let mut world = Self {
            clock,
            folder,
            oracle: Oracle::start()?,
            key: String::new(),
            parts: None,
        };
        parts.apply(&world.catalog(every)).await?;
        let wish = serde_json::json!({ "subscription_id": "acme", "name": "test" });
        let key = parts.control.create_key(&wish, "test").await?;
        world.key = key.secret.reveal().to_owned();
        world.parts = Some(parts);
        Ok(world)
    }

    fn catalog(&self, every: &str) -> String {
        let upstream = self.oracle.url();
        format!(
            r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
[[api.route]]
path = "/v1/things"
cost = {COST}
[[plan]]
id = "plan"
name = "Plan"
quota = {{ units = {ALLOWED}, every = "{every}", on_exceeded = "block" }}
[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets"]
plan = "plan"
time_zone = "UTC"
"#
        )
    }

    fn parts(&self) -> anyhow::Result<&Parts> {
        self.parts.as_ref().context("nothing runs")
    }

    /// Ends it and starts it again; the catalog is changed in between.
    async fn restart_with(&mut self, every: &str) -> anyhow::Result<()> {
        let Parts {
            gateway, control, ..
        } = self.parts.take().context("nothing runs")?;
        drop(gateway);
        let options = ApplyOptions {
            prune: false,
            dry_run: false,
            actor: "test".into(),
        };
        control.apply(&self.catalog(every), &options).await?;
        self.parts = Some(Parts::start(self.folder.path(), &self.clock).await?);
        Ok(())
    }

    /// Publishes a plan of another length without asking the store to keep it.
    async fn publish(&self, every: Every) -> anyhow::Result<()> {
        let parts = self.parts()?;
        let known = parts.carrier.state.lock().await.catalog.clone();
        let mut catalog = Catalog::clone(known.as_deref().context("no catalog")?);
        catalog.version += 1;
        for plan in catalog.plans.values_mut() {
            let quota = plan
                .quota
                .map(|quota| tollgate_model::Quota { every, ..quota });
            *plan = Arc::new(Plan {
                quota,
                ..Plan::clone(plan)
            });
        }
        parts.carrier.publish(Arc::new(catalog)).await;
        Ok(())
    }

    async fn call(&self) -> anyhow::Result<Reply> {
        let call = Call::get("/v1/things").key(&self.key);
        client::send(self.parts()?.gateway.local_addr(), &call).await
    }

    /// So many calls that pass.
    async fn use_up(&self, calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            let reply = self.call().await?;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        }
        Ok(())
    }

    /// Used of the period in force, as the next call that passes is told, without that call.
    async fn used(&self) -> anyhow::Result<u64> {
        // As the server does: on a busy machine publishing may not have waited long enough.
        self.parts()?.carrier.retry().await;
        let reply = self.call().await?;
        let used = reply.number("x-ratelimit-used");
        let used = used.with_context(|| format!("{} {}", reply.status, reply.text()))?;
        Ok(used - COST)
    }

    async fn is_shut(&self) -> anyhow::Result<bool> {
        Ok(self.call().await?.code() == "counters_unavailable")
    }

    async fn waits(&self) -> anyhow::Result<usize> {
        Ok(self.parts()?.carrier.state.lock().await.waiting.len())
    }

    /// The gateway forgets what it may.
    fn evict(&self) -> anyhow::Result<()> {
        let handle = self.parts()?.gateway.handle();
        for _ in 0..tollgate_gateway::options::CHECKPOINTS_PER_EVICTION + 1 {
            ensure!(handle.checkpoint());
        }
        Ok(())
    }

    /// Another process holds the store's lock for writing until what is answered is dropped.
    fn lock_store(&self) -> anyhow::Result<rusqlite::Connection> {
        let connection = rusqlite::Connection::open(self.folder.path().join("store.db"))?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(connection)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_period_has_what_earlier_days_used_and_a_shorter_one_what_is_of_its_day()
-> anyhow::Result<()> {
    let world = World::start("day", "2026-11-11T12:00:00Z").await?;
    world.use_up(3).await?;
    world.clock.advance_us(DAY_US);
    world.use_up(2).await?;
    world.publish(Every::Month).await?;
    assert_eq!(world.used().await?, 50);
    // That was a call of today, under the month's period.
    world.publish(Every::Day).await?;
    assert_eq!(world.used().await?, 30);
    world.publish(Every::Week).await?;
    assert_eq!(world.used().await?, 70);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carry_that_is_tried_again_counts_what_was_used_once() -> anyhow::Result<()> {
    let world = World::start("day", "2026-11-11T12:00:00Z").await?;
    world.use_up(1).await?;
    world.parts()?.shipper.flush().await?;
    world.clock.advance_us(DAY_US);
    let lock = world.lock_store()?;
    world.use_up(5).await?;
    // Who publishes holds back a key's end: it must not wait as long as a flush may.
    timeout(Duration::from_secs(5), world.publish(Every::Month)).await??;
    ensure!(world.is_shut().await?);
    // Trying again outlasts other changes, and holds none of them back.
    let carrier = world.parts()?.carrier.clone();
    let mut again = tokio::task::JoinSet::new();
    again.spawn(async move { carrier.retry().await });
    timeout(Duration::from_secs(5), world.publish(Every::Month)).await??;
    ensure!(world.is_shut().await?);
    drop(lock);
    again.join_all().await;
    world.parts()?.carrier.retry().await;
    assert_eq!(world.waits().await?, 0);
    assert_eq!(world.used().await?, 60);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_for_a_change_that_another_one_replaced_is_not_carried() -> anyhow::Result<()>
{
    let world = World::start("day", "2026-11-11T12:00:00Z").await?;
    world.use_up(2).await?;
    let lock = world.lock_store()?;
    world.publish(Every::Month).await?;
    world.publish(Every::Year).await?;
    assert_eq!(world.waits().await?, 1);
    // Days pass: the periods that are shut are not more than there are.
    for _ in 0..3 {
        for one in world
            .parts()?
            .carrier
            .state
            .lock()
            .await
            .waiting
            .values_mut()
        {
            world.parts()?.carrier.shut(one);
            assert_eq!(one.shut.len(), 4);
        }
    }
    drop(lock);
    world.parts()?.carrier.retry().await;
    assert_eq!(world.used().await?, 20);
    // Nothing is left shut of the month that was never carried.
    world.publish(Every::Month).await?;
    assert_eq!(world.used().await?, 30);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_quota_whose_period_is_lengthened_on_its_first_day_stays_used_up()
-> anyhow::Result<()> {
    let world = World::start("day", "2026-11-01T12:00:00Z").await?;
    world.use_up(ALLOWED / COST).await?;
    // The two periods share a counter: the store need not be asked.
    let lock = world.lock_store()?;
    world.publish(Every::Month).await?;
    assert_eq!(world.waits().await?, 0);
    drop(lock);
    world.clock.advance_us(DAY_US);
    world.evict()?;
    assert_eq!(world.call().await?.status, 429);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_record_tells_of_is_carried_over_a_restart() -> anyhow::Result<()> {
    let mut world = World::start("day", "2026-11-11T12:00:00Z").await?;
    world.use_up(1).await?;
    world.clock.advance_us(DAY_US);
    world.use_up(2).await?;
    world.parts()?.shipper.flush().await?;
    let start = Timestamp::parse("2026-11-12T00:00:00Z")?;
    let day = Period {
        start,
        end: start.plus_us(i64::try_from(DAY_US)?),
    };
    // Passed by declared loss, or held since a gateway died: 30 units are in no record.
    let handle = world.parts()?.gateway.handle();
    handle.carry_quota(By::Subscription, "acme", day, 50);
    drop(handle);
    world.restart_with("month").await?;
    assert_eq!(world.used().await?, 60);
    // Once more, with the month's own counter there too: nothing is counted twice.
    world.restart_with("month").await?;
    assert_eq!(world.used().await?, 70);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_set_back_carries_into_the_period_that_the_gateway_is_in() -> anyhow::Result<()>
{
    let mut world = World::start("day", "2026-12-04T12:00:00Z").await?;
    world.use_up(2).await?;
    world.clock.advance_us(DAY_US);
    world.use_up(3).await?;
    world.parts()?.shipper.flush().await?;
    let seen = world.clock.now().wall;
    world
        .clock
        .set_wall(Timestamp::parse("2026-11-20T12:00:00Z")?);
    world.publish(Every::Month).await?;
    assert_eq!(world.used().await?, 50);
    // The store's time is the clock's: what was charged meanwhile is of November there.
    world.restart_with("week").await?;
    assert_eq!(world.parts()?.gateway.handle().latest_wall(), seen);
    assert!((50..=60).contains(&world.used().await?));
    Ok(())
}

#[test]
fn a_started_on_that_sets_no_period_is_no_change() {
    let catalog = |basis, started_on| {
        let plan = Plan {
            id: tollgate_model::PlanId::new("plan"),
            name: "Plan".into(),
            version: 1,
            price: None,
            quota: None,
            overage: None,
            period: basis,
            limits: Vec::new(),
            scopes: None,
            keys_max: None,
        };
        let subscription = tollgate_model::Subscription {
            id: SubscriptionId::new("acme"),
            organization: tollgate_model::OrganizationId::new("acme"),
            apis: Vec::new(),
            plan: plan.id.clone(),
            time_zone: jiff::tz::TimeZone::UTC,
            started_on,
            state: tollgate_model::SubscriptionState::Active,
            created_at: Timestamp(0),
        };
        let mut catalog = Catalog::default();
        catalog.plans.insert(plan.id.clone(), Arc::new(plan));
        let id = subscription.id.clone();
        catalog.subscriptions.insert(id, Arc::new(subscription));
        catalog
    };
    let (one, other) = (
        jiff::civil::date(2026, 1, 31),
        jiff::civil::date(2026, 2, 7),
    );
    for (basis, moved) in [(PeriodBasis::Calendar, 0), (PeriodBasis::Anniversary, 1)] {
        let mut state = State {
            catalog: Some(Arc::new(catalog(basis, one))),
            ..State::default()
        };
        assert_eq!(state.find_moved(&catalog(basis, other)).len(), moved);
        assert_eq!(state.find_moved(&catalog(basis, one)).len(), 0);
    }
}

#[test]
fn how_far_shipping_is_makes_no_new_cause() {
    let lagging = |mark, cause: &str| {
        let lag = tollgate_metering::Lag {
            stream: tollgate_model::StreamId {
                node: tollgate_model::NodeId::new("node"),
                epoch: 1,
                thread: 0,
            },
            mark: tollgate_model::Sequence(mark),
            wanted: tollgate_model::Sequence(9),
        };
        anyhow::Error::new(MeteringError::Lagging {
            streams: vec![lag],
            cause: Some(cause.to_owned()),
        })
    };
    assert_eq!(
        cause_of(&lagging(1, "locked")),
        cause_of(&lagging(2, "locked"))
    );
    assert_ne!(
        cause_of(&lagging(1, "locked")),
        cause_of(&lagging(1, "full"))
    );
}
