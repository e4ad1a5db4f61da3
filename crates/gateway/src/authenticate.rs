//! Who is calling, and whether they may: steps 4 to 6 of the order of refusals.
//!
//! The raw key is hashed here and goes no further. Nothing waits.

use std::net::IpAddr;
use std::sync::Arc;

use tollgate_model::{
    Api, Catalog, DenialCode, KeyHash, KeySecret, OrganizationId, Pepper, Plan, Subscription,
    SubscriptionId, SubscriptionState, Timestamp,
};

use crate::address::is_within;
use crate::credentials::Presented;
use crate::keys::{KeyTable, KnownKey, Standing, standing};
use crate::payers::{Payer, Payers, scope_of_subscription};
use crate::routes::RouteMatch;

/// Who is calling.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The key, where one was recognised.
    pub(crate) key: Option<Arc<KnownKey>>,
    /// Its subscription, with the plan in force.
    pub(crate) payer: Option<Arc<Payer>>,
    /// Without a key: the API's plan for such callers.
    pub(crate) anonymous: Option<Arc<Plan>>,
}

impl Caller {
    /// Who pays.
    pub(crate) fn subscription(&self) -> Option<&Subscription> {
        self.payer.as_ref().map(|payer| &*payer.subscription)
    }

    /// The plan in force.
    pub(crate) fn plan(&self) -> Option<&Arc<Plan>> {
        let subscribed = self.payer.as_ref().map(|payer| &payer.plan);
        subscribed.or(self.anonymous.as_ref())
    }

    /// What `X-User-Id` tells.
    pub(crate) fn user_id(&self) -> &str {
        self.subscription().map_or("anonymous", |s| s.id.as_str())
    }

    /// The customer.
    pub(crate) fn organization(&self) -> Option<&OrganizationId> {
        self.subscription().map(|s| &s.organization)
    }
}

/// The outcome: who it is, and what speaks against them.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) caller: Caller,
    pub(crate) refused: Option<DenialCode>,
    /// `Authorization` carried the credential and must not go on.
    pub(crate) bearer_is_ours: bool,
}

/// What authentication looks things up in.
#[derive(Clone, Copy)]
pub(crate) struct Directory<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) payers: &'a Payers,
    pub(crate) keys: &'a KeyTable,
    pub(crate) pepper: &'a Pepper,
}

