//! `tollgate apply` and `tollgate diff`: the catalog as a file declares it.

use std::path::Path;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use crate::cli::{ApplyArgs, DiffArgs, PlatformArgs};
use crate::client::{Body, Platform};
use crate::output::{self, at, plain};

/// Makes the catalog what the file declares, and prints the difference.
///
/// # Errors
/// When the file cannot be read, or the platform refuses or cannot be reached.
pub async fn apply(args: ApplyArgs) -> anyhow::Result<()> {
    let query = [
        ("dry_run", args.dry_run.to_string()),
        ("prune", args.prune.to_string()),
    ];
    let difference = send(&args.file, "/api/v1/catalog/apply", &query, &args.platform).await?;
    if args.platform.json {
        return output::json(&difference);
    }
    print(&difference)?;
    if args.dry_run {
        output::line("Nothing was changed (--dry-run).")?;
    }
    Ok(())
}

/// Prints what `apply` would change.
///
/// # Errors
/// As [`apply`].
pub async fn diff(args: DiffArgs) -> anyhow::Result<()> {
    let query = [("prune", args.prune.to_string())];
    let difference = send(&args.file, "/api/v1/catalog/diff", &query, &args.platform).await?;
    if args.platform.json {
        output::json(&difference)
    } else {
        print(&difference)
    }
}

async fn send(
    file: &Path,
    path: &str,
    query: &[(&str, String)],
    platform: &PlatformArgs,
) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    Platform::from_args(platform)?
        .send(Method::POST, path, query, Body::Toml(text))
        .await
}

fn print(difference: &Value) -> anyhow::Result<()> {
    let mut changes = 0;
    for (list, sign) in [
        ("added", "+"),
        ("changed", "~"),
        ("removed", "-"),
        ("released", "="),
    ] {
        for object in at(difference, list).as_array().into_iter().flatten() {
            changes += usize::from(list != "released");
            output::line(format!(
                "{sign} {} {}",
                plain(at(object, "kind")),
                plain(at(object, "id"))
            ))?;
            for field in at(object, "fields").as_array().into_iter().flatten() {
                output::line(format!(
                    "    {}: {} -> {}",
                    plain(at(field, "field")),
                    plain(at(field, "old")),
                    plain(at(field, "new"))
                ))?;
            }
        }
    }
    if changes == 0 {
        return output::line("The catalog is what the file declares; nothing to change.");
    }
    Ok(())
}
