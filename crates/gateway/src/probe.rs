//! The way of a decision without a network, for measuring it (`tollgate bench admission`).
//!
//! **Owns** nothing of it: keys, catalog, compiled limits, counters and checkpoints are those of a
//! gateway that serves, found and used by the same code, call by call.
//!
//! **Does not own** what is measured, and how.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tollgate_admission::{Cost, Enforcement};
use tollgate_counters::{GrantLog, MemoryCounters, Reservation, ReserveError, SHARDS, Totals};
use tollgate_journal::{Journal, JournalError, Recovered};
use tollgate_model::{Clock, DenialCode, IdGen, KeyHash, Now, Pepper, StreamId, Timestamp};

use crate::admit::CompiledCache;
use crate::authenticate::{Directory, check_caller};
use crate::checkpoint;
use crate::handle::GatewayHandle;
use crate::in_force::CatalogHeld;
use crate::node::{Node, NodeParts};
use crate::options::Options;
use crate::recover::{Finished, restore};
use crate::routes::RouteMatch;

/// What all threads of a gateway share, without the threads.
pub struct Probe {
    node: Arc<Node>,
}

/// Why a call may not pass.
#[derive(Debug)]
pub enum NotDecided {
    /// The caller is refused.
    Refused(DenialCode),
    /// A limit refuses, or marks could not be written down.
    Limited(ReserveError),
}

/// What one thread of a gateway keeps of its own.
pub struct Lane {
    node: Arc<Node>,
    catalog: CatalogHeld,
    route: RouteMatch,
    compiled: CompiledCache,
}

impl Probe {
    /// A gateway of so many threads, with the counters that a journal tells of, if there is one.
    #[must_use]
    pub fn new(
        pepper: Pepper,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGen>,
        threads: u16,
        recovered: Option<&Recovered>,
    ) -> Self {
        let counters = MemoryCounters::new();
        let lost_at = recovered.and_then(|found| {
            let stream = StreamId {
                node: found.node.clone(),
                epoch: found.epoch,
                thread: 0,
            };
            restore(&counters, found, &Finished::default(), &stream, clock.now())
        });
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let node = Node::new(NodeParts {
            options: Options::new(listen, Path::new("")),
            clock,
            ids,
            pepper,
            counters,
            threads,
            lost_at,
            latest_wall: recovered.map_or(Timestamp(0), |found| found.last_wall),
        });
        Self {
            node: Arc::new(node),
        }
    }

    /// For publishing the catalog and keys.
    #[must_use]
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle::new(Arc::clone(&self.node))
    }

    /// The stored form of a presented secret.
    #[must_use]
    pub fn hash(&self, secret: &[u8]) -> KeyHash {
        self.node.pepper.hash(secret)
    }

    /// How much is counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.node.counters.totals()
    }

    /// Writes a checkpoint of all counters.
    ///
    /// # Errors
    /// When the journal's folder cannot be written.
    pub fn write_checkpoint(&self, journal: &Journal) -> Result<(), JournalError> {
        checkpoint::write(&self.node, journal)
    }

    /// The longest time that a shard of the counters is locked for its copy, by the caller's
    /// clock.
    #[must_use]
    pub fn longest_copy_ns(&self, clock_ns: impl Fn() -> u64) -> u64 {
        let now = self.node.clock.now();
        let mut positions = || self.node.positions();
        let copies = (0..SHARDS).map(|shard| {
            let began = clock_ns();
            drop(
                self.node
                    .counters
                    .snapshot_shard(shard, now, &mut positions),
            );
            clock_ns().saturating_sub(began)
        });
        copies.max().unwrap_or(0)
    }

    /// A thread whose requests all have this path; `None` where the catalog has no such route.
    #[must_use]
    pub fn lane(&self, path: &str) -> Option<Lane> {
        let catalog = self.node.catalog.load();
        let api = catalog.routes.find_api("", path)?;
        Some(Lane {
            node: Arc::clone(&self.node),
            catalog: CatalogHeld::new(&self.node),
            route: api.find_route(path, "GET").ok()?,
            compiled: CompiledCache::default(),
        })
    }
}

impl Lane {
    /// Finds the key, its subscription and plan, and whether anything speaks against them; then
    /// takes units on every counter of the caller, or refuses.
    ///
    /// # Errors
    /// Why the call may not pass.
    pub fn decide(
        &mut self,
        hash: &KeyHash,
        now: Now,
        grants: &mut dyn GrantLog,
    ) -> Result<Reservation, NotDecided> {
        let catalog = self.catalog.get(&self.node);
        let directory = Directory {
            catalog: &catalog.catalog,
            payers: &catalog.payers,
            keys: &self.node.keys,
            pepper: &self.node.pepper,
        };
        let caller = directory
            .recognise_hash(hash, now.wall)
            .map_err(|(code, _)| NotDecided::Refused(code))?;
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if let Some(code) = check_caller(&caller, &self.route, address) {
            return Err(NotDecided::Refused(code));
        }
        let periods = &self.node.periods;
        let compiled = self
            .compiled
            .get(&catalog.catalog, &caller, &self.route, now, periods);
        let limits = compiled.at(now, None);
        let cost = Cost::of(self.route.route()).reserved();
        let counters = &self.node.counters;
        counters
            .reserve(&limits, cost, now, Enforcement::Enforce, grants)
            .map_err(NotDecided::Limited)
    }

    /// Ends a request that kept so many units.
    pub fn settle(
        &self,
        reservation: Reservation,
        kept: u64,
        assign: &mut dyn FnMut(&[tollgate_model::Charge]),
    ) {
        self.node.counters.settle(reservation, kept, kept, assign);
    }
}
