//! Reading a row from left to right, and numbers as this database holds them.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use tollgate_model::Timestamp;

use crate::failure::{Failure, Worked};

/// A count as stored: PostgreSQL's integers end at 2^63 - 1, so larger counts stay there.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The first column of a row, as a count.
pub(crate) fn first_count(row: &Row) -> Worked<u64> {
    Columns::of(row).number()
}

/// The columns of a row, one after the other.
pub(crate) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    /// The next column, as what it is read into says.
    pub(crate) fn get<T: FromSql<'r>>(&mut self, what: &'static str) -> Worked<T> {
        let place = self.next;
        self.next += 1;
        self.row
            .try_get(place)
            .map_err(|_| Failure::Unreadable(what))
    }

    /// A count.
    pub(crate) fn number(&mut self) -> Worked<u64> {
        let number: i64 = self.get("number")?;
        u64::try_from(number).map_err(|_| Failure::Unreadable("number"))
    }

    /// A count or nothing.
    pub(crate) fn optional_number(&mut self) -> Worked<Option<u64>> {
        let number: Option<i64> = self.get("number")?;
        let number = number.map(u64::try_from).transpose();
        number.map_err(|_| Failure::Unreadable("number"))
    }

    /// A count that is at most 2^32 - 1.
    pub(crate) fn small(&mut self) -> Worked<u32> {
        u32::try_from(self.number()?).map_err(|_| Failure::Unreadable("number"))
    }

    /// An HTTP status.
    pub(crate) fn status(&mut self) -> Worked<u16> {
        let status: i32 = self.get("status")?;
        u16::try_from(status).map_err(|_| Failure::Unreadable("status"))
    }

    /// Yes or no.
    pub(crate) fn flag(&mut self) -> Worked<bool> {
        self.get("flag")
    }

    /// Text, without a copy.
    pub(crate) fn text(&mut self) -> Worked<&'r str> {
        self.get("text")
    }

    /// Text or nothing, without a copy.
    pub(crate) fn optional_text(&mut self) -> Worked<Option<&'r str>> {
        self.get("text")
    }

    /// Bytes or nothing, without a copy.
    pub(crate) fn optional_bytes(&mut self) -> Worked<Option<&'r [u8]>> {
        self.get("bytes")
    }

    /// A digest.
    pub(crate) fn digest(&mut self) -> Worked<[u8; 32]> {
        let bytes: &[u8] = self.get("digest")?;
        bytes.try_into().map_err(|_| Failure::Unreadable("digest"))
    }

    /// An instant.
    pub(crate) fn time(&mut self) -> Worked<Timestamp> {
        self.get("time").map(Timestamp)
    }

    /// An instant or nothing.
    pub(crate) fn optional_time(&mut self) -> Worked<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>("time")?.map(Timestamp))
    }
}
