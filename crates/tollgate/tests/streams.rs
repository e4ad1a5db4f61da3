//! What is not over with one answer: streams both ways, WebSockets, trailers, clients that leave,
//! upstreams that break off, keys revoked in the middle.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tollgate_testkit::client::{self, Call, Connection};
use tollgate_testkit::{Binary, Elapsed, Oracle, Setup, free_port, wait_until};

const SOON: Duration = Duration::from_secs(10);
/// How long an open exchange of a revoked key may go on.
const CUT_WITHIN: Duration = Duration::from_secs(5);

const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
response_timeout = "1s"
[[api.route]]
path = "/v1/costly"
cost = 1
cost_max = 50
[[api]]
id = "nowhere"
upstreams = ["http://{nowhere}"]
path_prefix = "/v2"
key_prefix = "hm"
[[plan]]
id = "month"
name = "Month"
quota = { units = 1000, every = "month", on_exceeded = "block" }
[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets", "nowhere"]
plan = "month"
"#;

struct World {
    oracle: Oracle,
    binary: Binary,
    key_id: String,
    key: String,
}

async fn start() -> anyhow::Result<World> {
    let oracle = Oracle::start()?;
    let catalog = CATALOG
        .replace("{upstream}", &oracle.url())
        .replace("{nowhere}", &free_port()?.to_string());
    let binary = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog)
        .start()
        .await?;
    let (key_id, key) = binary.create_key("acme").await?;
    Ok(World {
        oracle,
        binary,
        key_id,
        key,
    })
}

impl World {
    async fn send(&self, call: Call) -> anyhow::Result<client::Reply> {
        client::send(self.binary.gateway(), &call.key(&self.key)).await
    }

    /// The only record, once there is one.
    async fn record(&self) -> anyhow::Result<Value> {
        let mut records = Vec::new();
        let query = "subscription_id=acme&range=24h";
        wait_until("the exchange is recorded", SOON, async || {
            records = self.binary.records(query).await.unwrap_or_default();
            !records.is_empty()
        })
        .await?;
        anyhow::ensure!(records.len() == 1, "{records:?}");
        records.pop().context("one record")
    }

    async fn socket(&self) -> anyhow::Result<WebSocketStream<TcpStream>> {
        let stream = TcpStream::connect(self.binary.gateway()).await?;
        let url = format!("ws://{}/v1/socket", self.binary.gateway());
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("x-api-key", self.key.parse()?);
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await?;
        assert_eq!(response.status().as_u16(), 101);
        assert!(response.headers().contains_key("x-request-id"));
        Ok(socket)
    }
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn number(record: &Value, field: &str) -> Option<u64> {
    record.get(field).and_then(Value::as_u64)
}

#[tokio::test]
async fn an_answer_streams_while_the_upstream_still_sends() -> anyhow::Result<()> {
    let world = start().await?;
    let mut connection = Connection::open(world.binary.gateway()).await?;
    let call = Call::get("/v1/s?chunks=20&size=100&gap_ms=50").key(&world.key);
    let mut body = connection.open_stream(&call).await?.into_body();
    let first = body.frame().await.context("a first piece")??;
    assert_eq!(
        world.oracle.live(),
        1,
        "the first piece came when all had been sent"
    );
    let mut bytes = first.data_ref().map_or(0, bytes::Bytes::len);
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, bytes::Bytes::len);
    }
    assert_eq!(bytes, 2_000);
    let record = world.record().await?;
    assert_eq!(text(&record, "outcome"), "forwarded");
    assert_eq!(number(&record, "bytes_out"), Some(2_000));
    world.binary.reconcile().map(drop)
}

