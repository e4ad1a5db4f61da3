//! Access to the platform API by token.

use crate::{Timestamp, TokenId};

/// SHA-256 of a token's text. Tokens are random, so a plain hash suffices; only it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Hashes the text that a caller presented.
    #[must_use]
    pub fn of(token: &str) -> Self {
        use sha2::{Digest, Sha256};
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// A token of the platform API, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Its id.
    pub id: TokenId,
    /// What people call it; unique. Default producer of usage events sent with it.
    pub name: String,
    /// The stored form.
    pub hash: TokenHash,
    /// `read`, `write`, `decide`, `ingest`, `admin`; `admin` holds all.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}
