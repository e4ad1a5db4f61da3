//! Lists objects, newest first.

use std::cmp::Reverse;
use std::sync::Arc;

use tollgate_model::{OrganizationId, Timestamp};
use tollgate_store::{ObjectKind, Page, PageRequest};

use crate::declared::{Object, ObjectKey};
use crate::document::ProblemCode;
use crate::entry::Entry;
use crate::{Control, ControlError, ControlResult};

/// Largest page.
const PAGE_MAX: u32 = 1_000;

/// Which objects to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectFilter {
    /// Only what belongs to this organization.
    pub organization: Option<OrganizationId>,
}

impl Control {
    /// One page of the objects of a kind, newest first.
    ///
    /// # Errors
    /// `Invalid` for a cursor that is none of ours, or a limit that is not 1 to 1 000.
    pub fn list_objects(
        &self,
        kind: ObjectKind,
        filter: &ObjectFilter,
        page: &PageRequest,
    ) -> ControlResult<Page<Entry>> {
        check_limit(page)?;
        let after = page.cursor.as_deref().map(read_cursor).transpose()?;
        let view = self.view();
        let of_kind = view
            .entries
            .range(ObjectKey::new(kind, "")..)
            .take_while(|(key, _)| key.kind == kind);
        let wanted = of_kind.filter(|(_, entry)| matches(filter, &entry.object));
        let mut found: Vec<(Reverse<Timestamp>, Reverse<&str>, &Arc<Entry>)> = wanted
            .map(|(key, entry)| (Reverse(entry.created_at), Reverse(&*key.id), entry))
            .filter(|(at, id, _)| match &after {
                Some((last_at, last_id)) => (*at, *id) > (Reverse(*last_at), Reverse(last_id)),
                None => true,
            })
            .collect();
        let limit = page.limit as usize;
        let more = found.len() > limit;
        if more {
            // Only the page is sorted, not all that lies behind it.
            found.select_nth_unstable_by_key(limit, |(at, id, _)| (*at, *id));
            found.truncate(limit);
        }
        found.sort_unstable_by_key(|(at, id, _)| (*at, *id));
        let last = found.last().filter(|_| more);
        Ok(Page {
            next_cursor: last.map(|(at, id, _)| format!("{}.{}", at.0.0, id.0)),
            items: found
                .iter()
                .map(|(_, _, entry)| entry.as_ref().clone())
                .collect(),
        })
    }
}

pub(crate) fn check_limit(page: &PageRequest) -> ControlResult<()> {
    if (1..=PAGE_MAX).contains(&page.limit) {
        return Ok(());
    }
    let detail = format!("must be 1 to {PAGE_MAX}, found {}", page.limit);
    Err(ControlError::invalid(
        "limit",
        ProblemCode::OutOfRange,
        detail,
    ))
}

fn read_cursor(text: &str) -> ControlResult<(Timestamp, &str)> {
    text.split_once('.')
        .and_then(|(at, id)| Some((Timestamp(at.parse().ok()?), id)))
        .ok_or_else(|| {
            let detail = "is not a cursor that a list answered";
            ControlError::invalid("cursor", ProblemCode::Invalid, detail)
        })
}

fn matches(filter: &ObjectFilter, object: &Object) -> bool {
    match &filter.organization {
        Some(organization) => object.organization().as_ref() == Some(organization),
        None => true,
    }
}