#[tokio::test]
async fn a_request_streams_to_the_upstream_as_it_comes() -> anyhow::Result<()> {
    let world = start().await?;
    let mut stream = TcpStream::connect(world.binary.gateway()).await?;
    let head = format!(
        "POST /v1/s?echo HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nfirst\r\n",
        world.key
    );
    stream.write_all(head.as_bytes()).await?;
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("first") {
        let mut piece = [0; 4096];
        let read = timeout(SOON, stream.read(&mut piece)).await??;
        if read == 0 {
            bail!("ended early: {}", String::from_utf8_lossy(&got));
        }
        got.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await?;
    timeout(SOON, stream.read_to_end(&mut got)).await??;
    assert!(String::from_utf8_lossy(&got).contains("second"));
    let record = world.record().await?;
    assert_eq!(number(&record, "bytes_in"), Some(11));
    assert_eq!(number(&record, "bytes_out"), Some(11));
    world.binary.reconcile().map(drop)
}

#[tokio::test]
async fn large_bodies_pass_whole_both_ways() -> anyhow::Result<()> {
    let world = start().await?;
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let call = Call::new(http::Method::POST, "/v1/s?echo").body(body.clone());
    let reply = world.send(call).await?;
    assert_eq!(reply.body.len(), body.len());
    assert!(reply.body == body, "the echo differs");
    world.binary.reconcile().map(drop)
}

#[tokio::test]
async fn trailers_pass_and_a_cost_told_in_one_is_charged() -> anyhow::Result<()> {
    let world = start().await?;
    let trailers = "/v1/s?chunks=2&trailer=x-sum:9";
    let reply = world
        .send(Call::get(trailers).header("TE", "trailers"))
        .await?;
    let trailers = reply.trailers.context("trailers came through")?;
    assert_eq!(trailers.get("x-sum").context("x-sum")?, "9");
    assert_eq!(world.binary.quota_used("acme").await?, 1);

    let costly = world.send(Call::get("/v1/costly?cost=7")).await?;
    assert_eq!(costly.header("tollgate-cost"), None);
    assert_eq!(costly.number("x-ratelimit-remaining"), Some(992));
    assert_eq!(world.binary.quota_used("acme").await?, 8);
    let late = Call::get("/v1/costly?chunks=1&cost_trailer=20").header("TE", "trailers");
    world.send(late).await?;
    assert_eq!(world.binary.quota_used("acme").await?, 28);
    world.send(Call::get("/v1/costly?cost=900")).await?;
    assert_eq!(
        world.binary.quota_used("acme").await?,
        78,
        "booked as cost_max"
    );
    world.send(Call::get("/v1/s?cost=900")).await?;
    assert_eq!(
        world.binary.quota_used("acme").await?,
        79,
        "no cost_max: ignored"
    );
    world.binary.reconcile().map(drop)
}

#[tokio::test]
async fn a_websocket_passes_frames_and_is_charged_once() -> anyhow::Result<()> {
    let world = start().await?;
    let mut socket = world.socket().await?;
    for number in 0..20 {
        let message = Message::text(format!("frame {number}"));
        socket.send(message.clone()).await?;
        let echo = timeout(SOON, socket.next()).await?.context("an echo")??;
        assert_eq!(echo, message);
    }
    socket.close(None).await?;
    while let Ok(Some(Ok(_))) = timeout(SOON, socket.next()).await {}
    let record = world.record().await?;
    assert_eq!(number(&record, "status"), Some(101));
    assert_eq!(number(&record, "units"), Some(1));
    assert!(number(&record, "bytes_in") > Some(0), "{record}");
    assert!(number(&record, "bytes_out") > Some(0), "{record}");
    world.binary.reconcile().map(drop)
}

#[tokio::test]
async fn revoking_a_key_closes_its_websocket_with_1008() -> anyhow::Result<()> {
    let world = start().await?;
    let mut socket = world.socket().await?;
    socket.send(Message::text("hi")).await?;
    timeout(SOON, socket.next()).await?.context("an echo")??;
    let clock = Elapsed::start();
    world.binary.revoke(&world.key_id).await?;
    let mut code = None;
    while let Some(Ok(message)) = timeout(CUT_WITHIN, socket.next()).await? {
        if let Message::Close(Some(frame)) = message {
            code = Some(u16::from(frame.code));
        }
    }
    assert!(clock.so_far() <= CUT_WITHIN, "{:?}", clock.so_far());
    assert_eq!(code, Some(1008));
    drop(socket);
    let record = world.record().await?;
    assert_eq!(text(&record, "outcome"), "cut");
    wait_until("the upstream is let go", SOON, async || {
        world.oracle.live() == 0
    })
    .await?;
    world.binary.reconcile().map(drop)
}

#[tokio::test]
async fn revoking_a_key_cuts_its_stream() -> anyhow::Result<()> {
    let world = start().await?;
    let mut connection = Connection::open(world.binary.gateway()).await?;
    let call = Call::get("/v1/s?chunks=1000000&size=10&gap_ms=20").key(&world.key);
    let mut body = connection.open_stream(&call).await?.into_body();
    body.frame().await.context("a first piece")??;
    world.binary.revoke(&world.key_id).await?;
    let cut = async {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok::<_, hyper::Error>(())
    };
    let ended = timeout(CUT_WITHIN, cut)
        .await
        .context("the stream goes on")?;
    assert!(ended.is_err(), "a cut stream must not look whole");
    let record = world.record().await?;
    assert_eq!(text(&record, "outcome"), "cut");
    assert_eq!(number(&record, "units"), Some(1));
    wait_until("the upstream is let go", SOON, async || {
        world.oracle.live() == 0
    })
    .await?;
    world.binary.reconcile().map(drop)
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_is_recorded_and_charged_by_the_head()
-> anyhow::Result<()> {
    let world = start().await?;
    let mut connection = Connection::open(world.binary.gateway()).await?;
    let call = Call::get("/v1/s?chunks=1000000&size=1000&gap_ms=10").key(&world.key);
    let mut body = connection.open_stream(&call).await?.into_body();
    body.frame().await.context("a first piece")??;
    drop((body, connection));
    let record = world.record().await?;
    assert_eq!(text(&record, "outcome"), "client_closed");
    assert_eq!(number(&record, "status"), Some(200));
    assert_eq!(number(&record, "units"), Some(1));
    wait_until("the upstream is let go", SOON, async || {
        world.oracle.live() == 0
    })
    .await?;
    world.binary.reconcile().map(drop)
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_is_499() -> anyhow::Result<()> {
    let world = start().await?;
    let mut stream = TcpStream::connect(world.binary.gateway()).await?;
    let head = format!(
        "GET /v1/s?delay_ms=800 HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n\r\n",
        world.key
    );
    stream.write_all(head.as_bytes()).await?;
    wait_until("the upstream was asked", SOON, async || {
        world.oracle.count() == 1
    })
    .await?;
    drop(stream);
    let record = world.record().await?;
    assert_eq!(text(&record, "outcome"), "client_closed");
    assert_eq!(number(&record, "status"), Some(499));
    assert_eq!(number(&record, "units"), Some(1));
    world.binary.reconcile().map(drop)
}

#[tokio::test]
async fn upstreams_that_fail_cost_no_quota_and_are_told_apart() -> anyhow::Result<()> {
    let world = start().await?;
    let reset = world.send(Call::get("/v1/s?reset")).await?;
    assert_eq!(
        (reset.status, reset.code()),
        (502, "upstream_failed".to_owned())
    );
    let unreachable = world.send(Call::get("/v2/s")).await?;
    let unreachable = (unreachable.status, unreachable.code());
    assert_eq!(unreachable, (502, "upstream_unreachable".to_owned()));
    let slow = world.send(Call::get("/v1/s?hang")).await?;
    assert_eq!(
        (slow.status, slow.code()),
        (504, "upstream_timeout".to_owned())
    );
    assert!(world.send(Call::get("/v1/s?cut=100")).await.is_err());
    let failed = async || {
        let query = "outcome=upstream_error&range=24h";
        let records = world.binary.records(query).await;
        records.is_ok_and(|records| records.len() == 4)
    };
    wait_until("all four are recorded", SOON, failed).await?;
    assert_eq!(world.binary.quota_used("acme").await?, 0);
    world.binary.reconcile().map(drop)
}
