//! What was found broken: kept to be told, never a reason to stop.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Most places that are remembered one by one; further ones are only counted.
const SPOTS_MAX: usize = 1_000;

/// What is wrong at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DamageKind {
    /// Bytes that are no record, with records behind them or where records must be.
    Record,
    /// A segment's header.
    Header,
    /// A record or checkpoint that passes its checksum but was written by a version that this one
    /// does not understand.
    Unknown,
    /// Entries that must be there are not: a file is gone or ends too early.
    Missing,
    /// A small file (state, ledger or checkpoint); its twin is used where there is one.
    SmallFile,
}

/// One broken place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DamageSpot {
    /// File name in the journal's folder.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How many bytes cannot be used.
    pub bytes: u64,
    /// How many entries are lost with them.
    pub missing: u64,
    /// What is wrong.
    pub kind: DamageKind,
}

/// The end of a segment that was being written when the process or the machine died; it was never
/// acknowledged as synced, and is cut off.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TornTail {
    /// File name in the journal's folder.
    pub file: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Bytes from there to the last that is not zero.
    pub bytes: u64,
}

/// All that was found broken since the journal was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DamageReport {
    /// The places, in the order they were found.
    pub spots: Vec<DamageSpot>,
    /// Further places that are not listed.
    pub more_spots: u64,
    /// Torn tails that were cut off.
    pub torn: Vec<TornTail>,
    /// Entries that cannot be read, over all places.
    pub missing: u64,
}

impl DamageReport {
    /// Whether nothing is broken. Torn tails are no damage.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.spots.is_empty() && self.more_spots == 0
    }

    pub(crate) fn add(&mut self, spot: DamageSpot) -> bool {
        let known = |old: &DamageSpot| old.file == spot.file && old.offset == spot.offset;
        if self.spots.iter().any(known) {
            return false;
        }
        self.missing = self.missing.saturating_add(spot.missing);
        if self.spots.len() < SPOTS_MAX {
            self.spots.push(spot);
        } else {
            self.more_spots += 1;
        }
        true
    }
}

/// The report of an open journal; readers add to it.
#[derive(Debug, Default)]
pub(crate) struct DamageBook(Mutex<DamageReport>);

impl DamageBook {
    pub(crate) fn new(report: DamageReport) -> Self {
        Self(Mutex::new(report))
    }

    pub(crate) fn add(&self, spot: DamageSpot) {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = spot.clone();
        if report.add(spot) {
            tracing::error!(file = told.file, offset = told.offset, bytes = told.bytes,
                missing = told.missing, kind = ?told.kind, "journal damage");
        }
    }

    pub(crate) fn report(&self) -> DamageReport {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The last part of a path, for reports.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(file: &str, offset: u64) -> DamageSpot {
        DamageSpot {
            file: file.to_owned(),
            offset,
            bytes: 8,
            missing: 2,
            kind: DamageKind::Record,
        }
    }

    #[test]
    fn a_place_is_told_once_and_is_a_file_and_an_offset() {
        let mut report = DamageReport::default();
        assert!(report.add(spot("a", 512)));
        assert!(report.add(spot("a", 600)), "another place of the file");
        assert!(report.add(spot("b", 512)), "the same place of another file");
        assert!(!report.add(spot("a", 600)), "known");
        assert_eq!((report.spots.len(), report.missing), (3, 6));
    }

    #[test]
    fn places_beyond_the_most_that_are_listed_are_counted_with_what_is_missing() {
        let mut report = DamageReport::default();
        for n in 0..SPOTS_MAX as u64 + 2 {
            report.add(spot("a", n));
        }
        assert_eq!(report.spots.len(), SPOTS_MAX);
        assert_eq!(report.more_spots, 2);
        assert_eq!(report.missing, 2 * (SPOTS_MAX as u64 + 2));
        assert!(!report.is_clean());
    }
}
