//! The buckets that were added to last, as they are on disk.
//!
//! Every batch adds to thousands of buckets, most of them the same as the batch before. They are
//! remembered by name, so that adding to one neither looks for its row nor reads and decodes its
//! latencies, and each that was added to is written once in a transaction, by rising row. A sketch
//! of latencies can only be added to here, not in SQL; so a bucket is read, added to and put back,
//! under the writer's lock.
//!
//! **Invariant.** Between transactions this equals what is on disk, or is empty.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use sha2::{Digest, Sha256};
use tollgate_model::{
    BucketKey, Counts, LatencySketch, OrganizationId, SubscriptionId, UsageBucket,
};

use super::buckets::{read_counts, read_latency};
use crate::columns::{Columns, stored};
use crate::copy::Copy;
use crate::failure::{Failure, Worked};
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
    /// Names that this transaction found to be new, by rising row.
    new: Vec<(i64, BucketKey)>,
}

/// Where a bucket lies, within one transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

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
        self.new.clear();
    }

    /// Finds the buckets that are not remembered yet, on disk or by giving them rows; `row` is the
    /// last row that was given. To be called once, before anything is added; the answer is where
    /// each lies. After an error everything is to be forgotten.
    pub(super) async fn load<'b>(
        &mut self,
        transaction: &Transaction<'_>,
        wanted: impl Iterator<Item = &'b UsageBucket>,
        row: &mut i64,
    ) -> Worked<Vec<Place>> {
        if self.held.len() > BUCKETS_MAX {
            self.forget();
        }
        let (mut places, mut missing) = (Vec::new(), Vec::new());
        for UsageBucket { key, .. } in wanted {
            places.push(match self.places.get(key) {
                Some(place) => Place(*place),
                None => {
                    let place = self.held.len() + missing.len();
                    self.places.insert(key.clone(), place);
                    missing.push(key);
                    Place(place)
                }
            });
        }
        if missing.is_empty() {
            return Ok(places);
        }
        let found = find(transaction, &missing).await?;
        for (key, found) in missing.into_iter().zip(found) {
            self.held.push(match found {
                Some(held) => held,
                None => {
                    *row += 1;
                    self.new.push((*row, key.clone()));
                    Held {
                        row: *row,
                        counts: Counts::default(),
                        latency: None,
                        changed: false,
                    }
                }
            });
        }
        Ok(places)
    }

    /// Adds to a bucket that was loaded; [`Self::write`] writes it.
    pub(super) fn add(&mut self, Place(place): Place, added: &UsageBucket) -> Worked<()> {
        let held = self.held.get_mut(place);
        let held = held.ok_or(Failure::Unreadable("bucket"))?;
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

    /// Writes every bucket that was added to.
    pub(super) async fn write(&mut self, transaction: &Transaction<'_>) -> Worked<()> {
        let held = &mut self.held;
        let row = |place: &usize| held.get(*place).map_or(0, |held| held.row);
        self.changed.sort_unstable_by_key(row);
        // Rows rise, so what is new comes last.
        let first_new = self.new.first().map_or(i64::MAX, |(row, _)| *row);
        let mut known = Columnwise::default();
        let mut new = Vec::new();
        for place in self.changed.drain(..) {
            let Some(held) = held.get_mut(place) else {
                continue;
            };
            held.changed = false;
            match held.row < first_new {
                true => known.push(held),
                false => new.push(place),
            }
        }
        known.update(transaction).await?;
        self.insert(transaction, &new).await?;
        self.new.clear();
        Ok(())
    }

    async fn insert(&self, transaction: &Transaction<'_>, places: &[usize]) -> Worked<()> {
        if self.new.is_empty() {
            return Ok(());
        }
        let mut names = Copy::begin(transaction, sql::usage::COPY_BUCKETS, 11).await?;
        for (row, key) in &self.new {
            let to = names.rows();
            to.row();
            to.number(*row);
            to.raw(&name_of(key))?;
            to.text(key.grain.as_str())?;
            to.text(key.family.as_str())?;
            to.number(key.start.0);
            to.text(key.api.as_str())?;
            to.text(key.organization.as_ref().map_or("", OrganizationId::as_str))?;
            to.text(key.subscription.as_ref().map_or("", SubscriptionId::as_str))?;
            to.text(&key.plan)?;
            to.text(&key.dimension)?;
            to.flag(key.test);
            names.send().await?;
        }
        names.finish().await?;
        let mut sums = Copy::begin(transaction, sql::usage::COPY_BUCKET_SUMS, 13).await?;
        for held in places.iter().filter_map(|place| self.held.get(*place)) {
            let to = sums.rows();
            to.row();
            to.number(held.row);
            for sum in numbers(&held.counts) {
                to.number(sum);
            }
            let latency = held.latency.as_ref().map(LatencySketch::to_bytes);
            to.option(latency.as_deref())?;
            sums.send().await?;
        }
        sums.finish().await?;
        Ok(())
    }
}

