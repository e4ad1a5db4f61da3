//! Reading `tollgate.toml`: file first, then the environment's overrides, defaults where neither
//! says anything.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use ipnet::IpNet;
use tollgate_control::document::{Document, Field, Problem, ProblemCode, Reader, Table};

use super::{Config, FIELDS, Kind, StorePlace};

/// Longest accepted duration: a year.
const DURATION_US: RangeInclusive<u64> = 1..=366 * 86_400_000_000;
/// The journal needs room for a few segments.
const DISK_BYTES: RangeInclusive<u64> = 64 << 20..=1 << 60;
/// Most networks in a list.
const NETWORKS_MAX: usize = 1_000;

/// Reads a file's text and the environment's overrides over the defaults. Relative paths are
/// relative to `base`.
///
/// # Errors
/// Every problem, in the order of the file, then those of the environment.
pub fn read(
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
    base: &Path,
) -> Result<Config, Vec<Problem>> {
    let mut document = Document::from_toml(text)?;
    for (variable, value) in environment {
        if let Some(path) = variable.strip_prefix("TOLLGATE__") {
            let path = path.to_ascii_lowercase();
            document.set_override(&path.split("__").collect::<Vec<_>>(), &value);
        }
    }
    let defaults = Document::from_toml(&default_text())?;
    let defaults = read_document(&defaults, None, base)?;
    read_document(&document, Some(&defaults), base)
}

/// All defaults as a file would say them.
fn default_text() -> String {
    let mut text = String::new();
    for section in super::fields::sections() {
        text.push_str(&format!("[{section}]\n"));
        for field in FIELDS
            .iter()
            .filter(|f| f.section == section && !f.default.is_empty())
        {
            text.push_str(&format!("{} = {}\n", field.name, field.default));
        }
    }
    text
}

fn read_document(
    document: &Document,
    defaults: Option<&Config>,
    base: &Path,
) -> Result<Config, Vec<Problem>> {
    let reader = Reader::new(document);
    let config = reader.root().table(|root| {
        // Every section is read even after one failed: all problems are told at once.
        let gateway = section(root, "gateway", |table| {
            let listen = socket(table, defaults.map(|d| d.gateway_listen));
            let workers = or(table, "workers", defaults.map(|d| d.gateway_workers), |f| {
                f.integer(0..=1_024)
            });
            let proxies = defaults.map(|d| d.trusted_proxies.clone());
            let proxies = or(table, "trusted_proxies", proxies, |f| networks(&f));
            let drain = or(table, "drain", defaults.map(|d| d.drain_us), |f| {
                f.duration_us(0..=*DURATION_US.end())
            });
            Some((listen?, workers?, proxies?, drain?))
        });
        let platform = section(root, "platform", |t| {
            socket(t, defaults.map(|d| d.platform_listen))
        });
        let health = section(root, "health", |t| {
            socket(t, defaults.map(|d| d.health_listen))
        });
        let store = section(root, "store", |table| {
            or(table, "url", defaults.map(|d| d.store.clone()), |f| {
                store(&f, base)
            })
        });
        let counters = section(root, "counters", |table| {
            or(table, "url", defaults.map(|_| ()), |f| {
                url(&f, "counters").map(|_| ())
            })
        });
        let journal = section(root, "journal", |table| journal(table, defaults, base));
        let file = section(root, "catalog", |table| {
            let file = table.optional("file");
            Some(
                file.and_then(|f| f.short_text(4_096))
                    .map(|path| base.join(path)),
            )
        });
        let node = section(root, "fleet", fleet);
        let (gateway_listen, gateway_workers, trusted_proxies, drain_us) = gateway?;
        let (journal_dir, journal_durable, ship_batch, journal_keep_us, disk) = journal?;
        counters?;
        Some(Config {
            gateway_listen,
            gateway_workers,
            trusted_proxies,
            drain_us,
            platform_listen: platform?,
            health_listen: health?,
            store: store?,
            journal_dir,
            journal_durable,
            ship_batch,
            journal_keep_us,
            journal_disk_bytes_max: disk,
            catalog_file: file?,
            node: node?,
        })
    });
    reader.finish(config)
}

