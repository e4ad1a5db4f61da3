//! Access tokens.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row};
use tollgate_model::{AccessToken, Timestamp, TokenHash, TokenId};
use tollgate_store::{Entity, StoreResult, TokenStore, json};

use crate::SqliteStore;
use crate::failure::Worked;
use crate::queue::Lane;
use crate::sql;

fn read_token(row: &Row<'_>) -> Worked<AccessToken> {
    let (id, scopes): (String, String) = (row.get(1)?, row.get(3)?);
    let expires_at: Option<i64> = row.get(5)?;
    Ok(AccessToken {
        id: TokenId::new(&id),
        name: row.get(0)?,
        hash: TokenHash(row.get(2)?),
        scopes: json::from_text(&scopes, "scopes")?,
        created_at: Timestamp(row.get(4)?),
        expires_at: expires_at.map(Timestamp),
    })
}

#[async_trait]
impl TokenStore for SqliteStore {
    async fn put_token(&self, token: AccessToken) -> StoreResult<()> {
        self.write(Lane::Command, Entity::Token, move |transaction| {
            let mut put = transaction.prepare_cached(sql::tokens::PUT_TOKEN)?;
            put.execute((
                &token.name,
                token.id.as_str(),
                token.hash.0,
                json::to_text(&token.scopes)?,
                token.created_at.0,
                token.expires_at.map(|at| at.0),
            ))?;
            Ok(())
        })
        .await
    }

    async fn find_token(&self, hash: &TokenHash) -> StoreResult<Option<AccessToken>> {
        let hash = hash.0;
        self.read(Entity::Token, move |connection, _| {
            let mut statement = connection.prepare_cached(sql::tokens::FIND_TOKEN)?;
            let found = statement
                .query_row((hash,), |row| Ok(read_token(row)))
                .optional()?;
            found.transpose()
        })
        .await
    }

    async fn list_tokens(&self) -> StoreResult<Vec<AccessToken>> {
        self.read(Entity::Token, |connection, _| {
            let mut statement = connection.prepare_cached(sql::tokens::LIST_TOKENS)?;
            statement.query_and_then((), read_token)?.collect()
        })
        .await
    }
}
