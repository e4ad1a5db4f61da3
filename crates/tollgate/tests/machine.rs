//! A machine that fails under the real binary: slow disks, syncs that fail once, no descriptors
//! left, a stop that nobody wants to wait for, a wall clock that jumps.
//!
//! Those that need `strace` or `faketime` run with `TOLLGATE_MACHINE_FAULTS=1`.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpStream;
use tollgate_testkit::client::{self, Call, Connection};
use tollgate_testkit::load::{self, Amount, Answer, OnBroken, Plan, Report};
use tollgate_testkit::{
    AcknowledgedSet, Binary, Oracle, OracleOptions, Setup, can_run, skip, wait_until, wanted,
};

const SOON: Duration = Duration::from_secs(20);
const WANTED: &str = "TOLLGATE_MACHINE_FAULTS";

fn catalog(upstream: &str, plan: &str) -> String {
    format!(
        "[[api]]\nid = \"widgets\"\nupstreams = [\"{upstream}\"]\npath_prefix = \"/v1\"\n\
         key_prefix = \"hm\"\n[[plan]]\nid = \"plan\"\nname = \"Plan\"\n{plan}\n\
         [[organization]]\nid = \"acme\"\nname = \"Acme\"\n[[subscription]]\nid = \"acme\"\n\
         organization = \"acme\"\napis = [\"widgets\"]\nplan = \"plan\"\n"
    )
}

struct World {
    oracle: Oracle,
    binary: Binary,
    key: String,
}

async fn start(plan: &str, with: impl FnOnce(Setup) -> Setup) -> anyhow::Result<World> {
    let oracle = Oracle::start_with(OracleOptions {
        keep_headers: false,
        ..OracleOptions::default()
    })?;
    let setup = Setup::new(
        env!("CARGO_BIN_EXE_tollgate"),
        &catalog(&oracle.url(), plan),
    );
    let binary = with(setup).start().await?;
    let (_, key) = binary.create_key("acme").await?;
    Ok(World {
        oracle,
        binary,
        key,
    })
}

impl World {
    async fn load(&self, clients: usize, requests: u64) -> Report {
        let call = Call::get("/v1/things").key(&self.key);
        let amount = Amount::Requests(requests);
        load::run(Plan::new(self.binary.gateway(), clients, amount, call)).await
    }

    /// Every acknowledged answer is recorded once.
    async fn compare(&self, report: &Report) -> anyhow::Result<()> {
        let mut acknowledged = AcknowledgedSet::default();
        acknowledged.take(report)?;
        let records = self.binary.records_by_id("range=24h").await?;
        acknowledged.all_among(&records, 0)
    }
}

/// `strace` attached to a running process, changing what its system calls do; detached when
/// dropped.
struct Injection(Child);

impl Injection {
    /// Into every thread of the process, those that it starts later included.
    async fn into(binary: &Binary, what: &str) -> anyhow::Result<Self> {
        let pid = binary.pid()?;
        let inject = format!("inject={what}");
        let child = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=fdatasync,fsync",
                "-e",
                &inject,
            ])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting strace")?;
        let injection = Self(child);
        wait_until("strace holds every thread", SOON, async || {
            is_traced(pid).unwrap_or(false)
        })
        .await?;
        Ok(injection)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // SIGTERM makes it let go; after SIGKILL its tracees might be left stopped.
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            kill_process(pid, Signal::TERM).ok();
        }
        drop(self.0.wait());
    }
}

