//! The platform's and the health port's sockets.
//!
//! **Invariants.** Connections are bounded in number; further ones wait in the kernel's queue.
//! Each must send its next head in time, so that silent ones make room again ([`Bounds`]).
//! How long a call may take is the router's to say.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tollgate_api::{ApiState, Health, health_router, router};
use tollgate_lifecycle::{Supervisor, TaskSpec};

/// What one port's clients may take.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Connections at once.
    connections_max: usize,
    /// From accept, or from the end of an answer, to the whole head of the next request.
    head_timeout: Duration,
}

const BOUNDS: Bounds = Bounds {
    connections_max: 2_048,
    head_timeout: Duration::from_secs(15),
};
/// How long to wait after the system would not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the API until the group stops.
///
/// # Errors
/// When the address is taken.
pub async fn platform(
    supervisor: &Supervisor,
    address: SocketAddr,
    state: ApiState,
) -> anyhow::Result<()> {
    serve(supervisor, "platform", address, router(state)?).await
}

/// Serves health and metrics until the group stops.
///
/// # Errors
/// When the address is taken.
pub async fn health(
    supervisor: &Supervisor,
    address: SocketAddr,
    health: Health,
) -> anyhow::Result<()> {
    serve(supervisor, "health", address, health_router(health)).await
}

async fn serve(
    supervisor: &Supervisor,
    name: &'static str,
    address: SocketAddr,
    router: Router,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| taken(name, address))?;
    let stop = supervisor.stop().soft;
    supervisor.spawn(TaskSpec::essential(name), async move {
        accept_until(&stop, &listener, &router, BOUNDS).await;
        Ok(())
    });
    Ok(())
}

/// Takes connections until told to stop, then waits for those that are busy.
async fn accept_until(
    stop: &CancellationToken,
    listener: &TcpListener,
    router: &Router,
    bounds: Bounds,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < bounds.connections_max => {
                match accepted {
                    Ok((stream, peer)) => {
                        let client = Client { stream, peer, head_timeout: bounds.head_timeout };
                        connections.spawn(client.speak_http(router.clone(), stop.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection could be taken");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// One connection.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    head_timeout: Duration,
}

impl Client {
    async fn speak_http(self, router: Router, stop: CancellationToken) {
        let peer = self.peer;
        if let Err(error) = self.stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch Nagle's algorithm off");
        }
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            TowerToHyperService::new(router.clone()).call(request)
        });
        let machine = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .serve_connection(TokioIo::new(self.stream), service)
            .with_upgrades();
        let mut machine = pin!(machine);
        let ended = tokio::select! {
            ended = machine.as_mut() => ended,
            () = stop.cancelled() => {
                machine.as_mut().graceful_shutdown();
                machine.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// What to say when an address cannot be listened on.
pub fn taken(name: &str, address: SocketAddr) -> String {
    format!(
        "the {name} cannot listen on {address}; if another process has it, stop that or set \
         {name}.listen"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n";

    async fn connect(to: SocketAddr, bytes: &[u8]) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(bytes).await?;
        Ok(stream)
    }

    async fn read_to_end(mut stream: TcpStream) -> anyhow::Result<String> {
        let mut text = String::new();
        let reading = stream.read_to_string(&mut text);
        tokio::time::timeout(Duration::from_secs(20), reading).await??;
        Ok(text)
    }

    #[tokio::test]
    async fn clients_that_fall_silent_make_room_for_others() -> anyhow::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let answer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let router = Router::new().route("/", get(answer));
        let stop = CancellationToken::new();
        let bounds = Bounds {
            connections_max: 3,
            head_timeout: Duration::from_millis(50),
        };
        let mut clients = JoinSet::new();
        for bytes in [&b""[..], HEAD, &[HEAD, b"\r\n"].concat()] {
            clients.spawn(read_to_end(connect(address, bytes).await?));
        }
        let last = connect(address, &[HEAD, b"connection: close\r\n\r\n"].concat()).await?;
        let here = last.local_addr()?.to_string();
        let all = async {
            let text = read_to_end(last).await?;
            assert!(text.ends_with(&here), "{text}");
            // The silent ones, and one that goes on holding its connection after an answer.
            while let Some(ended) = clients.join_next().await {
                ended??;
            }
            stop.cancel();
            anyhow::Ok(())
        };
        let ((), all) = tokio::join!(accept_until(&stop, &listener, &router, bounds), all);
        all
    }

    #[tokio::test]
    async fn when_stopping_what_is_asked_is_answered_and_the_idle_are_let_go() -> anyhow::Result<()>
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        let answer = move || async move {
            stopper.cancel();
            "stopping"
        };
        let router = Router::new().route("/", get(answer));
        let idle = connect(address, b"").await?;
        let busy = connect(address, &[HEAD, b"\r\n"].concat()).await?;
        let all = async {
            let text = read_to_end(busy).await?;
            assert!(text.ends_with("stopping"), "{text}");
            assert_eq!(read_to_end(idle).await?, "");
            anyhow::Ok(())
        };
        let ((), all) = tokio::join!(accept_until(&stop, &listener, &router, BOUNDS), all);
        all
    }
}
