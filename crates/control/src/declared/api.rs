//! APIs.

use serde_json::{Value as Json, json};
use tollgate_model::{
    Api, ApiId, CountersLost, EncodedSlash, JournalFull, Mode, PlanId, Route, StaleCatalog,
    StatusSet, Unlisted, Upstream,
};

use super::customer::read_reference;
use super::object::{Source, read_id};
use super::plan::optional;
use super::route;
use crate::document::{Field, ProblemCode, Step, Table, duration_text};

/// Most upstreams of one API.
const UPSTREAMS_MAX: usize = 64;
/// Most routes of one API.
const ROUTES_MAX: usize = 2_000;
/// Most entries of `charge`.
const CHARGE_MAX: usize = 100;
const KEY_PREFIX_DEFAULT: &str = "key";
const CONNECT_TIMEOUT_US: u64 = 2_000_000;
const RESPONSE_TIMEOUT_US: u64 = 30_000_000;
const STALE_AFTER_US: u64 = 5_000_000;
/// Timeouts lie between 1 ms and a day.
const TIMEOUTS_US: std::ops::RangeInclusive<u64> = 1_000..=86_400_000_000;
const OPEN_UNITS_MAX: u64 = 1 << 53;

const JOURNAL_FULL: [(&str, JournalFull); 2] = [
    ("refuse", JournalFull::Refuse),
    ("declare_loss", JournalFull::DeclareLoss),
];
const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
const ENCODED_SLASH: [(&str, EncodedSlash); 2] = [
    ("refuse", EncodedSlash::Refuse),
    ("pass", EncodedSlash::Pass),
];
const UNLISTED: [(&str, Unlisted); 2] = [("pass", Unlisted::Pass), ("refuse", Unlisted::Refuse)];

/// Reads an API with its routes.
pub(super) fn read(table: &Table<'_>, source: Source) -> Option<Api> {
    let id = read_id(table, source, ApiId::declared, ApiId::new);
    let upstreams = table.required("upstreams").and_then(read_upstreams);
    let host = optional(table.optional("host"), read_host);
    let path_prefix = read_path_prefix(table, matches!(host, Some(None)));
    let key_prefix = match table.optional("key_prefix") {
        Some(field) => field.parse(read_key_prefix),
        None => Some(KEY_PREFIX_DEFAULT.to_owned()),
    };
    let anonymous_plan = optional(table.optional("anonymous_plan"), read_reference);
    let charge = match table.optional("charge") {
        Some(field) => read_charge(field),
        None => Some(StatusSet::default_charge()),
    };
    let policies = read_policies(table);
    let body_bytes_max = optional(table.optional("body_bytes_max"), |f| f.bytes(0..=1 << 53));
    let connect_timeout_us = read_timeout(table, "connect_timeout", CONNECT_TIMEOUT_US);
    let response_timeout_us = read_timeout(table, "response_timeout", RESPONSE_TIMEOUT_US);
    let routes = match table.optional_as("route", &["routes"]) {
        Some(field) => read_routes(field, path_prefix.as_deref()),
        None => Some(Vec::new()),
    };
    let policies = policies?;
    Some(Api {
        id: id?,
        upstreams: upstreams?,
        path_prefix: path_prefix?,
        host: host?,
        key_prefix: key_prefix?,
        anonymous_plan: anonymous_plan?.as_deref().map(PlanId::new),
        charge: charge?,
        on_journal_full: policies.on_journal_full,
        on_counters_lost: policies.on_counters_lost,
        on_stale_catalog: policies.on_stale_catalog,
        mode: policies.mode,
        encoded_slash: policies.encoded_slash,
        unlisted: policies.unlisted,
        preserve_host: policies.preserve_host,
        body_bytes_max: body_bytes_max?,
        connect_timeout_us: connect_timeout_us?,
        response_timeout_us: response_timeout_us?,
        routes: routes?,
    })
}

struct Policies {
    on_journal_full: JournalFull,
    on_counters_lost: CountersLost,
    on_stale_catalog: StaleCatalog,
    mode: Mode,
    encoded_slash: EncodedSlash,
    unlisted: Unlisted,
    preserve_host: bool,
}

