//! How the rooms are put together, started and stopped.
//!
//! Start order: store, gateway (journal and counters), catalog and keys, then the listeners. Stop
//! order is the reverse, with one more shipment in between, so that what the last requests left in
//! the journal is visible when the process has ended.

mod background;
mod calendar;
mod carry;
mod listen;
mod lives;
mod seed;
mod ship_metrics;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use tollgate_api::{ApiMetrics, ApiParts, ApiState, Condition, Flush, FlushError, Health};
use tollgate_control::Control;
use tollgate_gateway::{Deps, Gateway, StartError};
use tollgate_journal::{DiskFilesystem, Filesystem, JournalOptions, SyncMode};
use tollgate_lifecycle::{Signals, Supervisor, SystemClock, SystemIds};
use tollgate_metering::{Metering, Shipper};
use tollgate_model::{CatalogSink, Clock, Decisions, IdGen, Pepper};
use tollgate_store::{Store, StoreErrorKind};
use tollgate_store_postgres::PostgresStore;
use tollgate_store_sqlite::SqliteStore;

pub use self::background::ship_options;
use self::carry::Carrier;
use self::lives::Lives;
use self::ship_metrics::ShipMetrics;
use crate::config::{Config, StorePlace};
use crate::pepper;

/// Longest wait for background work to end after the gateway has drained.
const BACKGROUND_GRACE: Duration = Duration::from_secs(15);

/// The runtime of everything but the gateway's own threads: half of the cores, at lower priority,
/// so that a slow question never delays a request.
///
/// # Errors
/// When threads cannot be started.
pub fn platform_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let number = std::sync::atomic::AtomicUsize::new(0);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.div_ceil(2))
        .thread_name_fn(move || {
            let n = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            format!("platform-{n}")
        })
        // Where niceness cannot be set, priorities are equal: slower, not wrong.
        .on_thread_start(|| {
            let _nicer = rustix::process::nice(5);
        })
        .enable_all()
        .build()
}

/// A running Tollgate.
pub struct Server {
    supervisor: Supervisor,
    listeners: Supervisor,
    gateway: Gateway,
    api: ApiState,
    shipper: Arc<Shipper>,
    catalog: Option<background::CatalogFile>,
}

impl Server {
    /// Starts everything. When it returns, requests are served.
    ///
    /// # Errors
    /// When a file cannot be opened, an address is taken, the catalog file does not hold, or the
    /// pepper is another than the store's.
    pub async fn start(config: &Config, admin_token: Option<&str>) -> anyhow::Result<Self> {
        let clock = Arc::new(SystemClock::new());
        let ids: Arc<dyn IdGen> = Arc::new(SystemIds);
        let store = open_store_to_serve(config).await?;
        let pepper = pepper::load(&config.journal_dir, ids.as_ref())?;
        let mut registry = Registry::with_prefix("tollgate");
        let parts = (&clock, &ids, pepper.clone());
        let gateway = start_gateway(config, &store, parts, &mut registry).await?;
        let platform_clock: Arc<dyn Clock> = clock.clone();
        let metering = Metering::new(store.clone(), platform_clock.clone());
        let shipper = background::shipper(config, &gateway, &store, &platform_clock, &ids)?;
        let carrier = Arc::new(Carrier::new(
            gateway.handle(),
            metering.clone(),
            shipper.clone(),
        ));
        let control = Control::new(
            store.clone(),
            carrier.clone() as Arc<dyn CatalogSink>,
            platform_clock.clone(),
            ids.clone(),
            pepper,
        );
        control.start().await?;
        if let Some(token) = admin_token {
            control.tokens().ensure_bootstrap(token).await?;
        }
        let catalog = background::CatalogFile::find(config, &control).await?;
        let sources = seed::Sources::of(&control, store.as_ref(), &carrier);
        seed::quotas(&gateway, &sources).await?;
        registry.register_collector(Box::new(ShipMetrics {
            shipper: shipper.clone(),
            started: clock.now().wall,
        }));
        let api = ApiState::new(ApiParts {
            control: control.clone(),
            metering,
            decisions: Arc::new(gateway.handle()) as Arc<dyn Decisions>,
            store: store.clone(),
            clock: platform_clock.clone(),
            ids,
            flush: Arc::new(ShipNow(shipper.clone())),
            metrics: ApiMetrics::register(&mut registry),
            options: tollgate_api::Options::default(),
        });
        let supervisor = Supervisor::new(tokio::runtime::Handle::current());
        background::start(
            &supervisor,
            &shipper,
            &carrier,
            &control,
            &store,
            &platform_clock,
            catalog.clone(),
        );
        let listeners = supervisor.group("listeners");
        listen::platform(&listeners, config.platform_listen, api.clone()).await?;
        let health = health(&gateway, store, config, registry);
        listen::health(&listeners, config.health_listen, health).await?;
        gateway.open();
        tell_start(config);
        Ok(Self {
            supervisor,
            listeners,
            gateway,
            api,
            shipper,
            catalog,
        })
    }

