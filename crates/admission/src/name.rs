//! The names of limits: window or period, scope, and `-route` where the limit stands on a route.
//!
//! Within one request two limits of one name are one counter. The names are few and fixed, so
//! they are static text and nothing is allocated for them.

use std::fmt;

use tollgate_model::{By, Every, Per};

/// How long a limit looks back, or an allowance lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Length {
    /// A sliding window.
    Window(Per),
    /// A civil period.
    Period(Every),
}

/// The name of a limit, such as `minute-subscription` or `month-key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitName {
    /// Window or period.
    pub length: Length,
    /// Whose counter.
    pub by: By,
    /// Whether it stands on a route.
    pub on_route: bool,
}

macro_rules! names {
    ($($length:literal),*) => {
        [$([
            [concat!($length, "-subscription"), concat!($length, "-subscription-route")],
            [concat!($length, "-key"), concat!($length, "-key-route")],
            [concat!($length, "-organization"), concat!($length, "-organization-route")],
            [concat!($length, "-api"), concat!($length, "-api-route")],
            [concat!($length, "-route"), concat!($length, "-route-route")],
            [concat!($length, "-address"), concat!($length, "-address-route")],
        ]),*]
    };
}

/// By length, scope (in the order of [`By::ALL`]) and place.
static NAMES: [[[&str; 2]; By::ALL.len()]; 7] =
    names!["second", "minute", "hour", "day", "week", "month", "year"];

impl LimitName {
    /// As it stands in headers, records and problem answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let length = match self.length {
            Length::Window(Per::Second) => 0,
            Length::Window(Per::Minute) => 1,
            Length::Window(Per::Hour) => 2,
            Length::Window(Per::Day) | Length::Period(Every::Day) => 3,
            Length::Period(Every::Week) => 4,
            Length::Period(Every::Month) => 5,
            Length::Period(Every::Year) => 6,
        };
        let by = match self.by {
            By::Subscription => 0,
            By::Key => 1,
            By::Organization => 2,
            By::Api => 3,
            By::Route => 4,
            By::Address => 5,
        };
        NAMES
            .get(length)
            .and_then(|scopes: &[[&'static str; 2]; By::ALL.len()]| scopes.get(by))
            .and_then(|places| places.get(usize::from(self.on_route)))
            .copied()
            .unwrap_or("")
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_length_scope_and_place() {
        let lengths = Per::ALL
            .map(|per| (Length::Window(per), per.as_str()))
            .into_iter()
            .chain(Every::ALL.map(|every| (Length::Period(every), every.as_str())));
        for (length, text) in lengths {
            for by in By::ALL {
                for (on_route, ending) in [(false, ""), (true, "-route")] {
                    let name = LimitName {
                        length,
                        by,
                        on_route,
                    };
                    assert_eq!(name.as_str(), format!("{text}-{}{ending}", by.as_str()));
                }
            }
        }
    }
}
