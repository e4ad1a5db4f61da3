//! `tollgate serve`: runs until a signal.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use crate::cli::{Role, ServeArgs};
use crate::server::{Server, platform_runtime};
use crate::{config, logging};

use tollgate_lifecycle::{Signal, Signals};

/// Runs the command.
///
/// # Errors
/// When the configuration does not hold (exit status 2) or something cannot be started.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    if args.role != Role::All {
        bail!(
            "this version runs gateway and platform in one process; leave --role out. \
             Apart they need a shared counter store, which is not built yet"
        );
    }
    logging::start("info");
    let admin_token = std::env::var("TOLLGATE_ADMIN_TOKEN").ok();
    if admin_token.is_none() {
        tracing::info!(
            "TOLLGATE_ADMIN_TOKEN is not set; `tollgate admin token create --scope admin --config {}` \
             makes a token to manage this with",
            args.config.display()
        );
    }
    platform_runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let server = tokio::select! {
            started = Server::start(&config, admin_token.as_deref()) => started?,
            _ = first_end(&mut signals) => return Ok(ExitCode::SUCCESS),
        };
        let failed = loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Reload => server.reload().await,
                    Signal::Drain | Signal::Abort => break false,
                },
                reason = server.failed() => {
                    tracing::error!(reason, "stopping: a part without which nothing works has failed");
                    break true;
                }
            }
        };
        let drain = Duration::from_micros(config.drain_us);
        let clean = server.stop(drain, &mut signals).await;
        Ok(if clean && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

async fn first_end(signals: &mut Signals) {
    while signals.next().await == Signal::Reload {}
}
