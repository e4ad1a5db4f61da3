//! Connections to upstreams: one at a time per exchange, kept for the next one.
//!
//! A connection is driven by whoever uses it, on the task of the client's connection: there is no
//! task of its own that could outlive its owner, and dropping it closes it. While idle it is not
//! driven; before it is used again it is looked at once, and an upstream that closed it is noticed
//! then (or by the request coming back unsent).
//!
//! **Bounded**: [`POOL_IDLE_MAX`] idle connections per upstream and thread, each for
//! [`POOL_IDLE_TIMEOUT`]; what is above is closed.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tollgate_model::{Ticks, Upstream};

use super::body::RequestBody;
use crate::options::{
    BUFFER_BYTES_MAX, HEAD_BYTES_MAX, POOL_IDLE_MAX, POOL_IDLE_TIMEOUT, RESPONSE_HEADERS_MAX,
};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Refused, unknown, unroutable.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// Not within the API's connect timeout.
    #[error("cannot connect in time")]
    Timeout,
    /// The upstream wants TLS, which this gateway does not speak yet.
    #[error("TLS to upstreams is not spoken yet")]
    Tls,
    /// hyper would not take the connection.
    #[error("cannot begin HTTP: {0}")]
    Handshake(#[from] hyper::Error),
}

/// What a sent request came back with.
pub(crate) type SendResult =
    Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<RequestBody>>>;

/// One connection and the machine that moves its bytes.
pub(crate) struct UpstreamConnection {
    upstream: Upstream,
    sender: http1::SendRequest<RequestBody>,
    driver: http1::Connection<TokioIo<TcpStream>, RequestBody>,
    /// The driver has ended and must not be polled again.
    ended: bool,
    /// It has served a request before this one.
    pub(crate) reused: bool,
    idle_since: Ticks,
}

impl UpstreamConnection {
    /// Opens a connection.
    pub(crate) async fn connect(
        upstream: &Upstream,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        if upstream.tls {
            return Err(ConnectError::Tls);
        }
        let connecting = TcpStream::connect((upstream.host.as_str(), upstream.port));
        let stream = tokio::time::timeout(timeout, connecting)
            .await
            .map_err(|_| ConnectError::Timeout)??;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::Builder::new()
            .max_headers(RESPONSE_HEADERS_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self {
            upstream: upstream.clone(),
            sender,
            driver,
            ended: false,
            reused: false,
            idle_since: Ticks(0),
        })
    }

    /// Hands a request over; nothing moves until the connection is driven.
    pub(crate) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = SendResult> + use<> {
        self.sender.try_send_request(request)
    }

    /// Moves bytes. Ready when the connection has ended, for good or bad.
    pub(crate) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        let polled = self.driver.poll_without_shutdown(cx);
        if let Poll::Ready(result) = polled {
            self.ended = true;
            if let Err(error) = result {
                tracing::debug!(%error, "connection to upstream ended");
            }
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Whether another request can be sent.
    pub(crate) fn is_reusable(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_drive(cx).is_pending() && self.sender.is_ready()
    }

    /// The bare connection after a 101, and bytes of it that were read already.
    pub(crate) fn into_stream(self) -> (TcpStream, Bytes) {
        let parts = self.driver.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}

/// Idle connections of one thread.
#[derive(Default)]
pub(crate) struct Pool {
    idle: HashMap<Upstream, VecDeque<UpstreamConnection>>,
}

impl Pool {
    /// The idle connection that was used last and still lives.
    pub(crate) fn take(
        &mut self,
        upstream: &Upstream,
        cx: &mut Context<'_>,
    ) -> Option<UpstreamConnection> {
        let idle = self.idle.get_mut(upstream)?;
        while let Some(mut connection) = idle.pop_back() {
            if connection.is_reusable(cx) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next exchange, if it can serve one.
    pub(crate) fn put(
        &mut self,
        mut connection: UpstreamConnection,
        now: Ticks,
        cx: &mut Context<'_>,
    ) {
        if !connection.is_reusable(cx) {
            return;
        }
        connection.reused = true;
        connection.idle_since = now;
        if !self.idle.contains_key(&connection.upstream) {
            self.idle
                .insert(connection.upstream.clone(), VecDeque::new());
        }
        if let Some(idle) = self.idle.get_mut(&connection.upstream) {
            idle.push_back(connection);
            if idle.len() > POOL_IDLE_MAX {
                idle.pop_front();
            }
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn evict(&mut self, now: Ticks) {
        let timeout_us = u64::try_from(POOL_IDLE_TIMEOUT.as_micros()).unwrap_or(u64::MAX);
        for idle in self.idle.values_mut() {
            while idle
                .front()
                .is_some_and(|c| now.since(c.idle_since) > timeout_us)
            {
                idle.pop_front();
            }
        }
        self.idle.retain(|_, idle| !idle.is_empty());
    }

    /// Closes all of them.
    pub(crate) fn clear(&mut self) {
        self.idle.clear();
    }
}
