//! Usage records as rows.

use std::io::Write as _;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Row, ToSql, Transaction};
use tollgate_model::{
    ApiId, DenialCode, EventId, KeyId, NodeId, OrganizationId, Outcome, PlanId, SubscriptionId,
    Timestamp, UsageEvent,
};
use tollgate_store::{RecordCursor, UsageRecord, json};

use crate::columns::{Columns, stored};
use crate::failure::{Failure, Worked};
use crate::sql;

/// `key_family` where a key has none; NULL there says that the family equals the key.
const NO_FAMILY: &str = "";

/// Inserts the records of one batch.
pub(super) struct RecordWriter<'t> {
    statement: CachedStatement<'t>,
    received_at: i64,
    stream: i64,
    text: Vec<u8>,
}

impl<'t> RecordWriter<'t> {
    pub(super) fn new(
        transaction: &'t Transaction<'_>,
        received_at: Timestamp,
        stream: i64,
    ) -> Worked<Self> {
        Ok(Self {
            statement: transaction.prepare_cached(sql::usage::INSERT_RECORD)?,
            received_at: received_at.0,
            stream,
            text: Vec::new(),
        })
    }

    pub(super) fn insert(&mut self, event: &UsageEvent) -> Worked<()> {
        let mut row = Binder {
            statement: &mut self.statement,
            next: 1,
        };
        row.text(event.id.as_str())?;
        row.number(event.at.0)?;
        row.option(event.key.as_ref().map(KeyId::as_str))?;
        row.option(family_as_stored(event))?;
        row.option(event.subscription.as_ref().map(SubscriptionId::as_str))?;
        row.option(event.organization.as_ref().map(OrganizationId::as_str))?;
        row.text(event.api.as_str())?;
        row.text(&event.route)?;
        row.text(&event.method)?;
        row.text(&event.path)?;
        row.number(i64::from(event.status))?;
        row.text(event.outcome.as_str())?;
        row.option(event.code.map(DenialCode::as_str))?;
        row.option(event.limit.as_deref())?;
        row.number(stored(event.latency_us))?;
        row.optional_number(event.upstream_latency_us.map(stored))?;
        row.number(stored(event.bytes_in))?;
        row.number(stored(event.bytes_out))?;
        self.text.clear();
        if let Some(address) = event.address {
            // Writing to a vector cannot fail.
            drop(write!(self.text, "{address}"));
        }
        row.raw_text(event.address.is_some().then_some(&self.text))?;
        row.raw_text(event.country.as_ref().map(<[u8; 2]>::as_slice))?;
        row.option(event.user_agent.as_deref())?;
        row.number(stored(event.units))?;
        row.text(&event.meter)?;
        if !event.labels.is_empty() {
            json::write_labels(&event.labels, &mut self.text)?;
        }
        row.raw_text((!event.labels.is_empty()).then_some(&self.text))?;
        row.option(event.plan.as_ref().map(PlanId::as_str))?;
        row.optional_number(event.plan_version.map(i64::from))?;
        row.option(event.would_deny.as_deref())?;
        row.number(i64::from(event.overridden))?;
        row.number(i64::from(event.test))?;
        row.text(&event.producer)?;
        row.option(event.trace_id.as_deref())?;
        row.option(event.client_request_id.as_deref())?;
        row.number(i64::from(event.count))?;
        row.number(stored(event.catalog_version))?;
        row.optional_number(event.subscription_period.map(|start| start.0))?;
        row.optional_number(event.key_period.map(|start| start.0))?;
        row.number(self.received_at)?;
        row.number(self.stream)?;
        self.statement.raw_execute()?;
        Ok(())
    }
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

/// Binds the parameters of a row from left to right.
struct Binder<'b, 't> {
    statement: &'b mut CachedStatement<'t>,
    next: usize,
}

impl Binder<'_, '_> {
    fn bind(&mut self, value: impl ToSql) -> Worked<()> {
        self.statement.raw_bind_parameter(self.next, value)?;
        self.next += 1;
        Ok(())
    }

    fn text(&mut self, value: &str) -> Worked<()> {
        self.bind(value)
    }

    fn option(&mut self, value: Option<&str>) -> Worked<()> {
        self.bind(value)
    }

    fn number(&mut self, value: i64) -> Worked<()> {
        self.bind(value)
    }

    fn optional_number(&mut self, value: Option<i64>) -> Worked<()> {
        self.bind(value)
    }

    /// Text that is there as bytes.
    fn raw_text(&mut self, value: Option<impl AsRef<[u8]>>) -> Worked<()> {
        match value {
            Some(bytes) => {
                let text = ValueRef::Text(bytes.as_ref());
                self.bind(rusqlite::types::ToSqlOutput::Borrowed(text))
            }
            None => self.bind(rusqlite::types::Null),
        }
    }
}

/// Reads a row of `list_records`: the record and its place in the list.
pub(super) fn read(row: &Row<'_>) -> Worked<(RecordCursor, UsageRecord)> {
    let mut columns = Columns::of(row);
    let event = read_event(&mut columns)?;
    let record = UsageRecord {
        event,
        received_at: columns.time()?,
        node: columns.optional_text()?.map(NodeId::new),
    };
    let cursor = RecordCursor {
        at: record.event.at,
        place: columns.get()?,
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
        status: columns.get()?,
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
        country: match columns.optional_bytes()? {
            Some(code) => Some(
                code.try_into()
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
        plan_version: columns.get()?,
        would_deny: columns.optional_text()?.map(Arc::from),
        overridden: columns.get()?,
        test: columns.get()?,
        producer: columns.text()?.into(),
        trace_id: columns.optional_text()?.map(Arc::from),
        client_request_id: columns.optional_text()?.map(Arc::from),
        count: columns.get()?,
        catalog_version: columns.number()?,
        subscription_period: columns.optional_time()?,
        key_period: columns.optional_time()?,
    })
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
