//! Every task has a name, an owner and a policy.
//!
//! Tasks live in groups. [`Supervisor::shutdown`] ends the groups one after another, the youngest
//! first, so that what was started on top of something ends before it. Within a group: its stop
//! token is cancelled and [`OnCancel::Abort`] tasks are aborted; [`OnCancel::Wait`] tasks are
//! waited for. At the deadline the `hard` token is cancelled; whoever has not ended [`HARD_GRACE`]
//! later is aborted and named in the report.
//!
//! A task that fails or panics is logged and, with [`OnError::Shutdown`], asks the process to end;
//! the supervisor itself never ends the process.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// What is left to a task between the `hard` token and its abort.
pub const HARD_GRACE: Duration = Duration::from_millis(500);

/// What a task fails with.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// What becomes of a task when its group stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// It ends by itself, having seen the stop token; it is waited for.
    Wait,
    /// It has nothing to finish; it is aborted.
    Abort,
}

/// What follows from a task's failure or panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is logged, the process goes on.
    Log,
    /// It is logged and the process is asked to end.
    Shutdown,
}

/// A task's name and policies.
#[derive(Debug, Clone)]
pub struct TaskSpec {
    /// What logs and reports call it.
    pub name: Cow<'static, str>,
    /// When its group stops.
    pub on_cancel: OnCancel,
    /// When it fails.
    pub on_error: OnError,
}

impl TaskSpec {
    /// A task that ends by itself when told, and without which the process is of no use.
    #[must_use]
    pub fn essential(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            on_cancel: OnCancel::Wait,
            on_error: OnError::Shutdown,
        }
    }

    /// A task that may be cut off at any await and whose failure is only logged.
    #[must_use]
    pub fn expendable(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            on_cancel: OnCancel::Abort,
            on_error: OnError::Log,
        }
    }
}

/// The two tokens that a task follows.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Finish what was begun and end.
    pub soft: CancellationToken,
    /// The deadline is over: end now.
    pub hard: CancellationToken,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskOutcome {
    /// By itself.
    Done,
    /// With an error.
    Failed,
    /// With a panic.
    Panicked,
    /// Cut off by the supervisor.
    Aborted,
}

/// What [`Supervisor::shutdown`] saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Names of the tasks that had to be cut off though they were to be waited for.
    pub cut_off: Vec<String>,
}

impl ShutdownReport {
    /// Whether everything ended by itself.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.cut_off.is_empty()
    }
}

struct Running {
    name: Cow<'static, str>,
    on_cancel: OnCancel,
    abort: AbortHandle,
}

struct Group {
    name: &'static str,
    soft: CancellationToken,
    running: Mutex<BTreeMap<u64, Running>>,
    count: watch::Sender<usize>,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn abort_where(&self, which: impl Fn(&Running) -> bool) {
        for task in self.lock().values().filter(|task| which(task)) {
            task.abort.abort();
        }
    }

    fn leave(&self, number: u64) {
        let left = {
            let mut running = self.lock();
            running.remove(&number);
            running.len()
        };
        self.count.send_replace(left);
    }

    /// Waits until no task is left.
    async fn empty(&self) {
        let mut count = self.count.subscribe();
        drop(count.wait_for(|left| *left == 0).await);
    }
}

struct Shared {
    runtime: Handle,
    hard: CancellationToken,
    groups: Mutex<Vec<Arc<Group>>>,
    next_number: AtomicU64,
    failed: watch::Sender<Option<String>>,
}

/// Starts tasks and ends them. Cheap to clone; a clone works on the same group.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
    group: Arc<Group>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("group", &self.group.name)
            .field("running", &self.running())
            .finish()
    }
}

