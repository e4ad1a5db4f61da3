//! The oracle and the load client are trusted by every other test: here they are tested
//! themselves, against each other and against raw sockets.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use tokio_tungstenite::tungstenite::Message;
use tollgate_testkit::client::{self, Call, Connection};
use tollgate_testkit::load::{self, Amount, OnBroken, Plan};
use tollgate_testkit::{Oracle, OracleOptions, raw, wait_until};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn every_request_is_written_down_with_its_body() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let call = Call::new(http::Method::POST, "/v1/a%20b?x=1")
        .header("X-Request-Id", "req_1")
        .body("hello");
    let reply = client::send(oracle.address(), &call).await?;
    assert_eq!(reply.status, 200);
    let seen = oracle.last()?;
    assert_eq!(seen.request_id.as_deref(), Some("req_1"));
    assert_eq!(seen.path, "/v1/a%20b?x=1");
    let body = seen.body.context("the body ended")?;
    assert_eq!((body.bytes, body.complete), (5, true));
    let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(body.sha256, hello);
    Ok(())
}

#[tokio::test]
async fn a_line_is_in_the_file_before_the_answer() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("seen.jsonl");
    let oracle = Oracle::start_with(OracleOptions {
        file: Some(file.clone()),
        ..OracleOptions::default()
    })?;
    for number in 1..=3 {
        let call = Call::get("/x").header("X-Request-Id", &format!("req_{number}"));
        client::send(oracle.address(), &call).await?;
        let lines = std::fs::read_to_string(&file)?;
        assert_eq!(lines.lines().count(), number);
        assert!(lines.contains(&format!("req_{number}")));
    }
    Ok(())
}

#[tokio::test]
async fn answers_follow_the_query() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let ask = async |path: &str| {
        client::send(oracle.address(), &Call::get(path).header("TE", "trailers")).await
    };
    assert_eq!(ask("/?status=503&size=0").await?.status, 503);
    assert_eq!(ask("/?size=200000").await?.body.len(), 200_000);
    assert_eq!(ask("/?chunks=3&size=5").await?.body.len(), 15);
    assert_eq!(ask("/?cost=7").await?.header("tollgate-cost"), Some("7"));
    assert_eq!(ask("/?header=x-a:b").await?.header("x-a"), Some("b"));
    let trailers = ask("/?chunks=1&trailer=x-sum:9").await?.trailers;
    let trailers = trailers.context("trailers came")?;
    assert_eq!(trailers.get("x-sum").context("x-sum")?, "9");
    let headers = ask("/?headers").await?.json()?;
    assert_eq!(headers.pointer("/te/0").context("te")?, "trailers");
    assert!(ask("/?cut=100").await.is_err());
    assert!(ask("/?reset").await.is_err());
    let echoed = Call::new(http::Method::POST, "/?echo").body("abc");
    assert_eq!(client::send(oracle.address(), &echoed).await?.text(), "abc");
    assert_eq!(oracle.count(), 10);
    Ok(())
}

#[tokio::test]
async fn open_exchanges_are_known_and_their_end_is_noticed() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let mut connection = Connection::open(oracle.address()).await?;
    let call = Call::get("/?chunks=100000&size=10&gap_ms=5");
    let mut body = connection.open_stream(&call).await?.into_body();
    body.frame().await.context("a first piece")??;
    assert_eq!(oracle.live(), 1);
    drop((body, connection));
    wait_until("the exchange ends", SOON, async || oracle.live() == 0).await?;
    Ok(())
}

#[tokio::test]
async fn websockets_are_echoed() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let stream = tokio::net::TcpStream::connect(oracle.address()).await?;
    let url = format!("ws://{}/socket", oracle.address());
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
    socket.send(Message::text("hi")).await?;
    let answer = socket.next().await.context("an echo")??;
    assert_eq!(answer, Message::text("hi"));
    drop(socket);
    wait_until("the tunnel ends", SOON, async || oracle.live() == 0).await?;
    assert_eq!(oracle.last()?.path, "/socket");
    Ok(())
}

#[tokio::test]
async fn raw_bytes_get_raw_answers() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let reply = raw::exchange(oracle.address(), b"GET / HTTP/1.1\r\nHost\r\n\r\n", SOON).await?;
    assert_eq!(reply.status(), Some(400));
    assert!(reply.closed);
    assert_eq!(oracle.count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_is_counted_alike_on_both_sides() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let plan = Plan::new(
        oracle.address(),
        16,
        Amount::Requests(2_000),
        Call::get("/"),
    );
    let report = load::run(plan).await;
    ensure!(report.errors() == 0, "{:?}", report.error_texts());
    assert_eq!(report.count(200), 2_000);
    assert_eq!(oracle.count(), 2_000);
    assert!(oracle.connections() <= 16);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept_and_a_cut_answer_is_no_acknowledgement() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let rate = Amount::Rate {
        per_second: 400,
        duration: Duration::from_millis(500),
    };
    let report = load::run(Plan::new(oracle.address(), 8, rate, Call::get("/"))).await;
    assert_eq!(report.count(200), 200);
    let cut = Plan::new(
        oracle.address(),
        2,
        Amount::Requests(4),
        Call::get("/?cut=10"),
    );
    let report = load::run(cut).await;
    assert_eq!(report.errors(), 4);
    assert!(report.acknowledged().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_ends_when_the_server_dies() -> anyhow::Result<()> {
    let mut oracle = Oracle::start()?;
    let mut plan = Plan::new(
        oracle.address(),
        4,
        Amount::Requests(u64::MAX),
        Call::get("/"),
    );
    plan.on_broken = OnBroken::Stop;
    let acknowledged = std::sync::Arc::clone(&plan.acknowledged);
    let killer = tokio::task::spawn_blocking(move || {
        while acknowledged.load(std::sync::atomic::Ordering::SeqCst) < 100 {
            std::thread::yield_now();
        }
        oracle.stop();
        oracle.count()
    });
    let report = load::run(plan).await;
    let seen = killer.await?;
    assert!(report.count(200) >= 100);
    assert!(report.count(200) <= seen);
    assert!(report.errors() <= 4);
    Ok(())
}
