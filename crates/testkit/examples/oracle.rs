//! The oracle upstream by itself: `oracle [ADDRESS] [FILE]`. Writes a line for every request to
//! the file, prints how many it saw each second, and ends on Ctrl-C.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tollgate_testkit::{Oracle, OracleOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let oracle = Oracle::start_with(OracleOptions {
        listen: Some(
            address
                .parse()
                .context("ADDRESS is such as 127.0.0.1:9001")?,
        ),
        file: arguments.next().map(PathBuf::from),
        keep_headers: false,
    })?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", oracle.url())?;
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    let mut told = 0;
    loop {
        tokio::select! {
            _ = every_second.tick() => {
                let seen = oracle.count();
                if seen != told {
                    told = seen;
                    writeln!(out, "{seen} requests, {} open", oracle.live())?;
                }
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