fn read_policies(table: &Table<'_>) -> Option<Policies> {
    let on_journal_full = read_choice(table, "on_journal_full", &JOURNAL_FULL);
    let on_counters_lost = match table.optional("on_counters_lost") {
        Some(field) => read_counters_lost(field),
        None => Some(CountersLost::default()),
    };
    let on_stale_catalog = read_stale_catalog(table);
    let mode = read_choice(table, "mode", &MODES);
    let encoded_slash = read_choice(table, "encoded_slash", &ENCODED_SLASH);
    let unlisted = read_choice(table, "unlisted", &UNLISTED);
    let preserve_host = match table.optional("preserve_host") {
        Some(field) => field.boolean(),
        None => Some(false),
    };
    Some(Policies {
        on_journal_full: on_journal_full?,
        on_counters_lost: on_counters_lost?,
        on_stale_catalog: on_stale_catalog?,
        mode: mode?,
        encoded_slash: encoded_slash?,
        unlisted: unlisted?,
        preserve_host: preserve_host?,
    })
}

fn read_choice<T: Copy + Default>(
    table: &Table<'_>,
    name: &'static str,
    choices: &[(&str, T)],
) -> Option<T> {
    match table.optional(name) {
        Some(field) => field.choice(choices),
        None => Some(T::default()),
    }
}

fn read_timeout(table: &Table<'_>, name: &'static str, default_us: u64) -> Option<u64> {
    match table.optional(name) {
        Some(field) => field.duration_us(TIMEOUTS_US),
        None => Some(default_us),
    }
}

fn read_upstreams(field: Field<'_>) -> Option<Vec<Upstream>> {
    let upstreams = field.distinct(UPSTREAMS_MAX, |item| item.origin())?;
    if upstreams.is_empty() {
        field.problem(ProblemCode::OutOfRange, "must name at least one upstream");
        return None;
    }
    Some(upstreams)
}

fn read_host(field: Field<'_>) -> Option<String> {
    field.parse(|text| crate::document::check_host(text).map(|()| text.to_ascii_lowercase()))
}

fn read_path_prefix(table: &Table<'_>, no_host: bool) -> Option<String> {
    let Some(field) = table.optional("path_prefix") else {
        if no_host {
            let detail = "is missing: an API has a path_prefix, a host, or both";
            table.problem("path_prefix", ProblemCode::Missing, detail);
            return None;
        }
        return Some("/".to_owned());
    };
    field.parse(|text| {
        if text == "/" {
            return Ok(text.to_owned());
        }
        let path = text.strip_prefix('/').ok_or("a path begins with /")?;
        if path.ends_with('/') {
            return Err("leave out the last /: the prefix covers what is below it anyway");
        }
        let plain = |b: u8| b.is_ascii_graphic() && !b"?#\\{}\"<>".contains(&b);
        let segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(plain);
        if path.split('/').all(segment) && text.len() <= 512 {
            Ok(text.to_owned())
        } else {
            Err("a prefix is up to 512 visible characters, has no //, . or .., no {parameters} and no query")
        }
    })
}

fn read_key_prefix(text: &str) -> Result<String, &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let ends_well = !text.ends_with('_') && text != "test" && !text.ends_with("_test");
    if starts_well && ends_well && text.len() <= 32 && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(
            "a key prefix is 1 to 32 letters, digits, - and _, begins with a letter or digit, and does not end in _ or _test",
        )
    }
}

fn read_charge(field: Field<'_>) -> Option<StatusSet> {
    let mut set = StatusSet {
        classes: 0,
        single: Vec::new(),
    };
    let statuses = field.distinct(CHARGE_MAX, |item| {
        if item.is_text() {
            item.parse(read_status)
        } else {
            item.integer(100..=599).map(Charged::of)
        }
    })?;
    for status in statuses {
        match status {
            Charged::Class(class) => set.classes |= 1 << class,
            Charged::Single(status) => set.single.push(status),
        }
    }
    set.single.sort_unstable();
    Some(set)
}

#[derive(PartialEq)]
enum Charged {
    Class(u8),
    Single(u16),
}

impl Charged {
    fn of(status: u64) -> Self {
        Self::Single(u16::try_from(status).unwrap_or(0))
    }
}

fn read_status(text: &str) -> Result<Charged, &'static str> {
    if let Some(class) = text.strip_suffix("xx").and_then(|c| c.parse::<u8>().ok())
        && text.len() == 3
        && (1..=5).contains(&class)
    {
        return Ok(Charged::Class(class));
    }
    match text.parse::<u64>() {
        Ok(status) if (100..=599).contains(&status) => Ok(Charged::of(status)),
        _ => Err("not a status such as \"404\" or a class such as \"2xx\""),
    }
}

