//! Where a process stands. Health answers and accept loops follow it; it only moves forward.

use tokio::sync::watch;

/// Where a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Opening stores, restoring counters; not ready.
    Starting,
    /// Serving.
    Ready,
    /// Serving what was begun, taking nothing new; not ready.
    Draining,
    /// Writing down and closing; not ready.
    Stopping,
    /// Over.
    Stopped,
}

impl Phase {
    /// As it stands in logs and health answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// Publishes the phase. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Phases {
    sender: watch::Sender<Phase>,
}

impl Default for Phases {
    fn default() -> Self {
        Self::new()
    }
}

impl Phases {
    /// Begins at [`Phase::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            sender: watch::Sender::new(Phase::Starting),
        }
    }

    /// Moves forward to `phase`; a phase that is over stays over. Answers whether it moved.
    pub fn advance_to(&self, phase: Phase) -> bool {
        let moved = self.sender.send_if_modified(|current| {
            let forward = *current < phase;
            if forward {
                *current = phase;
            }
            forward
        });
        if moved {
            tracing::info!(phase = phase.as_str(), "phase");
        }
        moved
    }

    /// The phase now.
    #[must_use]
    pub fn current(&self) -> Phase {
        *self.sender.borrow()
    }

    /// Follows the phase.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.sender.subscribe()
    }

    /// Waits until the phase is `phase` or a later one.
    pub async fn reached(&self, phase: Phase) {
        let mut receiver = self.sender.subscribe();
        // The sender lives in `self`, so the channel cannot close while this waits.
        drop(receiver.wait_for(|current| *current >= phase).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_only_moves_forward() {
        let phases = Phases::new();
        let follower = phases.subscribe();
        assert!(phases.advance_to(Phase::Draining));
        assert!(!phases.advance_to(Phase::Ready));
        assert_eq!(phases.current(), Phase::Draining);
        assert_eq!(*follower.borrow(), Phase::Draining);
        phases.reached(Phase::Ready).await;
    }
}
