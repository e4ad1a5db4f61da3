//! Every statement, by port and file name. The text lives in `queries/<port>/<name>.sql`; files of
//! one name do the same in every adapter.

/// Migrations, and the partitions of records.
pub(crate) mod schema {
    pub(crate) const ADD_MIGRATION: &str = include_str!("../queries/schema/add_migration.sql");
    pub(crate) const ATTACH_DAY: &str = include_str!("../queries/schema/attach_day.sql");
    pub(crate) const CREATE_DAY: &str = include_str!("../queries/schema/create_day.sql");
    pub(crate) const CREATE_MIGRATIONS: &str =
        include_str!("../queries/schema/create_migrations.sql");
    pub(crate) const FIND_SERVER: &str = include_str!("../queries/schema/find_server.sql");
    pub(crate) const LIST_DAYS: &str = include_str!("../queries/schema/list_days.sql");
    pub(crate) const LIST_MIGRATIONS: &str = include_str!("../queries/schema/list_migrations.sql");
    pub(crate) const LOCK_DAYS: &str = include_str!("../queries/schema/lock_days.sql");
    pub(crate) const LOCK_MIGRATIONS: &str = include_str!("../queries/schema/lock_migrations.sql");
}

/// The catalog and the audit trail.
pub(crate) mod catalog {
    pub(crate) const ADD_AUDIT: &str = include_str!("../queries/catalog/add_audit.sql");
    pub(crate) const CATALOG_VERSION: &str = include_str!("../queries/catalog/catalog_version.sql");
    pub(crate) const LIST_AUDIT: &str = include_str!("../queries/catalog/list_audit.sql");
    pub(crate) const LOAD_CATALOG: &str = include_str!("../queries/catalog/load_catalog.sql");
    pub(crate) const LOCK_NUMBER: &str = include_str!("../queries/catalog/lock_number.sql");
    pub(crate) const PUT_OBJECT: &str = include_str!("../queries/catalog/put_object.sql");
    pub(crate) const RAISE_NUMBER: &str = include_str!("../queries/catalog/raise_number.sql");
    pub(crate) const REMOVE_OBJECT: &str = include_str!("../queries/catalog/remove_object.sql");
}

/// API keys.
pub(crate) mod keys {
    pub(crate) const COUNT_LIVE: &str = include_str!("../queries/keys/count_live.sql");
    pub(crate) const FIND_KEY: &str = include_str!("../queries/keys/find_key.sql");
    pub(crate) const FIND_KEY_BY_HASH: &str = include_str!("../queries/keys/find_key_by_hash.sql");
    pub(crate) const FIND_VERSION: &str = include_str!("../queries/keys/find_version.sql");
    pub(crate) const INSERT_KEY: &str = include_str!("../queries/keys/insert_key.sql");
    pub(crate) const LIST_KEYS: &str = include_str!("../queries/keys/list_keys.sql");
    pub(crate) const LIST_KEYS_OF_SUBSCRIPTION: &str =
        include_str!("../queries/keys/list_keys_of_subscription.sql");
    pub(crate) const LOAD_KEYS: &str = include_str!("../queries/keys/load_keys.sql");
    pub(crate) const REMOVE_KEYS_OF: &str = include_str!("../queries/keys/remove_keys_of.sql");
    pub(crate) const UPDATE_KEY: &str = include_str!("../queries/keys/update_key.sql");
}

/// Calls under an idempotency key.
pub(crate) mod calls {
    pub(crate) const COUNT_CALLS: &str = include_str!("../queries/calls/count_calls.sql");
    pub(crate) const FIND_CALL: &str = include_str!("../queries/calls/find_call.sql");
    pub(crate) const FORGET_CALLS: &str = include_str!("../queries/calls/forget_calls.sql");
    pub(crate) const LOCK_CLAIMS: &str = include_str!("../queries/calls/lock_claims.sql");
    pub(crate) const MARK_DONE: &str = include_str!("../queries/calls/mark_done.sql");
    pub(crate) const PUT_ANSWER: &str = include_str!("../queries/calls/put_answer.sql");
    pub(crate) const PUT_CALL: &str = include_str!("../queries/calls/put_call.sql");
    pub(crate) const RELEASE_CALL: &str = include_str!("../queries/calls/release_call.sql");
}

/// Access tokens.
pub(crate) mod tokens {
    pub(crate) const FIND_TOKEN: &str = include_str!("../queries/tokens/find_token.sql");
    pub(crate) const LIST_TOKENS: &str = include_str!("../queries/tokens/list_tokens.sql");
    pub(crate) const PUT_TOKEN: &str = include_str!("../queries/tokens/put_token.sql");
}

/// Settings.
pub(crate) mod settings {
    pub(crate) const FIND_SETTING: &str = include_str!("../queries/settings/find_setting.sql");
    pub(crate) const REPLACE_SETTING: &str =
        include_str!("../queries/settings/replace_setting.sql");
    pub(crate) const SET_SETTING_ONCE: &str =
        include_str!("../queries/settings/set_setting_once.sql");
}

