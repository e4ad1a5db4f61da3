//! What was seen: in memory, and on one line each in a file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use http::{HeaderMap, Request};
use hyper::body::{Body, Incoming};
use parking_lot::Mutex;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Elapsed;

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodySeen {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Whether it came to its end.
    pub complete: bool,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
}

/// A request as the upstream parsed it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When its head had been parsed, by the oracle's clock.
    pub at_us: u64,
    /// `X-Request-Id`, where it carried exactly one.
    pub request_id: Option<String>,
    /// Method.
    pub method: String,
    /// Path and query, byte for byte.
    pub path: String,
    /// Headers; empty when they are not kept.
    pub headers: HeaderMap,
    /// Its body, once it ended.
    pub body: Option<BodySeen>,
}

impl Seen {
    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// All that was seen.
#[derive(Debug)]
pub(super) struct Ledger {
    seen: Mutex<Vec<Seen>>,
    file: Option<File>,
    keep_headers: bool,
    live: AtomicU64,
    connections: AtomicU64,
    pub clock: Elapsed,
}

/// One request's place in the ledger.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    ledger: Arc<Ledger>,
    index: usize,
}

impl Ledger {
    pub fn new(file: Option<&Path>, keep_headers: bool) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("the oracle's file {}", path.display()))
        };
        Ok(Self {
            seen: Mutex::default(),
            file: file.map(open).transpose()?,
            keep_headers,
            live: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            clock: Elapsed::start(),
        })
    }

    /// Writes a request down.
    pub fn enter(self: &Arc<Self>, request: &Request<Incoming>) -> Entry {
        let mut ids = request.headers().get_all("x-request-id").iter();
        let request_id = match (ids.next(), ids.next()) {
            (Some(id), None) => id.to_str().ok().map(str::to_owned),
            _ => None,
        };
        let path = request.uri().to_string();
        let method = request.method().to_string();
        let without_body = request.body().is_end_stream();
        self.write_line(&json!({
            "request_id": request_id, "method": method, "path": path, "body": !without_body,
        }));
        let seen = Seen {
            at_us: self.clock.us(),
            request_id,
            method,
            path,
            headers: if self.keep_headers {
                request.headers().clone()
            } else {
                HeaderMap::new()
            },
            body: without_body.then(|| BodySeen {
                bytes: 0,
                sha256: hex(&Sha256::digest([])),
                complete: true,
                trailers: None,
            }),
        };
        let index = {
            let mut all = self.seen.lock();
            all.push(seen);
            all.len() - 1
        };
        Entry {
            ledger: Arc::clone(self),
            index,
        }
    }

    fn write_line(&self, line: &serde_json::Value) {
        let Some(mut file) = self.file.as_ref() else {
            return;
        };
        let line = format!("{line}\n");
        // One call, so that the line is whole in the file or not in it. A failure must not pass
        // for a request that never came.
        let written = file.write(line.as_bytes());
        assert_eq!(written.ok(), Some(line.len()), "the oracle's file");
    }

    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub fn since(&self, index: usize) -> Vec<Seen> {
        let all = self.seen.lock();
        all.get(index..).unwrap_or_default().to_vec()
    }

    pub fn last(&self) -> Option<Seen> {
        self.seen.lock().last().cloned()
    }

    pub fn count(&self) -> u64 {
        self.seen.lock().len() as u64
    }

    pub fn request_ids(&self) -> Vec<String> {
        let all = self.seen.lock();
        all.iter()
            .map(|seen| seen.request_id.clone().unwrap_or_default())
            .collect()
    }

    pub fn connected(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn live(&self) -> u64 {
        self.live.load(Ordering::SeqCst)
    }

    pub fn begin(&self) {
        self.live.fetch_add(1, Ordering::SeqCst);
    }

    pub fn end(&self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Entry {
    /// Writes down how the request's body ended.
    pub fn body_ended(
        &self,
        bytes: u64,
        sha256: &[u8],
        complete: bool,
        trailers: Option<HeaderMap>,
    ) {
        let body = BodySeen {
            bytes,
            sha256: hex(sha256),
            complete,
            trailers,
        };
        let mut all = self.ledger.seen.lock();
        let Some(seen) = all.get_mut(self.index) else {
            return;
        };
        if seen.body.is_none() {
            let line = json!({
                "request_id": seen.request_id, "bytes": bytes, "sha256": body.sha256,
                "complete": complete,
            });
            seen.body = Some(body);
            drop(all);
            self.ledger.write_line(&line);
        }
    }
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