fn read_counters_lost(field: Field<'_>) -> Option<CountersLost> {
    if field.is_table() {
        return field.table(|table| {
            let units = table.required("open")?;
            units.integer(0..=OPEN_UNITS_MAX).map(CountersLost::Open)
        });
    }
    if !field.is_text() {
        return field.wrong_type("\"lease_only\", \"closed\" or { open = 100 }");
    }
    field.choice(&[
        ("lease_only", CountersLost::LeaseOnly),
        ("closed", CountersLost::Closed),
    ])
}

fn read_stale_catalog(table: &Table<'_>) -> Option<StaleCatalog> {
    let refuses = match table.optional("on_stale_catalog") {
        Some(field) => field.choice(&[("serve", false), ("refuse", true)]),
        None => Some(false),
    };
    let stale_after_us = read_timeout(table, "stale_after", STALE_AFTER_US);
    match (refuses?, stale_after_us?) {
        (false, _) => Some(StaleCatalog::Serve),
        (true, stale_after_us) => Some(StaleCatalog::Refuse { stale_after_us }),
    }
}

fn read_routes(field: Field<'_>, path_prefix: Option<&str>) -> Option<Vec<Route>> {
    let items = field.items(ROUTES_MAX)?;
    let mut taken = route::Taken::default();
    let mut routes = Vec::with_capacity(items.len());
    let count = items.len();
    for item in items {
        let Some(route) = route::read(item) else {
            continue;
        };
        let path = [Step::Name("path")];
        if let Some(prefix) = path_prefix
            && !route::lies_under(&route.template.text, prefix)
        {
            let detail = format!("is never reached: it does not lie under path_prefix {prefix}");
            item.problem_at(&path, ProblemCode::Invalid, detail);
            continue;
        }
        if let Some(detail) = taken.find_clash(&route) {
            item.problem_at(&path, ProblemCode::Duplicate, detail);
            continue;
        }
        routes.push(route);
    }
    (routes.len() == count).then_some(routes)
}

fn word<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> Option<&'static str> {
    choices
        .iter()
        .find(|(_, choice)| choice == value)
        .map(|(word, _)| *word)
}

/// An API as JSON.
pub(super) fn document(api: &Api) -> Json {
    let upstreams: Vec<String> = api.upstreams.iter().map(upstream_text).collect();
    let routes: Vec<Json> = api.routes.iter().map(route::document).collect();
    let (on_stale_catalog, stale_after) = match api.on_stale_catalog {
        StaleCatalog::Serve => ("serve", None),
        StaleCatalog::Refuse { stale_after_us } => ("refuse", Some(duration_text(stale_after_us))),
    };
    let on_counters_lost = match api.on_counters_lost {
        CountersLost::Closed => json!("closed"),
        CountersLost::LeaseOnly => json!("lease_only"),
        CountersLost::Open(units) => json!({ "open": units }),
    };
    json!({
        "id": api.id.as_str(),
        "upstreams": upstreams,
        "path_prefix": api.path_prefix,
        "host": api.host,
        "key_prefix": api.key_prefix,
        "anonymous_plan": api.anonymous_plan.as_ref().map(PlanId::as_str),
        "charge": charge_document(&api.charge),
        "on_journal_full": word(&JOURNAL_FULL, &api.on_journal_full),
        "on_counters_lost": on_counters_lost,
        "on_stale_catalog": on_stale_catalog,
        "stale_after": stale_after,
        "mode": word(&MODES, &api.mode),
        "encoded_slash": word(&ENCODED_SLASH, &api.encoded_slash),
        "unlisted": word(&UNLISTED, &api.unlisted),
        "preserve_host": api.preserve_host,
        "body_bytes_max": api.body_bytes_max,
        "connect_timeout": duration_text(api.connect_timeout_us),
        "response_timeout": duration_text(api.response_timeout_us),
        "route": routes,
    })
}

fn upstream_text(upstream: &Upstream) -> String {
    let scheme = if upstream.tls { "https" } else { "http" };
    format!("{scheme}://{}", upstream.authority())
}

fn charge_document(charge: &StatusSet) -> Json {
    let classes = (1..=5).filter(|class| charge.classes & (1 << class) != 0);
    let classes = classes.map(|class| format!("{class}xx"));
    let single = charge.single.iter().map(u16::to_string);
    classes.chain(single).collect()
}