/// Usage.
pub(crate) mod usage {
    pub(crate) const ADD_KEY_USE: &str = include_str!("../queries/usage/add_key_use.sql");
    pub(crate) const ADD_PERIOD: &str = include_str!("../queries/usage/add_period.sql");
    pub(crate) const ADD_SCOPE_TOTAL: &str = include_str!("../queries/usage/add_scope_total.sql");
    pub(crate) const ADD_STREAM_TOTALS: &str =
        include_str!("../queries/usage/add_stream_totals.sql");
    pub(crate) const ALL_HIGH_WATER_MARKS: &str =
        include_str!("../queries/usage/all_high_water_marks.sql");
    pub(crate) const COPY_BUCKET_SUMS: &str = include_str!("../queries/usage/copy_bucket_sums.sql");
    pub(crate) const COPY_BUCKETS: &str = include_str!("../queries/usage/copy_buckets.sql");
    pub(crate) const COPY_RECORDS: &str = include_str!("../queries/usage/copy_records.sql");
    pub(crate) const DROP_MINUTE_BUCKETS: &str =
        include_str!("../queries/usage/drop_minute_buckets.sql");
    pub(crate) const DROP_MINUTE_SUMS: &str = include_str!("../queries/usage/drop_minute_sums.sql");
    pub(crate) const FIND_BUCKET: &str = include_str!("../queries/usage/find_bucket.sql");
    pub(crate) const FIND_MARK: &str = include_str!("../queries/usage/find_mark.sql");
    pub(crate) const FIND_SUBSCRIPTIONS_OF_KEY: &str =
        include_str!("../queries/usage/find_subscriptions_of_key.sql");
    pub(crate) const HIGH_WATER_MARKS: &str = include_str!("../queries/usage/high_water_marks.sql");
    pub(crate) const LEDGER_BUCKETS: &str = include_str!("../queries/usage/ledger_buckets.sql");
    pub(crate) const LEDGER_RECORDS: &str = include_str!("../queries/usage/ledger_records.sql");
    pub(crate) const LIST_BUCKETS: &str = include_str!("../queries/usage/list_buckets.sql");
    pub(crate) const LIST_PERIOD_UNITS: &str =
        include_str!("../queries/usage/list_period_units.sql");
    pub(crate) const LIST_RECORDS: &str = include_str!("../queries/usage/list_records.sql");
    pub(crate) const LOCK_WRITER: &str = include_str!("../queries/usage/lock_writer.sql");
    pub(crate) const MOVE_WRITER: &str = include_str!("../queries/usage/move_writer.sql");
    pub(crate) const PERIOD_UNITS: &str = include_str!("../queries/usage/period_units.sql");
    pub(crate) const PUT_BUCKET_SUMS: &str = include_str!("../queries/usage/put_bucket_sums.sql");
    pub(crate) const PUT_STREAM: &str = include_str!("../queries/usage/put_stream.sql");
    pub(crate) const TOTAL_UNITS: &str = include_str!("../queries/usage/total_units.sql");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use crate::testing::Database;

    /// Files that only one adapter has, with the reason.
    const ONLY_HERE: [&str; 13] = [
        // Locks; SQLite has one writer.
        "calls/lock_claims.sql",
        "catalog/lock_number.sql",
        "schema/lock_days.sql",
        "schema/lock_migrations.sql",
        "usage/lock_writer.sql",
        "usage/move_writer.sql",
        // The server, which SQLite does not have.
        "schema/find_server.sql",
        // Partitions.
        "schema/attach_day.sql",
        "schema/create_day.sql",
        "schema/list_days.sql",
        // COPY in place of inserts.
        "usage/copy_bucket_sums.sql",
        "usage/copy_buckets.sql",
        "usage/copy_records.sql",
    ];
    const ONLY_THERE: [&str; 5] = [
        "usage/data_version.sql",
        "usage/find_last_record.sql",
        // A page is one statement here.
        "usage/find_slice_end.sql",
        "usage/insert_bucket.sql",
        "usage/insert_record.sql",
    ];

    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(files_below(&path));
            } else {
                files.push(path);
            }
        }
        files
    }

    fn names(crate_folder: &Path) -> BTreeSet<String> {
        let folder = crate_folder.join("queries");
        let name = |file: PathBuf| {
            file.strip_prefix(&folder)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        files_below(&folder).into_iter().map(name).collect()
    }

    #[tokio::test]
    async fn every_query_file_is_used_and_fits_the_schema() {
        let database = Database::make().await;
        database.open().await;
        let client = database.connect().await;
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = names(here);
        assert!(files.len() > 40);
        for file in files {
            let text = std::fs::read_to_string(here.join("queries").join(&file)).unwrap();
            // The adapter puts numbers there.
            let text = text.replace("/*from*/", "0").replace("/*to*/", "1");
            if let Err(error) = client.prepare(&text).await {
                panic!("{file}: {error:?}");
            }
            let included = include_str!("sql.rs").contains(&format!("../queries/{file}\""));
            assert!(included, "{file} is not included");
        }
    }

    #[test]
    fn both_adapters_have_the_same_query_files_but_for_those_named() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let there = here.with_file_name("store-sqlite");
        let (mut ours, mut theirs) = (names(here), names(&there));
        ours.retain(|name| !ONLY_HERE.contains(&name.as_str()));
        theirs.retain(|name| !ONLY_THERE.contains(&name.as_str()));
        assert_eq!(ours, theirs);
    }
}
