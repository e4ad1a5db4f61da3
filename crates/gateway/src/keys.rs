//! The keys that this gateway knows: found by hash on every request, changed in place by numbered
//! deltas.
//!
//! **Invariants.** A change holds for every look-up that begins after [`KeyTable::apply`] has
//! returned. A change older than what is known about its key, or than the last time that every key
//! was told, is ignored, and a removed key does not come back by one. Secrets are never here:
//! look-up is by keyed hash.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};
use tollgate_admission::{KeyTerms, scope_of};
use tollgate_model::{
    ApiKey, By, KeyChange, KeyDelta, KeyHash, KeyId, KeyState, Quota, RateLimit, SubscriptionId,
    Timestamp,
};

use crate::payers::scope_of_subscription;

/// Many, so that a shard that grows is locked for a fraction of a millisecond.
const SHARDS: usize = 256;

/// What a gateway needs to know of a key. There are millions: what few keys have stands apart,
/// and what only people ask about (names, notes) is left to the platform.
#[derive(Debug)]
pub(crate) struct KnownKey {
    pub(crate) hash: KeyHash,
    pub(crate) id: KeyId,
    /// What counters know its subscription by, and its family.
    pub(crate) payer: u128,
    pub(crate) scope: u128,
    /// The far future where it has no end.
    expires_at: Timestamp,
    pub(crate) state: KeyState,
    pub(crate) test: bool,
    /// Catalog number of the last change that told of it.
    version: AtomicU64,
    rare: Option<Box<Rare>>,
}

#[derive(Debug, PartialEq)]
struct Rare {
    subscription: SubscriptionId,
    family: KeyId,
    scopes: Option<Vec<String>>,
    allowed_addresses: Vec<IpNet>,
    limits: Vec<RateLimit>,
    quota: Option<Quota>,
}

impl KnownKey {
    pub(crate) fn new(key: &ApiKey, version: u64) -> Self {
        let common = key.family == key.id
            && key.scopes.is_none()
            && key.allowed_addresses.is_empty()
            && key.limits.is_empty()
            && key.quota.is_none();
        let rare = || Rare {
            subscription: key.subscription.clone(),
            family: key.family.clone(),
            scopes: key.scopes.clone(),
            allowed_addresses: key.allowed_addresses.clone(),
            limits: key.limits.clone(),
            quota: key.quota,
        };
        Self {
            hash: key.hash,
            id: key.id.clone(),
            payer: scope_of_subscription(&key.subscription),
            scope: scope_of(By::Key, key.family.as_str()),
            expires_at: key.expires_at.unwrap_or(Timestamp(i64::MAX)),
            state: key.state,
            test: key.test,
            version: AtomicU64::new(version),
            rare: (!common).then(|| Box::new(rare())),
        }
    }

    /// Whether nothing but the number of the change differs.
    fn is_same_as(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.id == other.id
            && self.payer == other.payer
            && self.scope == other.scope
            && self.expires_at == other.expires_at
            && self.state == other.state
            && self.test == other.test
            && self.rare == other.rare
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The first key of its line of rotations.
    pub(crate) fn family(&self) -> &KeyId {
        self.rare.as_ref().map_or(&self.id, |rare| &rare.family)
    }

    /// What it may do; `None`: all that the plan allows.
    pub(crate) fn scopes(&self) -> Option<&[String]> {
        self.rare.as_ref()?.scopes.as_deref()
    }

    /// Where it may be used from; empty: anywhere.
    pub(crate) fn allowed_addresses(&self) -> &[IpNet] {
        self.rare
            .as_ref()
            .map_or(&[], |rare| rare.allowed_addresses.as_slice())
    }

    /// Whether limits or a quota stand on it.
    pub(crate) fn has_limits(&self) -> bool {
        let stand_on = |rare: &Rare| !rare.limits.is_empty() || rare.quota.is_some();
        self.rare.as_ref().is_some_and(|rare| stand_on(rare))
    }

    /// The quota that stands on it, and whose key it is.
    pub(crate) fn own_quota(&self) -> Option<(&SubscriptionId, Quota)> {
        let rare = self.rare.as_ref()?;
        Some((&rare.subscription, rare.quota?))
    }

    /// What of it bears on limits.
    pub(crate) fn terms(&self) -> KeyTerms<'_> {
        KeyTerms {
            family: self.family(),
            limits: self.rare.as_ref().map_or(&[], |rare| &rare.limits),
            quota: self.rare.as_ref().and_then(|rare| rare.quota.as_ref()),
        }
    }
}

