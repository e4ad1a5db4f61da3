//! Settings, and whether the database is in order.

use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;
use tollgate_store::{Entity, SettingsStore, StoreResult};

use crate::PostgresStore;
use crate::catalog::lock_number;
use crate::columns::Columns;
use crate::failure::{Failure, Worked};
use crate::sql;

async fn find(client: &impl GenericClient, name: &str) -> Worked<Option<String>> {
    let statement = client.prepare_cached(sql::settings::FIND_SETTING).await?;
    match client.query_opt(&statement, &[&name]).await? {
        Some(row) => Ok(Some(Columns::of(&row).text()?.to_owned())),
        None => Ok(None),
    }
}

#[async_trait]
impl SettingsStore for PostgresStore {
    async fn find_setting(&self, name: &str) -> StoreResult<Option<String>> {
        let name = name.to_owned();
        self.read(Entity::Setting, move |client| {
            let name = name.clone();
            Box::pin(async move { find(client, &name).await })
        })
        .await
    }

    async fn set_setting_once(&self, name: &str, value: &str) -> StoreResult<String> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.write(Entity::Setting, move |transaction| {
            let (name, value) = (name.clone(), value.clone());
            Box::pin(async move {
                let set = transaction
                    .prepare_cached(sql::settings::SET_SETTING_ONCE)
                    .await?;
                // Waits for another that sets it; the next statement then sees what holds.
                transaction.execute(&set, &[&name, &value]).await?;
                let held = find(transaction, &name).await?;
                held.ok_or(Failure::Unreadable("setting"))
            })
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
        self.write(Entity::Setting, move |transaction| {
            let (name, before, value) = (name.clone(), before.clone(), value.clone());
            Box::pin(async move {
                let changed = match before {
                    Some(before) => {
                        let replace = sql::settings::REPLACE_SETTING;
                        let replace = transaction.prepare_cached(replace).await?;
                        let values: [&(dyn ToSql + Sync); 3] = [&name, &before, &value];
                        transaction.execute(&replace, &values).await?
                    }
                    None => {
                        let set = sql::settings::SET_SETTING_ONCE;
                        let set = transaction.prepare_cached(set).await?;
                        transaction.execute(&set, &[&name, &value]).await?
                    }
                };
                Ok(changed > 0)
            })
        })
        .await
    }

    async fn ping(&self) -> StoreResult<()> {
        // Locking a row is refused by a server that only reads, so this asks for both.
        self.write(Entity::Database, |transaction| {
            Box::pin(async move { lock_number(transaction).await.map(drop) })
        })
        .await
    }
}
