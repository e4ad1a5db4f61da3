//! Makes an object from JSON.

use serde_json::Value as Json;
use tollgate_model::{ApiId, LimitId, Managed, OrganizationId, PlanId, SubscriptionId};
use tollgate_store::ObjectKind;

use super::check_change;
use crate::change::Change;
use crate::declared::{Draft, Source, read_object};
use crate::document::{Document, Reader};
use crate::entry::Entry;
use crate::service::Decided;
use crate::{Actor, Control, ControlError, ControlResult};

impl Control {
    /// Makes an object; its id is made too unless one is given.
    ///
    /// # Errors
    /// `Invalid` with every problem; `AlreadyExists`; `Conflict` when others keep changing the
    /// catalog; `Store`.
    pub async fn create_object(
        &self,
        kind: ObjectKind,
        input: &Json,
        actor: impl Into<Actor>,
    ) -> ControlResult<Entry> {
        let actor = actor.into();
        let draft = self.read_new(kind, input)?;
        self.change(|entries, now| {
            let object = draft.clone().complete(None, now);
            let key = object.key();
            if entries.contains_key(&key) {
                return Err(ControlError::AlreadyExists {
                    kind: kind.as_str(),
                    id: key.id.to_string(),
                });
            }
            let entry = Entry {
                object,
                managed: Managed::Api,
                created_at: now,
                updated_at: now,
            };
            let mut change = Change::new(entries, actor.clone(), now);
            change.put(entry.clone(), "create", &entry.object.to_document());
            check_change(&change, &key)?;
            Ok(Decided {
                change: Some(change),
                answer: entry,
            })
        })
        .await
    }

    fn read_new(&self, kind: ObjectKind, input: &Json) -> ControlResult<Draft> {
        let mut input = input.clone();
        let mut source = Source::Named;
        if let Json::Object(fields) = &mut input
            && fields.get("id").is_none_or(Json::is_null)
        {
            let id = make_id(kind, self.ids().uuid(self.now()));
            fields.insert("id".to_owned(), Json::String(id));
            source = Source::Known;
        }
        read(kind, &input, source)
    }
}

pub(super) fn read(kind: ObjectKind, input: &Json, source: Source) -> ControlResult<Draft> {
    let document = Document::from_json(input);
    let reader = Reader::new(&document);
    let draft = read_object(reader.root(), kind, source);
    reader.finish(draft).map_err(ControlError::Invalid)
}

fn make_id(kind: ObjectKind, uuid: u128) -> String {
    match kind {
        ObjectKind::Api => ApiId::made(uuid).to_string(),
        ObjectKind::Limit => LimitId::made(uuid).to_string(),
        ObjectKind::Plan => PlanId::made(uuid).to_string(),
        ObjectKind::Organization => OrganizationId::made(uuid).to_string(),
        ObjectKind::Subscription => SubscriptionId::made(uuid).to_string(),
    }
}
