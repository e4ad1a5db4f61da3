//! The catalog's objects. They cross the port as documents: `control` reads and writes them, the
//! store keeps them under one number.

use async_trait::async_trait;
use tollgate_model::{Managed, OrganizationId, Timestamp};

use crate::CallDone;
use crate::StoreResult;

/// The kind of a catalog object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// An API with its routes.
    Api,
    /// A named limit.
    Limit,
    /// A plan.
    Plan,
    /// An organization.
    Organization,
    /// A subscription.
    Subscription,
}

impl ObjectKind {
    /// Every kind, in an order in which references point backwards.
    pub const ALL: [Self; 5] = [
        Self::Limit,
        Self::Plan,
        Self::Api,
        Self::Organization,
        Self::Subscription,
    ];

    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Limit => "limit",
            Self::Plan => "plan",
            Self::Organization => "organization",
            Self::Subscription => "subscription",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One object as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its id, unique within its kind.
    pub id: String,
    /// Whose it is, where it belongs to an organization (row-level security goes by it).
    pub organization: Option<OrganizationId>,
    /// Its fields, as JSON that `control` reads and writes.
    pub document: String,
    /// Who may change it.
    pub managed: Managed,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// All objects under their number.
#[derive(Debug, Clone, Default)]
pub struct StoredCatalog {
    /// The catalog's number.
    pub version: u64,
    /// All objects, in no particular order.
    pub objects: Vec<CatalogObject>,
}

/// One change of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectChange {
    /// Made or replaced.
    Put(CatalogObject),
    /// Removed.
    Remove {
        /// What it was.
        kind: ObjectKind,
        /// Which.
        id: String,
    },
}

/// What was done, by whom; commits with the change itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a token's name, `file:catalog.toml`, `command line`.
    pub actor: String,
    /// Such as `key.create`, `plan.update`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// What changed, as JSON without secrets.
    pub detail: String,
}

/// What commits together with a change. Jobs and outgoing messages will join it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// What to write into the audit trail.
    pub audit: Vec<AuditEntry>,
    /// The call under an idempotency key that is done by this. When its claim is no longer its
    /// attempt's, the whole change is refused: `Conflict` about [`Entity::Call`](crate::Entity).
    pub call: Option<CallDone>,
}

/// Changes decided on one number of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogChange {
    /// The number they were decided on.
    pub expected_version: u64,
    /// In order.
    pub changes: Vec<ObjectChange>,
    /// What else commits.
    pub effects: Effects,
}

/// The catalog's objects.
#[async_trait]
pub trait CatalogStore: Send + Sync {
    /// All objects and their number, read together.
    async fn load_catalog(&self) -> StoreResult<StoredCatalog>;

    /// The number alone; cheap, for polling.
    async fn catalog_version(&self) -> StoreResult<u64>;

    /// Applies changes and raises the number by one; the answer is the new number.
    ///
    /// # Errors
    /// `Conflict` when the number is not `expected_version`; `NotFound` when a removal names
    /// nothing. Nothing is changed then.
    async fn commit_catalog(&self, change: CatalogChange) -> StoreResult<u64>;

    /// The latest audit rows, newest first.
    async fn list_audit(&self, limit: u32) -> StoreResult<Vec<AuditEntry>>;
}
