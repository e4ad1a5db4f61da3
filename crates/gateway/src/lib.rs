//! The data plane.
mod address;
mod credentials;
mod head;
mod headers;
mod keys;
mod options;
mod path;
mod routes;
mod wire;
#[cfg(test)]
mod testing;
pub use options::Options;