impl Directory<'_> {
    /// Finds out who is calling a route.
    pub(crate) fn authenticate(
        &self,
        route: &RouteMatch,
        presented: Presented<'_>,
        address: IpAddr,
        now: Timestamp,
    ) -> Authenticated {
        let (secret, bearer) = match presented {
            Presented::None => return self.without_key(route),
            Presented::Header(secret) => (secret, false),
            Presented::Bearer(secret) => (secret, true),
        };
        let found = self.recognise(secret, now);
        if !route.open() {
            let refused = match &found {
                Err((code, _)) => Some(*code),
                Ok(caller) => check_caller(caller, route, address),
            };
            let (Ok(caller) | Err((_, caller))) = found;
            return Authenticated {
                caller,
                refused,
                bearer_is_ours: bearer,
            };
        }
        // An open route asks for no key: a bearer that is none of ours is the upstream's business.
        let looks_like_ours =
            || std::str::from_utf8(secret).is_ok_and(KeySecret::has_valid_checksum);
        let known = !matches!(found, Err((DenialCode::KeyInvalid, _)));
        Authenticated {
            caller: found
                .ok()
                .filter(|caller| check_key(caller, None, None, None).is_none())
                .unwrap_or_default(),
            refused: None,
            bearer_is_ours: bearer && (known || looks_like_ours()),
        }
    }

    fn without_key(&self, route: &RouteMatch) -> Authenticated {
        let api = route.api();
        let plan_id = api.anonymous_plan.as_ref();
        let plan = plan_id.and_then(|id| self.catalog.plans.get(id));
        let scoped = route.route().is_some_and(|r| r.scope.is_some());
        let (caller, refused) = match plan {
            _ if route.open() => (Caller::default(), None),
            Some(plan) if !scoped => {
                let caller = Caller {
                    anonymous: Some(Arc::clone(plan)),
                    ..Caller::default()
                };
                (caller, None)
            }
            _ => (Caller::default(), Some(DenialCode::KeyMissing)),
        };
        Authenticated {
            caller,
            refused,
            bearer_is_ours: false,
        }
    }

    /// The caller of a secret. A key that is known but no longer good is told with its caller.
    pub(crate) fn recognise(
        &self,
        secret: &[u8],
        now: Timestamp,
    ) -> Result<Caller, (DenialCode, Caller)> {
        KeySecret::check_form(secret).map_err(|_| (DenialCode::KeyInvalid, Caller::default()))?;
        self.recognise_hash(&self.pepper.hash(secret), now)
    }

    /// The same by the stored form of the secret.
    pub(crate) fn recognise_hash(
        &self,
        hash: &KeyHash,
        now: Timestamp,
    ) -> Result<Caller, (DenialCode, Caller)> {
        let unknown = || (DenialCode::KeyInvalid, Caller::default());
        let key = self.keys.find(hash).ok_or_else(unknown)?;
        let caller = self.caller_of(key).ok_or_else(unknown)?;
        match caller.key.as_ref().map(|k| standing(k, now)) {
            Some(Standing::Revoked) => Err((DenialCode::KeyRevoked, caller)),
            Some(Standing::Expired) => Err((DenialCode::KeyExpired, caller)),
            _ => Ok(caller),
        }
    }

    /// Whether a token is a key of ours, usable or not: one that we made, by its form, or one that
    /// we were given.
    pub(crate) fn is_key(&self, token: &[u8]) -> bool {
        let made_here = || std::str::from_utf8(token).is_ok_and(KeySecret::has_valid_checksum);
        KeySecret::check_form(token).is_ok()
            && (made_here() || self.keys.find(&self.pepper.hash(token)).is_some())
    }

    /// The key with all that hangs on it; `None` where its subscription is gone.
    pub(crate) fn caller_of(&self, key: Arc<KnownKey>) -> Option<Caller> {
        let payer = Arc::clone(self.payers.find(key.payer)?);
        Some(Caller {
            key: Some(key),
            payer: Some(payer),
            anonymous: None,
        })
    }

    /// A subscription as a caller.
    pub(crate) fn caller_of_subscription(&self, id: &SubscriptionId) -> Option<Caller> {
        let payer = self.payers.find(scope_of_subscription(id))?;
        Some(Caller {
            payer: Some(Arc::clone(payer)),
            ..Caller::default()
        })
    }
}

pub(crate) fn check_caller(
    caller: &Caller,
    route: &RouteMatch,
    address: IpAddr,
) -> Option<DenialCode> {
    let scope = route.route().and_then(|r| r.scope.as_deref());
    check_key(caller, Some(route.api()), scope, Some(address)).or_else(|| check_state(caller))
}

/// Step 5: switched off, not for this API, not from here, not for this. What is not known is not
/// asked.
pub(crate) fn check_key(
    caller: &Caller,
    api: Option<&Api>,
    scope: Option<&str>,
    address: Option<IpAddr>,
) -> Option<DenialCode> {
    let (Some(key), Some(payer)) = (&caller.key, &caller.payer) else {
        return None;
    };
    if key.state != tollgate_model::KeyState::Active {
        return Some(DenialCode::KeyDisabled);
    }
    if api.is_some_and(|api| !payer.apis.contains(&api.id)) {
        return Some(DenialCode::ApiNotSubscribed);
    }
    let allowed = key.allowed_addresses();
    if !allowed.is_empty() && address.is_some_and(|a| !is_within(a, allowed)) {
        return Some(DenialCode::AddressNotAllowed);
    }
    let has = |scopes: Option<&[String]>, wanted: &str| {
        scopes.is_none_or(|scopes| scopes.iter().any(|s| s == wanted))
    };
    let of_plan = caller.plan().and_then(|p| p.scopes.as_deref());
    if scope.is_some_and(|wanted| !has(key.scopes(), wanted) || !has(of_plan, wanted)) {
        return Some(DenialCode::ScopeMissing);
    }
    None
}

/// Step 6: where the subscription stands.
pub(crate) fn check_state(caller: &Caller) -> Option<DenialCode> {
    match caller.payer.as_ref()?.state {
        SubscriptionState::Suspended => Some(DenialCode::SubscriptionSuspended),
        SubscriptionState::Cancelled => Some(DenialCode::SubscriptionCancelled),
        SubscriptionState::Trialing | SubscriptionState::Active | SubscriptionState::PastDue => {
            None
        }
    }
}

