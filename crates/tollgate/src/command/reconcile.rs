//! placeholder until merged
use std::process::ExitCode;
use crate::cli::ReconcileArgs;
/// x
pub async fn run(_args: ReconcileArgs) -> anyhow::Result<ExitCode> { Ok(ExitCode::FAILURE) }
