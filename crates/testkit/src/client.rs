//! A small HTTP/1.1 client that shows everything: status, all headers, body, trailers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest wait for any one answer.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers; `Host` is added.
    pub headers: Vec<(String, String)>,
    /// Body; empty: none.
    pub body: Bytes,
}

impl Call {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// `GET`.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// `POST` of a JSON body.
    #[must_use]
    pub fn post_json(path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self::new(Method::POST, path)
            .header("Content-Type", "application/json")
            .body(body.to_string())
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Presents an API key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("X-API-Key", key)
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// As hyper wants it.
    ///
    /// # Errors
    /// When a header or the path is malformed (raw sockets are for those).
    pub fn to_request(&self, target: SocketAddr) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut builder = Request::builder()
            .method(self.method.clone())
            .uri(self.path.as_str())
            .header(http::header::HOST, target.to_string());
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        Ok(builder.body(Full::new(self.body.clone()))?)
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers, where there were any.
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A header as a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name).and_then(|text| text.parse().ok())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none; the error shows the body.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {}, not JSON: {}", self.status, self.text()))
    }

    /// `code` of a problem body; empty where there is none.
    #[must_use]
    pub fn code(&self) -> String {
        let json = self.json().unwrap_or_default();
        json.get("code")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }
}

/// One keep-alive connection. Ends when dropped.
#[derive(Debug)]
pub struct Connection {
    target: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    /// Owns the connection's driver.
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = timeout(DEADLINE, TcpStream::connect(target))
            .await
            .context("connecting takes too long")?
            .with_context(|| format!("connecting to {target}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // How a connection ends shows in the answers.
            drop(connection.with_upgrades().await);
        });
        Ok(Self {
            target,
            sender,
            _driver: driver,
        })
    }

    /// Sends a request and answers with its head; the body streams.
    ///
    /// # Errors
    /// When the connection breaks or [`DEADLINE`] passes.
    pub async fn open_stream(&mut self, call: &Call) -> anyhow::Result<Response<Incoming>> {
        let request = call.to_request(self.target)?;
        let answer = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answer = timeout(DEADLINE, answer).await;
        Ok(answer.with_context(|| format!("no head: {} {}", call.method, call.path))??)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks or [`DEADLINE`] passes.
    pub async fn send(&mut self, call: &Call) -> anyhow::Result<Reply> {
        let (head, body) = self.open_stream(call).await?.into_parts();
        let collected = timeout(DEADLINE, body.collect())
            .await
            .with_context(|| format!("no end: {} {}", call.method, call.path))??;
        let trailers = collected.trailers().cloned();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: collected.to_bytes(),
            trailers,
        })
    }
}

/// Sends one request over a connection of its own.
///
/// # Errors
/// When the connection breaks or [`DEADLINE`] passes.
pub async fn send(target: SocketAddr, call: &Call) -> anyhow::Result<Reply> {
    Connection::open(target).await?.send(call).await
}
