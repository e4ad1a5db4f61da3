//! What each command does, one file each.

pub mod admin;
pub mod apply;
pub mod bench;
pub mod config;
pub mod doctor;
pub mod init;
pub mod journal;
pub mod keys;
pub mod reconcile;
pub mod serve;
pub mod store;
pub mod usage;

use crate::config::ConfigError;

/// Wrong configuration: the process exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Misconfigured(Vec<ConfigError>);

impl Misconfigured {
    /// Everything that is wrong, file by file.
    #[must_use]
    pub fn new(errors: Vec<ConfigError>) -> Self {
        Self(errors)
    }
}
