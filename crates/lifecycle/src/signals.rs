//! What the operating system asks of the process: the first SIGTERM or SIGINT drains, the second
//! aborts, SIGHUP reloads. SIGXFSZ, which would end it at the first write beyond a limit on file
//! sizes, is caught: that write then fails like one to a full disk.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// A file has reached the largest size that the process may write (`signal(7)`, all of Linux but
/// MIPS).
const SIGXFSZ: i32 = 25;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End in order.
    Drain,
    /// End now; what is written must still be whole.
    Abort,
    /// Read the catalog again.
    Reload,
}

/// Listens for signals. Make it early: a signal before that ends the process at once.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    /// Never waited for.
    _file_size: unix::Signal,
    asked_to_drain: bool,
}

impl Signals {
    /// Begins to listen; needs a tokio runtime.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hangup: unix::signal(SignalKind::hangup())?,
            _file_size: unix::signal(SignalKind::from_raw(SIGXFSZ))?,
            asked_to_drain: false,
        })
    }

    /// Waits for the next signal. May be dropped and called again without missing one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => self.asked_to_end(),
            _ = self.interrupt.recv() => self.asked_to_end(),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    fn asked_to_end(&mut self) -> Signal {
        if std::mem::replace(&mut self.asked_to_drain, true) {
            Signal::Abort
        } else {
            Signal::Drain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(signal: &str) {
        let pid = std::process::id().to_string();
        let sent = std::process::Command::new("kill")
            .args([signal, &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_aborts() {
        let mut signals = Signals::listen().unwrap();
        send("-HUP");
        assert_eq!(signals.next().await, Signal::Reload);
        send("-TERM");
        assert_eq!(signals.next().await, Signal::Drain);
        send("-INT");
        assert_eq!(signals.next().await, Signal::Abort);
    }
}
