//! Access tokens of the platform API: made here, stored as hashes, recognised by look-up.
//!
//! **Invariants.** A token's text is answered once, when it is made. Every request looks into the
//! store, so that a token made by another process is accepted at once.

use std::sync::Arc;

use tollgate_model::{AccessToken, Clock, IdGen, KeySecret, Timestamp, TokenHash, TokenId};
use tollgate_store::{Store, StoreErrorKind};

use crate::document::ProblemCode;
use crate::{ControlError, ControlResult};

/// What tokens begin with, before an underscore.
const TOKEN_PREFIX: &str = "tg";
/// Name of the operator's first token.
const BOOTSTRAP: &str = "bootstrap";
/// Shortest text of the operator's first token, in characters.
const BOOTSTRAP_CHARACTERS_MIN: usize = 24;
/// Longest text that is looked up, in bytes.
const TOKEN_BYTES_MAX: usize = 512;
const NAME_CHARACTERS_MAX: usize = 200;
const ADMIN: &str = "admin";

/// Every scope that a token can have; `admin` holds all.
pub const TOKEN_SCOPES: [&str; 5] = ["read", "write", "decide", "ingest", ADMIN];

/// Who calls the platform API, proven by a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The token's id.
    pub id: TokenId,
    /// The token's name: the actor in the audit trail.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
}

impl Principal {
    /// Whether it may do what asks for this scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes
            .iter()
            .any(|held| held == scope || held == ADMIN)
    }
}

/// A token that was just made.
#[derive(Debug, Clone)]
pub struct CreatedToken {
    /// As stored.
    pub token: AccessToken,
    /// Its text, shown here and never again.
    pub secret: KeySecret,
}

/// Access tokens; needs neither gateways nor the pepper.
#[derive(Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
}

impl Tokens {
    /// Puts the service together.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, ids: Arc<dyn IdGen>) -> Self {
        Self { store, clock, ids }
    }

    /// Makes a token. Without a name it is called by its id.
    ///
    /// # Errors
    /// `Invalid` for scopes that there are not, an end in the past, a name that is too long;
    /// `AlreadyExists` when the name is taken; `Store`.
    pub async fn create(
        &self,
        name: Option<&str>,
        scopes: &[String],
        expires_at: Option<Timestamp>,
    ) -> ControlResult<CreatedToken> {
        let now = self.clock.now().wall;
        check_scopes(scopes)?;
        if expires_at.is_some_and(|end| end <= now) {
            let detail = "must lie in the future";
            return Err(ControlError::invalid(
                "expires_at",
                ProblemCode::OutOfRange,
                detail,
            ));
        }
        let id = TokenId::made(self.ids.uuid(now));
        let name = name.unwrap_or(id.as_str()).to_owned();
        if name.trim().is_empty() || name.chars().count() > NAME_CHARACTERS_MAX {
            let detail = "must be 1 to 200 characters";
            return Err(ControlError::invalid(
                "name",
                ProblemCode::OutOfRange,
                detail,
            ));
        }
        if self.find_by_name(&name).await?.is_some() {
            return Err(taken(&name));
        }
        let secret = KeySecret::generate(TOKEN_PREFIX, false, self.ids.as_ref());
        let token = AccessToken {
            id,
            name,
            hash: TokenHash::of(secret.reveal()),
            scopes: scopes.to_vec(),
            created_at: now,
            expires_at,
        };
        self.put(&token).await?;
        Ok(CreatedToken { token, secret })
    }

    /// Sets the token `bootstrap` to this text, with every scope and without end.
    ///
    /// # Errors
    /// `Invalid` when the text is too short or has characters that no header can carry;
    /// `AlreadyExists` when it is another token's text; `Store`.
    pub async fn ensure_bootstrap(&self, text: &str) -> ControlResult<()> {
        let field = "TOLLGATE_ADMIN_TOKEN";
        if text.len() < BOOTSTRAP_CHARACTERS_MIN || text.len() > TOKEN_BYTES_MAX {
            let detail = "must be 24 to 512 characters";
            return Err(ControlError::invalid(
                field,
                ProblemCode::OutOfRange,
                detail,
            ));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            let detail = "must be visible ASCII characters without spaces";
            return Err(ControlError::invalid(field, ProblemCode::Invalid, detail));
        }
        let now = self.clock.now().wall;
        let hash = TokenHash::of(text);
        let previous = self.find_by_name(BOOTSTRAP).await?;
        let (id, created_at) = match previous {
            Some(token) if token.hash == hash && token.expires_at.is_none() => return Ok(()),
            Some(token) => (token.id, now),
            None => (TokenId::made(self.ids.uuid(now)), now),
        };
        let token = AccessToken {
            id,
            name: BOOTSTRAP.to_owned(),
            hash,
            scopes: vec![ADMIN.to_owned()],
            created_at,
            expires_at: None,
        };
        self.put(&token).await
    }

    /// Who presents this text; `None` when no token of ours has it or it has expired. The text is
    /// hashed and looked up, so that timing tells nothing about tokens that are nearly right.
    ///
    /// # Errors
    /// `Store`.
    pub async fn authenticate(&self, presented: &str) -> ControlResult<Option<Principal>> {
        if presented.is_empty() || presented.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let found = self.store.find_token(&TokenHash::of(presented)).await?;
        let now = self.clock.now().wall;
        let live = found.filter(|token| token.expires_at.is_none_or(|end| end > now));
        Ok(live.map(|token| Principal {
            id: token.id,
            name: token.name,
            scopes: token.scopes,
        }))
    }

    /// All tokens by name.
    ///
    /// # Errors
    /// `Store`.
    pub async fn list(&self) -> ControlResult<Vec<AccessToken>> {
        Ok(self.store.list_tokens().await?)
    }

    async fn find_by_name(&self, name: &str) -> ControlResult<Option<AccessToken>> {
        let tokens = self.store.list_tokens().await?;
        Ok(tokens.into_iter().find(|token| token.name == name))
    }

    async fn put(&self, token: &AccessToken) -> ControlResult<()> {
        match self.store.put_token(token.clone()).await {
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => Err(taken(&token.name)),
            result => Ok(result?),
        }
    }
}

fn taken(name: &str) -> ControlError {
    ControlError::AlreadyExists {
        kind: "token",
        id: name.to_owned(),
    }
}

fn check_scopes(scopes: &[String]) -> ControlResult<()> {
    let known = |scope: &&String| TOKEN_SCOPES.contains(&scope.as_str());
    if scopes.is_empty() {
        let detail = format!("name at least one of {}", TOKEN_SCOPES.join(", "));
        return Err(ControlError::invalid(
            "scopes",
            ProblemCode::Missing,
            detail,
        ));
    }
    match scopes.iter().find(|scope| !known(scope)) {
        None => Ok(()),
        Some(scope) => {
            let detail = format!("\"{scope}\" is none of {}", TOKEN_SCOPES.join(", "));
            Err(ControlError::invalid(
                "scopes",
                ProblemCode::Invalid,
                detail,
            ))
        }
    }
}

#[cfg(test)]
mod tests;
