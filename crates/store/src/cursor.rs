//! Where a page of usage records ended. Text outside, a place in the order inside.

use std::fmt;

use tollgate_model::Timestamp;

use crate::{Entity, StoreError, StoreErrorKind, StoreResult};

/// The last record of a page: records are ordered by (`at`, `place`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordCursor {
    /// The record's moment of admission.
    pub at: Timestamp,
    /// The record's place in the order of taking in, from 1.
    pub place: i64,
}

impl RecordCursor {
    /// Reads the textual form.
    ///
    /// # Errors
    /// `NotFound` when the text is not one that [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> StoreResult<Self> {
        let read = || {
            let (at, place) = text.split_once('.')?;
            Some(Self {
                at: Timestamp(at.parse().ok()?),
                place: place.parse().ok()?,
            })
        };
        read().ok_or_else(|| {
            StoreError::caused(
                StoreErrorKind::NotFound,
                Entity::Usage,
                "not a cursor of this list",
            )
        })
    }
}

impl fmt::Display for RecordCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.0, self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() -> StoreResult<()> {
        let cursor = RecordCursor {
            at: Timestamp(-5),
            place: 7,
        };
        assert_eq!(RecordCursor::parse(&cursor.to_string())?, cursor);
        for bad in ["", ".", "1", "1.", ".1", "1.x", "1.2.3"] {
            assert!(RecordCursor::parse(bad).is_err(), "{bad}");
        }
        Ok(())
    }
}
