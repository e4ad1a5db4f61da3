//! What runs beside requests: shipping, taking over changes, watching the catalog file, dropping
//! what is kept for a while only.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::sync::Mutex;
use tollgate_control::{Control, ControlError};
use tollgate_gateway::Gateway;
use tollgate_lifecycle::{OnCancel, OnError, Supervisor, TaskSpec};
use tollgate_metering::{LocalJournal, MinuteRetention, ShipOptions, Shipper};
use tollgate_model::{Clock, IdGen};
use tollgate_store::Store;

use super::carry::Carrier;
use crate::command::Misconfigured;
use crate::config::{Config, ConfigError};

/// How to ship to a file, or to a PostgreSQL server.
pub fn ship_options(elsewhere: bool) -> ShipOptions {
    let mut options = ShipOptions::default();
    if elsewhere {
        options.batches_at_once_max = tollgate_store_postgres::BATCHES_AT_ONCE;
    }
    options
}

/// How often the catalog file is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// How often changes made by other processes are taken over.
const REFRESH_EVERY: Duration = Duration::from_millis(500);
/// How often minute buckets that are over 48 hours old are dropped.
const RETAIN_EVERY: Duration = Duration::from_secs(600);

/// Ships the gateway's own journal.
///
/// # Errors
/// When the gateway is draining already.
pub fn shipper(
    config: &Config,
    gateway: &Gateway,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn IdGen>,
) -> anyhow::Result<Arc<Shipper>> {
    let options = ShipOptions {
        batch_events_max: usize::try_from(config.ship_batch).unwrap_or(1_000),
        ..ship_options(config.store.file().is_none())
    };
    let reader = gateway.reader().context("the journal is closed")?;
    let source = Arc::new(LocalJournal::new(gateway.node_id().clone(), reader));
    Ok(Arc::new(Shipper::new(
        source,
        store.clone(),
        clock.clone(),
        ids.clone(),
        options,
    )))
}

/// Starts everything that runs beside requests.
pub fn start(
    supervisor: &Supervisor,
    shipper: &Arc<Shipper>,
    carrier: &Arc<Carrier>,
    control: &Control,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    catalog: Option<CatalogFile>,
) {
    let ship = shipper.clone();
    let stop = supervisor.stop().soft;
    supervisor.spawn(TaskSpec::essential("ship"), async move {
        ship.run(stop.cancelled()).await;
        Ok(())
    });
    let control = control.clone();
    every(supervisor, "refresh catalog", REFRESH_EVERY, move || {
        let control = control.clone();
        async move {
            if let Err(error) = control.refresh().await {
                tracing::warn!(%error, "changes of other processes could not be taken over");
            }
        }
    });
    let carrier = carrier.clone();
    every(supervisor, "carry quotas", REFRESH_EVERY, move || {
        let carrier = carrier.clone();
        async move { carrier.retry().await }
    });
    let retention = Arc::new(MinuteRetention::new(store.clone(), clock.clone()));
    every(supervisor, "drop minute buckets", RETAIN_EVERY, move || {
        let retention = retention.clone();
        async move {
            if let Err(error) = retention.reconcile().await {
                tracing::warn!(%error, "old minute buckets could not be dropped");
            }
        }
    });
    if let Some(catalog) = catalog {
        every(supervisor, "watch catalog", WATCH_EVERY, move || {
            let catalog = catalog.clone();
            async move { catalog.look(false).await }
        });
    }
}

/// Runs something again and again until the supervisor stops; each run ends before the next.
fn every<F>(
    supervisor: &Supervisor,
    name: &'static str,
    pause: Duration,
    run: impl Fn() -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    let stop = supervisor.stop().soft;
    let spec = TaskSpec {
        name: name.into(),
        on_cancel: OnCancel::Wait,
        on_error: OnError::Shutdown,
    };
    supervisor.spawn(spec, async move {
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => run().await,
            }
        }
    });
}

/// The catalog file: applied at start, and again whenever it changes. A file that does not hold
/// changes nothing; what was in force stays.
#[derive(Clone)]
pub struct CatalogFile {
    path: PathBuf,
    control: Control,
    seen: Arc<Mutex<Option<SystemTime>>>,
}

impl CatalogFile {
    /// Applies the file that the configuration names, if it names one, for the first time.
    ///
    /// # Errors
    /// When it cannot be read or does not hold.
    pub async fn find(config: &Config, control: &Control) -> anyhow::Result<Option<Self>> {
        let Some(path) = &config.catalog_file else {
            return Ok(None);
        };
        let file = Self {
            path: path.clone(),
            control: control.clone(),
            seen: Arc::new(Mutex::new(modified(path))),
        };
        file.read_and_apply().await?;
        Ok(Some(file))
    }

    /// Applies the file if it changed since the last look, or in any case.
    pub async fn look(&self, in_any_case: bool) {
        let mut seen = self.seen.lock().await;
        let now = modified(&self.path);
        if !in_any_case && (*seen == now || now.is_none()) {
            return;
        }
        *seen = now;
        match self.read_and_apply().await {
            Ok(()) => tracing::info!(file = %self.path.display(), "catalog applied"),
            Err(error) => tracing::error!(
                file = %self.path.display(),
                error = format!("{error:#}"),
                "the catalog file does not hold; the last good catalog stays in force",
            ),
        }
    }

    async fn read_and_apply(&self) -> anyhow::Result<()> {
        let text = tokio::fs::read_to_string(&self.path)
            .await
            .with_context(|| format!("{} cannot be read", self.path.display()))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        match self.control.apply_watched(&text, &name).await {
            Ok(_) => Ok(()),
            Err(ControlError::Invalid(problems)) => {
                let error = ConfigError {
                    path: self.path.clone(),
                    problems,
                };
                Err(Misconfigured::new(vec![error]).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}
