//! Which segments may go, and what must outlive them.
//!
//! A segment goes when the platform has confirmed all of it, both checkpoints cover it, and it is
//! older than `keep`; when the disk runs out, without the last condition. Before the first file
//! is unlinked the ledger says so durably, with the totals of streams that go altogether.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use prost::Message;

use crate::OutcomeTotals;
use crate::checkpoint::covered;
use crate::fs::again;
use crate::shared::{Shared, lock};
use crate::stream::{Segment, Stream};
use crate::twin::Twin;
use crate::wire::{Ledger, LedgerStream, TotalsMessage};

/// Most streams without segments that are listed one by one; older ones are summed up.
const GONE_MAX: usize = 4_096;

/// The ledger file, and what it says of streams that have no segments any more.
#[derive(Debug)]
pub(crate) struct LedgerKeeper {
    pub twin: Twin,
    /// Oldest first.
    pub gone: VecDeque<LedgerStream>,
    pub retired: OutcomeTotals,
    pub retired_streams: u64,
    /// What all streams had shipped when the file was written last.
    pub shipped_told: u64,
}

impl LedgerKeeper {
    fn push_gone(&mut self, stream: LedgerStream) {
        self.gone.push_back(stream);
        while self.gone.len() > GONE_MAX {
            if let Some(oldest) = self.gone.pop_front() {
                self.retired_streams += 1;
                let totals = oldest.totals.as_ref().map(TotalsMessage::read);
                self.retired.merge(&totals.unwrap_or_default());
            }
        }
    }

    fn file(&self, streams: &[Arc<Stream>]) -> Ledger {
        let kept = streams.iter().map(|stream| stream.to_ledger());
        Ledger {
            streams: self.gone.iter().cloned().chain(kept).collect(),
            retired: Some(TotalsMessage::of(&self.retired)),
            retired_streams: self.retired_streams,
        }
    }
}

/// The oldest segments of a stream that go together.
struct Victims {
    stream: Arc<Stream>,
    segments: Vec<Arc<Segment>>,
    kept_from: u64,
    /// Of all events before `kept_from`, where the stream has not ended.
    kept_totals: OutcomeTotals,
}

impl Victims {
    fn bytes(&self) -> u64 {
        let sizes = self.segments.iter();
        sizes
            .map(|segment| segment.disk_bytes.load(Ordering::Relaxed))
            .sum()
    }
}

impl Shared {
    /// Writes the ledger as things stand.
    pub(crate) fn store_ledger(&self, ledger: &mut LedgerKeeper) -> std::io::Result<()> {
        let file = ledger.file(&self.all_streams());
        let bytes = file.encode_to_vec();
        ledger.twin.store(&*self.fs, &self.options.dir, &bytes)
    }

    /// Writes down what the platform has confirmed, so that the next start notices where it has
    /// forgotten some of it.
    pub(crate) fn tell_shipped(&self) {
        let shipped = self
            .all_streams()
            .into_iter()
            .map(|stream| stream.shipped());
        let shipped = shipped.sum();
        let mut ledger = lock(&self.ledger);
        if ledger.shipped_told == shipped {
            return;
        }
        match self.store_ledger(&mut ledger) {
            Ok(()) => ledger.shipped_told = shipped,
            Err(error) => tracing::warn!(%error, "cannot write the journal's ledger"),
        }
    }

    /// Deletes what may go. With `wanted` bytes: oldest first until so many are free, whatever
    /// their age. Whether anything was deleted.
    pub(crate) fn purge(&self, wanted: Option<u64>) -> bool {
        let mut ledger = lock(&self.ledger);
        let mut victims = Vec::new();
        let mut left = wanted;
        for stream in self.all_streams() {
            if left == Some(0) {
                break;
            }
            if let Some(found) = self.victims(&stream, &mut left) {
                victims.push(found);
            }
        }
        // Also what could not be deleted before.
        let mut doomed = std::mem::take(&mut *lock(&self.doomed));
        if victims.is_empty() && doomed.is_empty() {
            return false;
        }
        for found in &victims {
            *lock(&found.stream.kept_totals) = found.kept_totals;
            let kept_from = &found.stream.kept_from;
            kept_from.fetch_max(found.kept_from, Ordering::Release);
            doomed.extend(found.segments.iter().map(|segment| {
                let bytes = segment.disk_bytes.load(Ordering::Relaxed);
                (segment.path.clone(), bytes)
            }));
        }
        self.unlist(&mut ledger, &victims);
        if let Err(error) = self.store_ledger(&mut ledger) {
            tracing::error!(%error, "cannot write the journal's ledger; segments stay");
            lock(&self.doomed).extend(doomed);
            return false;
        }
        for (path, bytes) in doomed {
            self.discard(&path, bytes);
        }
        if let Err(error) = again(|| self.fs.sync_dir(&self.options.dir)) {
            tracing::warn!(%error, "cannot sync the journal's folder");
        }
        true
    }