impl Supervisor {
    /// A supervisor whose tasks run on `runtime`, with a first group `main`.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        let group = new_group("main");
        Self {
            shared: Arc::new(Shared {
                runtime,
                hard: CancellationToken::new(),
                groups: Mutex::new(vec![Arc::clone(&group)]),
                next_number: AtomicU64::new(0),
                failed: watch::Sender::new(None),
            }),
            group,
        }
    }

    /// A new group, which ends before all groups that are there.
    #[must_use]
    pub fn group(&self, name: &'static str) -> Self {
        let group = new_group(name);
        self.shared.groups().push(Arc::clone(&group));
        Self {
            shared: Arc::clone(&self.shared),
            group,
        }
    }

    /// The tokens that this group's tasks follow.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop {
            soft: self.group.soft.clone(),
            hard: self.shared.hard.clone(),
        }
    }

    /// Starts a task in this group. In a group that has been stopped it begins with its stop token
    /// cancelled, and an [`OnCancel::Abort`] task does not begin at all.
    pub fn spawn<F>(&self, spec: TaskSpec, future: F)
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        if self.group.soft.is_cancelled() && spec.on_cancel == OnCancel::Abort {
            return;
        }
        let number = self.shared.next_number.fetch_add(1, Ordering::Relaxed);
        // The lock is held until the task is in the list, so that it cannot leave before it came.
        let mut running = self.group.lock();
        let task = self.shared.runtime.spawn(future);
        let entry = Running {
            name: spec.name.clone(),
            on_cancel: spec.on_cancel,
            abort: task.abort_handle(),
        };
        running.insert(number, entry);
        self.group.count.send_replace(running.len());
        drop(running);

        let owner = self.clone();
        // Awaits the task alone, and the task is in the list: nothing is detached by this.
        drop(self.shared.runtime.spawn(async move {
            let outcome = owner.judge(&spec, task.await);
            tracing::debug!(task = %spec.name, ?outcome, "task ended");
            owner.group.leave(number);
        }));
    }

    fn judge(
        &self,
        spec: &TaskSpec,
        ended: Result<Result<(), TaskError>, JoinError>,
    ) -> TaskOutcome {
        let (outcome, cause) = match ended {
            Ok(Ok(())) => return TaskOutcome::Done,
            Err(error) if error.is_cancelled() => return TaskOutcome::Aborted,
            Ok(Err(error)) => (TaskOutcome::Failed, error_chain(error.as_ref())),
            Err(error) => (TaskOutcome::Panicked, panic_text(error)),
        };
        tracing::error!(task = %spec.name, ?outcome, cause, "task failed");
        if spec.on_error == OnError::Shutdown {
            self.request_shutdown(&format!("{}: {cause}", spec.name));
        }
        outcome
    }

    /// Asks the process to end; the first reason stays.
    pub fn request_shutdown(&self, reason: &str) {
        self.shared.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                *failed = Some(reason.to_owned());
            }
            first
        });
    }

    /// Waits until someone asked the process to end; answers why.
    pub async fn shutdown_requested(&self) -> String {
        let mut failed = self.shared.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Names of the tasks that run in this group.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let running = self.group.lock();
        running.values().map(|task| task.name.to_string()).collect()
    }

    /// Lets the deadline of a shutdown be over at once (a second signal).
    pub fn abort(&self) {
        self.shared.hard.cancel();
    }

    /// Ends this group alone: for steps of the stop order that come before the rest.
    pub async fn shutdown_group(&self, deadline: Duration) -> ShutdownReport {
        let mut report = ShutdownReport::default();
        self.shared
            .end_group(&self.group, Instant::now() + deadline, &mut report)
            .await;
        report
    }

    /// Ends every group, the youngest first, all of them within `deadline` (plus [`HARD_GRACE`]).
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let until = Instant::now() + deadline;
        let mut report = ShutdownReport::default();
        let groups: Vec<Arc<Group>> = self.shared.groups().iter().rev().cloned().collect();
        for group in groups {
            self.shared.end_group(&group, until, &mut report).await;
        }
        report
    }
}

impl Shared {
    fn groups(&self) -> MutexGuard<'_, Vec<Arc<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn end_group(&self, group: &Group, until: Instant, report: &mut ShutdownReport) {
        group.soft.cancel();
        group.abort_where(|task| task.on_cancel == OnCancel::Abort);
        let in_time = tokio::select! {
            ended = timeout_at(until, group.empty()) => ended.is_ok(),
            () = self.hard.cancelled() => false,
        };
        if in_time {
            return;
        }
        self.hard.cancel();
        if timeout_at(Instant::now() + HARD_GRACE, group.empty())
            .await
            .is_ok()
        {
            return;
        }
        let late: Vec<String> = group.lock().values().map(|t| t.name.to_string()).collect();
        for name in &late {
            tracing::error!(task = %name, group = group.name, "task did not end in time, cut off");
        }
        report.cut_off.extend(late);
        group.abort_where(|_| true);
        // An abort takes hold at the task's next await; one that never awaits is only named.
        drop(timeout_at(Instant::now() + HARD_GRACE, group.empty()).await);
    }
}

fn new_group(name: &'static str) -> Arc<Group> {
    Arc::new(Group {
        name,
        soft: CancellationToken::new(),
        running: Mutex::new(BTreeMap::new()),
        count: watch::Sender::new(0),
    })
}

fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn panic_text(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else {
        return "cancelled".to_owned();
    };
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor() -> Supervisor {
        Supervisor::new(Handle::current())
    }

    #[tokio::test]
    async fn a_panic_asks_for_the_end_where_the_task_is_essential() {
        let supervisor = supervisor();
        supervisor.spawn(TaskSpec::expendable("noise"), async {
            Err("only logged".into())
        });
        supervisor.spawn(TaskSpec::essential("writer"), async { panic!("disk") });
        assert_eq!(supervisor.shutdown_requested().await, "writer: disk");
        assert!(supervisor.shutdown(Duration::from_secs(5)).await.is_clean());
        assert!(supervisor.running().is_empty());
    }

    #[tokio::test]
    async fn groups_end_youngest_first_and_tasks_finish_what_they_began() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let lower = supervisor();
        let upper = lower.group("upper");
        for (name, group) in [("lower", &lower), ("upper", &upper)] {
            let (order, stop) = (Arc::clone(&order), group.stop());
            group.spawn(TaskSpec::essential(name), async move {
                stop.soft.cancelled().await;
                tokio::task::yield_now().await;
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        assert!(lower.shutdown(Duration::from_secs(5)).await.is_clean());
        assert_eq!(*order.lock().unwrap(), ["upper", "lower"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_cut_off_and_named() {
        let supervisor = supervisor();
        supervisor.spawn(TaskSpec::essential("stuck"), std::future::pending());
        supervisor.spawn(TaskSpec::expendable("ticker"), std::future::pending());
        let report = supervisor.shutdown(Duration::from_secs(1)).await;
        assert_eq!(report.cut_off, ["stuck"]);
        assert!(supervisor.running().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_abort_ends_the_wait_before_the_deadline() {
        let supervisor = supervisor();
        let stop = supervisor.stop();
        supervisor.spawn(TaskSpec::essential("patient"), async move {
            stop.hard.cancelled().await;
            Ok(())
        });
        let before = Instant::now();
        supervisor.abort();
        let report = supervisor.shutdown(Duration::from_secs(3_600)).await;
        assert!(report.is_clean());
        assert!(before.elapsed() < Duration::from_secs(1));
    }
}
