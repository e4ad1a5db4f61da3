//! A request's way through the gate: the order of refusals, then forwarding.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tollgate_journal::EVENT_ROOM_BYTES;
use tollgate_model::{DenialCode, EncodedSlash, Now, Outcome, RequestId};

use crate::address::client_address;
use crate::admit::{Told, admit, bounds};
use crate::answer::{Rates, identify, name_caller, tell_rates};
use crate::authenticate::{Caller, Directory, detail};
use crate::connection::Connection;
use crate::credentials::{Presented, bearers, presented};
use crate::exchange::Exchange;
use crate::forward::{Abort, AnswerBody, forward};
use crate::head::{HeadFacts, check_head};
use crate::in_force::InForce;
use crate::me;
use crate::options::{REFUSED_BODY_BYTES_MAX, REFUSED_BODY_TIMEOUT};
use crate::problem::Denial;
use crate::record::{Facts, Fate, Recorded, append, event};
use crate::routes::{ApiRoutes, RouteError, RouteMatch};
use crate::worker::Worker;

/// Methods that a refused TRACE is told.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// One request as it arrived.
pub(crate) struct Visit {
    pub(crate) worker: Rc<Worker>,
    pub(crate) id: RequestId,
    /// The moment of admission.
    pub(crate) now: Now,
    pub(crate) address: IpAddr,
    pub(crate) catalog: Rc<InForce>,
}

/// Leave to forward.
pub(crate) struct Admitted {
    pub(crate) exchange: Rc<Exchange>,
    bearer_is_ours: bool,
}

/// What the gate says.
pub(crate) enum Gate {
    Admitted(Admitted),
    /// An answer of ours that is no refusal of an API.
    Own(Response<AnswerBody>),
}

/// A refusal, and how far it is told and recorded.
pub(crate) struct Refused {
    pub(crate) denial: Denial,
    route: Option<RouteMatch>,
    caller: Caller,
    told: Option<Told>,
    record: Record,
}

/// Whether a refusal becomes a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    /// A figure only.
    No,
    /// A record, while there are not too many of such in a second.
    Unidentified,
    /// A record.
    Yes,
    /// Part of a summary.
    Summary,
}

impl From<Denial> for Box<Refused> {
    fn from(denial: Denial) -> Self {
        Box::new(Refused {
            denial,
            route: None,
            caller: Caller::default(),
            told: None,
            record: Record::No,
        })
    }
}

/// Serves one request. Dropped at any point, it leaves a record of what was admitted.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Abort> {
    let now = worker.now();
    connection.begin(now.ticks);
    let (parts, incoming) = request.into_parts();
    let trusted = &worker.node().options.trusted_proxies;
    let visit = Visit {
        id: worker.mint(now),
        now,
        address: client_address(connection.peer_address(), &parts.headers, trusted),
        catalog: worker.catalog(),
        worker,
    };
    match gate(&visit, &connection, &parts) {
        Ok(Gate::Admitted(admitted)) => {
            let Admitted {
                exchange,
                bearer_is_ours,
            } = admitted;
            forward(exchange, parts, incoming, bearer_is_ours).await
        }
        Ok(Gate::Own(mut answer)) => {
            spend_body(&connection, &mut answer, &parts, incoming, false).await;
            connection.finish(visit.worker.now().ticks);
            Ok(answer)
        }
        Err(refused) => refuse(&visit, &connection, *refused, parts, incoming).await,
    }
}

