//! Where the store is, as configured. Shown without the password, however it is shown.

use std::fmt;
use std::path::{Path, PathBuf};

use tollgate_store_postgres::PostgresStore;

/// What `store.url` names.
#[derive(Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// `sqlite://` and a file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(PostgresUrl),
}

/// A URL that may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// The URL with its password, for connecting.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Schemes of PostgreSQL's URLs.
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];

impl StorePlace {
    /// Reads a URL; files are relative to `base`.
    ///
    /// # Errors
    /// What is wrong with it, without the password; without the name of the setting.
    pub fn read(url: &str, base: &Path) -> Result<Self, String> {
        if let Some(file) = url.strip_prefix("sqlite://") {
            return Ok(Self::Sqlite(base.join(file)));
        }
        if POSTGRES.iter().any(|scheme| url.starts_with(scheme)) {
            return match PostgresStore::check_url(url) {
                Ok(_) => Ok(Self::Postgres(PostgresUrl(url.to_owned()))),
                Err(why) => Err(why),
            };
        }
        // What follows the scheme may hold a password.
        let scheme = url.split("://").next().filter(|_| url.contains("://"));
        Err(format!(
            "must begin with sqlite:// or postgres://, found {}",
            scheme.map_or("no scheme".to_owned(), |scheme| format!("\"{scheme}://\""))
        ))
    }

    /// The file, where it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => Some(file),
            Self::Postgres(_) => None,
        }
    }
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "{}", file.display()),
            Self::Postgres(url) => match PostgresStore::check_url(url.reveal()) {
                Ok(name) => f.write_str(&name),
                Err(_) => f.write_str("a PostgreSQL database"),
            },
        }
    }
}

impl fmt::Debug for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl")
    }
}
