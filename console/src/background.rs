//! Operations that go on after the request that began them.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use composable_rust_admin::{DryRun, Interrupt, Progress, Resolution, Resolved};
use composable_rust_axum::Stopping;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::failure::Failure;

/// The maximum number of operations under way.
const MAX_RUNNING: usize = 4;
/// The number of operations that are kept, with those under way.
const KEPT: usize = 50;
/// The time for which a request waits for the end of its operation.
const PATIENCE: Duration = Duration::from_millis(500);

/// The operations of this process, the last one last.
#[derive(Debug, Default)]
pub(crate) struct Operations(Mutex<VecDeque<Arc<Operation>>>);

/// An operation.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) id: Uuid,
    /// A description of the operation.
    pub(crate) title: String,
    /// The subject, such as a group of dead letters.
    pub(crate) subject: String,
    /// The name of the user who began it.
    pub(crate) by: String,
    /// The path of the page that it belongs to.
    pub(crate) page: String,
    began: Instant,
    done: AtomicU64,
    of: AtomicU64,
    interrupt: Interrupt,
    result: OnceLock<Result<Report, Failure>>,
    ended: Notify,
}

/// The result of an operation.
#[derive(Debug, Clone)]
pub(crate) enum Report {
    /// Decisions about dead letters.
    Resolved { resolved: Resolved, resolution: Resolution },
    /// A rehearsal.
    Rehearsed(DryRun),
}

/// The description of an operation to begin.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) title: &'static str,
    pub(crate) subject: String,
    pub(crate) by: String,
    pub(crate) page: String,
}

impl Operations {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Operation>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation. It ends early when the server stops.
    ///
    /// Returns a [`Failure`] if too many are under way.
    pub(crate) fn begin<R>(
        &self,
        of: Description,
        stopping: Stopping,
        work: impl FnOnce(Arc<Operation>) -> R,
    ) -> Result<Arc<Operation>, Failure>
    where
        R: Future<Output = Result<Report, Failure>> + Send + 'static,
    {
        let Description { title, subject, by, page } = of;
        let operation = Arc::new(Operation {
            id: Uuid::new_v4(),
            title: title.to_owned(),
            subject,
            by,
            page,
            began: Instant::now(),
            done: AtomicU64::new(0),
            of: AtomicU64::new(0),
            interrupt: Interrupt::default(),
            result: OnceLock::new(),
            ended: Notify::new(),
        });
        let mut all = self.lock();
        if all.iter().filter(|of| of.result().is_none()).count() >= MAX_RUNNING {
            let detail = "Wait until one of the operations that are under way has ended.";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "Busy", detail));
        }
        if all.len() >= KEPT {
            let oldest = all.iter().position(|of| of.result().is_some());
            oldest.and_then(|oldest| all.remove(oldest));
        }
        all.push_back(Arc::clone(&operation));
        drop(all);
        let work = tokio::spawn(work(Arc::clone(&operation)));
        tokio::spawn(supervise(Arc::clone(&operation), work, stopping));
        Ok(operation)
    }

    pub(crate) fn find(&self, id: Uuid) -> Option<Arc<Operation>> {
        self.lock().iter().find(|of| of.id == id).cloned()
    }

    /// Returns the last operation of a kind on a subject.
    pub(crate) fn last(&self, title: &str, subject: &str) -> Option<Arc<Operation>> {
        let all = self.lock();
        all.iter().rfind(|of| of.title == title && of.subject == subject).cloned()
    }

    /// Returns the operations under way.
    pub(crate) fn running(&self) -> Vec<Arc<Operation>> {
        self.lock().iter().filter(|of| of.result().is_none()).cloned().collect()
    }
}

/// Keeps the result of an operation, and ends it early when the server stops.
async fn supervise(
    operation: Arc<Operation>,
    mut work: tokio::task::JoinHandle<Result<Report, Failure>>,
    stopping: Stopping,
) {
    let mut stopped = std::pin::pin!(stopping.end(stream::pending::<()>()));
    let ended = tokio::select! {
        ended = &mut work => ended,
        _ = stopped.next() => {
            operation.interrupt.interrupt();
            work.await
        }
    };
    let failed = |_| {
        let detail = "The operation has panicked; the log of the process says why.";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "The operation failed", detail)
    };
    // The only place that sets it.
    let _ = operation.result.set(ended.unwrap_or_else(|panic| Err(failed(panic))));
    operation.ended.notify_waiters();
}

impl Operation {
    /// Returns the result; `None` while the operation is under way.
    pub(crate) fn result(&self) -> Option<&Result<Report, Failure>> {
        self.result.get()
    }

    /// Returns the result, after waiting for it for a moment.
    pub(crate) async fn soon(&self) -> Option<&Result<Report, Failure>> {
        let ended = self.ended.notified();
        if self.result().is_none() {
            let _ = tokio::time::timeout(PATIENCE, ended).await;
        }
        self.result()
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    pub(crate) fn report(&self, progress: Progress) {
        self.done.store(progress.done, Ordering::Relaxed);
        if let Some(of) = progress.of {
            self.of.store(of, Ordering::Relaxed);
        }
    }

    /// Returns the part that is done, and the whole; 0 if that is not known.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed))
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(subject: &str) -> Description {
        let (subject, by) = (subject.to_owned(), "ann".to_owned());
        Description { title: "Test", subject, by, page: "/".to_owned() }
    }

    /// Works until it is cancelled, a step at a time.
    async fn steps(operation: Arc<Operation>) -> Result<Report, Failure> {
        let mut run = DryRun::default();
        while !operation.interrupt().is_interrupted() {
            run.would_pass += 1;
            operation.report(Progress { done: run.would_pass, of: Some(1_000_000) });
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        run.interrupted = true;
        Ok(Report::Rehearsed(run))
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_goes_on_and_is_cancelled() {
        let operations = Operations::default();
        let begun = operations.begin(of("a"), Stopping::default(), steps).unwrap();
        assert!(begun.soon().await.is_none());
        let (done, whole) = begun.progress();
        assert!(done >= 40 && whole == 1_000_000, "{done}");
        assert_eq!(operations.last("Test", "a").unwrap().id, begun.id);
        assert_eq!(operations.running().len(), 1);
        begun.interrupt().interrupt();
        let result = begun.soon().await.unwrap();
        assert!(matches!(result, Ok(Report::Rehearsed(run)) if run.interrupted), "{result:?}");
        assert!(operations.running().is_empty() && operations.find(begun.id).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_under_way_and_few_are_kept() {
        let operations = Operations::default();
        for n in 0..MAX_RUNNING {
            operations.begin(of(&n.to_string()), Stopping::default(), steps).unwrap();
        }
        let busy = operations.begin(of("late"), Stopping::default(), steps).unwrap_err();
        assert_eq!(busy.status, StatusCode::SERVICE_UNAVAILABLE);
        for running in operations.running().iter().skip(1) {
            running.interrupt().interrupt();
            running.soon().await;
        }
        for _ in 0..2 * KEPT {
            let work = async |_| Ok(Report::Rehearsed(DryRun::default()));
            operations.begin(of("quick"), Stopping::default(), work).unwrap().soon().await;
        }
        assert_eq!(operations.lock().len(), KEPT);
        assert_eq!(operations.running()[0].subject, "0", "one under way is never forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_an_operation() {
        let operations = Operations::default();
        let work = async |_| panic!("a bug");
        let begun = operations.begin(of("a"), Stopping::default(), work).unwrap();
        let failure = begun.soon().await.unwrap().as_ref().unwrap_err();
        assert_eq!(failure.title, "The operation failed");
    }
}
