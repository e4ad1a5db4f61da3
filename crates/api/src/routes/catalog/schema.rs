//! How catalog objects look, for the OpenAPI document. `control` reads and writes them; these
//! types only describe, and a test holds them against what it shows.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::routes::keys::usage::Usage;

/// An API: where it runs, what belongs to it, and how its calls are treated.
#[derive(Serialize, ToSchema)]
pub struct ApiObject {
    /// `[a-z0-9][a-z0-9-]{0,62}`; made when not given.
    #[schema(required = false, example = "widgets")]
    pub id: String,
    /// Scheme, host and port of its servers.
    #[schema(example = json!(["http://127.0.0.1:9001"]))]
    pub upstreams: Vec<String>,
    /// Requests whose path is this or below it belong to the API.
    #[schema(required = false, example = "/v1")]
    pub path_prefix: String,
    /// Requests for this host only; a host beats none.
    pub host: Option<String>,
    /// What its keys begin with.
    #[schema(required = false, example = "hm")]
    pub key_prefix: String,
    /// The plan of callers without a key.
    pub anonymous_plan: Option<String>,
    /// Answers that are charged.
    #[schema(required = false, example = json!(["2xx", "3xx", "4xx"]))]
    pub charge: Vec<String>,
    /// `refuse` or `declare_loss`.
    #[schema(required = false)]
    pub on_journal_full: String,
    /// `lease_only`, `closed` or `{"open": 100}`.
    #[schema(required = false, value_type = Object)]
    pub on_counters_lost: Value,
    /// `serve` or `refuse`.
    #[schema(required = false)]
    pub on_stale_catalog: String,
    /// Silence after which the catalog is stale.
    pub stale_after: Option<String>,
    /// `enforce` or `observe`.
    #[schema(required = false)]
    pub mode: String,
    /// `refuse` or `pass`.
    #[schema(required = false)]
    pub encoded_slash: String,
    /// `pass` or `refuse`.
    #[schema(required = false)]
    pub unlisted: String,
    /// Send the client's `Host` to the upstream.
    #[schema(required = false)]
    pub preserve_host: bool,
    /// Longest request body.
    pub body_bytes_max: Option<u64>,
    /// Longest wait for a connection to the upstream.
    #[schema(required = false, example = "2s")]
    pub connect_timeout: String,
    /// Longest wait for the head of the upstream's response.
    #[schema(required = false, example = "30s")]
    pub response_timeout: String,
    /// Its routes.
    #[schema(required = false, value_type = Vec<Object>)]
    pub route: Vec<Value>,
    /// Who may change it: `file` or `api`.
    #[schema(read_only)]
    pub managed: String,
    /// When it was made.
    #[schema(read_only)]
    pub created_at: String,
    /// When it was last changed.
    #[schema(read_only)]
    pub updated_at: String,
}

/// A plan: limits, quota, scopes, price.
#[derive(Serialize, ToSchema)]
pub struct PlanObject {
    /// `[a-z0-9][a-z0-9-]{0,62}`; made when not given.
    #[schema(required = false, example = "starter")]
    pub id: String,
    /// What people see.
    #[schema(required = false)]
    pub name: String,
    /// Raised with every change.
    #[schema(read_only)]
    pub version: u32,
    /// What a period costs.
    #[schema(value_type = Option<Object>, example = json!({"amount": "9", "currency": "USD", "every": "month"}))]
    pub price: Option<Value>,
    /// The allowance of a period.
    #[schema(value_type = Option<Object>, example = json!({"units": 1000, "every": "month", "on_exceeded": "block"}))]
    pub quota: Option<Value>,
    /// What is charged beyond the quota.
    #[schema(value_type = Option<Object>)]
    pub overage: Option<Value>,
    /// `calendar` or `anniversary`.
    #[schema(required = false)]
    pub period: String,
    /// Rate limits: names, or limits written out.
    #[schema(required = false, value_type = Vec<Object>, example = json!([{"max": 30, "per": "minute"}]))]
    pub limits: Vec<Value>,
    /// Scopes that keys may have; `null`: any.
    pub scopes: Option<Vec<String>>,
    /// Live keys of one subscription at most.
    pub keys_max: Option<u32>,
    /// Who may change it: `file` or `api`.
    #[schema(read_only)]
    pub managed: String,
    /// When it was made.
    #[schema(read_only)]
    pub created_at: String,
    /// When it was last changed.
    #[schema(read_only)]
    pub updated_at: String,
}

/// A named limit.
#[derive(Serialize, ToSchema)]
pub struct LimitObject {
    /// `[a-z0-9][a-z0-9-]{0,62}`; made when not given.
    #[schema(required = false, example = "strict")]
    pub id: String,
    /// Units in any span of the window.
    #[schema(example = 10)]
    pub max: u32,
    /// `second`, `minute`, `hour`, `day`.
    #[schema(example = "minute")]
    pub per: String,
    /// `subscription`, `key`, `organization`, `api`, `route`, `address`.
    pub by: Option<String>,
    /// Counted, never refused.
    #[schema(required = false)]
    pub shadow: bool,
    /// Who may change it: `file` or `api`.
    #[schema(read_only)]
    pub managed: String,
    /// When it was made.
    #[schema(read_only)]
    pub created_at: String,
    /// When it was last changed.
    #[schema(read_only)]
    pub updated_at: String,
}

/// A customer.
#[derive(Serialize, ToSchema)]
pub struct OrganizationObject {
    /// `[a-z0-9][a-z0-9-]{0,62}`; made when not given.
    #[schema(required = false, example = "acme")]
    pub id: String,
    /// What people see.
    #[schema(required = false)]
    pub name: String,
    /// Who may change it: `file` or `api`.
    #[schema(read_only)]
    pub managed: String,
    /// When it was made.
    #[schema(read_only)]
    pub created_at: String,
    /// When it was last changed.
    #[schema(read_only)]
    pub updated_at: String,
}

/// What an organization bought: one quota over all its APIs and keys.
#[derive(Serialize, ToSchema)]
pub struct SubscriptionObject {
    /// `[a-z0-9][a-z0-9-]{0,62}`; made when not given.
    #[schema(required = false, example = "acme-widgets")]
    pub id: String,
    /// Who bought it.
    #[schema(example = "acme")]
    pub organization: String,
    /// What it may call.
    #[schema(example = json!(["widgets"]))]
    pub apis: Vec<String>,
    /// What it bought (`tier`).
    #[schema(example = "free")]
    pub plan: String,
    /// Its days, weeks and months are civil time here.
    #[schema(required = false, example = "Europe/Berlin")]
    pub time_zone: String,
    /// Anchor of anniversary periods.
    #[schema(required = false)]
    pub started_on: String,
    /// `trialing`, `active`, `past_due`, `suspended`, `cancelled`.
    #[schema(required = false)]
    pub state: String,
    /// Units used.
    #[schema(read_only)]
    pub usage: Usage,
    /// Who may change it: `file` or `api`.
    #[schema(read_only)]
    pub managed: String,
    /// When it was made.
    #[schema(read_only)]
    pub created_at: String,
    /// When it was last changed.
    #[schema(read_only)]
    pub updated_at: String,
}
