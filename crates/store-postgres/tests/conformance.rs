//! The suite that every store must pass, on a real server: one for all, a database for each
//! guarantee.

use tollgate_store::conformance::Checked;
use tollgate_store_postgres::{Options, PostgresStore};
use tollgate_testkit::Postgres;

#[tokio::test]
async fn every_guarantee_of_a_store_holds() -> Checked {
    let server = Postgres::start().await?;
    let make = async || -> Checked<((), PostgresStore)> {
        let url = server.create_database()?;
        let store = PostgresStore::open(&url, &Options::default()).await?;
        Ok(((), store))
    };
    let broken = tollgate_store::conformance_guarantees!(conformance_run, make);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}
