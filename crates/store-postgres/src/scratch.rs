//! A schema of its own in a database, for measuring: made empty, removed at the end.

use tollgate_store::{Entity, StoreResult};

use crate::columns::first_count;
use crate::failure::{self, Failure, Worked};
use crate::lane::{Lane, Purpose};
use crate::options::Options;
use crate::target::Target;
use crate::{COMMAND, PostgresStore};

/// What all tables of a schema take, with their indexes.
const FIND_BYTES: &str = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint \
                          FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::text::regnamespace";

/// See the module. It stays where [`Scratch::remove`] is not called.
#[derive(Debug)]
pub struct Scratch {
    lane: Lane,
    name: String,
    url: String,
}

impl Scratch {
    /// Makes the schema; `name` is made of lowercase letters, digits and `_`.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be reached or the user may not make schemas.
    pub async fn make(url: &str, name: &str) -> StoreResult<Self> {
        let scratch = Self::new(url, name).map_err(|failure| failure.about(Entity::Database))?;
        let made = scratch.run(format!("CREATE SCHEMA {name}")).await;
        made.map_err(|failure| {
            let kind = failure.kind();
            let shown = PostgresStore::check_url(url).unwrap_or_default();
            let why = failure::cannot_connect(&failure, &shown);
            tollgate_store::StoreError::caused(kind, Entity::Database, why)
        })?;
        Ok(scratch)
    }

    fn new(url: &str, name: &str) -> Worked<Self> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(fine) {
            return Err(Failure::Address(format!("{name} is no name of a schema")));
        }
        let options = Options::default();
        let purpose = Purpose {
            connections_max: 1,
            waiting_max: 1,
            settings: "",
        };
        let mark = if url.contains('?') { '&' } else { '?' };
        Ok(Self {
            lane: Lane::new(&Target::read(url, &options)?, &options, &purpose)?,
            name: name.to_owned(),
            url: format!("{url}{mark}options=-c%20search_path%3D{name}"),
        })
    }

    /// Where a store is opened in it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Bytes that its tables take.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn bytes(&self) -> StoreResult<u64> {
        let name = self.name.clone();
        let found = self.lane.read(move |client| {
            let name = name.clone();
            Box::pin(async move { first_count(&client.query_one(FIND_BYTES, &[&name]).await?) })
        });
        found
            .await
            .map_err(|failure| failure.about(Entity::Database))
    }

    /// Removes the schema and all that is in it.
    ///
    /// # Errors
    /// When the database does not answer, or somebody still uses the schema.
    pub async fn remove(self) -> StoreResult<()> {
        let removed = self.run(format!("DROP SCHEMA {} CASCADE", self.name)).await;
        removed.map_err(|failure| failure.about(Entity::Database))
    }

    async fn run(&self, text: String) -> Worked<()> {
        self.lane
            .transact(COMMAND, move |transaction| {
                let text = text.clone();
                Box::pin(async move { Ok(transaction.batch_execute(&text).await?) })
            })
            .await
    }
}
