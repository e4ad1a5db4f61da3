//! API keys.

use async_trait::async_trait;
use tollgate_model::{ApiKey, KeyHash, KeyId, SubscriptionId, Timestamp};

use crate::{Effects, Page, PageRequest, StoreResult};

/// A key and the version of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedKey {
    /// The key.
    pub key: ApiKey,
    /// Raised with every change of the row; 1 when made.
    pub version: u64,
    /// When a request with it was last recorded; moved by ingest.
    pub last_used_at: Option<Timestamp>,
}

/// Which keys to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyFilter {
    /// Only this subscription's.
    pub subscription: Option<SubscriptionId>,
}

/// One change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWrite {
    /// The key as it shall be.
    pub key: ApiKey,
    /// The row's version that the change was decided on; 0 to make a new key.
    pub expected_version: u64,
    /// For a new key: refuse when the subscription already has so many keys that are neither
    /// revoked nor expired at `key.created_at`.
    pub live_keys_max: Option<u32>,
    /// What else commits.
    pub effects: Effects,
}

/// API keys. Every write raises the catalog's number too, and answers with it.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Makes or changes a key; the answer is the catalog's new number.
    ///
    /// # Errors
    /// `AlreadyExists` when the id or hash is taken; `Conflict` when the row's version has moved
    /// or `live_keys_max` is reached (entity `Key`); `NotFound` when the row is gone.
    async fn write_key(&self, write: KeyWrite) -> StoreResult<u64>;

    /// One key.
    async fn find_key(&self, id: &KeyId) -> StoreResult<Option<VersionedKey>>;

    /// The key with this hash.
    async fn find_key_by_hash(&self, hash: &KeyHash) -> StoreResult<Option<VersionedKey>>;

    /// Keys, newest first (by id).
    async fn list_keys(
        &self,
        filter: &KeyFilter,
        page: &PageRequest,
    ) -> StoreResult<Page<VersionedKey>>;

    /// Every key, in pages of at most `limit` by rising id, beginning after `after`; how a gateway
    /// fills its table at start. `limit` may be up to 50 000 here.
    async fn load_keys(&self, after: Option<&KeyId>, limit: u32) -> StoreResult<Vec<ApiKey>>;

    /// Removes the keys of subscriptions that are gone; the answer is how many.
    async fn remove_keys_of(&self, subscription: &SubscriptionId) -> StoreResult<u64>;
}
