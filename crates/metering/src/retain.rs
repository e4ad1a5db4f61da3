//! Minute buckets are kept 48 hours; hours and days stay.

use std::sync::Arc;

use tollgate_model::{Clock, Grain, Timestamp};
use tollgate_store::UsageStore;

use crate::MeteringResult;

/// How long minute buckets are kept, in microseconds.
pub(crate) const MINUTES_KEPT_US: i64 = 48 * 3_600_000_000;
/// Questions trust minute buckets for an hour less than they are kept, so that none is dropped
/// while an answer is being read.
const MINUTES_MARGIN_US: i64 = 3_600_000_000;

/// From when on minute buckets can be relied on.
pub(crate) fn minutes_kept_from(now: Timestamp) -> Timestamp {
    now.plus_us(MINUTES_MARGIN_US - MINUTES_KEPT_US)
}

/// A reconciler: no input, idempotent, called now and then (every ten minutes is plenty).
pub struct MinuteRetention {
    store: Arc<dyn UsageStore>,
    clock: Arc<dyn Clock>,
}

impl MinuteRetention {
    /// Over a store.
    #[must_use]
    pub fn new(store: Arc<dyn UsageStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Drops minute buckets past their keep; the answer is how many.
    ///
    /// # Errors
    /// When the store fails; the next activation tries again.
    pub async fn reconcile(&self) -> MeteringResult<u64> {
        let now = self.clock.now().wall;
        let before = now
            .plus_us(-MINUTES_KEPT_US)
            .floor_to(Grain::Minute.span_us());
        let dropped = self.store.drop_minute_buckets(before).await?;
        if dropped > 0 {
            tracing::debug!(dropped, %before, "dropped minute buckets");
        }
        Ok(dropped)
    }
}
