//! Where events are taken in: a file, or a schema of its own in a PostgreSQL database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tollgate_store::Store;
use tollgate_store_postgres::{PostgresStore, Scratch};
use tollgate_store_sqlite::SqliteStore;

/// Where `--store postgres` finds its database.
const URL_VARIABLE: &str = "TOLLGATE__STORE__URL";

/// See the module.
pub enum Place {
    File(PathBuf),
    Schema(Scratch),
}

impl Place {
    /// Makes it, empty; `folder` is where files go.
    ///
    /// # Errors
    /// When `store` is none, or the database cannot be reached.
    pub async fn make(store: &str, folder: &Path) -> anyhow::Result<Self> {
        let url = match store {
            "sqlite" => return Ok(Self::File(folder.join("tollgate.db"))),
            "postgres" => std::env::var(URL_VARIABLE)
                .ok()
                .filter(|url| is_postgres(url))
                .with_context(|| format!("{URL_VARIABLE} holds no URL postgres://..."))?,
            url if is_postgres(url) => url.to_owned(),
            _ => anyhow::bail!("--store is sqlite, postgres, or a URL postgres://..."),
        };
        let name = format!("tollgate_bench_{}", std::process::id());
        Ok(Self::Schema(Scratch::make(&url, &name).await?))
    }

    /// Opens a store there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        Ok(match self {
            Self::File(file) => {
                let options = tollgate_store_sqlite::Options::default();
                Arc::new(SqliteStore::open(file, &options)?)
            }
            Self::Schema(scratch) => {
                let options = tollgate_store_postgres::Options::default();
                Arc::new(PostgresStore::open(scratch.url(), &options).await?)
            }
        })
    }

    /// What the store takes on disk, once it is closed; a schema is removed.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn measure_and_remove(self) -> anyhow::Result<u64> {
        Ok(match self {
            Self::File(file) => std::fs::metadata(&file)?.len(),
            Self::Schema(scratch) => {
                let bytes = scratch.bytes().await?;
                scratch.remove().await?;
                bytes
            }
        })
    }
}

/// Whether `--store` means a PostgreSQL server.
pub fn is_elsewhere(store: &str) -> bool {
    store != "sqlite"
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}
