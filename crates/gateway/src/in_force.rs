//! The catalog in force as one thread holds it: asked for by every request without touching
//! anything that other threads write, and shared among the thread's own requests.
//!
//! **Invariant.** Whoever asks after a catalog was published gets that one or a later one.
//!
//! **Does not own** publishing ([`Node::publish`]).

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use crate::node::{Compiled, Node};

/// A catalog that one thread decides by, kept by all requests that began under it.
#[derive(Debug)]
pub(crate) struct InForce(Arc<Compiled>);

impl Deref for InForce {
    type Target = Compiled;

    fn deref(&self) -> &Compiled {
        &self.0
    }
}

/// What one thread holds.
pub(crate) struct CatalogHeld {
    /// Catalogs published when it was taken, at least.
    published: u64,
    catalog: Rc<InForce>,
}

impl CatalogHeld {
    pub(crate) fn new(node: &Node) -> Self {
        // Counted first: a catalog that is published in between is asked for again.
        let published = node.published();
        let catalog = Rc::new(InForce(node.catalog.load_full()));
        Self { published, catalog }
    }

    /// The catalog to decide by now.
    #[inline]
    pub(crate) fn get(&mut self, node: &Node) -> &Rc<InForce> {
        if self.published != node.published() {
            *self = Self::new(node);
        }
        &self.catalog
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::path::Path;

    use tollgate_counters::MemoryCounters;
    use tollgate_model::{Catalog, Clock, IdGen, Now, Pepper, Timestamp};

    use super::*;
    use crate::node::NodeParts;
    use crate::options::Options;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Now {
            Now::default()
        }
    }

    impl IdGen for Still {
        fn uuid(&self, _at: Timestamp) -> u128 {
            7
        }
        fn fill(&self, secret: &mut [u8]) {
            secret.fill(7);
        }
    }

    #[test]
    fn a_published_catalog_is_held_from_the_next_question_on_and_the_one_before_let_go() {
        let node = Node::new(NodeParts {
            options: Options::new(
                SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                Path::new("nowhere"),
            ),
            clock: Arc::new(Still),
            ids: Arc::new(Still),
            pepper: Pepper::new(vec![7; 32]),
            counters: MemoryCounters::new(),
            threads: 1,
            lost_at: None,
            latest_wall: Timestamp(0),
        });
        let publish = |version| {
            let catalog = Arc::new(Catalog {
                version,
                ..Catalog::default()
            });
            let weak = Arc::downgrade(&catalog);
            node.publish(catalog);
            weak
        };
        let before = publish(1);
        let mut held = CatalogHeld::new(&node);
        let request = Rc::clone(held.get(&node));
        assert_eq!(request.catalog.version, 1);
        publish(2);
        assert_eq!(held.get(&node).catalog.version, 2);
        // A request decides by the catalog that it began under.
        assert_eq!(request.catalog.version, 1);
        assert!(before.upgrade().is_some());
        drop(request);
        assert!(before.upgrade().is_none());
    }
}
