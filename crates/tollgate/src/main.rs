//! `tollgate`: command line, configuration, wiring, demo.
//!
//! **Owns** what people type, what a process needs to start, and how the rooms are put together.
//! **Does not own** any rule: each belongs to a room.

mod cli;
mod client;
mod command;
mod config;
mod demo;
mod logging;
mod output;
mod pepper;
mod server;

use std::process::ExitCode;

use clap::Parser;

use cli::{AdminCommand, Cli, Command};
use command::Misconfigured;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Wrong usage or configuration.
const EXIT_MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    // `FAILPOINTS` names what is to break off where; no release is built with it.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            output::note(format!("tollgate: {error:#}"));
            let refused_input = error
                .downcast_ref::<client::Refused>()
                .is_some_and(|refused| refused.status == 400);
            let misconfigured =
                refused_input || error.is::<Misconfigured>() || error.is::<config::ConfigError>();
            if misconfigured {
                ExitCode::from(EXIT_MISCONFIGURED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Serve(args) => command::serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => command::init::run(&args).map(done),
        Command::Config(command) => command::config::run(command).map(done),
        Command::Apply(args) => block_on(command::apply::apply(args)).map(done),
        Command::Diff(args) => block_on(command::apply::diff(args)).map(done),
        Command::Keys(command) => block_on(command::keys::run(command)).map(done),
        Command::Usage(command) => block_on(command::usage::run(command)).map(done),
        Command::Reconcile(args) => block_on(command::reconcile::run(args)),
        Command::Journal(command) => command::journal::run(command),
        Command::Store(command) => block_on(command::store::run(command)).map(done),
        Command::Admin(AdminCommand::Token(command)) => {
            block_on(command::admin::run(command)).map(done)
        }
        Command::Bench(command) => command::bench::run(command),
        Command::Doctor(args) => block_on(command::doctor::run(args)),
    }
}

/// Runs a command that asks over the network or the store.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
