//! The upstream's answer as the client sees it.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::response::Parts as AnswerParts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use tollgate_model::{DenialCode, Outcome};

use super::body::{AnswerBody, BodyError, RequestBody, Streamed};
use super::request::Outgoing;
use super::send::{Answered, SendError, send};
use crate::answer::{identify, name_caller, tell_rates};
use crate::connection::Upgrade;
use crate::exchange::{Ending, Exchange};
use crate::headers::{requested_upgrade, stated_cost, strip_response};
use crate::problem::Denial;

/// The connection is to be closed without an answer: nobody is there to read one.
#[derive(Debug, thiserror::Error)]
#[error("the exchange was broken off")]
pub(crate) struct Abort;

/// Forwards an admitted request. Dropping the future, or the body of its answer, at any point
/// records the exchange as the client's leaving.
pub(crate) async fn forward(
    exchange: Rc<Exchange>,
    parts: Parts,
    incoming: Incoming,
    bearer_is_ours: bool,
) -> Result<Response<AnswerBody>, Abort> {
    let ending = Ending::new(Rc::clone(&exchange));
    let api = Arc::clone(exchange.facts().route.api());
    let worker = Rc::clone(exchange.worker());
    let Some(upstream) = worker.choose(&api.upstreams) else {
        return refuse(&exchange, DenialCode::UpstreamUnreachable).await;
    };
    let plain_get = parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && incoming.is_end_stream();
    let upgrade = requested_upgrade(&parts.headers).filter(|_| plain_get);
    let asked_upgrade = parts.headers.contains_key(UPGRADE);
    let body = RequestBody::new(incoming, api.body_bytes_max, Rc::clone(exchange.traffic()));
    let connection = exchange.connection();
    let request = Outgoing {
        id: exchange.facts().id,
        caller: &exchange.facts().caller,
        upstream: &upstream,
        preserve_host: api.preserve_host,
        bearer_is_ours,
        peer: connection.peer_address(),
        peer_is_trusted: worker.trusts(connection.peer_address()),
        upgrade: upgrade.as_ref(),
        wants_trailers: exchange.may_state_cost(),
    }
    .build(parts, body);
    let answered = match send(&exchange, &api, &upstream, request).await {
        Ok(answered) => answered,
        Err(SendError::Upstream(code)) => return refuse(&exchange, code).await,
        Err(SendError::Client(BodyError::TooLarge)) => {
            return refuse(&exchange, DenialCode::BodyTooLarge).await;
        }
        Err(SendError::Client(BodyError::Malformed)) => {
            return refuse(&exchange, DenialCode::RequestInvalid).await;
        }
        Err(SendError::Client(_)) => return Err(Abort),
    };
    exchange.head_arrived(answered.response.status().as_u16());
    if !exchange.traffic().request_sent.get() {
        // Answered before the body was read: the connection will be closed on a client that may
        // still be sending, and must not take the answer with it.
        exchange.connection().linger();
    }
    let mut answer = pass_on(ending, answered, upgrade.is_some()).await?;
    if asked_upgrade && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What follows on this connection was not read as HTTP: it must not be taken for a
        // request.
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    Ok(answer)
}

/// Turns the upstream's answer into ours.
async fn pass_on(
    ending: Ending,
    answered: Answered,
    may_upgrade: bool,
) -> Result<Response<AnswerBody>, Abort> {
    let exchange = Rc::clone(ending.exchange());
    let (mut head, incoming) = answered.response.into_parts();
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let two_lengths =
        head.headers.contains_key(CONTENT_LENGTH) && head.headers.contains_key(TRANSFER_ENCODING);
    if two_lengths || (switching && !may_upgrade) {
        tracing::warn!(api = %exchange.facts().route.api().id, status = head.status.as_u16(),
            "upstream's answer is malformed");
        return refuse(&exchange, DenialCode::UpstreamFailed).await;
    }
    let upgrade = head.headers.get(UPGRADE).cloned();
    exchange.state_cost(stated_cost(&head.headers));
    strip_response(&mut head.headers);
    if switching {
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        let websocket = upgrade
            .as_ref()
            .is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if let Some(upgrade) = upgrade {
            head.headers.insert(UPGRADE, upgrade);
        }
        decorate(&exchange, &mut head);
        exchange.begin_tunnel();
        exchange.connection().upgrade_to(Upgrade {
            upstream: answered.connection.into_stream(),
            ending,
            websocket,
        });
        return Ok(Response::from_parts(head, AnswerBody::EMPTY));
    }
    decorate(&exchange, &mut head);
    if !incoming.is_end_stream() {
        let streamed = Streamed::new(incoming, answered.connection, ending);
        let body = AnswerBody::Streamed(Box::new(streamed));
        return Ok(Response::from_parts(head, body));
    }
    // No body: the head is the last frame.
    let recorded = exchange.finish(Outcome::Forwarded);
    let mut connection = Some(answered.connection);
    poll_fn(|cx| {
        if let Some(connection) = connection.take() {
            exchange.worker().give_back(connection, cx);
        }
        Poll::Ready(())
    })
    .await;
    if !recorded.done().await {
        return Err(Abort);
    }
    Ok(Response::from_parts(head, AnswerBody::EMPTY))
}

fn decorate(exchange: &Exchange, head: &mut AnswerParts) {
    let facts = exchange.facts();
    let now = exchange.worker().now();
    identify(&mut head.headers, facts.id, facts.now.ticks, now.ticks);
    name_caller(&mut head.headers, &facts.caller);
    if let Some(rates) = exchange.rates_at_head(head.status.as_u16()) {
        tell_rates(&mut head.headers, &rates);
    }
}

/// An answer of ours in place of the upstream's.
async fn refuse(exchange: &Exchange, code: DenialCode) -> Result<Response<AnswerBody>, Abort> {
    let facts = exchange.facts();
    let (outcome, detail) = match code {
        DenialCode::BodyTooLarge => (Outcome::Denied, "The body is longer than this API takes."),
        DenialCode::RequestInvalid => (Outcome::ClientClosed, "The body is malformed."),
        DenialCode::UpstreamTimeout => (
            Outcome::UpstreamError,
            "The upstream did not answer in time.",
        ),
        DenialCode::UpstreamUnreachable => {
            (Outcome::UpstreamError, "The upstream cannot be reached.")
        }
        _ => (
            Outcome::UpstreamError,
            "The upstream broke off or answered nonsense.",
        ),
    };
    let metrics = &facts.route.owner().metrics;
    if outcome == Outcome::UpstreamError {
        metrics.upstream_errors.inc();
    }
    let mut denial = Denial::new(code, detail);
    denial.close = outcome != Outcome::UpstreamError || !exchange.traffic().request_sent.get();
    if denial.close {
        exchange.connection().linger();
    }
    let answer = denial.answer(facts.id);
    let (mut head, body) = answer.into_parts();
    exchange.fail_with(code);
    let recorded = exchange.finish(outcome);
    let now = exchange.worker().now();
    identify(&mut head.headers, facts.id, facts.now.ticks, now.ticks);
    name_caller(&mut head.headers, &facts.caller);
    if let Some(rates) = exchange.rates_after() {
        tell_rates(&mut head.headers, &rates);
    }
    if !recorded.done().await {
        return Err(Abort);
    }
    Ok(Response::from_parts(head, body))
}
