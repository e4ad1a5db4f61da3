//! Partitions of records: one for each UTC day of the moment of admission.
//!
//! **Invariants.** Every record lies in the partition of its `at`, which follows from the event, so
//! the same journal entry always meets itself in the same partition. There is no partition for
//! whatever else: a day's is made before its first record, and the next day's with it, so that
//! midnight waits for nothing. Days that are past are made when an event of theirs comes.
//!
//! A partition is made apart and then attached, which holds up neither readers nor writers.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use jiff::tz::TimeZone;
use tollgate_model::Timestamp;
use tollgate_store::StoreErrorKind;

use crate::columns::Columns;
use crate::failure::{Failure, Worked};
use crate::sql;

const DAY_US: i64 = 86_400_000_000;
/// What a partition's name begins with.
const TABLE_PREFIX: &str = "usage_records_";

/// A UTC day, by its first instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(i64);

impl Day {
    pub(crate) fn of(at: Timestamp) -> Self {
        Self(at.0.div_euclid(DAY_US).saturating_mul(DAY_US))
    }

    fn next(self) -> Self {
        Self(self.0.saturating_add(DAY_US))
    }

    /// Its first instant, and the first of the day after.
    pub(crate) fn bounds(self) -> (i64, i64) {
        (self.0, self.next().0)
    }

    /// `YYYYMMDD`.
    fn name(self) -> Worked<String> {
        let unstorable = Failure::Refused(
            StoreErrorKind::Unstorable,
            "the moment of admission lies outside of the years 0 to 9999",
        );
        let Ok(instant) = jiff::Timestamp::from_microsecond(self.0) else {
            return Err(unstorable);
        };
        let date = instant.to_zoned(TimeZone::UTC).date();
        match date.year() {
            year @ 0..=9_999 => Ok(format!("{year:04}{:02}{:02}", date.month(), date.day())),
            _ => Err(unstorable),
        }
    }

    fn parse(table: &str) -> Option<Self> {
        let digits = table.strip_prefix(TABLE_PREFIX)?;
        let part = |from, to| digits.get(from..to)?.parse().ok();
        let month = i8::try_from(part(4, 6)?).ok()?;
        let day = i8::try_from(part(6, 8)?).ok()?;
        let date = jiff::civil::Date::new(part(0, 4)?, month, day).ok()?;
        let begin = date.to_zoned(TimeZone::UTC).ok()?;
        Some(Self(begin.timestamp().as_microsecond()))
    }
}

/// The days that have a partition.
pub(crate) async fn list(transaction: &Transaction<'_>) -> Worked<BTreeSet<Day>> {
    let rows = transaction.query(sql::schema::LIST_DAYS, &[]).await?;
    rows.iter()
        .map(|row| {
            let table = Columns::of(row).text()?;
            Day::parse(table).ok_or(Failure::Unreadable("name of a partition"))
        })
        .collect()
}

/// Makes what is missing of these days and of those after them; all days that there are then.
pub(crate) async fn make(
    transaction: &Transaction<'_>,
    wanted: &BTreeSet<Day>,
) -> Worked<BTreeSet<Day>> {
    transaction.query(sql::schema::LOCK_DAYS, &[]).await?;
    let mut there = list(transaction).await?;
    for day in wanted.iter().flat_map(|day| [*day, day.next()]) {
        if !there.contains(&day) {
            attach(transaction, day).await?;
            there.insert(day);
        }
    }
    Ok(there)
}

async fn attach(transaction: &Transaction<'_>, day: Day) -> Worked<()> {
    let name = day.name()?;
    let (from, to) = day.bounds();
    let create = sql::schema::CREATE_DAY.replace("/*day*/", &name);
    let attach = sql::schema::ATTACH_DAY
        .replace("/*day*/", &name)
        .replace("/*from*/", &from.to_string())
        .replace("/*to*/", &to.to_string());
    transaction.batch_execute(&create).await?;
    transaction.batch_execute(&attach).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_named_by_its_date_and_found_by_its_name() {
        for (at, name) in [
            (0, "19700101"),
            (-1, "19691231"),
            (1_764_000_000_000_000, "20251124"),
            (1_709_164_800_000_000, "20240229"),
        ] {
            let day = Day::of(Timestamp(at));
            assert_eq!(day.name().unwrap(), name);
            assert_eq!(Day::parse(&format!("{TABLE_PREFIX}{name}")), Some(day));
            assert!(day.0 <= at && at < day.bounds().1);
        }
        assert!(Day::of(Timestamp(i64::MAX)).name().is_err());
        assert!(Day::of(Timestamp(i64::MIN)).name().is_err());
        assert_eq!(Day::parse("usage_records_2024023"), None);
    }
}