/// What a refused caller is told.
pub(crate) const fn detail(code: DenialCode) -> &'static str {
    match code {
        DenialCode::KeyMissing => {
            "Send an API key as X-API-Key, X-Subscription-Key or Authorization: Bearer."
        }
        DenialCode::KeyInvalid => "The API key is not known here.",
        DenialCode::KeyExpired => "The API key's time is over; use the one that replaced it.",
        DenialCode::KeyRevoked => "The API key was taken back.",
        DenialCode::KeyDisabled => "The API key is switched off.",
        DenialCode::ApiNotSubscribed => "The key's subscription does not include this API.",
        DenialCode::AddressNotAllowed => "The key may not be used from this address.",
        DenialCode::ScopeMissing => "The key lacks the scope that this route asks for.",
        DenialCode::SubscriptionSuspended => "The subscription is suspended.",
        DenialCode::SubscriptionCancelled => "The subscription was cancelled.",
        _ => "The request was refused.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::presented;
    use crate::metrics::Metrics;
    use crate::routes::RouteTable;
    use crate::testing::{api, catalog_of, key, plan, route, subscription};
    use http::HeaderMap;
    use tollgate_model::{ApiKey, KeyChange, KeyDelta, KeyState, PlanId};

    const NOW: Timestamp = Timestamp(1_000);
    const SECRET: &str = "hm_secret";

    struct World {
        catalog: Catalog,
        key: ApiKey,
        pepper: Pepper,
    }

    impl World {
        fn new() -> Self {
            let pepper = Pepper::new(b"pepper".to_vec());
            let mut scoped = route("/scoped", &[]);
            scoped.scope = Some("read".into());
            let mut open = route("/open", &[]);
            open.open = true;
            let mut catalog = catalog_of(vec![api("a", "/", vec![scoped, open])]);
            catalog.plans.insert(PlanId::new("p"), Arc::new(plan("p")));
            let sub = subscription("sub", "p", &["a"]);
            catalog.subscriptions.insert(sub.id.clone(), Arc::new(sub));
            let mut key = key("key_a", 0);
            key.hash = pepper.hash(SECRET.as_bytes());
            Self {
                catalog,
                key,
                pepper,
            }
        }

        fn change_subscription(&mut self, change: impl FnOnce(&mut Subscription)) {
            let sub = self.catalog.subscriptions.values_mut().next().unwrap();
            change(Arc::make_mut(sub));
        }

        fn change_plan(&mut self, change: impl FnOnce(&mut Plan)) {
            let plan = self.catalog.plans.values_mut().next().unwrap();
            change(Arc::make_mut(plan));
        }

        fn allow_anonymous(&mut self) {
            let api = self.catalog.apis.values_mut().next().unwrap();
            Arc::make_mut(api).anonymous_plan = Some(PlanId::new("p"));
        }

        fn ask(&self, path: &str, headers: &[(&'static str, &str)]) -> Authenticated {
            let table = RouteTable::compile(&self.catalog, &Metrics::default());
            let found = table.find_api("", path).unwrap();
            let matched = found.find_route(path, "GET").unwrap();
            let keys = KeyTable::new();
            let change = KeyChange::Put(Arc::new(self.key.clone()));
            let delta = KeyDelta {
                version: 1,
                changes: vec![change],
            };
            keys.apply(&delta, NOW);
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let directory = Directory {
                catalog: &self.catalog,
                payers: &Payers::of(&self.catalog),
                keys: &keys,
                pepper: &self.pepper,
            };
            let address = "10.0.0.1".parse().unwrap();
            let presented = presented(&map).unwrap();
            directory.authenticate(&matched, presented, address, NOW)
        }

        fn refusal(&self, path: &str) -> Option<DenialCode> {
            self.ask(path, &[("x-api-key", SECRET)]).refused
        }
    }

    #[test]
    fn a_good_key_is_recognised_however_it_is_sent() {
        let world = World::new();
        let bearer = format!("Bearer {SECRET}");
        for (name, value, ours) in [
            ("x-api-key", SECRET, false),
            ("x-subscription-key", SECRET, false),
            ("authorization", &bearer, true),
        ] {
            let found = world.ask("/x", &[(name, value)]);
            assert_eq!(found.refused, None);
            assert_eq!(found.caller.user_id(), "sub");
            assert_eq!(found.bearer_is_ours, ours);
        }
    }

    #[test]
    fn every_reason_to_refuse_has_its_code() {
        let refused = |change: fn(&mut World), path: &str| {
            let mut world = World::new();
            change(&mut world);
            world.refusal(path)
        };
        use DenialCode::*;
        type Change = fn(&mut World);
        let cases: [(Change, &str, DenialCode); 9] = [
            (|w| w.key.state = KeyState::Revoked, "/x", KeyRevoked),
            (|w| w.key.expires_at = Some(NOW), "/x", KeyExpired),
            (|w| w.key.state = KeyState::Disabled, "/x", KeyDisabled),
            (
                |w| w.change_subscription(|s| s.apis.clear()),
                "/x",
                ApiNotSubscribed,
            ),
            (
                |w| w.key.allowed_addresses = vec!["192.168.0.0/16".parse().unwrap()],
                "/x",
                AddressNotAllowed,
            ),
            (|w| w.key.scopes = Some(vec![]), "/scoped", ScopeMissing),
            (
                |w| w.change_plan(|p| p.scopes = Some(vec!["write".into()])),
                "/scoped",
                ScopeMissing,
            ),
            (
                |w| w.change_subscription(|s| s.state = SubscriptionState::Suspended),
                "/x",
                SubscriptionSuspended,
            ),
            (
                |w| w.change_subscription(|s| s.state = SubscriptionState::Cancelled),
                "/x",
                SubscriptionCancelled,
            ),
        ];
        for (change, path, code) in cases {
            assert_eq!(refused(change, path), Some(code));
        }
        assert_eq!(refused(|_| {}, "/scoped"), None);
        let inside: fn(&mut World) =
            |w| w.key.allowed_addresses = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(refused(inside, "/x"), None);
    }

    #[test]
    fn the_first_reason_in_the_order_of_refusals_answers() {
        let mut world = World::new();
        world.key.scopes = Some(vec![]);
        world.key.allowed_addresses = vec!["192.168.0.0/16".parse().unwrap()];
        world.change_subscription(|s| s.state = SubscriptionState::Suspended);
        assert_eq!(
            world.refusal("/scoped"),
            Some(DenialCode::AddressNotAllowed)
        );
        world.key.state = KeyState::Disabled;
        assert_eq!(world.refusal("/scoped"), Some(DenialCode::KeyDisabled));
        world.key.expires_at = Some(NOW);
        assert_eq!(world.refusal("/scoped"), Some(DenialCode::KeyExpired));
    }

    #[test]
    fn an_unknown_key_is_invalid_and_names_nobody() {
        let world = World::new();
        for secret in ["other", "", "with space"] {
            let found = world.ask("/x", &[("x-api-key", secret)]);
            assert_eq!(found.refused, Some(DenialCode::KeyInvalid));
            assert!(found.caller.key.is_none());
        }
    }

    #[test]
    fn callers_without_a_key_need_a_plan_and_an_unscoped_route() {
        let mut world = World::new();
        assert_eq!(world.ask("/x", &[]).refused, Some(DenialCode::KeyMissing));
        world.allow_anonymous();
        let found = world.ask("/x", &[]);
        assert_eq!(found.refused, None);
        assert!(found.caller.anonymous.is_some());
        assert_eq!(found.caller.user_id(), "anonymous");
        let scoped = world.ask("/scoped", &[]).refused;
        assert_eq!(scoped, Some(DenialCode::KeyMissing));
        let wrong = world.ask("/x", &[("x-api-key", "wrong")]).refused;
        assert_eq!(wrong, Some(DenialCode::KeyInvalid));
    }

    #[test]
    fn open_routes_never_refuse_and_record_a_good_key() {
        let mut world = World::new();
        assert_eq!(world.ask("/open", &[]).refused, None);
        let bearer = format!("Bearer {SECRET}");
        let found = world.ask("/open", &[("authorization", &bearer)]);
        assert_eq!(found.caller.user_id(), "sub");
        assert!(found.bearer_is_ours);
        let foreign = world.ask("/open", &[("authorization", "Bearer jwt")]);
        assert_eq!((foreign.refused, foreign.bearer_is_ours), (None, false));
        world.key.state = KeyState::Revoked;
        let revoked = world.ask("/open", &[("authorization", &bearer)]);
        assert_eq!(revoked.refused, None);
        assert!(revoked.caller.key.is_none());
        assert!(revoked.bearer_is_ours);
    }
}
