//! Connections, and how work is run on them.
//!
//! **Owns** a [`Lane`]: a bounded pool and a bounded number of those that wait for it; what becomes
//! of a connection after a failure; trying again.
//!
//! **Invariants.** A connection goes back to its pool only when what was asked on it has been
//! answered: one whose caller went away, or that went silent, is closed, and the server ends what
//! it was doing (`client_connection_check_interval`). After a failure that tells of another state
//! of the server (25006, 57P0x, 08xxx, a broken connection) the idle connections go too, so that
//! the next work connects anew. Work is tried again only where it is certain that nothing of it
//! was kept: undone for a deadlock or a serialization failure, or lost before its commit was sent.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Client, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Transaction,
};
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{IsolationLevel, NoTls};

use crate::failure::{Failure, Fate, Worked};
use crate::options::{Options, ms};
use crate::target::{Target, Tls};

/// Most tries of one piece of work.
const TRIES_MAX: u32 = 4;
/// Wait before a further try after a deadlock, in milliseconds, times the number of tries so far;
/// up to as much again is added, another share for each.
const AGAIN_AFTER_MS: u64 = 5;

/// What a lane's connections are for.
pub(crate) struct Purpose {
    pub(crate) connections_max: usize,
    pub(crate) waiting_max: usize,
    /// Server settings in addition to the bounds.
    pub(crate) settings: &'static str,
}

/// A pool, and those that wait for it.
pub(crate) struct Lane {
    pool: Pool,
    room: Semaphore,
    answer_timeout: Duration,
    tries: AtomicU32,
}

impl Lane {
    /// Makes the lane; connects to nothing yet.
    pub(crate) fn new(target: &Target, options: &Options, purpose: &Purpose) -> Worked<Self> {
        let settings = format!(
            "-c statement_timeout={} -c lock_timeout={} \
             -c idle_in_transaction_session_timeout={} -c client_connection_check_interval=1000 \
             -c timezone=UTC -c jit=off {}",
            options.statement_timeout_ms,
            options.lock_timeout_ms,
            options.statement_timeout_ms,
            purpose.settings
        );
        let config = target.with_settings(&settings);
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match &target.tls {
            Tls::None(NoTls) => Manager::from_config(config, NoTls, recycling),
            Tls::Checked(tls) => Manager::from_config(config, tls.clone(), recycling),
        };
        let connections_max = purpose.connections_max.max(1);
        let pool = Pool::builder(manager)
            .max_size(connections_max)
            .wait_timeout(Some(ms(options.wait_timeout_ms)))
            .create_timeout(Some(ms(options.connect_timeout_ms)))
            .recycle_timeout(Some(ms(options.connect_timeout_ms)))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Failure::Address(error.to_string()))?;
        Ok(Self {
            pool,
            room: Semaphore::new(connections_max + purpose.waiting_max),
            answer_timeout: ms(options.answer_timeout_ms),
            tries: AtomicU32::new(0),
        })
    }

    /// Runs `work` in a transaction, and tries again where that is safe.
    pub(crate) async fn transact<T, F>(&self, isolation: IsolationLevel, work: F) -> Worked<T>
    where
        F: for<'t> Fn(&'t Transaction<'_>) -> BoxFuture<'t, Worked<T>> + Send + Sync,
        T: Send,
    {
        let within = self.answer_timeout;
        self.transact_within(isolation, within, work).await
    }

    /// The same with another bound for the whole of one transaction.
    pub(crate) async fn transact_within<T, F>(
        &self,
        isolation: IsolationLevel,
        within: Duration,
        work: F,
    ) -> Worked<T>
    where
        F: for<'t> Fn(&'t Transaction<'_>) -> BoxFuture<'t, Worked<T>> + Send + Sync,
        T: Send,
    {
        let _room = self.room()?;
        for tried in 1.. {
            let (failure, safe) = match self.transact_once(isolation, within, &work).await {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            if !safe || tried >= TRIES_MAX || !self.try_again(&failure, tried).await {
                return Err(failure);
            }
        }
        Err(Failure::Silent)
    }

    /// Once; on failure also whether it is certain that nothing was kept.
    async fn transact_once<T, F>(
        &self,
        isolation: IsolationLevel,
        within: Duration,
        work: &F,
    ) -> Result<T, (Failure, bool)>
    where
        F: for<'t> Fn(&'t Transaction<'_>) -> BoxFuture<'t, Worked<T>> + Send + Sync,
        T: Send,
    {
        let mut lease = self.lease().await.map_err(|failure| (failure, true))?;
        let mut committing = false;
        let done = tokio::time::timeout(within, async {
            let begin = lease
                .client()?
                .build_transaction()
                .isolation_level(isolation);
            let transaction = begin.start().await?;
            match work(&transaction).await {
                Ok(done) => {
                    committing = true;
                    transaction.commit().await?;
                    Ok(done)
                }
                Err(failure) => {
                    // Answered before the connection is used again. Where this fails, the
                    // connection is of no use, and nothing was kept either way.
                    if failure.fate() != Fate::Evict {
                        transaction.rollback().await?;
                    }
                    Err(failure)
                }
            }
        });
        let done = done.await.unwrap_or(Err(Failure::Silent));
        self.settle(lease, done).map_err(|failure| {
            // What the server refused at the commit is not there; of a lost answer nobody knows.
            let safe = !committing || failure.fate() == Fate::Again;
            (failure, safe)
        })
    }

    /// Runs `work` outside of a transaction: each statement sees what was kept before it.
    pub(crate) async fn read<T, F>(&self, work: F) -> Worked<T>
    where
        F: for<'c> Fn(&'c Client) -> BoxFuture<'c, Worked<T>> + Send + Sync,
        T: Send,
    {
        let _room = self.room()?;
        for tried in 1.. {
            let mut lease = self.lease().await?;
            let done =
                tokio::time::timeout(self.answer_timeout, async { work(lease.client()?).await });
            let done = done.await.unwrap_or(Err(Failure::Silent));
            let failure = match self.settle(lease, done) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            if tried >= TRIES_MAX || !self.try_again(&failure, tried).await {
                return Err(failure);
            }
        }
        Err(Failure::Silent)
    }

    /// A place among those that wait.
    pub(crate) fn room(&self) -> Worked<SemaphorePermit<'_>> {
        self.room.try_acquire().map_err(|_| Failure::Full)
    }

    /// Longest wait for the whole of a transaction.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.answer_timeout
    }

    /// Takes a connection out of the pool, waiting for a bounded time.
    pub(crate) async fn lease(&self) -> Worked<Lease> {
        let object = self.pool.get().await?;
        Ok(Lease {
            object: Some(object),
        })
    }

    /// Gives the connection back or throws it away, as the outcome says.
    pub(crate) fn settle<T>(&self, mut lease: Lease, done: Worked<T>) -> Worked<T> {
        let fate = match &done {
            Ok(_) => Fate::Keep,
            Err(failure) => failure.fate(),
        };
        if fate == Fate::Evict {
            drop(lease);
            // Made before the server changed: let nobody meet the same failure again.
            self.pool.retain(|_, _| false);
        } else {
            drop(lease.object.take());
        }
        done
    }

    /// Whether to try again, after a wait where that helps.
    async fn try_again(&self, failure: &Failure, tried: u32) -> bool {
        match failure.fate() {
            Fate::Keep => false,
            // A connection from before a restart: a new one may do. Not twice: a server that is
            // away is the caller's to wait for.
            Fate::Evict => tried == 1 && !matches!(failure, Failure::Silent),
            Fate::Again => {
                let share = u64::from(self.tries.fetch_add(1, Ordering::Relaxed) % 8);
                let wait_ms = AGAIN_AFTER_MS * u64::from(tried) * (8 + share) / 8;
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                true
            }
        }
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("pool", &self.pool.status())
            .field("room", &self.room.available_permits())
            .finish_non_exhaustive()
    }
}

