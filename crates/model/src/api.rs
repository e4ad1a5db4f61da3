//! Offered services and their routes.

use std::collections::BTreeMap;

use crate::{ApiId, LimitUse, PlanId};

/// Where an API runs: scheme, host and port, no path (docs/rules.md, 12).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Whether TLS is spoken to it.
    pub tls: bool,
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Upstream {
    /// `host:port` as it stands in the `Host` header; the default port is left out.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// Statuses that are charged: classes such as `2xx`, and single ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet {
    /// Bit n: class `nxx`.
    pub classes: u8,
    /// Single statuses.
    pub single: Vec<u16>,
}

impl StatusSet {
    /// 2xx, 3xx and 4xx.
    #[must_use]
    pub fn default_charge() -> Self {
        Self {
            classes: 0b1_1100,
            single: Vec::new(),
        }
    }

    /// Whether the status is in the set; 101 counts as 2xx (docs/rules.md, 4).
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        let class = if status == 101 { 2 } else { status / 100 };
        (class < 8 && self.classes & (1 << class) != 0) || self.single.contains(&status)
    }
}

/// What to do when the journal has no room for one more event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JournalFull {
    /// 503 `journal_full`.
    #[default]
    Refuse,
    /// Pass, count the loss, raise the alarm.
    DeclareLoss,
}

/// What to do while counters are not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CountersLost {
    /// 503 `counters_unavailable`.
    Closed,
    /// Spend what is held, then 503.
    #[default]
    LeaseOnly,
    /// At most this many units in all, declared.
    Open(u64),
}

/// What to do when nothing was heard from the platform for `stale_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleCatalog {
    /// Go on with the last catalog.
    Serve,
    /// 503 `catalog_stale` once nothing was heard for so long.
    Refuse {
        /// In microseconds.
        stale_after_us: u64,
    },
}

/// Whether limits refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// They do.
    #[default]
    Enforce,
    /// Everything is counted, nothing is refused for a limit; records carry `would_deny`.
    Observe,
}

/// What to do with `%2F` in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodedSlash {
    /// 400.
    #[default]
    Refuse,
    /// Forward as it is.
    Pass,
}

/// What to do with a path that no route lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unlisted {
    /// Forward; metered as `<prefix>/*` with cost 1.
    #[default]
    Pass,
    /// 404 `route_not_found`.
    Refuse,
}

/// An offered service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Its name in the catalog.
    pub id: ApiId,
    /// Where it runs.
    pub upstreams: Vec<Upstream>,
    /// Requests whose path is this or below it belong to the API; `/` for all.
    pub path_prefix: String,
    /// Requests for this host only (lower case, no port); a host beats none.
    pub host: Option<String>,
    /// What its keys begin with.
    pub key_prefix: String,
    /// The plan of callers without a key, if they may call.
    pub anonymous_plan: Option<PlanId>,
    /// Answers whose quota charge is kept.
    pub charge: StatusSet,
    /// When the journal is full.
    pub on_journal_full: JournalFull,
    /// When counters are lost.
    pub on_counters_lost: CountersLost,
    /// When the platform has gone silent.
    pub on_stale_catalog: StaleCatalog,
    /// Whether limits refuse.
    pub mode: Mode,
    /// `%2F` in paths.
    pub encoded_slash: EncodedSlash,
    /// Paths that no route lists.
    pub unlisted: Unlisted,
    /// Send the client's `Host` to the upstream instead of the upstream's own.
    pub preserve_host: bool,
    /// Longest request body in bytes; `None`: any.
    pub body_bytes_max: Option<u64>,
    /// Longest wait for a connection to the upstream, in microseconds.
    pub connect_timeout_us: u64,
    /// Longest wait for the head of the upstream's response, in microseconds.
    pub response_timeout_us: u64,
    /// Its routes, in the order declared.
    pub routes: Vec<Route>,
}

