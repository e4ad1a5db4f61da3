//! Questions about decisions, without a request: what `quota/check`, `keys/verify` and `me` ask.
//!
//! **Invariant.** Nothing is consumed, and the answer is the one that a request would get: the
//! same look-ups, the same limits, the same decision.

use std::net::IpAddr;
use std::sync::Arc;

use tollgate_admission::{
    Address, CompiledLimits, Enforcement, GivenBack, HeaderValues, Verdict, decide, describe,
};
use tollgate_model::{Api, CheckAnswer, CheckRequest, DenialCode, Mode, Now};

use crate::admit::{Told, as_admission};
use crate::authenticate::{Caller, Directory, check_key, check_state};
use crate::node::{Compiled, Node};

/// Answers a question.
pub(crate) fn check(node: &Node, request: &CheckRequest, now: Now) -> CheckAnswer {
    let catalog = node.catalog.load();
    let directory = directory(node, &catalog);
    let (caller, refused, units, address) = match request {
        CheckRequest::Credential {
            secret,
            units,
            address,
        } => match directory.recognise(secret.as_bytes(), now.wall) {
            Ok(caller) => (Some(caller), None, *units, *address),
            Err((code, caller)) => (
                caller.key.is_some().then_some(caller),
                Some(code),
                *units,
                *address,
            ),
        },
        CheckRequest::Subscription { id, units } => {
            (directory.caller_of_subscription(id), None, *units, None)
        }
        CheckRequest::Key { id, units } => {
            let key = node.keys.find_by_id(id);
            let standing = key.as_ref().map(|k| crate::keys::standing(k, now.wall));
            let refused = match standing {
                Some(crate::keys::Standing::Revoked) => Some(DenialCode::KeyRevoked),
                Some(crate::keys::Standing::Expired) => Some(DenialCode::KeyExpired),
                _ => None,
            };
            let caller = key.and_then(|k| directory.caller_of(k));
            (caller, refused, *units, None)
        }
    };
    match caller {
        Some(caller) => weigh(node, &catalog, &caller, refused, units, address, now).0,
        None => unknown(refused.unwrap_or(DenialCode::KeyInvalid)),
    }
}

fn directory<'a>(node: &'a Node, catalog: &'a Compiled) -> Directory<'a> {
    Directory {
        catalog: &catalog.catalog,
        payers: &catalog.payers,
        keys: &node.keys,
        pepper: &node.pepper,
    }
}

fn unknown(code: DenialCode) -> CheckAnswer {
    CheckAnswer {
        allowed: false,
        code: Some(code),
        limit: None,
        retry_after_s: None,
        key: None,
        subscription: None,
        organization: None,
        plan: None,
        limits: Vec::new(),
    }
}

/// Weighs what speaks against a caller, then its limits; and what headers tell of these.
pub(crate) fn weigh(
    node: &Node,
    catalog: &Compiled,
    caller: &Caller,
    refused: Option<DenialCode>,
    units: u64,
    address: Option<IpAddr>,
    now: Now,
) -> (CheckAnswer, Option<Told>) {
    let mut answer = CheckAnswer {
        key: caller.key.as_ref().map(|k| k.id.clone()),
        subscription: caller.subscription().map(|s| s.id.clone()),
        organization: caller.organization().cloned(),
        plan: caller.plan().map(|p| p.id.clone()),
        ..unknown(DenialCode::KeyInvalid)
    };
    answer.code = refused
        .or_else(|| check_key(caller, None, None, address))
        .or_else(|| check_state(caller));
    // A subscription without any API has no limits that could be asked about.
    let api = caller
        .subscription()
        .and_then(|s| s.apis.iter().find_map(|id| catalog.catalog.apis.get(id)));
    let told =
        api.map(|api| weigh_limits(node, catalog, caller, api, units, address, now, &mut answer));
    answer.allowed = answer.code.is_none();
    (answer, told)
}

#[expect(
    clippy::too_many_arguments,
    reason = "one step of `weigh`, apart only for its length"
)]
fn weigh_limits(
    node: &Node,
    catalog: &Compiled,
    caller: &Caller,
    api: &Arc<Api>,
    units: u64,
    address: Option<IpAddr>,
    now: Now,
    answer: &mut CheckAnswer,
) -> Told {
    let asked = as_admission(caller, false);
    let by = node.periods.at(now);
    let compiled = CompiledLimits::new(&catalog.catalog, asked, api, None, by);
    let scope = address.map(Address::apart);
    let limits = compiled.at(now, scope.as_ref());
    let readings = node.counters.read(&limits, units, now);
    answer.limits = describe(&limits, &readings, now);
    let told = Told {
        values: HeaderValues::new(&limits, &readings, None, GivenBack::default(), now),
        compiled,
    };
    if answer.code.is_some() || api.mode == Mode::Observe {
        return told;
    }
    if node.lost.holds_back(&limits, now) {
        answer.code = Some(DenialCode::CountersUnavailable);
        return told;
    }
    let verdict = decide(&limits, &readings, units, now, Enforcement::Enforce);
    if let Verdict::Deny(refusal) = verdict {
        answer.code = Some(refusal.code);
        answer.limit = Some(Arc::from(refusal.name.as_str()));
        answer.retry_after_s = refusal.retry_after_s;
    }
    told
}
