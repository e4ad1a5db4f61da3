//! One gateway thread: its connections, its upstream pool, its journal, its turn of the loop.
//!
//! **Invariants.** Everything in a [`Worker`] belongs to one thread and is borrowed only between
//! two awaits. Connections are tasks of the thread's own set and cannot outlive it.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use http::Method;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tollgate_journal::{
    EVENT_ROOM_BYTES, Entry, JournalFull, NotWritten, Room, SyncMode, Unfinished, Writer,
};
use tollgate_model::{KeyId, Mark, Now, RequestId, Ticks, Upstream};

use crate::accept;
use crate::admit::CompiledCache;
use crate::connection::{Connection, End};
use crate::forward::{Pool, UpstreamConnection};
use crate::in_force::{CatalogHeld, InForce};
use crate::node::{Mailbox, Node, Stage};
use crate::options::{BUFFER_BYTES_MAX, CONNECTION_TICK, SUMMARY_EVERY_US};
use crate::record::{Recorded, summary};

/// How long a crowded thread leaves new connections to the others.
const CROWDED_PAUSE: Duration = Duration::from_millis(5);
/// How long to wait after the system would not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes read from a client at once, at most.
const SCRATCH_BYTES: usize = BUFFER_BYTES_MAX / 2;

/// One thread's state.
pub(crate) struct Worker {
    node: Arc<Node>,
    thread: u16,
    writer: RefCell<Writer>,
    pool: RefCell<Pool>,
    catalog: RefCell<CatalogHeld>,
    compiled: RefCell<CompiledCache>,
    /// In the order in which they came, so that what is done to all is always done in one order.
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    next_connection: Cell<u64>,
    scratch: RefCell<Box<[u8]>>,
    next_upstream: Cell<usize>,
    summarised_at: Cell<Ticks>,
    /// Exchanges of an earlier life that there was no room to record yet.
    unfinished: RefCell<Vec<Unfinished>>,
    methods: Vec<(Method, Arc<str>)>,
}

impl Worker {
    pub(crate) fn new(
        node: Arc<Node>,
        thread: u16,
        writer: Writer,
        unfinished: Vec<Unfinished>,
    ) -> Rc<Self> {
        let methods = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ];
        let named = |method: Method| {
            let name = Arc::from(method.as_str());
            (method, name)
        };
        Rc::new(Self {
            catalog: RefCell::new(CatalogHeld::new(&node)),
            node,
            thread,
            writer: RefCell::new(writer),
            pool: RefCell::default(),
            compiled: RefCell::default(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            next_upstream: Cell::new(0),
            summarised_at: Cell::new(Ticks(0)),
            unfinished: RefCell::new(unfinished),
            methods: methods.map(named).into(),
        })
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn thread(&self) -> u16 {
        self.thread
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        self.node.clock.now()
    }

    /// A new request id.
    pub(crate) fn mint(&self, now: Now) -> RequestId {
        RequestId::from_uuid(self.node.ids.uuid(now.wall))
    }

    /// A buffer to read into. Borrowed for one read, never over an await.
    pub(crate) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// A method's name, without a new text for the usual ones.
    pub(crate) fn method_name(&self, method: &Method) -> Arc<str> {
        let known = self.methods.iter().find(|(m, _)| m == method);
        known.map_or_else(|| Arc::from(method.as_str()), |(_, name)| Arc::clone(name))
    }

    /// Whether the address is a proxy whose word is taken.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        crate::address::is_within(peer, &self.node.options.trusted_proxies)
    }

    /// The upstream whose turn it is.
    pub(crate) fn choose(&self, upstreams: &[Upstream]) -> Option<Upstream> {
        let turn = self.next_upstream.get();
        self.next_upstream.set(turn.wrapping_add(1));
        let place = turn.checked_rem(upstreams.len())?;
        upstreams.get(place).cloned()
    }

    pub(crate) fn take_idle(
        &self,
        upstream: &Upstream,
        cx: &mut Context<'_>,
    ) -> Option<UpstreamConnection> {
        self.pool.borrow_mut().take(upstream, cx)
    }

