//! The suite that every store must pass, on a real server: one for all, a schema for each
//! guarantee.

use std::sync::atomic::{AtomicU32, Ordering};

use tollgate_store::conformance::Checked;
use tollgate_store_postgres::{Options, PostgresStore, Scratch};
use tollgate_testkit::Postgres;

#[tokio::test]
async fn every_guarantee_of_a_store_holds() -> Checked {
    let server = Postgres::start().await?;
    let url = server.create_database()?;
    let made = AtomicU32::new(0);
    let make = async || -> Checked<(Scratch, PostgresStore)> {
        let name = format!("guarantee_{}", made.fetch_add(1, Ordering::Relaxed));
        let scratch = Scratch::make(&url, &name).await?;
        let store = PostgresStore::open(scratch.url(), &Options::default()).await?;
        Ok((scratch, store))
    };
    let broken = tollgate_store::conformance_guarantees!(conformance_run, make);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}
