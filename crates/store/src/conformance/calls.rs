//! Guarantees of [`CallStore`](crate::CallStore).

use futures_util::future::{join, join_all};
use tollgate_model::Timestamp;

use super::{Checked, refusal};
use crate::testing::{BEGIN, api_key, effects, new_key, object};
use crate::{
    CallAttempt, CallClaim, CallDone, CallId, CatalogChange, Claimed, Effects, Entity,
    ObjectChange, ObjectKind, SavedAnswer, Store, StoreErrorKind,
};

fn attempt(call: u8, attempt: u128) -> CallAttempt {
    CallAttempt {
        call: CallId([call; 32]),
        attempt,
    }
}

fn claim(attempt: CallAttempt) -> CallClaim {
    CallClaim {
        attempt,
        of: [9; 32],
        at: BEGIN,
        forget_before: BEGIN,
        calls_max: 100,
        bytes_max: 100,
    }
}

fn done(attempt: CallAttempt, did: &str) -> CallDone {
    CallDone {
        attempt,
        did: did.to_owned(),
    }
}

fn answer(bytes: usize) -> SavedAnswer {
    SavedAnswer {
        status: 201,
        content_type: Some("application/json".to_owned()),
        location: Some("/api/v1/plans/x".to_owned()),
        body: vec![0xff; bytes],
    }
}

fn acts(attempt: CallAttempt) -> Effects {
    Effects {
        call: Some(done(attempt, "key.create key_1")),
        ..effects("key.create", "key_1")
    }
}

/// Also what is not text.
pub async fn an_answer_survives_for_its_request_alone(store: &dyn Store) -> Checked {
    let bare = SavedAnswer {
        status: 204,
        content_type: None,
        location: None,
        body: Vec::new(),
    };
    for (call, answer) in [(1, answer(3)), (2, bare)] {
        let first = attempt(call, 1);
        assert_eq!(store.claim_call(claim(first)).await?, Claimed::Granted);
        store
            .finish_call(done(first, "x"), Some(answer.clone()))
            .await?;
        let again = store.claim_call(claim(attempt(call, 2))).await?;
        assert_eq!(again, Claimed::Answered(answer));
        let other = CallClaim {
            of: [8; 32],
            ..claim(attempt(call, 3))
        };
        assert_eq!(store.claim_call(other).await?, Claimed::OtherRequest);
    }
    Ok(())
}

/// A crash after the act and before its answer: it is known that it was done, and what.
pub async fn an_act_and_its_call_are_done_together(store: &dyn Store) -> Checked {
    let first = attempt(1, 1);
    store.claim_call(claim(first)).await?;
    let mut write = new_key(api_key(1, "acme"));
    write.effects = acts(first);
    store.write_key(write).await?;
    let did = "key.create key_1".to_owned();
    let lost = Claimed::Done { did };
    assert_eq!(store.claim_call(claim(attempt(1, 2))).await?, lost);
    store.release_call(first).await?;
    assert_eq!(store.claim_call(claim(attempt(1, 3))).await?, lost);
    store.finish_call(done(first, "other words"), None).await?;
    assert_eq!(store.claim_call(claim(attempt(1, 4))).await?, lost);
    Ok(())
}

/// A crash before the act: nothing was done, and the next attempt may.
pub async fn a_claim_without_an_act_is_taken_over_and_its_attempt_can_act_no_more(
    store: &dyn Store,
) -> Checked {
    let (first, second) = (attempt(1, 1), attempt(1, 2));
    assert_eq!(store.claim_call(claim(first)).await?, Claimed::Granted);
    assert_eq!(store.claim_call(claim(second)).await?, Claimed::Granted);
    let mut write = new_key(api_key(1, "acme"));
    write.effects = acts(first);
    let refused = store.write_key(write.clone()).await;
    assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
    assert_eq!(refused.err().map(|error| error.entity), Some(Entity::Call));
    assert_eq!(store.find_key(&write.key.id).await?, None);
    let change = CatalogChange {
        expected_version: 0,
        changes: vec![ObjectChange::Put(object(ObjectKind::Plan, "free"))],
        effects: acts(first),
    };
    let refused = store.commit_catalog(change.clone()).await;
    assert_eq!(refused.err().map(|error| error.entity), Some(Entity::Call));
    assert_eq!(store.catalog_version().await?, 0);
    assert!(store.list_audit(10).await?.is_empty());
    let refused = store.finish_call(done(first, "x"), None).await;
    assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
    store.release_call(first).await?;
    let change = CatalogChange {
        effects: acts(second),
        ..change
    };
    assert_eq!(store.commit_catalog(change).await?, 1);
    Ok(())
}

