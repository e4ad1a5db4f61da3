//! Usage: records, buckets, units by period, and how far each gateway's journal was taken in.

use std::sync::Arc;

use async_trait::async_trait;
use tollgate_model::{
    ApiId, EventId, Family, Grain, KeyId, NodeId, OrganizationId, Outcome, OutcomeTotals, PlanId,
    Sequence, StreamId, SubscriptionId, Timestamp, UsageBucket, UsageEvent,
};

use crate::{Page, StoreResult};

/// An event and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestedEvent {
    /// Its place in the gateway's journal.
    pub sequence: Sequence,
    /// The event.
    pub event: UsageEvent,
}

/// A range of one journal stream, folded. Events lie in rising order inside `first..next`;
/// entries of the journal that are no events (grants, progress) leave gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestBatch {
    /// Whose journal.
    pub stream: StreamId,
    /// First sequence of the range: must equal the stream's high-water mark.
    pub first: Sequence,
    /// One beyond the range: the new high-water mark.
    pub next: Sequence,
    /// The events inside.
    pub events: Vec<IngestedEvent>,
    /// What the events add to buckets: each key at most once.
    pub buckets: Vec<UsageBucket>,
    /// What the events add to periods: each scope and start at most once.
    pub periods: Vec<PeriodUnits>,
    /// When the platform took it in.
    pub received_at: Timestamp,
}

/// How far a stream was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HighWaterMark {
    /// Whose journal.
    pub stream: StreamId,
    /// First sequence not yet taken in.
    pub next: Sequence,
    /// Totals of all events taken in from the stream, for reconciling.
    pub totals: OutcomeTotals,
}

/// Whose quota a period belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeriodScope {
    /// A subscription's.
    Subscription(SubscriptionId),
    /// A key family's own.
    Key(KeyId),
}

/// Units of a quota's period (the `period` bucket).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeriodUnits {
    /// Whose.
    pub scope: PeriodScope,
    /// The period's start.
    pub start: Timestamp,
    /// Σ units.
    pub units: u64,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageRecord {
    /// The event itself.
    pub event: UsageEvent,
    /// When the platform took it in.
    pub received_at: Timestamp,
    /// Which gateway wrote it.
    pub node: Option<NodeId>,
}

/// How records are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordOrder {
    /// Newest first.
    #[default]
    NewestFirst,
    /// Oldest first.
    OldestFirst,
}

/// Which records. All conditions must hold; the span is half-open.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordQuery {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant outside.
    pub to: Timestamp,
    /// By id, which is the request's id for events of ours.
    pub id: Option<EventId>,
    /// By key.
    pub key: Option<KeyId>,
    /// By subscription.
    pub subscription: Option<SubscriptionId>,
    /// By organization.
    pub organization: Option<OrganizationId>,
    /// By API.
    pub api: Option<ApiId>,
    /// By route template.
    pub route: Option<String>,
    /// By plan in force.
    pub plan: Option<PlanId>,
    /// By status.
    pub status: Option<u16>,
    /// By outcome.
    pub outcome: Option<Outcome>,
    /// By client address, as text.
    pub address: Option<String>,
    /// At least so slow, in microseconds.
    pub latency_us_min: Option<u64>,
    /// Whether calls of test keys are among them: `None` all, else only these.
    pub test: Option<bool>,
    /// In which order.
    pub order: RecordOrder,
    /// Most records of the page, 1 to 10 000.
    pub limit: u32,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl RecordQuery {
    /// `limit` within its bounds.
    #[must_use]
    pub fn records_max(&self) -> u32 {
        self.limit.clamp(1, crate::RECORDS_PAGE_MAX)
    }

    /// Where the page begins, if a page went before.
    ///
    /// # Errors
    /// `NotFound` when the cursor is not one of this list.
    pub fn find_cursor(&self) -> StoreResult<Option<crate::RecordCursor>> {
        self.cursor
            .as_deref()
            .map(crate::RecordCursor::parse)
            .transpose()
    }

    /// Everything in a span, newest first, 50 a page.
    #[must_use]
    pub fn in_span(from: Timestamp, to: Timestamp) -> Self {
        Self {
            from,
            to,
            id: None,
            key: None,
            subscription: None,
            organization: None,
            api: None,
            route: None,
            plan: None,
            status: None,
            outcome: None,
            address: None,
            latency_us_min: None,
            test: None,
            order: RecordOrder::NewestFirst,
            limit: 50,
            cursor: None,
        }
    }
}

