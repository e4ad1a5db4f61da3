//! What can go wrong inside, and what of it leaves: [`StoreError`] with a kind.

use rusqlite::{Error as SqlError, ErrorCode};
use tollgate_store::json::Unreadable;
use tollgate_store::{Entity, StoreError, StoreErrorKind};

/// The result of work on a connection.
pub(crate) type Worked<T> = Result<T, Failure>;

/// Why work was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite or a row refused.
    Sql(SqlError),
    /// A port's rule refused.
    Refused(StoreErrorKind, &'static str),
    /// A later attempt at the same call has taken over.
    Superseded,
    /// What was read is not what this adapter writes.
    Unreadable(&'static str),
    /// The database is not one that this version can work on.
    Unfit(String),
    /// Too much waits already.
    Full,
    /// The store is closing, or its thread ended.
    Stopped,
    /// A thread could not be started.
    Thread(std::io::Error),
    /// The file could not be opened or brought to disk.
    File(std::io::Error),
}

impl Failure {
    /// As callers see it.
    pub(crate) fn about(self, entity: Entity) -> StoreError {
        match self {
            Self::Sql(error) => StoreError::caused(kind_of(&error), entity, error),
            Self::Refused(kind, why) => StoreError::caused(kind, entity, why),
            Self::Superseded => StoreError::caused(
                StoreErrorKind::Conflict,
                Entity::Call,
                "a later attempt at the same call has taken over",
            ),
            Self::Unreadable(what) => {
                let why = format!("unreadable {what}");
                StoreError::caused(StoreErrorKind::Corrupt, entity, why)
            }
            Self::Unfit(why) => StoreError::caused(StoreErrorKind::Corrupt, entity, why),
            Self::Full => StoreError::caused(
                StoreErrorKind::Unavailable,
                entity,
                "too much waits already",
            ),
            Self::Stopped => {
                StoreError::caused(StoreErrorKind::Unavailable, entity, "the store is closed")
            }
            Self::Thread(error) | Self::File(error) => {
                StoreError::caused(StoreErrorKind::Unavailable, entity, error)
            }
        }
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(Unreadable(what): Unreadable) -> Self {
        Self::Unreadable(what)
    }
}

fn kind_of(error: &SqlError) -> StoreErrorKind {
    match error {
        SqlError::SqliteFailure(cause, _) => match cause.code {
            ErrorCode::ConstraintViolation => StoreErrorKind::AlreadyExists,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreErrorKind::Corrupt,
            ErrorCode::TooBig | ErrorCode::TypeMismatch => StoreErrorKind::Unstorable,
            // Busy, locked, full, I/O, permissions: the same call may succeed later.
            _ => StoreErrorKind::Unavailable,
        },
        SqlError::ToSqlConversionFailure(_) => StoreErrorKind::Unstorable,
        _ => StoreErrorKind::Corrupt,
    }
}
