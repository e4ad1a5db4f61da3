//! `tollgate config`: check, explain, describe.

use std::path::Path;

use serde_json::json;

use crate::cli::ConfigCommand;
use crate::config::{self, Config, ConfigError};
use crate::output;

/// Runs the command.
///
/// # Errors
/// When something is wrong with the configuration or the catalog it names.
pub fn run(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { config, json } => check(&config, json),
        ConfigCommand::Reference { json: false, .. } => output::table(
            &["setting", "value", "default", "meaning"],
            config::reference(),
        ),
        ConfigCommand::Reference { json: true, .. } => {
            let rows: Vec<_> = config::reference()
                .into_iter()
                .map(|row| match row.as_slice() {
                    [setting, value, default, meaning] => json!({
                        "setting": setting, "value": value, "default": default, "meaning": meaning
                    }),
                    _ => json!({}),
                })
                .collect();
            output::json(&json!({ "items": rows }))
        }
        ConfigCommand::Schema { .. } => output::json(&config::schema()),
    }
}

fn check(path: &Path, json: bool) -> anyhow::Result<()> {
    let found = check_all(path);
    if json {
        let problems: Vec<_> = found
            .as_ref()
            .err()
            .into_iter()
            .flat_map(|errors| errors_as_json(errors))
            .collect();
        output::json(&json!({ "ok": problems.is_empty(), "problems": problems }))?;
    }
    let config = found.map_err(crate::command::Misconfigured::new)?;
    if !json {
        let catalog = config.catalog_file.map_or(String::new(), |file| {
            format!(", and so does {}", file.display())
        });
        output::line(format!("{} holds{catalog}.", path.display()))?;
    }
    Ok(())
}

/// The configuration, if it and the catalog it names both hold.
///
/// # Errors
/// One error for each file with problems.
pub fn check_all(path: &Path) -> Result<Config, Vec<ConfigError>> {
    let config = config::load(path).map_err(|error| vec![error])?;
    match config.catalog_file.as_deref().map(load_catalog) {
        Some(Err(error)) => Err(vec![error]),
        _ => Ok(config),
    }
}

/// Reads a catalog file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_catalog(path: &Path) -> Result<String, ConfigError> {
    let text = config::read_file(path)?;
    match tollgate_control::check_catalog(&text) {
        Ok(()) => Ok(text),
        Err(problems) => Err(ConfigError {
            path: path.to_owned(),
            problems,
        }),
    }
}

fn errors_as_json(errors: &[ConfigError]) -> Vec<serde_json::Value> {
    errors
        .iter()
        .flat_map(|error| {
            error.problems.iter().map(|problem| {
                json!({
                    "file": error.path.display().to_string(),
                    "field": problem.field,
                    "detail": problem.detail,
                    "line": problem.line,
                    "column": problem.column,
                })
            })
        })
        .collect()
}
