//! What happens when a journal is opened: read the past, raise the epoch durably, tidy up, build.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use prost::Message;
use tokio::sync::watch;
use tollgate_model::{Clock, IdGen, NodeId, Now, StreamId, Ticks, Timestamp};

use crate::checkpoint::OpenProgress;
use crate::damage::DamageBook;
use crate::fs::{Filesystem, again, read_again, read_full_at, write_all_at};
use crate::live::LiveStream;
use crate::options::NODE_BYTES_MAX;
use crate::recover::{Recovery, node_line, recover};
use crate::recovered::interrupted;
use crate::shared::{DiskBudget, Shared, Signal, Untold, lock};
use crate::stream::Stream;
use crate::twin::replace;
use crate::wire::State;
use crate::{JournalError, JournalOptions, LostSpan, Recovered, SyncMode};

pub(crate) fn open(
    fs: Arc<dyn Filesystem>,
    options: JournalOptions,
    threads: u16,
    node_name: Option<&str>,
    clock: Arc<dyn Clock>,
    ids: &dyn IdGen,
) -> Result<(Arc<Shared>, Recovered), JournalError> {
    options.check(threads)?;
    let dir = options.dir.clone();
    again(|| fs.create_dir_all(&dir)).map_err(JournalError::io("make", &dir))?;
    let guard = again(|| fs.lock(&dir.join("lock")))
        .map_err(JournalError::io("lock", dir.join("lock")))?
        .ok_or_else(|| JournalError::InUse(dir.clone()))?;
    let mut recovery = recover(&*fs, &dir).map_err(JournalError::io("list", &dir))?;
    let boot_id = fs.boot_id().unwrap_or_default();
    go_on_with_ticks(&*clock, &recovery, &boot_id);
    let now = clock.now();
    let node = settle_node(&*fs, &dir, node_name, &recovery, now.wall, ids)?;
    let marks = options.platform_marks.as_deref();
    let platform_epoch = marks.map_or(0, |marks| recovery.compare(&node, marks));
    let epoch = next_epoch(&recovery, now.wall).max(platform_epoch + 1);
    make_durable(&*fs, &dir, recovery.unsynced())?;
    let recovered = tell(&mut recovery, &options, &node, epoch, now, &boot_id);
    let lost_from = recovered.lost_span.map(|span| span.from.0.unsigned_abs());
    let state = State {
        epoch,
        node: node.as_str().to_owned(),
        boot_id: boot_id.clone(),
        durable: options.sync == SyncMode::Durable,
        clean: false,
        last_tick: recovered.last_tick.0.max(now.ticks.0),
        lost_from,
        ticks_at_boot: clock.ticks_at_boot().map(|ticks| ticks.0),
        past_lost: !recovered.complete,
    };
    let stored = recovery.state.store(&*fs, &dir, &state.encode_to_vec());
    stored.map_err(JournalError::io("write the new epoch in", &dir))?;
    tidy(&*fs, &dir, &recovery);
    let shared = build(
        fs,
        options,
        threads,
        clock,
        recovery,
        (node, epoch, boot_id),
    );
    *lock(&shared.lock) = Some(guard);
    *lock(&shared.untold) = Untold {
        lost_from,
        past_lost: state.past_lost,
    };
    if let Err(error) = shared.store_ledger(&mut lock(&shared.ledger)) {
        // Old streams are read again at the next start; nothing is deleted without a ledger.
        tracing::warn!(%error, "cannot write the journal's ledger");
    }
    for live in &shared.live {
        live.replenish(&shared, true);
    }
    Ok((shared, recovered))
}

/// Within one run of the machine ticks go on where they were, and never below what was written
/// down.
fn go_on_with_ticks(clock: &dyn Clock, recovery: &Recovery, boot_id: &str) {
    let same_boot = |state: &&State| !boot_id.is_empty() && state.boot_id == boot_id;
    let previous = recovery.previous.as_ref().filter(same_boot);
    if let Some(ticks) = previous.and_then(|state| state.ticks_at_boot) {
        clock.continue_boot(Ticks(ticks));
    }
    clock.raise_to(Ticks(recovery.last_tick));
}

