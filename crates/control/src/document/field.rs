//! A field: one value, read as what it should be. Every accessor answers `None` after telling
//! what is wrong, so that callers can go on with the next field.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::near::nearest;
use super::reader::{Reader, child};
use super::tree::Node;
use super::{ProblemCode, Step, Table, Value};

/// One value of a document.
#[derive(Debug, Clone, Copy)]
pub struct Field<'r> {
    reader: &'r Reader<'r>,
    node: &'r Node,
}

impl<'r> Field<'r> {
    pub(super) fn new(reader: &'r Reader<'r>, node: &'r Node) -> Self {
        Self { reader, node }
    }

    /// Tells a problem of this value.
    pub fn problem(&self, code: ProblemCode, detail: impl Into<String>) {
        self.problem_at(&[], code, detail);
    }

    /// Tells a problem of a place below this value, or of the nearest that is there.
    pub fn problem_at(&self, steps: &[Step<'_>], code: ProblemCode, detail: impl Into<String>) {
        let mut nearest = self.node;
        for step in steps {
            match child(nearest, *step) {
                Some(node) => nearest = node,
                None => break,
            }
        }
        self.reader
            .report_at(self.node, steps, nearest.at, code, detail.into());
    }

    /// Tells that the value is of another type.
    pub fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let found = match self.value() {
            Value::Null => "null",
            Value::Boolean(_) => "true or false",
            Value::Integer(_) => "a number",
            Value::Number(_) => "a number with a fraction",
            Value::Text(_) | Value::Override { .. } => "text",
            Value::Date(_) => "a date or time",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        };
        let detail = format!("expected {expected}, found {found}");
        self.problem(ProblemCode::WrongType, detail);
        None
    }

    /// The value; of an override, what it would be as TOML.
    #[must_use]
    pub fn value(&self) -> &'r Value {
        match &self.node.value {
            Value::Override { read, .. } => &read.value,
            value => value,
        }
    }

    /// Whether the value is text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.node.value, Value::Text(_) | Value::Override { .. })
    }

    /// Whether the value is a table.
    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self.value(), Value::Table(_))
    }

    /// Text.
    #[must_use]
    pub fn text(&self) -> Option<&'r str> {
        match &self.node.value {
            Value::Text(text) | Value::Override { text, .. } => Some(text),
            _ => self.wrong_type("text"),
        }
    }

    /// Text of 1 to `max` characters, none of them a control character.
    #[must_use]
    pub fn short_text(&self, max: usize) -> Option<&'r str> {
        let text = self.text()?;
        if text.trim().is_empty() || text.chars().count() > max {
            let detail = format!("must be 1 to {max} characters");
            self.problem(ProblemCode::OutOfRange, detail);
            return None;
        }
        if text.chars().any(char::is_control) {
            self.problem(ProblemCode::Invalid, "must not have control characters");
            return None;
        }
        Some(text)
    }

    /// True or false.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self.value() {
            Value::Boolean(flag) => Some(*flag),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A whole number within a range.
    #[must_use]
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Value::Integer(number) = self.value() else {
            return self.wrong_type("a whole number");
        };
        match u64::try_from(*number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let (low, high) = (range.start(), range.end());
                let detail = format!("must be {low} to {high}, found {number}");
                self.problem(ProblemCode::OutOfRange, detail);
                None
            }
        }
    }

    /// A whole number within a range that fits 32 bits.
    #[must_use]
    pub fn integer_u32(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        u32::try_from(self.integer(wide)?).ok()
    }

    /// Text that a function reads; its error is told as the detail.
    #[must_use]
    pub fn parse<T, E: Display>(&self, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match read(self.text()?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(ProblemCode::Invalid, error.to_string());
                None
            }
        }
    }

    /// One of a few words.
    #[must_use]
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<String> = choices.iter().map(|(w, _)| format!("\"{w}\"")).collect();
        let mut detail = format!("must be {}, found \"{text}\"", words.join(" or "));
        if let Some(word) = nearest(text, choices.iter().map(|(word, _)| *word)) {
            detail.push_str(&format!("; did you mean \"{word}\"?"));
        }
        self.problem(ProblemCode::Invalid, detail);
        None
    }

    /// The items of an array of at most `max`.
    #[must_use]
    pub fn items(&self, max: usize) -> Option<Vec<Field<'r>>> {
        let Value::Array(items) = self.value() else {
            return self.wrong_type("an array");
        };
        if items.len() > max {
            let detail = format!("must have at most {max} items, found {}", items.len());
            self.problem(ProblemCode::OutOfRange, detail);
            return None;
        }
        let field = |node| Field::new(self.reader, node);
        Some(items.iter().map(field).collect())
    }

    /// Reads every item of an array; `None` if any could not be read.
    #[must_use]
    pub fn list<T>(
        &self,
        max: usize,
        mut read: impl FnMut(Field<'r>) -> Option<T>,
    ) -> Option<Vec<T>> {
        // All items are read even after one failed: every problem is told at once.
        let read: Vec<Option<T>> = self.items(max)?.into_iter().map(&mut read).collect();
        read.into_iter().collect()
    }

    /// Like [`Self::list`], and tells of items that come twice.
    #[must_use]
    pub fn distinct<T: PartialEq>(
        &self,
        max: usize,
        mut read: impl FnMut(Field<'r>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut seen: Vec<T> = Vec::new();
        let mut good = true;
        for item in self.items(max)? {
            match read(item) {
                Some(value) if seen.contains(&value) => {
                    item.problem(ProblemCode::Duplicate, "is listed twice");
                    good = false;
                }
                Some(value) => seen.push(value),
                None => good = false,
            }
        }
        good.then_some(seen)
    }

    /// Reads a table, and tells of its fields that were not asked for.
    #[must_use]
    pub fn table<T>(&self, read: impl FnOnce(&Table<'r>) -> Option<T>) -> Option<T> {
        let Value::Table(entries) = self.value() else {
            return self.wrong_type("a table");
        };
        let table = Table::new(self.reader, self.node, entries);
        let value = read(&table);
        table.report_unknown();
        value
    }
}
