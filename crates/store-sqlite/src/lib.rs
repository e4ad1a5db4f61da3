//! The SQLite adapter: SQL, rows, migrations, nothing else.
//!
//! **Owns** one file in WAL mode and the threads that work on it: `store-writer` with the one
//! connection that writes, `store-read-N`, and `store-checkpoint`.
//!
//! **Invariants.** One port method is one transaction, begun with the write lock held
//! (`BEGIN IMMEDIATE`); commands go before batches; a commit is on disk (`synchronous = FULL`)
//! before its caller is answered. A caller that goes away does not undo what it asked for. Queues
//! are bounded: when one is full, the answer is `Unavailable` at once. Long scans of records are
//! cut into slices, each a read transaction of its own, so that the log can be checkpointed.
//!
//! **Does not own** rules, times or ids: it keeps what it is given. A second process may use the
//! same file; each waits for the other's lock for a bounded time, then answers `Unavailable`.

mod calls;
mod catalog;
mod columns;
mod connection;
mod failure;
mod key_rows;
mod keys;
mod migrate;
mod options;
mod queue;
mod settings;
mod sql;
mod threads;
mod tokens;
mod usage;
mod writer;

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use tokio::sync::oneshot;
use tollgate_store::{Entity, StoreResult};

pub use options::Options;

use failure::{Failure, Worked};
use queue::{Job, Lane, Queue};
use threads::Threads;
use writer::Writer;

/// Tells a long read whether anybody still waits for it.
type Gone<'a> = &'a dyn Fn() -> bool;

/// A store in one SQLite file. Dropping it ends its threads once they have done what waits.
#[derive(Debug)]
pub struct SqliteStore {
    writes: Arc<Queue<Writer>>,
    reads: Arc<Queue<Connection>>,
    /// Those that read.
    readers: Threads,
    /// The one that writes, and the one that checkpoints.
    writers: Threads,
}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened or is locked for longer than
    /// [`Options::busy_timeout_ms`]; `Corrupt` when it is no database, was migrated by a newer
    /// version of Tollgate, or by other migrations than ours.
    pub fn open(path: &Path, options: &Options) -> StoreResult<Self> {
        Self::open_inner(path, options).map_err(|failure| failure.about(Entity::Database))
    }

    fn open_inner(path: &Path, options: &Options) -> Worked<Self> {
        let mut writer = connection::open_writer(path, options)?;
        migrate::migrate(&mut writer)?;
        let checkpointer = connection::Checkpointer::open(path)?;
        let readers = (0..options.readers.max(1))
            .map(|_| connection::open_reader(path, options))
            .collect::<Worked<Vec<Connection>>>()?;
        let writes = Arc::new(Queue::new(options.commands_max, options.batches_max));
        let reads = Arc::new(Queue::new(options.reads_max, 0));
        let (mut reading, mut writing) = (Threads::default(), Threads::default());
        let nudge = writing.start_checkpointer(checkpointer)?;
        writing.start_writer(writer, &writes, nudge)?;
        for (n, reader) in readers.into_iter().enumerate() {
            reading.start_reader(n, reader, &reads)?;
        }
        Ok(Self {
            writes,
            reads,
            readers: reading,
            writers: writing,
        })
    }

    /// Runs `work` in a transaction of the writer and answers once it is on disk.
    async fn write<T, F>(&self, lane: Lane, entity: Entity, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Worked<T> + Send + 'static,
    {
        self.run(lane, entity, |writer| writer.transact(work)).await
    }

    /// Runs `work` on the writing thread.
    async fn run<T, F>(&self, lane: Lane, entity: Entity, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Writer) -> Worked<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job<Writer> = Box::new(move |writer| {
            // A caller that has gone away needs no answer.
            drop(answer.send(work(writer)));
        });
        self.writes
            .try_push(lane, job)
            .map_err(|failure| failure.about(entity))?;
        let done = answered.await.unwrap_or(Err(Failure::Stopped));
        done.map_err(|failure| failure.about(entity))
    }

    /// Runs `work` on a reading connection.
    async fn read<T, F>(&self, entity: Entity, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, Gone<'_>) -> Worked<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job<Connection> = Box::new(move |connection| {
            if !answer.is_closed() {
                let done = work(connection, &|| answer.is_closed());
                drop(answer.send(done));
            }
        });
        self.reads
            .try_push(Lane::Command, job)
            .map_err(|failure| failure.about(entity))?;
        let done = answered.await.unwrap_or(Err(Failure::Stopped));
        done.map_err(|failure| failure.about(entity))
    }
}

impl Drop for SqliteStore {
    /// One connection after the other: the last to close takes the log into the database, and of
    /// two that close at once neither is the last.
    fn drop(&mut self) {
        self.reads.close();
        self.readers.join();
        self.writes.close();
        self.writers.join();
    }
}
