//! Never one request over a limit, and none less: attempts from many clients over limits of many
//! sizes, counted by the upstream, the clients, the records and the quota alike.
//!
//! `TOLLGATE_ATTEMPTS` sets how many attempts are made in all (20 000).

use std::fmt::Write;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tollgate_testkit::client::Call;
use tollgate_testkit::load::{self, Amount, Answer, Plan, Report};
use tollgate_testkit::{Binary, Oracle, OracleOptions, Setup, setting, wait_until};

/// A limit, how often it is tried, and by how many clients.
struct Case {
    limit: u64,
    attempts: u64,
    clients: usize,
    /// Of a day's sliding window; else a month's quota.
    window: bool,
}

impl Case {
    fn id(&self) -> String {
        let kind = if self.window { "w" } else { "q" };
        format!("{kind}{}-by-{}", self.limit, self.clients)
    }
}

/// Limits from 1 up to 100 000, by 1 to 512 clients. Two large ones get six tenths of the
/// attempts, ten small ones the rest; each is tried well beyond its limit.
fn cases(attempts: u64) -> Vec<Case> {
    let small = attempts / 25;
    let large = (attempts / 5).min(100_000);
    let mut cases = Vec::new();
    for window in [true, false] {
        for (limit, clients) in [(1, 1), (1, 512), (10, 64), (100, 8), (1_000, 256)] {
            cases.push(Case {
                limit: limit.min(small / 2),
                attempts: small,
                clients,
                window,
            });
        }
        cases.push(Case {
            limit: large,
            attempts: attempts * 3 / 10,
            clients: 128,
            window,
        });
    }
    cases
}

fn catalog(upstream: &str, cases: &[Case]) -> anyhow::Result<String> {
    let mut text = format!(
        "[[api]]\nid = \"widgets\"\nupstreams = [\"{upstream}\"]\npath_prefix = \"/v1\"\n\
         key_prefix = \"hm\"\n[[organization]]\nid = \"acme\"\nname = \"Acme\"\n\
         [[plan]]\nid = \"burst\"\nname = \"Burst\"\n\
         limits = [{{ max = 50, per = \"second\" }}]\n\
         [[subscription]]\nid = \"burst\"\norganization = \"acme\"\napis = [\"widgets\"]\n\
         plan = \"burst\"\n"
    );
    for case in cases {
        let (id, limit) = (case.id(), case.limit);
        let rule = if case.window {
            format!("limits = [{{ max = {limit}, per = \"day\" }}]")
        } else {
            format!("quota = {{ units = {limit}, every = \"month\", on_exceeded = \"block\" }}")
        };
        write!(
            text,
            "[[plan]]\nid = \"{id}\"\nname = \"{id}\"\n{rule}\n[[subscription]]\nid = \"{id}\"\n\
             organization = \"acme\"\napis = [\"widgets\"]\nplan = \"{id}\"\n"
        )?;
    }
    Ok(text)
}

async fn start(cases: &[Case]) -> anyhow::Result<(Oracle, Binary)> {
    let oracle = Oracle::start_with(OracleOptions {
        keep_headers: false,
        ..OracleOptions::default()
    })?;
    let catalog = catalog(&oracle.url(), cases)?;
    let binary = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog)
        .start()
        .await?;
    Ok((oracle, binary))
}

async fn stats(binary: &Binary, subscription: &str, field: &str) -> anyhow::Result<u64> {
    let path = format!("/api/v1/usage/stats?range=24h&subscription_id={subscription}");
    let stats = binary.get(&path).await?;
    let value = stats.get(field).and_then(Value::as_u64);
    value.with_context(|| format!("no {field} in {stats}"))
}

