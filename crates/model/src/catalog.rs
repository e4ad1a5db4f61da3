//! All that gateways decide from, but for keys: one numbered, immutable value.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{
    Api, ApiId, ApiKey, KeyId, LimitId, LimitUse, Organization, OrganizationId, Plan, PlanId,
    RateLimit, Subscription, SubscriptionId,
};

/// Who may change a catalog object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Managed {
    /// The declarative file; the API refuses to change it.
    File,
    /// The API.
    Api,
}

/// The catalog of one number. References between its objects are checked before it is built.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Raised by one with every change, of keys too.
    pub version: u64,
    /// Offered services.
    pub apis: HashMap<ApiId, Arc<Api>>,
    /// Named limits.
    pub limits: HashMap<LimitId, Arc<RateLimit>>,
    /// Offers.
    pub plans: HashMap<PlanId, Arc<Plan>>,
    /// Customers.
    pub organizations: HashMap<OrganizationId, Arc<Organization>>,
    /// What they bought.
    pub subscriptions: HashMap<SubscriptionId, Arc<Subscription>>,
}

impl Catalog {
    /// The limit itself, whether named or written out. `None` only for a name that the catalog
    /// does not hold, which validation refuses.
    #[must_use]
    pub fn find_limit<'a>(&'a self, used: &'a LimitUse) -> Option<&'a RateLimit> {
        match used {
            LimitUse::Named(id) => self.limits.get(id).map(Arc::as_ref),
            LimitUse::Inline(limit) => Some(limit),
        }
    }

    /// The plan of a subscription.
    #[must_use]
    pub fn find_plan_of(&self, subscription: &Subscription) -> Option<&Arc<Plan>> {
        self.plans.get(&subscription.plan)
    }
}

/// One change of a key.
#[derive(Debug, Clone)]
pub enum KeyChange {
    /// Made or changed.
    Put(Arc<ApiKey>),
    /// Gone altogether (its subscription was removed).
    Remove(KeyId),
}

/// Numbered changes of keys.
#[derive(Debug, Clone)]
pub struct KeyDelta {
    /// Catalog number after these changes.
    pub version: u64,
    /// In order.
    pub changes: Vec<KeyChange>,
}

/// Where `control` publishes to; gateways implement it. When a call returns, decisions that start
/// afterwards are made by what was published (docs/rules.md, 20). Publications with a number not
/// above the one in force are ignored.
pub trait CatalogSink: Send + Sync {
    /// A new catalog.
    fn publish_catalog(&self, catalog: Arc<Catalog>);
    /// Changed keys. A key that may no longer be used ends its live exchanges.
    fn publish_keys(&self, delta: KeyDelta);
    /// Every key there is was put with this number: keys that neither it nor a later one has put
    /// are gone, and end their live exchanges. Changes with a lower number come too late from here
    /// on.
    fn forget_keys_before(&self, version: u64);
}
