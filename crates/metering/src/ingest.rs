//! Takes a range of a stream into the store: fold, then one transaction.
//!
//! The same for the local journal and, later, for batches that other gateways send.

use std::sync::{Arc, Mutex, PoisonError};

use tollgate_model::{Clock, Sequence, StreamId};
use tollgate_store::{IngestBatch, IngestedEvent, StoreResult, UsageStore};

use crate::{LabelValues, fold};

/// Takes ranges in. Cheap to share behind an `Arc`.
pub struct Ingest {
    store: Arc<dyn UsageStore>,
    clock: Arc<dyn Clock>,
    labels: Mutex<LabelValues>,
}

impl Ingest {
    /// Over a store.
    #[must_use]
    pub fn new(store: Arc<dyn UsageStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            labels: Mutex::default(),
        }
    }

    /// Folds the events of `first..next` and takes them in, all or nothing.
    ///
    /// # Errors
    /// `Conflict` when `first` is not the stream's mark; what the store says otherwise.
    pub async fn take(
        &self,
        stream: &StreamId,
        first: Sequence,
        next: Sequence,
        events: Vec<IngestedEvent>,
    ) -> StoreResult<()> {
        // The lock ends with this block, before the store is awaited.
        let folded = {
            let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
            fold(events.iter().map(|taken| &taken.event), &mut labels)
        };
        self.store
            .ingest(IngestBatch {
                stream: stream.clone(),
                first,
                next,
                events,
                buckets: folded.buckets,
                periods: folded.periods,
                received_at: self.clock.now().wall,
            })
            .await
    }
}