/// Steps 1 to 8, in their order. Nothing waits here: from looking a key up to registering its
/// exchange no other code of the thread runs, so that no change of the key falls in between.
pub(crate) fn gate(
    visit: &Visit,
    connection: &Rc<Connection>,
    parts: &Parts,
) -> Result<Gate, Box<Refused>> {
    let head = check_head(parts).map_err(Denial::malformed)?;
    let presented = presented(&parts.headers)
        .map_err(|_| Denial::malformed("The request carries two different credentials."))?;
    let path = parts.uri.path();
    if me::is_ours(path) {
        return me::answer(visit, parts, presented).map(Gate::Own);
    }
    let api = visit
        .catalog
        .routes
        .find_api(&head.host, path)
        .ok_or_else(|| {
            Denial::new(
                DenialCode::ApiNotFound,
                "No API is offered at this host and path.",
            )
        })?;
    let route = find_route(api, parts, &head)?;
    let directory = Directory {
        catalog: &visit.catalog.catalog,
        payers: &visit.catalog.payers,
        keys: &visit.worker.node().keys,
        pepper: &visit.worker.node().pepper,
    };
    let found = directory.authenticate(&route, presented, visit.address, visit.now.wall);
    if let Some(code) = found.refused {
        return Err(refused_caller(visit, code, found.caller, route));
    }
    // Beside a key in its own header, `Authorization` is the upstream's; a key there is not.
    let key_beside = matches!(presented, Presented::Header(_))
        && bearers(&parts.headers).any(|token| directory.is_key(token));
    let bounds = bounds(visit, &found.caller, &route);
    let (terms, permit) = match admit(visit, route.api(), bounds) {
        Ok(admitted) => admitted,
        Err(not) => {
            let summarised = not.denial.code == DenialCode::JournalFull;
            return Err(Box::new(Refused {
                denial: not.denial,
                route: Some(route),
                caller: found.caller,
                told: Some(not.told),
                record: if summarised {
                    Record::Summary
                } else {
                    Record::Yes
                },
            }));
        }
    };
    let facts = Facts::of(parts, visit, route, found.caller);
    let exchange = Exchange::begin(&visit.worker, connection, facts, terms, permit);
    Ok(Gate::Admitted(Admitted {
        exchange,
        bearer_is_ours: found.bearer_is_ours || key_beside,
    }))
}

/// What of step 1 depends on the API, then steps 2 and 3.
fn find_route(
    api: &Arc<ApiRoutes>,
    parts: &Parts,
    head: &HeadFacts<'_>,
) -> Result<RouteMatch, Box<Refused>> {
    if head.path.has_encoded_slash && api.api.encoded_slash == EncodedSlash::Refuse {
        return Err(Denial::malformed("The path must not hold %2F.").into());
    }
    let unidentified = |denial| {
        Box::new(Refused {
            denial,
            route: Some(api.matched(None)),
            caller: Caller::default(),
            told: None,
            record: Record::Unidentified,
        })
    };
    let too_long = api.api.body_bytes_max.zip(head.content_length);
    if too_long.is_some_and(|(max, declared)| declared > max) {
        let detail = "The body is longer than this API takes.";
        return Err(unidentified(Denial::new(DenialCode::BodyTooLarge, detail)));
    }
    let not_allowed = |allow: String| {
        unidentified(Denial {
            allow: Some(allow),
            ..Denial::new(
                DenialCode::MethodNotAllowed,
                "The path is known, the method is not.",
            )
        })
    };
    if parts.method == Method::TRACE {
        return Err(not_allowed(METHODS.to_owned()));
    }
    match api.find_route(parts.uri.path(), parts.method.as_str()) {
        Ok(route) => Ok(route),
        Err(RouteError::Method(methods)) => Err(not_allowed(methods.join(", "))),
        Err(RouteError::Unlisted) => {
            Err(Denial::new(DenialCode::RouteNotFound, "The API offers no such path.").into())
        }
    }
}

/// Steps 4 to 6.
fn refused_caller(
    visit: &Visit,
    code: DenialCode,
    caller: Caller,
    route: RouteMatch,
) -> Box<Refused> {
    let identified = caller.key.is_some();
    // Limits are told from step 5 on: who is not let in learns nothing about them.
    let told = (code.status() != 401)
        .then(|| bounds(visit, &caller, &route).read(&visit.worker, visit.now));
    Box::new(Refused {
        denial: Denial::new(code, detail(code)),
        route: Some(route),
        caller,
        told,
        record: if identified {
            Record::Yes
        } else {
            Record::Unidentified
        },
    })
}

