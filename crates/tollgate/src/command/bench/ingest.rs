//! `tollgate bench ingest`: the way of an event from the journal to an answer, measured on the code
//! that runs in production: journal reader, shipper, fold, store. Nothing is left out or put in
//! memory; the journal, and a SQLite store, are files on the disk that is asked for.

mod gateway;
mod mix;
mod place;
mod probes;
mod threads;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::BenchIngestArgs;
use crate::output;
use crate::server::platform_runtime;

use mix::{MIXES, Mix};
use probes::Spread;
use threads::WriterTime;
use world::{Figures, Phase, measure};

/// Keys of the mix whose figures stand for all.
const KEYS_MAIN: u32 = 500;
/// Events a second that Tollgate promises to take in durably, and that it aims for.
const EVENTS_PER_SECOND_PROMISED: f64 = 60_000.0;
const EVENTS_PER_SECOND_AIM: f64 = 100_000.0;
/// The same on a PostgreSQL that has the machine in common.
const POSTGRES_PER_SECOND_PROMISED: f64 = 25_000.0;
const POSTGRES_PER_SECOND_AIM: f64 = 50_000.0;
/// Longest time from append to answer, for 99 of 100 events.
const VISIBLE_P99_US: u64 = 1_000_000;
/// Longest time that 99 of 100 commands take while events wait.
const COMMAND_P99_US: u64 = 100_000;

/// Runs the command; exit status 1 where the ledgers do not agree.
///
/// # Errors
/// When the folder cannot be written, or journal or store fail.
pub fn run(args: &BenchIngestArgs) -> anyhow::Result<ExitCode> {
    let mixes = match (args.keys, args.subscriptions) {
        (Some(keys), Some(subscriptions)) => vec![Mix {
            keys,
            subscriptions,
        }],
        _ => MIXES.to_vec(),
    };
    let mut all = Vec::new();
    for mix in mixes {
        let folder = Folder::make(args)?;
        if !args.json {
            output::note(format!(
                "{} keys, {} subscriptions: {} events wait, then {} a second come in …",
                mix.keys, mix.subscriptions, args.events, args.rate
            ));
        }
        // A runtime of its own: what one mix leaves behind does not slow the next.
        all.push(platform_runtime()?.block_on(measure(mix, args, &folder.path))?);
    }
    if args.json {
        output::json(&all_json(&all))?;
    } else {
        print(&all)?;
    }
    Ok(if all.iter().all(|figures| figures.exact) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is measured in; removed at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make(args: &BenchIngestArgs) -> anyhow::Result<Self> {
        let path = args
            .dir
            .join(format!("tollgate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            output::note(format!(
                "{} was not removed ({error}); it is of no more use",
                self.path.display()
            ));
        }
    }
}

/// Events a second that are promised, and those aimed for.
fn promised(elsewhere: bool) -> (f64, f64) {
    if elsewhere {
        (POSTGRES_PER_SECOND_PROMISED, POSTGRES_PER_SECOND_AIM)
    } else {
        (EVENTS_PER_SECOND_PROMISED, EVENTS_PER_SECOND_AIM)
    }
}

fn print(all: &[Figures]) -> anyhow::Result<()> {
    let headers = [
        "mix",
        ">backlog",
        ">events/s",
        ">CPU µs/event",
        ">writer busy/queued %",
        ">bytes/event",
        ">key made p50/p99/max ms",
        ">steady/s",
        ">CPU µs/event",
        ">visible p50/p99/max ms",
        "exact",
    ];
    let rows = all.iter().map(|figures| {
        vec![
            name(figures),
            figures.backlog.events.to_string(),
            format!("{:.0}", figures.backlog.events_per_second()),
            format!("{:.1}", figures.backlog.cpu_us_per_event()),
            in_per_cent(figures),
            format!("{:.0}", bytes_per_event(figures)),
            in_ms(&figures.commands),
            format!("{:.0}", figures.steady.events_per_second()),
            format!("{:.1}", figures.steady.cpu_us_per_event()),
            in_ms(&figures.visible),
            if figures.exact { "yes" } else { "NO" }.to_owned(),
        ]
    });
    output::table(&headers, rows.collect())?;
    all.iter().map(figure).try_for_each(output::line)?;
    let (least, aim) = promised(all.iter().any(|figures| figures.elsewhere));
    output::line(format!(
        "Aimed for: {least} events a second ({aim} hoped for), visible within {} ms (p99), a key made within {} ms (p99) meanwhile.",
        VISIBLE_P99_US / 1_000,
        COMMAND_P99_US / 1_000
    ))?;
    let missed: Vec<String> = all.iter().flat_map(missed).collect();
    if missed.is_empty() {
        return output::line("Every figure was reached.");
    }
    missed.iter().try_for_each(output::line)
}

fn name(figures: &Figures) -> String {
    let Mix {
        keys,
        subscriptions,
    } = figures.mix;
    format!("{keys} keys, {subscriptions} subscriptions")
}

fn in_ms(spread: &Spread) -> String {
    let ms = |us: u64| us.div_ceil(1_000);
    let Spread {
        p50_us,
        p99_us,
        max_us,
        ..
    } = *spread;
    format!("{}/{}/{}", ms(p50_us), ms(p99_us), ms(max_us))
}

