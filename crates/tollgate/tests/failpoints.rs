//! Crashes at every edge of durability, of a binary that was built with `--features failpoints`:
//! whatever is broken off, the ledger holds everything exactly once.
//!
//! `return` at a fail point aborts the process, `return(error)` fails the call. What has no fail
//! point of its own (small files put in place, segments deleted) is killed by `strace` as it
//! enters the system call.
//!
//! `TOLLGATE_FAILPOINT_CRASHES` sets how often each point crashes (2), `TOLLGATE_LOST_ANSWERS` how
//! often the store's answer is lost after a commit (200), `TOLLGATE_SEED` the first choice.

use std::collections::HashSet;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tollgate_journal::{DiskFilesystem, EVENT_ROOM_BYTES, Entry, Journal, JournalOptions};
use tollgate_metering::{
    FolderJournal, JournalView, LocalJournal, ReconcileOptions, ShipOptions, Shipper, reconcile,
};
use tollgate_model::{Clock, EventId, RequestId, UsageEvent};
use tollgate_store::{UsageStore, testing};
use tollgate_store_sqlite::SqliteStore;
use tollgate_testkit::client::Call;
use tollgate_testkit::load::{self, Amount, Plan};
use tollgate_testkit::{
    AcknowledgedSet, Binary, ManualClock, Oracle, OracleOptions, SeededIds, Setup, can_run,
    setting, skip, wall_us,
};

const SOON: Duration = Duration::from_secs(30);
const SIGKILL: i32 = 9;
const SIGABRT: i32 = 6;

/// Every fail point, and within how many passages the crash comes.
const POINTS: [(&str, u64); 10] = [
    ("ingest-claimed", 6),
    ("ingest-written", 6),
    ("ingest-committed", 6),
    ("ship-read", 6),
    ("ship-taken", 6),
    ("ship-told", 6),
    ("checkpoint-copied", 2),
    ("checkpoint-written", 2),
    ("grant-appended", 4),
    ("event-appended", 200),
];
/// System calls of the journal's small files and segments, counted by thread. A start surely cuts
/// one tail: further ones only where several threads had served.
const CALLS: [(&str, u64); 4] = [
    ("/rename", 3),
    ("/unlink", 2),
    ("fdatasync", 8),
    ("ftruncate", 1),
];

const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
[[plan]]
id = "plan"
name = "Plan"
quota = { units = 10000000, every = "month", on_exceeded = "block" }
limits = [{ max = 5000, per = "second" }]
[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets"]
plan = "plan"
"#;

struct World {
    oracle: Oracle,
    binary: Binary,
    key: String,
    choices: SeededIds,
    acknowledged: AcknowledgedSet,
    crashes: u64,
}

impl World {
    async fn start(seed: u64) -> anyhow::Result<Self> {
        let oracle = Oracle::start_with(OracleOptions {
            keep_headers: false,
            ..OracleOptions::default()
        })?;
        let catalog = CATALOG.replace("{upstream}", &oracle.url());
        let mut setup = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog);
        // What may go goes at once: deleting is one of the edges.
        setup.journal = "keep = \"0s\"\n".to_owned();
        let mut binary = setup.start().await?;
        let (_, key) = binary.create_key("acme").await?;
        binary.kill9()?;
        Ok(Self {
            oracle,
            binary,
            key,
            choices: SeededIds::new(seed),
            acknowledged: AcknowledgedSet::default(),
            crashes: 0,
        })
    }

    /// A life under load that ends by the crash that has been set up; then one without.
    async fn crash(&mut self, signal: i32) -> anyhow::Result<()> {
        self.binary.launch()?;
        let call = Call::get("/v1/things").key(&self.key);
        let amount = Amount::Requests(u64::MAX);
        let plan = Plan::new(self.binary.gateway(), 8, amount, call);
        let stop = Arc::clone(&plan.stop);
        let began_us = wall_us();
        let running = tokio::task::JoinSet::from_iter([load::run(plan)]);
        let ended = self.binary.wait_end(SOON).await;
        stop.store(true, Ordering::Relaxed);
        let report = running.join_all().await.pop().context("one run")?;
        let ended = ended.context("it did not crash")?;
        ensure!(ended.signal() == Some(signal), "it ended with {ended}");
        self.acknowledged.take(&report)?;
        self.crashes += 1;

        self.binary.setup_mut().environment.clear();
        self.binary.setup_mut().wrapper.clear();
        self.binary.restart().await?;
        let from = jiff::Timestamp::from_microsecond(began_us - 1_000_000)?;
        let records = self.binary.records_by_id(&format!("from={from}")).await?;
        self.acknowledged.all_among(&records, began_us)?;
        self.binary.kill9()
    }

    async fn at_point(&mut self, point: &str, within: u64) -> anyhow::Result<()> {
        let passages = self.choices.next_u64() % within;
        let action = if passages == 0 {
            format!("{point}=return")
        } else {
            format!("{point}={passages}*off->return")
        };
        let environment = vec![("FAILPOINTS".to_owned(), action.clone())];
        self.binary.setup_mut().environment = environment;
        self.crash(SIGABRT).await.context(action)
    }

    async fn at_call(&mut self, call: &str, within: u64) -> anyhow::Result<()> {
        let when = 1 + self.choices.next_u64() % within;
        let inject = format!("inject={call}:signal=SIGKILL:when={when}");
        let trace = format!("trace={call}");
        let words = [
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
        ];
        self.binary.setup_mut().wrapper = words.map(str::to_owned).into();
        self.crash(SIGKILL).await.context(inject)
    }

    async fn prove(&mut self) -> anyhow::Result<()> {
        self.binary.restart().await?;
        let records = self.binary.records_by_id("range=24h").await?;
        self.acknowledged.all_among(&records, 0)?;
        let ids: HashSet<String> = self.oracle.request_ids().into_iter().collect();
        let forwarded = |record: &Value| record.get("outcome") == Some(&Value::from("forwarded"));
        for (id, record) in &records {
            ensure!(
                !forwarded(record) || ids.contains(id),
                "never seen: {record}"
            );
        }
        self.binary.reconcile().map(drop)
    }
}

