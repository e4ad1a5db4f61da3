//! Starting and stopping a gateway.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::LocalSet;
use tollgate_journal::{Filesystem, Journal, Reader, Unfinished, Writer};
use tollgate_model::{Clock, IdGen, NodeId, Pepper};

use crate::checkpoint::{self, Checkpointer};
use crate::error::StartError;
use crate::handle::GatewayHandle;
use crate::node::{Node, Stage};
use crate::options::{CUT_TIMEOUT, LISTEN_BACKLOG, Options};
use crate::recover::{Begun, begin};
use crate::worker::Worker;

/// What a gateway takes from outside.
pub struct Deps {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness.
    pub ids: Arc<dyn IdGen>,
    /// Keys the hashes of API keys.
    pub pepper: Pepper,
    /// Where the journal is written.
    pub filesystem: Arc<dyn Filesystem>,
}

/// How a gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Exchanges had to be cut: the deadline came before their end.
    pub forced: bool,
    /// The journal was sealed and every event is on disk.
    pub sealed: bool,
}

/// A running gateway. Dropping it without [`Gateway::drain`] cuts what is in flight.
pub struct Gateway {
    node: Arc<Node>,
    journal: Option<Arc<Journal>>,
    checkpointer: Option<Checkpointer>,
    threads: Vec<JoinHandle<()>>,
    /// Closed when the last thread has ended.
    ended: Mutex<Receiver<()>>,
    address: SocketAddr,
    name: NodeId,
    interrupted: usize,
}

impl Gateway {
    /// Opens the journal, restores the counters, listens, and starts the threads. Connections are
    /// accepted from [`Gateway::open`] on; until then they wait in the kernel's queue.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        options: Options,
        deps: Deps,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let threads = options.threads();
        let (journal, mut recovered) = Journal::open(
            deps.filesystem,
            options.journal.clone(),
            threads,
            options.node_name.as_deref(),
            Arc::clone(&deps.clock),
            deps.ids.as_ref(),
        )?;
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
        node.metrics.register(registry);
        node.metrics.show_start(&recovered, &finished);
        if let Some(lost_at) = node.lost.lost_at() {
            node.metrics.show_loss(lost_at, node.clock.now());
        }
        let wanted = node.options.listen;
        let listener = listen(wanted).map_err(|source| StartError::Listen {
            address: wanted,
            source,
        })?;
        let address = listener.local_addr().unwrap_or(wanted);
        let checkpointer = Checkpointer::start(&node, &journal).map_err(StartError::Thread)?;
        let (running, ended) = sync_channel(0);
        let mut gateway = Self {
            name: recovered.node.clone(),
            node,
            journal: Some(journal),
            checkpointer: Some(checkpointer),
            threads: Vec::new(),
            ended: Mutex::new(ended),
            address,
            interrupted: finished.recorded(),
        };
        gateway.spawn_threads(writers, finished.left, &listener, &running)?;
        Ok(gateway)
    }

    fn spawn_threads(
        &mut self,
        writers: Vec<Writer>,
        mut unfinished: Vec<Unfinished>,
        listener: &TcpListener,
        running: &SyncSender<()>,
    ) -> Result<(), StartError> {
        for (thread, writer) in writers.into_iter().enumerate() {
            let listener = listener.try_clone().map_err(StartError::Thread)?;
            let node = Arc::clone(&self.node);
            let running = running.clone();
            // The first thread takes what is left to be recorded.
            let unfinished = std::mem::take(&mut unfinished);
            let number = u16::try_from(thread).unwrap_or(u16::MAX);
            let spawned = std::thread::Builder::new()
                .name(format!("gateway-{thread}"))
                .spawn(move || {
                    let alive = Alive(Arc::clone(&node), running);
                    run_thread(listener, |local_listener| {
                        let worker = Worker::new(node, number, writer, unfinished);
                        worker.run(local_listener)
                    });
                    drop(alive);
                });
            self.threads.push(spawned.map_err(StartError::Thread)?);
        }
        Ok(())
    }

    /// Begins to accept: the first catalog and all keys have been published.
    pub fn open(&self) {
        self.node.advance(Stage::Open);
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// This node's name.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.name
    }

    /// Exchanges that the last life left broken off, recorded at this start.
    #[must_use]
    pub fn interrupted(&self) -> usize {
        self.interrupted
    }

    /// For publishing, questions and health.
    #[must_use]
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle::new(Arc::clone(&self.node))
    }

    /// For shipping. `None` only while draining.
    #[must_use]
    pub fn reader(&self) -> Option<Reader> {
        self.journal.as_ref().map(|journal| journal.reader())
    }

    /// The journal, for status and damage. `None` only while draining.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_deref()
    }

    /// Whether requests are served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.node.is_ready()
    }

    /// Stops: no new connections, idle ones closed, what is in flight may end until the deadline
    /// and is then cut; a last checkpoint with all grants returned; the journal sealed. Blocks.
    pub fn drain(mut self, deadline: Duration) -> Drained {
        self.node.advance(Stage::Draining);
        let forced = !self.wait_for_threads(deadline);
        self.end(forced)
    }

    /// Waits for the threads' end; false when it did not come in time.
    fn wait_for_threads(&self, at_most: Duration) -> bool {
        !matches!(
            self.ended.lock().recv_timeout(at_most),
            Err(RecvTimeoutError::Timeout)
        )
    }

    fn end(&mut self, cut: bool) -> Drained {
        let mut gone = true;
        if cut {
            self.node.advance(Stage::Cutting);
            gone = self.wait_for_threads(CUT_TIMEOUT);
        }
        if gone {
            for thread in self.threads.drain(..) {
                if thread.join().is_err() {
                    tracing::error!("a gateway thread panicked");
                }
            }
        } else {
            tracing::error!("gateway threads did not end; the journal is sealed without them");
        }
        if let Some(checkpointer) = self.checkpointer.take() {
            checkpointer.stop();
        }
        Drained {
            forced: cut,
            sealed: self.seal(gone),
        }
    }

    fn seal(&mut self, quiet: bool) -> bool {
        let Some(journal) = self.journal.take() else {
            return false;
        };
        let whole = checkpoint::write_last(&self.node, &journal, quiet);
        match Arc::try_unwrap(journal).map(Journal::close) {
            Ok(Ok(())) => whole,
            Ok(Err(error)) => {
                tracing::error!(%error, "the journal could not be sealed");
                false
            }
            // Somebody still holds it; its last owner closes it.
            Err(_) => false,
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.journal.is_some() {
            let _drained = self.end(true);
        }
    }
}

/// A thread as long as it runs: dropped when it ends, also by a panic.
struct Alive(
    Arc<Node>,
    #[expect(dead_code, reason = "its end is what counts")] SyncSender<()>,
);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.thread_ended();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

fn run_thread<F: Future<Output = ()>>(
    listener: TcpListener,
    run: impl FnOnce(tokio::net::TcpListener) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("resolver")
        .max_blocking_threads(4)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a gateway thread has no runtime");
            return;
        }
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => run(listener).await,
            Err(error) => tracing::error!(%error, "a gateway thread cannot accept"),
        }
    });
}
