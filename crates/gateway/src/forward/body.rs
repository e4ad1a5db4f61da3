//! Bodies in flight: counted, never collected.
//!
//! [`RequestBody`] carries the client's body to the upstream, [`AnswerBody`] the upstream's to the
//! client. **Invariant:** the last frame of an answer leaves only after its record is appended,
//! and in durable mode synced; known lengths tell which frame that is, and without a length it is
//! the end of the stream itself.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tollgate_model::{Outcome, Ticks};

use super::pool::UpstreamConnection;
use crate::exchange::Ending;
use crate::headers::{stated_cost, strip_trailers};
use crate::record::{Recorded, Synced};

/// Why a body ended early; also what hyper is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client closed its connection.
    #[error("the client left")]
    ClientLeft,
    /// The client's body breaks the rules of its framing.
    #[error("the client's body is malformed")]
    Malformed,
    /// The client's body is longer than the API takes.
    #[error("the client's body is too long")]
    TooLarge,
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Upstream,
    /// The record could not be written: the answer must not end.
    #[error("the record could not be written")]
    Unrecorded,
}

/// What passed so far.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Body or tunnel bytes from the client.
    pub(crate) bytes_in: Cell<u64>,
    /// Body or tunnel bytes to the client.
    pub(crate) bytes_out: Cell<u64>,
    /// The request's body has been passed on whole.
    pub(crate) request_sent: Cell<bool>,
    /// Pieces of the request's body so far, so that progress can be told from silence.
    pub(crate) request_frames: Cell<u64>,
    /// Why the request's body ended early.
    pub(crate) request_failure: Cell<Option<BodyError>>,
}

/// A client's body on its way to the upstream.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    bytes_max: u64,
    traffic: Rc<Traffic>,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, bytes_max: Option<u64>, traffic: Rc<Traffic>) -> Self {
        let empty = incoming.is_end_stream();
        traffic.request_sent.set(empty);
        Self {
            incoming: (!empty).then_some(incoming),
            bytes_max: bytes_max.unwrap_or(u64::MAX),
            traffic,
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.incoming = None;
        self.traffic.request_failure.set(Some(error));
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let traffic = Rc::clone(&self.traffic);
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = match ready!(Pin::new(incoming).poll_frame(cx)) {
            None => {
                traffic.request_sent.set(true);
                return Poll::Ready(None);
            }
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let why = classify(&error);
                return self.fail(why);
            }
        };
        traffic.request_frames.set(traffic.request_frames.get() + 1);
        let frame = match frame.into_data() {
            Ok(data) => {
                let total = traffic.bytes_in.get() + data.len() as u64;
                if total > self.bytes_max {
                    return self.fail(BodyError::TooLarge);
                }
                traffic.bytes_in.set(total);
                Frame::data(data)
            }
            Err(other) => match other.into_trailers() {
                Ok(mut trailers) => {
                    strip_trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(other) => other,
            },
        };
        if self.incoming.as_ref().is_some_and(Body::is_end_stream) {
            traffic.request_sent.set(true);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.incoming.as_ref().map_or_else(none, Body::size_hint)
    }
}

/// A reset or an early end is the client's leaving; the rest is its fault.
fn classify(error: &hyper::Error) -> BodyError {
    use std::error::Error;
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
                    BodyError::Malformed
                }
                _ => BodyError::ClientLeft,
            };
        }
        source = cause.source();
    }
    BodyError::ClientLeft
}

/// What a client is sent.
pub(crate) enum AnswerBody {
    /// An answer of ours, whole.
    Whole(Option<Bytes>),
    /// The upstream's, as it comes.
    Streamed(Box<Streamed>),
}

impl AnswerBody {
    /// No body.
    pub(crate) const EMPTY: Self = Self::Whole(None);
}

/// The upstream's answer on its way to the client.
pub(crate) struct Streamed {
    incoming: Incoming,
    connection: Option<UpstreamConnection>,
    ending: Ending,
    /// Body bytes still to come, where the upstream said how many.
    left: Option<u64>,
    /// The end has been recorded.
    ended: bool,
    /// The upstream broke off; told after what came before has had its turn to leave.
    broken: bool,
    /// The last frame, held back until its record is synced.
    held: Option<(Option<Frame<Bytes>>, Synced)>,
}