/// Sums in the order of their columns.
fn numbers(counts: &Counts) -> [i64; 11] {
    [
        counts.requests,
        counts.units,
        counts.denied,
        counts.errors,
        counts.client_errors,
        counts.server_errors,
        counts.bytes_in,
        counts.bytes_out,
        counts.latencies,
        counts.latency_sum_us,
        counts.latency_max_us,
    ]
    .map(stored)
}

/// Rows as one array a column: one statement writes them all.
#[derive(Default)]
struct Columnwise {
    rows: Vec<i64>,
    numbers: [Vec<i64>; 11],
    latencies: Vec<Option<Vec<u8>>>,
}

impl Columnwise {
    fn push(&mut self, held: &Held) {
        self.rows.push(held.row);
        for (column, number) in self.numbers.iter_mut().zip(numbers(&held.counts)) {
            column.push(number);
        }
        let latency = held.latency.as_ref().map(LatencySketch::to_bytes);
        self.latencies.push(latency);
    }

    async fn update(self, transaction: &Transaction<'_>) -> Worked<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let update = transaction
            .prepare_cached(sql::usage::PUT_BUCKET_SUMS)
            .await?;
        let mut parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![&self.rows];
        for column in &self.numbers {
            parameters.push(column);
        }
        parameters.push(&self.latencies);
        let updated = transaction.execute(&update, &parameters).await?;
        if updated == self.rows.len() as u64 {
            Ok(())
        } else {
            // Somebody changed buckets without the writer's lock.
            Err(Failure::Unreadable("buckets"))
        }
    }
}

/// Start and digest.
const NAME_BYTES: usize = 24;

/// A bucket's name in one column: its start, so that names of one time lie together, and the first
/// half of the SHA-256 of its parts, each behind its length.
fn name_of(key: &BucketKey) -> [u8; NAME_BYTES] {
    let mut digest = Sha256::new();
    for part in [
        key.grain.as_str(),
        key.family.as_str(),
        key.api.as_str(),
        key.organization.as_ref().map_or("", OrganizationId::as_str),
        key.subscription.as_ref().map_or("", SubscriptionId::as_str),
        &key.plan,
        &key.dimension,
    ] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.update([u8::from(key.test)]);
    let start = key.start.0.to_be_bytes();
    let mut name = [0; NAME_BYTES];
    let bytes = start.into_iter().chain(digest.finalize());
    for (slot, byte) in name.iter_mut().zip(bytes) {
        *slot = byte;
    }
    name
}

/// The buckets of these names, in their order; `None` where there is none.
async fn find(transaction: &Transaction<'_>, keys: &[&BucketKey]) -> Worked<Vec<Option<Held>>> {
    let find = transaction.prepare_cached(sql::usage::FIND_BUCKET).await?;
    let names: Vec<[u8; NAME_BYTES]> = keys.iter().map(|key| name_of(key)).collect();
    let names: Vec<&[u8]> = names.iter().map(<[u8; NAME_BYTES]>::as_slice).collect();
    let rows = transaction.query(&find, &[&names]).await?;
    let mut found: Vec<Option<Held>> = keys.iter().map(|_| None).collect();
    for row in &rows {
        let mut columns = Columns::of(row);
        let place = usize::try_from(columns.number()?).unwrap_or(0);
        let held = Held {
            row: columns.get("bucket")?,
            counts: read_counts(&mut columns)?,
            latency: read_latency(&mut columns)?,
            changed: false,
        };
        let slot = place.checked_sub(1).and_then(|place| found.get_mut(place));
        *slot.ok_or(Failure::Unreadable("bucket"))? = Some(held);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tollgate_model::{Family, Grain, Timestamp};
    use tollgate_store::testing::{bucket_key, event};

    use super::*;

    #[test]
    fn every_part_of_a_name_and_its_borders_tell_buckets_apart_and_names_of_one_time_lie_together()
    {
        let base = bucket_key(Family::Route, Grain::Hour, &event(0));
        let change = |change: fn(&mut BucketKey)| {
            let mut key = base.clone();
            change(&mut key);
            key
        };
        let keys = [
            base.clone(),
            change(|key| key.grain = Grain::Minute),
            change(|key| key.family = Family::Key),
            change(|key| key.start = Timestamp(key.start.0 + 1)),
            change(|key| key.api = tollgate_model::ApiId::new("other")),
            change(|key| key.organization = None),
            change(|key| key.subscription = None),
            change(|key| key.plan = "p".to_owned()),
            change(|key| key.dimension = "d".to_owned()),
            change(|key| (key.plan, key.dimension) = ("pd".to_owned(), String::new())),
            change(|key| (key.plan, key.dimension) = (String::new(), "pd".to_owned())),
            change(|key| key.test = true),
        ];
        let names: HashSet<[u8; NAME_BYTES]> = keys.iter().map(name_of).collect();
        assert_eq!(names.len(), keys.len());
        let later = change(|key| key.start = Timestamp(key.start.0 + 1));
        assert!(
            keys.iter()
                .all(|key| name_of(key) <= name_of(&later) || key == &later)
        );
        assert_eq!(name_of(&base), name_of(&base.clone()));
    }
}
