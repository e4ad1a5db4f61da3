//! `tollgate.toml`: what a process needs to start.
//!
//! Unknown settings are errors; all problems are reported at once, each with line and column; the
//! environment (`TOLLGATE__SECTION__KEY`) overrides the file. What operators change weekly is in
//! the catalog, not here.

mod fields;
mod read;
mod render;
mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use tollgate_control::document::{Problem, ProblemCode};

pub use fields::{FIELDS, Kind};
pub use render::{reference, schema, template};
pub use store::StorePlace;

/// A configuration that holds.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where callers connect.
    pub gateway_listen: SocketAddr,
    /// Threads that serve callers; 0: one per core.
    pub gateway_workers: u64,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long requests may take to end at a stop, in microseconds.
    pub drain_us: u64,
    /// Where the API is.
    pub platform_listen: SocketAddr,
    /// Where health and metrics are.
    pub health_listen: SocketAddr,
    /// Where the store is.
    pub store: StorePlace,
    /// The journal's folder.
    pub journal_dir: PathBuf,
    /// Whether answers wait for the disk.
    pub journal_durable: bool,
    /// Events shipped at once at most.
    pub ship_batch: u64,
    /// How long shipped segments stay, in microseconds.
    pub journal_keep_us: u64,
    /// Most space the journal may take, in bytes.
    pub journal_disk_bytes_max: u64,
    /// The watched catalog.
    pub catalog_file: Option<PathBuf>,
    /// This gateway's name, where one is given.
    pub node: Option<String>,
}

/// A configuration that does not hold, with everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}", render_problems(path, problems))]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

fn render_problems(path: &Path, problems: &[Problem]) -> String {
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    let mut text = format!("{}: {count}", path.display());
    for problem in problems {
        text.push_str(&format!("\n  {problem}"));
    }
    text
}

/// Reads and checks a configuration, the environment's overrides included.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let fail = |problems| ConfigError {
        path: path.to_owned(),
        problems,
    };
    let text = read_file(path)?;
    read::read(
        &text,
        std::env::vars(),
        path.parent().unwrap_or(Path::new(".")),
    )
    .map_err(fail)
}

/// The text of a configuration or catalog.
///
/// # Errors
/// When it cannot be read.
pub fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let detail = format!("cannot be read: {error}");
        let problem = Problem::new("", ProblemCode::Invalid, detail);
        ConfigError {
            path: path.to_owned(),
            problems: vec![problem],
        }
    })
}

#[cfg(test)]
mod tests;
