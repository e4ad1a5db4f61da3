//! A TCP proxy that misbehaves on purpose.
//!
//! Owns: carrying bytes between a client and a target, and per connection one [`Fault`]: answers
//! that come late, and an end at a chosen byte of what the target sends, in one of the ways in
//! which connections end. Faults are queued; each connection takes the next one, and carries
//! everything faithfully when none waits.
//!
//! Does not own any notion of HTTP: bytes are counted from the connection's begin.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How a connection ends at the byte where it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// RST to both sides.
    Reset,
    /// FIN to both sides.
    Close,
    /// Nothing more in either direction, and no sign of it: the peer has silently gone.
    HalfOpen,
    /// FIN to the client at once; the target keeps its connection for so long, unread.
    SlowClose(Duration),
}

/// What one connection suffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fault {
    /// Each piece from the target comes so much later.
    pub latency: Duration,
    /// After so many bytes from the target, and how.
    pub cut: Option<(u64, Cut)>,
}

impl Fault {
    /// An end after so many bytes from the target.
    #[must_use]
    pub fn cut_at(bytes: u64, how: Cut) -> Self {
        Self {
            latency: Duration::ZERO,
            cut: Some((bytes, how)),
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    faults: Mutex<VecDeque<Fault>>,
    cuts: AtomicU64,
}

/// A running proxy. Ends, with all of its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts one on a free port of the loopback, on the present runtime.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("the proxy listens")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a catalog's upstream.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next connections suffer these, one each, after those already queued.
    pub fn queue(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().extend(faults);
    }

    /// Connections cut so far.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let fault = shared.faults.lock().pop_front().unwrap_or_default();
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // How a connection ends is seen by both of its ends.
                    drop(carry(client, target, fault, &shared).await);
                });
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn carry(
    mut client: TcpStream,
    target: SocketAddr,
    fault: Fault,
    shared: &Shared,
) -> io::Result<()> {
    let mut target = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_target, mut to_target) = target.split();
        let up = async {
            tokio::io::copy(&mut from_client, &mut to_target).await?;
            to_target.shutdown().await?;
            // The answer may still be under way.
            std::future::pending::<io::Result<()>>().await
        };
        let down = down(&mut from_target, &mut to_client, fault);
        let ended = tokio::select! {
            failed = up => failed.map(|()| false),
            ended = down => ended,
        };
        if !ended? {
            return Ok(());
        }
    }
    let Some((_, how)) = fault.cut else {
        return Ok(());
    };
    shared.cuts.fetch_add(1, Ordering::SeqCst);
    match how {
        Cut::Reset => {
            client.set_zero_linger()?;
            target.set_zero_linger()?;
        }
        Cut::Close => {}
        Cut::HalfOpen => std::future::pending().await,
        Cut::SlowClose(after) => {
            client.shutdown().await?;
            tokio::time::sleep(after).await;
        }
    }
    Ok(())
}

/// Carries the target's bytes until it ends or the cut is reached; answers whether it was.
async fn down(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    fault: Fault,
) -> io::Result<bool> {
    let mut left = fault.cut.map_or(u64::MAX, |(bytes, _)| bytes);
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let read = from
            .read(buffer.get_mut(..most).unwrap_or_default())
            .await?;
        if read == 0 {
            return Ok(false);
        }
        if !fault.latency.is_zero() {
            tokio::time::sleep(fault.latency).await;
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
        left -= read as u64;
    }
    // Nothing of the answer: the cut comes once the target has begun to answer.
    if matches!(fault.cut, Some((0, _))) {
        let read = from.read(buffer.get_mut(..1).unwrap_or_default()).await?;
        return Ok(read > 0);
    }
    Ok(true)
}
