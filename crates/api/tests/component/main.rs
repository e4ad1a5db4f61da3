//! The whole router over the in-memory store, with a gateway that decides as the tests say.

#[cfg(test)]
mod app;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod catalog;
#[cfg(test)]
mod check;
#[cfg(test)]
mod document;
#[cfg(test)]
mod frame;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod usage;
