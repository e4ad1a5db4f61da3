//! Calls under an idempotency key.
//!
//! Claims are made one at a time. A claim waits for an act of the same call that is under way, as
//! both hold the call's row; so it sees the act's end, and takes over only what has not acted.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tollgate_store::{
    CallAttempt, CallClaim, CallDone, CallStore, Claimed, Entity, SavedAnswer, StoreResult,
};

use crate::PostgresStore;
use crate::columns::{Columns, stored};
use crate::failure::{Failure, Worked};
use crate::sql;

/// Notes in the act's own transaction that its call is done.
pub(crate) async fn mark_done(transaction: &Transaction<'_>, done: &CallDone) -> Worked<()> {
    let mark = transaction.prepare_cached(sql::calls::MARK_DONE).await?;
    let (call, number) = names(&done.attempt);
    let marked = transaction
        .execute(&mark, &[&call, &number, &done.did])
        .await?;
    match marked {
        0 => Err(Failure::Superseded),
        _ => Ok(()),
    }
}

/// The call and the attempt, as stored.
fn names(attempt: &CallAttempt) -> (&[u8], Vec<u8>) {
    (&attempt.call.0, attempt.attempt.to_be_bytes().to_vec())
}

/// A call that is remembered: digest of its request, and how it ended if it did.
type Held = ([u8; 32], Option<Claimed>);

fn read_held(row: &Row) -> Worked<Held> {
    let mut columns = Columns::of(row);
    let of = columns.digest()?;
    let did = columns.optional_text()?;
    let status: Option<i32> = columns.get("status")?;
    let ended = match (did, status) {
        (None, _) => None,
        (Some(did), None) => Some(Claimed::Done {
            did: did.to_owned(),
        }),
        (Some(_), Some(status)) => Some(Claimed::Answered(SavedAnswer {
            status: u16::try_from(status).map_err(|_| Failure::Unreadable("status"))?,
            content_type: columns.optional_text()?.map(str::to_owned),
            location: columns.optional_text()?.map(str::to_owned),
            body: columns.optional_bytes()?.unwrap_or_default().to_vec(),
        })),
    };
    Ok((of, ended))
}

async fn claim(transaction: &Transaction<'_>, claim: &CallClaim) -> Worked<Claimed> {
    let (call, attempt) = names(&claim.attempt);
    transaction.query(sql::calls::LOCK_CLAIMS, &[]).await?;
    let forget = transaction.prepare_cached(sql::calls::FORGET_CALLS).await?;
    transaction
        .execute(&forget, &[&claim.forget_before.0])
        .await?;
    let find = transaction.prepare_cached(sql::calls::FIND_CALL).await?;
    let held = transaction.query_opt(&find, &[&call]).await?;
    match held.as_ref().map(read_held).transpose()? {
        Some((of, _)) if of != claim.of => return Ok(Claimed::OtherRequest),
        Some((_, Some(ended))) => return Ok(ended),
        Some((_, None)) => {}
        None => {
            if !has_room(transaction, claim).await? {
                return Ok(Claimed::Full);
            }
        }
    }
    let put = transaction.prepare_cached(sql::calls::PUT_CALL).await?;
    transaction
        .execute(&put, &[&call, &attempt, &&claim.of[..], &claim.at.0])
        .await?;
    Ok(Claimed::Granted)
}

async fn has_room(transaction: &Transaction<'_>, claim: &CallClaim) -> Worked<bool> {
    let count = transaction.prepare_cached(sql::calls::COUNT_CALLS).await?;
    let row = transaction.query_one(&count, &[]).await?;
    let mut columns = Columns::of(&row);
    let (calls, bytes) = (columns.number()?, columns.number()?);
    Ok(calls < u64::from(claim.calls_max) && bytes < claim.bytes_max)
}

async fn put_answer(
    transaction: &Transaction<'_>,
    of: &CallAttempt,
    answer: &SavedAnswer,
) -> Worked<()> {
    let put = transaction.prepare_cached(sql::calls::PUT_ANSWER).await?;
    transaction
        .execute(
            &put,
            &[
                &&of.call.0[..],
                &i32::from(answer.status),
                &answer.content_type,
                &answer.location,
                &answer.body,
                &stored(answer.body.len() as u64),
            ],
        )
        .await?;
    Ok(())
}

#[async_trait]
impl CallStore for PostgresStore {
    async fn claim_call(&self, command: CallClaim) -> StoreResult<Claimed> {
        let command = Arc::new(command);
        self.write(Entity::Call, move |transaction| {
            let command = Arc::clone(&command);
            Box::pin(async move { claim(transaction, &command).await })
        })
        .await
    }

    async fn finish_call(&self, done: CallDone, answer: Option<SavedAnswer>) -> StoreResult<()> {
        let command = Arc::new((done, answer));
        self.write(Entity::Call, move |transaction| {
            let command = Arc::clone(&command);
            Box::pin(async move {
                let (done, answer) = &*command;
                mark_done(transaction, done).await?;
                match answer {
                    Some(answer) => put_answer(transaction, &done.attempt, answer).await,
                    None => Ok(()),
                }
            })
        })
        .await
    }

    async fn release_call(&self, attempt: CallAttempt) -> StoreResult<()> {
        self.write(Entity::Call, move |transaction| {
            Box::pin(async move {
                let release = transaction.prepare_cached(sql::calls::RELEASE_CALL).await?;
                let (call, number) = names(&attempt);
                transaction.execute(&release, &[&call, &number]).await?;
                Ok(())
            })
        })
        .await
    }
}
