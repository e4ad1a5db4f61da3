//! The usage event: one per request, refused ones too.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{
    ApiId, DenialCode, KeyId, NodeId, OrganizationId, PlanId, RequestId, SubscriptionId, Timestamp,
};

/// One thread's journal in one life of one gateway. Identities inside it never repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    /// The gateway.
    pub node: NodeId,
    /// Raised at every start.
    pub epoch: u64,
    /// The gateway's thread.
    pub thread: u16,
}

/// Position of an entry in its stream, from 0, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Sequence(pub u64);

/// The id of an event: minted by a gateway of ours, or given by an outside producer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum EventId {
    /// The request's id.
    Request(RequestId),
    /// A producer's own.
    Outside(Arc<str>),
}

impl EventId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Request(id) => id.as_str(),
            Self::Outside(id) => id,
        }
    }

    /// Reads the stored text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        RequestId::parse(text).map_or_else(|| Self::Outside(Arc::from(text)), Self::Request)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The upstream answered and the answer was passed on.
    Forwarded,
    /// Refused at the gate.
    Denied,
    /// The upstream could not be reached, broke off, or was too slow.
    UpstreamError,
    /// The client left before the end.
    ClientClosed,
    /// We ended it: the key was revoked, or the gateway had to stop.
    Cut,
    /// The gateway died; written at the next start from the last progress entry.
    Interrupted,
    /// A reservation that was never settled.
    Lapsed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Forwarded,
        Self::Denied,
        Self::UpstreamError,
        Self::ClientClosed,
        Self::Cut,
        Self::Interrupted,
        Self::Lapsed,
    ];

    /// As it stands in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Denied => "denied",
            Self::UpstreamError => "upstream_error",
            Self::ClientClosed => "client_closed",
            Self::Cut => "cut",
            Self::Interrupted => "interrupted",
            Self::Lapsed => "lapsed",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// A dimension of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// Its name.
    pub name: Arc<str>,
    /// Its value.
    pub value: Arc<str>,
}

/// One counted fact. Made once, at the end of its request; final from then on.
///
/// Fields that refer to the catalog hold what was in force at the moment of admission.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageEvent {
    /// Identity within organization and producer; never contains the time.
    pub id: EventId,
    /// The moment of admission: decides bucket and period.
    pub at: Timestamp,
    /// Who called, where a key was recognised.
    pub key: Option<KeyId>,
    /// The key's family (equals `key` until it is rotated).
    pub key_family: Option<KeyId>,
    /// Whose quota was charged.
    pub subscription: Option<SubscriptionId>,
    /// The customer.
    pub organization: Option<OrganizationId>,
    /// What was called.
    pub api: ApiId,
    /// Template of the route, or `<prefix>/*`.
    pub route: Arc<str>,
    /// Method as sent.
    pub method: Arc<str>,
    /// Path without the query, at most 1 024 bytes.
    pub path: Arc<str>,
    /// Status that the client was sent (499 when it left before the head).
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was refused, or why the upstream failed.
    pub code: Option<DenialCode>,
    /// Name of the limit that decided a refusal, such as `minute-subscription`.
    pub limit: Option<Arc<str>>,
    /// Parsed head to last body byte, in microseconds.
    pub latency_us: u64,
    /// To the head of the upstream's response, in microseconds.
    pub upstream_latency_us: Option<u64>,
    /// Body or tunnel bytes from the client, no framing.
    pub bytes_in: u64,
    /// Body or tunnel bytes to the client, no framing.
    pub bytes_out: u64,
    /// Who asked, after trusted proxies.
    pub address: Option<IpAddr>,
    /// ISO 3166 code, where known.
    pub country: Option<[u8; 2]>,
    /// As sent, at most 256 bytes.
    pub user_agent: Option<Arc<str>>,
    /// What the quota was charged.
    pub units: u64,
    /// What is counted; `requests`.
    pub meter: Arc<str>,
    /// Own dimensions, at most 16, by name.
    pub labels: Vec<Label>,
    /// The plan in force.
    pub plan: Option<PlanId>,
    /// Its version.
    pub plan_version: Option<u32>,
    /// The limit that would have refused, where limits are observed only.
    pub would_deny: Option<Arc<str>>,
    /// Whether an emergency override was in force.
    pub overridden: bool,
    /// A test key's call: counted, left out of statistics.
    pub test: bool,
    /// Who produced the event; empty: a gateway of ours.
    pub producer: Arc<str>,
    /// W3C trace id, where the request carried one.
    pub trace_id: Option<Arc<str>>,
    /// The client's own `X-Request-Id`.
    pub client_request_id: Option<Arc<str>>,
    /// How many like requests this record stands for; 1, but for summaries of refused floods.
    pub count: u32,
    /// Catalog number in force.
    pub catalog_version: u64,
    /// Start of the subscription's quota period that holds `at`, where there is a quota.
    pub subscription_period: Option<Timestamp>,
    /// Start of the key's own quota period that holds `at`, where it has a quota.
    pub key_period: Option<Timestamp>,
}
