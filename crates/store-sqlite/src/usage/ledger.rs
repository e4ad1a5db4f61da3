//! Marks, and sums over the whole ledger.

use std::ops::Range;

use rusqlite::{Connection, params};
use tollgate_model::{Family, NodeId, Outcome, Sequence, StreamId};
use tollgate_store::{HighWaterMark, LedgerTotals, OutcomeTotals, StoreErrorKind};

use crate::Gone;
use crate::columns::Columns;
use crate::failure::{Failure, Worked};
use crate::sql;

/// Records that one read transaction adds up.
const RECORDS_AT_ONCE: u32 = 50_000;

pub(super) fn list_marks(
    connection: &Connection,
    node: Option<&NodeId>,
) -> Worked<Vec<HighWaterMark>> {
    let text = match node {
        Some(_) => sql::usage::HIGH_WATER_MARKS,
        None => sql::usage::ALL_HIGH_WATER_MARKS,
    };
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = match node {
        Some(node) => statement.query((node.as_str(),))?,
        None => statement.query(())?,
    };
    let mut marks: Vec<HighWaterMark> = Vec::new();
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let stream = StreamId {
            node: NodeId::new(columns.text()?),
            epoch: columns.number()?,
            thread: columns.get()?,
        };
        let next = Sequence(columns.number()?);
        // A stream has a row for each outcome, and one without where it had no events.
        if marks.last().is_none_or(|mark| mark.stream != stream) {
            marks.push(HighWaterMark {
                stream,
                next,
                totals: OutcomeTotals::default(),
            });
        }
        if let (Some(outcome), Some(mark)) = (columns.optional_text()?, marks.last_mut()) {
            set_totals(
                &mut mark.totals,
                outcome,
                columns.number()?,
                columns.number()?,
            )?;
        }
    }
    Ok(marks)
}

fn set_totals(totals: &mut OutcomeTotals, outcome: &str, events: u64, units: u64) -> Worked<()> {
    let place = Outcome::ALL.iter().position(|o| o.as_str() == outcome);
    let slots =
        place.and_then(|place| Some((totals.events.get_mut(place)?, totals.units.get_mut(place)?)));
    let (events_slot, units_slot) = slots.ok_or(Failure::Unreadable("outcome"))?;
    (*events_slot, *units_slot) = (events, units);
    Ok(())
}

/// Adds up the ledger as it stands in one transaction. Buckets and marks are read in that
/// transaction; records only up to the last one that it saw, in further short ones: they never
/// change, so the sum is the same and the log can be checkpointed meanwhile.
pub(super) fn sum(
    connection: &Connection,
    gone: Gone<'_>,
) -> Worked<(LedgerTotals, Vec<HighWaterMark>)> {
    sum_in_runs(connection, RECORDS_AT_ONCE, gone)
}

fn sum_in_runs(
    connection: &Connection,
    run: u32,
    gone: Gone<'_>,
) -> Worked<(LedgerTotals, Vec<HighWaterMark>)> {
    let transaction = connection.unchecked_transaction()?;
    let marks = list_marks(&transaction, None)?;
    let (bucket_requests, bucket_units) = sum_hours(&transaction, Family::Api)?;
    let (route_bucket_requests, route_bucket_units) = sum_hours(&transaction, Family::Route)?;
    let last: i64 = transaction
        .prepare_cached(sql::usage::FIND_LAST_RECORD)?
        .query_row((), |row| row.get(0))?;
    transaction.commit()?;
    let mut totals = LedgerTotals {
        bucket_requests,
        bucket_units,
        route_bucket_requests,
        route_bucket_units,
        ..LedgerTotals::default()
    };
    let mut reached = 0;
    while reached < last {
        reached = sum_records(connection, reached..last, run, &mut totals)?;
        if gone() {
            return Err(Failure::Refused(
                StoreErrorKind::Unavailable,
                "nobody waits for the answer any more",
            ));
        }
    }
    Ok((totals, marks))
}

fn sum_hours(connection: &Connection, family: Family) -> Worked<(u64, u64)> {
    let mut statement = connection.prepare_cached(sql::usage::LEDGER_BUCKETS)?;
    let mut rows = statement.query((family.as_str(),))?;
    let (mut requests, mut units) = (0u64, 0u64);
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        requests = requests.saturating_add(columns.number()?);
        units = units.saturating_add(columns.number()?);
    }
    Ok((requests, units))
}

/// Adds up one run of records after the first place, up to and with the last; the answer is the
/// last one added.
fn sum_records(
    connection: &Connection,
    places: Range<i64>,
    run: u32,
    totals: &mut LedgerTotals,
) -> Worked<i64> {
    let mut statement = connection.prepare_cached(sql::usage::LEDGER_RECORDS)?;
    let mut rows = statement.query(params![places.start, places.end, run])?;
    let mut seen = None;
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        seen = Some(columns.get()?);
        let outcome = Outcome::parse(columns.text()?).ok_or(Failure::Unreadable("outcome"))?;
        totals.records.add(outcome, columns.number()?);
        totals.record_requests = totals.record_requests.saturating_add(columns.number()?);
    }
    Ok(seen.unwrap_or(places.end))
}

#[cfg(test)]
mod tests {
    use tollgate_store::testing::{batch, event, stream};

    use std::sync::Arc;

    use super::*;
    use crate::usage::ingest;
    use crate::writer::Writer;

    #[test]
    fn the_sum_does_not_depend_on_how_records_are_cut_into_runs() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Connection::open(folder.path().join("store.db")).unwrap();
        let mut connection = open();
        crate::migrate::migrate(&mut connection).unwrap();
        let taken = batch(stream(0), 0, (0..10).map(event).collect());
        let mut writer = Writer::new(open());
        ingest::take_in(&mut writer, &[Arc::new(taken)], &|| false).unwrap();
        let whole = sum(&connection, &|| false).unwrap();
        assert_eq!(whole.0.record_requests, 10);
        for run in [1, 3, 9, 10, 11] {
            let in_runs = sum_in_runs(&connection, run, &|| false).unwrap();
            assert_eq!(in_runs, whole);
        }
        assert!(sum(&connection, &|| true).is_err());
    }
}
