//! The windows of a caller on a route: whose counters they are, and merging those of one name.

use tollgate_model::{Api, By, Catalog, CounterId, CounterScope, LimitUse, RateLimit, Route};

use super::{Caller, Scopes, Whose, WindowTerms, id_of};
use crate::name::{Length, LimitName};

/// What a limit stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Plan,
    Key,
    Route,
}

/// The route's template; for paths that no route lists, what metering calls them.
pub(super) fn template_of(api: &Api, route: Option<&Route>) -> String {
    route.map_or_else(
        || format!("{}/*", api.path_prefix.trim_end_matches('/')),
        |route| route.template.text.clone(),
    )
}

/// All windows that apply, shortest first.
pub(super) fn windows_of(
    catalog: &Catalog,
    caller: Caller<'_>,
    api: &Api,
    route: Option<&Route>,
    template: &str,
    scopes: &mut Scopes,
) -> Box<[WindowTerms]> {
    let mut builder = Builder {
        caller,
        api,
        template,
        scopes,
        windows: Vec::new(),
    };
    if let Caller::Subscribed { plan, .. } | Caller::Anonymous { plan } = caller {
        builder.add_all(catalog, Place::Plan, &plan.limits);
    }
    if let Caller::Subscribed { key: Some(key), .. } = caller {
        for limit in key.limits {
            builder.add(Place::Key, limit);
        }
    }
    if let Some(route) = route {
        builder.add_all(catalog, Place::Route, &route.limits);
    }
    let mut windows = builder.windows;
    windows.sort_by_key(|window| window.per);
    windows.into()
}

struct Builder<'a> {
    caller: Caller<'a>,
    api: &'a Api,
    template: &'a str,
    scopes: &'a mut Scopes,
    windows: Vec<WindowTerms>,
}

impl Builder<'_> {
    fn add_all(&mut self, catalog: &Catalog, place: Place, limits: &[LimitUse]) {
        for limit in limits.iter().filter_map(|used| catalog.find_limit(used)) {
            self.add(place, limit);
        }
    }

    fn add(&mut self, place: Place, limit: &RateLimit) {
        let by = self.scope(place, limit.by);
        let Some(whose) = self.whose(place, by) else {
            return;
        };
        let name = LimitName {
            length: Length::Window(limit.per),
            by,
            on_route: place == Place::Route,
        };
        let (max, shadow_max) = if limit.shadow {
            (None, Some(limit.max))
        } else {
            (Some(limit.max), None)
        };
        match self.windows.iter_mut().find(|window| window.name == name) {
            Some(same) => {
                same.max = lowest(same.max, max);
                same.shadow_max = lowest(same.shadow_max, shadow_max);
            }
            None => self.windows.push(WindowTerms {
                name,
                per: limit.per,
                max,
                shadow_max,
                whose,
            }),
        }
    }

    /// Whose counter it is: see the table of the module above.
    fn scope(&self, place: Place, by: Option<By>) -> By {
        match (self.caller, place, by) {
            (Caller::Anonymous { .. }, Place::Route, Some(by @ (By::Api | By::Route))) => by,
            (Caller::Open | Caller::Anonymous { .. }, ..) => By::Address,
            (Caller::Subscribed { .. }, Place::Key, None) => By::Key,
            (Caller::Subscribed { .. }, _, by) => by.unwrap_or(By::Subscription),
        }
    }

    /// Whose counter it is; `None` where there is none: a limit by key does not bear on a
    /// subscription asked about without a key.
    fn whose(&mut self, place: Place, by: By) -> Option<Whose> {
        let on_route = place == Place::Route;
        let api = self.api.id.as_str();
        let everybodys = |id: &str| {
            let route = on_route.then_some((api, self.template));
            Whose::Everybodys(CounterId::quota(CounterScope { by, id, route }).scope())
        };
        match by {
            By::Address => Some(Whose::Address),
            By::Api => Some(everybodys(api)),
            // Neither an id nor a template holds a space.
            By::Route => Some(everybodys(&format!("{api} {}", self.template))),
            By::Subscription | By::Organization | By::Key => {
                id_of(self.caller, by)?;
                Some(self.scopes.of(by, on_route))
            }
        }
    }
}

fn lowest(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
