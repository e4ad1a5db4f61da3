//! Decides what a file changes. Pure.

use std::collections::HashMap;

use serde_json::json;
use tollgate_model::{Managed, Timestamp};

use super::ApplyOptions;
use super::report::{AppliedChange, ApplyReport, FieldChange, field_changes};
use crate::change::{Change, fault_problem};
use crate::declared::{DeclaredFile, Draft, Fault, ObjectKey, read_file};
use crate::document::{Document, Field, Problem, Reader};
use crate::entry::{Entries, Entry};

/// The change that a file asks for.
///
/// # Errors
/// Every problem of the file, in the order of its text.
pub(super) fn decide(
    document: &Document,
    entries: &Entries,
    options: &ApplyOptions,
    now: Timestamp,
) -> Result<(Change, ApplyReport), Vec<Problem>> {
    let reader = Reader::new(document);
    let file = read_file(&reader);
    let mut change = Change::new(entries, options.actor.clone(), now);
    let mut report = ApplyReport {
        dry_run: options.dry_run,
        ..ApplyReport::default()
    };
    for (key, draft, _) in &file.objects {
        declare(key, draft.clone(), entries, now, &mut change, &mut report);
    }
    for (key, entry) in entries {
        if entry.managed != Managed::File || file.named.contains(key) {
            continue;
        }
        if options.prune {
            change.remove(key);
            report.removed.push(AppliedChange::of(key, Vec::new()));
        } else {
            let released = Entry {
                managed: Managed::Api,
                updated_at: now,
                ..entry.as_ref().clone()
            };
            change.put(released, "release", &json!({}));
            report.kept.push(AppliedChange::of(key, Vec::new()));
        }
    }
    tell_faults(&reader, &file, &change);
    reader.finish(Some((change, report)))
}

fn declare(
    key: &ObjectKey,
    draft: Draft,
    entries: &Entries,
    now: Timestamp,
    change: &mut Change,
    report: &mut ApplyReport,
) {
    let Some(before) = entries.get(key) else {
        let entry = Entry {
            object: draft.complete(None, now),
            managed: Managed::File,
            created_at: now,
            updated_at: now,
        };
        let detail = entry.object.to_document();
        change.put(entry, "create", &detail);
        report.added.push(AppliedChange::of(key, Vec::new()));
        return;
    };
    let object = draft.complete(Some(&before.object), now);
    if object == before.object && before.managed == Managed::File {
        report.unchanged += 1;
        return;
    }
    let mut fields = field_changes(&before.object.to_document(), &object.to_document());
    if before.managed != Managed::File {
        fields.push(FieldChange {
            field: "managed".to_owned(),
            old: json!("api"),
            new: json!("file"),
        });
    }
    let entry = Entry {
        object,
        managed: Managed::File,
        created_at: before.created_at,
        updated_at: now,
    };
    change.put(entry, "update", &json!({ "fields": &fields }));
    report.changed.push(AppliedChange::of(key, fields));
}

/// Tells what objects would not agree about, at its place in the file where it has one. What
/// refers to an object that is in the file but could not be read is not told: it may be right.
fn tell_faults(reader: &Reader<'_>, file: &DeclaredFile<'_>, change: &Change) {
    let places: HashMap<&ObjectKey, Field<'_>> = file
        .objects
        .iter()
        .map(|(key, _, field)| (key, *field))
        .collect();
    for fault in change.faults() {
        let Fault {
            object,
            about,
            place,
            code,
            detail,
        } = &fault;
        if file.named.contains(about) && !places.contains_key(about) {
            continue;
        }
        let same_kind = object.kind == about.kind;
        let field = places.get(object).or_else(|| {
            // Two objects at the same address: the file's own is the one to change.
            places.get(about).filter(|_| same_kind)
        });
        match field {
            Some(field) => field.problem_at(&place.steps(), *code, detail.clone()),
            None => reader.report(fault_problem(&fault, None)),
        }
    }
}
