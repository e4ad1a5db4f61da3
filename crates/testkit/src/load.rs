//! Load over many keep-alive connections, with everything that was answered written down.
//!
//! Owns: sending a number of requests, or a rate for a time, over N connections; per request
//! whether it was sent, whether its answer came *whole* (only then it is acknowledged), its id and
//! its latency. At a given rate latency counts from the moment at which the request was due, so
//! that a stalled server cannot hide behind requests that were not sent.
//!
//! Does not own what to send, nor what to make of the answers.

mod report;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tollgate_model::RequestId;

use crate::client::{Call, Connection};
use crate::{Elapsed, wall_us};
pub use report::{Answer, Attempt, Latencies, Report};

/// How long a connection that cannot be made waits before it tries again.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// So many requests, as fast as answers come.
    Requests(u64),
    /// Evenly spaced, for a time.
    Rate {
        /// Requests a second over all connections.
        per_second: u64,
        /// For how long.
        duration: Duration,
    },
}

/// What a broken connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBroken {
    /// The attempt failed; the next one goes over a new connection.
    Reconnect,
    /// The server is gone: the connection's client ends.
    Stop,
}

/// Makes the request of a number. Called for every attempt, so it should be cheap.
pub type MakeCall = Arc<dyn Fn(u64) -> Call + Send + Sync>;

/// A run of load.
#[derive(Clone)]
pub struct Plan {
    /// Where to.
    pub target: SocketAddr,
    /// Connections side by side.
    pub connections: usize,
    /// How much.
    pub amount: Amount,
    /// After a broken connection.
    pub on_broken: OnBroken,
    /// No attempt begins later than this after the start.
    pub deadline: Duration,
    /// What is sent.
    pub call: MakeCall,
    /// Answers received whole so far, for who watches from outside.
    pub acknowledged: Arc<AtomicU64>,
    /// Set from outside to end the run early.
    pub stop: Arc<AtomicBool>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("target", &self.target)
            .field("connections", &self.connections)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// The same call every time, reconnecting, for a minute at most.
    #[must_use]
    pub fn new(target: SocketAddr, connections: usize, amount: Amount, call: Call) -> Self {
        Self {
            target,
            connections,
            amount,
            on_broken: OnBroken::Reconnect,
            deadline: Duration::from_secs(60),
            call: Arc::new(move |_| call.clone()),
            acknowledged: Arc::default(),
            stop: Arc::default(),
        }
    }
}

struct Shared {
    plan: Plan,
    clock: Elapsed,
    next: AtomicU64,
}

/// Runs a plan to its end.
pub async fn run(plan: Plan) -> Report {
    let connections = plan.connections;
    let shared = Arc::new(Shared {
        plan,
        clock: Elapsed::start(),
        next: AtomicU64::new(0),
    });
    let began_us = wall_us();
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(client(Arc::clone(&shared)));
    }
    let mut attempts = Vec::new();
    for made in clients.join_all().await {
        attempts.extend(made);
    }
    Report::new(attempts, shared.clock.so_far(), began_us)
}

impl Shared {
    /// The next attempt's number and the moment at which it is due; `None` when it is enough.
    fn ticket(&self) -> Option<(u64, Duration)> {
        if self.plan.stop.load(Ordering::Relaxed) || self.clock.so_far() > self.plan.deadline {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match self.plan.amount {
            Amount::Requests(count) => (number < count).then_some((number, Duration::ZERO)),
            Amount::Rate {
                per_second,
                duration,
            } => {
                let due = Duration::from_nanos(1_000_000_000 / per_second.max(1) * number);
                (due < duration).then_some((number, due))
            }
        }
    }
}

async fn client(shared: Arc<Shared>) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let mut connection = None;
    while let Some((number, due)) = shared.ticket() {
        let early = due.saturating_sub(shared.clock.so_far());
        if !early.is_zero() {
            tokio::time::sleep(early).await;
        }
        let begun_us = if due.is_zero() {
            shared.clock.us()
        } else {
            u64::try_from(due.as_micros()).unwrap_or(u64::MAX)
        };
        let answer = attempt(&shared, &mut connection, number).await;
        if matches!(answer, Answer::Whole { .. }) {
            shared.plan.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        let broken = matches!(answer, Answer::Broken { .. } | Answer::NotConnected);
        let not_connected = answer == Answer::NotConnected;
        attempts.push(Attempt {
            number,
            begun_us,
            ended_us: shared.clock.us(),
            answer,
        });
        if broken && shared.plan.on_broken == OnBroken::Stop {
            break;
        }
        if not_connected {
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }
    attempts
}

async fn attempt(shared: &Shared, slot: &mut Option<Connection>, number: u64) -> Answer {
    let call = (shared.plan.call)(number);
    let mut connection = match slot.take() {
        Some(connection) => connection,
        None => match Connection::open(shared.plan.target).await {
            Ok(connection) => connection,
            Err(_) => return Answer::NotConnected,
        },
    };
    let head = match connection.open_stream(&call).await {
        Ok(head) => head,
        Err(error) => {
            return Answer::Broken {
                request_id: None,
                why: format!("{error:#}"),
            };
        }
    };
    let (head, mut body) = head.into_parts();
    let id = head.headers.get("x-request-id");
    let request_id = id.and_then(|id| RequestId::parse(id.to_str().ok()?));
    let whole = async {
        let mut kept = Vec::new();
        while let Some(frame) = body.frame().await {
            if let (Ok(data), StatusCode::SERVICE_UNAVAILABLE) = (frame?.into_data(), head.status) {
                kept.extend_from_slice(&data);
            }
        }
        Ok::<_, hyper::Error>(kept)
    };
    let why = match timeout(crate::client::DEADLINE, whole).await {
        Ok(Ok(kept)) => {
            let closes = head.headers.get(http::header::CONNECTION);
            if closes.is_none_or(|value| value != "close") {
                *slot = Some(connection);
            }
            return Answer::Whole {
                status: head.status.as_u16(),
                request_id,
                code: code_of(&kept),
            };
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the body does not end".to_owned(),
    };
    Answer::Broken { request_id, why }
}

/// The `code` of a problem.
fn code_of(body: &[u8]) -> Option<Box<str>> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    problem.get("code")?.as_str().map(Box::from)
}
