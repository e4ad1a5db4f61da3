//! Connections cut at every byte of an answer, on the client's and on the upstream's side: every
//! request that was admitted is written down exactly once, and its units are settled.

use std::collections::HashSet;
use std::io::Write as _;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use tollgate_testkit::client::{self, Call};
use tollgate_testkit::load::{self, Amount, Plan};
use tollgate_testkit::{Binary, Cut, Fault, Oracle, Proxy, Setup, wait_until};

const SOON: Duration = Duration::from_secs(20);
const CLIENTS: usize = 16;
/// Quota that is left for the end, to see whether every unit of a cut exchange was settled.
const LEFT: u64 = 5;
/// A body of a known length that leaves the upstream in pieces, and a chunked one; the upstream's
/// connection is not kept, so that each exchange has one of its own.
const KNOWN: &str =
    "/v1/known?chunks=4&size=10&gap_ms=3&header=content-length:40&header=connection:close";
const CHUNKED: &str = "/v1/chunked?chunks=4&size=10&gap_ms=3&header=connection:close";

fn catalog(upstream: &str, quota: u64) -> String {
    format!(
        "[[api]]\nid = \"widgets\"\nupstreams = [\"{upstream}\"]\npath_prefix = \"/v1\"\n\
         key_prefix = \"hm\"\nresponse_timeout = \"1s\"\n[[plan]]\nid = \"month\"\n\
         name = \"Month\"\n\
         quota = {{ units = {quota}, every = \"month\", on_exceeded = \"block\" }}\n\
         [[organization]]\nid = \"acme\"\nname = \"Acme\"\n[[subscription]]\nid = \"acme\"\n\
         organization = \"acme\"\napis = [\"widgets\"]\nplan = \"month\"\n"
    )
}

fn start(upstream: &str, quota: u64) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog(upstream, quota))
}

/// Bytes of an answer, head included, as they come over the wire.
async fn length(binary: &Binary, key: &str, path: &str) -> anyhow::Result<u64> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n");
    let patience = Duration::from_secs(5);
    let reply = tollgate_testkit::raw::exchange(binary.gateway(), request.as_bytes(), patience);
    let reply = reply.await?;
    ensure!(reply.status() == Some(200), "{reply:?}");
    Ok(reply.bytes.len() as u64)
}

/// Every request that the upstream saw is recorded once, no other is recorded as forwarded, and
/// what is left of the quota is what the records leave of it.
async fn prove(binary: &Binary, oracle: &Oracle, key: &str, quota: u64) -> anyhow::Result<u64> {
    wait_until("every exchange is over", SOON, async || oracle.live() == 0).await?;
    let ids: HashSet<String> = oracle.request_ids().into_iter().collect();
    ensure!(
        ids.len() as u64 == oracle.count(),
        "the upstream saw a request twice"
    );
    let mut records = std::collections::HashMap::new();
    wait_until("every exchange is recorded", SOON, async || {
        records = binary.records_by_id("range=24h").await.unwrap_or_default();
        ids.iter().all(|id| records.contains_key(id))
    })
    .await?;
    ensure!(
        records.len() == ids.len(),
        "{} recorded, {} seen",
        records.len(),
        ids.len()
    );
    let units = |record: &Value| record.get("units").and_then(Value::as_u64);
    let used: u64 = records.values().filter_map(units).sum();
    ensure!(
        binary.quota_used("acme").await? == used,
        "the quota is not what records say"
    );
    let call = Call::get("/v1/rest").key(key);
    let left = quota - used;
    let rest = Plan::new(binary.gateway(), 4, Amount::Requests(left + 3), call);
    let rest = load::run(rest).await;
    ensure!(
        rest.count(200) == left,
        "{left} left: {:?}",
        rest.by_status()
    );
    ensure!(rest.count(429) == 3, "{:?}", rest.by_status());
    binary.reconcile()?;
    Ok(used)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cut_at_every_byte_is_recorded_once_and_settled() -> anyhow::Result<()> {
    for (path, how) in [(KNOWN, Cut::Reset), (CHUNKED, Cut::Close)] {
        let oracle = Oracle::start()?;
        // Heads differ by a few bytes (times, ids): the longest is not known beforehand.
        let quota = 700 + LEFT;
        let binary = start(&oracle.url(), quota).start().await?;
        let (_, key) = binary.create_key("acme").await?;
        let bytes = length(&binary, &key, path).await?;
        ensure!(bytes + 2 < quota - LEFT, "the answer has {bytes} bytes");
        let proxy = Proxy::start(binary.gateway()).await?;
        proxy.queue((0..bytes).map(|n| Fault::cut_at(n, how)));
        // One connection for each attempt: whatever is cut is not used again.
        let call = Call::get(path).key(&key).header("Connection", "close");
        let plan = Plan::new(proxy.address(), CLIENTS, Amount::Requests(bytes), call);
        let report = load::run(plan).await;
        let cuts = proxy.cuts();
        ensure!(cuts + 20 >= bytes, "only {cuts} of {bytes} were cut");
        let used = prove(&binary, &oracle, &key, quota).await?;
        writeln!(
            std::io::stdout(),
            "figure: {path}: {cuts} clients cut ({how:?}), {} answered, {used} units",
            report.count(200)
        )?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_cut_at_every_byte_is_recorded_once_and_settled() -> anyhow::Result<()> {
    for (path, how) in [(KNOWN, Cut::Reset), (CHUNKED, Cut::Close)] {
        let oracle = Oracle::start()?;
        let proxy = Proxy::start(oracle.address()).await?;
        let quota = 400 + LEFT;
        let binary = start(&proxy.url(), quota).start().await?;
        let (_, key) = binary.create_key("acme").await?;
        // Without the gateway's own headers: surely less than what the client is sent.
        let bytes = length(&binary, &key, path).await?.min(300);
        proxy.queue((0..bytes).map(|n| Fault::cut_at(n, how)));
        let call = Call::get(path).key(&key).header("Connection", "close");
        let plan = Plan::new(binary.gateway(), CLIENTS, Amount::Requests(bytes), call);
        let report = load::run(plan).await;
        let (whole, broken) = (report.count(200), report.errors());
        ensure!(
            report.count(502) > 0 && broken > 0,
            "{:?}",
            report.by_status()
        );
        let cuts = proxy.cuts();
        let used = prove(&binary, &oracle, &key, quota).await?;
        writeln!(
            std::io::stdout(),
            "figure: {path}: {cuts} upstreams cut ({how:?}): {} answered 502, {broken} broken off, \
             {whole} whole, {used} units",
            report.count(502)
        )?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_goes_silent_or_closes_slowly_is_recorded_once() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let proxy = Proxy::start(oracle.address()).await?;
    let quota = 20;
    let binary = start(&proxy.url(), quota).start().await?;
    let (_, key) = binary.create_key("acme").await?;
    let late = Fault {
        latency: Duration::from_millis(20),
        cut: None,
    };
    let slow_close = Cut::SlowClose(Duration::from_millis(200));
    let cases = [
        (Fault::cut_at(0, Cut::HalfOpen), 504),
        (Fault::cut_at(9, Cut::HalfOpen), 504),
        (Fault::cut_at(9, slow_close), 502),
        (late, 200),
    ];
    for (fault, status) in cases {
        proxy.queue([fault]);
        let call = Call::get("/v1/things?header=connection:close").key(&key);
        let answer = client::send(binary.gateway(), &call).await?;
        ensure!(answer.status == status, "{fault:?}: {}", answer.status);
    }
    prove(&binary, &oracle, &key, quota).await?;
    Ok(())
}
