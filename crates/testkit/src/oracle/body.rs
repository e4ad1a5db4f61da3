//! Bodies of the oracle's answers: sized, chunked, with trailers, cut off, echoed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use sha2::{Digest, Sha256};

use super::Body;
use super::behaviour::Behaviour;
use super::ledger::{Entry, Ledger};

/// Bytes of a piece of a sized body.
const PIECE_BYTES: u64 = 64 * 1024;
static PIECE: [u8; PIECE_BYTES as usize] = [b'o'; PIECE_BYTES as usize];

/// The oracle breaks off on purpose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for Broken {}

/// An exchange that is not over yet.
#[derive(Debug)]
pub(super) struct Live(Arc<Ledger>);

impl Live {
    pub fn begin(ledger: Arc<Ledger>) -> Self {
        ledger.begin();
        Self(ledger)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.end();
    }
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// What is still to be sent.
struct Rest {
    behaviour: Behaviour,
    pieces: Vec<u64>,
    first: bool,
    trailers_sent: bool,
    /// Held until the body is over or dropped.
    _live: Live,
}

/// The body that `behaviour` asks for.
pub(super) fn of(behaviour: &Behaviour, live: Live) -> Body {
    let rest = Rest {
        pieces: pieces(behaviour),
        behaviour: behaviour.clone(),
        first: true,
        trailers_sent: behaviour.trailers.is_empty(),
        _live: live,
    };
    StreamBody::new(Box::pin(stream::unfold(rest, next_frame))).boxed_unsync()
}

/// Lengths of the pieces, the last one first.
fn pieces(behaviour: &Behaviour) -> Vec<u64> {
    if let Some(chunks) = behaviour.chunks {
        let count = usize::try_from(chunks).unwrap_or(0);
        return vec![behaviour.size.min(PIECE_BYTES); count];
    }
    let mut left = behaviour.cut.unwrap_or(behaviour.size);
    let mut pieces = Vec::new();
    while left > 0 {
        pieces.push(left.min(PIECE_BYTES));
        left -= left.min(PIECE_BYTES);
    }
    pieces.reverse();
    pieces
}

async fn next_frame(mut rest: Rest) -> Option<(Result<Frame<Bytes>, Broken>, Rest)> {
    if let Some(length) = rest.pieces.pop() {
        if !std::mem::replace(&mut rest.first, false) {
            tokio::time::sleep(rest.behaviour.gap).await;
        }
        let length = usize::try_from(length).unwrap_or(0);
        let piece = PIECE.get(..length).unwrap_or(&PIECE);
        return Some((Ok(Frame::data(Bytes::from_static(piece))), rest));
    }
    if rest.behaviour.cut.take().is_some() {
        // What was sent must reach the socket before the connection is closed.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        return Some((Err(Broken), rest));
    }
    if !std::mem::replace(&mut rest.trailers_sent, true) {
        let trailers = header_map(&rest.behaviour.trailers);
        return Some((Ok(Frame::trailers(trailers)), rest));
    }
    None
}

fn header_map(pairs: &[(String, String)]) -> HeaderMap {
    pairs
        .iter()
        .filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        })
        .collect()
}

struct Echo {
    body: Incoming,
    entry: Entry,
    hash: Sha256,
    bytes: u64,
    _live: Live,
}

/// The request's own body, as it comes.
pub(super) fn echo(body: Incoming, entry: Entry, live: Live) -> Body {
    let echo = Echo {
        body,
        entry,
        hash: Sha256::new(),
        bytes: 0,
        _live: live,
    };
    let frames = stream::unfold(echo, |mut echo| async {
        let frame = echo.body.frame().await;
        let complete = frame.is_none();
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    echo.hash.update(data);
                    echo.bytes += data.len() as u64;
                }
                return Some((Ok(frame), echo));
            }
            Some(Err(_)) | None => {
                let hash = echo.hash.clone().finalize();
                echo.entry.body_ended(echo.bytes, &hash, complete, None);
            }
        }
        (!complete).then_some((Err(Broken), echo))
    });
    StreamBody::new(Box::pin(frames)).boxed_unsync()
}
