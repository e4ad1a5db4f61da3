//! What only a real server can show: several processes, restarts, servers that do not write, wrong
//! addresses, partitions.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tollgate_model::Timestamp;
use tollgate_store::conformance::Checked;
use tollgate_store::testing::{after, batch, event, stream};
use tollgate_store::{
    CatalogStore, RecordQuery, SettingsStore, StoreErrorKind, StoreResult, UsageStore,
};
use tollgate_store_postgres::{Options, PostgresStore};
use tollgate_testkit::{Elapsed, Postgres, wait_until};

/// Longest time from a server that writes again to the first write.
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);

async fn open(url: &str) -> StoreResult<PostgresStore> {
    PostgresStore::open(url, &Options::default()).await
}

async fn requests(store: &PostgresStore) -> StoreResult<[u64; 3]> {
    let (totals, _) = store.ledger_totals().await?;
    Ok([
        totals.record_requests,
        totals.bucket_requests,
        totals.route_bucket_requests,
    ])
}

/// Each remembers buckets that the other changes, and both want every range.
async fn processes_side_by_side_take_every_range_in_once(server: &Postgres) -> Checked {
    const RANGES: u32 = 12;
    let url = server.create_database()?;
    let stores = [open(&url).await?, open(&url).await?, open(&url).await?];
    for n in 0..RANGES {
        let events = (n * 5..n * 5 + 5).map(event).collect();
        let sent = Arc::new(batch(stream(0), u64::from(n) * 5, events));
        let racing = stores
            .iter()
            .map(|store| store.ingest_some(vec![sent.clone()]));
        let won = join_all(racing).await.iter().filter(|r| r.is_ok()).count();
        assert_eq!(won, 1, "range {n}");
    }
    let expected = u64::from(RANGES) * 5;
    for store in &stores {
        assert_eq!(requests(store).await?, [expected; 3]);
    }
    Ok(())
}

/// The same entry again is refused as a whole, even where its mark was lost.
async fn an_entry_is_there_once_even_when_its_mark_is_lost(server: &Postgres) -> Checked {
    let url = server.create_database()?;
    let name = url.rsplit('/').next().unwrap_or_default().to_owned();
    let store = open(&url).await?;
    // Two days: an entry meets itself in its own partition.
    let mut events = vec![event(0), event(1)];
    if let Some(last) = events.last_mut() {
        last.at = after(86_400);
    }
    let sent = batch(stream(0), 0, events);
    store.ingest(sent.clone()).await?;
    let days = server.sql(
        &name,
        "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY 1) FROM pg_inherits \
         WHERE inhparent = 'usage_records'::regclass",
    )?;
    let expected = "usage_records_20251124 usage_records_20251125 usage_records_20251126";
    let days: Vec<&str> = days.split_whitespace().collect();
    assert_eq!(days, expected.split(' ').collect::<Vec<_>>());
    server.sql(&name, "UPDATE usage_streams SET next = 0")?;
    let refused = store.ingest(sent).await;
    let kind = refused.as_ref().err().map(|error| error.kind);
    assert_eq!(kind, Some(StoreErrorKind::Corrupt), "{refused:?}");
    assert_eq!(requests(&store).await?, [2; 3]);
    Ok(())
}

/// A day is dropped whole; events of that day that come later find a new one.
async fn a_day_can_be_dropped_whole(server: &Postgres) -> Checked {
    let url = server.create_database()?;
    let name = url.rsplit('/').next().unwrap_or_default().to_owned();
    let store = open(&url).await?;
    store.ingest(batch(stream(0), 0, vec![event(0)])).await?;
    server.sql(&name, "DROP TABLE usage_records_20251124")?;
    let all = RecordQuery::in_span(Timestamp(0), after(1_000_000));
    assert_eq!(store.list_records(&all).await?.items.len(), 0);
    let late = batch(stream(0), 1, vec![event(1)]);
    // The store that knew the day forgets it with the first refusal.
    if store.ingest(late.clone()).await.is_err() {
        store.ingest(late).await?;
    }
    assert_eq!(store.list_records(&all).await?.items.len(), 1);
    Ok(())
}

/// A caller that goes away in the middle leaves nothing half done and nobody waiting.
async fn a_caller_that_goes_away_leaves_nothing_behind(server: &Postgres) -> Checked {
    let url = server.create_database()?;
    let store = open(&url).await?;
    for wait_us in (0..6_000).step_by(400) {
        let events = (0..200).map(event).collect();
        let mark = mark(&store).await?;
        let sent = batch(stream(0), mark, events);
        let patience = Duration::from_micros(wait_us);
        drop(tokio::time::timeout(patience, store.ingest(sent)).await);
    }
    let taken = mark(&store).await?;
    assert_eq!(requests(&store).await?, [taken; 3]);
    store
        .ingest(batch(stream(0), taken, vec![event(0)]))
        .await?;
    assert_eq!(requests(&store).await?, [taken + 1; 3]);
    Ok(())
}

async fn mark(store: &PostgresStore) -> StoreResult<u64> {
    let marks = store.all_high_water_marks().await?;
    Ok(marks.first().map_or(0, |mark| mark.next.0))
}

#[tokio::test]
async fn one_database_keeps_its_promises() -> Checked {
    let server = Postgres::start().await?;
    processes_side_by_side_take_every_range_in_once(&server).await?;
    an_entry_is_there_once_even_when_its_mark_is_lost(&server).await?;
    a_day_can_be_dropped_whole(&server).await?;
    a_caller_that_goes_away_leaves_nothing_behind(&server).await
}

