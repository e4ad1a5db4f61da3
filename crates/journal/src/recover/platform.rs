//! What the platform has taken in of this gateway, against what the folder knows.
//!
//! A folder that knows less than the platform is not the one that was used last: it was deleted,
//! an older copy was put back, or it is a copy of another gateway's. What was used since is in part
//! known to nobody, so the history counts as incomplete, and the new epoch lies above all that the
//! platform knows. A platform that knows less than the folder has lost what it had confirmed.

use std::sync::atomic::Ordering;

use tollgate_model::{NodeId, Sequence, StreamId};

use super::Recovery;

impl Recovery {
    /// Compares. The answer is the highest epoch that the platform knows of this gateway, 0 where
    /// it knows none.
    pub(crate) fn compare(&mut self, node: &NodeId, marks: &[(StreamId, Sequence)]) -> u64 {
        let own = |stream: &StreamId| self.fresh || self.is_own(node, &stream.node);
        let own: Vec<_> = marks.iter().filter(|(stream, _)| own(stream)).collect();
        let epoch = own.iter().map(|(stream, _)| stream.epoch).max();
        let epoch = epoch.unwrap_or(0);
        let newest = self.newest_epoch();
        let ahead = own.iter().any(|(stream, mark)| {
            // Older streams may be forgotten; only what is on disk is shipped.
            let newer = stream.epoch > self.epoch_seen;
            newer || stream.epoch >= newest && mark.0 > self.end_of(stream)
        });
        if ahead {
            self.complete = false;
            tracing::error!(
                platform_epoch = epoch,
                folder_epoch = self.epoch_seen,
                "the store has entries of this gateway that its journal folder does not know: the \
                 folder was deleted, an older copy was put back, or it is a copy of another \
                 gateway's; what was used since and had not reached the store is known to nobody. \
                 If the folder that was used last still exists, stop, put it back, and start again"
            );
        }
        self.tell_what_platform_lacks(marks);
        epoch
    }

    fn is_own(&self, node: &NodeId, other: &NodeId) -> bool {
        let gone = self.ledger.gone.iter().map(|gone| gone.node.as_str());
        let mut names = self.streams.keys().map(|id| id.node.as_str()).chain(gone);
        node == other || names.any(|name| name == other.as_str())
    }

    /// Of the lives that left entries.
    fn newest_epoch(&self) -> u64 {
        let gone = self.ledger.gone.iter().map(|gone| gone.epoch);
        let epochs = self.streams.keys().map(|id| id.epoch).chain(gone);
        epochs.max().unwrap_or(0)
    }

    /// One beyond the last entry that the folder knows of a stream.
    fn end_of(&self, stream: &StreamId) -> u64 {
        // By number: the name in a damaged header cannot be read.
        let place = (stream.epoch, stream.thread);
        let kept = self
            .streams
            .iter()
            .filter(|(id, _)| (id.epoch, id.thread) == place);
        let kept = kept.map(|(_, stream)| stream.written());
        let gone = self.ledger.gone.iter();
        let gone = gone.filter(|gone| (gone.epoch, gone.thread) == (place.0, u32::from(place.1)));
        kept.chain(gone.map(|gone| gone.next)).max().unwrap_or(0)
    }

    fn tell_what_platform_lacks(&self, marks: &[(StreamId, Sequence)]) {
        let (mut lacking, mut kept) = (0, 0);
        for (id, stream) in &self.streams {
            let mark = marks.iter().find(|(marked, _)| marked == id);
            let mark = mark.map_or(0, |(_, next)| next.0);
            let shipped = stream.shipped.load(Ordering::Acquire);
            let kept_from = stream.kept_from.load(Ordering::Acquire);
            lacking += shipped.saturating_sub(mark);
            kept += shipped.saturating_sub(mark.max(kept_from));
        }
        if lacking > 0 {
            tracing::error!(
                entries = lacking,
                shipped_again = kept,
                "the store lacks journal entries that it had confirmed: it is an older copy, \
                 another one, or a new one. What the journal still keeps is shipped again; keys, \
                 plans and settings are as that copy has them, so revoke again what was revoked \
                 since, or stop and put the right store back"
            );
        }
    }
}
