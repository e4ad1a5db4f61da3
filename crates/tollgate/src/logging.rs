//! Logs: structured, to standard error, never with a secret.

use tracing_subscriber::EnvFilter;

/// Starts logging as `TOLLGATE_LOG` and `TOLLGATE_LOG_FORMAT` say. A second call changes nothing.
pub fn start(default_level: &str) {
    let filter =
        EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| EnvFilter::new(default_level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::env::var_os("NO_COLOR").is_none() && is_terminal());
    let json = std::env::var("TOLLGATE_LOG_FORMAT").is_ok_and(|format| format == "json");
    let started = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    // Only a test that starts two servers in one process gets here twice.
    drop(started);
}

fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}
