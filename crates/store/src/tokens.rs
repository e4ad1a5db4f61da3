//! Access tokens of the platform API.

use async_trait::async_trait;
use tollgate_model::{AccessToken, TokenHash};

use crate::StoreResult;

/// Access tokens.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Makes the token, or replaces the one of the same name.
    ///
    /// # Errors
    /// `AlreadyExists` when another name has the same hash.
    async fn put_token(&self, token: AccessToken) -> StoreResult<()>;

    /// The token with this hash, whether or not it has expired.
    async fn find_token(&self, hash: &TokenHash) -> StoreResult<Option<AccessToken>>;

    /// All tokens by name. There are few.
    async fn list_tokens(&self) -> StoreResult<Vec<AccessToken>>;
}