impl Streamed {
    pub(crate) fn new(incoming: Incoming, connection: UpstreamConnection, ending: Ending) -> Self {
        Self {
            left: incoming.size_hint().exact(),
            incoming,
            connection: Some(connection),
            ending,
            ended: false,
            broken: false,
            held: None,
        }
    }

    /// Moves the upstream's connection, then asks for a frame. The connection hands frames over
    /// by a channel, so that it is moved again when there was none.
    fn poll_upstream(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Some(connection) = &mut self.connection {
            let _ended = connection.poll_drive(cx).is_ready();
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    /// Records the end, gives the connection back, and lets the last frame go or holds it.
    fn end(
        &mut self,
        last: Option<Frame<Bytes>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        let exchange = self.ending.exchange();
        let recorded = exchange.finish(Outcome::Forwarded);
        if let Some(connection) = self.connection.take() {
            let worker = exchange.worker();
            worker.give_back(connection, cx);
        }
        match recorded {
            Recorded::Done => Poll::Ready(last.map(Ok)),
            Recorded::Failed => Poll::Ready(Some(Err(BodyError::Unrecorded))),
            Recorded::Waiting(synced) => {
                self.held = Some((last, synced));
                self.poll_held(cx)
            }
        }
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let synced = match &mut self.held {
            Some((_, synced)) => ready!(synced.as_mut().poll(cx)),
            None => true,
        };
        let last = self.held.take().and_then(|(last, _)| last);
        if synced {
            Poll::Ready(last.map(Ok))
        } else {
            Poll::Ready(Some(Err(BodyError::Unrecorded)))
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.held.is_some() {
            return self.poll_held(cx);
        }
        if self.broken {
            return Poll::Ready(Some(Err(BodyError::Upstream)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.poll_upstream(cx)) {
            None => return self.end(None, cx),
            Some(Err(error)) => {
                tracing::debug!(%error, "upstream broke off");
                return self.break_off(cx);
            }
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => self.data(data, cx),
            Err(other) => {
                let trailers = other.into_trailers().ok();
                let last = trailers.and_then(|t| self.trailers(t));
                self.end(last, cx)
            }
        }
    }

    /// Records the break. hyper drops what it has not sent when a body fails, so the failure is
    /// told one turn later.
    fn break_off(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.broken = true;
        self.ended = true;
        self.connection = None;
        // Nobody waits for this record: the answer is broken off, not ended.
        let _unawaited = self.ending.exchange().finish(Outcome::UpstreamError);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn data(
        &mut self,
        data: Bytes,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let exchange = self.ending.exchange();
        let passed = &exchange.traffic().bytes_out;
        passed.set(passed.get() + data.len() as u64);
        exchange.note_progress();
        let left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        self.left = left;
        if left == Some(0) {
            return self.end(Some(Frame::data(data)), cx);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn trailers(&self, mut trailers: http::HeaderMap) -> Option<Frame<Bytes>> {
        self.ending.exchange().state_cost(stated_cost(&trailers));
        strip_trailers(&mut trailers);
        (!trailers.is_empty()).then(|| Frame::trailers(trailers))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streamed(streamed) => {
                streamed.ended && streamed.held.is_none() && !streamed.broken
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Streamed(streamed) => streamed
                .left
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// Whether the client's body has made progress since it was last asked.
pub(crate) struct UploadWatch {
    frames: u64,
    /// When it was last seen to move.
    pub(crate) moved_at: Ticks,
}

impl UploadWatch {
    pub(crate) fn new(now: Ticks) -> Self {
        Self {
            frames: 0,
            moved_at: now,
        }
    }

    /// True while the upload is the one to wait for.
    pub(crate) fn still_moves(&mut self, traffic: &Traffic, now: Ticks) -> bool {
        let frames = traffic.request_frames.get();
        let moved = frames != self.frames;
        if moved {
            self.frames = frames;
            self.moved_at = now;
        }
        moved
    }
}
