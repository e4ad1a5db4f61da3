//! A gateway without sockets, threads and timers: whoever holds it moves it step by step.
//!
//! **Owns** no rule of its own. Requests go through `service::gate`, end through
//! `Exchange::finish`, refusals are written down by `service::record`, starts and stops
//! are those of [`crate::Gateway`]: what is left out is HTTP, the upstream's connection, and *when*
//! things happen.
//!
//! **Invariant.** Nothing runs between two calls. Dropping it is the death of the process, as far
//! as the filesystem it was given plays along: requests in flight are forgotten, not ended.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::request::Parts;
use tollgate_journal::{Journal, JournalError, LostSpan};
use tollgate_model::{DenialCode, NodeId, Outcome, RequestId, Timestamp};

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::node::{Node, Stage};
use crate::record::Recorded;
use crate::recover::{Begun, begin};
use crate::service::{Gate, Visit, gate, record};
use crate::worker::Worker;
use crate::{Deps, GatewayHandle, Options, StartError, checkpoint};

/// A gateway that is moved by hand.
pub struct GatewayByHand {
    node: Arc<Node>,
    journal: Arc<Journal>,
    workers: Vec<Rc<Worker>>,
    name: NodeId,
    interrupted: usize,
    past: Past,
}

/// What a start found.
#[derive(Debug, Clone, Copy)]
pub struct Past {
    /// As [`tollgate_journal::Recovered::complete`].
    pub complete: bool,
    /// As [`tollgate_journal::Recovered::lost_span`].
    pub lost_span: Option<LostSpan>,
    /// As [`tollgate_journal::Recovered::clean`].
    pub clean: bool,
}

/// How far a record has come.
pub enum Ack {
    /// The answer may end.
    Done,
    /// The answer may end when this resolves to true.
    Waiting(Pin<Box<dyn Future<Output = bool>>>),
    /// The answer must not end.
    Failed,
}

impl From<Recorded> for Ack {
    fn from(recorded: Recorded) -> Self {
        match recorded {
            Recorded::Done => Self::Done,
            Recorded::Waiting(synced) => Self::Waiting(synced),
            Recorded::Failed => Self::Failed,
        }
    }
}

/// What became of a request at the gate.
pub enum Asked {
    /// It may be forwarded.
    Admitted(Flight),
    /// It was refused.
    Refused {
        /// Why.
        code: DenialCode,
        /// The name of the limit that refused.
        limit: Option<&'static str>,
        /// How far the refusal's record has come.
        ack: Ack,
        /// Whether there is a record of its own.
        recorded: bool,
    },
    /// It was answered by the gateway itself.
    Own,
}

/// A request that was admitted and has not ended.
pub struct Flight {
    exchange: Rc<Exchange>,
    connection: Rc<Connection>,
    number: u64,
}

impl Flight {
    /// Whether the upstream may have seen it.
    pub fn set_sent(&self, sent: bool) {
        self.exchange.set_sent(sent);
    }

    /// The head of the upstream's answer is there.
    pub fn head_arrived(&self, status: u16) {
        self.exchange.head_arrived(status);
    }

    /// What the upstream says the call cost.
    pub fn state_cost(&self, units: u64) {
        if self.exchange.may_state_cost() {
            self.exchange.state_cost(Some(units));
        }
    }

    /// Starts of the periods whose quotas it was charged to: the subscription's and the key's.
    #[must_use]
    pub fn periods(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        self.exchange.periods()
    }

    /// Bytes have passed to the client.
    pub fn pass_bytes(&self, bytes: u64) {
        let out = &self.exchange.traffic().bytes_out;
        out.set(out.get() + bytes);
        self.exchange.note_progress();
    }

    /// Whether the gateway wants it to end now: what its connection would see at its next turn.
    #[must_use]
    pub fn must_end(&self) -> bool {
        self.connection.wanted().is_some()
    }

    /// It ends: settled and recorded.
    pub fn finish(self, outcome: Outcome) -> Ack {
        self.exchange.finish(outcome).into()
    }
}

impl Drop for Flight {
    /// Lets go of what holds each other. Ends nothing.
    fn drop(&mut self) {
        let worker = self.exchange.worker();
        worker.unregister(self.number);
        self.connection.finish(worker.now().ticks);
    }
}

