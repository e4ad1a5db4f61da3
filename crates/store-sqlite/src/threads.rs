//! The threads that hold connections: one writes, some read, one checkpoints.
//!
//! **Invariant.** A thread that ends, for whatever reason, closes its queue, so that callers are
//! answered instead of waiting for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tollgate_store::Entity;

use crate::connection::Checkpointer;
use crate::failure::{Failure, Worked};
use crate::queue::Queue;
use crate::writer::Writer;

/// Pages in the log from which on it is checkpointed (32 MiB). Pages that many batches change are
/// copied into the database once per checkpoint, so this is not small.
const LOG_PAGES_CHECKPOINT: i32 = 8_192;

/// Handles of all threads; joined when the store is dropped.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts the thread that checkpoints when it is sent the log's size.
    pub(crate) fn start_checkpointer(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Worked<SyncSender<i32>> {
        let (nudge, nudged) = sync_channel(1);
        self.start("store-checkpoint", move || {
            checkpoint_when_nudged(&checkpointer, &nudged);
        })?;
        Ok(nudge)
    }

    /// Starts the thread that writes.
    pub(crate) fn start_writer(
        &mut self,
        mut connection: Connection,
        queue: &Arc<Queue<Writer>>,
        nudge: SyncSender<i32>,
    ) -> Worked<()> {
        let log_pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&log_pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let queue = Arc::clone(queue);
        let mut writer = Writer::new(connection);
        self.start("store-writer", move || {
            let queue = AbandonedAtEnd(queue);
            while let Some(job) = queue.0.pop() {
                job(&mut writer);
                let pages = log_pages.swap(0, Ordering::Relaxed);
                if pages >= LOG_PAGES_CHECKPOINT {
                    // Where one nudge waits already, another adds nothing.
                    nudge.try_send(pages).ok();
                }
            }
            // The checkpointer ends when there are no more nudges, and closes after this.
            drop(writer);
            drop(nudge);
        })
    }

    /// Starts one thread that reads.
    pub(crate) fn start_reader(
        &mut self,
        n: usize,
        mut connection: Connection,
        queue: &Arc<Queue<Connection>>,
    ) -> Worked<()> {
        let queue = Arc::clone(queue);
        self.start(&format!("store-read-{n}"), move || {
            let queue = AbandonedAtEnd(queue);
            while let Some(job) = queue.0.pop() {
                job(&mut connection);
            }
        })
    }

    /// Waits for all threads, which end when their queues are closed.
    pub(crate) fn join(&mut self) {
        // The writer was started after the checkpointer and holds its channel: join it first.
        for handle in self.handles.drain(..).rev() {
            if handle.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }

    fn start(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Worked<()> {
        let thread = Builder::new().name(name.to_owned()).spawn(run);
        self.handles.push(thread.map_err(Failure::Thread)?);
        Ok(())
    }
}

struct AbandonedAtEnd<C>(Arc<Queue<C>>);

impl<C> Drop for AbandonedAtEnd<C> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn checkpoint_when_nudged(checkpointer: &Checkpointer, nudged: &Receiver<i32>) {
    for log_pages in nudged {
        if let Err(error) = checkpointer.checkpoint() {
            let error = error.about(Entity::Database);
            tracing::warn!(%error, log_pages, "the store's log was not checkpointed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, connection};

    #[test]
    fn the_log_begins_anew_once_all_of_it_is_in_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mut writer = connection::open_writer(&path, &Options::default()).unwrap();
        let checkpointer = Checkpointer::open(&path).unwrap();
        let pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&pages);
        writer
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
                seen.store(pages, Ordering::Relaxed);
                Ok(())
            }))
            .unwrap();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        let add = "INSERT INTO t VALUES (randomblob(100000))";
        for _ in 0..5 {
            writer.execute_batch(add).unwrap();
        }
        let grown = pages.load(Ordering::Relaxed);
        assert!(grown > 100, "the writer does not checkpoint on its own");
        checkpointer.checkpoint().unwrap();
        writer.execute_batch(add).unwrap();
        assert!(pages.load(Ordering::Relaxed) < grown);
    }

    #[test]
    fn a_thread_that_ends_early_answers_its_callers() {
        let queue = Arc::new(Queue::new(9, 9));
        let mut threads = Threads::default();
        let connection = Connection::open_in_memory().unwrap();
        threads.start_reader(0, connection, &queue).unwrap();
        let dies = Box::new(|_: &mut Connection| panic!("on purpose"));
        queue.try_push(crate::queue::Lane::Command, dies).unwrap();
        threads.join();
        let late = queue.try_push(crate::queue::Lane::Command, Box::new(|_| ()));
        assert!(matches!(late, Err(Failure::Stopped)));
    }
}
