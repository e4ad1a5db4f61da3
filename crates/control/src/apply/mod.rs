//! The declarative file against what is there.
//!
//! **Invariants.** Applying the same file again changes nothing; without `prune` nothing is
//! removed, and what the file no longer names belongs to the API from then on; a file with any
//! problem changes nothing.

mod diff;
mod report;

pub use report::{AppliedChange, ApplyReport, FieldChange};

pub(crate) use report::field_changes;

use tollgate_model::Timestamp;

use crate::document::{Document, Problem};
use crate::entry::Entries;
use crate::service::Decided;
use crate::{Actor, Control, ControlError, ControlResult};

/// How to apply a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Remove what an earlier file declared and this one does not name.
    pub prune: bool,
    /// Only tell what would change.
    pub dry_run: bool,
    /// Who, for the audit trail.
    pub actor: Actor,
}

impl Control {
    /// Applies a catalog file, or tells what it would change.
    ///
    /// # Errors
    /// `Invalid` with every problem, each with line and column; `Conflict` when others keep
    /// changing the catalog; `Store`.
    pub async fn apply(&self, text: &str, options: &ApplyOptions) -> ControlResult<ApplyReport> {
        let document = Document::from_toml(text).map_err(ControlError::Invalid)?;
        self.change(|entries, now| {
            let (change, report) =
                diff::decide(&document, entries, options, now).map_err(ControlError::Invalid)?;
            Ok(Decided {
                change: (!options.dry_run).then_some(change),
                answer: report,
            })
        })
        .await
    }

    /// Applies a file that is being watched; never removes anything.
    ///
    /// # Errors
    /// As [`Self::apply`]; what was in force stays.
    pub async fn apply_watched(&self, text: &str, name: &str) -> ControlResult<ApplyReport> {
        let options = ApplyOptions {
            prune: false,
            dry_run: false,
            actor: format!("file:{name}").as_str().into(),
        };
        self.apply(text, &options).await
    }
}

/// Checks a catalog file by itself.
///
/// # Errors
/// Every problem, with line and column.
pub fn check_catalog(text: &str) -> Result<(), Vec<Problem>> {
    let document = Document::from_toml(text)?;
    let options = ApplyOptions {
        prune: false,
        dry_run: true,
        actor: Actor::default(),
    };
    diff::decide(&document, &Entries::new(), &options, Timestamp::default()).map(|_| ())
}

#[cfg(test)]
mod tests;
