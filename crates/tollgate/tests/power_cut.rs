//! Power cuts: journal and store of the real binary on an ext4 file system whose device stops
//! taking anything, log included, from one moment to the next. `durable` loses nothing
//! acknowledged; what `fast` loses lies within the span that the next start reports; the store is
//! whole.
//!
//! `TOLLGATE_POWER_CUTS` sets how many (0; needs root, loop devices, perl and python3),
//! `TOLLGATE_SEED` the first choice.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tollgate_testkit::client::Call;
use tollgate_testkit::load::{self, Amount, OnBroken, Plan};
use tollgate_testkit::{
    Acknowledged, AcknowledgedSet, Binary, Oracle, OracleOptions, SeededIds, Setup, can_run,
    setting, skip, wait_until, wall_us, wanted,
};

const SOON: Duration = Duration::from_secs(20);
const DISK_BYTES: u64 = 512 << 20;
/// `FS_IOC_SHUTDOWN`, `_IOR('X', 125, u32)`, with `NOLOGFLUSH`: nothing more reaches the device.
/// Prints the moment before it.
const SHUT_DOWN: &str = "use Time::HiRes; open my $d, '<', $ARGV[0] or die $!; \
                         my $how = pack('L', 2); printf '%d', Time::HiRes::time() * 1e6; \
                         defined ioctl($d, 0x8004587d, $how) or die $!";
const CHECK: &str = "import sqlite3, sys; \
                     print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchall())";
/// A round of syncs starts at least so long after the one before has.
const ROUND_US: i64 = 50_000;
/// The journal's streams, synced one after the other.
const STREAMS: i64 = 2;
/// How late threads of a busy machine may get their turn.
const SLACK_US: i64 = 100_000;
const CLIENTS: usize = 16;

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("starting {program}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// A file with a file system in it. Unmounted and deleted when dropped.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
    boot: PathBuf,
    _folder: TempDir,
}

impl Disk {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tollgate-disk-")
            .tempdir()?;
        let disk = Self {
            image: folder.path().join("image"),
            mount: folder.path().join("mount"),
            boot: folder.path().join("boot_id"),
            _folder: folder,
        };
        std::fs::File::create(&disk.image)?.set_len(DISK_BYTES)?;
        std::fs::create_dir(&disk.mount)?;
        run("mkfs.ext4", &["-q", "-F", text(&disk.image)?])?;
        disk.mount()?;
        Ok(disk)
    }

    /// Mounting frees the loop device again at the unmount.
    fn mount(&self) -> anyhow::Result<()> {
        run(
            "mount",
            &["-o", "loop", text(&self.image)?, text(&self.mount)?],
        )
        .map(drop)
    }

    fn unmount(&self) -> anyhow::Result<()> {
        run("umount", &[text(&self.mount)?]).map(drop)
    }

    fn cut(&self) -> anyhow::Result<Cut> {
        let said = run("perl", &["-e", SHUT_DOWN, text(&self.mount)?])?;
        Ok(Cut {
            begun_us: said.trim().parse()?,
            ended_us: wall_us(),
        })
    }

    /// The machine's boot id is what tells a power cut from a killed process: each boot has one.
    fn boot(&self, number: u64) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.boot, format!("boot-{number}\n"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.unmount().is_err() {
            drop(run(
                "umount",
                &["-l", self.mount.to_str().unwrap_or_default()],
            ));
        }
    }
}

struct World {
    // Dropped in this order: the process, then its disk.
    binary: Binary,
    disk: Disk,
    oracle: Oracle,
    key: String,
    choices: SeededIds,
    acknowledged: AcknowledgedSet,
    lost: u64,
    /// By cut: from the span's begin to the cut, in microseconds.
    spans_us: Vec<i64>,
    /// By cut: the longest sync that the test itself saw on this disk, in microseconds.
    syncs_us: Vec<i64>,
    /// By cut that lost something: from the first acknowledgement lost to the cut.
    losses_us: Vec<i64>,
}

