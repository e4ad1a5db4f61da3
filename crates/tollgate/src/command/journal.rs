//! `tollgate journal`: looks into a gateway's journal, also beside the process that writes it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use tollgate_journal::{DamageReport, DiskFilesystem, Inspection, StreamInspection};

use crate::cli::JournalCommand;
use crate::output;

/// Runs the command; `verify` exits with 1 on damage.
///
/// # Errors
/// When the folder cannot be read.
pub fn run(command: JournalCommand) -> anyhow::Result<ExitCode> {
    let (dir, as_json, verified) = match command {
        JournalCommand::Inspect { dir, json } => (dir, json, false),
        JournalCommand::Verify { dir, json } => (dir, json, true),
    };
    anyhow::ensure!(dir.is_dir(), "{} is no folder", dir.display());
    let found = if verified {
        verify(&dir)?
    } else {
        inspect(&dir)?
    };
    anyhow::ensure!(
        found.node.is_some() || !found.streams.is_empty() || !found.damage.is_clean(),
        "{} holds no journal; name the folder that journal.dir names",
        dir.display()
    );
    if as_json {
        output::json(&to_json(&found, verified))?;
    } else {
        print(&found, verified)?;
    }
    let failed = verified && !found.damage.is_clean();
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Reads every record of the journal in a folder.
///
/// # Errors
/// When the folder cannot be listed.
pub fn verify(dir: &Path) -> anyhow::Result<Inspection> {
    tollgate_journal::verify(&DiskFilesystem, dir)
        .with_context(|| format!("the journal {} cannot be read", dir.display()))
}

fn inspect(dir: &Path) -> anyhow::Result<Inspection> {
    tollgate_journal::inspect(&DiskFilesystem, dir)
        .with_context(|| format!("the journal {} cannot be read", dir.display()))
}

fn to_json(found: &Inspection, verified: bool) -> Value {
    let streams: Vec<Value> = found.streams.iter().map(stream_json).collect();
    let checkpoints: Vec<Value> = found
        .checkpoints
        .iter()
        .map(|checkpoint| {
            json!({
                "epoch": checkpoint.epoch,
                "at": checkpoint.at.wall.to_string(),
                "counters": checkpoint.counters,
            })
        })
        .collect();
    json!({
        "node": found.node,
        "epoch": found.epoch,
        "clean": found.clean,
        "verified": verified,
        "streams": streams,
        "checkpoints": checkpoints,
        "damage": damage_lines(&found.damage),
        "damaged_places": places_json(&found.damage),
        "is_clean": found.damage.is_clean(),
    })
}

fn places_json(damage: &DamageReport) -> Vec<Value> {
    let spots = damage.spots.iter().map(|spot| {
        json!({
            "file": spot.file, "offset": spot.offset, "bytes": spot.bytes,
            "kind": format!("{:?}", spot.kind), "records_missing": spot.missing,
        })
    });
    let torn = damage.torn.iter().map(|tail| {
        json!({ "file": tail.file, "offset": tail.offset, "kind": "TornEnd", "records_missing": 0 })
    });
    spots.chain(torn).collect()
}

fn stream_json(stream: &StreamInspection) -> Value {
    json!({
        "epoch": stream.epoch,
        "thread": stream.thread,
        "segments": stream.segments,
        "bytes": stream.bytes,
        "first": stream.first.0,
        "next": stream.next.0,
        "shipped": stream.shipped.0,
        "sealed": stream.sealed,
        "records": stream.records,
        "events": stream.totals.events_sum(),
        "units": stream.totals.units_sum(),
    })
}

fn print(found: &Inspection, verified: bool) -> anyhow::Result<()> {
    let node = found.node.as_deref().unwrap_or("unknown");
    let ended = if found.clean {
        "ended in order"
    } else {
        "runs, or was killed"
    };
    let epoch = found
        .epoch
        .map_or_else(|| "?".to_owned(), |epoch| epoch.to_string());
    output::line(format!("node {node}, life {epoch} ({ended})"))?;
    let rows = found
        .streams
        .iter()
        .map(|stream| {
            vec![
                format!("{}/{}", stream.epoch, stream.thread),
                stream.segments.to_string(),
                (stream.bytes >> 10).to_string(),
                stream.first.0.to_string(),
                stream.next.0.to_string(),
                stream.shipped.0.to_string(),
                stream.totals.events_sum().to_string(),
                stream.totals.units_sum().to_string(),
            ]
        })
        .collect();
    output::table(
        &[
            "stream",
            ">segments",
            ">KiB",
            ">first",
            ">next",
            ">shipped",
            ">events",
            ">units",
        ],
        rows,
    )?;
    for line in damage_lines(&found.damage) {
        output::line(line)?;
    }
    match (verified, found.damage.is_clean()) {
        (true, true) => output::line("Every record is whole."),
        (true, false) => output::line(DAMAGED),
        (false, true) => output::line(
            "Only heads and ends were looked at; `tollgate journal verify` reads every record.",
        ),
        (false, false) => output::line("`tollgate journal verify` reads every record."),
    }
}

/// What damage means, and what to do.
const DAMAGED: &str = "\
What it means: records inside the damaged bytes that were not shipped before are lost to
statistics; whole records around them are delivered all the same, and a torn end is no loss. A
server that runs goes on as before. One that starts on this folder does not know what windows held:
each counts as full for its length (503 `counters_unavailable`).
What to do: copy this folder away before anything else; look at the disk (dmesg, SMART). Do not
restart without need. `tollgate reconcile` counts what is damaged and still waits; what was passed
over already is in `tollgate_usage_unreadable_entries_total` and in the server's log.";

fn damage_lines(damage: &DamageReport) -> Vec<String> {
    let spots = damage.spots.iter().map(|spot| {
        format!(
            "damaged: {} at byte {}, {} bytes ({:?}); {} records cannot be read",
            spot.file, spot.offset, spot.bytes, spot.kind, spot.missing
        )
    });
    let torn = damage.torn.iter().map(|tail| {
        format!(
            "torn end: {} at byte {}; it was being written when the process was killed (then its \
             client got no answer), or when the machine lost power (with journal.sync = \"fast\" \
             what was answered since the last completed sync, 50 ms before, may be lost too)",
            tail.file, tail.offset
        )
    });
    let more =
        (damage.more_spots > 0).then(|| format!("and {} more damaged places", damage.more_spots));
    spots.chain(torn).chain(more).collect()
}
