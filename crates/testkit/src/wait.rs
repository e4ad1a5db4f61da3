//! Waiting for what happens, with a deadline. The only place of the testkit that reads a clock.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How often a condition is asked.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// A stopwatch.
#[derive(Debug, Clone, Copy)]
pub struct Elapsed(Instant);

impl Elapsed {
    /// Starts now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "tests of a real process measure real time"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What has passed since.
    #[must_use]
    pub fn so_far(self) -> Duration {
        self.0.elapsed()
    }

    /// The same in microseconds.
    #[must_use]
    pub fn us(self) -> u64 {
        u64::try_from(self.so_far().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Wall time, in microseconds since the Unix epoch.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "what a real process writes down is compared with real time"
)]
pub fn wall_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

/// Whether a heavy test is to run: its variable holds a number above zero. Otherwise says on
/// standard output that it was skipped, and why.
#[must_use]
pub fn wanted(test: &str, variable: &str) -> bool {
    let wanted = setting(variable, 0) > 0;
    if !wanted {
        skip(
            test,
            &format!("{variable} is not set (it runs in `make campaign`)"),
        );
    }
    wanted
}

/// Says on standard output that a test did not run, and why.
pub fn skip(test: &str, why: &str) {
    // Without standard output there is nobody to tell.
    drop(writeln!(std::io::stdout(), "SKIPPED {test}: {why}"));
}

/// Whether a program can be started with these arguments and ends well.
#[must_use]
pub fn can_run(program: &str, arguments: &[&str]) -> bool {
    let quiet = std::process::Stdio::null;
    let ended = std::process::Command::new(program)
        .args(arguments)
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .status();
    ended.is_ok_and(|status| status.success())
}

/// Asks `condition` again and again until it holds; answers how long that took.
///
/// # Errors
/// When the deadline passes first; the error names `what`.
pub async fn wait_until(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> anyhow::Result<Duration> {
    let clock = Elapsed::start();
    loop {
        if condition().await {
            return Ok(clock.so_far());
        }
        if clock.so_far() > deadline {
            bail!("waited {deadline:?} in vain: {what}");
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// A number from the environment, such as `TOLLGATE_KILL9_CYCLES`, or `default` without one.
#[must_use]
pub fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).unwrap_or_default();
    text.replace('_', "").parse().unwrap_or(default)
}
