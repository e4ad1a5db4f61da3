//! The buckets that were added to last, as they are on disk.
//!
//! Every batch adds to thousands of buckets, most of them the same as the batch before. They are
//! remembered by name, so that adding to one neither looks for its row nor reads and decodes its
//! latencies, and each that was added to is written once in a transaction, by rising row.
//!
//! **Invariant.** Between transactions this equals what is on disk, or is empty: whoever changes
//! buckets otherwise, or fails to commit, forgets all of it; so does [`HotBuckets::begin`] when
//! another process wrote.

use std::collections::HashMap;

use rusqlite::{CachedStatement, OptionalExtension, Row, Transaction, params};
use tollgate_model::{
    BucketKey, Counts, LatencySketch, OrganizationId, SubscriptionId, UsageBucket,
};

use super::buckets::{read_counts, read_latency};
use crate::columns::{Columns, stored};
use crate::failure::Worked;
use crate::sql;

/// Most buckets that are remembered: some tens of megabytes. Beyond it all are forgotten.
const BUCKETS_MAX: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(crate) struct HotBuckets {
    places: HashMap<BucketKey, usize>,
    held: Vec<Held>,
    /// Places of those that were added to in this transaction.
    changed: Vec<usize>,
    /// Tells whether another process wrote since.
    data_version: i64,
}

struct Held {
    row: i64,
    counts: Counts,
    latency: Option<LatencySketch>,
    changed: bool,
}

impl HotBuckets {
    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        self.places.clear();
        self.held.clear();
        self.changed.clear();
    }

    /// To be called first in a transaction that holds the write lock.
    pub(super) fn begin(&mut self, transaction: &Transaction<'_>) -> Worked<()> {
        let mut find = transaction.prepare_cached(sql::usage::DATA_VERSION)?;
        let data_version = find.query_row((), |row| row.get(0))?;
        if data_version != self.data_version || self.held.len() > BUCKETS_MAX {
            self.forget();
            self.data_version = data_version;
        }
        Ok(())
    }

    /// Adds to a bucket; [`Self::write`] writes it.
    pub(super) fn add(&mut self, transaction: &Transaction<'_>, added: &UsageBucket) -> Worked<()> {
        let place = match self.places.get(&added.key) {
            Some(place) => *place,
            None => self.load(transaction, &added.key)?,
        };
        let Some(held) = self.held.get_mut(place) else {
            return Ok(());
        };
        held.counts.add(&added.counts);
        match (&mut held.latency, &added.latency) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
        if !std::mem::replace(&mut held.changed, true) {
            self.changed.push(place);
        }
        Ok(())
    }

    /// Finds the bucket on disk, or gives it a row.
    fn load(&mut self, transaction: &Transaction<'_>, key: &BucketKey) -> Worked<usize> {
        let mut find = transaction.prepare_cached(sql::usage::FIND_BUCKET)?;
        let found = bind_name(&mut find, key, |find, name| {
            find.query_row(name, |row| Ok(read(row))).optional()
        })?;
        let held = match found {
            Some(held) => held?,
            None => {
                let mut insert = transaction.prepare_cached(sql::usage::INSERT_BUCKET)?;
                bind_name(&mut insert, key, |insert, name| insert.execute(name))?;
                Held {
                    row: transaction.last_insert_rowid(),
                    counts: Counts::default(),
                    latency: None,
                    changed: false,
                }
            }
        };
        let place = self.held.len();
        self.held.push(held);
        self.places.insert(key.clone(), place);
        Ok(place)
    }

    /// Writes every bucket that was added to.
    pub(super) fn write(&mut self, transaction: &Transaction<'_>) -> Worked<()> {
        let mut put = transaction.prepare_cached(sql::usage::PUT_BUCKET_SUMS)?;
        let held = &mut self.held;
        let row = |place: &usize| held.get(*place).map_or(0, |held| held.row);
        self.changed.sort_unstable_by_key(row);
        let mut latency = Vec::new();
        for place in self.changed.drain(..) {
            let Some(held) = held.get_mut(place) else {
                continue;
            };
            held.changed = false;
            latency.clear();
            if let Some(sketch) = &held.latency {
                sketch.write_bytes(&mut latency);
            }
            let counts = &held.counts;
            put.execute(params![
                held.row,
                stored(counts.requests),
                stored(counts.units),
                stored(counts.denied),
                stored(counts.errors),
                stored(counts.client_errors),
                stored(counts.server_errors),
                stored(counts.bytes_in),
                stored(counts.bytes_out),
                stored(counts.latencies),
                stored(counts.latency_sum_us),
                stored(counts.latency_max_us),
                held.latency.is_some().then_some(&latency),
            ])?;
        }
        Ok(())
    }
}

fn bind_name<T>(
    statement: &mut CachedStatement<'_>,
    key: &BucketKey,
    run: impl FnOnce(&mut CachedStatement<'_>, &[&dyn rusqlite::ToSql]) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    run(
        statement,
        params![
            key.grain.as_str(),
            key.family.as_str(),
            key.start.0,
            key.api.as_str(),
            key.organization.as_ref().map_or("", OrganizationId::as_str),
            key.subscription.as_ref().map_or("", SubscriptionId::as_str),
            key.plan,
            key.dimension,
            key.test,
        ],
    )
}

fn read(row: &Row<'_>) -> Worked<Held> {
    let mut columns = Columns::of(row);
    Ok(Held {
        row: columns.get()?,
        counts: read_counts(&mut columns)?,
        latency: read_latency(&mut columns)?,
        changed: false,
    })
}