type Journal = (std::path::PathBuf, bool, u64, u64, u64);

fn journal(table: &Table<'_>, defaults: Option<&Config>, base: &Path) -> Option<Journal> {
    let dir = or(table, "dir", defaults.map(|d| d.journal_dir.clone()), |f| {
        f.short_text(4_096).map(|path| base.join(path))
    });
    let durable = or(table, "sync", defaults.map(|d| d.journal_durable), |f| {
        f.choice(&[("fast", false), ("durable", true)])
    });
    // Within one process events are taken in at once; the setting is for platforms elsewhere.
    let every = or(table, "ship_every", defaults.map(|_| 0), |f| {
        f.duration_us(DURATION_US)
    });
    let batch = or(table, "ship_batch", defaults.map(|d| d.ship_batch), |f| {
        f.integer(1..=10_000)
    });
    let keep = or(table, "keep", defaults.map(|d| d.journal_keep_us), |f| {
        f.duration_us(0..=*DURATION_US.end())
    });
    let disk = or(
        table,
        "disk_max",
        defaults.map(|d| d.journal_disk_bytes_max),
        |f| f.bytes(DISK_BYTES),
    );
    every?;
    Some((dir?, durable?, batch?, keep?, disk?))
}

/// The node's name; the rest of the section is for gateways that run apart from their platform.
#[expect(
    clippy::option_option,
    reason = "read, and not given, is not the same as not readable"
)]
fn fleet(table: &Table<'_>) -> Option<Option<String>> {
    let platform = table.optional("platform").map(|f| url(&f, "fleet"));
    let token = table.optional("token").map(|f| f.text());
    let node = table.optional("node").map(|f| f.text());
    if [
        platform.map(|p| p.is_some()),
        token.map(|t| t.is_some()),
        node.map(|n| n.is_some()),
    ]
    .contains(&Some(false))
    {
        return None;
    }
    Some(
        node.flatten()
            .filter(|node| !node.is_empty())
            .map(str::to_owned),
    )
}

/// A section; one that is not there reads as an empty one.
fn section<T>(
    root: &Table<'_>,
    name: &'static str,
    read: impl Fn(&Table<'_>) -> Option<T>,
) -> Option<T> {
    match root.optional(name) {
        Some(field) => field.table(read),
        None => {
            let empty = Document::from_toml("").ok()?;
            let reader = Reader::new(&empty);
            reader.root().table(|table| read(table))
        }
    }
}

/// A field, or its default where it is not there.
fn or<T>(
    table: &Table<'_>,
    name: &'static str,
    default: Option<T>,
    read: impl FnOnce(Field<'_>) -> Option<T>,
) -> Option<T> {
    match table.optional(name) {
        Some(field) => read(field),
        None => default,
    }
}

fn socket(table: &Table<'_>, default: Option<SocketAddr>) -> Option<SocketAddr> {
    or(table, "listen", default, |field| field.socket_address())
}

fn networks(field: &Field<'_>) -> Option<Vec<IpNet>> {
    field.list(NETWORKS_MAX, |item| item.network())
}

fn store(field: &Field<'_>, base: &Path) -> Option<StorePlace> {
    let read = StorePlace::read(field.short_text(4_096)?, base);
    read.map_err(|detail| field.problem(ProblemCode::Invalid, detail))
        .ok()
}

/// Text that begins with one of the schemes that the section's URL takes.
fn url(field: &Field<'_>, section: &str) -> Option<String> {
    let text = field.short_text(4_096)?;
    let schemes = FIELDS.iter().find_map(|f| match f.kind {
        Kind::Url(schemes) if f.section == section => Some(schemes),
        _ => None,
    })?;
    if schemes.iter().any(|scheme| text.starts_with(scheme)) {
        return Some(text.to_owned());
    }
    let detail = format!("must begin with {}, found \"{text}\"", schemes.join(" or "));
    field.problem(ProblemCode::Invalid, detail);
    None
}
