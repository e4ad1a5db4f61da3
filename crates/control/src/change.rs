//! A change of the catalog while it is decided: what will be there, and what to write for it.
//!
//! Pure: deciding needs the objects as they are and the time, and never waits.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tollgate_model::{SubscriptionId, Timestamp};
use tollgate_store::{AuditEntry, CatalogChange, ObjectChange, ObjectKind};

use crate::Actor;
use crate::declared::{Fault, ObjectKey, check_references};
use crate::document::{Problem, path_text};
use crate::entry::{Entries, Entry};

/// A change being put together.
#[derive(Debug)]
pub(crate) struct Change {
    /// The objects as they will be.
    pub after: Entries,
    steps: Vec<ObjectChange>,
    audit: Vec<AuditEntry>,
    actor: Actor,
    now: Timestamp,
}

impl Change {
    pub fn new(entries: &Entries, actor: impl Into<Actor>, now: Timestamp) -> Self {
        Self {
            after: entries.clone(),
            steps: Vec::new(),
            audit: Vec::new(),
            actor: actor.into(),
            now,
        }
    }

    /// Makes or replaces an object. `act` is `create` or `update`.
    pub fn put(&mut self, entry: Entry, act: &str, detail: &Json) {
        let key = entry.object.key();
        self.steps.push(ObjectChange::Put(entry.to_stored()));
        self.after.insert(key.clone(), Arc::new(entry));
        self.note(&key, act, detail);
    }

    /// Removes an object.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.after.remove(key);
        self.steps.push(ObjectChange::Remove {
            kind: key.kind,
            id: key.id.to_string(),
        });
        self.note(key, "delete", &json!({}));
    }

    fn note(&mut self, key: &ObjectKey, act: &str, detail: &Json) {
        self.audit.push(AuditEntry {
            at: self.now,
            actor: self.actor.name.clone(),
            action: format!("{}.{act}", key.kind.as_str()),
            subject: key.id.to_string(),
            detail: detail.to_string(),
        });
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What the objects would not agree about.
    pub fn faults(&self) -> Vec<Fault> {
        check_references(&self.after)
    }

    /// Subscriptions that go; their keys go with them.
    pub fn removed_subscriptions(&self) -> Vec<SubscriptionId> {
        let removed = self.steps.iter().filter_map(|step| match step {
            ObjectChange::Remove {
                kind: ObjectKind::Subscription,
                id,
            } => Some(SubscriptionId::new(id)),
            _ => None,
        });
        removed.collect()
    }

    /// What to commit.
    pub fn to_commit(&self, expected_version: u64) -> CatalogChange {
        CatalogChange {
            expected_version,
            changes: self.steps.clone(),
            effects: self.actor.effects(self.audit.clone()),
        }
    }
}

/// A fault as a problem without a place in a text. The fields of `own` are named plainly.
pub(crate) fn fault_problem(fault: &Fault, own: Option<&ObjectKey>) -> Problem {
    let path = path_text(&fault.place.steps());
    let field = if own == Some(&fault.object) {
        path
    } else {
        format!("{}: {path}", fault.object)
    };
    Problem::new(field, fault.code, fault.detail.clone())
}
