//! What the writing thread holds: its connection, and the buckets that were written last.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::failure::Worked;
use crate::usage::HotBuckets;

/// The one connection that writes, and what it remembers of what it wrote.
pub(crate) struct Writer {
    connection: Connection,
    hot: HotBuckets,
}

impl Writer {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            hot: HotBuckets::default(),
        }
    }

    /// Runs `work` in a transaction that holds the write lock from its beginning.
    pub(crate) fn transact<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Worked<T>,
    ) -> Worked<T> {
        self.transact_with_buckets(|transaction, _| work(transaction))
    }

    /// The same for work that changes buckets. What is remembered of them is what is on disk: it is
    /// forgotten when the transaction fails, and when another process wrote.
    pub(crate) fn transact_with_buckets<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut HotBuckets) -> Worked<T>,
    ) -> Worked<T> {
        let hot = &mut self.hot;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction, hot).and_then(|done| {
            transaction.commit()?;
            Ok(done)
        });
        if done.is_err() {
            hot.forget();
        }
        done
    }
}
