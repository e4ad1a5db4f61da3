//! What can go wrong inside, what of it leaves ([`StoreError`] with a kind), and what becomes of
//! the connection that it happened on.

use std::error::Error as _;

use deadpool_postgres::PoolError;
use deadpool_postgres::TimeoutType;
use tokio_postgres::Error as SqlError;
use tokio_postgres::error::SqlState;
use tollgate_store::json::Unreadable;
use tollgate_store::{Entity, StoreError, StoreErrorKind};

/// The result of work on a connection.
pub(crate) type Worked<T> = Result<T, Failure>;

/// Why work was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server or the way to it refused.
    Sql(SqlError),
    /// No connection was to be had.
    Pool(PoolError),
    /// A port's rule refused.
    Refused(StoreErrorKind, &'static str),
    /// A later attempt at the same call has taken over.
    Superseded,
    /// What was read is not what this adapter writes.
    Unreadable(&'static str),
    /// The database is not one that this version can work on.
    Unfit(String),
    /// The URL does not say where to connect, or how.
    Address(String),
    /// Too much waits already.
    Full,
    /// The server did not answer in time.
    Silent,
}

/// What becomes of a connection, and of the work, after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The connection is fine; so would be the next try, which would fail the same way.
    Keep,
    /// The connection is fine, and the transaction was undone because of another one: try again.
    Again,
    /// The connection leads nowhere, or to a server that does not write: throw it away, and those
    /// that were made before it.
    Evict,
}

impl Failure {
    /// As callers see it.
    pub(crate) fn about(self, entity: Entity) -> StoreError {
        let kind = self.kind();
        let entity = match self {
            Self::Superseded => Entity::Call,
            _ => entity,
        };
        StoreError::caused(kind, entity, self.in_words())
    }

    /// What happened.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Sql(error) => in_words(error),
            Self::Pool(error) => pool_in_words(error),
            Self::Refused(_, why) => (*why).to_owned(),
            Self::Superseded => "a later attempt at the same call has taken over".to_owned(),
            Self::Unreadable(what) => format!("unreadable {what}"),
            Self::Unfit(why) | Self::Address(why) => why.clone(),
            Self::Full => "too much waits already".to_owned(),
            Self::Silent => "PostgreSQL does not answer in time".to_owned(),
        }
    }

    /// As callers see its kind.
    pub(crate) fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Sql(error) => kind_of(error),
            Self::Refused(kind, _) => *kind,
            Self::Superseded => StoreErrorKind::Conflict,
            Self::Unreadable(_) | Self::Unfit(_) => StoreErrorKind::Corrupt,
            Self::Pool(_) | Self::Address(_) | Self::Full | Self::Silent => {
                StoreErrorKind::Unavailable
            }
        }
    }

    /// What becomes of the connection.
    pub(crate) fn fate(&self) -> Fate {
        match self {
            Self::Sql(error) => fate_of(error),
            Self::Silent => Fate::Evict,
            _ => Fate::Keep,
        }
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(Unreadable(what): Unreadable) -> Self {
        Self::Unreadable(what)
    }
}

fn fate_of(error: &SqlError) -> Fate {
    let Some(code) = error.code() else {
        // No answer of the server: the connection broke.
        return Fate::Evict;
    };
    match code {
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => Fate::Again,
        // A statement prepared before the schema or the server changed.
        &SqlState::FEATURE_NOT_SUPPORTED | &SqlState::INVALID_SQL_STATEMENT_NAME => Fate::Evict,
        // Another server is the one that writes now, or this one will be.
        &SqlState::READ_ONLY_SQL_TRANSACTION => Fate::Evict,
        code if is_shutdown(code) || code.code().starts_with("08") => Fate::Evict,
        _ => Fate::Keep,
    }
}

/// 57P01 to 57P03 and 57P05: the server ends, restarts or ended the connection.
fn is_shutdown(code: &SqlState) -> bool {
    code.code().starts_with("57P")
}

fn kind_of(error: &SqlError) -> StoreErrorKind {
    let Some(code) = error.code() else {
        return StoreErrorKind::Unavailable;
    };
    if *code == SqlState::UNIQUE_VIOLATION {
        return StoreErrorKind::AlreadyExists;
    }
    match code.code().get(..2) {
        // Values that do not fit a column, an index or the encoding.
        Some("22" | "54") => StoreErrorKind::Unstorable,
        // Tables or columns that are not there, damaged pages.
        Some("42" | "XX") if !is_permission(code) => StoreErrorKind::Corrupt,
        // Locks, memory, disk, connections, shutdown: the same call may succeed later.
        _ => StoreErrorKind::Unavailable,
    }
}

fn is_permission(code: &SqlState) -> bool {
    *code == SqlState::INSUFFICIENT_PRIVILEGE
}

/// What the server said, with its code; the client's own words where it said nothing.
fn in_words(error: &SqlError) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn pool_in_words(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => in_words(error),
        PoolError::Timeout(TimeoutType::Wait) => "every connection is taken".to_owned(),
        PoolError::Timeout(_) => "PostgreSQL does not take connections in time".to_owned(),
        error => error.to_string(),
    }
}

/// Why no first connection could be made: what happened, what it means, what to do.
pub(crate) fn cannot_connect(failure: &Failure, target: &str) -> String {
    let error = match failure {
        Failure::Sql(error) | Failure::Pool(PoolError::Backend(error)) => error,
        _ => return format!("{target}: {}", failure.in_words()),
    };
    let said = in_words(error);
    let advice = match error.code() {
        None => "is PostgreSQL running there, and may this machine connect?",
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "check user and password in store.url"
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            "make the database first: createdb, or CREATE DATABASE"
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            "the user must own the database, or have CREATE on its schema"
        }
        Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            "raise max_connections, or close what else is connected"
        }
        Some(&SqlState::UNDEFINED_OBJECT) => "PostgreSQL 14 or newer is needed",
        Some(_) => "see the server's log",
    };
    format!("{target}: {said}: {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_servers_that_end_or_do_not_write_are_not_kept() {
        for code in ["57P01", "57P02", "57P03"] {
            assert!(is_shutdown(&SqlState::from_code(code)), "{code}");
        }
        assert!(!is_shutdown(&SqlState::QUERY_CANCELED));
        assert_eq!(Failure::Silent.fate(), Fate::Evict);
        assert_eq!(Failure::Full.fate(), Fate::Keep);
    }
}
