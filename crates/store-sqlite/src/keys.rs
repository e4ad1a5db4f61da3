//! API keys.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Params, Transaction};
use tollgate_model::{ApiKey, KeyHash, KeyId, SubscriptionId};
use tollgate_store::{
    Effects, Entity, KEYS_LOAD_MAX, KeyFilter, KeyStore, KeyWrite, Page, PageRequest,
    StoreErrorKind, StoreResult, VersionedKey,
};

use crate::SqliteStore;
use crate::catalog::commit_effects;
use crate::columns::first_count;
use crate::failure::{Failure, Worked};
use crate::queue::Lane;
use crate::{key_rows, sql};

/// Larger than any id.
const AFTER_ALL_IDS: &str = "\u{10ffff}";

fn check_room(transaction: &Transaction<'_>, key: &ApiKey, live_max: u32) -> Worked<()> {
    let mut count = transaction.prepare_cached(sql::keys::COUNT_LIVE)?;
    let parameters = (key.subscription.as_str(), key.created_at.0);
    let live: u32 = count.query_row(parameters, |row| row.get(0))?;
    if live < live_max {
        Ok(())
    } else {
        Err(Failure::Refused(
            StoreErrorKind::Conflict,
            "live_keys_max is reached",
        ))
    }
}

fn find_version(transaction: &Transaction<'_>, id: &KeyId) -> Worked<Option<u64>> {
    let mut find = transaction.prepare_cached(sql::keys::FIND_VERSION)?;
    Ok(find.query_row((id.as_str(),), first_count).optional()?)
}

fn write(transaction: &Transaction<'_>, write: &KeyWrite) -> Worked<u64> {
    let key = &write.key;
    let refused = |kind, why| Err(Failure::Refused(kind, why));
    let text = match (write.expected_version, find_version(transaction, &key.id)?) {
        (0, Some(_)) => return refused(StoreErrorKind::AlreadyExists, "the key is there already"),
        (0, None) => {
            if let Some(live_max) = write.live_keys_max {
                check_room(transaction, key, live_max)?;
            }
            sql::keys::INSERT_KEY
        }
        (_, None) => return refused(StoreErrorKind::NotFound, "there is no such key"),
        (expected, Some(version)) if version != expected => {
            return refused(StoreErrorKind::Conflict, "the key has changed meanwhile");
        }
        _ => sql::keys::UPDATE_KEY,
    };
    let mut statement = transaction.prepare_cached(text)?;
    key_rows::execute(&mut statement, key, write.expected_version + 1)?;
    commit_effects(transaction, &write.effects)
}

fn find<P: Params>(
    connection: &Connection,
    text: &str,
    parameters: P,
) -> Worked<Option<VersionedKey>> {
    let mut statement = connection.prepare_cached(text)?;
    let found = statement
        .query_row(parameters, |row| Ok(key_rows::read(row)))
        .optional()?;
    found.transpose()
}

fn list(
    connection: &Connection,
    filter: &KeyFilter,
    page: &PageRequest,
) -> Worked<Page<VersionedKey>> {
    let before = page.cursor.as_deref().unwrap_or(AFTER_ALL_IDS);
    let wanted = page.items_max();
    // One more than asked for tells whether there is a next page.
    let rows = wanted + 1;
    let mut items = match &filter.subscription {
        None => connection
            .prepare_cached(sql::keys::LIST_KEYS)?
            .query_and_then((before, rows), key_rows::read)?
            .collect::<Worked<Vec<VersionedKey>>>()?,
        Some(id) => connection
            .prepare_cached(sql::keys::LIST_KEYS_OF_SUBSCRIPTION)?
            .query_and_then((before, rows, id.as_str()), key_rows::read)?
            .collect::<Worked<Vec<VersionedKey>>>()?,
    };
    let more = items.len() > wanted as usize;
    items.truncate(wanted as usize);
    let last = items.last().map(|row| row.key.id.as_str().to_owned());
    Ok(Page {
        next_cursor: last.filter(|_| more),
        items,
    })
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn write_key(&self, command: KeyWrite) -> StoreResult<u64> {
        self.write(Lane::Command, Entity::Key, move |transaction| {
            write(transaction, &command)
        })
        .await
    }

    async fn find_key(&self, id: &KeyId) -> StoreResult<Option<VersionedKey>> {
        let id = id.clone();
        self.read(Entity::Key, move |connection, _| {
            find(connection, sql::keys::FIND_KEY, (id.as_str(),))
        })
        .await
    }

    async fn find_key_by_hash(&self, hash: &KeyHash) -> StoreResult<Option<VersionedKey>> {
        let hash = hash.0;
        self.read(Entity::Key, move |connection, _| {
            find(connection, sql::keys::FIND_KEY_BY_HASH, (hash,))
        })
        .await
    }

    async fn list_keys(
        &self,
        filter: &KeyFilter,
        page: &PageRequest,
    ) -> StoreResult<Page<VersionedKey>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(Entity::Key, move |connection, _| {
            list(connection, &filter, &page)
        })
        .await
    }

    async fn load_keys(&self, after: Option<&KeyId>, limit: u32) -> StoreResult<Vec<ApiKey>> {
        let after = after.cloned();
        self.read(Entity::Key, move |connection, _| {
            let after = after.as_ref().map_or("", KeyId::as_str);
            let limit = limit.clamp(1, KEYS_LOAD_MAX);
            let mut statement = connection.prepare_cached(sql::keys::LOAD_KEYS)?;
            let mut keys = Vec::with_capacity(limit as usize);
            for key in statement.query_and_then((after, limit), key_rows::read_key)? {
                keys.push(key?);
            }
            Ok(keys)
        })
        .await
    }

    async fn remove_keys_of(&self, subscription: &SubscriptionId) -> StoreResult<u64> {
        let subscription = subscription.clone();
        self.write(Lane::Command, Entity::Key, move |transaction| {
            let mut remove = transaction.prepare_cached(sql::keys::REMOVE_KEYS_OF)?;
            let removed = remove.execute((subscription.as_str(),))?;
            if removed > 0 {
                commit_effects(transaction, &Effects::default())?;
            }
            Ok(removed as u64)
        })
        .await
    }
}
