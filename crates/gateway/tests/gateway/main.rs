//! The gateway as its clients and upstreams see it: real sockets on both sides, a stub upstream
//! that writes down what it saw, and the journal read afterwards.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod client;
mod forwarding;
mod lifecycle;
mod malformed;
mod recording;
mod refusals;
mod streams;
mod upstream;
mod world;
