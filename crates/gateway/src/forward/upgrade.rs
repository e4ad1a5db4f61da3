//! Tunnels: after a 101 from the upstream, bytes pass both ways and are counted.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::options::TUNNEL_BUFFER_BYTES;

/// A close frame from a server with status 1008 (policy violation).
pub(crate) const WEBSOCKET_CLOSE_1008: [u8; 4] = [0x88, 0x02, 0x03, 0xf0];

/// One direction of a tunnel.
struct Pump {
    buffer: BytesMut,
    /// The reader has ended.
    ended: bool,
    /// The writer was told so.
    closed: bool,
}

impl Pump {
    fn new(already_read: &Bytes) -> Self {
        Self {
            buffer: BytesMut::from(already_read.as_ref()),
            ended: false,
            closed: false,
        }
    }

    /// Moves bytes until one side must wait; ready when this direction has ended.
    fn poll(
        &mut self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        cx: &mut Context<'_>,
        mut moved: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        loop {
            while self.buffer.has_remaining() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                moved(self.buffer.get(..written).unwrap_or(&[]));
                self.buffer.advance(written);
            }
            if self.ended {
                if !self.closed {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            self.buffer.clear();
            self.buffer.resize(TUNNEL_BUFFER_BYTES, 0);
            let mut space = ReadBuf::new(&mut self.buffer);
            let polled = Pin::new(&mut *from).poll_read(cx, &mut space);
            let filled = space.filled().len();
            self.buffer.truncate(filled);
            ready!(polled)?;
            self.ended = filled == 0;
        }
    }
}

/// Both directions.
pub(crate) struct Tunnel {
    client: TcpStream,
    upstream: TcpStream,
    up: Pump,
    down: Pump,
    /// Where the upstream's WebSocket frames stand; `None`: another protocol.
    frames: Option<FrameTracker>,
}

impl Tunnel {
    /// Joins two connections, each with bytes that were read of it already.
    pub(crate) fn new(
        client: (TcpStream, Bytes),
        upstream: (TcpStream, Bytes),
        websocket: bool,
    ) -> Self {
        Self {
            up: Pump::new(&client.1),
            down: Pump::new(&upstream.1),
            client: client.0,
            upstream: upstream.0,
            frames: websocket.then(FrameTracker::default),
        }
    }

    /// Moves bytes both ways and counts them; ready when both directions have ended, or a
    /// WebSocket's server has.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        bytes_in: &Cell<u64>,
        bytes_out: &Cell<u64>,
    ) -> Poll<io::Result<()>> {
        let up = self.up.poll(&mut self.client, &mut self.upstream, cx, |b| {
            bytes_in.set(bytes_in.get() + b.len() as u64);
        });
        let frames = &mut self.frames;
        let down = self
            .down
            .poll(&mut self.upstream, &mut self.client, cx, |b| {
                bytes_out.set(bytes_out.get() + b.len() as u64);
                if let Some(frames) = frames {
                    frames.pass(b);
                }
            });
        match (up, down) {
            (Poll::Ready(Err(e)), _) | (_, Poll::Ready(Err(e))) => Poll::Ready(Err(e)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            // A WebSocket server that has closed reads no more; a client that keeps its own end
            // open would keep the tunnel, and its record, waiting.
            (_, Poll::Ready(Ok(()))) if self.frames.is_some() => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    /// Tells a WebSocket client why its tunnel ends, if that can be said between two frames and
    /// without waiting. Dropping the tunnel closes it.
    pub(crate) fn say_goodbye(&self) {
        let between = self
            .frames
            .as_ref()
            .is_some_and(FrameTracker::between_frames);
        if between && self.down.buffer.is_empty() {
            // A client that cannot take four bytes now is closed without them.
            if let Err(error) = self.client.try_write(&WEBSOCKET_CLOSE_1008) {
                tracing::debug!(%error, "no goodbye to a tunnel's client");
            }
        }
    }
}

/// Follows the boundaries of WebSocket frames (RFC 6455, section 5.2).
#[derive(Debug, Default)]
struct FrameTracker {
    header: Vec<u8>,
    payload_left: u64,
}

impl FrameTracker {
    fn between_frames(&self) -> bool {
        self.header.is_empty() && self.payload_left == 0
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let step = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
                let step = step.min(bytes.len());
                self.payload_left -= step as u64;
                bytes = bytes.get(step..).unwrap_or(&[]);
                continue;
            }
            self.header.push(*first);
            bytes = rest;
            if let Some(payload) = frame_payload(&self.header) {
                self.payload_left = payload;
                self.header.clear();
            }
        }
    }
}

/// The length of the payload once the header is whole.
fn frame_payload(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (length_bytes, short) = match second & 0x7f {
        126 => (2, None),
        127 => (8, None),
        short => (0, Some(u64::from(short))),
    };
    if header.len() < 2 + length_bytes + mask {
        return None;
    }
    let long = header.get(2..2 + length_bytes)?;
    let long = long.iter().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
    Some(short.unwrap_or(long))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_boundaries_are_found_in_any_pieces() {
        let mut stream = vec![0x81, 0x05];
        stream.extend_from_slice(b"hello");
        stream.extend_from_slice(&[0x82, 126, 0x01, 0x00]);
        stream.extend_from_slice(&[7; 256]);
        stream.extend_from_slice(&[0x8a, 0x80, 1, 2, 3, 4]);
        for size in [1, 2, 3, 7, stream.len()] {
            let mut tracker = FrameTracker::default();
            let mut boundaries = 0;
            for piece in stream.chunks(size) {
                tracker.pass(piece);
                boundaries += usize::from(tracker.between_frames());
            }
            assert!(tracker.between_frames());
            if size == 1 {
                assert_eq!(boundaries, 3);
            }
        }
        let mut tracker = FrameTracker::default();
        tracker.pass(&stream[..4]);
        assert!(!tracker.between_frames());
    }
}