fn crashes() -> u64 {
    setting("TOLLGATE_FAILPOINT_CRASHES", 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_edge_leaves_everything_in_the_ledger_once() -> anyhow::Result<()> {
    let seed = setting("TOLLGATE_SEED", 1);
    let mut world = World::start(seed).await?;
    for (point, within) in POINTS {
        for n in 0..crashes() {
            let crashed = world.at_point(point, within).await;
            crashed.with_context(|| format!("crash {n} with TOLLGATE_SEED={seed}"))?;
        }
        writeln!(std::io::stdout(), "{point}: {} crashes", crashes())?;
    }
    world.prove().await?;
    let acknowledged = world.acknowledged.count();
    println!(
        "figure: fail points: {} crashes at 10 edges, {acknowledged} acknowledged, 0 lost, 0 twice",
        world.crashes
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_within_a_system_call_leaves_everything_in_the_ledger_once() -> anyhow::Result<()> {
    if !can_run("strace", &["-D", "-f", "-qq", "-o", "/dev/null", "true"]) {
        skip(
            "a_kill_within_a_system_call",
            "strace is not installed, or may not trace here",
        );
        return Ok(());
    }
    let seed = setting("TOLLGATE_SEED", 1);
    let mut world = World::start(seed).await?;
    for (call, within) in CALLS {
        for n in 0..crashes() {
            let crashed = world.at_call(call, within).await;
            crashed.with_context(|| format!("crash {n} with TOLLGATE_SEED={seed}"))?;
        }
        writeln!(std::io::stdout(), "{call}: {} kills", crashes())?;
    }
    world.prove().await?;
    let acknowledged = world.acknowledged.count();
    println!(
        "figure: killed in system calls (rename, unlink, fdatasync, ftruncate): {} kills, {acknowledged} acknowledged, 0 lost, 0 twice",
        world.crashes
    );
    Ok(())
}

/// A journal with so many events, and a shipper into a SQLite store.
fn pipeline(
    folder: &std::path::Path,
    events: u64,
) -> anyhow::Result<(Arc<dyn UsageStore>, Shipper, Journal)> {
    let clock = Arc::new(ManualClock::at(testing::BEGIN.plus_us(1)));
    let ids = Arc::new(SeededIds::new(1));
    let options = JournalOptions::new(folder.join("journal"));
    let (journal, _) = Journal::open(
        Arc::new(DiskFilesystem),
        options,
        1,
        Some("node-a"),
        clock.clone(),
        ids.as_ref(),
    )?;
    let mut writer = journal.writer(0).context("the first thread")?;
    for n in 0..events {
        let event = UsageEvent {
            id: EventId::Request(RequestId::from_uuid(u128::from(n) + 1)),
            at: clock.now().wall,
            ..testing::event(0)
        };
        let room = writer.reserve(EVENT_ROOM_BYTES)?;
        let charges = Vec::new();
        writer.append(room, &Entry::Event { event, charges })?;
    }
    let source = Arc::new(LocalJournal::new(journal.node().clone(), journal.reader()));
    let sqlite = SqliteStore::open(
        &folder.join("store.db"),
        &tollgate_store_sqlite::Options::default(),
    )?;
    let store: Arc<dyn UsageStore> = Arc::new(sqlite);
    let options = ShipOptions {
        batch_events_max: 1,
        ..ShipOptions::default()
    };
    let shipper = Shipper::new(source, store.clone(), clock, ids, options);
    Ok((store, shipper, journal))
}

/// Ships event by event while calls of the store fail at `point`; answers how often one did.
async fn ship_while_failing(point: &str, failures: u64) -> anyhow::Result<u64> {
    let folder = tempfile::tempdir()?;
    let (store, shipper, journal) = pipeline(folder.path(), failures)?;
    // What is shipped is what is on disk.
    journal.sync();
    fail::cfg(point, "75%return(error)").map_err(anyhow::Error::msg)?;
    let mut failed = 0;
    while shipper.pass().await.is_err() {
        failed += 1;
    }
    fail::remove(point);
    let found = FolderJournal::find(Arc::new(DiskFilesystem), &folder.path().join("journal"))?;
    let view: Arc<dyn JournalView> = Arc::new(found.context("no journal")?);
    let now = testing::BEGIN.plus_us(2);
    let report = reconcile(&store, Some(view), now, &ReconcileOptions::default()).await?;
    ensure!(report.ok, "{point}: {:#?}", report.lines);
    let (totals, _) = store.ledger_totals().await?;
    let events: u64 = totals.records.events.iter().sum();
    ensure!(
        events == failures,
        "{point}: {events} records of {failures} events"
    );
    Ok(failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_often_the_stores_answer_is_lost_events_are_counted_once() -> anyhow::Result<()> {
    let wanted = setting("TOLLGATE_LOST_ANSWERS", 200);
    for point in ["ingest-claimed", "ingest-written", "ingest-committed"] {
        // Three of four calls fail; after a commit the event is in, otherwise it is tried again.
        let failed = ship_while_failing(point, wanted).await?;
        println!(
            "figure: lost answers at {point}: {wanted} events, {failed} calls failed, each event recorded once"
        );
    }
    Ok(())
}