/// Answers a refusal: recorded first, then sent.
async fn refuse(
    visit: &Visit,
    connection: &Rc<Connection>,
    refused: Refused,
    parts: Parts,
    incoming: Incoming,
) -> Result<Response<AnswerBody>, Abort> {
    let worker = &visit.worker;
    let code = refused.denial.code;
    worker.node().metrics.denied(code);
    let mut answer = refused.denial.answer(visit.id);
    // Recorded before anything waits: a client that leaves now does not take the record with it.
    let recorded = record(visit, &parts, &refused);
    spend_body(
        connection,
        &mut answer,
        &parts,
        incoming,
        refused.denial.close,
    )
    .await;
    let now = worker.now();
    identify(answer.headers_mut(), visit.id, visit.now.ticks, now.ticks);
    if refused.caller.key.is_some() || refused.caller.anonymous.is_some() {
        name_caller(answer.headers_mut(), &refused.caller);
    }
    if let Some(told) = &refused.told {
        let rates = Rates {
            values: told.values,
            policy: told.compiled.policy(),
        };
        tell_rates(answer.headers_mut(), &rates);
    }
    if !recorded.done().await {
        return Err(Abort);
    }
    connection.finish(now.ticks);
    Ok(answer)
}

/// Writes a refusal down, where it is to be.
pub(crate) fn record(visit: &Visit, parts: &Parts, refused: &Refused) -> Recorded {
    let Some(route) = &refused.route else {
        return Recorded::Done;
    };
    let node = visit.worker.node();
    let code = refused.denial.code;
    route.owner().metrics.answered(code.status());
    let alone = match refused.record {
        Record::No => return Recorded::Done,
        Record::Yes => true,
        Record::Unidentified => node.records_unidentified(visit.now.wall),
        Record::Summary => false,
    };
    let room = if alone {
        visit.worker.reserve_room(EVENT_ROOM_BYTES).ok()
    } else {
        None
    };
    let Some(room) = room else {
        node.summarise(&route.api().id, code);
        return Recorded::Done;
    };
    let fate = Fate {
        status: code.status(),
        code: Some(code),
        limit: refused.denial.refusal.as_ref().map(|r| r.name.as_str()),
        latency_us: visit.worker.now().ticks.since(visit.now.ticks),
        ..Fate::default()
    };
    let facts = Facts::of(parts, visit, route.clone(), refused.caller.clone());
    let compiled = refused.told.as_ref().map(|t| &t.compiled);
    let event = event(&facts, compiled, Outcome::Denied, &fate);
    append(&visit.worker, room, event, Vec::new())
}

/// Gets a body out of the way that nobody asked for: a short one is read, so that the connection
/// can go on; otherwise the connection closes after the answer.
async fn spend_body(
    connection: &Connection,
    answer: &mut Response<AnswerBody>,
    parts: &Parts,
    incoming: Incoming,
    close: bool,
) {
    use http::header::{CONNECTION, EXPECT, UPGRADE};
    let must_close = close || parts.headers.contains_key(UPGRADE);
    let whole = incoming.is_end_stream();
    // Reading would make a client that waits for 100 send what nobody wants.
    let short = !parts.headers.contains_key(EXPECT)
        && incoming
            .size_hint()
            .upper()
            .is_none_or(|n| n <= REFUSED_BODY_BYTES_MAX);
    let spent = whole || (!must_close && short && drain(incoming).await);
    if must_close || !spent {
        let value = http::HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, value);
        connection.linger();
    }
}

/// Reads a body away; false when it is too long, too slow or broken.
async fn drain(mut incoming: Incoming) -> bool {
    let reading = async {
        let mut left = REFUSED_BODY_BYTES_MAX;
        while let Some(frame) = incoming.frame().await {
            let Ok(frame) = frame else {
                return false;
            };
            let length = frame.data_ref().map_or(0, bytes::Bytes::len) as u64;
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    tokio::time::timeout(REFUSED_BODY_TIMEOUT, reading)
        .await
        .unwrap_or(false)
}
