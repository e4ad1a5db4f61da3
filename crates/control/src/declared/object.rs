//! One catalog object of any kind, and what a declaration leaves open.

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;
use tollgate_model::{Api, Organization, OrganizationId, Plan, RateLimit, Subscription, Timestamp};
use tollgate_store::ObjectKind;

use super::customer::{self, SubscriptionDraft};
use super::{api, limit, plan};
use crate::document::{Field, Table};

/// Names an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// What it is.
    pub kind: ObjectKind,
    /// Its id, unique within its kind.
    pub id: Arc<str>,
}

impl ObjectKey {
    /// Names an object.
    #[must_use]
    pub fn new(kind: ObjectKind, id: &str) -> Self {
        Self {
            kind,
            id: Arc::from(id),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind.as_str(), self.id)
    }
}

/// A catalog object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// An API with its routes.
    Api(Arc<Api>),
    /// A named limit.
    Limit(Arc<RateLimit>),
    /// A plan.
    Plan(Arc<Plan>),
    /// An organization.
    Organization(Arc<Organization>),
    /// A subscription.
    Subscription(Arc<Subscription>),
}

impl Object {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Api(_) => ObjectKind::Api,
            Self::Limit(_) => ObjectKind::Limit,
            Self::Plan(_) => ObjectKind::Plan,
            Self::Organization(_) => ObjectKind::Organization,
            Self::Subscription(_) => ObjectKind::Subscription,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Api(api) => api.id.as_str(),
            Self::Limit(limit) => limit.id.as_ref().map_or("", |id| id.as_str()),
            Self::Plan(plan) => plan.id.as_str(),
            Self::Organization(organization) => organization.id.as_str(),
            Self::Subscription(subscription) => subscription.id.as_str(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.kind(), self.id())
    }

    /// Whose it is, where it belongs to an organization.
    #[must_use]
    pub fn organization(&self) -> Option<OrganizationId> {
        match self {
            Self::Organization(organization) => Some(organization.id.clone()),
            Self::Subscription(subscription) => Some(subscription.organization.clone()),
            _ => None,
        }
    }

    /// Every field as JSON: the stored form and the API's. Fields that are not set are null.
    #[must_use]
    pub fn to_document(&self) -> Json {
        match self {
            Self::Api(api) => api::document(api),
            Self::Limit(limit) => limit::document(limit),
            Self::Plan(plan) => plan::document(plan),
            Self::Organization(organization) => customer::organization_document(organization),
            Self::Subscription(subscription) => customer::subscription_document(subscription),
        }
    }
}

/// Where a declaration comes from: which of an object's fields it may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The declarative file: never a state.
    File,
    /// A request that names the object itself.
    Named,
    /// A request about an object whose id Tollgate knows already.
    Known,
    /// The store: fields that Tollgate keeps itself are there too.
    Stored,
}

impl Source {
    /// Whether the id was chosen by a person and must follow the pattern.
    pub(super) fn checks_ids(self) -> bool {
        matches!(self, Self::File | Self::Named)
    }
}

/// An object as declared: what it leaves open is completed from the object that it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Draft {
    /// An API.
    Api(Api),
    /// A named limit.
    Limit(RateLimit),
    /// A plan whose version is not yet known (0), unless it comes from the store.
    Plan(Plan),
    /// An organization.
    Organization(Organization),
    /// A subscription.
    Subscription(SubscriptionDraft),
}

impl Draft {
    /// The whole object. A plan's version is raised when anything in it changes; a subscription's
    /// state, day of creation and anchor stay unless they were given.
    #[must_use]
    pub fn complete(self, previous: Option<&Object>, now: Timestamp) -> Object {
        match self {
            Self::Api(api) => Object::Api(Arc::new(api)),
            Self::Limit(limit) => Object::Limit(Arc::new(limit)),
            Self::Organization(organization) => Object::Organization(Arc::new(organization)),
            Self::Plan(draft) => {
                let previous = match previous {
                    Some(Object::Plan(plan)) => Some(plan.as_ref()),
                    _ => None,
                };
                Object::Plan(Arc::new(plan::complete(draft, previous)))
            }
            Self::Subscription(draft) => {
                let previous = match previous {
                    Some(Object::Subscription(subscription)) => Some(subscription.as_ref()),
                    _ => None,
                };
                Object::Subscription(Arc::new(draft.complete(previous, now)))
            }
        }
    }
}

/// Reads the table of one object.
pub(crate) fn read_object(field: Field<'_>, kind: ObjectKind, source: Source) -> Option<Draft> {
    let read = |table: &Table<'_>| match kind {
        ObjectKind::Api => api::read(table, source).map(Draft::Api),
        ObjectKind::Limit => limit::read(table, source).map(Draft::Limit),
        ObjectKind::Plan => plan::read(table, source).map(Draft::Plan),
        ObjectKind::Organization => {
            customer::read_organization(table, source).map(Draft::Organization)
        }
        ObjectKind::Subscription => {
            customer::read_subscription(table, source).map(Draft::Subscription)
        }
    };
    field.table(read)
}

/// The object's id. `declare` checks the pattern, `keep` does not.
pub(super) fn read_id<T, E: fmt::Display>(
    table: &Table<'_>,
    source: Source,
    declare: impl FnOnce(&str) -> Result<T, E>,
    keep: impl FnOnce(&str) -> T,
) -> Option<T> {
    let field = table.required("id")?;
    if source.checks_ids() {
        field.parse(declare)
    } else {
        field.short_text(200).map(keep)
    }
}

/// A name for people; by default the id.
pub(super) fn read_name(table: &Table<'_>, id: Option<&str>) -> Option<String> {
    match table.optional("name") {
        Some(field) => field.short_text(200).map(str::to_owned),
        None => id.map(str::to_owned),
    }
}
