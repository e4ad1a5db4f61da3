//! The sync thread's work: one round covers every stream with one `fdatasync` each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::fs::again;
use crate::live::{Active, LiveStream, Spare, SyncState};
use crate::shared::{Shared, lock};

/// A failed allocation is tried again after so many rounds.
const RETRY_ROUNDS: u32 = 20;
/// Segments that may go are looked for after so many rounds.
const PURGE_ROUNDS: u32 = 20;

/// Runs until the journal is closed.
pub(crate) fn run(shared: &Shared) {
    let every_us = shared.options.sync_every_us;
    let mut left_us = every_us;
    let mut rounds = 0u32;
    while shared.signal.wait(Duration::from_micros(left_us)) {
        let started = shared.clock.now().ticks;
        rounds = rounds.wrapping_add(1);
        shared.round(rounds.is_multiple_of(RETRY_ROUNDS));
        if rounds.is_multiple_of(PURGE_ROUNDS) {
            shared.purge(None);
        }
        // Rounds start at the stated interval, however long they take.
        let took = shared.clock.now().ticks.since(started);
        left_us = every_us.saturating_sub(took).max(1);
    }
}

impl Shared {
    /// Syncs every stream, writes again what failed before, and sees that each stream has its
    /// next segment. `retry`: also where allocating failed before.
    pub(crate) fn round(&self, retry: bool) {
        let _round = lock(&self.round);
        let started = self.clock.now().ticks;
        let mut all = true;
        let mut moved = false;
        for live in &self.live {
            let before = live.state.borrow().synced;
            all &= live.sync(self, retry);
            moved |= live.state.borrow().synced != before;
        }
        if all {
            self.synced_at.store(started.0, Ordering::Relaxed);
        }
        if moved {
            self.progress.send_modify(|count| *count += 1);
        }
        for live in &self.live {
            live.replenish(self, retry);
        }
    }
}

impl LiveStream {
    /// Whether everything appended before the call is on disk.
    fn sync(&self, shared: &Shared, retry: bool) -> bool {
        let (target, full, active) = {
            let mut inner = lock(&self.inner);
            if inner.closed {
                return !inner.failed;
            }
            if inner.failed && !retry {
                return false;
            }
            if inner.failed {
                let done = self.rewrite(shared, &mut inner);
                return self.settle(&mut inner, done);
            }
            if inner.waiting.bytes.is_empty() && inner.retired.is_empty() {
                return true;
            }
            // `syncing` is empty here: rounds are one at a time and each ends with it empty.
            let inner = &mut *inner;
            std::mem::swap(&mut inner.waiting, &mut inner.syncing);
            inner.waiting.totals = inner.totals;
            let full = std::mem::take(&mut inner.retired);
            (inner.next, full, inner.active.clone())
        };
        let mut files = full.iter().chain(&active);
        let result = files.try_for_each(|active| again(|| active.file.sync_data()));
        let mut inner = lock(&self.inner);
        let Err(error) = result else {
            inner.syncing.bytes.clear();
            // A failure meanwhile concerns later records only.
            let failed = inner.failed;
            self.state.send_replace(SyncState {
                synced: target,
                failed,
            });
            drop(inner);
            give_back_tails(shared, &full);
            return true;
        };
        tracing::error!(%error, thread = self.stream.id.thread,
            "journal sync failed; writing everything since the last one again");
        let done = self.rewrite(shared, &mut inner);
        self.settle(&mut inner, done)
    }

    /// After writing everything again, or failing to.
    fn settle(&self, inner: &mut crate::live::Inner, done: std::io::Result<()>) -> bool {
        match done {
            Ok(()) => {
                tracing::info!(thread = self.stream.id.thread, "journal is whole again");
                self.state.send_replace(SyncState {
                    synced: inner.next,
                    failed: false,
                });
                true
            }
            Err(error) => {
                self.fail(inner, &error);
                false
            }
        }
    }

    /// Keeps one segment allocated beyond the one in use.
    pub(crate) fn replenish(&self, shared: &Shared, retry: bool) {
        let index = {
            let mut inner = lock(&self.inner);
            let wanted = match inner.full {
                Some(_) => retry,
                None => inner.spares.is_empty(),
            };
            if inner.closed || !wanted {
                return;
            }
            inner.take_index()
        };
        match self.allocate(shared, index, 0) {
            Ok(spare) => self.keep_spare(shared, spare),
            Err(reason) => lock(&self.inner).set_full(reason),
        }
    }

    /// Holds a segment ready, in the order of indexes, as a segment of a higher index voids what
    /// those of lower ones hold from its first record on. The writer may not have waited for this
    /// one and be in a later one already: then it goes.
    pub(crate) fn keep_spare(&self, shared: &Shared, spare: Spare) {
        let mut inner = lock(&self.inner);
        inner.full = None;
        if inner.closed || spare.name.index < inner.used_index {
            drop(inner);
            shared.discard(&spare.path, shared.options.segment_bytes);
            return;
        }
        let later = |held: &Spare| held.name.index > spare.name.index;
        let place = inner.spares.iter().position(later);
        let place = place.unwrap_or(inner.spares.len());
        inner.spares.insert(place, spare);
    }
}

/// Full segments keep only what they use.
pub(crate) fn give_back_tails(shared: &Shared, full: &[Active]) {
    for active in full {
        if again(|| active.file.truncate(active.offset)).is_ok() {
            let before = active
                .segment
                .disk_bytes
                .swap(active.offset, Ordering::Relaxed);
            shared.disk.give_back(before.saturating_sub(active.offset));
        }
    }
}

/// Nothing gets to disk any more once the thread has died: nobody may wait for it.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = std::io::Error::other("the sync thread died");
            for live in &self.0.live {
                live.fail(&mut lock(&live.inner), &error);
            }
        }
    }
}

/// Starts the thread.
pub(crate) fn spawn(shared: &Arc<Shared>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("journal-sync".to_owned())
        .spawn(move || {
            let _ended = Ended(&shared);
            run(&shared);
        })
}