    /// Reads the catalog file again now.
    pub async fn reload(&self) {
        if let Some(catalog) = &self.catalog {
            catalog.look(true).await;
        }
    }

    /// Waits until a part fails without which nothing works; answers why.
    pub async fn failed(&self) -> String {
        self.supervisor.shutdown_requested().await
    }

    /// Stops in order: no new connections, drain, ship, end background work. A second signal cuts
    /// the waiting short; the journal is whole in any case. Answers whether everything ended in
    /// time.
    pub async fn stop(self, drain: Duration, signals: &mut Signals) -> bool {
        let Self {
            supervisor,
            listeners,
            gateway,
            api,
            shipper,
            ..
        } = self;
        let handle = gateway.handle();
        let mut draining = tokio::task::spawn_blocking(move || gateway.drain(drain));
        let (drained, patient) = tokio::select! {
            drained = &mut draining => (drained, true),
            _ = signals.next() => {
                handle.cut();
                (draining.await, false)
            }
        };
        let drained = drained.is_ok_and(|drained| patient && !drained.forced && drained.sealed);
        if let Err(error) = shipper.flush().await {
            tracing::warn!(%error, "events stay in the journal and are shipped at the next start");
        }
        let listened = listeners.shutdown_group(BACKGROUND_GRACE).await;
        api.finish().await;
        let ended = supervisor.shutdown(BACKGROUND_GRACE).await;
        tracing::info!(drained, "tollgate has stopped");
        drained && listened.is_clean() && ended.is_clean()
    }
}

/// Opens the store for the one process that serves from it.
async fn open_store_to_serve(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    lock_store(config)?;
    open_store(config).await
}

/// Keeps a second process from serving from the same store file, under whatever name: each would
/// let every limit through in full.
fn lock_store(config: &Config) -> anyhow::Result<()> {
    let StorePlace::Sqlite(file) = &config.store else {
        return Ok(());
    };
    let store = file.display();
    // Locks of this kind and those that SQLite takes know nothing of each other.
    let locked = DiskFilesystem.lock(file);
    let locked = locked.with_context(|| {
        format!(
            "the store {store} cannot be locked for serving, so nothing was started: check that \
             its folder is there and that this user may write in it"
        )
    })?;
    let guard = locked.with_context(|| {
        format!(
            "another tollgate serves from the store {store}: two gateways on one file would each \
             let every limit through in full. Stop the other one, or give this one a `store.url` \
             of its own"
        )
    })?;
    // Never closed: closing any descriptor of a file drops the locks that SQLite holds on it in
    // this process (POSIX). The lock ends with the process.
    std::mem::forget(guard);
    Ok(())
}

/// Opens the store and brings its schema up to date.
///
/// # Errors
/// When it cannot be opened or reached, or belongs to a newer version.
pub async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match &config.store {
        StorePlace::Sqlite(file) => {
            let options = tollgate_store_sqlite::Options::default();
            let store = SqliteStore::open(file, &options).map_err(|error| {
                let what = format!("the store {} {}", file.display(), what_to_do(error.kind));
                anyhow::Error::new(error).context(what)
            })?;
            Arc::new(store)
        }
        StorePlace::Postgres(url) => {
            let options = tollgate_store_postgres::Options::default();
            let store = PostgresStore::open(url.reveal(), &options).await;
            Arc::new(store.context("the store cannot be opened")?)
        }
    })
}

