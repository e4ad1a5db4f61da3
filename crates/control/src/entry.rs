//! A catalog object with what is kept about it, and how it crosses the store's port.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use tollgate_model::{Managed, Timestamp};
use tollgate_store::{CatalogObject, StoredCatalog};

use crate::declared::{Object, ObjectKey, Source, read_object};
use crate::document::{Document, Problem, ProblemCode, Reader};

/// An object and what is kept about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The object.
    pub object: Object,
    /// Who may change it.
    pub managed: Managed,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// All objects by name.
pub type Entries = BTreeMap<ObjectKey, Arc<Entry>>;

impl Entry {
    /// The stored form.
    #[must_use]
    pub fn to_stored(&self) -> CatalogObject {
        CatalogObject {
            kind: self.object.kind(),
            id: self.object.id().to_owned(),
            organization: self.object.organization(),
            document: self.object.to_document().to_string(),
            managed: self.managed,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    fn from_stored(stored: &CatalogObject) -> Result<Self, Vec<Problem>> {
        let name = ObjectKey::new(stored.kind, &stored.id).to_string();
        let json: Json = serde_json::from_str(&stored.document).map_err(|error| {
            vec![Problem::new(
                &*name,
                ProblemCode::Invalid,
                error.to_string(),
            )]
        })?;
        let document = Document::from_json(&json);
        let reader = Reader::new(&document);
        let draft = read_object(reader.root(), stored.kind, Source::Stored);
        let draft = reader.finish(draft).map_err(|problems| {
            let named = |problem: Problem| Problem {
                field: format!("{name}: {}", problem.field),
                ..problem
            };
            problems.into_iter().map(named).collect::<Vec<_>>()
        })?;
        Ok(Self {
            object: draft.complete(None, stored.created_at),
            managed: stored.managed,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        })
    }
}

/// Reads all stored objects.
///
/// # Errors
/// Every problem of every object.
pub fn read_stored(catalog: &StoredCatalog) -> Result<Entries, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut entries = Entries::new();
    for stored in &catalog.objects {
        match Entry::from_stored(stored) {
            Ok(entry) => {
                entries.insert(entry.object.key(), Arc::new(entry));
            }
            Err(mut found) => problems.append(&mut found),
        }
    }
    if problems.is_empty() {
        Ok(entries)
    } else {
        Err(problems)
    }
}
