//! A table: fields by name, and what is left over.

use std::cell::RefCell;

use super::near::nearest;
use super::reader::Reader;
use super::tree::{Entry, Node};
use super::{Field, ProblemCode, Step, Value};

/// A table being read. Made by [`Field::table`], which tells of the fields that nobody asked for.
#[derive(Debug)]
pub struct Table<'r> {
    reader: &'r Reader<'r>,
    node: &'r Node,
    entries: &'r [Entry],
    known: RefCell<Vec<&'static str>>,
    read: RefCell<Vec<bool>>,
}

impl<'r> Table<'r> {
    pub(super) fn new(reader: &'r Reader<'r>, node: &'r Node, entries: &'r [Entry]) -> Self {
        Self {
            reader,
            node,
            entries,
            known: RefCell::new(Vec::with_capacity(16)),
            read: RefCell::new(vec![false; entries.len()]),
        }
    }

    /// The table itself as a field, for problems of the whole.
    #[must_use]
    pub fn whole(&self) -> Field<'r> {
        Field::new(self.reader, self.node)
    }

    /// A field, if it is there and not null.
    #[must_use]
    pub fn optional(&self, name: &'static str) -> Option<Field<'r>> {
        self.optional_as(name, &[])
    }

    /// A field that also goes by other names. Giving it under two names is a problem.
    #[must_use]
    pub fn optional_as(&self, name: &'static str, others: &[&'static str]) -> Option<Field<'r>> {
        self.known.borrow_mut().push(name);
        let mut found: Option<&'r Entry> = None;
        for (n, entry) in self.entries.iter().enumerate() {
            let matches = self.is_spelled(entry, name)
                || others.iter().any(|other| self.is_spelled(entry, other));
            if !matches {
                continue;
            }
            if let Some(flag) = self.read.borrow_mut().get_mut(n) {
                *flag = true;
            }
            match found {
                None => found = Some(entry),
                Some(first) => {
                    let detail = format!("is the same field as `{}`", first.name);
                    self.entry_problem(entry, ProblemCode::Duplicate, detail);
                }
            }
        }
        found
            .filter(|entry| entry.node.value != Value::Null)
            .map(|entry| Field::new(self.reader, &entry.node))
    }

    /// A field that must be there; tells when it is not.
    #[must_use]
    pub fn required(&self, name: &'static str) -> Option<Field<'r>> {
        self.required_as(name, &[])
    }

    /// A field that must be there, and also goes by other names.
    #[must_use]
    pub fn required_as(&self, name: &'static str, others: &[&'static str]) -> Option<Field<'r>> {
        let found = self.optional_as(name, others);
        if found.is_none() {
            self.problem(name, ProblemCode::Missing, "is missing");
        }
        found
    }

    /// Whether the field was written, null included.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| self.is_spelled(entry, name))
    }

    /// Every field, for tables whose names are free.
    #[must_use]
    pub fn all(&self) -> Vec<(&'r str, Field<'r>)> {
        self.read.borrow_mut().fill(true);
        self.entries
            .iter()
            .map(|entry| (entry.name.as_str(), Field::new(self.reader, &entry.node)))
            .collect()
    }

    /// Tells a problem of a field, whether or not it is there.
    pub fn problem(&self, name: &str, code: ProblemCode, detail: impl Into<String>) {
        let entry = self
            .entries
            .iter()
            .find(|entry| self.is_spelled(entry, name));
        match entry {
            Some(entry) => Field::new(self.reader, &entry.node).problem(code, detail),
            None => self.reader.report_at(
                self.node,
                &[Step::Name(name)],
                self.node.at,
                code,
                detail.into(),
            ),
        }
    }

    /// Tells of every field that nobody asked for.
    pub(super) fn report_unknown(&self) {
        let known = self.known.borrow();
        let read = self.read.borrow();
        for (entry, _) in self.entries.iter().zip(read.iter()).filter(|(_, r)| !**r) {
            let written = snake_case(&entry.name);
            let detail = match nearest(&written, known.iter().copied()) {
                Some(name) => format!("is not known; did you mean `{name}`?"),
                None => "is not known".to_owned(),
            };
            self.entry_problem(entry, ProblemCode::Unknown, detail);
        }
    }

    fn entry_problem(&self, entry: &Entry, code: ProblemCode, detail: String) {
        self.reader.report_at(
            self.node,
            &[Step::Name(&entry.name)],
            entry.at,
            code,
            detail,
        );
    }

    fn is_spelled(&self, entry: &Entry, name: &str) -> bool {
        entry.name == name
            || (self.reader.document.camel_case
                && entry.name.bytes().any(|b| b.is_ascii_uppercase())
                && snake_case(&entry.name) == name)
    }
}

/// `pathPrefix` as `path_prefix`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
