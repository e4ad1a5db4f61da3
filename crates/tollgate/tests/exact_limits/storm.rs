//! Attempts over raw keep-alive connections, several under way on each, cheap enough that the
//! gateway is what takes the time.
//!
//! Owns: sending, counting answers by status, and when each attempt that passed was sent and
//! answered. Every answer must come whole over the connection it was asked on: a connection that
//! ends is an error.
//!
//! Does not own what the counts should be.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tollgate_testkit::Elapsed;

/// Longest wait for any answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Threads that send; the machine's other work is the gateway and the upstream.
const THREADS: usize = 2;

/// What is sent, and by how many.
pub struct Storm {
    pub target: SocketAddr,
    /// Clients take them in turn.
    pub keys: Vec<String>,
    /// Connections side by side.
    pub clients: usize,
    /// Attempts in all; it also ends when it is stopped.
    pub attempts: u64,
    /// Requests under way on each connection.
    pub depth: u64,
    pub watch: Arc<Watch>,
}

/// A storm as seen from outside while it runs.
pub struct Watch {
    pub clock: Elapsed,
    taken: AtomicU64,
    admitted: AtomicU64,
    answered: AtomicU64,
    stop: AtomicBool,
}

/// One attempt that passed, in microseconds since the watch began.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Index of its key.
    pub key: usize,
    pub begun_us: u64,
    pub ended_us: u64,
}

/// How a storm ended.
#[derive(Debug, Default)]
pub struct Outcome {
    pub by_status: BTreeMap<u16, u64>,
    pub passes: Vec<Pass>,
    pub took: Duration,
}

impl Outcome {
    pub fn count(&self, status: u16) -> u64 {
        self.by_status.get(&status).copied().unwrap_or(0)
    }

    pub fn attempts(&self) -> u64 {
        self.by_status.values().sum()
    }

    pub fn per_second(&self) -> u64 {
        let took_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        self.attempts() * 1_000 / took_ms.max(1)
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.passes.extend(other.passes);
    }
}

impl Watch {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Elapsed::start(),
            taken: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        })
    }

    /// Attempts answered 200 so far.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::SeqCst)
    }

    /// Attempts answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// No attempt is sent any more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// How many attempts may be sent next.
    fn take(&self, attempts: u64, depth: u64) -> u64 {
        if self.stop.load(Ordering::Relaxed) {
            return 0;
        }
        let before = self.taken.fetch_add(depth, Ordering::Relaxed);
        attempts.saturating_sub(before).min(depth)
    }
}

impl Storm {
    /// `attempts` by `clients`, with so many under way on each connection that few clients are
    /// not slow and many are not late.
    pub fn new(target: SocketAddr, keys: &[String], clients: usize, attempts: u64) -> Self {
        Self {
            target,
            keys: keys.to_vec(),
            clients,
            attempts,
            depth: if clients < 64 { 16 } else { 4 },
            watch: Watch::new(),
        }
    }

    /// Runs to the end, on threads of its own.
    pub async fn run(self) -> anyhow::Result<Outcome> {
        tokio::task::spawn_blocking(move || self.run_blocking()).await?
    }

    fn run_blocking(&self) -> anyhow::Result<Outcome> {
        let begun = self.watch.clock.so_far();
        let threads = THREADS.min(self.clients);
        let mut outcome = Outcome::default();
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|first| scope.spawn(move || self.send_from(first, threads)))
                .collect();
            for thread in running {
                match thread.join() {
                    Ok(part) => outcome.add(part?),
                    Err(_) => bail!("a sending thread panicked"),
                }
            }
            Ok(())
        })?;
        outcome.took = self.watch.clock.so_far() - begun;
        Ok(outcome)
    }

    /// Every `step`-th client from `first` on: all send, then all are read.
    fn send_from(&self, first: usize, step: usize) -> anyhow::Result<Outcome> {
        let mut clients = Vec::new();
        for index in (first..self.clients).step_by(step) {
            clients.push(Client::open(self, index)?);
        }
        let mut outcome = Outcome::default();
        loop {
            let mut sent = 0;
            for client in &mut clients {
                let count = self.watch.take(self.attempts, self.depth);
                client.send(count, self.watch.clock)?;
                sent += count;
            }
            if sent == 0 {
                return Ok(outcome);
            }
            for client in &mut clients {
                client.receive(&self.watch, &mut outcome)?;
            }
        }
    }
}

/// One connection.
struct Client {
    stream: TcpStream,
    key: usize,
    /// One request for each that may be under way.
    requests: Vec<u8>,
    request_bytes: usize,
    begun_us: u64,
    waiting: u64,
    received: Vec<u8>,
}

impl Client {
    fn open(storm: &Storm, index: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(storm.target).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let key = index % storm.keys.len().max(1);
        let secret = storm.keys.get(key).context("a storm has a key")?;
        let request = format!(
            "GET /v1/things HTTP/1.1\r\nHost: {}\r\nX-API-Key: {secret}\r\n\r\n",
            storm.target
        );
        Ok(Self {
            stream,
            key,
            requests: request.repeat(usize::try_from(storm.depth)?).into_bytes(),
            request_bytes: request.len(),
            begun_us: 0,
            waiting: 0,
            received: Vec::new(),
        })
    }

    fn send(&mut self, count: u64, clock: Elapsed) -> anyhow::Result<()> {
        self.begun_us = clock.us();
        self.waiting = count;
        let bytes = self.request_bytes * usize::try_from(count)?;
        let requests = self.requests.get(..bytes).context("at most the depth")?;
        self.stream.write_all(requests).context("sending")
    }

    /// Reads the answers of everything that was sent.
    fn receive(&mut self, watch: &Watch, outcome: &mut Outcome) -> anyhow::Result<()> {
        let mut buffer = [0; 32 * 1024];
        while self.waiting > 0 {
            let count = self.stream.read(&mut buffer).context("reading an answer")?;
            ensure!(count > 0, "the gateway closed a connection");
            self.received.extend(buffer.iter().take(count));
            let ended_us = watch.clock.us();
            let mut at = 0;
            while let Some((status, bytes)) = first_answer(self.received.get(at..))? {
                at += bytes;
                self.waiting = self.waiting.checked_sub(1).context("an answer too many")?;
                *outcome.by_status.entry(status).or_default() += 1;
                watch.answered.fetch_add(1, Ordering::SeqCst);
                if status == 200 {
                    watch.admitted.fetch_add(1, Ordering::SeqCst);
                    outcome.passes.push(Pass {
                        key: self.key,
                        begun_us: self.begun_us,
                        ended_us,
                    });
                }
            }
            self.received.drain(..at);
        }
        Ok(())
    }
}

/// Status and length of the first answer, where all of it is there.
fn first_answer(received: Option<&[u8]>) -> anyhow::Result<Option<(u16, usize)>> {
    let received = received.unwrap_or_default();
    let Some(head_bytes) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(received.get(..head_bytes).unwrap_or_default())?;
    let status = head.get(9..12).and_then(|digits| digits.parse().ok());
    let status = status.with_context(|| format!("not an answer: {head}"))?;
    let length = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: "))
        .with_context(|| format!("an answer without a length: {head}"))?;
    let whole = head_bytes + 4 + length.parse::<usize>()?;
    Ok((received.len() >= whole).then_some((status, whole)))
}
