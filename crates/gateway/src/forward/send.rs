//! One request, one answer's head: which connection, how long to wait, when to try again.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tollgate_model::{Api, DenialCode, Upstream};

use super::body::{BodyError, RequestBody, UploadWatch};
use super::pool::{SendResult, UpstreamConnection};
use crate::exchange::Exchange;

/// Stale connections that one request may meet before a new one is opened.
const STALE_CONNECTIONS_MAX: usize = 3;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The upstream's fault.
    Upstream(DenialCode),
    /// The client's.
    Client(BodyError),
}

/// The answer's head and the connection that its body comes by.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: UpstreamConnection,
}

/// Sends a request and waits for the head of its answer.
pub(crate) async fn send(
    exchange: &Exchange,
    api: &Api,
    upstream: &Upstream,
    mut request: Request<RequestBody>,
) -> Result<Answered, SendError> {
    let worker = exchange.worker();
    for attempt in 0..=STALE_CONNECTIONS_MAX {
        let pooled = if attempt < STALE_CONNECTIONS_MAX {
            poll_fn(|cx| Poll::Ready(worker.take_idle(upstream, cx))).await
        } else {
            None
        };
        let mut connection = match pooled {
            Some(connection) => connection,
            None => connect(api, upstream).await?,
        };
        let reused = connection.reused;
        exchange.set_sent(true);
        match exchange_heads(exchange, api, &mut connection, request).await {
            Ok(response) => {
                return Ok(Answered {
                    response,
                    connection,
                });
            }
            Err(Unanswered::Unsent(back)) => {
                exchange.set_sent(false);
                request = *back;
                if !reused {
                    return Err(SendError::Upstream(DenialCode::UpstreamUnreachable));
                }
            }
            Err(Unanswered::Final(error)) => return Err(error),
        }
    }
    Err(SendError::Upstream(DenialCode::UpstreamUnreachable))
}

async fn connect(api: &Api, upstream: &Upstream) -> Result<UpstreamConnection, SendError> {
    let timeout = Duration::from_micros(api.connect_timeout_us);
    UpstreamConnection::connect(upstream, timeout)
        .await
        .map_err(|error| {
            tracing::warn!(api = %api.id, upstream = %upstream.authority(), %error,
                "upstream cannot be reached");
            SendError::Upstream(DenialCode::UpstreamUnreachable)
        })
}

enum Unanswered {
    /// hyper handed the request back: the upstream has not seen it.
    Unsent(Box<Request<RequestBody>>),
    /// It may have.
    Final(SendError),
}

/// Drives the connection until the head is there, or too much time has passed since the request
/// was last seen to move.
async fn exchange_heads(
    exchange: &Exchange,
    api: &Api,
    connection: &mut UpstreamConnection,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, Unanswered> {
    let timeout = Duration::from_micros(api.response_timeout_us);
    let mut answer = pin!(connection.send(request));
    let mut timer = pin!(tokio::time::sleep(timeout));
    let mut upload = UploadWatch::new(exchange.worker().now().ticks);
    let result = poll_fn(|cx| {
        let ended = connection.poll_drive(cx).is_ready();
        if let Poll::Ready(result) = answer.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        if ended {
            return Poll::Ready(None);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = exchange.worker().now().ticks;
            if !upload.still_moves(exchange.traffic(), now) {
                return Poll::Ready(None);
            }
            timer.as_mut().reset(tokio::time::Instant::now() + timeout);
        }
        Poll::Pending
    })
    .await;
    judge(exchange, timer.is_elapsed(), result)
}

fn judge(
    exchange: &Exchange,
    timed_out: bool,
    result: Option<SendResult>,
) -> Result<Response<Incoming>, Unanswered> {
    let upstream = |code| Err(Unanswered::Final(SendError::Upstream(code)));
    let mut failure = match result {
        Some(Ok(response)) => return Ok(response),
        Some(Err(failure)) => failure,
        None if timed_out => return upstream(DenialCode::UpstreamTimeout),
        None => return upstream(DenialCode::UpstreamFailed),
    };
    if let Some(why) = exchange.traffic().request_failure.get() {
        return Err(Unanswered::Final(SendError::Client(why)));
    }
    if let Some(request) = failure.take_message() {
        return Err(Unanswered::Unsent(Box::new(request)));
    }
    tracing::debug!(error = %failure.error(), "upstream gave no answer");
    upstream(DenialCode::UpstreamFailed)
}
