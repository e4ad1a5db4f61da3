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
    /// How long there has been something that waits, in microseconds: since the latest moment
    /// of which everything is known to have been taken in, or since `started`. No event that waits is older. 0 while nothing waits.
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

#[cfg(test)]
mod tests {
    use tollgate_model::{NodeId, Sequence, StreamId};

    use super::super::Progress;
    use super::*;
    use crate::StreamEnd;

    #[test]
    fn caught_up_is_told_of_the_moment_whose_end_was_reached_and_of_no_later_one() {
        let stream = StreamId {
            node: NodeId::new("node-a"),
            epoch: 1,
            thread: 0,
        };
        let ends = |end| {
            [StreamEnd {
                stream: stream.clone(),
                end: Sequence(end),
            }]
        };
        let mut progress = Progress::default();
        let mut pass = |at, end, reached| {
            progress.await_ends(Timestamp(at), &ends(end));
            progress.marks.insert(stream.clone(), Sequence(reached));
            progress.note_caught_up();
            progress.status.caught_up_at
        };
        // What was appended last is not on disk yet, in every pass.
        assert_eq!(pass(10, 5, 3), None);
        assert_eq!(pass(20, 9, 5), Some(Timestamp(10)));
        assert_eq!(pass(30, 12, 9), Some(Timestamp(10)));
        assert_eq!(pass(40, 14, 12), Some(Timestamp(30)));
        // Nothing gets to disk.
        assert_eq!(pass(50, 15, 12), Some(Timestamp(30)));
        assert_eq!(pass(60, 15, 12), Some(Timestamp(30)));
    }
}
