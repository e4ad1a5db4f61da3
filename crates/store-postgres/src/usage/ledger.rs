//! Marks, and sums over the whole ledger.

use std::time::Duration;

use deadpool_postgres::{GenericClient, Transaction};
use tollgate_model::{Family, NodeId, Outcome, Sequence, StreamId};
use tollgate_store::{HighWaterMark, LedgerTotals, OutcomeTotals};

use crate::columns::Columns;
use crate::days;
use crate::failure::{Failure, Worked};
use crate::sql;

/// Longest time for all sums; each day's is bounded as every statement is.
pub(super) const SUM_TIMEOUT: Duration = Duration::from_secs(600);

pub(super) async fn list_marks(
    client: &impl GenericClient,
    node: Option<&NodeId>,
) -> Worked<Vec<HighWaterMark>> {
    let rows = match node {
        Some(node) => {
            let list = client.prepare_cached(sql::usage::HIGH_WATER_MARKS).await?;
            client.query(&list, &[&node.as_str()]).await?
        }
        None => {
            let list = client
                .prepare_cached(sql::usage::ALL_HIGH_WATER_MARKS)
                .await?;
            client.query(&list, &[]).await?
        }
    };
    let mut marks: Vec<HighWaterMark> = Vec::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let node = NodeId::new(columns.text()?);
        let epoch = columns.number()?;
        let thread: i32 = columns.get("thread")?;
        let stream = StreamId {
            node,
            epoch,
            thread: u16::try_from(thread).map_err(|_| Failure::Unreadable("thread"))?,
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
            let sums = (columns.number()?, columns.number()?);
            set_totals(&mut mark.totals, outcome, sums)?;
        }
    }
    Ok(marks)
}

fn set_totals(totals: &mut OutcomeTotals, outcome: &str, sums: (u64, u64)) -> Worked<()> {
    let place = Outcome::ALL.iter().position(|o| o.as_str() == outcome);
    let slots =
        place.and_then(|place| Some((totals.events.get_mut(place)?, totals.units.get_mut(place)?)));
    let (events, units) = slots.ok_or(Failure::Unreadable("outcome"))?;
    (*events, *units) = sums;
    Ok(())
}

/// Adds up the ledger as the transaction sees it, records day by day.
pub(super) async fn sum(
    transaction: &Transaction<'_>,
) -> Worked<(LedgerTotals, Vec<HighWaterMark>)> {
    let marks = list_marks(transaction, None).await?;
    let (bucket_requests, bucket_units) = sum_hours(transaction, Family::Api).await?;
    let (route_bucket_requests, route_bucket_units) = sum_hours(transaction, Family::Route).await?;
    let mut totals = LedgerTotals {
        bucket_requests,
        bucket_units,
        route_bucket_requests,
        route_bucket_units,
        ..LedgerTotals::default()
    };
    let sum = transaction
        .prepare_cached(sql::usage::LEDGER_RECORDS)
        .await?;
    for day in days::list(transaction).await? {
        let (from, to) = day.bounds();
        for row in &transaction.query(&sum, &[&from, &to]).await? {
            let mut columns = Columns::of(row);
            let outcome = columns.text()?;
            let mut of_day = OutcomeTotals::default();
            set_totals(&mut of_day, outcome, (columns.number()?, columns.number()?))?;
            totals.records.merge(&of_day);
            let requests = columns.number()?;
            totals.record_requests = totals.record_requests.saturating_add(requests);
        }
    }
    Ok((totals, marks))
}

async fn sum_hours(transaction: &Transaction<'_>, family: Family) -> Worked<(u64, u64)> {
    let sum = transaction
        .prepare_cached(sql::usage::LEDGER_BUCKETS)
        .await?;
    let row = transaction.query_one(&sum, &[&family.as_str()]).await?;
    let mut columns = Columns::of(&row);
    Ok((columns.number()?, columns.number()?))
}