/// A key found by its hash.
#[derive(Debug)]
struct ByHash(Arc<KnownKey>);

/// A key found by its id.
#[derive(Debug)]
struct ById(Arc<KnownKey>);

macro_rules! found_by {
    ($found:ident, $field:ident, $type:ty) => {
        impl Borrow<$type> for $found {
            fn borrow(&self) -> &$type {
                &self.0.$field
            }
        }
        impl Hash for $found {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.$field.hash(state);
            }
        }
        impl PartialEq for $found {
            fn eq(&self, other: &Self) -> bool {
                self.0.$field == other.0.$field
            }
        }
        impl Eq for $found {}
    };
}
found_by!(ByHash, hash, KeyHash);
found_by!(ById, id, KeyId);

type Shard = RwLock<HashSet<ByHash, BuildHasherDefault<TakesHash>>>;

/// Keys by hash and by id.
#[derive(Debug)]
pub(crate) struct KeyTable {
    shards: Vec<Shard>,
    /// Also serialises changes.
    by_id: Mutex<Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    known: HashSet<ById>,
    /// Versions of the keys that were removed since every key was last told.
    removed: HashMap<KeyId, u64>,
    /// The number with which every key was last told.
    told_all: u64,
}

/// Hashes are uniformly distributed already: eight of their bytes are hash enough.
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
pub(crate) fn standing(key: &KnownKey, now: Timestamp) -> Standing {
    match key.state {
        KeyState::Revoked => Standing::Revoked,
        _ if key.expires_at <= now => Standing::Expired,
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
    pub(crate) fn find(&self, hash: &KeyHash) -> Option<Arc<KnownKey>> {
        let shard = self.shard(hash)?.read();
        shard.get(hash).map(|found| Arc::clone(&found.0))
    }

    /// The key of an id.
    pub(crate) fn find_by_id(&self, id: &KeyId) -> Option<Arc<KnownKey>> {
        let ids = self.by_id.lock();
        ids.known.get(id).map(|found| Arc::clone(&found.0))
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().len()).sum()
    }

    /// Applies changes in order; the answer names keys that can no longer be used.
    pub(crate) fn apply(&self, delta: &KeyDelta, now: Timestamp) -> Vec<KeyId> {
        let mut ended = Vec::new();
        let mut ids = self.by_id.lock();
        if delta.version < ids.told_all {
            return ended;
        }
        for change in &delta.changes {
            let (id, put) = match change {
                KeyChange::Put(key) => (&key.id, Some(key)),
                KeyChange::Remove(id) => (id, None),
            };
            let before = ids.known.get(id).map(|found| Arc::clone(&found.0));
            let version = before.as_ref().map(|known| known.version());
            if version.or(ids.removed.get(id).copied()) > Some(delta.version) {
                continue;
            }
            let after = put.map(|key| Arc::new(KnownKey::new(key, delta.version)));
            if let (Some(before), Some(after)) = (&before, &after)
                && before.is_same_as(after)
            {
                before.version.store(delta.version, Ordering::Relaxed);
                continue;
            }
            self.replace(before.as_deref(), after.as_ref());
            let usable = |key: &Arc<KnownKey>| standing(key, now) == Standing::Usable;
            if before.is_some() && !after.as_ref().is_some_and(usable) {
                ended.push(id.clone());
            }
            match after {
                Some(key) => {
                    ids.removed.remove(id);
                    ids.known.replace(ById(key));
                }
                None => {
                    ids.known.remove(id);
                    ids.removed.insert(id.clone(), delta.version);
                }
            }
        }
        ended
    }

    /// Drops every key that no change of this number or a later one has put; the answer names
    /// them. A lower number than one given before changes nothing.
    pub(crate) fn forget_before(&self, version: u64) -> Vec<KeyId> {
        let mut ids = self.by_id.lock();
        if version < ids.told_all {
            return Vec::new();
        }
        ids.told_all = version;
        ids.removed.retain(|_, removed| *removed >= version);
        let gone = |found: &ById| found.0.version() < version;
        let gone: Vec<_> = ids.known.extract_if(gone).collect();
        for ById(key) in &gone {
            self.replace(Some(key), None);
        }
        gone.into_iter().map(|found| found.0.id.clone()).collect()
    }

    /// What is found by hash: one key less, one more.
    fn replace(&self, before: Option<&KnownKey>, after: Option<&Arc<KnownKey>>) {
        let hash = after.map(|key| key.hash);
        if let Some(gone) = before.filter(|key| Some(key.hash) != hash)
            && let Some(shard) = self.shard(&gone.hash)
        {
            shard.write().remove(&gone.hash);
        }
        if let Some(key) = after
            && let Some(shard) = self.shard(&key.hash)
        {
            shard.write().replace(ByHash(Arc::clone(key)));
        }
    }

    fn shard(&self, hash: &KeyHash) -> Option<&Shard> {
        // The last byte: the first eight choose the bucket inside the shard.
        let [.., last] = hash.0;
        self.shards.get(usize::from(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    const NOW: Timestamp = Timestamp(1_000);

    fn known(key: &ApiKey) -> KnownKey {
        KnownKey::new(key, 1)
    }

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
    fn keys_that_are_not_told_any_more_are_gone_and_do_not_come_back() {
        let table = KeyTable::new();
        let (a, b, late) = (key("key_a", 1), key("key_b", 2), key("key_c", 3));
        table.apply(&put(1, &a), NOW);
        table.apply(&put(1, &b), NOW);
        table.apply(&remove(2, "key_x"), NOW);
        let before = table.find(&a.hash).unwrap();
        assert!(table.apply(&put(5, &a), NOW).is_empty());
        assert_eq!(table.forget_before(5), std::slice::from_ref(&b.id));
        assert!(Arc::ptr_eq(&before, &table.find(&a.hash).unwrap()));
        assert!(table.find(&b.hash).is_none() && table.find_by_id(&b.id).is_none());
        assert!(
            table.by_id.lock().removed.is_empty(),
            "nothing is kept of it"
        );
        table.apply(&put(4, &b), NOW);
        table.apply(&put(6, &late), NOW);
        assert!(table.forget_before(4).is_empty());
        assert!(table.find(&b.hash).is_none());
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_key_that_is_told_again_unchanged_ends_nothing() {
        let table = KeyTable::new();
        let mut a = key("key_a", 1);
        a.state = KeyState::Revoked;
        table.apply(&put(1, &a), NOW);
        assert!(table.apply(&put(2, &a), NOW).is_empty());
        assert!(table.forget_before(2).is_empty());
    }

    #[test]
    fn expiry_follows_from_the_clock_and_revocation_is_told_first() {
        let mut a = key("key_a", 1);
        a.expires_at = Some(NOW);
        let at = |a: &ApiKey, us| standing(&known(a), Timestamp(us));
        assert_eq!(at(&a, 999), Standing::Usable);
        assert_eq!(at(&a, 1_000), Standing::Expired);
        a.state = KeyState::Revoked;
        assert_eq!(at(&a, 1_000), Standing::Revoked);
    }

    #[test]
    fn what_few_keys_have_is_kept_too() {
        let mut a = key("key_a", 1);
        let plain = known(&a);
        assert!(plain.rare.is_none());
        assert_eq!((plain.family(), plain.scopes()), (&a.id, None));
        a.family = KeyId::new("key_first");
        assert_eq!(known(&a).family(), &a.family);
        a.family = a.id.clone();
        a.scopes = Some(vec!["read".into()]);
        assert_eq!(known(&a).scopes(), a.scopes.as_deref());
        a.scopes = None;
        a.allowed_addresses = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(known(&a).allowed_addresses(), a.allowed_addresses);
        a.allowed_addresses.clear();
        a.quota = Some(Quota {
            units: 5,
            every: tollgate_model::Every::Day,
            on_exceeded: tollgate_model::OnExceeded::Block,
        });
        assert_eq!(known(&a).terms().quota, a.quota.as_ref());
    }
}
