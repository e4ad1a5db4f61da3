//! Sending an admitted request upstream and its answer back.
//!
//! **Invariants.** Nothing is sent without a permit, which the [`Exchange`](crate::exchange)
//! holds. A request is sent again only when hyper hands it back unsent, and never charged again.
//! No byte of a tunnel passes before the upstream's own 101.
//!
//! **Does not own** admission, and what is recorded.

mod body;
mod pool;
mod request;
mod response;
mod send;
mod upgrade;

pub(crate) use body::{AnswerBody, Traffic};
pub(crate) use pool::{Pool, UpstreamConnection};
pub(crate) use request::new_trace_id;
pub(crate) use response::{Abort, forward};
pub(crate) use upgrade::Tunnel;
