//! `tollgate store`: the store's schema.

use serde_json::json;

use crate::cli::StoreCommand;
use crate::server::open_store;
use crate::{config, output};

/// Runs the command.
///
/// # Errors
/// When the store cannot be opened, or was migrated by a newer version.
pub async fn run(command: StoreCommand) -> anyhow::Result<()> {
    let StoreCommand::Migrate { config, json } = command;
    let config = config::load(&config)?;
    // Opening is what migrates.
    let store = open_store(&config).await?;
    store.ping().await?;
    let place = config.store.to_string();
    if json {
        output::json(&json!({ "ok": true, "store": place }))
    } else {
        output::line(format!("{place}: the schema is up to date."))
    }
}