/// Which buckets. All conditions must hold; `from` and `to` lie on the grain.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketQuery {
    /// Which family.
    pub family: Family,
    /// Which grain.
    pub grain: Grain,
    /// First start inside.
    pub from: Timestamp,
    /// First start outside.
    pub to: Timestamp,
    /// By API.
    pub api: Option<ApiId>,
    /// By organization.
    pub organization: Option<OrganizationId>,
    /// By subscription.
    pub subscription: Option<SubscriptionId>,
    /// By plan (route family only).
    pub plan: Option<PlanId>,
    /// By what the family is by: a route, a key id, a status.
    pub dimension: Option<String>,
    /// Whether buckets of test keys are among them.
    pub include_test: bool,
    /// Answer with one bucket over the whole span for keys that differ in nothing but `start`;
    /// the merged bucket's `start` is [`Timestamp::default`].
    pub merge_starts: bool,
}

/// Sums over the whole ledger, for reconciling.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerTotals {
    /// Of every stored record, by outcome.
    pub records: OutcomeTotals,
    /// Requests (with `count`) and units of every stored record.
    pub record_requests: u64,
    /// Requests over all hour buckets of [`Family::Api`].
    pub bucket_requests: u64,
    /// Units over all hour buckets of [`Family::Api`].
    pub bucket_units: u64,
    /// Requests over all hour buckets of [`Family::Route`].
    pub route_bucket_requests: u64,
    /// Units over all hour buckets of [`Family::Route`].
    pub route_bucket_units: u64,
}

/// Usage.
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// Takes in batches in the order given: inserts their records, adds their buckets and periods,
    /// moves the keys' `last_used_at`, the streams' totals and their high-water marks. Takes at
    /// least the first and as many of the others as suits the store, all in one transaction; the
    /// answer is how many. A batch behind the first that does not begin at its stream's mark ends
    /// the run, and so may anything else that waits for the store.
    ///
    /// # Errors
    /// `Conflict` when `first` of the first batch is not its stream's high-water mark (0 for an
    /// unknown stream): read the mark and cut anew. After any error nothing was taken in.
    async fn ingest_some(&self, batches: Vec<Arc<IngestBatch>>) -> StoreResult<usize>;

    /// Takes in one batch, all or nothing.
    ///
    /// # Errors
    /// As [`UsageStore::ingest_some`].
    async fn ingest(&self, batch: IngestBatch) -> StoreResult<()> {
        self.ingest_some(vec![Arc::new(batch)]).await.map(drop)
    }

    /// The marks of one gateway's streams, all epochs.
    async fn high_water_marks(&self, node: &NodeId) -> StoreResult<Vec<HighWaterMark>>;

    /// The marks of every gateway's streams.
    async fn all_high_water_marks(&self) -> StoreResult<Vec<HighWaterMark>>;

    /// Buckets by rising key.
    async fn list_buckets(&self, query: &BucketQuery) -> StoreResult<Vec<UsageBucket>>;

    /// One page of records, by the moment of admission; records of one instant stand in the order
    /// in which they were taken in.
    ///
    /// # Errors
    /// `NotFound` when the cursor is not one of this list.
    async fn list_records(&self, query: &RecordQuery) -> StoreResult<Page<UsageRecord>>;

    /// Units of one period; 0 where nothing was counted.
    async fn period_units(&self, scope: &PeriodScope, start: Timestamp) -> StoreResult<u64>;

    /// Every period that began at `from` or later; how a gateway without counters of its own
    /// learns what was used.
    async fn list_period_units(&self, from: Timestamp) -> StoreResult<Vec<PeriodUnits>>;

    /// Σ units of a scope over all its records ever.
    async fn total_units(&self, scope: &PeriodScope) -> StoreResult<u64>;

    /// Sums over the whole ledger, read in one transaction together with the marks.
    async fn ledger_totals(&self) -> StoreResult<(LedgerTotals, Vec<HighWaterMark>)>;

    /// Drops minute buckets that began before `before`; the answer is how many.
    async fn drop_minute_buckets(&self, before: Timestamp) -> StoreResult<u64>;
}