impl GatewayByHand {
    /// As [`crate::Gateway::start`], but for listening and threads.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(options: Options, deps: Deps) -> Result<Self, StartError> {
        let (journal, mut recovered) = Journal::open_by_hand(
            deps.filesystem,
            options.journal.clone(),
            options.threads(),
            Arc::clone(&deps.clock),
            deps.ids.as_ref(),
        )?;
        let name = recovered.node.clone();
        let past = Past {
            complete: recovered.complete,
            lost_span: recovered.lost_span,
            clean: recovered.clean,
        };
        let begun = begin(
            options,
            deps.clock,
            deps.ids,
            deps.pepper,
            journal,
            &mut recovered,
        )?;
        let Begun {
            node,
            journal,
            writers,
            finished,
        } = begun;
        let interrupted = finished.recorded();
        // The first thread takes what is left to be recorded.
        let mut unfinished = finished.left;
        let threads = (0..).zip(writers);
        let workers = threads
            .map(|(thread, writer)| {
                let unfinished = std::mem::take(&mut unfinished);
                Worker::new(Arc::clone(&node), thread, writer, unfinished)
            })
            .collect();
        node.advance(Stage::Open);
        Ok(Self {
            node,
            journal,
            workers,
            name,
            interrupted,
            past,
        })
    }

    /// For publishing and questions.
    #[must_use]
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle::new(Arc::clone(&self.node))
    }

    /// Its journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Its name.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.name
    }

    /// What its start found.
    #[must_use]
    pub fn past(&self) -> Past {
        self.past
    }

    /// Exchanges that the last life left broken off, recorded at this start.
    #[must_use]
    pub fn interrupted(&self) -> usize {
        self.interrupted
    }

    /// A request arrives at a thread. `None`: there is no such thread.
    pub fn ask(&self, thread: u16, parts: &Parts, address: IpAddr) -> Option<(RequestId, Asked)> {
        let worker = self.workers.get(usize::from(thread))?;
        let now = worker.now();
        let peer = SocketAddr::new(address, 1);
        let connection = Rc::new(Connection::new(peer, now.ticks));
        connection.begin(now.ticks);
        let visit = Visit {
            id: worker.mint(now),
            now,
            address,
            catalog: worker.catalog(),
            worker: Rc::clone(worker),
        };
        let asked = match gate(&visit, &connection, parts) {
            Ok(Gate::Admitted(admitted)) => {
                let number = worker.register(&connection);
                Asked::Admitted(Flight {
                    exchange: admitted.exchange,
                    connection,
                    number,
                })
            }
            Ok(Gate::Own(_)) => Asked::Own,
            Err(refused) => {
                let before = self.position(thread);
                let ack = record(&visit, parts, &refused).into();
                Asked::Refused {
                    code: refused.denial.code,
                    limit: refused.denial.refusal.as_ref().map(|r| r.name.as_str()),
                    ack,
                    recorded: self.position(thread) > before,
                }
            }
        };
        Some((visit.id, asked))
    }

    fn position(&self, thread: u16) -> u64 {
        let position = self.node.positions.get(usize::from(thread));
        position.map_or(0, |position| position.load(Ordering::Acquire))
    }

    /// Every thread takes its turn: mail is read, deadlines and progress are looked at.
    pub fn turn(&self) {
        for worker in &self.workers {
            worker.read_mailbox();
            worker.look_around();
        }
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// As [`Journal::write_checkpoint`].
    pub fn checkpoint(&self) -> Result<(), JournalError> {
        checkpoint::write(&self.node, &self.journal)
    }

    /// Forgets idle counters.
    pub fn evict(&self) -> usize {
        self.node.counters.evict(self.node.clock.now())
    }

    /// Stops as a drained gateway does; false where not everything could be written.
    ///
    /// Every [`Flight`] must have ended.
    #[must_use]
    pub fn stop(self) -> bool {
        self.node.advance(Stage::Draining);
        if let Some(first) = self.workers.first() {
            first.write_summaries();
        }
        let whole = checkpoint::write_last(&self.node, &self.journal, true);
        drop(self.workers);
        match Arc::try_unwrap(self.journal).map(Journal::close) {
            Ok(Ok(())) => whole,
            _ => false,
        }
    }
}

impl std::fmt::Debug for GatewayByHand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayByHand")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
