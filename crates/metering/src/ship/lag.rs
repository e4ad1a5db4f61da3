//! How far the numbers are behind the answers.

use tollgate_model::Timestamp;

use super::Shipper;
use crate::SourceError;

/// How far shipping is behind the journal at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShipLag {
    /// Journal entries that no batch has taken in: events, and the grants and progress between
    /// them.
    pub entries: u64,
    /// How long there has been something that waits, in microseconds: since the journal's end was
    /// last reached, or since `started`. No event that waits is older. 0 while nothing waits.
    pub us: u64,
}

impl Shipper {
    /// The lag now, from what the journal holds and the marks as last known: it rises too while the
    /// store is away. Looks at the journal's streams, and may block on files.
    ///
    /// # Errors
    /// When the journal cannot be listed.
    pub fn lag(&self, started: Timestamp) -> Result<ShipLag, SourceError> {
        let now = self.clock.now().wall;
        let ends = self.source.streams()?;
        let (entries, caught_up_at) = self.progress_mut(|progress| {
            let waits = ends.iter().map(|end| {
                let mark = progress.marks.get(&end.stream).copied().unwrap_or_default();
                end.end.0.saturating_sub(mark.0)
            });
            (waits.sum(), progress.status.caught_up_at)
        });
        let since = caught_up_at.unwrap_or(started);
        let us = match entries {
            0 => 0,
            _ => now.since(since).max(0).unsigned_abs(),
        };
        Ok(ShipLag { entries, us })
    }
}
