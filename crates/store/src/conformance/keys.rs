//! Guarantees of [`KeyStore`](crate::KeyStore).

use futures_util::future::join_all;
use tollgate_model::{ApiKey, KeyId, KeyState, SubscriptionId};

use super::{Checked, assert_one_wins, refusal};
use crate::testing::{BEGIN, after, api_key, effects, full_api_key, key_hash, new_key};
use crate::{KeyFilter, KeyWrite, PageRequest, Store, StoreErrorKind, StoreResult, VersionedKey};

fn change(key: ApiKey, expected_version: u64) -> KeyWrite {
    KeyWrite {
        expected_version,
        ..new_key(key)
    }
}

fn limited(key: ApiKey, live_keys_max: u32) -> KeyWrite {
    KeyWrite {
        live_keys_max: Some(live_keys_max),
        ..new_key(key)
    }
}

async fn make_keys(store: &dyn Store, subscription: &str, numbers: &[u32]) -> StoreResult<()> {
    for n in numbers {
        store.write_key(new_key(api_key(*n, subscription))).await?;
    }
    Ok(())
}

/// By id and by hash.
pub async fn every_field_of_a_key_survives(store: &dyn Store) -> Checked {
    for key in [api_key(1, "acme"), full_api_key(2, "acme")] {
        store.write_key(new_key(key.clone())).await?;
        let row = VersionedKey {
            key: key.clone(),
            version: 1,
            last_used_at: None,
        };
        assert_eq!(store.find_key(&key.id).await?, Some(row.clone()));
        assert_eq!(store.find_key_by_hash(&key.hash).await?, Some(row));
    }
    assert_eq!(store.find_key(&KeyId::new("key_none")).await?, None);
    assert_eq!(store.find_key_by_hash(&key_hash(99)).await?, None);
    Ok(())
}

/// Gateways learn of keys by the catalog's number.
pub async fn writing_a_key_raises_the_version_of_its_row_and_the_catalogs_number(
    store: &dyn Store,
) -> Checked {
    let key = api_key(1, "acme");
    assert_eq!(store.write_key(new_key(key.clone())).await?, 1);
    let changed = ApiKey {
        id: key.id.clone(),
        ..full_api_key(9, "other")
    };
    assert_eq!(store.write_key(change(changed.clone(), 1)).await?, 2);
    assert_eq!(store.catalog_version().await?, 2);
    let row = store.find_key(&key.id).await?;
    assert_eq!(row.map(|row| (row.key, row.version)), Some((changed, 2)));
    assert_eq!(store.find_key_by_hash(&key.hash).await?, None);
    Ok(())
}

/// Also against a change that takes another key's hash.
pub async fn an_id_and_a_hash_are_taken_once(store: &dyn Store) -> Checked {
    make_keys(store, "acme", &[1, 2]).await?;
    let same_id = ApiKey {
        hash: key_hash(3),
        ..api_key(1, "acme")
    };
    let same_hash = ApiKey {
        hash: key_hash(1),
        ..api_key(3, "acme")
    };
    let takes_hash = ApiKey {
        hash: key_hash(1),
        ..api_key(2, "acme")
    };
    for write in [new_key(same_id), new_key(same_hash), change(takes_hash, 1)] {
        let refused = store.write_key(write).await;
        assert_eq!(refusal(&refused), Some(StoreErrorKind::AlreadyExists));
    }
    assert_eq!(store.catalog_version().await?, 2);
    Ok(())
}

/// A change of a row that has moved is a conflict; of a row that is gone, not found.
pub async fn a_change_names_the_version_it_was_decided_on(store: &dyn Store) -> Checked {
    make_keys(store, "acme", &[1]).await?;
    store.write_key(change(api_key(1, "acme"), 1)).await?;
    for version in [1, 3] {
        let refused = store.write_key(change(api_key(1, "acme"), version)).await;
        assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
    }
    let refused = store.write_key(change(api_key(7, "acme"), 1)).await;
    assert_eq!(refusal(&refused), Some(StoreErrorKind::NotFound));
    Ok(())
}

/// No number, no audit row, no key.
pub async fn a_refused_write_leaves_nothing_behind(store: &dyn Store) -> Checked {
    make_keys(store, "acme", &[1]).await?;
    for write in [
        change(full_api_key(1, "acme"), 7),
        limited(api_key(2, "acme"), 1),
        new_key(ApiKey {
            hash: key_hash(1),
            ..api_key(2, "acme")
        }),
    ] {
        assert!(store.write_key(write).await.is_err());
    }
    assert_eq!(store.catalog_version().await?, 1);
    assert_eq!(
        store.list_audit(9).await?,
        effects("key.create", api_key(1, "acme").id.as_str()).audit
    );
    assert_eq!(store.load_keys(None, 9).await?, [api_key(1, "acme")]);
    Ok(())
}

