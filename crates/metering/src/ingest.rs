//! Makes a range of a stream ready for the store: folds it.
//!
//! The same for the local journal and, later, for batches that other gateways send.

use std::sync::{Arc, Mutex, PoisonError};

use tollgate_model::{Clock, Sequence, StreamId};
use tollgate_store::{IngestBatch, IngestedEvent};

use crate::{LabelValues, fold};

/// Folds ranges. Cheap to share behind an `Arc`.
pub struct Ingest {
    clock: Arc<dyn Clock>,
    labels: Mutex<LabelValues>,
}

impl Ingest {
    /// With no label values known.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            labels: Mutex::default(),
        }
    }

    /// Folds the events of `first..next` into a batch.
    #[must_use]
    pub fn prepare(
        &self,
        stream: StreamId,
        first: Sequence,
        next: Sequence,
        events: Vec<IngestedEvent>,
    ) -> IngestBatch {
        let folded = {
            let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
            fold(events.iter().map(|taken| &taken.event), &mut labels)
        };
        IngestBatch {
            stream,
            first,
            next,
            events,
            buckets: folded.buckets,
            periods: folded.periods,
            received_at: self.clock.now().wall,
        }
    }
}
