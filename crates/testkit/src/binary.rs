//! The real binary, as a process on free ports with a folder of its own.
//!
//! Owns: generating configuration and catalog, starting, waiting until ready, killing, stopping,
//! starting again on the same data, running its other subcommands beside it. Its output goes to a
//! file; when the handle is dropped the process is killed, and a panic or a secret in that file
//! fails the test.
//!
//! Does not own what the catalog says.

mod platform;

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{self, Call};
use crate::{Elapsed, free_port, wait_until};

/// The operator's token of every test process.
const ADMIN_TOKEN: &str = "test-operator-token-0123456789";
/// Longest time until ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How the binary is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program: `env!("CARGO_BIN_EXE_tollgate")`.
    pub program: PathBuf,
    /// Text of `catalog.toml`.
    pub catalog: String,
    /// Lines added to `[gateway]`.
    pub gateway: String,
    /// Lines added to `[journal]`.
    pub journal: String,
    /// Environment, such as `TOLLGATE__STORE__URL`.
    pub environment: Vec<(String, String)>,
}

impl Setup {
    /// The program with a catalog, all else by default.
    #[must_use]
    pub fn new(program: &str, catalog: &str) -> Self {
        Self {
            program: PathBuf::from(program),
            catalog: catalog.to_owned(),
            gateway: String::new(),
            journal: String::new(),
            environment: Vec::new(),
        }
    }

    /// Writes the files and starts the process, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; the error holds its output.
    pub async fn start(self) -> anyhow::Result<Binary> {
        let folder = tempfile::Builder::new()
            .prefix("tollgate-test-")
            .tempdir()?;
        let mut binary = Binary {
            gateway: free_port()?,
            platform: free_port()?,
            health: free_port()?,
            setup: self,
            folder,
            child: None,
            secrets: Mutex::new(vec![ADMIN_TOKEN.to_owned()]),
        };
        binary.write_configuration()?;
        binary.write_catalog(&binary.setup.catalog.clone())?;
        binary.launch()?;
        binary.wait_ready().await?;
        Ok(binary)
    }
}

/// A process of the real binary. Killed when dropped.
#[derive(Debug)]
pub struct Binary {
    setup: Setup,
    folder: TempDir,
    gateway: SocketAddr,
    platform: SocketAddr,
    health: SocketAddr,
    child: Option<Child>,
    secrets: Mutex<Vec<String>>,
}

impl Binary {
    /// Where the gateway listens.
    #[must_use]
    pub fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// Where the platform listens.
    #[must_use]
    pub fn platform(&self) -> SocketAddr {
        self.platform
    }

    /// Where health answers are given.
    #[must_use]
    pub fn health(&self) -> SocketAddr {
        self.health
    }

