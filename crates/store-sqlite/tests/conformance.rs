//! The suite that every store must pass.

use tempfile::TempDir;
use tollgate_store::conformance::Checked;
use tollgate_store_sqlite::{Options, SqliteStore};

fn new_store() -> Checked<(TempDir, SqliteStore)> {
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(&folder.path().join("store.db"), &Options::default())?;
    Ok((folder, store))
}

tollgate_store::conformance_suite!(new_store()?);
