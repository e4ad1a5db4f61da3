//! One client's connection: its bytes, its deadlines, and how it ends.
//!
//! **Invariants.** Everything about a connection happens on its thread; other threads ask for its
//! end only through the thread's mailbox. No timer runs per connection: the thread looks at all
//! of its connections every [`crate::options::CONNECTION_TICK`] and ends those whose deadline is
//! over. Ending drops hyper's machine, and with it the exchange in flight, whose guard records it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tollgate_model::Ticks;

use crate::exchange::{Ending, Exchange};
use crate::options::{FIRST_BYTE_TIMEOUT, HEAD_TIMEOUT, KEEP_ALIVE_TIMEOUT, STALL_TIMEOUT};
use crate::wire::{POISON, RequestScanner, Violation};
use crate::worker::Worker;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No byte has come yet.
    Accepted,
    /// A head is being read.
    Head,
    /// A request is being served.
    Serving,
    /// Waiting for the next request.
    Idle,
}

/// Why a connection is ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A deadline of the client's is over.
    Deadline,
    /// The key may no longer be used, or the gateway must stop.
    Cut,
}

/// What the thread knows of a connection.
pub(crate) struct Connection {
    /// Who connected.
    pub(crate) peer: SocketAddr,
    phase: Cell<Phase>,
    since: Cell<Ticks>,
    /// Since when the peer takes no bytes.
    write_blocked: Cell<Option<Ticks>>,
    /// Since when a body from the peer does not come.
    read_blocked: Cell<Option<Ticks>>,
    /// What is being served.
    exchange: RefCell<Option<Rc<Exchange>>>,
    end: Cell<Option<End>>,
    /// Go away when idle.
    retire: Cell<bool>,
    /// Read what is left before closing, so that the last answer arrives.
    linger: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    upgrade: RefCell<Option<Upgrade>>,
}

/// What a 101 has left to do once its head is sent.
pub(crate) struct Upgrade {
    /// The upstream's connection, and what of it was read.
    pub(crate) upstream: (TcpStream, bytes::Bytes),
    /// Records the tunnel when it ends.
    pub(crate) ending: Ending,
    /// WebSocket frames pass through it.
    pub(crate) websocket: bool,
}

impl Connection {
    pub(crate) fn new(peer: SocketAddr, now: Ticks) -> Self {
        Self {
            peer,
            phase: Cell::new(Phase::Accepted),
            since: Cell::new(now),
            write_blocked: Cell::new(None),
            read_blocked: Cell::new(None),
            exchange: RefCell::new(None),
            end: Cell::new(None),
            retire: Cell::new(false),
            linger: Cell::new(false),
            waker: RefCell::new(None),
            upgrade: RefCell::new(None),
        }
    }

    /// The peer's address.
    pub(crate) fn peer_address(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// A request was read whole.
    pub(crate) fn begin(&self, now: Ticks) {
        self.enter(Phase::Serving, now);
    }

    /// What is being served, so that it can be cut.
    pub(crate) fn serve(&self, exchange: &Rc<Exchange>) {
        *self.exchange.borrow_mut() = Some(Rc::clone(exchange));
    }

    /// What is being served, if a permit was given.
    pub(crate) fn exchange(&self) -> Option<Rc<Exchange>> {
        self.exchange.borrow().clone()
    }

    /// The answer has been handed over whole.
    pub(crate) fn finish(&self, now: Ticks) {
        self.exchange.borrow_mut().take();
        self.enter(Phase::Idle, now);
    }

    fn enter(&self, phase: Phase, now: Ticks) {
        self.phase.set(phase);
        self.since.set(now);
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.phase.get(), Phase::Accepted | Phase::Idle)
    }

    /// Whether a deadline of the client's is over.
    pub(crate) fn is_overdue(&self, now: Ticks) -> bool {
        let us = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let waited = now.since(self.since.get());
        let stall = us(STALL_TIMEOUT);
        let stalled =
            |blocked: &Cell<Option<Ticks>>| blocked.get().is_some_and(|t| now.since(t) > stall);
        match self.phase.get() {
            Phase::Accepted => waited > us(FIRST_BYTE_TIMEOUT),
            Phase::Head => waited > us(HEAD_TIMEOUT),
            Phase::Idle => waited > us(KEEP_ALIVE_TIMEOUT) || stalled(&self.write_blocked),
            Phase::Serving => stalled(&self.write_blocked) || stalled(&self.read_blocked),
        }
    }

