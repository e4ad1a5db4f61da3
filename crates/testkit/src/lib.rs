//! What tests need.
//!
//! Owns: [`ManualClock`] and [`SeededIds`]; the [`Oracle`], an upstream that writes down every
//! request before it answers; the [`load`] client, which writes down what it was answered; the
//! [`Binary`] runner; the [`AcknowledgedSet`] that records are held against; the [`Proxy`] that cuts connections; a real [`Postgres`] server; small HTTP and raw-socket clients; [`wait_until`].
//!
//! Invariants: everything ends by itself (each wait has a deadline, each thread and process ends
//! with its handle); nothing here shares code with what is tested, but for the nouns of `model`.
//!
//! Does not own expectations about Tollgate: those stand in the tests.

mod acknowledged;
mod binary;
pub mod client;
mod clock;
pub mod load;
mod oracle;
mod ports;
mod postgres;
mod proxy;
pub mod raw;
mod wait;

pub use acknowledged::{Acknowledged, AcknowledgedSet};
pub use binary::{Binary, Setup};
pub use clock::{ManualClock, SeededIds};
pub use oracle::{BodySeen, Oracle, OracleOptions, Seen};
pub use ports::free_port;
pub use postgres::Postgres;
pub use proxy::{Cut, Fault, Proxy};
pub use wait::{Elapsed, can_run, setting, skip, wait_until, wall_us, wanted};
