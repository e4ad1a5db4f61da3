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