/// The name given, else the one kept, else a new one.
fn settle_node(
    fs: &dyn Filesystem,
    dir: &Path,
    given: Option<&str>,
    recovery: &Recovery,
    now: Timestamp,
    ids: &dyn IdGen,
) -> Result<NodeId, JournalError> {
    let fits = |name: &&str| {
        (1..=NODE_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    let kept = recovery.node_kept.as_deref().filter(fits);
    let known = kept.or(recovery.node_seen.as_deref().filter(fits));
    let node = match (given, known) {
        (Some(name), _) => NodeId::new(Some(name).filter(fits).ok_or(JournalError::NodeName)?),
        (None, Some(name)) => NodeId::new(name),
        (None, None) => NodeId::made(ids.uuid(now)),
    };
    if kept != Some(node.as_str()) {
        let path = dir.join("node");
        let line = node_line(node.as_str());
        replace(fs, dir, &dir.join("node.tmp"), &path, line.as_bytes())
            .map_err(JournalError::io("write", &path))?;
    }
    Ok(node)
}

/// What a killed process wrote may not be on disk yet, though it reads back; from now on it counts
/// as old, so it is written again and synced here. A sync alone would not do: where one failed in
/// that life, the kernel has forgotten that those bytes are not on disk, and the next succeeds
/// without them. Where the disk fails at that too, the file is copied.
fn make_durable<'a>(
    fs: &dyn Filesystem,
    dir: &Path,
    paths: impl Iterator<Item = &'a Path>,
) -> Result<(), JournalError> {
    for path in paths {
        let Err(error) = write_again(fs, path) else {
            continue;
        };
        tracing::error!(%error, file = %path.display(), "journal sync failed; copying the file");
        let copied = read_whole(fs, path)
            .and_then(|bytes| replace(fs, dir, &dir.join("segment.tmp"), path, &bytes));
        copied.map_err(JournalError::io("sync", path))?;
    }
    Ok(())
}

/// How much of a file is written again at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Writes the bytes that a file has over themselves, which a power cut in the middle cannot harm.
/// What cannot be read, or was never written to, stays as it is.
fn write_again(fs: &dyn Filesystem, path: &Path) -> io::Result<()> {
    let file = again(|| fs.open(path))?;
    let length = read_again(|| file.length())?;
    let mut chunk = vec![0; CHUNK_BYTES];
    for offset in (0..length).step_by(CHUNK_BYTES) {
        let read = read_full_at(&*file, &mut chunk, offset).unwrap_or(0);
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.iter().any(|byte| *byte != 0) {
            write_all_at(&*file, bytes, offset)?;
        }
    }
    again(|| file.sync_all())
}

fn read_whole(fs: &dyn Filesystem, path: &Path) -> io::Result<Vec<u8>> {
    let file = read_again(|| fs.open_read(path))?;
    let length = read_again(|| file.length())?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Above every epoch seen. Where the state is lost, or the folder is new under a name that had one
/// before, the platform knows streams of epochs that are unknown here; seconds since 1970 are above
/// them all, since every start raises the epoch by one only.
fn next_epoch(recovery: &Recovery, now: Timestamp) -> u64 {
    let next = recovery.epoch_seen + 1;
    if recovery.previous.is_some() {
        return next;
    }
    next.max(u64::try_from(now.0 / 1_000_000).unwrap_or(0))
}

fn tell(
    recovery: &mut Recovery,
    options: &JournalOptions,
    node: &NodeId,
    epoch: u64,
    now: Now,
    boot_id: &str,
) -> Recovered {
    let unsure = recovery.state_unsure;
    let previous = recovery.previous.as_ref();
    let clean = previous.is_some_and(|state| state.clean && !unsure);
    // Where nothing surely says how the last life ended, the machine may have stopped.
    let power_cut = previous.map_or(!recovery.fresh, |state| {
        let same_boot = !boot_id.is_empty() && state.boot_id == boot_id;
        !same_boot && (unsure || !state.clean && !state.durable)
    });
    let untold = previous.and_then(|state| state.lost_from);
    let lost_from = power_cut.then_some(recovery.synced_at);
    let lost_span = lost_from.into_iter().chain(untold).min();
    let lost_span = lost_span.map(|from| LostSpan {
        // Ticks run on wall time's scale.
        from: Timestamp(i64::try_from(from).unwrap_or(i64::MAX)),
        to: now.wall,
    });
    if let Some(span) = lost_span {
        tracing::warn!(from = %span.from, to = %span.to, dir = %options.dir.display(),
            "the machine stopped; entries of this span may be lost");
    }
    for torn in &recovery.damage.torn {
        tracing::warn!(
            file = torn.file,
            offset = torn.offset,
            bytes = torn.bytes,
            "torn journal tail cut off"
        );
    }
    for spot in &recovery.damage.spots {
        tracing::error!(file = spot.file, offset = spot.offset, bytes = spot.bytes,
            missing = spot.missing, kind = ?spot.kind, "journal damage");
    }
    Recovered {
        node: node.clone(),
        epoch,
        fresh: recovery.fresh,
        clean,
        checkpoint: recovery.checkpoint.take(),
        entries: std::mem::take(&mut recovery.entries),
        unfinished: interrupted(&recovery.open),
        damage: recovery.damage.clone(),
        lost_span,
        last_tick: Ticks(recovery.last_tick),
        last_wall: recovery.last_wall,
        complete: recovery.complete,
    }
}

/// Cuts torn tails and removes what was never used. What fails here is tried at the next start.
fn tidy(fs: &dyn Filesystem, dir: &Path, recovery: &Recovery) {
    for (path, length) in &recovery.cuts {
        let cut = again(|| {
            let file = fs.open(path)?;
            file.truncate(*length)?;
            file.sync_all()
        });
        if let Err(error) = cut {
            tracing::warn!(%error, file = %path.display(), "cannot cut a torn tail");
        }
    }
    for path in &recovery.unused {
        if let Err(error) = again(|| fs.remove(path)) {
            tracing::warn!(%error, file = %path.display(), "cannot remove an unused segment");
        }
    }
    if let Err(error) = again(|| fs.sync_dir(dir)) {
        tracing::warn!(%error, dir = %dir.display(), "cannot sync the journal's folder");
    }
}

fn build(
    fs: Arc<dyn Filesystem>,
    options: JournalOptions,
    threads: u16,
    clock: Arc<dyn Clock>,
    recovery: Recovery,
    (node, epoch, boot_id): (NodeId, u64, String),
) -> Arc<Shared> {
    let mut streams = recovery.streams;
    let mut live = Vec::new();
    for thread in 0..threads {
        let id = StreamId {
            node: node.clone(),
            epoch,
            thread,
        };
        let stream = Arc::new(Stream::new(id.clone(), Vec::new(), 0));
        streams.insert(id, Arc::clone(&stream));
        live.push(Arc::new(LiveStream::new(stream)));
    }
    let disk = DiskBudget::new(
        options.disk_bytes_max,
        recovery.disk_bytes,
        recovery.checkpoints.disk_bytes(),
    );
    let began_at = clock.now().ticks;
    let shared = Shared {
        fs,
        clock,
        node,
        epoch,
        boot_id,
        live,
        streams: RwLock::new(streams),
        disk,
        ledger: Mutex::new(recovery.ledger),
        state: Mutex::new(recovery.state),
        checkpoints: Mutex::new(recovery.checkpoints),
        covers: RwLock::new(recovery.covers),
        unfinished: OpenProgress::default(),
        damage: DamageBook::new(recovery.damage),
        doomed: Mutex::default(),
        untold: Mutex::default(),
        round: Mutex::new(()),
        signal: Signal::default(),
        progress: watch::Sender::new(0),
        // Nothing of this life was appended before it began.
        synced_at: AtomicU64::new(began_at.0),
        lock: Mutex::new(None),
        options,
    };
    for (id, payload) in recovery.open {
        shared.unfinished.insert(&id, payload);
    }
    Arc::new(shared)
}
