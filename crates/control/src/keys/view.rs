//! A key as callers see it.

use serde_json::{Value as Json, json};
use tollgate_model::{ApiKey, Catalog, OrganizationId, PlanId, Timestamp};
use tollgate_store::VersionedKey;

use super::fields::fields_json;

/// A key with what the catalog says about its owner. Never has the secret or its hash in its JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// The key.
    pub key: ApiKey,
    /// The plan in force.
    pub plan: Option<PlanId>,
    /// Whose it is.
    pub organization: Option<OrganizationId>,
    /// When a request with it was last recorded.
    pub last_used_at: Option<Timestamp>,
}

impl KeyView {
    pub(super) fn new(row: VersionedKey, catalog: &Catalog) -> Self {
        let subscription = catalog.subscriptions.get(&row.key.subscription);
        Self {
            plan: subscription.map(|subscription| subscription.plan.clone()),
            organization: subscription.map(|subscription| subscription.organization.clone()),
            last_used_at: row.last_used_at,
            key: row.key,
        }
    }

    /// Every field but usage.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let key = &self.key;
        let mut document = fields_json(key);
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let more = json!({
            "id": key.id.as_str(),
            "prefix": key.prefix,
            "last4": key.last4,
            "subscription_id": key.subscription.as_str(),
            "organization_id": self.organization.as_ref().map(OrganizationId::as_str),
            "plan": self.plan.as_ref().map(PlanId::as_str),
            "state": key.state.as_str(),
            "test": key.test,
            "created_at": key.created_at.to_string(),
            "last_used_at": time(self.last_used_at),
            "revoked_at": time(key.revoked_at),
        });
        if let (Json::Object(fields), Json::Object(more)) = (&mut document, more) {
            fields.extend(more);
        }
        document
    }
}
