//! A steady rate over many connections: no error, an honest added latency, flat memory.
//!
//! `TOLLGATE_LOAD_SECONDS` (3), `TOLLGATE_LOAD_CONNECTIONS` (100) and `TOLLGATE_LOAD_RATE` (500)
//! set its size. The figures are printed.

use std::time::Duration;

use anyhow::ensure;
use tollgate_testkit::client::Call;
use tollgate_testkit::load::{self, Amount, Latencies, Plan, Report};
use tollgate_testkit::{Binary, Oracle, OracleOptions, Setup, setting};

const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
[[plan]]
id = "large"
name = "Large"
quota = { units = 100000000, every = "month", on_exceeded = "block" }
limits = [{ max = 10000000, per = "minute" }]
[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets"]
plan = "large"
"#;

/// Pages of the store that its writer keeps in memory at most.
const WRITER_CACHE_BYTES: u64 = 64 << 20;

fn show(what: &str, latencies: Latencies) -> String {
    let Latencies {
        p50_us,
        p95_us,
        p99_us,
        max_us,
    } = latencies;
    format!("{what}: p50 {p50_us} us, p95 {p95_us} us, p99 {p99_us} us, max {max_us} us")
}

async fn run(
    target: std::net::SocketAddr,
    key: &str,
    connections: usize,
    rate: u64,
    duration: Duration,
) -> Report {
    let amount = Amount::Rate {
        per_second: rate,
        duration,
    };
    let call = Call::get("/v1/things").key(key);
    let mut plan = Plan::new(target, connections, amount, call);
    plan.deadline = duration + Duration::from_secs(20);
    load::run(plan).await
}

async fn start() -> anyhow::Result<(Oracle, Binary, String)> {
    let oracle = Oracle::start_with(OracleOptions {
        keep_headers: false,
        ..OracleOptions::default()
    })?;
    let catalog = CATALOG.replace("{upstream}", &oracle.url());
    let binary = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog)
        .start()
        .await?;
    let (_, key) = binary.create_key("acme").await?;
    Ok((oracle, binary, key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_rate_is_served_without_an_error_and_counted_to_the_unit() -> anyhow::Result<()> {
    let seconds = setting("TOLLGATE_LOAD_SECONDS", 3);
    let connections = usize::try_from(setting("TOLLGATE_LOAD_CONNECTIONS", 100))?;
    let rate = setting("TOLLGATE_LOAD_RATE", 500);
    let (oracle, binary, key) = start().await?;

    // Connections are made and buffers are grown once; memory is compared from there on.
    let warm = Duration::from_secs(seconds.div_ceil(3));
    let warmed = run(binary.gateway(), &key, connections, rate, warm).await;
    ensure!(
        warmed.errors() == 0,
        "warming up: {:?}",
        warmed.error_texts()
    );
    let memory_before = binary.memory_bytes()?;
    let duration = Duration::from_secs(seconds);
    let report = run(binary.gateway(), &key, connections, rate, duration).await;
    let memory_after = binary.memory_bytes()?;
    ensure!(report.errors() == 0, "{:?}", report.error_texts());
    let answered = report.count(200) + warmed.count(200);
    assert_eq!(
        answered,
        report.attempts.len() as u64 + warmed.attempts.len() as u64
    );
    assert_eq!(oracle.count(), answered);
    assert_eq!(binary.quota_used("acme").await?, answered);
    binary.reconcile()?;

    let direct = run(oracle.address(), &key, connections, rate, warm).await;
    let (through, beside) = (report.latencies(), direct.latencies());
    println!("figure: {rate} requests/s over {connections} connections for {seconds} s");
    println!("figure: {}", show("through Tollgate", through));
    println!("figure: {}", show("upstream alone", beside));
    let added_us = through.p99_us.saturating_sub(beside.p99_us);
    println!("figure: added at p99: {added_us} us");
    println!("figure: memory: {memory_before} bytes before, {memory_after} after");
    // The store's writer fills its page cache once, and that takes longer than a short run.
    let may_grow = memory_before / 5 + WRITER_CACHE_BYTES;
    assert!(memory_after <= memory_before + may_grow, "memory grew");
    Ok(())
}
