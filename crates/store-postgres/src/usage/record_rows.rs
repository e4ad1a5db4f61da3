//! Usage records as rows.

use std::fmt::Write as _;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tollgate_model::{
    ApiId, DenialCode, EventId, KeyId, NodeId, OrganizationId, Outcome, PlanId, Sequence,
    SubscriptionId, Timestamp, UsageEvent,
};
use tollgate_store::{RecordCursor, UsageRecord, json};

use crate::columns::{Columns, stored};
use crate::copy::{Copy, Rows};
use crate::failure::{Failure, Worked};
use crate::sql;

/// `key_family` where a key has none; NULL there says that the family equals the key.
const NO_FAMILY: &str = "";
/// Columns of `copy_records`.
const FIELDS: i16 = 40;

/// Where a record came from, and its place in the order of arrival.
pub(super) struct Origin {
    pub(super) place: i64,
    pub(super) sequence: Sequence,
    pub(super) stream: i64,
    pub(super) received_at: Timestamp,
}

/// Begins to send records.
pub(super) async fn begin(transaction: &Transaction<'_>) -> Worked<Copy> {
    Copy::begin(transaction, sql::usage::COPY_RECORDS, FIELDS).await
}

/// Writes a row of `copy_records`.
pub(super) fn write(row: &mut Rows, event: &UsageEvent, origin: &Origin) -> Worked<()> {
    row.row();
    row.number(origin.place);
    row.number(stored(origin.sequence.0));
    row.number(origin.stream);
    row.number(origin.received_at.0);
    row.text(event.id.as_str())?;
    row.number(event.at.0);
    option(row, event.key.as_ref().map(KeyId::as_str))?;
    option(row, family_as_stored(event))?;
    option(row, event.subscription.as_ref().map(SubscriptionId::as_str))?;
    option(row, event.organization.as_ref().map(OrganizationId::as_str))?;
    row.text(event.api.as_str())?;
    row.text(&event.route)?;
    row.text(&event.method)?;
    row.text(&event.path)?;
    row.small(i32::from(event.status));
    row.text(event.outcome.as_str())?;
    option(row, event.code.map(DenialCode::as_str))?;
    option(row, event.limit.as_deref())?;
    row.number(stored(event.latency_us));
    row.optional_number(event.upstream_latency_us.map(stored));
    row.number(stored(event.bytes_in));
    row.number(stored(event.bytes_out));
    write_address(row, event)?;
    row.option(event.country.as_ref().map(<[u8; 2]>::as_slice))?;
    option(row, event.user_agent.as_deref())?;
    row.number(stored(event.units));
    row.text(&event.meter)?;
    write_labels(row, event)?;
    option(row, event.plan.as_ref().map(PlanId::as_str))?;
    row.optional_number(event.plan_version.map(i64::from));
    option(row, event.would_deny.as_deref())?;
    row.flag(event.overridden);
    row.flag(event.test);
    row.text(&event.producer)?;
    option(row, event.trace_id.as_deref())?;
    option(row, event.client_request_id.as_deref())?;
    row.number(i64::from(event.count));
    row.number(stored(event.catalog_version));
    row.optional_number(event.subscription_period.map(|start| start.0));
    row.optional_number(event.key_period.map(|start| start.0));
    Ok(())
}

fn option(row: &mut Rows, value: Option<&str>) -> Worked<()> {
    row.option(value.map(str::as_bytes))
}

fn write_address(row: &mut Rows, event: &UsageEvent) -> Worked<()> {
    let Some(address) = event.address else {
        return row.option(None);
    };
    let mut text = String::with_capacity(40);
    // Writing to a string cannot fail.
    write!(text, "{address}").ok();
    row.text(&text)
}

fn write_labels(row: &mut Rows, event: &UsageEvent) -> Worked<()> {
    if event.labels.is_empty() {
        return row.option(None);
    }
    let mut text = Vec::new();
    json::write_labels(&event.labels, &mut text)?;
    row.raw(&text)
}

