//! The nouns of Tollgate: what every other crate speaks in.
//!
//! **Owns** ids, time and periods, units and money, keys and their hashes, the catalog
//! (APIs, routes, limits, plans, organizations, subscriptions), the usage event and what is
//! folded from it, and the traits [`Clock`], [`IdGen`], [`Decisions`] and [`CatalogSink`] by
//! which rooms meet without naming each other.
//!
//! **Invariants.** Nothing here waits, reads a clock, draws a random number or knows a wire
//! format; all spans are half-open; money and usage are integers or decimals, never floats.
//!
//! **Does not own** decisions (`admission`), counting (`counters`), storage (`store`), or how
//! any of it looks as JSON or TOML (`control`, `api`).

mod api;
mod catalog;
mod clock;
mod counter;
mod decisions;
mod denial;
mod event;
mod id;
mod key;
mod limit;
mod money;
mod period;
mod plan;
mod sketch;
mod subscription;
mod time;
mod token;
mod totals;
mod usage;

pub use api::{
    Api, CountersLost, EncodedSlash, JournalFull, Mode, Route, RouteTemplate, Segment,
    StaleCatalog, StatusSet, TemplateError, Unlisted, Upstream,
};
pub use catalog::{Catalog, CatalogSink, KeyChange, KeyDelta, Managed};
pub use clock::{Clock, IdGen, Now};
pub use counter::{
    Charge, CounterId, CounterKind, CounterScope, CounterState, Mark, ShardSnapshot,
};
pub use decisions::{CheckAnswer, CheckRequest, Decisions, LimitReading};
pub use denial::DenialCode;
pub use event::{EventId, Label, Outcome, Sequence, StreamId, UsageEvent};
pub use id::{
    ApiId, IdError, KeyId, LimitId, NodeId, OrganizationId, PlanId, RequestId, SubscriptionId,
    TokenId, base32_u128, check_catalog_id,
};
pub use key::{ApiKey, KeyHash, KeySecret, KeyState, Pepper, SecretError};
pub use limit::{By, Every, LimitUse, OnExceeded, Per, Quota, RateLimit};
pub use money::{Currency, MoneyError, OveragePrice, PlanPrice};
pub use period::{Period, PeriodBasis, PeriodError, period_at};
pub use plan::Plan;
pub use sketch::{HISTOGRAM_EDGES_MS, LatencySketch};
pub use subscription::{Organization, Subscription, SubscriptionState};
pub use time::{Ticks, TimeError, Timestamp, parse_duration_us};
pub use token::{AccessToken, TokenHash};
pub use totals::OutcomeTotals;
pub use usage::{BucketKey, Counts, Family, Grain, UsageBucket};
