//! Settings, and whether the database is in order.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use tollgate_store::{Entity, SettingsStore, StoreResult};

use crate::SqliteStore;
use crate::catalog::read_number;
use crate::failure::{Failure, Worked};
use crate::queue::Lane;
use crate::sql;

fn find(connection: &Connection, name: &str) -> Worked<Option<String>> {
    let mut statement = connection.prepare_cached(sql::settings::FIND_SETTING)?;
    Ok(statement.query_row((name,), |row| row.get(0)).optional()?)
}

#[async_trait]
impl SettingsStore for SqliteStore {
    async fn find_setting(&self, name: &str) -> StoreResult<Option<String>> {
        let name = name.to_owned();
        self.read(Entity::Setting, move |connection, _| {
            find(connection, &name)
        })
        .await
    }

    async fn set_setting_once(&self, name: &str, value: &str) -> StoreResult<String> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.write(Lane::Command, Entity::Setting, move |transaction| {
            let mut set = transaction.prepare_cached(sql::settings::SET_SETTING_ONCE)?;
            set.execute((&name, &value))?;
            find(transaction, &name)?.ok_or(Failure::Unreadable("setting"))
        })
        .await
    }

    async fn replace_setting(
        &self,
        name: &str,
        before: Option<&str>,
        value: &str,
    ) -> StoreResult<bool> {
        let (name, value) = (name.to_owned(), value.to_owned());
        let before = before.map(str::to_owned);
        self.write(Lane::Command, Entity::Setting, move |transaction| {
            let changed = match before {
                Some(before) => transaction
                    .prepare_cached(sql::settings::REPLACE_SETTING)?
                    .execute((&name, &before, &value))?,
                None => transaction
                    .prepare_cached(sql::settings::SET_SETTING_ONCE)?
                    .execute((&name, &value))?,
            };
            Ok(changed > 0)
        })
        .await
    }

    async fn ping(&self) -> StoreResult<()> {
        // A transaction of the writer takes the write lock, so this asks for both.
        self.write(Lane::Command, Entity::Database, |transaction| {
            read_number(transaction).map(drop)
        })
        .await
    }
}
