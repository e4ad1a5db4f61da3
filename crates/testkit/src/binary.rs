//! The real binary, as a process on free ports with a folder of its own.
//!
//! Owns: generating configuration and catalog, starting, waiting until ready, killing, stopping,
//! starting again on the same data, running its other subcommands beside it. Its output goes to a
//! file; when the handle is dropped the process is killed, and a panic or a secret in that file
//! fails the test.
//!
//! Does not own what the catalog says.

mod life;
mod platform;

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::{Postgres, free_port};

/// The operator's token of every test process.
const ADMIN_TOKEN: &str = "test-operator-token-0123456789";

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
    /// Texts that may not stand in its output.
    pub secrets: Vec<String>,
    /// A command that the server is started through, such as `strace -D -f`. It must leave the
    /// server the process that it was started as.
    pub wrapper: Vec<String>,
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
            secrets: vec![ADMIN_TOKEN.to_owned()],
            wrapper: Vec::new(),
        }
    }

    /// Adds to the environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps everything in a fresh database of this server.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub fn on(mut self, server: &Postgres) -> anyhow::Result<Self> {
        self.secrets.push(server.password().to_owned());
        Ok(self.with("TOLLGATE__STORE__URL", &server.create_database()?))
    }

    /// Starts the server through a command.
    #[must_use]
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
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
            secrets: Mutex::new(self.secrets.clone()),
            setup: self,
            folder,
            child: None,
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
        self.surround(command.args(arguments));
        command
    }

    /// `serve`, through the wrapper where there is one.
    fn serve_command(&self) -> Command {
        let Some((first, rest)) = self.setup.wrapper.split_first() else {
            return self.command(&["serve", "--config"]);
        };
        let mut command = Command::new(first);
        command.args(rest).arg(&self.setup.program);
        self.surround(command.args(["serve", "--config"]));
        command
    }

    fn surround(&self, command: &mut Command) {
        command
            .current_dir(self.folder())
            .env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("TOLLGATE_TOKEN", ADMIN_TOKEN)
            .env("NO_COLOR", "1")
            .envs(self.setup.environment.iter().cloned())
            .stdin(Stdio::null());
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
