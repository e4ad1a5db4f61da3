//! `tollgate bench`: measures what a promise is made about, on the code that serves.

mod admission;

use std::process::ExitCode;

use crate::cli::BenchCommand;

/// Runs the command.
///
/// # Errors
/// When something could not be measured. A target that was missed is no error: it is printed.
pub fn run(command: BenchCommand) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Admission(args) => admission::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}
