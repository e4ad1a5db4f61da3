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

/// Tells the thread to end.
#[derive(Debug, Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for the next checkpoint; false when it is time to end.
    fn wait(&self) -> bool {
        let mut asked = self.asked.lock();
        if !*asked {
            self.changed.wait_for(&mut asked, CHECKPOINT_EVERY);
        }
        !*asked
    }

    fn ask(&self) {
        *self.asked.lock() = true;
        self.changed.notify_all();
    }
}

/// The running thread.
pub(crate) struct Checkpointer {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    /// Starts it.
    pub(crate) fn start(node: &Arc<Node>, journal: &Arc<Journal>) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let thread = {
            let (node, journal) = (Arc::clone(node), Arc::clone(journal));
            let stop = Arc::clone(&stop);
            std::thread::Builder::new()
                // Not `gateway-…`: tools count the threads of that name as those that serve.
                .name("journal-checkpoint".to_owned())
                .spawn(move || run(&node, &journal, &stop))?
        };
        Ok(Self { stop, thread })
    }

    /// Ends it and waits for the checkpoint that it is writing.
    pub(crate) fn stop(self) {
        self.stop.ask();
        if self.thread.join().is_err() {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

fn run(node: &Node, journal: &Journal, stop: &Stop) {
    let mut round = 0u32;
    while stop.wait() {
        if let Err(error) = write(node, journal) {
            tracing::error!(%error, "no checkpoint could be written; the one before holds");
        }
        node.metrics
            .show(&journal.status(), &node.counters.totals());
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
    let at = node.clock.now();
    let shards: Vec<ShardSnapshot> = (0..SHARDS)
        .map_while(|shard| {
            let now = node.clock.now();
            node.counters
                .snapshot_shard(shard, now, &mut || node.positions())
        })
        .collect();
    let written = journal.write_checkpoint(at, &shards);
    match &written {
        Ok(()) => node.metrics.checkpoints.inc(),
        Err(_) => node.metrics.checkpoint_failures.inc(),
    };
    written
}
