//! Records that nobody would expect in a journal: oversize, damaged, of tenants that do not exist,
//! with absurd figures. Those behind them ship, nothing ships twice, and the lag returns to none.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tollgate_journal::{DiskFilesystem, Entry, Journal, JournalOptions};
use tollgate_lifecycle::{SystemClock, SystemIds};
use tollgate_model::{
    ApiId, Clock, EventId, KeyId, RequestId, SubscriptionId, Timestamp, UsageEvent,
};
use tollgate_store::testing;
use tollgate_testkit::client::Call;
use tollgate_testkit::load::{self, Amount, Plan};
use tollgate_testkit::{Oracle, Setup};

const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
[[plan]]
id = "plan"
name = "Plan"
quota = { units = 1000, every = "month", on_exceeded = "block" }
[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets"]
plan = "plan"
"#;
/// More than a batch may hold.
const OVERSIZE_BYTES: usize = 5 << 20;
const GOOD_BEHIND: u128 = 50;
const DAMAGED: &str = "/v1/damaged-on-disk";

fn event(n: u128, at: Timestamp) -> UsageEvent {
    UsageEvent {
        id: EventId::Request(RequestId::from_uuid(n)),
        at,
        key: None,
        key_family: None,
        subscription: None,
        organization: None,
        ..testing::event(0)
    }
}

/// What no gateway would write.
fn poison(at: Timestamp) -> Vec<UsageEvent> {
    let nobody = UsageEvent {
        key: Some(KeyId::new("ghost")),
        key_family: Some(KeyId::new("ghost")),
        subscription: Some(SubscriptionId::new("nobody")),
        api: ApiId::new("gone"),
        ..event(1, at)
    };
    let oversize = UsageEvent {
        path: "x".repeat(OVERSIZE_BYTES).into(),
        ..event(2, at)
    };
    let huge = |n| UsageEvent {
        units: u64::MAX,
        bytes_out: u64::MAX,
        latency_us: u64::MAX,
        subscription: Some(SubscriptionId::new("nobody")),
        ..event(n, at)
    };
    let damaged = UsageEvent {
        path: DAMAGED.into(),
        ..event(5, at)
    };
    let odd = UsageEvent {
        path: "/v1/\u{0}\u{202e}'; DROP TABLE usage_records; --".into(),
        user_agent: Some("\u{0}".into()),
        status: 0,
        ..event(6, at)
    };
    let ancient = event(7, Timestamp(0));
    vec![nobody, oversize, huge(3), huge(4), damaged, odd, ancient]
}

/// A life of the gateway that wrote all this and ended well.
fn write_by_hand(folder: &Path) -> anyhow::Result<usize> {
    let clock = Arc::new(SystemClock::new());
    let at = clock.now().wall;
    let options = JournalOptions::new(folder);
    let filesystem = Arc::new(DiskFilesystem);
    let (journal, recovered) =
        Journal::open(filesystem, options, 1, None, clock.clone(), &SystemIds)?;
    clock.raise_to(recovered.last_tick);
    let mut writer = journal.writer(0).context("the first thread")?;
    let mut events = poison(at);
    events.extend((0..GOOD_BEHIND).map(|n| event(100 + n, at)));
    for event in &events {
        let room = writer.reserve(event.path.len() + 4_096)?;
        let event = event.clone();
        let charges = Vec::new();
        writer.append(room, &Entry::Event { event, charges })?;
    }
    drop(writer);
    journal.close()?;
    Ok(events.len())
}

/// Turns a bit of one record over, where it lies in the folder.
fn damage(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let mut bytes = std::fs::read(&path)?;
        let mut windows = bytes.windows(DAMAGED.len());
        let place = windows.position(|window| window == DAMAGED.as_bytes());
        if let Some(byte) = place.and_then(|place| bytes.get_mut(place)) {
            *byte ^= 1;
            return Ok(std::fs::write(&path, bytes)?);
        }
    }
    anyhow::bail!("the record to be damaged is not on disk")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_behind_poisoned_records_ships_once_and_the_lag_returns_to_none()
-> anyhow::Result<()> {
    let soon = Duration::from_secs(20);
    let oracle = Oracle::start()?;
    let catalog = CATALOG.replace("{upstream}", &oracle.url());
    let setup = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog);
    let mut binary = setup.start().await?;
    let (_, key) = binary.create_key("acme").await?;
    let load = |target| {
        let call = Call::get("/v1/things").key(&key);
        load::run(Plan::new(target, 4, Amount::Requests(20), call))
    };
    ensure!(load(binary.gateway()).await.count(200) == 20, "before");
    let ended = binary.terminate(soon).await?;
    ensure!(ended.success(), "{ended}");

    let folder = binary.folder().join("journal");
    let written = write_by_hand(&folder)?;
    damage(&folder)?;
    let Err(told) = binary.reconcile() else {
        anyhow::bail!("reconcile took the ledgers for whole");
    };
    let told = format!("{told:#}");
    ensure!(told.contains("1 entries that wait"), "{told}");
    binary.restart().await?;
    ensure!(load(binary.gateway()).await.count(200) == 20, "after");
    // Answers 2xx only once everything that was appended before is visible.
    binary.flush().await?;
    let records = binary.records_by_id("from=1970-01-01T00:00:00Z").await?;
    let good = (0..GOOD_BEHIND).filter(|n| {
        let id = RequestId::from_uuid(100 + n).to_string();
        records.contains_key(&id)
    });
    ensure!(
        good.count() as u128 == GOOD_BEHIND,
        "records behind the poison are missing"
    );
    let expected = 20 + written - 1 + 20;
    ensure!(
        records.len() == expected,
        "{} records of {expected}",
        records.len()
    );
    let nobody = records.get(&RequestId::from_uuid(1).to_string());
    let owner = nobody.and_then(|record| record.get("subscription_id")?.as_str());
    ensure!(owner == Some("nobody"), "{nobody:?}");
    ensure!(binary.output().contains("unreadable"), "nobody was told");
    writeln!(
        std::io::stdout(),
        "figure: poison: {} records, 1 damaged, none twice",
        records.len()
    )?;
    ensure!(binary.quota_used("acme").await? == 40, "the others' quota");
    Ok(())
}
