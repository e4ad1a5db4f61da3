//! Catalog objects over the API: list, get, create, patch, delete.
//!
//! **Invariants.** What the file declares is never changed here, but for a subscription's state;
//! an object that others refer to is not deleted; a change that leaves everything as it was
//! commits nothing.

mod create;
mod delete;
mod list;
mod patch;

use serde_json::{Value as Json, json};
use tollgate_model::Managed;
use tollgate_store::ObjectKind;

pub use list::ObjectFilter;

pub(crate) use list::check_limit;

use crate::change::{Change, fault_problem};
use crate::declared::{Fault, ObjectKey};
use crate::entry::Entry;
use crate::{Control, ControlError, ControlResult};

/// Fields that are shown with every object and set by Tollgate alone.
const SHOWN: [&str; 3] = ["managed", "created_at", "updated_at"];

/// An object as the API shows it: its fields, and `managed`, `created_at`, `updated_at`.
#[must_use]
pub fn object_json(entry: &Entry) -> Json {
    let mut document = entry.object.to_document();
    if let Some(fields) = document.as_object_mut() {
        let managed = match entry.managed {
            Managed::File => "file",
            Managed::Api => "api",
        };
        fields.insert("managed".to_owned(), json!(managed));
        fields.insert("created_at".to_owned(), json!(entry.created_at.to_string()));
        fields.insert("updated_at".to_owned(), json!(entry.updated_at.to_string()));
    }
    document
}

impl Control {
    /// One object.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn get_object(&self, kind: ObjectKind, id: &str) -> ControlResult<Entry> {
        let view = self.view();
        let found = view.entries.get(&ObjectKey::new(kind, id));
        let entry = found.ok_or_else(|| ControlError::not_found(kind.as_str(), id))?;
        Ok(entry.as_ref().clone())
    }
}

/// Refuses a change after which objects would not agree.
fn check_change(change: &Change, own: &ObjectKey) -> ControlResult<()> {
    let mut faults = change.faults();
    for fault in &mut faults {
        // Of two objects at the same address, the changed one is told about.
        if fault.about == *own && fault.object.kind == own.kind {
            let fault: &mut Fault = fault;
            std::mem::swap(&mut fault.object, &mut fault.about);
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let problems = faults.iter().map(|fault| fault_problem(fault, Some(own)));
    Err(ControlError::Invalid(problems.collect()))
}

#[cfg(test)]
mod tests;
