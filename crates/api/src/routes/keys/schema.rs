//! How keys look, for the OpenAPI document; a test holds it against what is shown.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::usage::Usage;

/// An API key, without its secret.
#[derive(Serialize, ToSchema)]
pub struct Key {
    /// Its id (not the secret).
    pub id: String,
    /// Whose key it is.
    pub subscription_id: String,
    /// The customer.
    pub organization_id: Option<String>,
    /// The plan in force.
    pub plan: Option<String>,
    /// What people call it.
    pub name: String,
    /// `active`, `disabled`, `revoked` or `expired`.
    pub state: String,
    /// For recognition: what stands before the random part.
    pub prefix: String,
    /// For recognition: its last four characters.
    pub last4: String,
    /// Test keys count and are limited like others, and are left out of statistics.
    pub test: bool,
    /// What it may do; `null`: all that the plan allows.
    pub scopes: Option<Vec<String>>,
    /// Networks that it may be used from; empty: anywhere.
    pub allowed_addresses: Vec<String>,
    /// Its own limits, in addition to the plan's.
    #[schema(value_type = Vec<Object>)]
    pub limits: Vec<Value>,
    /// Its own quota, in addition to the subscription's.
    #[schema(value_type = Option<Object>)]
    pub quota: Option<Value>,
    /// The caller's own name for it.
    pub external_id: Option<String>,
    /// The caller's own notes.
    #[schema(value_type = Object)]
    pub metadata: Value,
    /// When it was made.
    pub created_at: String,
    /// When a request with it was last recorded.
    pub last_used_at: Option<String>,
    /// From when on it is refused.
    pub expires_at: Option<String>,
    /// When it was taken back.
    pub revoked_at: Option<String>,
    /// Units used.
    pub usage: Usage,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
pub struct CreatedKey {
    /// The secret: shown here and never again.
    #[schema(example = "hm_3vQ8…")]
    pub key: String,
    /// The rest.
    #[serde(flatten)]
    pub fields: Key,
}

/// What makes a key.
#[derive(Serialize, ToSchema)]
pub struct NewKey {
    /// Whose key it is (or `userId`: the only subscription of an organization).
    #[schema(required = false, example = "acme-widgets")]
    pub subscription_id: String,
    /// What people call it.
    #[schema(example = "production")]
    pub name: String,
    /// What it may do; left out: all that the plan allows.
    pub scopes: Option<Vec<String>>,
    /// From when on it is refused.
    pub expires_at: Option<String>,
    /// Networks that it may be used from, such as `10.0.0.0/8`.
    pub allowed_addresses: Option<Vec<String>>,
    /// Its own limits, in addition to the plan's.
    #[schema(value_type = Option<Vec<Object>>)]
    pub limits: Option<Vec<Value>>,
    /// Its own quota, in addition to the subscription's.
    #[schema(value_type = Option<Object>)]
    pub quota: Option<Value>,
    /// A test key.
    pub test: Option<bool>,
    /// The caller's own name for it.
    pub external_id: Option<String>,
    /// The caller's own notes.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
}

/// What of a key can be changed.
#[derive(Serialize, ToSchema)]
pub struct KeyPatch {
    /// What people call it.
    pub name: Option<String>,
    /// `active` or `disabled`.
    pub state: Option<String>,
    /// What it may do.
    pub scopes: Option<Vec<String>>,
    /// From when on it is refused.
    pub expires_at: Option<String>,
    /// Networks that it may be used from.
    pub allowed_addresses: Option<Vec<String>>,
    /// Its own limits.
    #[schema(value_type = Option<Vec<Object>>)]
    pub limits: Option<Vec<Value>>,
    /// Its own quota.
    #[schema(value_type = Option<Object>)]
    pub quota: Option<Value>,
    /// The caller's own name for it.
    pub external_id: Option<String>,
    /// The caller's own notes; merged too.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
}