/// Live at the moment when the new key is made.
pub async fn only_keys_neither_revoked_nor_expired_count_as_live(store: &dyn Store) -> Checked {
    let revoked = ApiKey {
        state: KeyState::Revoked,
        ..api_key(1, "acme")
    };
    let expired = ApiKey {
        expires_at: Some(BEGIN),
        ..api_key(2, "acme")
    };
    let other = api_key(3, "other");
    let disabled = ApiKey {
        state: KeyState::Disabled,
        expires_at: Some(after(1)),
        ..api_key(4, "acme")
    };
    for key in [revoked, expired, other, disabled] {
        store.write_key(new_key(key)).await?;
    }
    let refused = store.write_key(limited(api_key(5, "acme"), 1)).await;
    assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
    store.write_key(limited(api_key(5, "acme"), 2)).await?;
    let later = ApiKey {
        created_at: after(1),
        ..api_key(6, "acme")
    };
    store.write_key(limited(later, 2)).await?;
    Ok(())
}

/// Two changes decided on one version cannot both hold.
pub async fn of_writers_on_one_key_exactly_one_wins(store: &dyn Store) -> Checked {
    make_keys(store, "acme", &[1]).await?;
    let writers = (0..8).map(|n| {
        let key = ApiKey {
            name: format!("writer {n}"),
            ..api_key(1, "acme")
        };
        store.write_key(change(key, 1))
    });
    assert_one_wins(&join_all(writers).await, StoreErrorKind::Conflict);
    assert_eq!(store.catalog_version().await?, 2);
    Ok(())
}

/// The limit is looked at in the transaction that makes the key.
pub async fn of_keys_racing_for_the_last_place_exactly_one_is_made(store: &dyn Store) -> Checked {
    make_keys(store, "acme", &[1]).await?;
    let writers = (2..10).map(|n| store.write_key(limited(api_key(n, "acme"), 2)));
    assert_one_wins(&join_all(writers).await, StoreErrorKind::Conflict);
    assert_eq!(store.load_keys(None, 99).await?.len(), 2);
    Ok(())
}

/// With and without a filter; the last page names no next one.
pub async fn keys_are_listed_newest_first_page_by_page(store: &dyn Store) -> Checked {
    make_keys(store, "acme", &[3, 1, 5]).await?;
    make_keys(store, "other", &[4, 2]).await?;
    let acme = KeyFilter {
        subscription: Some(SubscriptionId::new("acme")),
    };
    for (filter, expected) in [
        (KeyFilter::default(), vec![5, 4, 3, 2, 1]),
        (acme, vec![5, 3, 1]),
    ] {
        let expected: Vec<KeyId> = expected.into_iter().map(KeyId::made).collect();
        let mut seen = Vec::new();
        let mut page = PageRequest {
            limit: 2,
            cursor: None,
        };
        loop {
            let found = store.list_keys(&filter, &page).await?;
            assert!(found.items.len() <= 2);
            seen.extend(found.items.into_iter().map(|row| row.key.id));
            page.cursor = found.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected);
        page.limit = 5;
        let whole = store.list_keys(&filter, &page).await?;
        assert_eq!(
            (whole.items.len(), whole.next_cursor),
            (expected.len(), None)
        );
    }
    Ok(())
}

/// A gateway that resumes after the last id misses none.
pub async fn keys_load_by_rising_id(store: &dyn Store) -> Checked {
    make_keys(store, "acme", &[3, 1, 2]).await?;
    let first = store.load_keys(None, 2).await?;
    assert_eq!(first, [api_key(1, "acme"), api_key(2, "acme")]);
    let after = first.last().map(|key| key.id.clone());
    let rest = store.load_keys(after.as_ref(), 2).await?;
    assert_eq!(rest, [api_key(3, "acme")]);
    let end = store.load_keys(Some(&KeyId::made(3)), 2).await?;
    assert_eq!(end, []);
    Ok(())
}

/// And gateways hear of it by the catalog's number.
pub async fn the_keys_of_a_removed_subscription_are_gone(store: &dyn Store) -> Checked {
    make_keys(store, "acme", &[1, 2]).await?;
    make_keys(store, "other", &[3]).await?;
    let gone = SubscriptionId::new("acme");
    assert_eq!(store.remove_keys_of(&gone).await?, 2);
    assert_eq!(store.catalog_version().await?, 4);
    assert_eq!(store.load_keys(None, 9).await?, [api_key(3, "other")]);
    assert_eq!(store.find_key_by_hash(&key_hash(1)).await?, None);
    assert_eq!(store.remove_keys_of(&gone).await?, 0);
    assert_eq!(store.catalog_version().await?, 4);
    Ok(())
}
