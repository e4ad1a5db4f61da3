//! API keys.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::{Client, Transaction};
use tollgate_model::{ApiKey, KeyHash, KeyId, SubscriptionId};
use tollgate_store::{
    Effects, Entity, KEYS_LOAD_MAX, KeyFilter, KeyStore, KeyWrite, Page, PageRequest,
    StoreErrorKind, StoreResult, VersionedKey,
};

use crate::PostgresStore;
use crate::catalog::{commit_effects, lock_number};
use crate::columns::first_count;
use crate::failure::{Failure, Worked};
use crate::{key_rows, sql};

/// Larger than any id.
const AFTER_ALL_IDS: &str = "\u{10ffff}";

async fn check_room(transaction: &Transaction<'_>, key: &ApiKey, live_max: u32) -> Worked<()> {
    let count = transaction.prepare_cached(sql::keys::COUNT_LIVE).await?;
    let row = transaction
        .query_one(&count, &[&key.subscription.as_str(), &key.created_at.0])
        .await?;
    if first_count(&row)? < u64::from(live_max) {
        Ok(())
    } else {
        Err(Failure::Refused(
            StoreErrorKind::Conflict,
            "live_keys_max is reached",
        ))
    }
}

async fn find_version(transaction: &Transaction<'_>, id: &KeyId) -> Worked<Option<u64>> {
    let find = transaction.prepare_cached(sql::keys::FIND_VERSION).await?;
    let row = transaction.query_opt(&find, &[&id.as_str()]).await?;
    row.as_ref().map(first_count).transpose()
}

async fn write(transaction: &Transaction<'_>, write: &KeyWrite) -> Worked<u64> {
    // Every write raises the number, so writers come one after the other from here on.
    lock_number(transaction).await?;
    let key = &write.key;
    let refused = |kind, why| Err(Failure::Refused(kind, why));
    let version = find_version(transaction, &key.id).await?;
    let text = match (write.expected_version, version) {
        (0, Some(_)) => return refused(StoreErrorKind::AlreadyExists, "the key is there already"),
        (0, None) => {
            if let Some(live_max) = write.live_keys_max {
                check_room(transaction, key, live_max).await?;
            }
            sql::keys::INSERT_KEY
        }
        (_, None) => return refused(StoreErrorKind::NotFound, "there is no such key"),
        (expected, Some(version)) if version != expected => {
            return refused(StoreErrorKind::Conflict, "the key has changed meanwhile");
        }
        _ => sql::keys::UPDATE_KEY,
    };
    let statement = transaction.prepare_cached(text).await?;
    key_rows::execute(transaction, &statement, key, write.expected_version + 1).await?;
    commit_effects(transaction, &write.effects).await
}

async fn list(
    client: &Client,
    filter: &KeyFilter,
    page: &PageRequest,
) -> Worked<Page<VersionedKey>> {
    let before = page.cursor.as_deref().unwrap_or(AFTER_ALL_IDS);
    let wanted = page.items_max();
    // One more than asked for tells whether there is a next page.
    let limit = i64::from(wanted) + 1;
    let rows = match &filter.subscription {
        None => {
            let list = client.prepare_cached(sql::keys::LIST_KEYS).await?;
            client.query(&list, &[&before, &limit]).await?
        }
        Some(id) => {
            let list = client
                .prepare_cached(sql::keys::LIST_KEYS_OF_SUBSCRIPTION)
                .await?;
            client
                .query(&list, &[&before, &limit, &id.as_str()])
                .await?
        }
    };
    let mut items = rows
        .iter()
        .map(key_rows::read)
        .collect::<Worked<Vec<VersionedKey>>>()?;
    let more = items.len() > wanted as usize;
    items.truncate(wanted as usize);
    let last = items.last().map(|row| row.key.id.as_str().to_owned());
    Ok(Page {
        next_cursor: last.filter(|_| more),
        items,
    })
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn write_key(&self, command: KeyWrite) -> StoreResult<u64> {
        let command = Arc::new(command);
        self.write(Entity::Key, move |transaction| {
            let command = Arc::clone(&command);
            Box::pin(async move { write(transaction, &command).await })
        })
        .await
    }

    async fn find_key(&self, id: &KeyId) -> StoreResult<Option<VersionedKey>> {
        let id = id.clone();
        self.read(Entity::Key, move |client| {
            let id = id.clone();
            Box::pin(async move {
                let find = client.prepare_cached(sql::keys::FIND_KEY).await?;
                let row = client.query_opt(&find, &[&id.as_str()]).await?;
                row.as_ref().map(key_rows::read).transpose()
            })
        })
        .await
    }

    async fn find_key_by_hash(&self, hash: &KeyHash) -> StoreResult<Option<VersionedKey>> {
        let hash = hash.0;
        self.read(Entity::Key, move |client| {
            Box::pin(async move {
                let find = client.prepare_cached(sql::keys::FIND_KEY_BY_HASH).await?;
                let row = client.query_opt(&find, &[&&hash[..]]).await?;
                row.as_ref().map(key_rows::read).transpose()
            })
        })
        .await
    }

    async fn list_keys(
        &self,
        filter: &KeyFilter,
        page: &PageRequest,
    ) -> StoreResult<Page<VersionedKey>> {
        let question = Arc::new((filter.clone(), page.clone()));
        self.read(Entity::Key, move |client| {
            let question = Arc::clone(&question);
            Box::pin(async move { list(client, &question.0, &question.1).await })
        })
        .await
    }

    async fn load_keys(&self, after: Option<&KeyId>, limit: u32) -> StoreResult<Vec<ApiKey>> {
        let after = after.cloned();
        let limit = i64::from(limit.clamp(1, KEYS_LOAD_MAX));
        self.read(Entity::Key, move |client| {
            let after = after.clone();
            Box::pin(async move {
                let after = after.as_ref().map_or("", KeyId::as_str);
                let load = client.prepare_cached(sql::keys::LOAD_KEYS).await?;
                let rows = client.query(&load, &[&after, &limit]).await?;
                rows.iter().map(key_rows::read_key).collect()
            })
        })
        .await
    }

    async fn remove_keys_of(&self, subscription: &SubscriptionId) -> StoreResult<u64> {
        let subscription = subscription.clone();
        self.write(Entity::Key, move |transaction| {
            let subscription = subscription.clone();
            Box::pin(async move {
                lock_number(transaction).await?;
                let remove = transaction
                    .prepare_cached(sql::keys::REMOVE_KEYS_OF)
                    .await?;
                let removed = transaction
                    .execute(&remove, &[&subscription.as_str()])
                    .await?;
                if removed > 0 {
                    commit_effects(transaction, &Effects::default()).await?;
                }
                Ok(removed)
            })
        })
        .await
    }
}
