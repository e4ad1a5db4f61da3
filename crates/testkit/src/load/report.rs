//! What a run of load was answered.

use std::collections::BTreeMap;
use std::time::Duration;

use tollgate_model::RequestId;

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To its last byte: acknowledged.
    Whole {
        /// Status.
        status: u16,
        /// The gateway's id.
        request_id: Option<RequestId>,
        /// Of a 503: the problem's code.
        code: Option<Box<str>>,
    },
    /// The connection broke after the request was, or may have been, sent.
    Broken {
        /// The gateway's id, where the head came.
        request_id: Option<RequestId>,
        /// What broke.
        why: String,
    },
    /// Nothing was sent.
    NotConnected,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its number in the run, from 0.
    pub number: u64,
    /// When it was sent (at a given rate: due), since the run's start.
    pub begun_us: u64,
    /// When its answer ended or broke, since the run's start.
    pub ended_us: u64,
    /// How it ended.
    pub answer: Answer,
}

/// All attempts of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// By number.
    pub attempts: Vec<Attempt>,
    /// How long the run took.
    pub took: Duration,
    /// When it began, in microseconds since the Unix epoch; a moment late rather than early.
    pub began_us: i64,
}

/// Latencies of acknowledged requests, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Half are faster.
    pub p50_us: u64,
    /// 95 of 100 are faster.
    pub p95_us: u64,
    /// 99 of 100 are faster.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

impl Report {
    pub(super) fn new(mut attempts: Vec<Attempt>, took: Duration, began_us: i64) -> Self {
        attempts.sort_unstable_by_key(|attempt| attempt.number);
        Self {
            attempts,
            took,
            began_us,
        }
    }

    /// Acknowledged answers by status.
    #[must_use]
    pub fn by_status(&self) -> BTreeMap<u16, u64> {
        let mut counts = BTreeMap::new();
        for attempt in &self.attempts {
            if let Answer::Whole { status, .. } = attempt.answer {
                *counts.entry(status).or_default() += 1;
            }
        }
        counts
    }

    /// Acknowledged answers with this status.
    #[must_use]
    pub fn count(&self, status: u16) -> u64 {
        self.by_status().get(&status).copied().unwrap_or(0)
    }

    /// 503s by the problem's code.
    #[must_use]
    pub fn unavailable(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for attempt in &self.attempts {
            if let Answer::Whole {
                status: 503, code, ..
            } = &attempt.answer
            {
                let code = code.as_deref().unwrap_or("none");
                *counts.entry(code).or_default() += 1;
            }
        }
        counts
    }

    /// Attempts that were not acknowledged.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let whole: u64 = self.by_status().values().sum();
        self.attempts.len() as u64 - whole
    }

    /// What went wrong, the first few different ones.
    #[must_use]
    pub fn error_texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for attempt in &self.attempts {
            let text = match &attempt.answer {
                Answer::Whole { .. } => continue,
                Answer::Broken { why, .. } => why.clone(),
                Answer::NotConnected => "not connected".to_owned(),
            };
            if texts.len() < 5 && !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }

    /// Ids of acknowledged answers with their status.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<(RequestId, u16)> {
        let ids = self
            .attempts
            .iter()
            .filter_map(|attempt| match attempt.answer {
                Answer::Whole {
                    status, request_id, ..
                } => Some((request_id?, status)),
                _ => None,
            });
        ids.collect()
    }

    /// Latencies of acknowledged answers.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        let mut all: Vec<u64> = self
            .attempts
            .iter()
            .filter(|attempt| matches!(attempt.answer, Answer::Whole { .. }))
            .map(|attempt| attempt.ended_us.saturating_sub(attempt.begun_us))
            .collect();
        all.sort_unstable();
        let rank = |per_mille: usize| {
            let index = (all.len() * per_mille / 1_000).min(all.len().saturating_sub(1));
            all.get(index).copied().unwrap_or(0)
        };
        Latencies {
            p50_us: rank(500),
            p95_us: rank(950),
            p99_us: rank(990),
            max_us: all.last().copied().unwrap_or(0),
        }
    }
}
