//! The thread that writes checkpoints, forgets idle counters and shows how both are doing.
//!
//! It takes the shards of the counters one after the other, each under its own lock, so that no
//! request waits for more than one shard's copy.

use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tollgate_counters::SHARDS;
use tollgate_journal::{Journal, JournalError};
use tollgate_model::ShardSnapshot;

use crate::node::Node;
use crate::options::{CHECKPOINT_EVERY, CHECKPOINTS_PER_EVICTION};

/// What the thread is asked for.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    /// Nobody serves any more.
    ended: bool,
    stop: bool,
    /// Checkpoints that somebody waits for: the number of the last one asked for, and of the last
    /// one that was begun after it was asked for and has ended.
    wanted: u64,
    done: u64,
    /// How that one ended.
    written: bool,
}

impl Orders {
    /// Waits until a checkpoint is due or asked for: the number that it answers; `None` when it is
    /// time to end.
    fn next(&self) -> Option<u64> {
        let mut asked = self.asked.lock();
        if !asked.stop && asked.wanted == asked.done {
            self.changed.wait_for(&mut asked, CHECKPOINT_EVERY);
        }
        (!asked.stop).then_some(asked.wanted)
    }

    fn answer(&self, number: u64, written: bool) {
        let mut asked = self.asked.lock();
        asked.done = number;
        asked.written = written;
        drop(asked);
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.asked.lock().stop = true;
        self.changed.notify_all();
    }

    /// Whether nobody writes checkpoints any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.asked.lock().ended
    }

    fn end(&self) {
        self.asked.lock().ended = true;
        self.changed.notify_all();
    }

    /// Has a checkpoint written now and waits for it: whether what counters hold at this moment
    /// will be known after a kill. False also while the gateway ends. Blocks.
    pub(crate) fn write_now(&self) -> bool {
        let mut asked = self.asked.lock();
        asked.wanted += 1;
        let mine = asked.wanted;
        self.changed.notify_all();
        while asked.done < mine && !asked.ended {
            self.changed.wait(&mut asked);
        }
        asked.done >= mine && asked.written
    }
}

/// Tells who waits that the thread has ended, also by a panic.
struct Ended<'a>(&'a Node);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.orders.end();
    }
}

/// The running thread.
pub(crate) struct Checkpointer {
    node: Arc<Node>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    /// Starts it.
    pub(crate) fn start(node: &Arc<Node>, journal: &Arc<Journal>) -> std::io::Result<Self> {
        let thread = {
            let (node, journal) = (Arc::clone(node), Arc::clone(journal));
            std::thread::Builder::new()
                // Not `gateway-…`: tools count the threads of that name as those that serve.
                .name("journal-checkpoint".to_owned())
                .spawn(move || {
                    let _ended = Ended(&node);
                    run(&node, &journal);
                })?
        };
        Ok(Self {
            node: Arc::clone(node),
            thread,
        })
    }

    /// Ends it and waits for the checkpoint that it is writing.
    pub(crate) fn stop(self) {
        self.node.orders.stop();
        if self.thread.join().is_err() {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

fn run(node: &Node, journal: &Journal) {
    let mut round = 0u32;
    while let Some(asked) = node.orders.next() {
        let written = write(node, journal);
        node.orders.answer(asked, written.is_ok());
        if let Err(error) = written {
            tracing::error!(%error, "no checkpoint could be written; the one before holds");
        }
        node.metrics.show(
            &journal.status(),
            &journal.damage(),
            &node.counters.totals(),
        );
        round = round.wrapping_add(1);
        if round.is_multiple_of(CHECKPOINTS_PER_EVICTION) {
            let evicted = node.counters.evict(node.clock.now());
            tracing::debug!(evicted, "idle counters forgotten");
        }
    }
}

/// Writes the checkpoint of a stop; false where that failed. `quiet`: no thread runs any more, so
/// that what was granted and not spent can be returned.
pub(crate) fn write_last(node: &Node, journal: &Journal, quiet: bool) -> bool {
    if quiet {
        node.counters.return_grants();
    }
    let written = write(node, journal);
    if let Err(error) = &written {
        tracing::error!(%error, "no last checkpoint");
    }
    written.is_ok()
}

/// Writes a checkpoint of all counters.
pub(crate) fn write(node: &Node, journal: &Journal) -> Result<(), JournalError> {
    // With the latest wall time that was seen: the next start opens no period of before.
    let at = node.periods.at(node.clock.now());
    let shards: Vec<ShardSnapshot> = (0..SHARDS)
        .map_while(|shard| {
            let now = node.clock.now();
            node.counters
                .snapshot_shard(shard, now, &mut || node.positions())
        })
        .collect();
    fail::fail_point!("checkpoint-copied", |_| std::process::abort());
    let written = journal.write_checkpoint(at, &shards);
    fail::fail_point!("checkpoint-written", |_| std::process::abort());
    match &written {
        Ok(()) => node.metrics.checkpoints.inc(),
        Err(_) => node.metrics.checkpoint_failures.inc(),
    };
    written
}