/// Killed, ended in a hurry, switched to read only: refused as unavailable meanwhile, and then all
/// goes on without anybody's help.
#[tokio::test]
async fn a_server_that_was_away_is_found_again() -> Checked {
    let mut server = Postgres::start().await?;
    let url = server.create_database()?;
    let store = open(&url).await?;
    let mut next = 0u32;
    for way in ["killed", "stopped", "read only"] {
        // Every lane has a connection from before.
        store.ping().await?;
        store.catalog_version().await?;
        store
            .ingest(batch(stream(0), u64::from(next), vec![event(next)]))
            .await?;
        next += 1;
        match way {
            "killed" => server.kill9()?,
            "stopped" => server.stop()?,
            _ => {
                switch(&server, "on")?;
                wait_until("it only reads", RECOVERED_WITHIN, async || {
                    store.ping().await.is_err()
                })
                .await?;
            }
        }
        let refused = [
            store.ping().await.err(),
            store
                .ingest(batch(stream(0), u64::from(next), vec![event(next)]))
                .await
                .err(),
        ];
        for error in refused {
            let kind = error.as_ref().map(|error| error.kind);
            assert_eq!(kind, Some(StoreErrorKind::Unavailable), "{way}: {error:?}");
            let said = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(!said.contains(server.password()), "{said}");
        }
        match way {
            "read only" => {
                store.catalog_version().await?;
                switch(&server, "off")?;
            }
            _ => server.restart().await?,
        }
        let since = Elapsed::start();
        wait_until("the store writes", RECOVERED_WITHIN, async || {
            store.ping().await.is_ok()
        })
        .await?;
        store.catalog_version().await?;
        let again = batch(stream(0), u64::from(next), vec![event(next)]);
        store.ingest(again).await?;
        next += 1;
        assert!(since.so_far() < RECOVERED_WITHIN, "{way}");
    }
    assert_eq!(requests(&store).await?, [u64::from(next); 3]);
    Ok(())
}

fn switch(server: &Postgres, read_only: &str) -> Checked {
    let text = format!("ALTER SYSTEM SET default_transaction_read_only = {read_only}");
    server.sql("postgres", &text)?;
    server.sql("postgres", "SELECT pg_reload_conf()")?;
    Ok(())
}

/// What happened, where, and what to do; never the password.
#[tokio::test]
async fn a_first_connection_that_fails_says_what_to_do() -> Checked {
    let mut server = Postgres::start().await?;
    let good = server.create_database()?;
    let wrong = good.replace(server.password(), "wrong-pass-77");
    let cases = [
        (wrong, "check user and password"),
        (server.url("nowhere"), "make the database first"),
        (format!("{good}?sslmode=require"), "is PostgreSQL running"),
        (
            format!("{good}?sslmode=prefer"),
            "sslmode=prefer is not supported",
        ),
    ];
    for (url, advice) in cases {
        let error = open(&url).await.err();
        let said = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(advice), "{said}");
        for secret in [server.password(), "wrong-pass-77"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
    server.stop()?;
    let error = open(&good)
        .await
        .err()
        .map(|error| (error.kind, error.to_string()));
    let (kind, said) = error.unwrap_or((StoreErrorKind::Corrupt, String::new()));
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(said.contains("is PostgreSQL running"), "{said}");
    assert!(said.contains("tollgate@127.0.0.1"), "{said}");
    Ok(())
}

/// Work that a lock of somebody else's holds up ends in bounded time.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_given_up_is_not_waited_for_for_ever() -> Checked {
    let server = Postgres::start().await?;
    let url = server.create_database()?;
    let name = url.rsplit('/').next().unwrap_or_default().to_owned();
    let options = Options {
        lock_timeout_ms: 200,
        ..Options::default()
    };
    let store = PostgresStore::open(&url, &options).await?;
    store.ingest(batch(stream(0), 0, vec![event(0)])).await?;
    let refused = std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let hold = "BEGIN; SELECT 1 FROM usage_writer FOR UPDATE; SELECT pg_sleep(2); COMMIT";
            server.sql(&name, hold)
        });
        let refused = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
                wait_until("the lock is held", RECOVERED_WITHIN, async || {
                    server.sql(&name, held).is_ok_and(|n| n == "1")
                })
                .await?;
                let refused = store.ingest(batch(stream(0), 1, vec![event(1)])).await;
                Checked::Ok(refused.err().map(|error| error.kind))
            })
        });
        drop(holder.join());
        refused
    })?;
    assert_eq!(refused, Some(StoreErrorKind::Unavailable));
    store.ingest(batch(stream(0), 1, vec![event(1)])).await?;
    assert_eq!(requests(&store).await?, [2; 3]);
    Ok(())
}

/// With the certificate checked: one that nobody vouches for, or of another name, is refused.
#[tokio::test]
async fn tls_checks_whom_it_talks_to() -> Checked {
    let server = Postgres::start_with_tls().await?;
    let url = server.create_database()?;
    let by_name = url.replace("127.0.0.1", "localhost");
    let roots = format!("sslrootcert={}", server.certificate().display());
    let store = open(&format!("{by_name}?sslmode=require&{roots}")).await?;
    store.ping().await?;
    let name = url.rsplit('/').next().unwrap_or_default();
    let encrypted = server.sql(
        name,
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE ssl AND application_name = 'tollgate'",
    )?;
    assert_ne!(encrypted, "0");
    for refused in [
        format!("{by_name}?sslmode=require"),
        format!("{url}?sslmode=require&{roots}"),
    ] {
        let error = open(&refused).await.err();
        let said = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("certificate"), "{said}");
    }
    Ok(())
}
