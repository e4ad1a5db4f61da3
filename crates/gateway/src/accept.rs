//! The life of one client's connection.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate_model::{DenialCode, Outcome};

use crate::answer::identify;
use crate::connection::{ClientIo, Connection, End, Upgrade};
use crate::forward::Tunnel;
use crate::options::{
    BUFFER_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, LINGER_BYTES_MAX, LINGER_TIMEOUT,
};
use crate::problem::Denial;
use crate::service::serve;
use crate::worker::Worker;

/// A connection as long as it is counted.
struct Counted {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    number: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.worker.unregister(self.number);
        let address = self.connection.peer_address();
        self.worker.node().leave(self.worker.thread(), address);
    }
}

/// Serves a connection until one side ends it.
pub(crate) async fn serve_connection(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let connection = Rc::new(Connection::new(peer, worker.now().ticks));
    if !worker
        .node()
        .enter(worker.thread(), connection.peer_address())
    {
        turn_away(&worker, stream).await;
        return;
    }
    let counted = Counted {
        number: worker.register(&connection),
        worker: Rc::clone(&worker),
        connection: Rc::clone(&connection),
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch Nagle's algorithm off");
    }
    let end = Box::pin(speak_http(&worker, &connection, stream)).await;
    if let Some((stream, read)) = end {
        match connection.take_upgrade() {
            Some(upgrade) => Box::pin(tunnel(&connection, (stream, read), upgrade)).await,
            None => close(&connection, stream).await,
        }
    }
    drop(counted);
}

/// Runs hyper's machine; the socket comes back unless the connection is to be dropped as it is.
async fn speak_http(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    stream: TcpStream,
) -> Option<(TcpStream, bytes::Bytes)> {
    let io = ClientIo::new(stream, Rc::clone(connection), Rc::clone(worker));
    let service = {
        let (worker, connection) = (Rc::clone(worker), Rc::clone(connection));
        service_fn(move |request| {
            Box::pin(serve(Rc::clone(&worker), Rc::clone(&connection), request))
        })
    };
    let mut machine = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(io, service);
    let mut retiring = false;
    let ended = poll_fn(|cx| {
        if let Some(end) = connection.watch(cx) {
            return Poll::Ready(Err(end));
        }
        if connection.is_retiring() && !retiring {
            retiring = true;
            Pin::new(&mut machine).graceful_shutdown();
        }
        machine.poll_without_shutdown(cx).map(Ok)
    })
    .await;
    match ended {
        Err(End::Deadline | End::Cut) => None,
        Ok(Err(error)) => {
            if error.is_parse() {
                worker.node().metrics.unreadable.inc();
            }
            tracing::debug!(%error, "client connection ended");
            let parts = machine.into_parts();
            connection
                .lingers()
                .then(|| (parts.io.into_stream(), bytes::Bytes::new()))
        }
        Ok(Ok(())) => {
            let parts = machine.into_parts();
            Some((parts.io.into_stream(), parts.read_buf))
        }
    }
}

/// Closes so that the last answer arrives: a socket closed with unread bytes would be reset.
async fn close(connection: &Connection, mut stream: TcpStream) {
    if stream.shutdown().await.is_err() || !connection.lingers() {
        return;
    }
    let reading = async {
        let mut left = LINGER_BYTES_MAX;
        let mut buffer = [0u8; 4096];
        while left > 0 {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read as u64),
            }
        }
    };
    // A client that goes on sending is closed on.
    let _late = tokio::time::timeout(LINGER_TIMEOUT, reading).await;
}

/// No room for this connection: says so, whatever it came to ask.
async fn turn_away(worker: &Worker, mut stream: TcpStream) {
    worker.node().metrics.denied(DenialCode::Overloaded);
    let now = worker.now();
    let id = worker.mint(now);
    let mut denial = Denial::unavailable(
        DenialCode::Overloaded,
        "There is no room for another connection.",
        id,
    );
    denial.close = true;
    let (mut head, body) = denial.answer(id).into_parts();
    identify(&mut head.headers, id, now.ticks, now.ticks);
    let body = body.collect().await.map(|b| b.to_bytes());
    let body = body.unwrap_or_default();
    let mut out = b"HTTP/1.1 503 Service Unavailable\r\n".to_vec();
    for (name, value) in &head.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(&body);
    // A fresh socket takes this much at once; one that does not is closed without it.
    let _written = stream.try_write(&out);
    let _closed = stream.shutdown().await;
}

/// Passes bytes both ways until both sides have ended, or we end it.
async fn tunnel(connection: &Rc<Connection>, client: (TcpStream, bytes::Bytes), upgrade: Upgrade) {
    let exchange = Rc::clone(upgrade.ending.exchange());
    let mut tunnel = Tunnel::new(client, upgrade.upstream, upgrade.websocket);
    let traffic = Rc::clone(exchange.traffic());
    let ended = poll_fn(|cx| {
        let asked = connection.watch(cx);
        if asked == Some(End::Cut) {
            tunnel.say_goodbye();
            return Poll::Ready(None);
        }
        let polled = tunnel.poll(cx, &traffic.bytes_in, &traffic.bytes_out);
        exchange.note_progress();
        polled.map(Some)
    })
    .await;
    let outcome = match ended {
        None => Outcome::Cut,
        Some(Ok(())) => Outcome::Forwarded,
        Some(Err(_)) => Outcome::ClientClosed,
    };
    // Nothing waits for this record: the tunnel's last byte has passed.
    let _unawaited = exchange.finish(outcome);
}
