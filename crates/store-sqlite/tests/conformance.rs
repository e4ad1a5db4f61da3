//! The suite that every store must pass.

use tempfile::TempDir;
use tollgate_store_sqlite::{Options, SqliteStore};

fn new_store() -> (TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db"), &Options::default()).unwrap();
    (folder, store)
}

tollgate_store::conformance_suite!(new_store());
