//! Starting, waiting, killing and stopping a process of the real binary.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{Binary, Setup};
use crate::client::{self, Call};
use crate::{Elapsed, wait_until};

/// Longest time until ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

impl Binary {
    /// How the next start is set up.
    pub fn setup_mut(&mut self) -> &mut Setup {
        &mut self.setup
    }

    /// Starts it again on the same data and does not wait for anything.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let log = self.open_log()?;
        let config = self.config();
        let mut command = self.serve_command();
        let child = command
            .arg(&config)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.setup.program.display()))?;
        self.child = Some(child);
        Ok(())
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

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When it was not running.
    pub fn try_wait(&mut self) -> anyhow::Result<Option<ExitStatus>> {
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

    /// Sends SIGTERM and does not wait.
    ///
    /// # Errors
    /// When it does not run.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
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
        self.ask_to_end()?;
        self.wait_end(deadline).await
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub async fn wait_end(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        let ended = wait_until("tollgate ends", deadline, async || {
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
}
