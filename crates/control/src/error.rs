//! What can go wrong in control. The API turns these into statuses, the command line into exit
//! codes; neither looks at texts.

use std::fmt;

use tollgate_store::{Entity, StoreError, StoreErrorKind};

use crate::document::{Problem, ProblemCode};

/// The result of control's operations.
pub type ControlResult<T> = Result<T, ControlError>;

/// Why an operation was not done.
#[derive(Debug)]
pub enum ControlError {
    /// The input is wrong; every problem of it.
    Invalid(Vec<Problem>),
    /// There is no such thing.
    NotFound {
        /// `api`, `plan`, `subscription`, `key`…
        kind: &'static str,
        /// The id asked for.
        id: String,
    },
    /// It would break what is there, or what is there keeps changing.
    Conflict(String),
    /// The id or name is taken.
    AlreadyExists {
        /// `api`, `plan`, `subscription`, `token`…
        kind: &'static str,
        /// The id or name.
        id: String,
    },
    /// The object is declared in the file and can only be changed there.
    ManagedByFile {
        /// `api`, `plan`, `subscription`…
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// Well-formed, but it cannot be done.
    Impossible(String),
    /// This process uses another pepper than the one the stored keys were hashed with.
    PepperMismatch,
    /// The store failed.
    Store(StoreError),
}

impl ControlError {
    /// One problem of one field.
    pub(crate) fn invalid(field: &str, code: ProblemCode, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem::new(field, code, detail)])
    }

    pub(crate) fn not_found(kind: &'static str, id: &str) -> Self {
        Self::NotFound {
            kind,
            id: id.to_owned(),
        }
    }

    /// Whether the store says that what was decided on has moved.
    pub(crate) fn is_store_conflict(error: &StoreError) -> bool {
        error.kind == StoreErrorKind::Conflict && error.entity != Entity::Call
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problems) => {
                for (n, problem) in problems.iter().enumerate() {
                    let separator = if n == 0 { "" } else { "\n" };
                    write!(f, "{separator}{problem}")?;
                }
                Ok(())
            }
            Self::NotFound { kind, id } => write!(f, "there is no {kind} \"{id}\""),
            Self::Conflict(what) | Self::Impossible(what) => f.write_str(what),
            Self::AlreadyExists { kind, id } => write!(f, "there is a {kind} \"{id}\" already"),
            Self::ManagedByFile { kind, id } => write!(
                f,
                "{kind} \"{id}\" is declared in the catalog file: change it there and apply"
            ),
            Self::PepperMismatch => f.write_str(
                "the stored keys were hashed with another pepper: start with the pepper that this \
                 store was first used with (TOLLGATE_KEY_PEPPER, or the file pepper beside the \
                 journal folder)",
            ),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
