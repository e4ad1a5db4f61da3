//! The command line: what can be said. What happens then is in `command`.

mod bench;
mod keys;
mod usage;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tollgate_model::{Period, Timestamp};

pub use bench::{BenchAdmissionArgs, BenchCommand, BenchIngestArgs};
pub use keys::{KeyCreateArgs, KeysCommand};
pub use usage::{UsageCommand, UsageFilter};

/// An API gateway that counts every call without losing one.
#[derive(Debug, Parser)]
#[command(
    name = "tollgate",
    version,
    about,
    max_term_width = 100,
    propagate_version = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything with an example API, plans, keys and traffic.
    #[command(after_help = "Example:\n  tollgate demo --requests-per-second 50 --for 10m")]
    Demo(DemoArgs),
    /// Write a commented tollgate.toml and catalog.toml.
    #[command(
        after_help = "Example:\n  tollgate init ./gate && cd gate && tollgate serve --config tollgate.toml"
    )]
    Init(InitArgs),
    /// Run the gateway and the platform.
    #[command(after_help = "Example:\n  tollgate serve --config tollgate.toml")]
    Serve(ServeArgs),
    /// Check and explain the configuration.
    #[command(
        subcommand,
        after_help = "Example:\n  tollgate config check --config tollgate.toml"
    )]
    Config(ConfigCommand),
    /// Make the catalog what a file declares.
    #[command(
        after_help = "Example:\n  tollgate apply -f catalog.toml --dry-run --config tollgate.toml"
    )]
    Apply(ApplyArgs),
    /// Show what `apply` would change.
    #[command(after_help = "Example:\n  tollgate diff -f catalog.toml --config tollgate.toml")]
    Diff(DiffArgs),
    /// Make, list, show and revoke API keys.
    #[command(
        subcommand,
        after_help = "Example:\n  tollgate keys create --subscription acme-widgets --name laptop"
    )]
    Keys(KeysCommand),
    /// Ask what was used.
    #[command(
        subcommand,
        after_help = "Example:\n  tollgate usage top --by route --range 24h"
    )]
    Usage(UsageCommand),
    /// Prove that journal, records, buckets and quotas agree.
    #[command(after_help = "Example:\n  tollgate reconcile --config tollgate.toml")]
    Reconcile(ReconcileArgs),
    /// Read a gateway's journal.
    #[command(
        subcommand,
        after_help = "Example:\n  tollgate journal verify ./journal"
    )]
    Journal(JournalCommand),
    /// The store's schema.
    #[command(
        subcommand,
        after_help = "Example:\n  tollgate store migrate --config tollgate.toml"
    )]
    Store(StoreCommand),
    /// Access to the platform.
    #[command(
        subcommand,
        after_help = "Example:\n  tollgate admin token create --scope admin --config tollgate.toml"
    )]
    Admin(AdminCommand),
    /// Check configuration, store, journal, clock, disk and upstreams; say what to do.
    #[command(after_help = "Example:\n  tollgate doctor --config tollgate.toml")]
    Doctor(DoctorArgs),
    /// Measure what this machine does.
    #[command(
        subcommand,
        after_help = "Example:
  tollgate bench admission"
    )]
    Bench(BenchCommand),
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep data here instead of in a folder that goes away at the end.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How much traffic the example customers make.
    #[arg(long, default_value_t = 25, value_name = "N")]
    pub requests_per_second: u32,
    /// End by itself after so long, such as 30s or 10m.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub run_for: Option<std::time::Duration>,
    /// Make no traffic.
    #[arg(long)]
    pub no_traffic: bool,
    /// Where the gateway listens.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub gateway: std::net::SocketAddr,
    /// Where the platform listens.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDRESS")]
    pub platform: std::net::SocketAddr,
    /// Where health and metrics are.
    #[arg(long, default_value = "127.0.0.1:8082", value_name = "ADDRESS")]
    pub health: std::net::SocketAddr,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// What this process does.
    #[arg(long, value_enum, default_value_t = Role::All)]
    pub role: Role,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Gateway and platform in one process.
    All,
    /// The gateway alone.
    Gateway,
    /// The platform alone.
    Platform,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report every problem of the configuration (and of the catalog file it names).
    #[command(after_help = "Example:\n  tollgate config check --config tollgate.toml")]
    Check {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Every setting with its default and meaning.
    #[command(after_help = "Example:\n  tollgate config reference")]
    Reference {
        /// Accepted for symmetry; not read.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The JSON schema of the configuration.
    #[command(after_help = "Example:\n  tollgate config schema > tollgate.schema.json")]
    Schema {
        /// Accepted for symmetry; not read.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// How commands reach the platform.
#[derive(Debug, Clone, Args)]
pub struct PlatformArgs {
    /// Where the platform is; default: from --config, else http://127.0.0.1:8081.
    #[arg(long, env = "TOLLGATE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// An access token.
    #[arg(
        long,
        env = "TOLLGATE_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// A configuration to take the platform's address from.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The catalog.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Show what would change, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Also remove what the file no longer declares.
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    pub platform: PlatformArgs,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The catalog.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Also show what `apply --prune` would remove.
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    pub platform: PlatformArgs,
}

#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only periods that begin in this month (UTC), such as 2026-11.
    #[arg(long, value_name = "PERIOD", value_parser = month)]
    pub period: Option<Period>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Show streams, segments and totals.
    #[command(after_help = "Example:\n  tollgate journal inspect ./journal")]
    Inspect {
        /// The journal's folder.
        dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read every record; exit 1 on damage and say where.
    #[command(after_help = "Example:\n  tollgate journal verify ./journal")]
    Verify {
        /// The journal's folder.
        dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Bring the store's schema up to date; `serve` does so too when it starts.
    #[command(after_help = "Example:\n  tollgate store migrate --config tollgate.toml")]
    Migrate {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Access tokens.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make an access token; it is shown once. Works beside a running server.
    #[command(
        after_help = "Example:\n  tollgate admin token create --scope read --expires 30d --config tollgate.toml"
    )]
    Create {
        /// read, write, decide, ingest or admin; may be given several times.
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<String>,
        /// What people call it; must be free. Default: its id.
        #[arg(long)]
        name: Option<String>,
        /// How long it lives, such as 30d; default: for ever.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        expires: Option<std::time::Duration>,
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn month(text: &str) -> Result<Period, String> {
    let wrong = || "expected a month such as 2026-11".to_owned();
    let first: Date = format!("{text}-01").parse().map_err(|_| wrong())?;
    let next = first.checked_add(1.month()).map_err(|_| wrong())?;
    let midnight = |day: Date| {
        let start = day.to_zoned(TimeZone::UTC).map_err(|_| wrong())?;
        Ok::<_, String>(Timestamp(start.timestamp().as_microsecond()))
    };
    Ok(Period {
        start: midnight(first)?,
        end: midnight(next)?,
    })
}

fn duration(text: &str) -> Result<std::time::Duration, tollgate_model::TimeError> {
    tollgate_model::parse_duration_us(text).map(std::time::Duration::from_micros)
}