fn family_as_stored(event: &UsageEvent) -> Option<&str> {
    match (&event.key, &event.key_family) {
        (Some(key), Some(family)) if key == family => None,
        (Some(_), None) => Some(NO_FAMILY),
        (_, family) => family.as_ref().map(KeyId::as_str),
    }
}

fn family_as_read(key: Option<&str>, family: Option<&str>) -> Option<KeyId> {
    match (key, family) {
        (_, Some(NO_FAMILY)) => None,
        (_, Some(family)) => Some(KeyId::new(family)),
        (key, None) => key.map(KeyId::new),
    }
}

/// Reads a row of `list_records`: the record and its place in the list.
pub(super) fn read(row: &Row) -> Worked<(RecordCursor, UsageRecord)> {
    let mut columns = Columns::of(row);
    let event = read_event(&mut columns)?;
    let record = UsageRecord {
        event,
        received_at: columns.time()?,
        node: columns.optional_text()?.map(NodeId::new),
    };
    let cursor = RecordCursor {
        at: record.event.at,
        place: columns.get("place")?,
    };
    Ok((cursor, record))
}

// The fields stand in the order of the columns.
fn read_event(columns: &mut Columns<'_>) -> Worked<UsageEvent> {
    let id = EventId::parse(columns.text()?);
    let at = columns.time()?;
    let key = columns.optional_text()?;
    Ok(UsageEvent {
        id,
        at,
        key: key.map(KeyId::new),
        key_family: family_as_read(key, columns.optional_text()?),
        subscription: columns.optional_text()?.map(SubscriptionId::new),
        organization: columns.optional_text()?.map(OrganizationId::new),
        api: ApiId::new(columns.text()?),
        route: columns.text()?.into(),
        method: columns.text()?.into(),
        path: columns.text()?.into(),
        status: columns.status()?,
        outcome: Outcome::parse(columns.text()?).ok_or(Failure::Unreadable("outcome"))?,
        code: read_code(columns)?,
        limit: columns.optional_text()?.map(Arc::from),
        latency_us: columns.number()?,
        upstream_latency_us: columns.optional_number()?,
        bytes_in: columns.number()?,
        bytes_out: columns.number()?,
        address: match columns.optional_text()? {
            Some(text) => Some(text.parse().map_err(|_| Failure::Unreadable("address"))?),
            None => None,
        },
        country: match columns.optional_text()? {
            Some(code) => Some(
                code.as_bytes()
                    .try_into()
                    .map_err(|_| Failure::Unreadable("country"))?,
            ),
            None => None,
        },
        user_agent: columns.optional_text()?.map(Arc::from),
        units: columns.number()?,
        meter: columns.text()?.into(),
        labels: match columns.optional_text()? {
            Some(text) => json::labels_from_text(text)?,
            None => Vec::new(),
        },
        plan: columns.optional_text()?.map(PlanId::new),
        plan_version: read_version(columns)?,
        would_deny: columns.optional_text()?.map(Arc::from),
        overridden: columns.flag()?,
        test: columns.flag()?,
        producer: columns.text()?.into(),
        trace_id: columns.optional_text()?.map(Arc::from),
        client_request_id: columns.optional_text()?.map(Arc::from),
        count: columns.small()?,
        catalog_version: columns.number()?,
        subscription_period: columns.optional_time()?,
        key_period: columns.optional_time()?,
    })
}

fn read_version(columns: &mut Columns<'_>) -> Worked<Option<u32>> {
    let version = columns.optional_number()?.map(u32::try_from).transpose();
    version.map_err(|_| Failure::Unreadable("plan's version"))
}

fn read_code(columns: &mut Columns<'_>) -> Worked<Option<DenialCode>> {
    match columns.optional_text()? {
        Some(text) => match DenialCode::parse(text) {
            Some(code) => Ok(Some(code)),
            None => Err(Failure::Unreadable("code")),
        },
        None => Ok(None),
    }
}
