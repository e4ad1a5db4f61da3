//! `tollgate demo`: everything in one process, with an example API behind it and customers before
//! it.

mod traffic;
mod upstream;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::json;
use tollgate_lifecycle::{Signals, Supervisor, SystemIds, TaskSpec};
use tollgate_model::IdGen;

use crate::cli::DemoArgs;
use crate::client::{Body, Platform};
use crate::config::{Config, StorePlace};
use crate::demo::traffic::Customer;
use crate::server::{Server, platform_runtime};
use crate::{logging, output};

const CATALOG: &str = include_str!("catalog.toml");

/// Whose calls the traffic makes, and how often relative to each other.
const CUSTOMERS: &[(&str, u32)] = &[
    ("globex-widgets", 50),
    ("umbrella-widgets", 20),
    ("initech-widgets", 15),
    ("acme-widgets", 10),
    ("initech-trial", 8),
];
/// How often callers without a key call.
const ANONYMOUS_WEIGHT: u32 = 6;

/// How long requests may take to end when the demo stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the demo until Ctrl-C or the end of `--for`.
///
/// # Errors
/// When an address is taken or the data folder cannot be used.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    logging::start("warn");
    let folder = Folder::new(args.data.as_deref())?;
    platform_runtime()?.block_on(serve(args, &folder))
}

/// Where the demo keeps its data; a folder that it made itself goes away with it.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn new(asked: Option<&Path>) -> anyhow::Result<Self> {
        let path = match asked {
            Some(path) => path.to_owned(),
            None => std::env::temp_dir().join(format!("tollgate-demo-{}", random_text(8))),
        };
        std::fs::create_dir_all(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self {
            path,
            temporary: asked.is_none(),
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed is a leftover in the system's temporary folder, no more.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

async fn serve(args: &DemoArgs, folder: &Folder) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let example = Supervisor::new(tokio::runtime::Handle::current());
    let stop = example.stop().soft;
    let (listener, upstream) = upstream::bind().await?;
    example.spawn(
        TaskSpec::essential("demo upstream"),
        upstream::run(listener, stop.clone()),
    );
    let catalog = folder.path.join("catalog.toml");
    std::fs::write(
        &catalog,
        CATALOG.replace("{upstream}", &upstream.to_string()),
    )
    .with_context(|| format!("{} cannot be written", catalog.display()))?;
    let token = find_or_make_token(&folder.path)?;
    let server = Server::start(&config(args, folder, catalog), Some(&token)).await?;
    let client = Platform::new(&format!("http://{}", args.platform), Some(token.clone()))?;
    let tour = make_key(&client, "you-widgets", "for you to try").await?;
    if !args.no_traffic {
        let customers = make_customers(&client).await?;
        let calls = traffic::run(args.gateway, customers, args.requests_per_second, stop);
        example.spawn(TaskSpec::expendable("demo traffic"), async {
            Ok(calls.await?)
        });
    }
    print_tour(args, &token, &tour)?;
    let run_for = args.run_for.unwrap_or(Duration::MAX);
    tokio::select! {
        _ = signals.next() => {}
        () = tokio::time::sleep(run_for) => {}
        reason = server.failed() => output::note(format!("tollgate: {reason}")),
    }
    output::note("Stopping …");
    let clean = server.stop(DRAIN, &mut signals).await;
    let ended = example.shutdown(DRAIN).await;
    Ok(if clean && ended.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn config(args: &DemoArgs, folder: &Folder, catalog: PathBuf) -> Config {
    Config {
        gateway_listen: args.gateway,
        gateway_workers: 0,
        trusted_proxies: Vec::new(),
        platform_listen: args.platform,
        health_listen: args.health,
        store: StorePlace::Sqlite(folder.path.join("tollgate.db")),
        journal_dir: folder.path.join("journal"),
        drain_us: 30_000_000,
        journal_durable: false,
        ship_batch: 1_000,
        journal_keep_us: 3_600_000_000,
        journal_disk_bytes_max: 1 << 30,
        catalog_file: Some(catalog),
        node: Some("demo".to_owned()),
    }
}

/// The operator's token of this demo; it stays with `--data`.
fn find_or_make_token(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("admin-token");
    if let Ok(token) = std::fs::read_to_string(&path) {
        return Ok(token.trim().to_owned());
    }
    let token = format!("demo_{}", random_text(24));
    std::fs::write(&path, &token)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(token)
}

/// So many random bytes in hexadecimal.
fn random_text(bytes: usize) -> String {
    let mut random = vec![0u8; bytes];
    SystemIds.fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn make_customers(client: &Platform) -> anyhow::Result<Vec<Customer>> {
    let mut customers = vec![Customer {
        key: String::new(),
        weight: ANONYMOUS_WEIGHT,
    }];
    for (subscription, weight) in CUSTOMERS {
        let key = make_key(client, subscription, "demo traffic").await?;
        customers.push(Customer {
            key,
            weight: *weight,
        });
    }
    Ok(customers)
}

async fn make_key(client: &Platform, subscription: &str, name: &str) -> anyhow::Result<String> {
    let body = json!({ "subscription_id": subscription, "name": name });
    let key = client
        .send(Method::POST, "/api/v1/keys", &[], Body::Json(body))
        .await?;
    Ok(output::plain(output::at(&key, "key")))
}

fn print_tour(args: &DemoArgs, token: &str, key: &str) -> anyhow::Result<()> {
    let (gateway, platform, health) = (args.gateway, args.platform, args.health);
    let program =
        std::env::current_exe().map_or("tollgate".to_owned(), |path| path.display().to_string());
    output::line(format!(
        "\
Tollgate is running.

  gateway    http://{gateway}/v1/widgets
  platform   http://{platform}/        (API under /api/v1, documents at /docs)
  health     http://{health}/readyz    (and /metrics)
  operator   {token}

Paste these two into another terminal; what follows, and the tour in README.md, then work there:
  export TOLLGATE_URL=http://{platform} TOLLGATE_TOKEN={token}
  tollgate() {{ '{program}' \"$@\"; }}

Call without a key (the API has a plan for that):
  curl -i http://{gateway}/v1/widgets

Call with a key of a plan of ten calls a minute; the eleventh is refused and says when to return:
  curl -i -H 'X-API-Key: {key}' http://{gateway}/v1/widgets/7

Ask what was used, as JSON and as tables:
  curl -s -H 'Authorization: Bearer {token}' 'http://{platform}/api/v1/usage/stats?range=1h'
  tollgate usage top --by organization
  tollgate usage records --outcome denied

Example customers make {} requests a second. Ctrl-C ends everything.",
        if args.no_traffic {
            0
        } else {
            args.requests_per_second
        },
    ))
}