impl World {
    async fn start(sync: &str, seed: u64) -> anyhow::Result<Self> {
        let disk = Disk::new()?;
        disk.boot(0)?;
        let oracle = Oracle::start_with(OracleOptions {
            keep_headers: false,
            ..OracleOptions::default()
        })?;
        let catalog = format!(
            "[[api]]\nid = \"widgets\"\nupstreams = [\"{}\"]\npath_prefix = \"/v1\"\n\
             key_prefix = \"hm\"\n[[plan]]\nid = \"plan\"\nname = \"Plan\"\n\
             quota = {{ units = 10000000, every = \"month\", on_exceeded = \"block\" }}\n\
             [[organization]]\nid = \"acme\"\nname = \"Acme\"\n[[subscription]]\nid = \"acme\"\n\
             organization = \"acme\"\napis = [\"widgets\"]\nplan = \"plan\"\n",
            oracle.url()
        );
        let bind = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        let boot = text(&disk.boot)?.to_owned();
        let mount = text(&disk.mount)?.to_owned();
        let mut setup = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog)
            .with(
                "TOLLGATE__STORE__URL",
                &format!("sqlite://{mount}/tollgate.db"),
            )
            .with("TOLLGATE__JOURNAL__DIR", &format!("{mount}/journal"))
            .through(&["unshare", "--mount", "sh", "-c", bind, &boot]);
        setup.journal = format!("sync = \"{sync}\"\n");
        let binary = setup.start().await?;
        let (_, key) = binary.create_key("acme").await?;
        Ok(Self {
            binary,
            disk,
            oracle,
            key,
            choices: SeededIds::new(seed),
            acknowledged: AcknowledgedSet::default(),
            lost: 0,
            spans_us: Vec::new(),
            syncs_us: Vec::new(),
            losses_us: Vec::new(),
        })
    }

    fn pick(&self, below: u64) -> u64 {
        self.choices.next_u64() % below
    }

    /// Load, a cut in the middle, the next start; answers what was lost of what was acknowledged.
    async fn cycle(&mut self, number: u64, sync: &str) -> anyhow::Result<()> {
        let call = Call::get("/v1/things?delay_ms=1").key(&self.key);
        let amount = Amount::Requests(u64::MAX);
        let mut plan = Plan::new(self.binary.gateway(), CLIENTS, amount, call);
        plan.on_broken = OnBroken::Stop;
        let answered = Arc::clone(&plan.acknowledged);
        let answers = 50 + self.pick(400);
        let began_us = wall_us();
        let running = tokio::task::JoinSet::from_iter([load::run(plan)]);
        let syncing = tokio::task::JoinSet::from_iter([longest_sync_us(self.disk.mount.clone())]);
        wait_until("answers come under load", SOON, async || {
            answered.load(Ordering::SeqCst) >= answers
        })
        .await?;
        tokio::time::sleep(Duration::from_micros(self.pick(120_000))).await;
        let cut = self.disk.cut()?;
        self.syncs_us.extend(syncing.join_all().await);
        self.binary.kill9()?;
        let report = running.join_all().await.pop().context("one run")?;
        self.acknowledged.take(&report)?;
        self.disk.unmount()?;
        self.disk.mount()?;
        self.disk.boot(number + 1)?;
        let output_before = self.binary.output().len();
        self.binary.restart().await?;

        let store = self.disk.mount.join("tollgate.db");
        let whole = run("python3", &["-c", CHECK, text(&store)?])?;
        ensure!(whole.trim() == "[('ok',)]", "integrity_check: {whole}");
        let from = jiff::Timestamp::from_microsecond(began_us - 1_000_000)?;
        let records = self.binary.records_by_id(&format!("from={from}")).await?;
        let missing = self.acknowledged.missing(&records, began_us)?;
        let output = self.binary.output();
        let said = output.get(output_before..).unwrap_or_default();
        // A machine without power acknowledges nothing. Here the process lives on until it is
        // killed, and a sync that the shutdown meets half-way may say that all is well.
        let answered = |one: &Acknowledged| one.ended_us < cut.begun_us;
        match sync {
            "durable" => ensure!(
                !missing.iter().any(answered),
                "lost, cut at {}: {missing:?}",
                cut.begun_us
            ),
            _ => self.check_span(said, &missing, &cut)?,
        }
        ensure!(!said.contains("journal damage"), "{said}");
        Ok(())
    }

    /// What is missing lies within the reported span, and that is as long as is promised.
    fn check_span(
        &mut self,
        said: &str,
        missing: &[Acknowledged],
        cut: &Cut,
    ) -> anyhow::Result<()> {
        let (from_us, to_us) = reported_span(said)?;
        let span_us = cut.ended_us - from_us;
        self.spans_us.push(span_us);
        for one in missing {
            let inside = one.ended_us >= from_us && one.begun_us <= to_us;
            ensure!(inside, "{one:?} is lost and not within {from_us}..{to_us}");
        }
        if let Some(first_us) = missing.iter().map(|one| one.ended_us).min() {
            self.losses_us.push(cut.ended_us - first_us);
        }
        self.lost += missing.len() as u64;
        // Whatever was written since the last completed round may be gone. The last record on disk
        // that tells of a completed one was itself made durable by the next, and another may have
        // been under way.
        let sync_us = self.syncs_us.last().copied().unwrap_or(0);
        let took_us = cut.ended_us - cut.begun_us;
        let most_us = 3 * (ROUND_US + STREAMS * sync_us) + took_us + SLACK_US;
        ensure!(
            span_us <= most_us,
            "the span begins {span_us} us before the cut, which took {took_us} us; a sync of this \
             disk took {sync_us} us"
        );
        Ok(())
    }

    fn tell(&mut self, sync: &str, cuts: u64) -> anyhow::Result<()> {
        self.spans_us.sort_unstable();
        self.losses_us.sort_unstable();
        self.syncs_us.sort_unstable();
        let median = |all: &[i64]| all.get(all.len() / 2).copied().unwrap_or(0);
        let most = |all: &[i64]| all.last().copied().unwrap_or(0);
        let spread = |all: &[i64]| match all {
            [] => "none".to_owned(),
            all => format!(
                "{} us (median), {} us (most) before the cut",
                median(all),
                most(all)
            ),
        };
        writeln!(
            std::io::stdout(),
            "figure: power cut, sync = {sync}: {cuts} cuts, {} acknowledged, {} lost; reported spans \
             began: {}; first losses: {}; one sync of this disk took {} us (median), {} us (most); \
             the store is whole each time",
            self.acknowledged.count(),
            self.lost,
            spread(&self.spans_us),
            spread(&self.losses_us),
            median(&self.syncs_us),
            most(&self.syncs_us),
        )?;
        Ok(())
    }
}