/// What was refused changed nothing and may be tried again, differently too.
pub async fn a_released_call_is_free(store: &dyn Store) -> Checked {
    store.claim_call(claim(attempt(1, 1))).await?;
    store.release_call(attempt(1, 1)).await?;
    let other = CallClaim {
        of: [8; 32],
        ..claim(attempt(1, 2))
    };
    assert_eq!(store.claim_call(other).await?, Claimed::Granted);
    Ok(())
}

/// Another attempt comes while the act is under way: it takes the claim over before the act, which
/// is refused then, or is told that it was done.
pub async fn a_claim_that_races_with_an_act_never_lets_both_act(store: &dyn Store) -> Checked {
    for call in 0..20u8 {
        let (first, second) = (attempt(call, 1), attempt(call, 2));
        assert_eq!(store.claim_call(claim(first)).await?, Claimed::Granted);
        let act = async |attempt, n: u32| {
            let mut write = new_key(api_key(u32::from(call) * 2 + n, "acme"));
            write.effects = acts(attempt);
            store.write_key(write).await.is_ok()
        };
        let again = async {
            match store.claim_call(claim(second)).await? {
                Claimed::Granted => Ok(act(second, 1).await),
                Claimed::Done { .. } => Ok(false),
                other => Err(format!("{other:?}").into()),
            }
        };
        let (acted, acted_again): (bool, Checked<bool>) = join(act(first, 0), again).await;
        assert_ne!(acted, acted_again?, "call {call}");
    }
    Ok(())
}

/// Of many that ask for one call, one can act.
pub async fn of_attempts_racing_for_a_call_one_acts(store: &dyn Store) -> Checked {
    let racing = (0..8u32).map(|n| async move {
        let attempt = attempt(1, u128::from(n));
        store.claim_call(claim(attempt)).await?;
        let mut write = new_key(api_key(n, "acme"));
        write.effects = acts(attempt);
        store.write_key(write).await
    });
    let results = join_all(racing).await;
    let acted = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(acted, 1);
    assert_eq!(store.load_keys(None, 100).await?.len(), 1);
    Ok(())
}

/// In age, in number and in bytes; what is young is never forgotten for room.
pub async fn remembered_calls_are_bounded(store: &dyn Store) -> Checked {
    let few = |n: u8| CallClaim {
        calls_max: 2,
        ..claim(attempt(n, 1))
    };
    assert_eq!(store.claim_call(few(1)).await?, Claimed::Granted);
    assert_eq!(store.claim_call(few(2)).await?, Claimed::Granted);
    assert_eq!(store.claim_call(few(3)).await?, Claimed::Full);
    store
        .finish_call(done(attempt(1, 1), "x"), Some(answer(100)))
        .await?;
    let told = store.claim_call(claim(attempt(3, 1))).await?;
    assert_eq!(told, Claimed::Full);
    let known = store.claim_call(claim(attempt(1, 2))).await?;
    assert_eq!(known, Claimed::Answered(answer(100)));
    let later = CallClaim {
        at: Timestamp(BEGIN.0 + 1),
        forget_before: Timestamp(BEGIN.0 + 1),
        ..few(1)
    };
    assert_eq!(store.claim_call(later).await?, Claimed::Granted);
    Ok(())
}