    fn victims(&self, stream: &Arc<Stream>, left: &mut Option<u64>) -> Option<Victims> {
        let covered = covered(&self.covers, stream.id.epoch, stream.id.thread);
        let sealed = stream.sealed.get().is_some();
        // A stream that is being written keeps a segment with a record that is surely on disk, and
        // with it the header that knows the totals.
        let covered = if sealed {
            covered
        } else {
            covered.saturating_sub(1)
        };
        let may_go = stream.shipped().min(covered);
        let now = self.clock.now().ticks;
        let segments = stream.segments();
        let mut found = Victims {
            stream: Arc::clone(stream),
            segments: Vec::new(),
            kept_from: stream.kept_from(),
            kept_totals: *lock(&stream.kept_totals),
        };
        for (place, segment) in segments.iter().enumerate() {
            let later = segments.get(place + 1..).unwrap_or_default();
            if later.is_empty() && !sealed || *left == Some(0) {
                break;
            }
            let end = later.iter().map(|segment| segment.first).min();
            let end = end.unwrap_or_else(|| stream.written());
            let age = now.since(tollgate_model::Ticks(
                segment.last_tick.load(Ordering::Relaxed),
            ));
            if end > may_go || (left.is_none() && age < self.options.keep_us) {
                break;
            }
            let bytes = segment.disk_bytes.load(Ordering::Relaxed);
            *left = left.map(|left| left.saturating_sub(bytes));
            found.kept_from = found.kept_from.max(end);
            let next = later.iter().min_by_key(|segment| segment.first);
            let totals = next.and_then(|segment| segment.totals);
            found.kept_totals = totals.unwrap_or(found.kept_totals);
            found.segments.push(Arc::clone(segment));
        }
        (!found.segments.is_empty()).then_some(found)
    }

    /// Takes the segments off the lists, and streams that have none left.
    fn unlist(&self, ledger: &mut LedgerKeeper, victims: &[Victims]) {
        for found in victims {
            found.stream.drop_oldest(found.segments.len());
            tracing::info!(stream = ?found.stream.id, kept_from = found.kept_from,
                bytes = found.bytes(), "journal segments deleted");
            if found.stream.sealed.get().is_some() && found.stream.segments().is_empty() {
                ledger.push_gone(found.stream.to_ledger());
                self.streams
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&found.stream.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::testing::FaultyDisk;

    #[test]
    fn as_many_streams_as_fit_are_listed_and_the_oldest_beyond_are_summed_up() {
        let disk = FaultyDisk::default();
        let mut keeper = LedgerKeeper {
            twin: Twin::load(&*disk.mount(), Path::new("/journal"), "ledger").twin,
            gone: VecDeque::new(),
            retired: OutcomeTotals::default(),
            retired_streams: 0,
            shipped_told: 0,
        };
        let most = GONE_MAX as u64;
        for epoch in 0..most + 2 {
            let mut totals = OutcomeTotals::default();
            totals.add(tollgate_model::Outcome::Forwarded, epoch + 1);
            keeper.push_gone(LedgerStream {
                epoch,
                next: 1,
                totals: Some(TotalsMessage::of(&totals)),
                ..LedgerStream::default()
            });
            let (retired, oldest) = (keeper.retired_streams, keeper.gone.front());
            assert_eq!(retired, (epoch + 1).saturating_sub(most));
            assert_eq!(oldest.map(|stream| stream.epoch), Some(retired));
        }
        assert_eq!(keeper.gone.len(), GONE_MAX);
        assert_eq!(keeper.retired.events_sum(), 2);
        assert_eq!(keeper.retired.units.iter().sum::<u64>(), 1 + 2);
    }
}
