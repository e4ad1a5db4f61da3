//! `kill -9` of the real binary under load, again and again: nothing acknowledged is lost, nothing
//! is counted twice, and the upstream never sees one request over the limit.
//!
//! `TOLLGATE_KILL9_CYCLES` sets how often (3).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tollgate_testkit::client::Call;
use tollgate_testkit::load::{self, Amount, OnBroken, Plan};
use tollgate_testkit::{Binary, Oracle, OracleOptions, SeededIds, Setup, setting, wait_until};

const CLIENTS: usize = 32;
const SOON: Duration = Duration::from_secs(20);

fn catalog(upstream: &str, limit: u64) -> String {
    format!(
        r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
[[plan]]
id = "month"
name = "Month"
quota = {{ units = {limit}, every = "month", on_exceeded = "block" }}
limits = [{{ max = {limit}, per = "day" }}]
[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets"]
plan = "month"
"#
    )
}

/// What all lives of the process acknowledged, by id.
#[derive(Default)]
struct Acknowledged(HashMap<String, u16>);

impl Acknowledged {
    fn take(&mut self, report: &load::Report) -> anyhow::Result<()> {
        for (id, status) in report.acknowledged() {
            let before = self.0.insert(id.to_string(), status);
            ensure!(before.is_none(), "{id} was given twice");
        }
        Ok(())
    }

    /// Every acknowledged request is recorded once, with the status that was answered.
    async fn compare(&self, binary: &Binary) -> anyhow::Result<HashMap<String, Value>> {
        let mut records = HashMap::new();
        for record in binary.records("range=24h").await? {
            let id = record.get("id").and_then(Value::as_str);
            let id = id.context("a record has an id")?.to_owned();
            let twice = records.insert(id.clone(), record);
            ensure!(twice.is_none(), "{id} is recorded twice");
        }
        for (id, status) in &self.0 {
            let record = records
                .get(id)
                .with_context(|| format!("{id}, answered {status}, is not recorded"))?;
            let recorded = record.get("status").and_then(Value::as_u64);
            ensure!(
                recorded == Some(u64::from(*status)),
                "{id}: {status}, {record}"
            );
        }
        Ok(records)
    }
}

/// Loads until so many answers came, kills, and answers what was acknowledged.
async fn load_and_kill(
    binary: &mut Binary,
    key: &str,
    answers: u64,
) -> anyhow::Result<load::Report> {
    let call = Call::get("/v1/things?delay_ms=1").key(key);
    let mut plan = Plan::new(binary.gateway(), CLIENTS, Amount::Requests(u64::MAX), call);
    plan.on_broken = OnBroken::Stop;
    let acknowledged = Arc::clone(&plan.acknowledged);
    let running = tokio::task::JoinSet::from_iter([load::run(plan)]);
    wait_until("answers come under load", SOON, async || {
        acknowledged.load(Ordering::SeqCst) >= answers
    })
    .await?;
    binary.kill9()?;
    let mut reports = running.join_all().await;
    reports.pop().context("one run of load")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_no_limit_is_passed_over_kills() -> anyhow::Result<()> {
    let cycles = setting("TOLLGATE_KILL9_CYCLES", 3);
    let limit = cycles * 1_000;
    let choices = SeededIds::new(setting("TOLLGATE_SEED", 1));
    let oracle = Oracle::start_with(OracleOptions {
        keep_headers: false,
        ..OracleOptions::default()
    })?;
    let catalog = catalog(&oracle.url(), limit);
    let setup = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog);
    let mut binary = setup.start().await?;
    let (_, key) = binary.create_key("acme").await?;
    let mut acknowledged = Acknowledged::default();

    for _ in 0..cycles {
        let answers = 100 + choices.next_u64() % 600;
        let report = load_and_kill(&mut binary, &key, answers).await?;
        acknowledged.take(&report)?;
        binary.restart().await?;
        binary.wait_serving("/v1/things", SOON).await?;
        acknowledged.compare(&binary).await?;
        assert!(oracle.count() <= limit, "{} of {limit}", oracle.count());
    }

    // Now all that is left: what was given up is at most a grant and what was in flight, a kill.
    let call = Call::get("/v1/things").key(&key);
    let rest = Plan::new(
        binary.gateway(),
        CLIENTS,
        Amount::Requests(limit + 200),
        call,
    );
    let report = load::run(rest).await;
    ensure!(report.errors() == 0, "{:?}", report.error_texts());
    acknowledged.take(&report)?;
    let records = acknowledged.compare(&binary).await?;
    let seen = oracle.count();
    assert!(seen <= limit, "the upstream saw {seen} of {limit}");
    let given_up = cycles * (limit / 64 + 1 + CLIENTS as u64);
    assert!(
        seen + given_up >= limit,
        "only {seen} of {limit} were admitted"
    );

    let ids: HashSet<String> = oracle.request_ids().into_iter().collect();
    assert_eq!(ids.len() as u64, seen, "the upstream saw a request twice");
    let forwarded: Vec<&String> = records
        .iter()
        .filter(|(_, record)| record.get("outcome") == Some(&Value::from("forwarded")))
        .map(|(id, _)| id)
        .collect();
    let invented = forwarded.iter().find(|id| !ids.contains(**id));
    assert_eq!(invented, None, "recorded as forwarded, never seen upstream");
    let unrecorded = seen - forwarded.len() as u64;
    assert!(
        unrecorded <= cycles * CLIENTS as u64,
        "{unrecorded} not recorded"
    );
    binary.reconcile()?;
    println!(
        "{cycles} kills: {} acknowledged, 0 lost, 0 twice; the upstream saw {seen} of {limit}; \
         {} given up (at most {given_up}); {unrecorded} in flight at a kill",
        acknowledged.0.len(),
        limit - seen,
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_order_gives_everything_back() -> anyhow::Result<()> {
    let limit = 500;
    let oracle = Oracle::start()?;
    let setup = Setup::new(
        env!("CARGO_BIN_EXE_tollgate"),
        &catalog(&oracle.url(), limit),
    );
    let mut binary = setup.start().await?;
    let (_, key) = binary.create_key("acme").await?;
    for _ in 0..3 {
        let call = Call::get("/v1/things").key(&key);
        let report = load::run(Plan::new(binary.gateway(), 8, Amount::Requests(100), call)).await;
        assert_eq!(report.count(200), 100, "{:?}", report.error_texts());
        let status = binary.terminate(SOON).await?;
        assert_eq!(status.code(), Some(0), "{}", binary.output());
        binary.restart().await?;
    }
    let call = Call::get("/v1/things").key(&key);
    let report = load::run(Plan::new(binary.gateway(), 8, Amount::Requests(300), call)).await;
    assert_eq!(report.count(200), 200, "{:?}", report.by_status());
    assert_eq!(oracle.count(), limit);
    assert_eq!(binary.quota_used("acme").await?, limit);
    binary.reconcile()?;
    Ok(())
}
