//! What can be done with keys.

use clap::{Args, Subcommand};

use super::PlatformArgs;

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; its secret is shown once.
    #[command(
        after_help = "Example:\n  tollgate keys create --subscription acme-widgets --name laptop --scope widgets:read"
    )]
    Create(KeyCreateArgs),
    /// List keys.
    #[command(after_help = "Example:\n  tollgate keys list --subscription acme-widgets")]
    List {
        /// Only this subscription's.
        #[arg(long)]
        subscription: Option<String>,
        /// Most keys of the page.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Where the page begins (`next_cursor` of the page before).
        #[arg(long)]
        cursor: Option<String>,
        #[command(flatten)]
        platform: PlatformArgs,
    },
    /// Show one key.
    #[command(after_help = "Example:\n  tollgate keys show key_01jc…")]
    Show {
        /// The key's id.
        id: String,
        #[command(flatten)]
        platform: PlatformArgs,
    },
    /// Take a key back, at once and for good.
    #[command(after_help = "Example:\n  tollgate keys revoke key_01jc…")]
    Revoke {
        /// The key's id.
        id: String,
        #[command(flatten)]
        platform: PlatformArgs,
    },
}

#[derive(Debug, Args)]
pub struct KeyCreateArgs {
    /// Whose key.
    #[arg(long)]
    pub subscription: String,
    /// What people call it.
    #[arg(long)]
    pub name: String,
    /// A scope; may be given several times. Default: all that the plan allows.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// From when on it is refused, as an RFC 3339 time.
    #[arg(long, value_name = "TIME")]
    pub expires_at: Option<String>,
    /// Where it may be used from, as CIDR; may be given several times.
    #[arg(long = "allow", value_name = "CIDR")]
    pub allowed_addresses: Vec<String>,
    /// A test key: counted and limited, left out of statistics.
    #[arg(long)]
    pub test: bool,
    /// Your own name for it.
    #[arg(long)]
    pub external_id: Option<String>,
    #[command(flatten)]
    pub platform: PlatformArgs,
}
