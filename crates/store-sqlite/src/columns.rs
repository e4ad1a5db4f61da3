//! Reading a row from left to right, and numbers as this database holds them.

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use tollgate_model::Timestamp;

use crate::failure::{Failure, Worked};

/// A count as stored: SQLite's integers end at 2^63 - 1, so larger counts stay there.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as read.
pub(crate) struct Count(pub(crate) u64);

impl FromSql for Count {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        u64::try_from(number)
            .map(Self)
            .map_err(|_| FromSqlError::OutOfRange(number))
    }
}

/// The first column of a row, as a count.
pub(crate) fn first_count(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get(0).map(|Count(count)| count)
}

/// The columns of a row, one after the other.
pub(crate) struct Columns<'r> {
    row: &'r Row<'r>,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r Row<'r>) -> Self {
        Self { row, next: 0 }
    }

    fn step(&mut self) -> usize {
        let place = self.next;
        self.next += 1;
        place
    }

    /// The next column, as what it is read into says.
    pub(crate) fn get<T: FromSql>(&mut self) -> Worked<T> {
        let place = self.step();
        Ok(self.row.get(place)?)
    }

    /// A count.
    pub(crate) fn number(&mut self) -> Worked<u64> {
        self.get().map(|Count(count)| count)
    }

    /// A count or nothing.
    pub(crate) fn optional_number(&mut self) -> Worked<Option<u64>> {
        Ok(self.get::<Option<Count>>()?.map(|Count(count)| count))
    }

    /// Text, without a copy.
    pub(crate) fn text(&mut self) -> Worked<&'r str> {
        self.optional_text()?.ok_or(Failure::Unreadable("text"))
    }

    /// Text or nothing, without a copy.
    pub(crate) fn optional_text(&mut self) -> Worked<Option<&'r str>> {
        let place = self.step();
        let value = self.row.get_ref(place)?;
        value
            .as_str_or_null()
            .map_err(|_| Failure::Unreadable("text"))
    }

    /// Bytes or nothing, without a copy.
    pub(crate) fn optional_bytes(&mut self) -> Worked<Option<&'r [u8]>> {
        let place = self.step();
        let value = self.row.get_ref(place)?;
        value
            .as_bytes_or_null()
            .map_err(|_| Failure::Unreadable("bytes"))
    }

    /// An instant.
    pub(crate) fn time(&mut self) -> Worked<Timestamp> {
        self.get().map(Timestamp)
    }

    /// An instant or nothing.
    pub(crate) fn optional_time(&mut self) -> Worked<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp))
    }
}
