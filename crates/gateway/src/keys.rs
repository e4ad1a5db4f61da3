//! The keys that this gateway knows: found by hash on every request, changed in place by numbered
//! deltas.
//!
//! **Invariants.** A change holds for every look-up that begins after [`KeyTable::apply`] has
//! returned. A change older than what is known about its key is ignored, and a removed key does
//! not come back by one. Secrets are never here: look-up is by keyed hash.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tollgate_model::{ApiKey, KeyChange, KeyDelta, KeyHash, KeyId, KeyState, Timestamp};

const SHARDS: usize = 64;

type Shard = RwLock<HashMap<KeyHash, Arc<ApiKey>, BuildHasherDefault<TakesHash>>>;

/// Keys by hash, and their hashes by id.
#[derive(Debug)]
pub(crate) struct KeyTable {
    shards: Vec<Shard>,
    /// Also serialises changes. A removed key stays as a version without a hash.
    by_id: Mutex<HashMap<KeyId, Known>>,
}

#[derive(Debug)]
struct Known {
    version: u64,
    hash: Option<KeyHash>,
}

/// Key hashes are uniformly distributed already: eight of their bytes are hash enough.
#[derive(Debug, Default)]
pub(crate) struct TakesHash(u64);

impl Hasher for TakesHash {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}

/// Whether a key may be used, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may.
    Usable,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
    /// It is switched off.
    Disabled,
}

/// Where a key stands at an instant. Revocation is for good and therefore told first.
pub(crate) fn standing(key: &ApiKey, now: Timestamp) -> Standing {
    match key.state {
        KeyState::Revoked => Standing::Revoked,
        _ if key.expires_at.is_some_and(|at| at <= now) => Standing::Expired,
        KeyState::Disabled => Standing::Disabled,
        KeyState::Active => Standing::Usable,
    }
}

impl KeyTable {
    pub(crate) fn new() -> Self {
        let shards = std::iter::repeat_with(RwLock::default).take(SHARDS);
        Self {
            shards: shards.collect(),
            by_id: Mutex::default(),
        }
    }

    /// The key of a hash.
    pub(crate) fn find(&self, hash: &KeyHash) -> Option<Arc<ApiKey>> {
        self.shard(hash)?.read().get(hash).cloned()
    }

    /// The key of an id.
    pub(crate) fn find_by_id(&self, id: &KeyId) -> Option<Arc<ApiKey>> {
        let hash = self.by_id.lock().get(id)?.hash?;
        self.find(&hash)
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().len()).sum()
    }

    /// Applies changes in order; the answer names keys that can no longer be used.
    pub(crate) fn apply(&self, delta: &KeyDelta, now: Timestamp) -> Vec<KeyId> {
        let mut ended = Vec::new();
        let mut by_id = self.by_id.lock();
        for change in &delta.changes {
            let (id, put) = match change {
                KeyChange::Put(key) => (&key.id, Some(key)),
                KeyChange::Remove(id) => (id, None),
            };
            let before = by_id.get(id);
            if before.is_some_and(|known| known.version > delta.version) {
                continue;
            }
            let hash_before = before.and_then(|known| known.hash);
            let hash = put.map(|key| key.hash);
            if let Some(gone) = hash_before.filter(|h| Some(*h) != hash)
                && let Some(shard) = self.shard(&gone)
            {
                shard.write().remove(&gone);
            }
            if let Some(key) = put
                && let Some(shard) = self.shard(&key.hash)
            {
                shard.write().insert(key.hash, Arc::clone(key));
            }
            let usable = put.is_some_and(|key| standing(key, now) == Standing::Usable);
            if hash_before.is_some() && !usable {
                ended.push(id.clone());
            }
            let version = delta.version;
            by_id.insert(id.clone(), Known { version, hash });
        }
        ended
    }

    fn shard(&self, hash: &KeyHash) -> Option<&Shard> {
        // The last byte: the first eight choose the bucket inside the shard.
        let [.., last] = hash.0;
        self.shards.get(usize::from(last) % SHARDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    const NOW: Timestamp = Timestamp(1_000);

    fn put(version: u64, key: &ApiKey) -> KeyDelta {
        KeyDelta {
            version,
            changes: vec![KeyChange::Put(Arc::new(key.clone()))],
        }
    }

    fn remove(version: u64, id: &str) -> KeyDelta {
        KeyDelta {
            version,
            changes: vec![KeyChange::Remove(KeyId::new(id))],
        }
    }

    #[test]
    fn a_put_key_is_found_by_hash_and_by_id() {
        let table = KeyTable::new();
        let a = key("key_a", 1);
        assert!(table.apply(&put(1, &a), NOW).is_empty());
        assert_eq!(table.find(&a.hash).unwrap().id, a.id);
        assert_eq!(table.find_by_id(&a.id).unwrap().hash, a.hash);
        assert!(table.find(&key("key_b", 2).hash).is_none());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn changes_that_end_a_key_name_it() {
        let ends: [fn(&mut ApiKey); 3] = [
            |k| k.state = KeyState::Revoked,
            |k| k.state = KeyState::Disabled,
            |k| k.expires_at = Some(NOW),
        ];
        for change in ends {
            let table = KeyTable::new();
            let mut a = key("key_a", 1);
            table.apply(&put(1, &a), NOW);
            change(&mut a);
            assert_eq!(table.apply(&put(2, &a), NOW), [a.id.clone()]);
        }
        let table = KeyTable::new();
        let a = key("key_a", 1);
        table.apply(&put(1, &a), NOW);
        assert_eq!(
            table.apply(&remove(2, "key_a"), NOW),
            std::slice::from_ref(&a.id)
        );
        assert!(table.find(&a.hash).is_none());
    }

    #[test]
    fn an_older_change_neither_overrides_nor_brings_back_a_key() {
        let table = KeyTable::new();
        let a = key("key_a", 1);
        let mut revoked = a.clone();
        revoked.state = KeyState::Revoked;
        table.apply(&put(5, &revoked), NOW);
        table.apply(&put(4, &a), NOW);
        assert_eq!(table.find(&a.hash).unwrap().state, KeyState::Revoked);
        table.apply(&remove(6, "key_a"), NOW);
        table.apply(&put(5, &a), NOW);
        assert!(table.find(&a.hash).is_none());
    }

    #[test]
    fn a_late_change_of_another_key_still_counts() {
        let table = KeyTable::new();
        let (a, b) = (key("key_a", 1), key("key_b", 2));
        table.apply(&put(7, &a), NOW);
        table.apply(&put(6, &b), NOW);
        assert!(table.find(&b.hash).is_some());
    }

    #[test]
    fn expiry_follows_from_the_clock_and_revocation_is_told_first() {
        let mut a = key("key_a", 1);
        a.expires_at = Some(NOW);
        assert_eq!(standing(&a, Timestamp(999)), Standing::Usable);
        assert_eq!(standing(&a, NOW), Standing::Expired);
        a.state = KeyState::Revoked;
        assert_eq!(standing(&a, NOW), Standing::Revoked);
    }
}
