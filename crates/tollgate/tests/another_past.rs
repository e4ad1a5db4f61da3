//! A start that finds another past than the last life left: the journal's folder gone, an older
//! copy of it put back, the store gone, another process on the same store. No limit is passed, the
//! log says what is wrong and what to do, and traffic goes on as soon as it may.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tollgate_testkit::client::{self, Call};
use tollgate_testkit::{Binary, Oracle, OracleOptions, Setup};

const SOON: Duration = Duration::from_secs(30);
const PER_HOUR: u64 = 20;
const QUOTA: u64 = 1_000;

struct World {
    oracle: Oracle,
    binary: Binary,
    key: String,
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let oracle = Oracle::start_with(OracleOptions {
            keep_headers: false,
            ..OracleOptions::default()
        })?;
        let catalog = format!(
            r#"
[[api]]
id = "widgets"
upstreams = ["{}"]
path_prefix = "/v1"
key_prefix = "hm"
[[plan]]
id = "plan"
name = "Plan"
limits = [{{ per = "hour", max = {PER_HOUR} }}]
quota = {{ units = {QUOTA}, every = "month", on_exceeded = "block" }}
[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets"]
plan = "plan"
"#,
            oracle.url()
        );
        let binary = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog);
        let binary = binary.start().await?;
        let (_, key) = binary.create_key("acme").await?;
        Ok(Self {
            oracle,
            binary,
            key,
        })
    }

    /// Calls so often, one after the other; answers how many passed.
    async fn call(&self, times: u64) -> anyhow::Result<u64> {
        let before = self.oracle.count();
        for _ in 0..times {
            self.binary.call(&self.key, "/v1/things").await?;
        }
        Ok(self.oracle.count() - before)
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.binary.terminate(SOON).await?;
        ensure!(status.success(), "{status}");
        // Who copies the file of a stopped server has all of it.
        ensure!(
            !self.file("tollgate.db-wal").exists(),
            "the store's log was left beside it"
        );
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.binary.folder().join(name)
    }

    fn ensure_said(&self, words: &str) -> anyhow::Result<()> {
        let output = self.binary.output();
        ensure!(output.contains(words), "{words:?} is not in\n{output}");
        Ok(())
    }

    /// Of the window everything counts as used, of the quota so many units.
    async fn ensure_window_held(&self, used: RangeInclusive<u64>) -> anyhow::Result<()> {
        ensure!(self.call(PER_HOUR + 5).await? == 0, "the window was opened");
        let refusal = self.binary.call(&self.key, "/v1/things").await?;
        ensure!(refusal.status == 503, "{refusal:?}");
        let me = Call::get("/.well-known/tollgate/me").key(&self.key);
        let told = client::send(self.binary.gateway(), &me).await?.json()?;
        let limits = told.pointer("/limits").and_then(Value::as_array);
        let number = |limit: &Value, name| limit.get(name).and_then(Value::as_u64);
        let mut limits = limits.into_iter().flatten();
        let quota = limits.find(|limit| number(limit, "limit") == Some(QUOTA));
        let remaining = quota.and_then(|quota| number(quota, "remaining"));
        let told_used = QUOTA - remaining.with_context(|| told.to_string())?;
        ensure!(used.contains(&told_used), "{told_used} of {used:?} used");
        let lost_at = "tollgate_gateway_counters_lost_timestamp_seconds";
        ensure!(self.binary.metric(lost_at).await? > 0);
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_folder_that_was_deleted_opens_no_window() -> anyhow::Result<()> {
    let mut world = World::start().await?;
    ensure!(world.call(12).await? == 12);
    world.stop().await?;
    std::fs::remove_dir_all(world.file("journal"))?;
    world.binary.restart().await?;
    world.ensure_window_held(12..=12).await?;
    world.ensure_said("its journal folder does not know")?;
    world.binary.flush().await?;
    world.stop().await?;
    world.binary.restart().await?;
    world.ensure_window_held(12..=12).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_journal_put_back_opens_no_window() -> anyhow::Result<()> {
    let mut world = World::start().await?;
    ensure!(world.call(3).await? == 3);
    world.stop().await?;
    copy(&world.file("journal"), &world.file("older"))?;
    world.binary.restart().await?;
    ensure!(world.call(9).await? == 9);
    world.stop().await?;
    std::fs::remove_dir_all(world.file("journal"))?;
    std::fs::rename(world.file("older"), world.file("journal"))?;
    world.binary.restart().await?;
    world.ensure_window_held(12..=12).await?;
    world.ensure_said("an older copy was put back")?;
    world.binary.flush().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_put_back_is_told_and_gets_what_the_journal_keeps() -> anyhow::Result<()> {
    let mut world = World::start().await?;
    ensure!(world.call(3).await? == 3);
    world.stop().await?;
    copy(&world.file("tollgate.db"), &world.file("older.db"))?;
    world.binary.restart().await?;
    ensure!(world.call(9).await? == 9);
    world.binary.flush().await?;
    world.stop().await?;
    for name in ["tollgate.db", "tollgate.db-wal", "tollgate.db-shm"] {
        let _may_be_absent = std::fs::remove_file(world.file(name));
    }
    std::fs::rename(world.file("older.db"), world.file("tollgate.db"))?;
    world.binary.restart().await?;
    world.ensure_said("the store lacks journal entries that it had confirmed")?;
    ensure!(world.call(20).await? == PER_HOUR - 12, "the limit is kept");
    world.binary.flush().await?;
    world.binary.reconcile()?;
    let stats = world.binary.get("/api/v1/usage/stats?range=24h").await?;
    let units = stats.get("units").and_then(Value::as_u64);
    ensure!(units == Some(PER_HOUR), "{stats}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_folder_never_lives_the_same_life_though_nothing_was_shipped()
-> anyhow::Result<()> {
    let mut world = World::start().await?;
    world.stop().await?;
    copy(&world.file("journal"), &world.file("copy"))?;
    // Lives that served nobody leave nothing in the store but that they were.
    world.binary.restart().await?;
    world.binary.kill9()?;
    std::fs::remove_dir_all(world.file("journal"))?;
    std::fs::rename(world.file("copy"), world.file("journal"))?;
    world.binary.restart().await?;
    world.ensure_said("its journal folder does not know")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ledger_and_checkpoint_no_window_opens() -> anyhow::Result<()> {
    let mut world = World::start().await?;
    ensure!(world.call(12).await? == 12);
    world.binary.kill9()?;
    for entry in std::fs::read_dir(world.file("journal"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("ledger") || name.starts_with("checkpoint") {
            std::fs::remove_file(&path)?;
        }
    }
    world.binary.restart().await?;
    // After a kill a grant may be held.
    world.ensure_window_held(12..=12 + QUOTA / 64).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_does_not_serve_from_the_same_store() -> anyhow::Result<()> {
    let world = World::start().await?;
    // By another name: it is the file that counts.
    std::os::unix::fs::symlink(world.file("tollgate.db"), world.file("link.db"))?;
    let store = format!("sqlite://{}", world.file("link.db").display());
    let catalog = std::fs::read_to_string(world.file("catalog.toml"))?;
    let second = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog)
        .with("TOLLGATE__STORE__URL", &store)
        .start()
        .await;
    let refused = second.err().context("it serves")?.to_string();
    ensure!(
        refused.contains("another tollgate serves from the store"),
        "{refused}"
    );
    ensure!(world.call(1).await? == 1);
    Ok(())
}
