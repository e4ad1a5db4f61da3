//! `tollgate bench`: what this machine does, measured on the code that serves.

mod admission;
mod ingest;

use std::process::ExitCode;

use crate::cli::BenchCommand;

/// Runs one measurement. A figure that was missed is no error: it is printed; exit status 1 is for
/// ledgers that do not agree.
///
/// # Errors
/// When something could not be measured.
pub fn run(command: BenchCommand) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Admission(args) => admission::run(&args).map(|()| ExitCode::SUCCESS),
        BenchCommand::Ingest(args) => ingest::run(&args),
    }
}
