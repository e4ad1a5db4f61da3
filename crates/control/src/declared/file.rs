//! The whole declarative file.

use std::collections::HashSet;

use tollgate_store::ObjectKind;

use super::object::{Draft, ObjectKey, Source, read_object};
use crate::document::{Field, ProblemCode, Reader, Step, Table, Value};

/// Most objects of one kind in a file.
const OBJECTS_MAX: usize = 500_000;

/// What a file declares, each with its place in the file.
#[derive(Debug)]
pub struct DeclaredFile<'r> {
    /// What could be read, in the order of kinds in which references point backwards.
    pub objects: Vec<(ObjectKey, Draft, Field<'r>)>,
    /// Every id in the file, of objects that could not be read too.
    pub named: HashSet<ObjectKey>,
}

/// Reads `catalog.toml`: every kind, every field. Problems are left with the reader; what could
/// be read is answered in any case, so that checks between objects can add theirs.
#[must_use]
pub fn read_file<'r>(reader: &'r Reader<'r>) -> DeclaredFile<'r> {
    let mut file = DeclaredFile {
        objects: Vec::new(),
        named: HashSet::new(),
    };
    // The root of a document is always a table.
    let _read: Option<()> = reader.root().table(|table| {
        for kind in ObjectKind::ALL {
            read_kind(table, kind, &mut file);
        }
        Some(())
    });
    file
}

fn read_kind<'r>(table: &Table<'r>, kind: ObjectKind, file: &mut DeclaredFile<'r>) {
    let Some(field) = table.optional(kind.as_str()) else {
        return;
    };
    if field.is_table() {
        let detail = format!(
            "write [[{0}]] with two brackets: there may be several",
            kind.as_str()
        );
        field.problem(ProblemCode::WrongType, detail);
        return;
    }
    for item in field.items(OBJECTS_MAX).unwrap_or_default() {
        // The id is looked at by itself, so that two broken objects of one id are told too.
        if let Some(id) = find_id(item)
            && !file.named.insert(ObjectKey::new(kind, id))
        {
            let detail = format!("another {} has the id \"{id}\"", kind.as_str());
            item.problem_at(&[Step::Name("id")], ProblemCode::Duplicate, detail);
            let _also_tell_its_fields = read_object(item, kind, Source::File);
            continue;
        }
        if let Some(draft) = read_object(item, kind, Source::File)
            && let Some(id) = find_id(item)
        {
            file.objects.push((ObjectKey::new(kind, id), draft, item));
        }
    }
}

fn find_id<'r>(item: Field<'r>) -> Option<&'r str> {
    let Value::Table(entries) = item.value() else {
        return None;
    };
    let entry = entries.iter().find(|entry| entry.name == "id")?;
    match &entry.node.value {
        Value::Text(id) => Some(id),
        _ => None,
    }
}