/// What a store in a file that cannot be opened means for whoever started this.
fn what_to_do(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Unavailable => {
            "cannot be opened, so nothing was started: end whatever else writes to it (a database \
             shell, a copy under way), and check that this user may write to the file and its \
             folder, that the disk has room, and that no limit on file sizes (ulimit -f) is reached"
        }
        _ => {
            "cannot be used, so nothing was started and nothing in it was changed: put a good copy \
             of it in its place, or start the version of Tollgate that last served from it"
        }
    }
}

/// The journal's options as configured.
pub fn journal_options(config: &Config) -> JournalOptions {
    JournalOptions {
        sync: if config.journal_durable {
            SyncMode::Durable
        } else {
            SyncMode::Fast
        },
        disk_bytes_max: config.journal_disk_bytes_max,
        keep_us: config.journal_keep_us,
        ..JournalOptions::new(&config.journal_dir)
    }
}

/// The gateway, on a journal that was compared with what the store knows.
async fn start_gateway(
    config: &Config,
    store: &Arc<dyn Store>,
    (clock, ids, pepper): (&Arc<SystemClock>, &Arc<dyn IdGen>, Pepper),
    registry: &mut Registry,
) -> anyhow::Result<Gateway> {
    let lives = Lives::read(store).await?;
    let journal = JournalOptions {
        platform_marks: Some(lives.marks()),
        ..journal_options(config)
    };
    let options = tollgate_gateway::Options {
        workers: usize::try_from(config.gateway_workers).unwrap_or(0),
        trusted_proxies: config.trusted_proxies.clone(),
        node_name: config.node.clone(),
        journal,
        ..tollgate_gateway::Options::new(config.gateway_listen, &config.journal_dir)
    };
    let deps = Deps {
        clock: clock.clone(),
        ids: ids.clone(),
        pepper,
        filesystem: Arc::new(DiskFilesystem),
    };
    let gateway = Gateway::start(options, deps, registry).map_err(|error| match error {
        StartError::Listen { address, source } => {
            anyhow::Error::new(source).context(listen::taken("gateway", address))
        }
        error => error.into(),
    })?;
    lives.begin(&gateway).await?;
    Ok(gateway)
}

/// What the health port shows: what must hold for the process to take traffic, and the figures.
fn health(gateway: &Gateway, store: Arc<dyn Store>, config: &Config, registry: Registry) -> Health {
    let handle = gateway.handle();
    let serving = Condition::new("gateway", move || {
        let ready = handle.is_ready();
        Box::pin(async move {
            if ready {
                Ok(())
            } else {
                Err("it is starting or draining".to_owned())
            }
        })
    });
    // A server elsewhere that is away stays open to us: its connections come back by themselves,
    // and taking every gateway's traffic meanwhile is what the journal is for.
    let elsewhere = config.store.file().is_none();
    let storing = Condition::new("store", move || {
        let store = store.clone();
        // A read: while another process holds the lock for writing, or the disk is full, the
        // gateway goes on by its journal and must not lose its traffic.
        Box::pin(async move {
            let read = store.find_setting("ready").await;
            match read {
                Err(error) if elsewhere && error.kind == StoreErrorKind::Unavailable => Ok(()),
                read => read.map(drop).map_err(|error| error.to_string()),
            }
        })
    });
    Health {
        conditions: vec![serving, storing],
        registry: Arc::new(registry),
    }
}

fn tell_start(config: &Config) {
    tracing::info!(
        gateway = %config.gateway_listen,
        platform = %config.platform_listen,
        health = %config.health_listen,
        journal_sync = if config.journal_durable { "durable" } else { "fast" },
        "tollgate is running",
    );
}

/// `POST /api/v1/usage/flush`.
struct ShipNow(Arc<Shipper>);

impl Flush for ShipNow {
    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async {
            self.0
                .flush()
                .await
                .map_err(|error| FlushError(error.to_string()))
        })
    }
}
