//! Deletes an object that nothing refers to.

use tollgate_model::Managed;
use tollgate_store::ObjectKind;

use crate::change::Change;
use crate::declared::{ObjectKey, references};
use crate::entry::Entries;
use crate::service::Decided;
use crate::{Control, ControlError, ControlResult};

impl Control {
    /// Deletes an object. A subscription's keys go with it.
    ///
    /// # Errors
    /// `NotFound`; `ManagedByFile`; `Conflict` while others refer to it, or keep changing the
    /// catalog; `Store`.
    pub async fn delete_object(
        &self,
        kind: ObjectKind,
        id: &str,
        actor: &str,
    ) -> ControlResult<()> {
        let key = ObjectKey::new(kind, id);
        self.change(|entries, now| {
            let before = entries
                .get(&key)
                .ok_or_else(|| ControlError::not_found(kind.as_str(), id))?;
            if before.managed == Managed::File {
                return Err(ControlError::ManagedByFile {
                    kind: kind.as_str(),
                    id: id.to_owned(),
                });
            }
            check_unused(entries, &key)?;
            let mut change = Change::new(entries, actor, now);
            change.remove(&key);
            Ok(Decided {
                change: Some(change),
                answer: (),
            })
        })
        .await
    }
}

fn check_unused(entries: &Entries, key: &ObjectKey) -> ControlResult<()> {
    let mut users = entries.iter().filter(|(_, entry)| {
        let refers = references(&entry.object);
        refers.iter().any(|(_, target)| target == key)
    });
    let Some((first, _)) = users.next() else {
        return Ok(());
    };
    let what = match users.count() {
        0 => format!("{key} is used by {first}"),
        more => format!("{key} is used by {first} and {more} more"),
    };
    Err(ControlError::Conflict(what))
}