fn is_traced(pid: u32) -> anyhow::Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.is_none_or(|tracer| tracer.trim() == "0") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn strace_wanted(test: &str) -> bool {
    if !wanted(test, WANTED) {
        return false;
    }
    let works = can_run("strace", &["-f", "-qq", "-o", "/dev/null", "true"]);
    if !works {
        skip(test, "strace is not installed, or may not trace here");
    }
    works
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_slow_disk_limits_hold_and_memory_is_bounded() -> anyhow::Result<()> {
    if !strace_wanted("on_a_slow_disk_limits_hold_and_memory_is_bounded") {
        return Ok(());
    }
    for (sync, attempts) in [("fast", 20_000), ("durable", 2_000)] {
        let limit = attempts / 2;
        let plan = format!(
            "quota = {{ units = {limit}, every = \"month\", on_exceeded = \"block\" }}\n\
             limits = [{{ max = {limit}, per = \"day\" }}]"
        );
        let world = start(&plan, |mut setup| {
            setup.journal = format!("sync = \"{sync}\"\n");
            setup
        })
        .await?;
        world.load(64, 0).await;
        let memory_before = world.binary.memory_bytes()?;
        let slow = Injection::into(&world.binary, "fdatasync,fsync:delay_enter=300000").await?;
        let report = world.load(64, attempts).await;
        let memory_after = world.binary.memory_bytes()?;
        drop(slow);
        ensure!(report.errors() == 0, "{sync}: {:?}", report.error_texts());
        ensure!(
            report.count(200) == limit,
            "{sync}: {:?}",
            report.by_status()
        );
        ensure!(
            world.oracle.count() == limit,
            "{sync}: {} seen",
            world.oracle.count()
        );
        world.compare(&report).await?;
        world.binary.reconcile()?;
        let latencies = report.latencies();
        writeln!(
            std::io::stdout(),
            "figure: sync = {sync}, every sync 300 ms late: {attempts} attempts, {limit} admitted, p50 {} \
             us, p99 {} us, {} bytes of memory before, {} after",
            latencies.p50_us,
            latencies.p99_us,
            memory_before,
            memory_after,
        )?;
        // Two streams are synced one after the other, and an answer may just have missed a round.
        ensure!(latencies.p99_us < 3_000_000, "{latencies:?}");
        ensure!(memory_after < memory_before + (64 << 20), "memory grew");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_once_loses_nothing_and_is_told() -> anyhow::Result<()> {
    if !strace_wanted("a_sync_that_fails_once_loses_nothing_and_is_told") {
        return Ok(());
    }
    for (sync, when) in [("fast", 1), ("fast", 5), ("durable", 1), ("durable", 7)] {
        let plan = "quota = { units = 1000000, every = \"month\", on_exceeded = \"block\" }";
        let mut world = start(plan, |mut setup| {
            setup.journal = format!("sync = \"{sync}\"\n");
            setup
        })
        .await?;
        let what = format!("fdatasync,fsync:error=EIO:when={when}");
        let failing = Injection::into(&world.binary, &what).await?;
        let report = world.load(32, 3_000).await;
        // Whoever was refused or broken off meanwhile was not acknowledged; then it goes on.
        wait_until("every stream is whole again", SOON, async || {
            let output = world.binary.output();
            let failed = output.matches("journal sync failed").count();
            failed > 0 && output.matches("journal is whole again").count() >= failed
        })
        .await?;
        let after = world.load(32, 1_000).await;
        ensure!(after.count(200) == 1_000, "{sync}: {:?}", after.by_status());
        drop(failing);
        world.binary.kill9()?;
        world.binary.restart().await?;
        world.compare(&report).await?;
        world.compare(&after).await?;
        world.binary.reconcile()?;
        writeln!(
            std::io::stdout(),
            "figure: sync = {sync}, EIO at sync {when} of every thread: {} acknowledged, {} not, 0 lost",
            report.count(200) + after.count(200),
            report.errors() + report.count(503),
        )?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_may_write_no_file_to_its_end_says_what_to_do() -> anyhow::Result<()> {
    let limit = ["sh", "-c", "ulimit -f 8; exec \"$@\"", "sh"];
    let started = start("quota = { units = 1, every = \"month\" }", |setup| {
        setup.through(&limit)
    });
    let refused = started.await.err().context("it serves")?;
    let said = format!("{refused:#}");
    ensure!(
        said.contains("nothing was started") && said.contains("ulimit -f"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_nothing_panics_and_it_recovers() -> anyhow::Result<()> {
    let plan = "quota = { units = 100000, every = \"month\", on_exceeded = \"block\" }";
    let limit = ["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"];
    let mut world = start(plan, |setup| setup.through(&limit)).await?;
    let mut old = Connection::open(world.binary.gateway()).await?;
    let call = Call::get("/v1/things").key(&world.key);
    ensure!(old.send(&call).await?.status == 200, "before");
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(world.binary.gateway()).await?);
    }
    wait_until("there are no descriptors left", SOON, async || {
        world.binary.output().contains("cannot accept a connection")
    })
    .await?;
    // Connections that exist go on: the upstream's is kept alive beside them.
    for _ in 0..20 {
        ensure!(old.send(&call).await?.status == 200, "an old connection");
    }
    drop(crowd);
    wait_until("new connections are served again", SOON, async || {
        let answer = client::send(world.binary.gateway(), &call).await;
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await?;
    let report = world.load(32, 500).await;
    ensure!(report.count(200) == 500, "{:?}", report.error_texts());
    world.compare(&report).await?;
    world.binary.reconcile()?;
    let ended = world.binary.terminate(SOON).await?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_stop_says_so_and_leaves_a_sealed_journal() -> anyhow::Result<()> {
    let plan = "quota = { units = 1000, every = \"month\", on_exceeded = \"block\" }";
    let mut world = start(plan, |mut setup| {
        setup.gateway = "drain = \"2s\"\n".to_owned();
        setup
    })
    .await?;
    let before = world.load(8, 100).await;
    let slow = Call::get("/v1/slow?delay_ms=30000").key(&world.key);
    let mut plan = Plan::new(world.binary.gateway(), 8, Amount::Requests(8), slow);
    plan.on_broken = OnBroken::Stop;
    let waiting = tokio::task::JoinSet::from_iter([load::run(plan)]);
    wait_until("all are under way", SOON, async || world.oracle.live() == 8).await?;
    let ended = world.binary.terminate(Duration::from_secs(10)).await?;
    ensure!(ended.code() == Some(1), "forced, but it said {ended}");
    ensure!(ended.signal().is_none(), "{ended}");
    let cut = waiting.join_all().await;
    let cut = cut.first().context("one run")?;
    ensure!(cut.errors() == 8, "{:?}", cut.by_status());
    let verified = world
        .binary
        .command(&["journal", "verify", "journal"])
        .output()?;
    ensure!(verified.status.success(), "{verified:?}");

    world.binary.restart().await?;
    let torn = world.binary.output().contains("torn journal tail");
    ensure!(!torn, "the journal was not sealed");
    world.compare(&before).await?;
    let records = world.binary.records_by_id("range=24h").await?;
    ensure!(records.len() == 108, "{} records", records.len());
    let outcome = |record: &&Value| record.get("outcome") == Some(&Value::from("cut"));
    ensure!(records.values().filter(outcome).count() == 8, "{records:?}");
    ensure!(world.binary.quota_used("acme").await? == 108, "units");
    world.binary.reconcile()?;
    Ok(())
}

fn libfaketime() -> Option<String> {
    for folder in std::fs::read_dir("/usr/lib").ok()?.flatten() {
        let file = folder.path().join("faketime/libfaketimeMT.so.1");
        if file.exists() {
            return file.to_str().map(str::to_owned);
        }
    }
    None
}

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
const A_SECOND: u64 = 40;
const A_DAY: u64 = 120;

/// Puts the wall clock so many seconds beside the true one.
fn step_to(clock: &Path, seconds: i64) -> anyhow::Result<()> {
    let new = clock.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}\n"))?;
    Ok(std::fs::rename(new, clock)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_jumps_opens_no_window_and_reopens_no_period() -> anyhow::Result<()> {
    let test = "a_wall_clock_that_jumps_opens_no_window_and_reopens_no_period";
    if !wanted(test, WANTED) {
        return Ok(());
    }
    let Some(library) = libfaketime() else {
        skip(test, "libfaketime is not installed");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let clock = folder.path().join("clock");
    step_to(&clock, 0)?;
    let file = clock.to_str().context("UTF-8")?;
    let plan = format!(
        "quota = {{ units = {A_DAY}, every = \"day\", on_exceeded = \"block\" }}\n\
         limits = [{{ max = {A_SECOND}, per = \"second\" }}]"
    );
    let mut world = start(&plan, |setup| {
        setup
            .with("LD_PRELOAD", &library)
            .with("FAKETIME_TIMESTAMP_FILE", file)
            .with("FAKETIME_NO_CACHE", "1")
            .with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    })
    .await?;
    let mut admitted = Vec::new();
    // The first day's quota is left unfinished: a clock set back would find the rest.
    admitted.extend(world.call_for_ms(500).await?);
    ensure!(!admitted.is_empty(), "nothing was admitted");
    let steps = [
        (DAY, A_DAY),
        (0, 0),
        (-DAY, 0),
        (HOUR, 0),
        (DAY, 0),
        (2 * DAY, A_DAY),
        (2 * DAY - HOUR, 0),
        (0, 0),
    ];
    for (seconds, expected) in steps {
        step_to(&clock, seconds)?;
        let got = world
            .call_for_ms(if expected > 0 { 5_000 } else { 1_200 })
            .await?;
        writeln!(
            std::io::stdout(),
            "clock {seconds:+} s: {} admitted",
            got.len()
        )?;
        ensure!(
            got.len() as u64 == expected,
            "{seconds:+} s: {} admitted",
            got.len()
        );
        admitted.extend(got);
    }
    let most = most_within_a_second(&admitted);
    ensure!(most as u64 <= A_SECOND, "{most} within a second");
    // A process that starts with the clock set back knows from the journal what had begun.
    world.binary.kill9()?;
    world.binary.restart().await?;
    let again = world.call_for_ms(1_200).await?;
    writeln!(
        std::io::stdout(),
        "figure: wall clock stepped by days and hours both ways: no window over {A_SECOND}, no period \
         over {A_DAY}; after a kill with the clock two days back {} admitted",
        again.len()
    )?;
    ensure!(again.is_empty(), "a closed period was opened again");
    let said = world.binary.output();
    ensure!(said.contains("the wall clock is behind"), "nobody was told");
    world.binary.reconcile()?;
    Ok(())
}

impl World {
    /// Calls faster than any limit allows; answers when those admitted were sent and answered.
    async fn call_for_ms(&self, ms: u64) -> anyhow::Result<Vec<(u64, u64)>> {
        let rate = Amount::Rate {
            per_second: 400,
            duration: Duration::from_millis(ms),
        };
        let call = Call::get("/v1/things").key(&self.key);
        let oracle_us = self.oracle.clock().us();
        let seen_before = self.oracle.count();
        let report = load::run(Plan::new(self.binary.gateway(), 8, rate, call)).await;
        ensure!(report.errors() == 0, "{:?}", report.error_texts());
        let is_200 = |answer: &Answer| matches!(answer, Answer::Whole { status: 200, .. });
        let admitted = report
            .attempts
            .iter()
            .filter(|attempt| is_200(&attempt.answer));
        let admitted = admitted.map(|a| (oracle_us + a.begun_us, oracle_us + a.ended_us));
        let admitted: Vec<(u64, u64)> = admitted.collect();
        let seen = self.oracle.count() - seen_before;
        ensure!(seen == admitted.len() as u64, "the upstream saw {seen}");
        Ok(admitted)
    }
}

/// Most that were sent and answered within one second.
fn most_within_a_second(admitted: &[(u64, u64)]) -> usize {
    let within = |&(from, _): &(u64, u64)| {
        let inside = |&&(sent, ended): &&(u64, u64)| sent >= from && ended < from + 1_000_000;
        admitted.iter().filter(inside).count()
    };
    admitted.iter().map(within).max().unwrap_or(0)
}
