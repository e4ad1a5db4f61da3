//! `tollgate init`: a commented configuration and catalog to begin with.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};

use crate::cli::InitArgs;
use crate::{config, output};

/// Writes both files; never over existing ones.
///
/// # Errors
/// When the folder cannot be made, or a file is there already.
pub fn run(args: &InitArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("{} cannot be made", args.dir.display()))?;
    let files = [
        ("tollgate.toml", config::template()),
        ("catalog.toml", tollgate_control::EXAMPLE_CATALOG.to_owned()),
    ];
    for (name, _) in &files {
        let path = args.dir.join(name);
        if path.exists() {
            bail!("{} is there already; nothing was written", path.display());
        }
    }
    for (name, text) in &files {
        write_new(&args.dir.join(name), text)?;
        output::line(format!("wrote {}", args.dir.join(name).display()))?;
    }
    output::line(format!(
        "\nNext:\n  1. Say in catalog.toml where your API runs (upstreams).\n  \
         2. export TOLLGATE_ADMIN_TOKEN=$(head -c 32 /dev/urandom | base64 | tr -d '/+=')\n  \
         3. tollgate serve --config {}",
        args.dir.join("tollgate.toml").display()
    ))
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} cannot be written", path.display()))
}
