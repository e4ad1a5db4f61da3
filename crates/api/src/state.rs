//! What handlers work with.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;
use tollgate_control::Control;
use tollgate_metering::Metering;
use tollgate_model::{Clock, Decisions, IdGen};
use tollgate_store::Store;

use crate::call_limit::CallLimit;
use crate::idempotency::Replays;
use crate::metrics::ApiMetrics;
use crate::options::Options;

/// Why what waits could not be made visible; the text is shown to the caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct FlushError(pub String);

/// Ships and folds what waits in the gateways' journals.
pub trait Flush: Send + Sync {
    /// Ready when everything answered before the call is visible in statistics.
    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>>;
}

/// What the API is built from.
pub struct ApiParts {
    /// Keys and catalog.
    pub control: Control,
    /// Usage questions.
    pub metering: Metering,
    /// The gateway's admission.
    pub decisions: Arc<dyn Decisions>,
    /// What is kept; for the audit trail.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Request ids.
    pub ids: Arc<dyn IdGen>,
    /// Makes what waits visible.
    pub flush: Arc<dyn Flush>,
    /// What is measured.
    pub metrics: ApiMetrics,
    /// Bounds.
    pub options: Options,
}

/// Calls a second that one address may make with no more than a key.
const OPEN_CALLS_MAX: usize = 10;
/// Addresses that are counted apart.
const OPEN_ADDRESSES_MAX: usize = 10_000;

struct Inner {
    parts: ApiParts,
    replays: Arc<Replays>,
    tasks: TaskTracker,
    call_limit: CallLimit,
}

/// What handlers work with; clones share it.
#[derive(Clone)]
pub struct ApiState(Arc<Inner>);

impl ApiState {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: ApiParts) -> Self {
        let replays = Replays::new(parts.options.replays_max, parts.options.replay_bytes_max);
        Self(Arc::new(Inner {
            parts,
            replays: Arc::new(replays),
            tasks: TaskTracker::new(),
            call_limit: CallLimit::new(OPEN_CALLS_MAX, OPEN_ADDRESSES_MAX),
        }))
    }

    /// Waits until every change that was begun has ended. To be called at the end, after no more
    /// connections are served and before the store is closed.
    pub async fn finish(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    pub(crate) fn control(&self) -> &Control {
        &self.0.parts.control
    }

    pub(crate) fn metering(&self) -> &Metering {
        &self.0.parts.metering
    }

    pub(crate) fn decisions(&self) -> &dyn Decisions {
        self.0.parts.decisions.as_ref()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.0.parts.store.as_ref()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.0.parts.clock.as_ref()
    }

    pub(crate) fn ids(&self) -> &dyn IdGen {
        self.0.parts.ids.as_ref()
    }

    pub(crate) fn flush(&self) -> &dyn Flush {
        self.0.parts.flush.as_ref()
    }

    pub(crate) fn metrics(&self) -> &ApiMetrics {
        &self.0.parts.metrics
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.parts.options
    }

    pub(crate) fn replays(&self) -> &Arc<Replays> {
        &self.0.replays
    }

    pub(crate) fn call_limit(&self) -> &CallLimit {
        &self.0.call_limit
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }
}
