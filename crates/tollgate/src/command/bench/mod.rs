//! `tollgate bench`: what this machine does, measured on the code that runs in production.

mod ingest;

use std::process::ExitCode;

use crate::cli::BenchCommand;

/// Runs one measurement; exit status 1 where the figures aimed for were missed.
///
/// # Errors
/// When the folder cannot be written or what is measured fails.
pub fn run(command: BenchCommand) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Ingest(args) => ingest::run(&args),
    }
}