async fn storm(binary: &Binary, oracle: &Oracle, case: &Case) -> anyhow::Result<()> {
    let id = case.id();
    let (_, key) = binary.create_key(&id).await?;
    let (before, share) = (oracle.count(), case.attempts);
    let amount = Amount::Requests(share);
    let call = Call::get("/v1/things").key(&key);
    let report = load::run(Plan::new(binary.gateway(), case.clients, amount, call)).await;
    ensure!(report.errors() == 0, "{id}: {:?}", report.error_texts());
    let (admitted, refused) = (report.count(200), report.count(429));
    assert_eq!(admitted, case.limit, "{id}: answered 200");
    assert_eq!(admitted + refused, share, "{id}: {:?}", report.by_status());
    assert_eq!(oracle.count() - before, case.limit, "{id}: seen upstream");

    binary.flush().await?;
    assert_eq!(
        stats(binary, &id, "requests").await?,
        share,
        "{id}: recorded"
    );
    assert_eq!(stats(binary, &id, "denied").await?, refused, "{id}: denied");
    writeln!(
        std::io::stdout(),
        "{id}: {} clients, {share} attempts, limit {}, admitted {admitted}, upstream {}",
        case.clients,
        case.limit,
        oracle.count() - before,
    )?;
    if !case.window {
        assert_eq!(
            binary.quota_used(&id).await?,
            case.limit,
            "{id}: quota used"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admitted_is_exactly_the_limit_under_any_number_of_clients() -> anyhow::Result<()> {
    let attempts = setting("TOLLGATE_ATTEMPTS", 20_000);
    let cases = cases(attempts);
    let (oracle, binary) = start(&cases).await?;
    for case in &cases {
        storm(&binary, &oracle, case).await?;
    }
    binary.reconcile()?;
    Ok(())
}

/// Most answered 200 that were surely admitted within one span: sent after its begin, answered
/// before its end.
fn most_within(report: &Report, span_us: u64) -> usize {
    let admitted: Vec<(u64, u64)> = report
        .attempts
        .iter()
        .filter(|attempt| matches!(attempt.answer, Answer::Whole { status: 200, .. }))
        .map(|attempt| (attempt.begun_us, attempt.ended_us))
        .collect();
    let within = |from: u64| {
        let inside = admitted
            .iter()
            .filter(|(begun, ended)| *begun >= from && *ended < from + span_us);
        inside.count()
    };
    admitted
        .iter()
        .map(|(begun, _)| within(*begun))
        .max()
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sliding_window_holds_in_every_interval_and_is_used_to_98_percent() -> anyhow::Result<()>
{
    const MAX: u64 = 50;
    let (oracle, binary) = start(&[]).await?;
    let (_, key) = binary.create_key("burst").await?;
    let spans = 4;
    let rate = Amount::Rate {
        per_second: 1_000,
        // A little over whole windows: the last one begins 1/60 late each time.
        duration: Duration::from_millis(1_000 * spans + 300),
    };
    let call = Call::get("/v1/things").key(&key);
    let report = load::run(Plan::new(binary.gateway(), 16, rate, call)).await;
    ensure!(report.errors() == 0, "{:?}", report.error_texts());
    let most = most_within(&report, 1_000_000) as u64;
    assert!(most <= MAX, "{most} within one second");
    let admitted = report.count(200);
    assert!(
        admitted * 100 >= MAX * spans * 98,
        "{admitted} admitted in {spans} s"
    );
    assert_eq!(oracle.count(), admitted);
    binary.reconcile()?;
    println!(
        "limit {MAX} a second for {spans} s: {admitted} admitted, at most {most} in any second"
    );
    Ok(())
}

/// One subscription on plan `before` or `after`, which allow as much a day (or month) as is said.
fn changing(upstream: &str, window: bool, before: u64, after: u64, plan: &str) -> String {
    let rule = |max: u64| {
        if window {
            format!("limits = [{{ max = {max}, per = \"day\" }}]")
        } else {
            format!("quota = {{ units = {max}, every = \"month\", on_exceeded = \"block\" }}")
        }
    };
    format!(
        "[[api]]\nid = \"widgets\"\nupstreams = [\"{upstream}\"]\npath_prefix = \"/v1\"\n\
         key_prefix = \"hm\"\n[[organization]]\nid = \"acme\"\nname = \"Acme\"\n\
         [[plan]]\nid = \"before\"\nname = \"Before\"\n{}\n\
         [[plan]]\nid = \"after\"\nname = \"After\"\n{}\n\
         [[subscription]]\nid = \"acme\"\norganization = \"acme\"\napis = [\"widgets\"]\n\
         plan = \"{plan}\"\n",
        rule(before),
        rule(after)
    )
}

/// The upstream has seen so many, and sees no more however many calls follow.
async fn settles_at(
    oracle: &Oracle,
    answered: &AtomicU64,
    expected: u64,
) -> anyhow::Result<Duration> {
    let soon = Duration::from_secs(10);
    let reached = async || oracle.count() >= expected;
    let took = wait_until(&format!("{expected} are admitted"), soon, reached).await?;
    let enough = answered.load(Ordering::SeqCst) + 200;
    let more = async || answered.load(Ordering::SeqCst) >= enough;
    wait_until("200 more calls are answered", soon, more).await?;
    let seen = oracle.count();
    ensure!(seen == expected, "{seen} admitted, {expected} allowed");
    Ok(took)
}

async fn change_under_load(window: bool) -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let url = oracle.url();
    let catalog = changing(&url, window, 100, 500, "before");
    let setup = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog);
    let binary = setup.start().await?;
    let (_, key) = binary.create_key("acme").await?;
    let call = Call::get("/v1/things").key(&key);
    let mut plan = Plan::new(binary.gateway(), 16, Amount::Requests(u64::MAX), call);
    plan.deadline = Duration::from_secs(120);
    let (answered, stop) = (Arc::clone(&plan.acknowledged), Arc::clone(&plan.stop));
    let running = tokio::task::JoinSet::from_iter([load::run(plan)]);
    settles_at(&oracle, &answered, 100).await?;
    let mut slowest = Duration::ZERO;
    // Raised, lowered below what is used, raised again; another plan, and back.
    let changes = [
        (150, 500, "before", 150),
        (120, 500, "before", 150),
        (160, 500, "before", 160),
        (160, 200, "after", 200),
        (160, 200, "before", 200),
        (230, 200, "before", 230),
    ];
    for (before, after, on, expected) in changes {
        binary.write_catalog(&changing(&url, window, before, after, on))?;
        binary.hang_up()?;
        slowest = slowest.max(settles_at(&oracle, &answered, expected).await?);
    }
    stop.store(true, Ordering::Relaxed);
    let report = running.join_all().await.pop().context("one run")?;
    ensure!(report.errors() == 0, "{:?}", report.error_texts());
    ensure!(report.count(200) == 230, "{:?}", report.by_status());
    binary.reconcile()?;
    writeln!(
        std::io::stdout(),
        "changed under load ({}): in force and used up after {slowest:?} at most",
        if window { "window" } else { "quota" }
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_or_plan_changed_under_load_forgets_nothing_that_was_used() -> anyhow::Result<()> {
    change_under_load(true).await?;
    change_under_load(false).await
}
