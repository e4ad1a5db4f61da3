//! `tollgate admin`: access to the platform, written into the store itself.

use std::sync::Arc;

use serde_json::json;
use tollgate_control::Tokens;
use tollgate_lifecycle::{SystemClock, SystemIds};
use tollgate_model::Clock;

use crate::cli::TokenCommand;
use crate::server::open_store;
use crate::{config, output};

/// Runs the command.
///
/// # Errors
/// When the store cannot be opened, or a scope is none.
pub async fn run(command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::Create {
        scopes,
        name,
        expires,
        config,
        json,
    } = command;
    let config = config::load(&config)?;
    let store = open_store(&config).await?;
    let clock = Arc::new(SystemClock::new());
    let lifetime_us = expires.map(|span| i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
    let expires_at = lifetime_us.map(|us| clock.now().wall.plus_us(us));
    let tokens = Tokens::new(store, clock, Arc::new(SystemIds));
    let created = tokens.create(name.as_deref(), &scopes, expires_at).await?;
    if json {
        return output::json(&json!({
            "id": created.token.id.as_str(),
            "name": created.token.name,
            "token": created.secret.reveal(),
            "scopes": created.token.scopes,
            "expires_at": created.token.expires_at.map(|at| at.to_string()),
        }));
    }
    output::line(created.secret.reveal())?;
    output::note(
        "This is the only time the token is shown. A server on this store accepts it at once.",
    );
    Ok(())
}
