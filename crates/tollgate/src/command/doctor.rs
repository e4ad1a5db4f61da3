//! `tollgate doctor`: looks at everything a process needs, and says what to do.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tollgate_control::Control;
use tollgate_journal::{DiskFilesystem, Folder};
use tollgate_lifecycle::{SystemClock, SystemIds};
use tollgate_model::{Catalog, CatalogSink, Clock, KeyDelta, Per, Timestamp};

use crate::cli::DoctorArgs;
use crate::config::{self, Config};
use crate::server::open_store;
use crate::{output, pepper};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Less free space than this is worth a word.
const DISK_FREE_BYTES_MIN: u64 = 1 << 30;
/// A clock before this instant (2026-01-01) is not set.
const CLOCK_EARLIEST: Timestamp = Timestamp(1_767_225_600_000_000);

/// One thing looked at.
struct Finding {
    what: &'static str,
    ok: bool,
    detail: String,
}

fn good(what: &'static str, detail: impl Into<String>) -> Finding {
    Finding {
        what,
        ok: true,
        detail: detail.into(),
    }
}

fn bad(what: &'static str, detail: impl Into<String>) -> Finding {
    Finding {
        what,
        ok: false,
        detail: detail.into(),
    }
}

/// Runs the command; exit status 1 when something is wrong.
///
/// # Errors
/// When standard output cannot be written.
pub async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let findings = match config::load(&args.config) {
        Ok(config) => {
            let mut findings = vec![good("configuration", "holds")];
            findings.push(clock());
            findings.push(disk(&config));
            findings.push(journal(&config));
            findings.extend(counters(&config));
            findings.extend(store_and_upstreams(&config).await);
            findings.push(server(&config).await);
            findings
        }
        Err(error) => vec![bad("configuration", error.to_string())],
    };
    let ok = findings.iter().all(|finding| finding.ok);
    if args.json {
        let items: Vec<_> = findings
            .iter()
            .map(|f| json!({ "what": f.what, "ok": f.ok, "detail": f.detail }))
            .collect();
        output::json(&json!({ "ok": ok, "items": items }))?;
    } else {
        let rows = findings
            .iter()
            .map(|f| {
                vec![
                    if f.ok { "ok" } else { "!!" }.into(),
                    f.what.into(),
                    f.detail.clone(),
                ]
            })
            .collect();
        output::table(&["", "what", "finding"], rows)?;
    }
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn clock() -> Finding {
    let now = SystemClock::new().now().wall;
    if now < CLOCK_EARLIEST {
        return bad(
            "clock",
            format!("says {now}: set it before serving, periods go by it"),
        );
    }
    good("clock", format!("says {now}"))
}

fn disk(config: &Config) -> Finding {
    let folder = nearest_folder(&config.journal_dir);
    match rustix::fs::statvfs(folder) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!("{} MiB free at {}", free >> 20, folder.display());
            if free < DISK_FREE_BYTES_MIN {
                return bad(
                    "disk",
                    format!("{detail}: free some; when the journal has no room, calls are refused"),
                );
            }
            good("disk", detail)
        }
        Err(error) => bad(
            "disk",
            format!("{} cannot be looked at: {error}", folder.display()),
        ),
    }
}

/// The folder itself, or the nearest one above it that is there.
fn nearest_folder(path: &Path) -> &Path {
    path.ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("/"))
}

fn journal(config: &Config) -> Finding {
    if !config.journal_dir.exists() {
        return good(
            "journal",
            format!("{} will be made", config.journal_dir.display()),
        );
    }
    match super::journal::verify(&config.journal_dir) {
        Ok(found) if found.damage.is_clean() => {
            let records: u64 = found.streams.iter().map(|stream| stream.records).sum();
            good(
                "journal",
                format!("{records} records on disk, none damaged"),
            )
        }
        Ok(found) => bad(
            "journal",
            format!(
                "{} damaged places; `tollgate journal verify {}` names them",
                found.damage.spots.len() as u64 + found.damage.more_spots,
                config.journal_dir.display()
            ),
        ),
        Err(error) => bad("journal", format!("{error:#}")),
    }
}

