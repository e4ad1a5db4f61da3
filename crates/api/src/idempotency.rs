//! `Idempotency-Key`: a POST that is sent again is answered again, not done again.
//!
//! **Invariants.** A key names one request of one token: another body or call under it is refused,
//! a repeat while the first still runs too. The store remembers every such call for 24 h: claimed
//! before it acts, done in the transaction of its act, answered after it. So a call acts at most
//! once whenever the process is killed:
//!
//! | killed | the store knows | a repeat |
//! |---|---|---|
//! | before the act | a claim | is carried out |
//! | between act and answer | done, and what was done | 409 `idempotency_answer_lost`, which says it |
//! | after the answer | the answer | gets the answer |
//!
//! Answers that show a secret once ([`ShownOnce`]) are kept in memory alone, which makes the
//! third case the second for them. Only answers of done work (2xx) are kept: what was refused
//! changed nothing and may be tried again. In memory the oldest answer is forgotten when there is
//! no room, because the store has it; when the store has no room, or all room here is taken by
//! running calls, further calls with a key are refused with 503.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tollgate_control::Principal;
use tollgate_model::Timestamp;
use tollgate_store::{CallAttempt, CallClaim, CallDone, CallId, Claimed, SavedAnswer, StoreResult};

use crate::body::read_bytes;
use crate::error::{ApiError, ApiResult, Code};
use crate::redact;
use crate::state::ApiState;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const KEPT_HEADERS: [HeaderName; 2] = [CONTENT_TYPE, LOCATION];
const AGE_MAX_US: i64 = 24 * 3_600 * 1_000_000;

/// One token's key.
type Name = (String, String);
type Fingerprint = [u8; 32];

/// Marks an answer that holds a secret which is shown once: it is never written to the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShownOnce;

/// An answer as it was given.
#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

enum Slot {
    Running(Fingerprint),
    Done { of: Fingerprint, answer: Answer },
}

#[derive(Default)]
struct Kept {
    slots: HashMap<Name, Slot>,
    /// Finished ones, oldest first.
    done: VecDeque<(Timestamp, Name)>,
    bytes: usize,
}

/// The answers that may be asked for again.
pub(crate) struct Replays {
    kept: Mutex<Kept>,
    entries_max: usize,
    bytes_max: usize,
}

enum Begin {
    Run(Running),
    Replay(Answer),
}

/// A call under an idempotency key; forgotten when it ends without an answer to keep.
struct Running {
    replays: Arc<Replays>,
    name: Option<Name>,
    of: Fingerprint,
}

impl Replays {
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            kept: Mutex::new(Kept::default()),
            entries_max,
            bytes_max,
        }
    }

    /// A panic while holding the lock leaves at worst a sum that is off; going on is right.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, name: Name, of: Fingerprint, now: Timestamp) -> ApiResult<Begin> {
        let mut kept = self.lock();
        kept.forget_before(now.plus_us(-AGE_MAX_US));
        match kept.slots.get(&name) {
            Some(Slot::Running(same)) if *same == of => {
                return Err(ApiError::new(
                    Code::IDEMPOTENCY_IN_FLIGHT,
                    "the first call with this Idempotency-Key has not ended",
                ));
            }
            Some(Slot::Done { of: same, answer }) if *same == of => {
                return Ok(Begin::Replay(answer.clone()));
            }
            Some(_) => {
                return Err(mismatch());
            }
            None => {}
        }
        if kept.slots.len() >= self.entries_max && !kept.forget_oldest() {
            return Err(ApiError::new(
                Code::UNAVAILABLE,
                "too many calls with an Idempotency-Key are running",
            ));
        }
        kept.slots.insert(name.clone(), Slot::Running(of));
        Ok(Begin::Run(Running {
            replays: Arc::clone(self),
            name: Some(name),
            of,
        }))
    }
}

impl Kept {
    fn forget_before(&mut self, oldest: Timestamp) {
        while self.done.front().is_some_and(|(at, _)| *at < oldest) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, name)) = self.done.pop_front() else {
            return false;
        };
        if let Some(Slot::Done { answer, .. }) = self.slots.remove(&name) {
            self.bytes = self.bytes.saturating_sub(answer.body.len());
        }
        true
    }
}