/// When the device stopped taking anything: within this time.
struct Cut {
    begun_us: i64,
    ended_us: i64,
}

/// How long a sync on this disk takes at most beside the journal's own, until it fails.
async fn longest_sync_us(folder: PathBuf) -> i64 {
    let mut longest_us = 0;
    loop {
        let path = folder.join("probe");
        let begun_us = wall_us();
        let synced = tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::create(path)?;
            file.write_all(&[1; 512])?;
            file.sync_data()
        });
        let synced = synced.await;
        longest_us = longest_us.max(wall_us() - begun_us);
        if !matches!(synced, Ok(Ok(()))) {
            return longest_us;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `from=... to=...` of the warning.
fn reported_span(said: &str) -> anyhow::Result<(i64, i64)> {
    let line = said
        .lines()
        .find(|line| line.contains("the machine stopped"));
    let line = line.with_context(|| format!("no span was reported: {said}"))?;
    let instant = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        let word = rest.split_whitespace().next()?;
        word.parse::<jiff::Timestamp>().ok()
    };
    let from = instant("from=").with_context(|| format!("no from in {line}"))?;
    let to = instant("to=").with_context(|| format!("no to in {line}"))?;
    Ok((from.as_microsecond(), to.as_microsecond()))
}

/// Why power cannot be cut here.
fn obstacle() -> Option<&'static str> {
    if !can_run("sh", &["-c", "test \"$(id -u)\" = 0"]) {
        return Some("mounting needs root");
    }
    if !can_run("perl", &["-e", "1"]) || !can_run("python3", &["-c", "import sqlite3"]) {
        return Some("perl, or python3 with sqlite3, is not installed");
    }
    if !can_run("unshare", &["--mount", "true"]) {
        return Some("unshare --mount is not allowed here");
    }
    None
}

async fn cut_again_and_again(test: &str, sync: &str, cuts: u64) -> anyhow::Result<()> {
    if !wanted(test, "TOLLGATE_POWER_CUTS") {
        return Ok(());
    }
    if let Some(why) = obstacle() {
        skip(test, why);
        return Ok(());
    }
    if let Err(error) = Disk::new() {
        skip(
            test,
            &format!("no file system can be mounted here: {error:#}"),
        );
        return Ok(());
    }
    let seed = setting("TOLLGATE_SEED", 1);
    writeln!(
        std::io::stdout(),
        "sync = {sync}, {cuts} power cuts, TOLLGATE_SEED={seed}"
    )?;
    let mut world = World::start(sync, seed).await?;
    for number in 0..cuts {
        let done = world.cycle(number, sync).await;
        done.with_context(|| format!("power cut {number} with TOLLGATE_SEED={seed}"))?;
    }
    ensure!(world.oracle.count() > 0, "nothing came through");
    let reconciled = world.binary.reconcile();
    world.tell(sync, cuts)?;
    reconciled.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_loses_nothing_acknowledged_to_a_power_cut() -> anyhow::Result<()> {
    let cuts = setting("TOLLGATE_POWER_CUTS", 0) / 2;
    let test = "durable_loses_nothing_acknowledged_to_a_power_cut";
    cut_again_and_again(test, "durable", cuts).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_loses_to_a_power_cut_what_the_next_start_reports() -> anyhow::Result<()> {
    let cuts = setting("TOLLGATE_POWER_CUTS", 0).div_ceil(2);
    let test = "fast_loses_to_a_power_cut_what_the_next_start_reports";
    cut_again_and_again(test, "fast", cuts).await
}
