//! What a store in a file promises beyond the ports: restarts, other processes, refusals.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tollgate_model::{Family, Grain, KeyId, SubscriptionId, Timestamp, UsageEvent};
use tollgate_store::conformance::Checked;
use tollgate_store::testing::{after, api_key, batch, event, full_event, new_key, stream};
use tollgate_store::{
    BucketQuery, CatalogChange, CatalogStore, Effects, KeyStore, RecordOrder, RecordQuery,
    SettingsStore, StoreErrorKind, StoreResult, UsageStore,
};
use tollgate_store_sqlite::{Options, SqliteStore};

fn open(folder: &tempfile::TempDir) -> StoreResult<SqliteStore> {
    SqliteStore::open(&folder.path().join("store.db"), &Options::default())
}

fn beside(folder: &tempfile::TempDir) -> rusqlite::Result<rusqlite::Connection> {
    rusqlite::Connection::open(folder.path().join("store.db"))
}

fn kind<T>(result: StoreResult<T>) -> Option<StoreErrorKind> {
    result.err().map(|error| error.kind)
}

fn everything() -> RecordQuery {
    RecordQuery {
        order: RecordOrder::OldestFirst,
        ..RecordQuery::in_span(after(-1_000), after(1_000_000))
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() -> Checked {
    let folder = tempfile::tempdir()?;
    let store = open(&folder)?;
    store.write_key(new_key(api_key(1, "acme"))).await?;
    store
        .ingest(batch(stream(0), 0, vec![event(0), full_event(1)]))
        .await?;
    let before = store.ledger_totals().await?;
    drop(store);
    let store = open(&folder)?;
    assert_eq!(store.ledger_totals().await?, before);
    assert_eq!(store.load_keys(None, 9).await?, [api_key(1, "acme")]);
    Ok(())
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_undo_what_it_asked_for() -> Checked {
    let folder = tempfile::tempdir()?;
    let store = open(&folder)?;
    let asked = store.ingest(batch(stream(0), 0, vec![event(0)]));
    // Asks, and does not wait for the answer.
    drop(asked.now_or_never());
    drop(store);
    assert_eq!(open(&folder)?.all_high_water_marks().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn two_processes_on_one_file_never_overwrite_each_other() -> Checked {
    let folder = tempfile::tempdir()?;
    let stores = [open(&folder)?, open(&folder)?];
    for version in 0..20 {
        let change = || CatalogChange {
            expected_version: version,
            changes: Vec::new(),
            effects: Effects::default(),
        };
        let results = join_all(stores.iter().map(|s| s.commit_catalog(change()))).await;
        let refused: Vec<_> = results.into_iter().filter_map(kind).collect();
        assert_eq!(refused, [StoreErrorKind::Conflict]);
        for store in &stores {
            assert_eq!(store.catalog_version().await?, version + 1);
        }
    }
    let batches = stores
        .iter()
        .map(|store| store.ingest(batch(stream(0), 0, vec![event(0)])));
    let refused: Vec<_> = join_all(batches)
        .await
        .into_iter()
        .filter_map(kind)
        .collect();
    assert_eq!(refused, [StoreErrorKind::Conflict]);
    Ok(())
}

#[test]
fn processes_that_open_a_new_file_at_once_all_find_it_in_order() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let folder = Arc::clone(&folder);
            std::thread::spawn(move || open(&folder).map(drop))
        })
        .collect();
    for thread in opening {
        thread.join().unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_lock_of_another_process_is_waited_for_then_unavailable() -> Checked {
    let folder = tempfile::tempdir()?;
    let options = Options {
        busy_timeout_ms: 20,
        ..Options::default()
    };
    let store = SqliteStore::open(&folder.path().join("store.db"), &options)?;
    let other = beside(&folder)?;
    other.execute_batch("BEGIN IMMEDIATE")?;
    let refused = store.set_setting_once("a", "b").await;
    assert_eq!(kind(refused), Some(StoreErrorKind::Unavailable));
    assert_eq!(kind(store.ping().await), Some(StoreErrorKind::Unavailable));
    assert_eq!(store.find_setting("a").await?, None);
    other.execute_batch("ROLLBACK")?;
    assert_eq!(store.set_setting_once("a", "b").await?, "b");
    Ok(())
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_leaves_commands_alone() -> Checked {
    let folder = tempfile::tempdir()?;
    let options = Options {
        batches_max: 0,
        ..Options::default()
    };
    let store = SqliteStore::open(&folder.path().join("store.db"), &options)?;
    let refused = store.ingest(batch(stream(0), 0, vec![event(0)])).await;
    assert_eq!(kind(refused), Some(StoreErrorKind::Unavailable));
    store.ping().await?;
    Ok(())
}

#[test]
fn what_is_no_database_of_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("store.db"), "not a database".repeat(100)).unwrap();
    assert_eq!(kind(open(&folder)), Some(StoreErrorKind::Corrupt));
    let nowhere = Path::new("/nowhere/at/all/store.db");
    let refused = SqliteStore::open(nowhere, &Options::default());
    assert_eq!(kind(refused), Some(StoreErrorKind::Unavailable));
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder).unwrap());
    beside(&folder)
        .unwrap()
        .execute_batch("INSERT INTO schema_migrations VALUES (99, 'future', '')")
        .unwrap();
    let error = open(&folder).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn what_cannot_have_been_written_is_corrupt() -> Checked {
    for damage in [
        "UPDATE usage_records SET outcome = 'lost'",
        "UPDATE usage_records SET units = -1",
        "UPDATE usage_records SET labels = '['",
        "UPDATE usage_records SET status = 70000",
        "UPDATE usage_records SET address = 'somewhere'",
    ] {
        let folder = tempfile::tempdir()?;
        let store = open(&folder)?;
        store.ingest(batch(stream(0), 0, vec![event(0)])).await?;
        beside(&folder)?.execute_batch(damage)?;
        let refused = store.list_records(&everything()).await;
        assert_eq!(kind(refused), Some(StoreErrorKind::Corrupt), "{damage}");
    }
    Ok(())
}

#[tokio::test]
async fn a_rare_record_is_found_beyond_many_slices() -> Checked {
    let folder = tempfile::tempdir()?;
    let store = open(&folder)?;
    let events = (0..12_000).map(|n| UsageEvent {
        status: if n % 4_000 == 17 { 599 } else { 200 },
        // Slices end among records of one instant, too.
        at: after(i64::from(n / 3_000)),
        ..event(n)
    });
    store.ingest(batch(stream(0), 0, events.collect())).await?;
    for order in [RecordOrder::NewestFirst, RecordOrder::OldestFirst] {
        let mut query = RecordQuery {
            status: Some(599),
            order,
            limit: 2,
            ..everything()
        };
        let mut found = Vec::new();
        loop {
            let page = store.list_records(&query).await?;
            found.extend(page.items.into_iter().map(|record| record.event.id));
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        let mut expected = vec![event(17).id, event(4_017).id, event(8_017).id];
        if order == RecordOrder::NewestFirst {
            expected.reverse();
        }
        assert_eq!(found, expected);
    }
    Ok(())
}

#[tokio::test]
async fn a_keys_records_are_found_whatever_subscriptions_they_name() -> Checked {
    let folder = tempfile::tempdir()?;
    let store = open(&folder)?;
    let key = KeyId::new("key_wandering");
    let query = RecordQuery {
        key: Some(key.clone()),
        ..everything()
    };
    let names = [Some("a"), Some("b"), None];
    for (n, name) in (0u32..).zip(names) {
        let wandering = UsageEvent {
            key: Some(key.clone()),
            subscription: name.map(SubscriptionId::new),
            ..event(n)
        };
        let first = u64::from(n) * 2;
        let events = vec![wandering, event(n + 100)];
        store.ingest(batch(stream(0), first, events)).await?;
        let found = store.list_records(&query).await?.items.len();
        assert_eq!(found, n as usize + 1);
    }
    Ok(())
}

async fn api_requests(store: &SqliteStore) -> StoreResult<(u64, u64)> {
    let (totals, _) = store.ledger_totals().await?;
    Ok((totals.record_requests, totals.bucket_requests))
}

#[tokio::test]
async fn buckets_that_two_processes_add_to_in_turn_hold_what_both_added() -> Checked {
    let folder = tempfile::tempdir()?;
    let stores = [open(&folder)?, open(&folder)?];
    for round in 0..6u32 {
        for (thread, store) in (0u16..).zip(&stores) {
            let events = vec![event(round), event(round + 100)];
            let first = u64::from(round) * 2;
            store.ingest(batch(stream(thread), first, events)).await?;
            let all = u64::from(round) * 4 + u64::from(thread) * 2 + 2;
            assert_eq!(api_requests(store).await?, (all, all));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_that_fails_half_way_adds_nothing_to_buckets_that_are_remembered() -> Checked {
    let folder = tempfile::tempdir()?;
    let store = open(&folder)?;
    store.ingest(batch(stream(0), 0, vec![event(0)])).await?;
    // Fails where all buckets of the transaction have been written already.
    beside(&folder)?.execute_batch(
        "CREATE TRIGGER fails BEFORE INSERT ON usage_stream_totals
         BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
    )?;
    let again = || batch(stream(0), 1, vec![event(1), event(2)]);
    assert!(store.ingest(again()).await.is_err());
    assert_eq!(api_requests(&store).await?, (1, 1));
    beside(&folder)?.execute_batch("DROP TRIGGER fails")?;
    store.ingest(again()).await?;
    assert_eq!(api_requests(&store).await?, (3, 3));
    Ok(())
}

#[tokio::test]
async fn minute_buckets_that_were_dropped_begin_anew() -> Checked {
    let folder = tempfile::tempdir()?;
    let store = open(&folder)?;
    let minutes = || async {
        let found = store
            .list_buckets(&BucketQuery {
                family: Family::Route,
                grain: Grain::Minute,
                from: Timestamp(0),
                to: after(1_000_000),
                api: None,
                organization: None,
                subscription: None,
                plan: None,
                dimension: None,
                include_test: true,
                merge_starts: false,
            })
            .await?;
        let requests = found.iter().map(|bucket| bucket.counts.requests);
        StoreResult::Ok(requests.collect::<Vec<u64>>())
    };
    store
        .ingest(batch(stream(0), 0, vec![event(0), event(1)]))
        .await?;
    assert_eq!(minutes().await?, [2]);
    store.drop_minute_buckets(after(60)).await?;
    assert!(minutes().await?.is_empty());
    store.ingest(batch(stream(0), 2, vec![event(2)])).await?;
    assert_eq!(minutes().await?, [1]);
    Ok(())
}
