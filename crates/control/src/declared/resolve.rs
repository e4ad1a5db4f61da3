//! Checks between objects, and the catalog built from objects that passed them.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_model::{Api, Catalog, LimitUse, RateLimit};
use tollgate_store::ObjectKind;

use super::object::{Object, ObjectKey};
use crate::document::{ProblemCode, Step, nearest};
use crate::entry::Entries;

/// Most ids that are searched for a similar one.
const SIMILAR_AMONG_MAX: usize = 1_000;

/// A field of an object that concerns another object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A subscription's organization.
    Organization,
    /// A subscription's plan.
    Plan,
    /// An API's plan for callers without a key.
    AnonymousPlan,
    /// The n-th API of a subscription.
    Api(usize),
    /// The n-th limit of a plan.
    Limit(usize),
    /// A limit of a route: the n-th of route m.
    RouteLimit(usize, usize),
    /// Where an API is reached.
    Prefix,
}

impl Place {
    /// The way to the field.
    #[must_use]
    pub fn steps(self) -> Vec<Step<'static>> {
        match self {
            Self::Organization => vec![Step::Name("organization")],
            Self::Plan => vec![Step::Name("plan")],
            Self::AnonymousPlan => vec![Step::Name("anonymous_plan")],
            Self::Api(n) => vec![Step::Name("apis"), Step::Index(n)],
            Self::Limit(n) => vec![Step::Name("limits"), Step::Index(n)],
            Self::RouteLimit(route, n) => vec![
                Step::Name("route"),
                Step::Index(route),
                Step::Name("limits"),
                Step::Index(n),
            ],
            Self::Prefix => vec![Step::Name("path_prefix")],
        }
    }
}

/// Something that two objects do not agree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The object at fault.
    pub object: ObjectKey,
    /// The object that it refers to, or that has what it wants.
    pub about: ObjectKey,
    /// The field.
    pub place: Place,
    /// What kind of problem it is.
    pub code: ProblemCode,
    /// In plain words.
    pub detail: String,
}

/// What an object refers to.
pub(crate) fn references(object: &Object) -> Vec<(Place, ObjectKey)> {
    let named = |limits: &[LimitUse], place: &dyn Fn(usize) -> Place| {
        let named = limits
            .iter()
            .enumerate()
            .filter_map(|(n, used)| match used {
                LimitUse::Named(id) => {
                    Some((place(n), ObjectKey::new(ObjectKind::Limit, id.as_str())))
                }
                LimitUse::Inline(_) => None,
            });
        named.collect::<Vec<_>>()
    };
    match object {
        Object::Limit(_) | Object::Organization(_) => Vec::new(),
        Object::Plan(plan) => named(&plan.limits, &Place::Limit),
        Object::Api(api) => {
            let plan = api.anonymous_plan.iter().map(|plan| {
                let key = ObjectKey::new(ObjectKind::Plan, plan.as_str());
                (Place::AnonymousPlan, key)
            });
            let routes = api.routes.iter().enumerate();
            let limits =
                routes.flat_map(|(m, route)| named(&route.limits, &|n| Place::RouteLimit(m, n)));
            plan.chain(limits).collect()
        }
        Object::Subscription(subscription) => {
            let organization = subscription.organization.as_str();
            let apis = subscription.apis.iter().enumerate();
            let apis = apis.map(|(n, api)| {
                let key = ObjectKey::new(ObjectKind::Api, api.as_str());
                (Place::Api(n), key)
            });
            let plan = ObjectKey::new(ObjectKind::Plan, subscription.plan.as_str());
            let organization = ObjectKey::new(ObjectKind::Organization, organization);
            [(Place::Organization, organization), (Place::Plan, plan)]
                .into_iter()
                .chain(apis)
                .collect()
        }
    }
}

/// Whether every reference leads somewhere and every API has an address of its own.
#[must_use]
pub fn check_references(entries: &Entries) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut addresses: HashMap<(Option<&str>, &str), &ObjectKey> = HashMap::new();
    for (key, entry) in entries {
        for (place, target) in references(&entry.object) {
            if !entries.contains_key(&target) {
                faults.push(Fault {
                    object: key.clone(),
                    place,
                    code: ProblemCode::Unresolved,
                    detail: unresolved(&target, entries),
                    about: target,
                });
            }
        }
        if let Object::Api(api) = &entry.object {
            let address = (api.host.as_deref(), api.path_prefix.as_str());
            if let Some(other) = addresses.insert(address, key) {
                faults.push(Fault {
                    object: key.clone(),
                    about: other.clone(),
                    place: Place::Prefix,
                    code: ProblemCode::Duplicate,
                    detail: taken_address(api, other, key),
                });
            }
        }
    }
    faults
}

fn unresolved(target: &ObjectKey, entries: &Entries) -> String {
    let same_kind = entries
        .range(ObjectKey::new(target.kind, "")..)
        .take_while(|(key, _)| key.kind == target.kind)
        .take(SIMILAR_AMONG_MAX);
    let similar = nearest(&target.id, same_kind.map(|(key, _)| &*key.id));
    match similar {
        Some(similar) => format!("there is no {target}; did you mean \"{similar}\"?"),
        None => format!("there is no {target}"),
    }
}

fn taken_address(api: &Api, one: &ObjectKey, other: &ObjectKey) -> String {
    let host = match &api.host {
        Some(host) => format!("host {host}"),
        None => "no host".to_owned(),
    };
    let prefix = &api.path_prefix;
    format!("{one} and {other} both have {host} and path_prefix {prefix}")
}

/// The catalog of checked objects.
#[must_use]
pub fn build_catalog(version: u64, entries: &Entries) -> Catalog {
    let mut catalog = Catalog {
        version,
        ..Catalog::default()
    };
    for entry in entries.values() {
        match &entry.object {
            Object::Api(api) => {
                catalog.apis.insert(api.id.clone(), Arc::clone(api));
            }
            Object::Limit(limit) => insert_limit(&mut catalog, limit),
            Object::Plan(plan) => {
                catalog.plans.insert(plan.id.clone(), Arc::clone(plan));
            }
            Object::Organization(organization) => {
                let id = organization.id.clone();
                catalog.organizations.insert(id, Arc::clone(organization));
            }
            Object::Subscription(subscription) => {
                let id = subscription.id.clone();
                catalog.subscriptions.insert(id, Arc::clone(subscription));
            }
        }
    }
    catalog
}

fn insert_limit(catalog: &mut Catalog, limit: &Arc<RateLimit>) {
    if let Some(id) = &limit.id {
        catalog.limits.insert(id.clone(), Arc::clone(limit));
    }
}