impl Running {
    fn keep(mut self, answer: Answer, now: Timestamp) {
        let Some(name) = self.name.take() else {
            return;
        };
        let mut kept = self.replays.lock();
        kept.bytes += answer.body.len();
        kept.slots.insert(
            name.clone(),
            Slot::Done {
                of: self.of,
                answer,
            },
        );
        kept.done.push_back((now, name));
        while kept.bytes > self.replays.bytes_max && kept.forget_oldest() {}
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.replays.lock().slots.remove(&name);
        }
    }
}

/// Replays, refuses or runs a call.
pub(crate) async fn idempotency(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    run(&state, request, next)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn run(state: &ApiState, request: Request, next: Next) -> ApiResult<Response> {
    let key = read_key(request.headers())?;
    // Calls without a token have no owner whose key it could be.
    let Some(owner) = request
        .extensions()
        .get::<Principal>()
        .map(|principal| principal.id.as_str().to_owned())
    else {
        return Ok(next.run(request).await);
    };
    let (mut parts, body) = request.into_parts();
    let body = read_bytes(state, body).await?;
    let of = fingerprint(&[parts.uri.to_string().as_bytes(), &body]);
    let now = state.clock().now().wall;
    let attempt = CallAttempt {
        call: CallId(fingerprint(&[owner.as_bytes(), key.as_bytes()])),
        attempt: state.ids().uuid(now),
    };
    let running = match state.replays().begin((owner, key), of, now)? {
        Begin::Replay(answer) => return Ok(replay(answer)),
        Begin::Run(running) => running,
    };
    if let Some(answer) = claim(state, attempt, of, now).await? {
        return Ok(replay(answer));
    }
    let target = redact::target(&parts.uri);
    parts.extensions.insert(attempt);
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if !response.status().is_success() {
        note(state.store().release_call(attempt).await);
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(ApiError::internal)?.to_bytes();
    let answer = Answer::of(&parts, &body);
    let keeps = parts.extensions.get::<ShownOnce>().is_none()
        && body.len() <= state.options().answer_bytes_max;
    let done = CallDone {
        attempt,
        did: format!("POST {target}"),
    };
    let saved = keeps.then(|| answer.to_saved());
    note(state.store().finish_call(done, saved).await);
    running.keep(answer, now);
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// Claims the call in the store; the answer when it was given before.
async fn claim(
    state: &ApiState,
    attempt: CallAttempt,
    of: Fingerprint,
    now: Timestamp,
) -> ApiResult<Option<Answer>> {
    let claim = CallClaim {
        attempt,
        of,
        at: now,
        forget_before: now.plus_us(-AGE_MAX_US),
        calls_max: state.options().calls_max,
        bytes_max: state.options().answers_bytes_max,
    };
    match state.store().claim_call(claim).await? {
        Claimed::Granted => Ok(None),
        Claimed::Answered(saved) => Ok(Some(Answer::of_saved(saved)?)),
        Claimed::OtherRequest => Err(mismatch()),
        Claimed::Done { did } => Err(ApiError::new(
            Code::IDEMPOTENCY_ANSWER_LOST,
            format!(
                "the first call with this Idempotency-Key did: {did}; its answer is not kept. Read \
                 what is there now; a secret that was shown in the answer is gone: revoke that key \
                 and make another under another Idempotency-Key"
            ),
        )),
        Claimed::Full => Err(ApiError::new(
            Code::UNAVAILABLE,
            "too many calls with an Idempotency-Key in the last 24 h",
        )),
    }
}

/// The act stands, whatever becomes of its answer: a failure here is for the log. The claim then
/// says what was done, and one that did nothing is taken over by the next attempt.
fn note(kept: StoreResult<()>) {
    if let Err(error) = kept {
        tracing::warn!(%error, "the end of a call with an Idempotency-Key was not noted");
    }
}

fn mismatch() -> ApiError {
    ApiError::new(
        Code::IDEMPOTENCY_MISMATCH,
        "this Idempotency-Key was used for another request",
    )
}

impl Answer {
    fn of(parts: &Parts, body: &Bytes) -> Self {
        let mut headers = HeaderMap::new();
        for name in KEPT_HEADERS {
            if let Some(value) = parts.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        Self {
            status: parts.status,
            headers,
            body: body.clone(),
        }
    }

    fn to_saved(&self) -> SavedAnswer {
        let header = |name| {
            let value = self.headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        SavedAnswer {
            status: self.status.as_u16(),
            content_type: header(CONTENT_TYPE),
            location: header(LOCATION),
            body: self.body.to_vec(),
        }
    }

    fn of_saved(saved: SavedAnswer) -> ApiResult<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (CONTENT_TYPE, saved.content_type),
            (LOCATION, saved.location),
        ] {
            if let Some(value) = value {
                let value = HeaderValue::try_from(value).map_err(ApiError::internal)?;
                headers.insert(name, value);
            }
        }
        Ok(Self {
            status: StatusCode::from_u16(saved.status).map_err(ApiError::internal)?,
            headers,
            body: saved.body.into(),
        })
    }
}

fn read_key(headers: &HeaderMap) -> ApiResult<String> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = values.next().and_then(|value| value.to_str().ok());
    match key {
        Some(key)
            if values.next().is_none()
                && (1..=255).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(key.to_owned())
        }
        _ => Err(ApiError::invalid_field(
            "Idempotency-Key",
            "invalid",
            "one value of 1 to 255 visible ASCII characters",
        )),
    }
}

/// A digest that no other list of parts has.
fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn replay(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Name {
        ("tok".to_owned(), n.to_string())
    }

    fn answer(bytes: usize) -> Answer {
        Answer {
            status: StatusCode::CREATED,
            headers: HeaderMap::new(),
            body: Bytes::from(vec![b'x'; bytes]),
        }
    }

    fn run(replays: &Arc<Replays>, n: usize, now: Timestamp) -> Running {
        match replays.begin(name(n), [0; 32], now).unwrap() {
            Begin::Run(running) => running,
            Begin::Replay(_) => panic!("replayed"),
        }
    }

    #[test]
    fn a_call_that_ends_without_success_may_be_tried_again() {
        let replays = Arc::new(Replays::new(4, 100));
        drop(run(&replays, 1, Timestamp(0)));
        drop(run(&replays, 1, Timestamp(0)));
    }

    #[test]
    fn answers_are_bounded_in_number_bytes_and_age() {
        let replays = Arc::new(Replays::new(2, 100));
        for n in 0..50 {
            run(&replays, n, Timestamp(0)).keep(answer(30), Timestamp(0));
        }
        assert_eq!(replays.lock().slots.len(), 2);
        run(&replays, 100, Timestamp(0)).keep(answer(90), Timestamp(0));
        assert_eq!(replays.lock().bytes, 90);
        assert_eq!(replays.lock().slots.len(), 1);
        let day = Timestamp(AGE_MAX_US + 1);
        drop(run(&replays, 100, day));
        assert_eq!(replays.lock().slots.len(), 0);
        assert_eq!(replays.lock().bytes, 0);
    }

    #[test]
    fn running_calls_are_never_forgotten_for_room() {
        let replays = Arc::new(Replays::new(2, 100));
        let _first = run(&replays, 1, Timestamp(0));
        let _second = run(&replays, 2, Timestamp(0));
        let refused = replays.begin(name(3), [0; 32], Timestamp(0));
        assert_eq!(refused.err().unwrap().code, Code::UNAVAILABLE);
        let same = replays.begin(name(1), [0; 32], Timestamp(0));
        assert_eq!(same.err().unwrap().code, Code::IDEMPOTENCY_IN_FLIGHT);
        let other = replays.begin(name(1), [1; 32], Timestamp(0));
        assert_eq!(other.err().unwrap().code, Code::IDEMPOTENCY_MISMATCH);
    }
}
