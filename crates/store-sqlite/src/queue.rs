//! A bounded queue with two lanes: commands go before batches.

use std::collections::VecDeque;

use crate::failure::{Failure, Worked};
use parking_lot::{Condvar, Mutex};

/// Work for a thread that holds `C`. Dropping it tells its caller that it was not done.
pub(crate) type Job<C> = Box<dyn FnOnce(&mut C) + Send>;

/// How urgent work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Somebody waits for it.
    Command,
    /// It is large and can wait for commands.
    Batch,
}

/// What waits for a thread.
pub(crate) struct Queue<C> {
    waiting: Mutex<Waiting<C>>,
    changed: Condvar,
    commands_max: usize,
    batches_max: usize,
}

struct Waiting<C> {
    commands: VecDeque<Job<C>>,
    batches: VecDeque<Job<C>>,
    closed: bool,
}

impl<C> Default for Waiting<C> {
    fn default() -> Self {
        Self {
            commands: VecDeque::new(),
            batches: VecDeque::new(),
            closed: false,
        }
    }
}

impl<C> Queue<C> {
    pub(crate) fn new(commands_max: usize, batches_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            commands_max,
            batches_max,
        }
    }

    /// Adds work; never waits.
    pub(crate) fn try_push(&self, lane: Lane, job: Job<C>) -> Worked<()> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Failure::Stopped);
        }
        let (jobs, max) = match lane {
            Lane::Command => (&mut waiting.commands, self.commands_max),
            Lane::Batch => (&mut waiting.batches, self.batches_max),
        };
        if jobs.len() >= max {
            return Err(Failure::Full);
        }
        jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// The next work, waiting for it; `None` once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<Job<C>> {
        let mut waiting = self.waiting.lock();
        loop {
            let command = waiting.commands.pop_front();
            if let Some(job) = command.or_else(|| waiting.batches.pop_front()) {
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
    }

    /// Whether somebody waits for a command.
    pub(crate) fn has_commands(&self) -> bool {
        !self.waiting.lock().commands.is_empty()
    }

    /// Takes no more work; what waits is still done.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more work and gives up what waits.
    pub(crate) fn abandon(&self) {
        let given_up = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            std::mem::take(&mut *waiting)
        };
        self.waiting.lock().closed = true;
        self.changed.notify_all();
        drop(given_up);
    }
}

impl<C> std::fmt::Debug for Queue<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.waiting.lock();
        f.debug_struct("Queue")
            .field("commands", &waiting.commands.len())
            .field("batches", &waiting.batches.len())
            .field("closed", &waiting.closed)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use rusqlite::Connection;

    use super::*;

    fn says(name: &'static str, to: &SyncSender<&'static str>) -> Job<Connection> {
        let to = to.clone();
        Box::new(move |_| to.send(name).unwrap())
    }

    #[test]
    fn commands_go_before_batches_and_each_lane_keeps_its_order() {
        let (to, said) = sync_channel(8);
        let queue = Queue::new(9, 9);
        for (lane, name) in [
            (Lane::Batch, "batch 1"),
            (Lane::Command, "command 1"),
            (Lane::Batch, "batch 2"),
            (Lane::Command, "command 2"),
        ] {
            queue.try_push(lane, says(name, &to)).unwrap();
        }
        queue.close();
        let mut connection = Connection::open_in_memory().unwrap();
        while let Some(job) = queue.pop() {
            job(&mut connection);
        }
        drop(to);
        let said: Vec<&str> = said.iter().collect();
        assert_eq!(said, ["command 1", "command 2", "batch 1", "batch 2"]);
    }

    #[test]
    fn a_full_lane_refuses_and_leaves_the_other_alone() {
        let (to, _said) = sync_channel(8);
        let queue = Queue::new(1, 1);
        queue.try_push(Lane::Batch, says("", &to)).unwrap();
        let full = queue.try_push(Lane::Batch, says("", &to));
        assert!(matches!(full, Err(Failure::Full)));
        queue.try_push(Lane::Command, says("", &to)).unwrap();
        let full = queue.try_push(Lane::Command, says("", &to));
        assert!(matches!(full, Err(Failure::Full)));
    }

    #[test]
    fn an_abandoned_queue_drops_what_waits_and_takes_no_more() {
        let (to, said) = sync_channel(8);
        let queue = Queue::new(9, 9);
        queue.try_push(Lane::Command, says("", &to)).unwrap();
        queue.abandon();
        let closed = queue.try_push(Lane::Command, says("", &to));
        assert!(matches!(closed, Err(Failure::Stopped)));
        assert!(queue.pop().is_none());
        drop(to);
        assert!(said.recv().is_err());
    }
}
