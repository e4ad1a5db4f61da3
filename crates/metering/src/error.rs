//! What can go wrong in metering, told by kind.

use std::fmt;

use tollgate_model::{Sequence, StreamId};
use tollgate_store::StoreError;

use crate::SourceError;

/// The result of a question or of shipping.
pub type MeteringResult<T> = Result<T, MeteringError>;

/// A stream whose entries have not all been taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// Whose journal.
    pub stream: StreamId,
    /// First sequence not yet taken in.
    pub mark: Sequence,
    /// How far it should have been.
    pub wanted: Sequence,
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} epoch {} thread {}: {} of {}",
            self.stream.node, self.stream.epoch, self.stream.thread, self.mark.0, self.wanted.0
        )
    }
}

/// A failure of metering.
#[derive(Debug, thiserror::Error)]
pub enum MeteringError {
    /// The question breaks a rule of form.
    #[error("{field}: {detail}")]
    Invalid {
        /// Which field of the question.
        field: &'static str,
        /// What is wrong with it, for whoever asked.
        detail: String,
    },
    /// The answer would need more single records than one question may read.
    #[error(
        "more than {records_max} single requests would have to be read; ask for whole hours, \
         a shorter span, or fewer filters"
    )]
    TooMuch {
        /// The bound.
        records_max: usize,
    },
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The journal could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Not everything asked for was taken in in time.
    #[error("not everything was taken in: {}{}", list(.streams), because(.cause))]
    Lagging {
        /// What lags.
        streams: Vec<Lag>,
        /// The last failure on the way.
        cause: Option<String>,
    },
}

impl MeteringError {
    /// A question that breaks a rule of form.
    pub(crate) fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            detail: detail.into(),
        }
    }
}

fn list(streams: &[Lag]) -> String {
    let texts: Vec<String> = streams.iter().map(Lag::to_string).collect();
    texts.join(", ")
}

fn because(cause: &Option<String>) -> String {
    cause
        .as_ref()
        .map(|cause| format!(" ({cause})"))
        .unwrap_or_default()
}
