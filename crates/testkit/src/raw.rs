//! Bytes to a socket as they are: for requests that no client library would send.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What came back.
#[derive(Debug, Clone)]
pub struct RawReply {
    /// All bytes, until the end or the deadline.
    pub bytes: Vec<u8>,
    /// Whether the other side closed the connection.
    pub closed: bool,
}

impl RawReply {
    /// Status of the first answer; `None` where there is no answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let text = String::from_utf8_lossy(&self.bytes);
        let code = text.strip_prefix("HTTP/1.1 ")?.get(..3)?;
        code.parse().ok()
    }

    /// How many answers there are.
    #[must_use]
    pub fn answers(&self) -> usize {
        let text = String::from_utf8_lossy(&self.bytes);
        text.matches("HTTP/1.1 ").count()
    }
}

/// Sends `bytes` and reads until the other side closes or `patience` is over.
///
/// # Errors
/// When the connection cannot be made.
pub async fn exchange(
    target: SocketAddr,
    bytes: &[u8],
    patience: Duration,
) -> anyhow::Result<RawReply> {
    let mut stream = TcpStream::connect(target).await.context("connecting")?;
    stream.set_nodelay(true)?;
    // The other side may close before it has read everything: then what it answered counts.
    drop(stream.write_all(bytes).await);
    Ok(read_to_end(&mut stream, patience).await)
}

/// Reads until the other side closes or `patience` is over. A reset counts as closed.
pub async fn read_to_end(stream: &mut TcpStream, patience: Duration) -> RawReply {
    let mut bytes = Vec::new();
    let closed = timeout(patience, stream.read_to_end(&mut bytes))
        .await
        .is_ok();
    RawReply { bytes, closed }
}
