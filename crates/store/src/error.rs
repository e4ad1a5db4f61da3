//! What can go wrong in a store, told by kind so that callers can branch.

use std::fmt;

/// The result of a port's method.
pub type StoreResult<T> = Result<T, StoreError>;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// The thing named is not there.
    NotFound,
    /// The version that the change was decided on has moved: load and decide again.
    Conflict,
    /// A thing of that name is there already.
    AlreadyExists,
    /// The database cannot be reached or is too busy; the same call may succeed later.
    Unavailable,
    /// What was read cannot be what was written.
    Corrupt,
    /// A value that the database cannot hold: the same call will fail for ever.
    Unstorable,
}

/// What a failure was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// A catalog object or the catalog's number.
    Catalog,
    /// An API key.
    Key,
    /// An access token.
    Token,
    /// Usage records and buckets.
    Usage,
    /// A call under an idempotency key.
    Call,
    /// A setting.
    Setting,
    /// The database as a whole.
    Database,
}

/// A failure of a port's method.
#[derive(Debug)]
pub struct StoreError {
    /// What kind.
    pub kind: StoreErrorKind,
    /// About what.
    pub entity: Entity,
    /// The cause, for logs.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// A failure without a deeper cause.
    #[must_use]
    pub fn new(kind: StoreErrorKind, entity: Entity) -> Self {
        Self {
            kind,
            entity,
            source: None,
        }
    }

    /// A failure with its cause.
    #[must_use]
    pub fn caused(
        kind: StoreErrorKind,
        entity: Entity,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            entity,
            source: Some(source.into()),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.entity, self.kind)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