    /// Ends the connection at its next turn.
    pub(crate) fn end(&self, why: End) {
        if why == End::Cut
            && let Some(exchange) = &*self.exchange.borrow()
        {
            exchange.cut();
        }
        self.end.set(Some(why));
        self.wake();
    }

    /// Lets what is in flight finish, then closes.
    pub(crate) fn retire(&self) {
        self.retire.set(true);
        self.wake();
    }

    /// Whether it shall close when idle.
    pub(crate) fn is_retiring(&self) -> bool {
        self.retire.get()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// What the thread wants of this connection.
    #[cfg(feature = "testing")]
    pub(crate) fn wanted(&self) -> Option<End> {
        self.end.get()
    }

    /// Asks to be woken when the thread wants something of this connection; tells what it wants.
    pub(crate) fn watch(&self, cx: &Context<'_>) -> Option<End> {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        self.end.get()
    }

    /// The last answer of this connection must reach a client that may still be sending.
    pub(crate) fn linger(&self) {
        self.linger.set(true);
    }

    /// Whether to linger.
    pub(crate) fn lingers(&self) -> bool {
        self.linger.get()
    }

    /// What follows the 101 that is being sent.
    pub(crate) fn upgrade_to(&self, upgrade: Upgrade) {
        *self.upgrade.borrow_mut() = Some(upgrade);
    }

    /// Takes what follows the 101.
    pub(crate) fn take_upgrade(&self) -> Option<Upgrade> {
        self.upgrade.borrow_mut().take()
    }
}

/// The client's socket as hyper sees it: read through the scanner, watched for stalls.
pub(crate) struct ClientIo {
    stream: TcpStream,
    connection: Rc<Connection>,
    worker: Rc<Worker>,
    scanner: RequestScanner,
    /// The stream broke a rule: hyper was given poison and gets nothing more.
    poisoned: bool,
}

impl ClientIo {
    pub(crate) fn new(stream: TcpStream, connection: Rc<Connection>, worker: Rc<Worker>) -> Self {
        Self {
            stream,
            connection,
            worker,
            scanner: RequestScanner::new(),
            poisoned: false,
        }
    }

    /// The bare socket.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn saw_bytes(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.connection.read_blocked.set(None);
        if self.connection.is_quiet() {
            self.connection.enter(Phase::Head, self.worker.now().ticks);
        }
        self.scanner.scan(bytes)
    }
}

impl hyper::rt::Read for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.poisoned {
            return Poll::Ready(Ok(()));
        }
        let worker = Rc::clone(&this.worker);
        let mut scratch = worker.scratch();
        let space = scratch.len().min(out.remaining());
        let mut buffer = ReadBuf::new(scratch.get_mut(..space).unwrap_or(&mut []));
        let polled = Pin::new(&mut this.stream).poll_read(cx, &mut buffer);
        if polled.is_pending() {
            let waits_for_body =
                this.scanner.in_body() && this.connection.read_blocked.get().is_none();
            if waits_for_body {
                let now = this.worker.now().ticks;
                this.connection.read_blocked.set(Some(now));
            }
            return Poll::Pending;
        }
        ready!(polled)?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match this.saw_bytes(bytes) {
            Ok(()) => out.put_slice(bytes),
            Err(Violation(passed)) => {
                this.poisoned = true;
                this.connection.linger();
                let room = out.remaining().saturating_sub(POISON.len());
                out.put_slice(bytes.get(..passed.min(room)).unwrap_or(&[]));
                let fits = POISON.len().min(out.remaining());
                out.put_slice(POISON.get(..fits).unwrap_or(&[]));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl ClientIo {
    fn note_write<T>(&self, polled: &Poll<io::Result<T>>) {
        let blocked = &self.connection.write_blocked;
        match polled {
            Poll::Pending if blocked.get().is_none() => {
                blocked.set(Some(self.worker.now().ticks));
            }
            Poll::Pending => {}
            Poll::Ready(_) => blocked.set(None),
        }
    }
}

impl hyper::rt::Write for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