/// A connection in use. Dropped without [`Lane::settle`] it is closed: nobody knows what still
/// runs on it.
pub(crate) struct Lease {
    object: Option<Client>,
}

impl Lease {
    pub(crate) fn client(&mut self) -> Worked<&mut Client> {
        match &mut self.object {
            Some(object) => Ok(object),
            None => Err(Failure::Silent),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::COMMAND;
    use crate::testing::{Database, lane};

    /// Fails with a code of the server's until it has been tried so often; how often it was.
    async fn tries(lane: &Lane, code: &'static str, until: u32) -> (Worked<u32>, u32) {
        let tried = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tried);
        let done = lane.transact(COMMAND, move |transaction| {
            let tried = counted.fetch_add(1, Ordering::SeqCst) + 1;
            Box::pin(async move {
                if tried < until {
                    let fail = format!("DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$");
                    transaction.batch_execute(&fail).await?;
                }
                Ok(tried)
            })
        });
        (done.await, tried.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn only_what_was_undone_for_another_is_tried_again_and_not_for_ever() {
        let database = Database::make().await;
        let lane = lane(&database);
        for code in ["40001", "40P01"] {
            let (done, tried) = tries(&lane, code, 3).await;
            assert_eq!((done.unwrap(), tried), (3, 3), "{code}");
            let (done, tried) = tries(&lane, code, 99).await;
            assert!(done.is_err());
            assert_eq!(tried, TRIES_MAX, "{code}");
        }
        // The connection's fault: once more on another. The work's: never.
        for (code, most) in [
            ("25006", 2),
            ("57P01", 2),
            ("08006", 2),
            ("23505", 1),
            ("22003", 1),
        ] {
            let (done, tried) = tries(&lane, code, 99).await;
            assert!(done.is_err());
            assert_eq!(tried, most, "{code}");
        }
    }

    #[tokio::test]
    async fn a_connection_whose_caller_went_away_is_not_used_again() {
        let database = Database::make().await;
        let lane = lane(&database);
        let asleep = lane.read(|client| {
            Box::pin(async move { Ok(client.batch_execute("SELECT pg_sleep(60)").await?) })
        });
        let gone = tokio::time::timeout(Duration::from_millis(200), asleep).await;
        assert!(gone.is_err());
        // One connection is all it may have: it does not wait behind the sleeper.
        let awake = lane
            .read(|client| Box::pin(async move { Ok(client.batch_execute("SELECT 1").await?) }));
        let awake = tokio::time::timeout(Duration::from_secs(10), awake).await;
        awake.unwrap().unwrap();
    }
}