    pub(crate) fn give_back(&self, connection: UpstreamConnection, cx: &mut Context<'_>) {
        let now = self.now().ticks;
        self.pool.borrow_mut().put(connection, now, cx);
    }

    /// The catalog in force.
    pub(crate) fn catalog(&self) -> Rc<InForce> {
        Rc::clone(self.catalog.borrow_mut().get(&self.node))
    }

    /// Limits worked out already. Borrowed for one look-up, never over an await.
    pub(crate) fn compiled(&self) -> RefMut<'_, CompiledCache> {
        self.compiled.borrow_mut()
    }

    // The journal.

    pub(crate) fn reserve_room(&self, bytes: usize) -> Result<Room, JournalFull> {
        self.writer.borrow_mut().reserve(bytes)
    }

    /// Writes raised marks down. Called under the locks of their counters.
    pub(crate) fn append_grant(&self, marks: &[Mark]) -> Result<(), JournalFull> {
        let appended = self.writer.borrow_mut().append_grant(marks);
        fail::fail_point!("grant-appended", |_| std::process::abort());
        self.tell_position(0);
        appended.map(|_| ())
    }

    /// Claims the sequence of the event that is appended next. Called under the locks of the
    /// counters that it settles.
    pub(crate) fn claim_sequence(&self) {
        self.tell_position(1);
    }

    fn tell_position(&self, ahead: u64) {
        let next = self.writer.borrow().next_sequence().0 + ahead;
        if let Some(position) = self.node.positions.get(usize::from(self.thread)) {
            position.store(next, Ordering::Release);
        }
    }

    /// Appends an entry that an answer waits for.
    pub(crate) fn append(&self, room: Room, entry: &Entry) -> Recorded {
        let appended = self.writer.borrow_mut().append(room, entry);
        fail::fail_point!("event-appended", |_| std::process::abort());
        self.tell_position(0);
        match (appended, self.node.sync) {
            (Ok(_), SyncMode::Fast) => Recorded::Done,
            (Ok(sequence), SyncMode::Durable) => {
                let synced = self.writer.borrow().synced(sequence);
                Recorded::Waiting(Box::pin(async move { synced.await.is_ok() }))
            }
            (Err(error), _) => {
                tracing::error!(%error, "an event could not be written");
                if !matches!(error, NotWritten::Waiting { .. }) {
                    self.node.metrics.events_lost.inc();
                }
                Recorded::Failed
            }
        }
    }

    /// Appends an entry that nobody waits for; false when there is no room.
    pub(crate) fn append_extra(&self, entry: &Entry) -> bool {
        let Ok(room) = self.reserve_room(EVENT_ROOM_BYTES) else {
            return false;
        };
        !matches!(self.append(room, entry), Recorded::Failed)
    }

    // Connections.

    pub(crate) fn register(&self, connection: &Rc<Connection>) -> u64 {
        let number = self.next_connection.get();
        self.next_connection.set(number + 1);
        self.connections
            .borrow_mut()
            .insert(number, Rc::clone(connection));
        number
    }

    pub(crate) fn unregister(&self, number: u64) {
        self.connections.borrow_mut().remove(&number);
    }

    /// The connections of this moment: ending one may run code that changes the set.
    fn all_connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().values().cloned().collect()
    }

    fn cut_keys(&self, ended: &[KeyId]) {
        if ended.is_empty() {
            return;
        }
        for connection in self.all_connections() {
            let key = connection
                .exchange()
                .and_then(|e| e.facts().caller.key.as_ref().map(|k| k.id.clone()));
            if key.is_some_and(|key| ended.contains(&key)) {
                connection.end(End::Cut);
            }
        }
    }

    /// Ends what is overdue, writes progress of what takes long.
    pub(crate) fn look_around(&self) {
        let now = self.now();
        for connection in self.all_connections() {
            if connection.is_overdue(now.ticks) {
                connection.end(End::Deadline);
            } else if let Some(exchange) = connection.exchange() {
                if exchange.has_outlived(now) {
                    connection.end(End::Cut);
                } else {
                    exchange.look_at_progress(now.ticks);
                }
            }
        }
        self.pool.borrow_mut().evict(now.ticks);
        self.record_unfinished();
        let summaries_due = now.ticks.since(self.summarised_at.get()) >= SUMMARY_EVERY_US;
        if self.thread == 0 && summaries_due {
            self.summarised_at.set(now.ticks);
            self.write_summaries();
        }
    }

    /// Records what an earlier life left broken off, as soon as there is room. Until then its
    /// units are held; with the record they are settled.
    fn record_unfinished(&self) {
        while !self.unfinished.borrow().is_empty() {
            let Ok(room) = self.reserve_room(EVENT_ROOM_BYTES) else {
                return;
            };
            let Some(one) = self.unfinished.borrow_mut().pop() else {
                return;
            };
            let counters = &self.node.counters;
            counters.settle_held(&one.charges, &mut || self.claim_sequence());
            self.node.metrics.interrupted.inc();
            self.node.metrics.unfinished.dec();
            let Unfinished { event, charges } = one;
            // Nobody waits for it; what cannot be written now is kept by the journal, and told.
            let _unawaited = self.append(room, &Entry::Event { event, charges });
        }
    }

    /// One record for each kind of refusal that was too frequent, or had no room.
    pub(crate) fn write_summaries(&self) {
        let now = self.now();
        let version = self.catalog().version();
        for ((api, code), count) in self.node.take_summaries() {
            let event = summary(self.mint(now), now, &api, code, count, version);
            let charges = Vec::new();
            if !self.append_extra(&Entry::Event { event, charges }) {
                self.node.keep_summary(api, code, count);
            }
        }
    }

    fn mailbox(&self) -> Option<&Mailbox> {
        self.node.mailboxes.get(usize::from(self.thread))
    }

    pub(crate) fn read_mailbox(&self) {
        self.node.turn(self.thread);
        // Also where no request comes: the catalog before is let go of.
        self.catalog.borrow_mut().get(&self.node);
        if let Some(mailbox) = self.mailbox() {
            self.cut_keys(&mailbox.take_ended());
        }
        match self.node.stage() {
            Stage::Starting | Stage::Open => {}
            Stage::Draining => {
                for connection in self.all_connections() {
                    connection.retire();
                }
            }
            Stage::Cutting => {
                for connection in self.all_connections() {
                    connection.end(End::Cut);
                }
            }
        }
    }

    /// Runs until the gateway stops and every connection has ended.
    pub(crate) async fn run(self: Rc<Self>, listener: TcpListener) {
        let mut listener = Some(listener);
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut ticks = tokio::time::interval(CONNECTION_TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stage = self.node.stage();
            if stage >= Stage::Draining {
                listener = None;
                if tasks.is_empty() {
                    break;
                }
            }
            let crowded = self.node.is_crowded(self.thread);
            let open = listener.as_ref().filter(|_| stage == Stage::Open);
            tokio::select! {
                () = wait(self.mailbox()) => self.read_mailbox(),
                _ = ticks.tick() => self.look_around(),
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                }
                accepted = accept_from(open.filter(|_| !crowded)) => {
                    self.accepted(accepted, &mut tasks).await;
                }
                () = tokio::time::sleep(CROWDED_PAUSE), if crowded && open.is_some() => {}
            }
        }
        self.pool.borrow_mut().clear();
        self.record_unfinished();
        self.write_summaries();
    }

    async fn accepted(
        self: &Rc<Self>,
        accepted: std::io::Result<(TcpStream, std::net::SocketAddr)>,
        tasks: &mut JoinSet<()>,
    ) {
        match accepted {
            Ok((stream, peer)) => {
                tasks.spawn_local(accept::serve_connection(Rc::clone(self), stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_from(
    listener: Option<&TcpListener>,
) -> std::io::Result<(TcpStream, std::net::SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn wait(mailbox: Option<&Mailbox>) {
    match mailbox {
        Some(mailbox) => mailbox.notify.notified().await,
        None => std::future::pending().await,
    }
}