/// Counters that were lost so lately that windows still count as full.
fn counters(config: &Config) -> Option<Finding> {
    let folder = Folder::open(Arc::new(DiskFilesystem), &config.journal_dir);
    let checkpoint = folder.ok().flatten()?.checkpoint()?;
    let lost_at = checkpoint.shards.iter().map(|shard| shard.lost_at).max()?;
    let before_us = i64::try_from(checkpoint.at.ticks.since(lost_at)).unwrap_or(i64::MAX);
    let lost_wall = checkpoint.at.wall.plus_us(-before_us);
    // Windows count a sixtieth longer than their span.
    let longest_us = Per::Day.span_us() + Per::Day.span_us() / 60;
    let ago_us = SystemClock::new().now().wall.since(lost_wall);
    if lost_at.0 == 0 || u64::try_from(ago_us).is_ok_and(|us| us > longest_us) {
        return None;
    }
    Some(bad(
        "counters",
        format!(
            "were lost at {lost_wall}: a window counts as full until its span has passed since \
             (minute limits for a minute, day limits for a day). To let calls pass meanwhile, set \
             `on_counters_lost` of the API; why they were lost says the log of that start"
        ),
    ))
}

async fn store_and_upstreams(config: &Config) -> Vec<Finding> {
    if config.store.file().is_some_and(|file| !file.exists()) {
        return vec![good("store", format!("{} will be made", config.store))];
    }
    let store = match open_store(config).await {
        Ok(store) => store,
        Err(error) => return vec![bad("store", format!("{error:#}"))],
    };
    if let Err(error) = store.ping().await {
        return vec![bad("store", format!("cannot be read and written: {error}"))];
    }
    let mut findings = vec![good("store", format!("{} answers", config.store))];
    let pepper = match pepper::find(&config.journal_dir) {
        Ok(Some(pepper)) => pepper,
        Ok(None) => {
            findings.push(bad(
                "pepper",
                "is missing: bring it back, or every key is unknown",
            ));
            return findings;
        }
        Err(error) => {
            findings.push(bad("pepper", format!("{error:#}")));
            return findings;
        }
    };
    let (clock, ids) = (Arc::new(SystemClock::new()), Arc::new(SystemIds));
    let control = Control::new(store, Arc::new(Nowhere), clock, ids, pepper);
    if let Err(error) = control.start().await {
        findings.push(bad("catalog", error.to_string()));
        return findings;
    }
    let catalog = control.catalog();
    findings.push(good(
        "catalog",
        format!(
            "{} APIs, {} plans, {} subscriptions",
            catalog.apis.len(),
            catalog.plans.len(),
            catalog.subscriptions.len()
        ),
    ));
    let addresses: BTreeSet<String> = catalog
        .apis
        .values()
        .flat_map(|api| &api.upstreams)
        .map(|upstream| format!("{}:{}", upstream.host, upstream.port))
        .collect();
    for address in addresses {
        findings.push(upstream(&address).await);
    }
    findings
}

/// The doctor publishes to nobody.
struct Nowhere;

impl CatalogSink for Nowhere {
    fn publish_catalog(&self, _catalog: Arc<Catalog>) {}
    fn publish_keys(&self, _delta: KeyDelta) {}
    fn forget_keys_before(&self, _version: u64) {}
}

async fn upstream(address: &str) -> Finding {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => good("upstream", format!("{address} takes connections")),
        Ok(Err(error)) => bad("upstream", format!("{address}: {error}; callers get 502")),
        Err(_) => bad(
            "upstream",
            format!("{address} does not answer; callers get 502"),
        ),
    }
}

async fn server(config: &Config) -> Finding {
    let url = format!("http://{}/readyz", config.health_listen);
    let asked = reqwest::Client::builder().timeout(CONNECT_TIMEOUT).build();
    let answer = match asked {
        Ok(client) => client.get(url).send().await,
        Err(error) => return bad("server", error.to_string()),
    };
    match answer {
        Ok(answer) if answer.status().is_success() => good("server", "runs and is ready"),
        Ok(answer) => {
            let text = answer.text().await.unwrap_or_default();
            bad("server", format!("runs and is not ready: {}", text.trim()))
        }
        Err(_) => good(
            "server",
            format!("none runs at {} now", config.health_listen),
        ),
    }
}
