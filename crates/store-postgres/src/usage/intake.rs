//! The one lane that takes in events, and what it remembers between transactions.
//!
//! **Invariants.** Whoever changes usage locks the writer's row first (`usage_writer`), so taking in
//! goes one after the other, over all processes: `READ COMMITTED` is enough, nothing deadlocks, and
//! places rise in the order of commits. What is remembered equals what is on disk, or is forgotten:
//! the row's turn tells whether another process wrote since, and a failure, a commit whose answer
//! was lost, or a caller that goes away forgets all of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use tokio::sync::Mutex;
use tollgate_model::{Family, Timestamp};
use tollgate_store::IngestBatch;

use super::hot::HotBuckets;
use super::ingest;
use crate::columns::Columns;
use crate::days::{self, Day};
use crate::failure::{Failure, Worked};
use crate::lane::{Lane, Lease, Purpose};
use crate::options::Options;
use crate::target::Target;
use crate::{COMMAND, sql};

/// See the module.
#[derive(Debug)]
pub(crate) struct Intake {
    lane: Lane,
    remembered: Mutex<Remembered>,
}

/// What a transaction left behind.
#[derive(Default)]
pub(super) struct Remembered {
    /// The writer's row as we left it.
    turn: Option<i64>,
    pub(super) hot: HotBuckets,
    /// Days that have a partition.
    days: BTreeSet<Day>,
}

/// The writer's row.
pub(super) struct WriterRow {
    turn: i64,
    /// The last place that a record was given.
    pub(super) place: i64,
    /// The last number of a bucket.
    pub(super) bucket: i64,
}

impl WriterRow {
    /// Locks it until the end of the transaction.
    async fn lock(transaction: &Transaction<'_>) -> Worked<Self> {
        let lock = transaction.prepare_cached(sql::usage::LOCK_WRITER).await?;
        let row = transaction.query_opt(&lock, &[]).await?;
        let row = row.ok_or(Failure::Unreadable("writer's row"))?;
        let mut columns = Columns::of(&row);
        Ok(Self {
            turn: columns.get("turn")?,
            place: columns.get("place")?,
            bucket: columns.get("bucket")?,
        })
    }

    /// Writes it; the turn that it has now.
    async fn write(&self, transaction: &Transaction<'_>) -> Worked<i64> {
        let write = transaction.prepare_cached(sql::usage::MOVE_WRITER).await?;
        let row = transaction
            .query_one(&write, &[&self.place, &self.bucket])
            .await?;
        Columns::of(&row).get("turn")
    }
}

impl Intake {
    pub(crate) fn new(target: &Target, options: &Options) -> Worked<Self> {
        let purpose = Purpose {
            connections_max: 1,
            waiting_max: options.batches_max,
            // Its statements look rows up by their keys, whatever the tables' statistics say.
            settings: "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off \
                       -c enable_hashjoin=off -c enable_mergejoin=off",
        };
        Ok(Self {
            lane: Lane::new(target, options, &purpose)?,
            remembered: Mutex::default(),
        })
    }

    /// Takes in the first batches, until one does not fit; how many.
    pub(super) async fn take_in(&self, batches: &[Arc<IngestBatch>]) -> Worked<usize> {
        if batches.is_empty() {
            return Ok(0);
        }
        let _room = self.lane.room()?;
        let mut remembered = self.remembered.lock().await;
        // Put back at the end, if it comes to that.
        let mut ours = std::mem::take(&mut *remembered);
        self.make_days(&mut ours.days, batches).await?;
        let mut lease = self.lane.lease().await?;
        let within = self.lane.answer_timeout();
        let done = tokio::time::timeout(within, take_in(&mut lease, &mut ours, batches)).await;
        let done = self
            .lane
            .settle(lease, done.unwrap_or(Err(Failure::Silent)));
        if done.is_ok() {
            *remembered = ours;
        }
        done
    }

    /// Makes the partitions that these batches need, in a transaction of its own.
    async fn make_days(
        &self,
        known: &mut BTreeSet<Day>,
        batches: &[Arc<IngestBatch>],
    ) -> Worked<()> {
        let events = batches.iter().flat_map(|batch| &batch.events);
        let mut wanted: BTreeSet<Day> = events.map(|taken| Day::of(taken.event.at)).collect();
        wanted.retain(|day| !known.contains(day));
        if wanted.is_empty() {
            return Ok(());
        }
        let wanted = Arc::new(wanted);
        *known = self
            .lane
            .transact(COMMAND, move |transaction| {
                let wanted = Arc::clone(&wanted);
                Box::pin(async move { days::make(transaction, &wanted).await })
            })
            .await?;
        Ok(())
    }

    pub(super) async fn drop_minute_buckets(&self, before: Timestamp) -> Worked<u64> {
        let mut remembered = self.remembered.lock().await;
        *remembered = Remembered::default();
        self.lane
            .transact(COMMAND, move |transaction| {
                Box::pin(async move {
                    let row = WriterRow::lock(transaction).await?;
                    let sums = transaction
                        .prepare_cached(sql::usage::DROP_MINUTE_SUMS)
                        .await?;
                    let names = transaction
                        .prepare_cached(sql::usage::DROP_MINUTE_BUCKETS)
                        .await?;
                    let mut dropped = 0;
                    for family in Family::ALL {
                        let family = family.as_str();
                        transaction.execute(&sums, &[&family, &before.0]).await?;
                        dropped += transaction.execute(&names, &[&family, &before.0]).await?;
                    }
                    row.write(transaction).await?;
                    Ok(dropped)
                })
            })
            .await
    }
}

async fn take_in(
    lease: &mut Lease,
    ours: &mut Remembered,
    batches: &[Arc<IngestBatch>],
) -> Worked<usize> {
    let begin = lease.client()?.build_transaction();
    let transaction = begin.isolation_level(COMMAND).start().await?;
    let mut row = WriterRow::lock(&transaction).await?;
    if ours.turn != Some(row.turn) {
        ours.hot.forget();
    }
    match ingest::take_in(&transaction, &mut ours.hot, &mut row, batches).await {
        Ok(taken) => {
            ours.turn = Some(row.write(&transaction).await?);
            transaction.commit().await?;
            Ok(taken)
        }
        Err(failure) => {
            // Where this fails too, the connection is thrown away.
            transaction.rollback().await?;
            Err(failure)
        }
    }
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remembered")
            .field("turn", &self.turn)
            .field("days", &self.days.len())
            .finish_non_exhaustive()
    }
}
