//! Calls under an idempotency key.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, Transaction};
use tollgate_store::{
    CallAttempt, CallClaim, CallDone, CallStore, Claimed, Entity, SavedAnswer, StoreResult,
};

use crate::SqliteStore;
use crate::failure::{Failure, Worked};
use crate::queue::Lane;
use crate::sql;

/// Notes in the act's own transaction that its call is done.
pub(crate) fn mark_done(transaction: &Transaction<'_>, done: &CallDone) -> Worked<()> {
    let mut mark = transaction.prepare_cached(sql::calls::MARK_DONE)?;
    let attempt = done.attempt;
    let number = attempt.attempt.to_be_bytes();
    match mark.execute((attempt.call.0, number, &done.did))? {
        0 => Err(Failure::Superseded),
        _ => Ok(()),
    }
}

/// A call that is remembered: digest of its request, and how it ended if it did.
type Held = ([u8; 32], Option<Claimed>);

fn read_held(row: &Row<'_>) -> rusqlite::Result<Held> {
    let did: Option<String> = row.get(1)?;
    let status: Option<u16> = row.get(2)?;
    let ended = match (did, status) {
        (None, _) => None,
        (Some(did), None) => Some(Claimed::Done { did }),
        (Some(_), Some(status)) => Some(Claimed::Answered(SavedAnswer {
            status,
            content_type: row.get(3)?,
            location: row.get(4)?,
            body: row.get(5)?,
        })),
    };
    Ok((row.get(0)?, ended))
}

fn claim(transaction: &Transaction<'_>, claim: &CallClaim) -> Worked<Claimed> {
    let CallAttempt { call, attempt } = claim.attempt;
    transaction
        .prepare_cached(sql::calls::FORGET_CALLS)?
        .execute((claim.forget_before.0,))?;
    let held = transaction
        .prepare_cached(sql::calls::FIND_CALL)?
        .query_row((call.0,), read_held)
        .optional()?;
    match held {
        Some((of, _)) if of != claim.of => return Ok(Claimed::OtherRequest),
        Some((_, Some(ended))) => return Ok(ended),
        Some((_, None)) => {}
        None => {
            let (calls, bytes): (u32, i64) = transaction
                .prepare_cached(sql::calls::COUNT_CALLS)?
                .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
            if calls >= claim.calls_max || bytes.unsigned_abs() >= claim.bytes_max {
                return Ok(Claimed::Full);
            }
        }
    }
    transaction.prepare_cached(sql::calls::PUT_CALL)?.execute((
        call.0,
        attempt.to_be_bytes(),
        claim.of,
        claim.at.0,
    ))?;
    Ok(Claimed::Granted)
}

fn put_answer(transaction: &Transaction<'_>, of: CallAttempt, answer: &SavedAnswer) -> Worked<()> {
    let mut put = transaction.prepare_cached(sql::calls::PUT_ANSWER)?;
    put.execute((
        of.call.0,
        answer.status,
        &answer.content_type,
        &answer.location,
        &answer.body,
        i64::try_from(answer.body.len()).unwrap_or(i64::MAX),
    ))?;
    Ok(())
}

#[async_trait]
impl CallStore for SqliteStore {
    async fn claim_call(&self, command: CallClaim) -> StoreResult<Claimed> {
        self.write(Lane::Command, Entity::Call, move |transaction| {
            claim(transaction, &command)
        })
        .await
    }

    async fn finish_call(&self, done: CallDone, answer: Option<SavedAnswer>) -> StoreResult<()> {
        self.write(Lane::Command, Entity::Call, move |transaction| {
            mark_done(transaction, &done)?;
            match &answer {
                Some(answer) => put_answer(transaction, done.attempt, answer),
                None => Ok(()),
            }
        })
        .await
    }

    async fn release_call(&self, attempt: CallAttempt) -> StoreResult<()> {
        self.write(Lane::Command, Entity::Call, move |transaction| {
            transaction
                .prepare_cached(sql::calls::RELEASE_CALL)?
                .execute((attempt.call.0, attempt.attempt.to_be_bytes()))?;
            Ok(())
        })
        .await
    }
}
