//! A real PostgreSQL server, in a temporary folder, for as long as its handle lives.
//!
//! Owns: finding Debian's programs, making the cluster (once for each target folder; then it is
//! copied), starting it as another user when the test runs as root (PostgreSQL refuses root), fresh
//! databases, killing and restarting. The server ends with its handle, by its own process id, and
//! with the test process, however that ends.
//!
//! Listens on a free port of the loopback (with a password) and on a socket file in its folder
//! (without). It does not bring anything to disk unless asked to: only tests of power cuts would
//! notice.

mod cluster;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use self::cluster::{as_other_user, copy, find_programs, give_away, template};
use crate::{free_port, wait_until};

/// Longest wait for the server to start or end.
const START_WITHIN: Duration = Duration::from_secs(20);
/// The user that owns everything in it.
const USER: &str = "tollgate";
/// Needed over the network.
const PASSWORD: &str = "pg-pass-5c1e8b";

/// A running server. Ended when dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    address: SocketAddr,
    settings: Vec<String>,
    running: Option<Running>,
    databases: AtomicU32,
}

/// The server's process, held by a thread of its own: the server is told to end when the thread
/// that started it does.
#[derive(Debug)]
struct Running {
    pid: u32,
    end: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Postgres {
    /// Starts a server.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the error holds its log.
    pub async fn start() -> anyhow::Result<Self> {
        Self::make()?.started().await
    }

    /// The same with TLS, under a certificate of its own for `localhost`.
    ///
    /// # Errors
    /// As [`Self::start`], and when `openssl` is not installed.
    pub async fn start_with_tls() -> anyhow::Result<Self> {
        let mut server = Self::make()?;
        let (key, certificate) = (server.folder.path().join("key.pem"), server.certificate());
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args([OsStr::new("-keyout"), key.as_os_str()])
            .args([OsStr::new("-out"), certificate.as_os_str()])
            .output()
            .context("openssl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl: {said}");
        give_away(&key)?;
        server.settings = vec![
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
        ];
        server.started().await
    }

    /// The file of its certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn make() -> anyhow::Result<Self> {
        let programs = find_programs()?;
        let folder = tempfile::Builder::new().prefix("tollgate-pg-").tempdir()?;
        give_away(folder.path())?;
        copy(&template(&programs)?, &folder.path().join("data"))?;
        Ok(Self {
            programs,
            folder,
            address: free_port()?,
            settings: Vec::new(),
            running: None,
            databases: AtomicU32::new(0),
        })
    }

    async fn started(mut self) -> anyhow::Result<Self> {
        self.restart().await?;
        Ok(self)
    }

    /// Starts it again on the same data and the same port, with the same settings.
    ///
    /// # Errors
    /// When it does not start; the error holds its log.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        ensure!(self.running.is_none(), "the server runs");
        let mut command = as_other_user(&self.programs.join("postgres"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        command
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", &format!("port={}", self.address.port())])
            .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "max_connections=60", "-c", "shared_buffers=64MB"])
            .arg("-c")
            .arg(format!(
                "unix_socket_directories={}",
                self.folder.path().display()
            ));
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.running = Some(Running::start(command)?);
        let pid_file = self.folder.path().join("data/postmaster.pid");
        let pid = self.pid()?;
        let ready = wait_until("PostgreSQL is ready", START_WITHIN, async || {
            // The file's first line is the process, its last the state.
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            text.lines().next() == Some(&pid.to_string())
                && text
                    .lines()
                    .last()
                    .is_some_and(|state| state.trim() == "ready")
        });
        ready.await.with_context(|| self.output())?;
        Ok(())
    }

    /// The process's number.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let running = self.running.as_ref();
        Ok(running.context("the server does not run")?.pid)
    }

    /// Kills it (SIGKILL) and waits for its end, and for that of its connections.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        let running = self.running.take().context("the server does not run")?;
        running.end_by(Signal::KILL)
    }

    /// Ends it as an administrator in a hurry does (`pg_ctl stop -m fast`).
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let running = self.running.take().context("the server does not run")?;
        running.end_by(Signal::INT)
    }

    /// Makes a fresh database; answers its URL, over the network with a password.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self) -> anyhow::Result<String> {
        let n = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{n}");
        self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// The URL of a database that may or may not be there.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{database}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The password that its URLs hold; it may stand in no output.
    #[must_use]
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Runs SQL as the owner; answers what it printed, a row a line, columns parted by `|`.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn sql(&self, database: &str, text: &str) -> anyhow::Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", USER])
            .args(["-p", &self.address.port().to_string()])
            .args([OsStr::new("-h"), self.folder.path().as_os_str()])
            .args(["-d", database, "-c", text])
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("{text}: {said}");
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// What the server wrote into its log.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // SIGQUIT: at once, nothing is kept.
            drop(running.end_by(Signal::QUIT));
        }
    }
}

impl Running {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let (end, ended) = sync_channel::<()>(1);
        let (started, start) = sync_channel(1);
        let thread = std::thread::Builder::new().name("postgres".to_owned());
        let thread = thread.spawn(move || match command.spawn() {
            Ok(mut child) => {
                drop(started.send(Ok(child.id())));
                wait_for(&ended);
                drop(child.wait());
            }
            Err(error) => drop(started.send(Err(error))),
        })?;
        let pid = start.recv()?.context("starting PostgreSQL")?;
        Ok(Self { pid, end, thread })
    }

    fn end_by(self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?).context("a process has a number")?;
        let children = children_of(self.pid);
        // Where it has ended by itself there is nobody to signal.
        kill_process(pid, signal).ok();
        drop(self.end);
        if self.thread.join().is_err() {
            bail!("the thread of PostgreSQL panicked");
        }
        // Its other processes end by themselves, and hold its memory until they have.
        for child in children {
            let gone = |pid: u32| !Path::new(&format!("/proc/{pid}/stat")).exists();
            let mut left = 2_000;
            while !gone(child) && left > 0 {
                left -= 1;
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

/// Until the other end says something or is gone.
fn wait_for(ended: &Receiver<()>) {
    ended.recv().ok();
}

fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
