//! A database of its own for a test.

use tokio_postgres::{Client, NoTls};
use tollgate_testkit::Postgres;

use crate::lane::{Lane, Purpose};
use crate::target::Target;
use crate::{Options, PostgresStore};

/// A server and one fresh database on it.
pub(crate) struct Database {
    _server: Postgres,
    pub(crate) url: String,
}

impl Database {
    pub(crate) async fn make() -> Self {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database().unwrap();
        Self {
            _server: server,
            url,
        }
    }

    /// A store in it.
    pub(crate) async fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.url, &Options::default())
            .await
            .unwrap()
    }

    /// A connection beside the store's.
    pub(crate) async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with its client")]
        tokio::spawn(connection);
        client
    }
}

/// A lane of its own.
pub(crate) fn lane(database: &Database) -> Lane {
    let options = Options::default();
    let target = Target::read(&database.url, &options).unwrap();
    let purpose = Purpose {
        connections_max: 1,
        waiting_max: 9,
        settings: "",
    };
    Lane::new(&target, &options, &purpose).unwrap()
}
