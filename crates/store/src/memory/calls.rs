//! Calls under an idempotency key, in memory.

use async_trait::async_trait;
use tollgate_model::Timestamp;

use super::{MemoryStore, State};
use crate::{
    CallAttempt, CallClaim, CallDone, CallStore, Claimed, Effects, Entity, SavedAnswer, StoreError,
    StoreErrorKind, StoreResult,
};

#[derive(Debug)]
pub(super) struct Call {
    attempt: u128,
    of: [u8; 32],
    at: Timestamp,
    did: Option<String>,
    answer: Option<SavedAnswer>,
}

impl State {
    /// Refuses an act whose claim is no longer its attempt's.
    pub(super) fn check_call(&self, effects: &Effects) -> StoreResult<()> {
        effects
            .call
            .as_ref()
            .map_or(Ok(()), |done| self.check_attempt(done.attempt))
    }

    fn check_attempt(&self, attempt: CallAttempt) -> StoreResult<()> {
        match self.calls.get(&attempt.call) {
            Some(held) if held.attempt == attempt.attempt => Ok(()),
            _ => Err(StoreError::new(StoreErrorKind::Conflict, Entity::Call)),
        }
    }

    pub(super) fn commit_call(&mut self, done: CallDone) {
        if let Some(held) = self.calls.get_mut(&done.attempt.call) {
            held.did.get_or_insert(done.did);
        }
    }
}

#[async_trait]
impl CallStore for MemoryStore {
    async fn claim_call(&self, claim: CallClaim) -> StoreResult<Claimed> {
        let mut state = self.state.lock();
        state.calls.retain(|_, held| held.at >= claim.forget_before);
        if let Some(held) = state.calls.get_mut(&claim.attempt.call) {
            if held.of != claim.of {
                return Ok(Claimed::OtherRequest);
            }
            if let Some(did) = &held.did {
                return Ok(match &held.answer {
                    Some(answer) => Claimed::Answered(answer.clone()),
                    None => Claimed::Done { did: did.clone() },
                });
            }
            held.attempt = claim.attempt.attempt;
            held.at = claim.at;
            return Ok(Claimed::Granted);
        }
        let answers = state.calls.values().filter_map(|held| held.answer.as_ref());
        let bytes: u64 = answers.map(|answer| answer.body.len() as u64).sum();
        if state.calls.len() >= claim.calls_max as usize || bytes >= claim.bytes_max {
            return Ok(Claimed::Full);
        }
        let call = Call {
            attempt: claim.attempt.attempt,
            of: claim.of,
            at: claim.at,
            did: None,
            answer: None,
        };
        state.calls.insert(claim.attempt.call, call);
        Ok(Claimed::Granted)
    }

    async fn finish_call(&self, done: CallDone, answer: Option<SavedAnswer>) -> StoreResult<()> {
        let mut state = self.state.lock();
        state.check_attempt(done.attempt)?;
        let call = done.attempt.call;
        state.commit_call(done);
        if let Some(held) = state.calls.get_mut(&call) {
            held.answer = answer;
        }
        Ok(())
    }

    async fn release_call(&self, attempt: CallAttempt) -> StoreResult<()> {
        let mut state = self.state.lock();
        let ours = |held: &Call| held.attempt == attempt.attempt && held.did.is_none();
        if state.calls.get(&attempt.call).is_some_and(ours) {
            state.calls.remove(&attempt.call);
        }
        Ok(())
    }
}
