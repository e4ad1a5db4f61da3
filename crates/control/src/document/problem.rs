//! What is wrong with a document, in a form for people and for programs.

use std::fmt;

use serde::Serialize;

/// What kind of problem it is; stable, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// No field of that name.
    Unknown,
    /// A field that must be there is not.
    Missing,
    /// Text where a number belongs, and the like.
    WrongType,
    /// Of the right type, but too small, too large, too long or too many.
    OutOfRange,
    /// Of the right type, but not what the field takes.
    Invalid,
    /// Said twice, or taken by another.
    Duplicate,
    /// Names something that is not there.
    Unresolved,
}

impl ProblemCode {
    /// As it stands in answers and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Missing => "missing",
            Self::WrongType => "wrong_type",
            Self::OutOfRange => "out_of_range",
            Self::Invalid => "invalid",
            Self::Duplicate => "duplicate",
            Self::Unresolved => "unresolved",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where, such as `plan "free": quota.units`; empty for the document as a whole.
    pub field: String,
    /// What kind.
    pub code: ProblemCode,
    /// In plain words.
    pub detail: String,
    /// The line of the text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The character in that line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Problem {
    /// A problem of a document without positions.
    #[must_use]
    pub fn new(field: impl Into<String>, code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            code,
            detail: detail.into(),
            line: None,
            column: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{} ({})", self.detail, self.code.as_str())
    }
}
