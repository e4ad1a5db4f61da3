//! What clients were acknowledged, over all lives of a process, held against its records.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::load::{Answer, Report};

/// Refused for want of room to write anything down: one record stands for many of these, and
/// while the disk is away for none. Every other refusal has a record of its own.
const WITHOUT_RECORD: [&str; 2] = ["journal_full", "overloaded"];

/// One answer that a client received to its last byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The gateway's id.
    pub id: String,
    /// Status.
    pub status: u16,
    /// When the request was sent, in microseconds since the Unix epoch.
    pub begun_us: i64,
    /// When the answer's last byte had come, in microseconds since the Unix epoch.
    pub ended_us: i64,
}

/// All of them, by id.
#[derive(Debug, Clone, Default)]
pub struct AcknowledgedSet(HashMap<String, Acknowledged>);

impl AcknowledgedSet {
    /// Adds what a run of load was answered, but for refusals that share a record.
    ///
    /// # Errors
    /// When an id was given before, or an answer carries none.
    pub fn take(&mut self, report: &Report) -> anyhow::Result<()> {
        let since = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
        let wall = |us: u64| report.began_us.saturating_add(since(us));
        for attempt in &report.attempts {
            let Answer::Whole {
                status,
                request_id,
                code,
            } = &attempt.answer
            else {
                continue;
            };
            if code
                .as_deref()
                .is_some_and(|code| WITHOUT_RECORD.contains(&code))
            {
                continue;
            }
            let (status, id) = (*status, *request_id);
            let id = id.context("an answer without a request id")?;
            let one = Acknowledged {
                id: id.to_string(),
                status,
                begun_us: wall(attempt.begun_us),
                ended_us: wall(attempt.ended_us),
            };
            let before = self.0.insert(one.id.clone(), one);
            ensure!(before.is_none(), "{id} was given twice");
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Those sent at `since_us` or later that are not among the records.
    ///
    /// # Errors
    /// When a record tells another status than was answered.
    pub fn missing(
        &self,
        records: &HashMap<String, Value>,
        since_us: i64,
    ) -> anyhow::Result<Vec<Acknowledged>> {
        let mut missing = Vec::new();
        for one in self.0.values().filter(|one| one.begun_us >= since_us) {
            let Some(record) = records.get(&one.id) else {
                missing.push(one.clone());
                continue;
            };
            let recorded = record.get("status").and_then(Value::as_u64);
            let same = recorded == Some(u64::from(one.status));
            ensure!(same, "{one:?} is recorded otherwise: {record}");
        }
        Ok(missing)
    }

    /// The same, where nothing may be missing.
    ///
    /// # Errors
    /// When something is.
    pub fn all_among(&self, records: &HashMap<String, Value>, since_us: i64) -> anyhow::Result<()> {
        let missing = self.missing(records, since_us)?;
        let count = missing.len();
        let first = missing.first();
        ensure!(
            first.is_none(),
            "{count} acknowledged, not recorded: {first:?}"
        );
        Ok(())
    }
}
