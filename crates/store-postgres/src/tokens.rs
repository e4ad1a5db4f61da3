//! Access tokens.

use async_trait::async_trait;
use tokio_postgres::Row;
use tollgate_model::{AccessToken, TokenHash, TokenId};
use tollgate_store::{Entity, StoreResult, TokenStore, json};

use crate::PostgresStore;
use crate::columns::Columns;
use crate::failure::Worked;
use crate::sql;

fn read_token(row: &Row) -> Worked<AccessToken> {
    let mut columns = Columns::of(row);
    Ok(AccessToken {
        name: columns.text()?.to_owned(),
        id: TokenId::new(columns.text()?),
        hash: TokenHash(columns.digest()?),
        scopes: json::from_text(columns.text()?, "scopes")?,
        created_at: columns.time()?,
        expires_at: columns.optional_time()?,
    })
}

#[async_trait]
impl TokenStore for PostgresStore {
    async fn put_token(&self, token: AccessToken) -> StoreResult<()> {
        self.write(Entity::Token, move |transaction| {
            let token = token.clone();
            Box::pin(async move {
                let put = transaction.prepare_cached(sql::tokens::PUT_TOKEN).await?;
                let scopes = json::to_text(&token.scopes)?;
                let (hash, expires_at) = (&token.hash.0[..], token.expires_at.map(|at| at.0));
                transaction
                    .execute(
                        &put,
                        &[
                            &token.name,
                            &token.id.as_str(),
                            &hash,
                            &scopes,
                            &token.created_at.0,
                            &expires_at,
                        ],
                    )
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn find_token(&self, hash: &TokenHash) -> StoreResult<Option<AccessToken>> {
        let hash = hash.0;
        self.read(Entity::Token, move |client| {
            Box::pin(async move {
                let find = client.prepare_cached(sql::tokens::FIND_TOKEN).await?;
                let row = client.query_opt(&find, &[&&hash[..]]).await?;
                row.as_ref().map(read_token).transpose()
            })
        })
        .await
    }

    async fn list_tokens(&self) -> StoreResult<Vec<AccessToken>> {
        self.read(Entity::Token, |client| {
            Box::pin(async move {
                let list = client.prepare_cached(sql::tokens::LIST_TOKENS).await?;
                let rows = client.query(&list, &[]).await?;
                rows.iter().map(read_token).collect()
            })
        })
        .await
    }
}
