//! One measurement: a journal, a shipper and a store of their own, put together as in production.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tollgate_lifecycle::{SystemClock, SystemIds};
use tollgate_metering::{LocalJournal, Metering, Shipper};
use tollgate_model::Clock;
use tollgate_store::{Store, UsageStore};

use super::gateway::Gateway;
use super::mix::Mix;
use super::place::{Place, is_elsewhere};
use super::probes::{Seen, Spread, ask, make_keys, visible};
use super::threads::WriterTime;
use crate::cli::BenchIngestArgs;
use crate::server::ship_options;

/// How often it is looked whether all is in the store.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What was measured of one mix.
#[derive(Debug)]
pub struct Figures {
    pub mix: Mix,
    /// What waited in the journal when shipping began.
    pub backlog: Phase,
    /// Key creations while it was taken in.
    pub commands: Spread,
    /// What then came in at a steady rate.
    pub steady: Phase,
    /// From append to an answer of `stats` that holds the event.
    pub visible: Spread,
    /// What the store took on disk in the end.
    pub store_bytes: u64,
    /// The store was a PostgreSQL server.
    pub elsewhere: bool,
    /// Records, buckets and the journal hold the same number of requests.
    pub exact: bool,
}

/// Events, and what taking them in took.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    pub events: u64,
    pub elapsed_us: u64,
    /// Of the whole process.
    pub cpu_us: u64,
    pub writer: WriterTime,
}

impl Phase {
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 * 1e6 / self.elapsed_us.max(1) as f64
    }

    pub fn cpu_us_per_event(&self) -> f64 {
        self.cpu_us as f64 / self.events.max(1) as f64
    }
}

/// Begins a [`Phase`].
struct Began<'c> {
    clock: &'c dyn Clock,
    tick_us: u64,
    cpu_us: u64,
    writer: WriterTime,
}

impl<'c> Began<'c> {
    fn now(clock: &'c dyn Clock) -> Self {
        Self {
            clock,
            tick_us: clock.now().ticks.0,
            cpu_us: cpu_us(),
            writer: WriterTime::now(),
        }
    }

    fn end(&self, events: u64) -> Phase {
        Phase {
            events,
            elapsed_us: self.clock.now().ticks.0 - self.tick_us,
            cpu_us: cpu_us() - self.cpu_us,
            writer: WriterTime::now().since(self.writer),
        }
    }
}

/// CPU time of this process so far.
fn cpu_us() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let us = used.tv_sec * 1_000_000 + used.tv_nsec / 1_000;
    u64::try_from(us).unwrap_or(0)
}

/// Measures one mix in `folder`.
///
/// # Errors
/// When journal or store fail.
pub async fn measure(mix: Mix, args: &BenchIngestArgs, folder: &Path) -> anyhow::Result<Figures> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut gateway = Gateway::open(mix, folder, &clock)?;
    gateway.fill(args.events).await?;
    let place = Place::make(&args.store, folder).await?;
    let store = place.open().await?;
    let source = LocalJournal::new(gateway.node(), gateway.reader());
    let shipper = Arc::new(Shipper::new(
        Arc::new(source),
        store.clone() as Arc<dyn UsageStore>,
        clock.clone(),
        Arc::new(SystemIds),
        ship_options(is_elsewhere(&args.store)),
    ));
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let mut shipping = JoinSet::new();
    let (ships, until) = (shipper.clone(), stop.clone());
    let began = Began::now(&*clock);
    shipping.spawn(async move { ships.run(until.cancelled_owned()).await });
    let (backlog, commands) = {
        let enough = stop.child_token();
        let mut customer = JoinSet::new();
        customer.spawn(make_keys(store.clone(), clock.clone(), enough.clone()));
        drained(&shipper, args.events).await?;
        let backlog = began.end(args.events);
        (backlog, stopped(&mut customer, &enough).await?)
    };
    let (steady, visible) = steady(&mut gateway, &shipper, &store, &clock, args).await?;
    stop.cancel();
    while shipping.join_next().await.is_some() {}
    let exact = agrees(&*store, backlog.events + steady.events).await?;
    drop((shipper, store));
    Ok(Figures {
        mix,
        backlog,
        commands,
        steady,
        visible,
        store_bytes: place.measure_and_remove().await?,
        elsewhere: is_elsewhere(&args.store),
        exact,
    })
}

/// Events that come in at a steady rate, and how soon they can be asked for.
async fn steady(
    gateway: &mut Gateway,
    shipper: &Shipper,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    args: &BenchIngestArgs,
) -> anyhow::Result<(Phase, Spread)> {
    let metering = Metering::new(store.clone(), clock.clone());
    let enough = CancellationToken::new();
    let mut asking: JoinSet<anyhow::Result<Vec<Seen>>> = JoinSet::new();
    asking.spawn(ask(metering, clock.clone(), enough.clone()));
    let began = Began::now(&**clock);
    let appended = gateway.keep_up(args.rate, args.run_for).await?;
    shipper.flush().await?;
    let phase = began.end(appended.last().map_or(0, |last| last.count));
    // Asks once more, and then sees everything.
    let seen = stopped(&mut asking, &enough).await?;
    Ok((phase, visible(&appended, &seen, args.events)))
}

async fn drained(shipper: &Shipper, events: u64) -> anyhow::Result<()> {
    loop {
        let status = shipper.status();
        if let Some(why) = status.failing {
            anyhow::bail!("shipping failed: {why}");
        }
        if status.shipped >= events {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tells a task that it is enough, and takes its answer.
async fn stopped<T: 'static>(
    tasks: &mut JoinSet<anyhow::Result<T>>,
    enough: &CancellationToken,
) -> anyhow::Result<T> {
    enough.cancel();
    match tasks.join_next().await {
        Some(answer) => answer?,
        None => anyhow::bail!("nothing was measured"),
    }
}

/// Whether every ledger of the store holds so many requests.
async fn agrees(store: &dyn Store, requests: u64) -> anyhow::Result<bool> {
    let (totals, marks) = store.ledger_totals().await?;
    let shipped: u64 = marks.iter().flat_map(|mark| mark.totals.events).sum();
    let sums = [
        totals.record_requests,
        totals.bucket_requests,
        totals.route_bucket_requests,
        shipped,
    ];
    Ok(sums.iter().all(|sum| *sum == requests))
}