    /// The folder with configuration, catalog, store and journal.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder().join("tollgate.toml")
    }

    /// The operator's token.
    #[must_use]
    pub fn token(&self) -> &'static str {
        ADMIN_TOKEN
    }

    /// From now on this text may not stand in the output.
    pub fn keep_secret(&self, secret: &str) {
        self.secrets.lock().push(secret.to_owned());
    }

    /// Writes another catalog; a running process is not told.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_catalog(&self, catalog: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.folder().join("catalog.toml"), catalog)?)
    }

    fn write_configuration(&self) -> anyhow::Result<()> {
        let text = format!(
            "[gateway]\nlisten = \"{}\"\n{}\n\
             [platform]\nlisten = \"{}\"\n\
             [health]\nlisten = \"{}\"\n\
             [store]\nurl = \"sqlite://tollgate.db\"\n\
             [journal]\ndir = \"journal\"\n{}\n\
             [catalog]\nfile = \"catalog.toml\"\n",
            self.gateway, self.setup.gateway, self.platform, self.health, self.setup.journal,
        );
        Ok(std::fs::write(self.config(), text)?)
    }

    /// A command of the same program in the same environment.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.setup.program);
        command
            .args(arguments)
            .current_dir(self.folder())
            .env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("TOLLGATE_TOKEN", ADMIN_TOKEN)
            .env("NO_COLOR", "1")
            .envs(self.setup.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    /// Runs a subcommand beside the server, `--config` added, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let config = self.config();
        let config = config.to_str().context("the folder's name is UTF-8")?;
        let mut all = arguments.to_vec();
        all.extend(["--config", config]);
        self.command(&all)
            .output()
            .with_context(|| format!("running tollgate {}", arguments.join(" ")))
    }

    /// The same, and it must exit 0; answers its standard output.
    ///
    /// # Errors
    /// When it fails; the error holds what it said.
    pub fn run_well(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!(
                "tollgate {} failed with {}:\n{said}\n{}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(said)
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let log = self.open_log()?;
        let config = self.config();
        let mut command = self.command(&["serve", "--config"]);
        let child = command
            .arg(&config)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.setup.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    fn open_log(&self) -> anyhow::Result<File> {
        let path = self.folder().join("output.log");
        Ok(OpenOptions::new().create(true).append(true).open(path)?)
    }

    /// Everything the server wrote to its outputs so far, over all of its lives.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = std::fs::read(self.folder().join("output.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `/readyz` answers 200; answers how long that took.
    ///
    /// # Errors
    /// When it ends or does not become ready in time; the error holds its output.
    pub async fn wait_ready(&mut self) -> anyhow::Result<Duration> {
        let clock = Elapsed::start();
        loop {
            if let Some(status) = self.try_wait()? {
                bail!(
                    "tollgate ended with {status} before it was ready:\n{}",
                    self.output()
                );
            }
            let answer = client::send(self.health, &Call::get("/readyz")).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(clock.so_far());
            }
            if clock.so_far() > READY_WITHIN {
                bail!("not ready within {READY_WITHIN:?}:\n{}", self.output());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn try_wait(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => bail!("the process is not running"),
        }
    }

    /// The process's number.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let child = self.child.as_ref();
        child.map(Child::id).context("the process is not running")
    }

    /// Its resident memory in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn memory_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.context("VmRSS")? * 1024)
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the process is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends SIGHUP: read the catalog again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        self.signal(Signal::HUP)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).context("a process has a number")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub async fn terminate(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let mut status = None;
        let ended = wait_until("tollgate ends after SIGTERM", deadline, async || {
            status = self.try_wait().ok().flatten();
            status.is_some()
        });
        let ended = ended.await;
        ended.with_context(|| self.output())?;
        self.child = None;
        status.context("it ended")
    }

    /// Starts it again on the same data and waits until it is ready; answers how long that took.
    ///
    /// # Errors
    /// As [`Self::wait_ready`].
    pub async fn restart(&mut self) -> anyhow::Result<Duration> {
        self.launch()?;
        self.wait_ready().await
    }

    /// Why the output is not as it may be.
    #[must_use]
    pub fn wrong_output(&self) -> Option<String> {
        let output = self.output();
        let panicked = output.lines().find(|line| line.contains("panicked at"));
        if let Some(line) = panicked {
            return Some(format!("a panic in the output: {line}"));
        }
        let secrets = self.secrets.lock();
        let told = secrets.iter().find(|secret| output.contains(*secret));
        told.map(|secret| {
            let begin: String = secret.chars().take(6).collect();
            format!("a secret in the output, it begins with {begin}")
        })
    }
}

impl Binary {
    /// The end of the output, for who reads why a test failed; the harness keeps it to itself
    /// when the test passes.
    #[expect(clippy::print_stderr, reason = "captured by the test harness")]
    fn show_output(&self) {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let from = lines.len().saturating_sub(60);
        for line in lines.get(from..).unwrap_or_default() {
            eprintln!("tollgate: {line}");
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        self.show_output();
        if std::thread::panicking() {
            return;
        }
        let wrong = self.wrong_output();
        assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    }
}