/// A path (or family of paths) of an API, with its price and rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What paths it matches.
    pub template: RouteTemplate,
    /// Methods it takes, upper case; empty: all. `HEAD` follows `GET`.
    pub methods: Vec<String>,
    /// Units of one call.
    pub cost: u32,
    /// Most units the upstream may ask for with `Tollgate-Cost`.
    pub cost_max: Option<u32>,
    /// Scope that a key must have.
    pub scope: Option<String>,
    /// Limits of this route, in addition to the plan's.
    pub limits: Vec<LimitUse>,
    /// No key asked, nothing charged, still recorded.
    pub open: bool,
    /// Labels that its events carry.
    pub labels: BTreeMap<String, String>,
}

/// One part of a route's path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// Exactly these bytes.
    Literal(String),
    /// `{name}`: one non-empty segment.
    Parameter(String),
    /// `{name...}`: everything that is left, at the end only.
    Rest(String),
}

/// A path with parameters, such as `/v1/widgets/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTemplate {
    /// As declared; what records and statistics show.
    pub text: String,
    /// The parts between slashes.
    pub segments: Vec<Segment>,
}

/// Why a template was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not begin with a slash.
    #[error("a route's path begins with /")]
    NoSlash,
    /// A brace where none may stand, or a parameter without a name.
    #[error("a parameter fills its segment: {{name}}, or {{name...}} at the end")]
    Parameter,
    /// `{rest...}` before the end.
    #[error("{{name...}} stands last")]
    RestNotLast,
    /// Bytes that no request path can have.
    #[error("a path has no //, no . or .. segment, no query and only visible ASCII")]
    Bytes,
}

impl RouteTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let path = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
        if !text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\'))
        {
            return Err(TemplateError::Bytes);
        }
        let parts: Vec<&str> = path.split('/').collect();
        let mut segments = Vec::with_capacity(parts.len());
        for (n, part) in parts.iter().enumerate() {
            let last = n + 1 == parts.len();
            segments.push(Self::segment(part, last)?);
        }
        Ok(Self {
            text: text.to_owned(),
            segments,
        })
    }

    fn segment(part: &str, last: bool) -> Result<Segment, TemplateError> {
        if let Some(inner) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            let (name, rest) = match inner.strip_suffix("...") {
                Some(name) => (name, true),
                None => (inner, false),
            };
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(TemplateError::Parameter);
            }
            return match (rest, last) {
                (true, false) => Err(TemplateError::RestNotLast),
                (true, true) => Ok(Segment::Rest(name.to_owned())),
                (false, _) => Ok(Segment::Parameter(name.to_owned())),
            };
        }
        if part.contains(['{', '}']) {
            return Err(TemplateError::Parameter);
        }
        if (part.is_empty() && !last) || part == "." || part == ".." {
            return Err(TemplateError::Bytes);
        }
        Ok(Segment::Literal(part.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_literals_parameters_and_a_last_rest() {
        let template = RouteTemplate::parse("/v1/widgets/{id}/{rest...}").unwrap();
        assert_eq!(
            template.segments,
            [
                Segment::Literal("v1".into()),
                Segment::Literal("widgets".into()),
                Segment::Parameter("id".into()),
                Segment::Rest("rest".into())
            ]
        );
        assert_eq!(RouteTemplate::parse("v1"), Err(TemplateError::NoSlash));
        assert_eq!(
            RouteTemplate::parse("/{a...}/b"),
            Err(TemplateError::RestNotLast)
        );
        assert_eq!(RouteTemplate::parse("/a{b}"), Err(TemplateError::Parameter));
        assert_eq!(RouteTemplate::parse("/{}"), Err(TemplateError::Parameter));
        assert_eq!(RouteTemplate::parse("/a//b"), Err(TemplateError::Bytes));
        assert_eq!(RouteTemplate::parse("/a/../b"), Err(TemplateError::Bytes));
    }

    #[test]
    fn the_default_charges_successes_redirects_and_callers_mistakes() {
        let charge = StatusSet::default_charge();
        for status in [101, 200, 204, 301, 404] {
            assert!(charge.contains(status), "{status}");
        }
        for status in [100, 500, 502, 599] {
            assert!(!charge.contains(status), "{status}");
        }
    }
}