fn bytes_per_event(figures: &Figures) -> f64 {
    let events = figures.backlog.events + figures.steady.events;
    figures.store_bytes as f64 / events.max(1) as f64
}

/// Share of the backlog's time that the writing thread worked, and that it waited for a processor;
/// a server elsewhere has none.
fn in_per_cent(figures: &Figures) -> String {
    if figures.elsewhere {
        return "-".to_owned();
    }
    let phase = &figures.backlog;
    let share = |us: u64| us * 100 / phase.elapsed_us.max(1);
    let WriterTime {
        worked_us,
        queued_us,
    } = phase.writer;
    format!("{}/{}", share(worked_us), share(queued_us))
}

/// What the one thread that writes the store spent its time on.
fn why(figures: &Figures, phase: &Phase) -> String {
    if figures.elsewhere {
        let busy = phase.cpu_us * 100 / phase.elapsed_us.max(1);
        return format!(
            "this process used {busy} % of a processor; the rest is PostgreSQL's and the disk's"
        );
    }
    let WriterTime {
        worked_us,
        queued_us,
    } = phase.writer;
    let rest_us = phase.elapsed_us.saturating_sub(worked_us + queued_us);
    let share = |us: u64| us * 100 / phase.elapsed_us.max(1);
    format!(
        "the one thread that writes the store worked {} % of the time ({:.1} µs an event), waited \
         {} % for a processor that other work had, and {} % for the disk or the next batch",
        share(worked_us),
        worked_us as f64 / phase.events.max(1) as f64,
        share(queued_us),
        share(rest_us)
    )
}

/// One mix in a line.
fn figure(figures: &Figures) -> String {
    format!(
        "figure: ingest, {}: {:.0} events/s ({:.1} µs CPU an event, writer busy/queued {} %), key \
         made p99 {} ms; at {:.0}/s visible p50/p99 {}/{} ms; ledgers {}",
        name(figures),
        figures.backlog.events_per_second(),
        figures.backlog.cpu_us_per_event(),
        in_per_cent(figures),
        figures.commands.p99_us.div_ceil(1_000),
        figures.steady.events_per_second(),
        figures.visible.p50_us.div_ceil(1_000),
        figures.visible.p99_us.div_ceil(1_000),
        if figures.exact { "agree" } else { "DISAGREE" }
    )
}

/// What falls short, and what that comes from.
fn missed(figures: &Figures) -> Vec<String> {
    let (name, rate) = (name(figures), figures.backlog.events_per_second());
    let mut said = Vec::new();
    if !figures.exact {
        said.push(format!(
            "{name}: the ledgers do not agree. This is a bug: please report it with this output."
        ));
    }
    let (least, _) = promised(figures.elsewhere);
    if rate < least {
        said.push(format!(
            "{name}: {rate:.0} events a second is below {least}: {}.",
            why(figures, &figures.backlog)
        ));
    }
    if figures.visible.p99_us > VISIBLE_P99_US {
        said.push(format!(
            "{name}: events were visible after {} ms (p99), of {:.0} a second that came in: {}.",
            figures.visible.p99_us / 1_000,
            figures.steady.events_per_second(),
            why(figures, &figures.steady)
        ));
    }
    if figures.commands.p99_us > COMMAND_P99_US {
        said.push(format!(
            "{name}: making a key took {} ms (p99): it waits until the batch under way is on \
             disk; {}.",
            figures.commands.p99_us / 1_000,
            why(figures, &figures.backlog)
        ));
    }
    said
}

/// The figures of the main mix, and those of all mixes beside them.
fn all_json(all: &[Figures]) -> Value {
    let main = all.iter().find(|figures| figures.mix.keys == KEYS_MAIN);
    let Some(main) = main.or(all.first()) else {
        return Value::Null;
    };
    let ms = |us: u64| us as f64 / 1e3;
    json!({
        "events_per_s": main.backlog.events_per_second().round(),
        "visible_ms": { "p50": ms(main.visible.p50_us), "p99": ms(main.visible.p99_us) },
        "mixes": all.iter().map(to_json).collect::<Vec<_>>(),
    })
}

fn to_json(figures: &Figures) -> Value {
    let phase = |phase: &Phase| {
        json!({
            "events": phase.events,
            "elapsed_us": phase.elapsed_us,
            "events_per_second": phase.events_per_second(),
            "cpu_us_per_event": phase.cpu_us_per_event(),
            "writer_worked_us": phase.writer.worked_us,
            "writer_queued_us": phase.writer.queued_us,
        })
    };
    let spread = |spread: &Spread| {
        json!({
            "count": spread.count,
            "p50_us": spread.p50_us,
            "p99_us": spread.p99_us,
            "max_us": spread.max_us,
        })
    };
    json!({
        "keys": figures.mix.keys,
        "subscriptions": figures.mix.subscriptions,
        "backlog": phase(&figures.backlog),
        "key_created": spread(&figures.commands),
        "steady": phase(&figures.steady),
        "visible": spread(&figures.visible),
        "store_bytes_per_event": bytes_per_event(figures),
        "exact": figures.exact,
        "missed": missed(figures),
    })
}
