//! The upstream that writes down what it saw.
//!
//! Owns: a small HTTP/1.1 server on a thread of its own, and the [`Ledger`] of every request that
//! it parsed. A request is in the ledger (and, with a file, on one line written by one `write(2)`)
//! before a byte of its answer is sent, so that it holds whatever happens to the gateway. What it
//! answers is chosen by the request's query, see [`behaviour`].
//!
//! Does not own any opinion about what should have arrived.

mod behaviour;
mod body;
mod ledger;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::Elapsed;
use behaviour::Behaviour;
use body::{Broken, Live};
pub use ledger::{BodySeen, Seen};
use ledger::{Entry, Ledger};

type Body = UnsyncBoxBody<Bytes, Broken>;
type Answer = Result<Response<Body>, Broken>;

/// How an oracle is set up.
#[derive(Debug, Clone)]
pub struct OracleOptions {
    /// Where it listens; `None`: a free port of the loopback.
    pub listen: Option<SocketAddr>,
    /// An append-only file with one line of JSON for each request.
    pub file: Option<PathBuf>,
    /// Whether headers are kept in memory; heavy runs go without.
    pub keep_headers: bool,
}

impl Default for OracleOptions {
    fn default() -> Self {
        Self {
            listen: None,
            file: None,
            keep_headers: true,
        }
    }
}

/// A running oracle; ends when dropped.
#[derive(Debug)]
pub struct Oracle {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Oracle {
    /// Starts one on a free port of the loopback.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(OracleOptions::default())
    }

    /// Starts one.
    ///
    /// # Errors
    /// When it cannot listen, or the file cannot be opened.
    pub fn start_with(options: OracleOptions) -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener =
            TcpListener::bind(options.listen.unwrap_or(any)).context("the oracle listens")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Ledger::new(options.file.as_deref(), options.keep_headers)?);
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::clone(&ledger);
        let thread = std::thread::Builder::new()
            .name("oracle".to_owned())
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, serve(listener, shared, stopped));
            })?;
        Ok(Self {
            address,
            ledger,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a catalog's upstream.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything seen, in the order in which heads were parsed.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.ledger.all()
    }

    /// What was seen after the first `index` requests.
    #[must_use]
    pub fn seen_since(&self, index: usize) -> Vec<Seen> {
        self.ledger.since(index)
    }

    /// The clock that [`Seen::at_us`] is read from.
    #[must_use]
    pub fn clock(&self) -> Elapsed {
        self.ledger.clock
    }

    /// The last request seen.
    ///
    /// # Errors
    /// When none was.
    pub fn last(&self) -> anyhow::Result<Seen> {
        self.ledger.last().context("the upstream saw no request")
    }

    /// How many requests were seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ledger.count()
    }

    /// Ids that the gateway gave to what was seen (empty text where it gave none), as often as
    /// they were seen.
    #[must_use]
    pub fn request_ids(&self) -> Vec<String> {
        self.ledger.request_ids()
    }

    /// Exchanges and tunnels that are open now.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.ledger.live()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.ledger.connections()
    }

    /// Ends it now: listening and open connections alike.
    pub fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and the test fails by what it misses.
            drop(thread.join());
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, ledger: Arc<Ledger>, mut stopped: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    ledger.connected();
                    // Without it an answer may wait for the peer's delayed acknowledgement.
                    drop(stream.set_nodelay(true));
                    connections.spawn_local(converse(stream, Arc::clone(&ledger)));
                }
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
}

/// One connection, and the tunnel that it may turn into.
async fn converse(stream: tokio::net::TcpStream, ledger: Arc<Ledger>) {
    let upgrade: Rc<RefCell<Option<(OnUpgrade, Live)>>> = Rc::default();
    let slot = Rc::clone(&upgrade);
    let service = service_fn(move |request| {
        let (ledger, slot) = (Arc::clone(&ledger), Rc::clone(&slot));
        async move { answer(request, ledger, &slot).await }
    });
    let served = http1::Builder::new()
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    let tunnel = upgrade.borrow_mut().take();
    if let (Ok(()), Some((upgrade, live))) = (served, tunnel) {
        echo_frames(upgrade).await;
        drop(live);
    }
}

async fn answer(
    mut request: Request<Incoming>,
    ledger: Arc<Ledger>,
    slot: &RefCell<Option<(OnUpgrade, Live)>>,
) -> Answer {
    let behaviour = Behaviour::parse(request.uri().query());
    let entry = ledger.enter(&request);
    let live = Live::begin(ledger);
    if let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) {
        let accept = derive_accept_key(key.as_bytes());
        *slot.borrow_mut() = Some((hyper::upgrade::on(&mut request), live));
        return switching(&accept);
    }
    let headers = behaviour.headers.then(|| request.headers().clone());
    let body = request.into_body();
    if behaviour.echo {
        let echoed = body::echo(body, entry, live);
        return finish(Response::builder(), &behaviour, echoed);
    }
    if !behaviour.early {
        read_whole(body, &entry).await;
    }
    tokio::time::sleep(behaviour.delay).await;
    if behaviour.hang {
        std::future::pending::<Infallible>().await;
    }
    if behaviour.reset {
        return Err(Broken);
    }
    let body = match headers {
        Some(headers) => listed(&headers),
        None => body::of(&behaviour, live),
    };
    finish(Response::builder(), &behaviour, body)
}

fn finish(builder: http::response::Builder, behaviour: &Behaviour, body: Body) -> Answer {
    let mut builder = builder.status(behaviour.status);
    if let Some(names) = behaviour.trailer_names() {
        builder = builder.header("Trailer", names);
    }
    if let Some(cost) = &behaviour.cost {
        builder = builder.header("Tollgate-Cost", cost);
    }
    for (name, value) in &behaviour.extra_headers {
        builder = builder.header(name, value);
    }
    if let Some(length) = behaviour.content_length() {
        builder = builder.header("Content-Length", length);
    }
    builder
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|_| Broken)
}

fn switching(accept: &str) -> Answer {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(CONNECTION, HeaderValue::from_static("Upgrade"))
        .header("Sec-WebSocket-Accept", accept)
        .body(body::empty())
        .map_err(|_| Broken)
}

/// The request's headers as a JSON object of lists.
fn listed(headers: &HeaderMap) -> Body {
    let mut object = serde_json::Map::new();
    for name in headers.keys() {
        let values = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect::<Vec<_>>();
        object.insert(name.to_string(), values.into());
    }
    let text = serde_json::Value::Object(object).to_string();
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}

async fn read_whole(mut body: Incoming, entry: &Entry) {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut trailers = None;
    let complete = loop {
        match body.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    hash.update(&data);
                    bytes += data.len() as u64;
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    };
    entry.body_ended(bytes, &hash.finalize(), complete, trailers);
}

async fn echo_frames(upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        let is_data = message.is_text() || message.is_binary();
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}
