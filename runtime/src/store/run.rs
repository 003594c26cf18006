//! Running jobs.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{BusMessage, DatabaseEffect, Due};
use futures_util::future::{Abortable, BoxFuture, FutureExt as _};

use super::error::panic_message;
use super::planner::{Job, Planner, Ticket, Work};
use super::shared::Shared;
use super::{ActionError, EffectError, Runnable, UnsupportedEffect, ports};

/// How a job ended.
enum Ended {
    Done,
    Cancelled,
    Failed(EffectError),
}

/// Gives the ticket back also when the task is dropped, by a runtime that ends.
struct Seated<R: Runnable> {
    shared: Arc<Shared<R>>,
    ticket: Option<Ticket<R::Action>>,
}

impl<R: Runnable> Seated<R> {
    fn leave(mut self, ended: Ended) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.leave(&ticket, ended);
        }
    }
}

impl<R: Runnable> Drop for Seated<R> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let error = if std::thread::panicking() {
                EffectError::Panicked { message: "when it was dropped".to_owned() }
            } else {
                EffectError::ShutDown
            };
            self.shared.leave(&ticket, Ended::Failed(error));
        }
    }
}

/// What remains to be done, as a future that is as small as can be.
enum Task<A> {
    Action(BoxFuture<'static, Option<A>>),
    Delay(BoxFuture<'static, ()>, A),
    Other(BoxFuture<'static, Result<Option<A>, EffectError>>),
}

impl<R: Runnable> Shared<R> {
    /// Starts `jobs`. Clocks start to run at once.
    pub(super) fn start(self: &Arc<Self>, jobs: Vec<Job<R::Action>>) {
        for Job { ticket, registration, work } in jobs {
            let seated = Seated { shared: Arc::clone(self), ticket: Some(ticket) };
            let task = self.task(work);
            tokio::spawn(async move {
                let work = async {
                    let action = match task {
                        Task::Action(work) => work.await,
                        Task::Delay(sleep, action) => {
                            sleep.await;
                            Some(action)
                        }
                        Task::Other(work) => work.await?,
                    };
                    match (action, &seated.ticket) {
                        (Some(action), Some(ticket)) => seated.shared.feed(action, ticket),
                        _ => Ok(()),
                    }
                };
                let work = Abortable::new(AssertUnwindSafe(work).catch_unwind(), registration);
                let ended = match work.await {
                    Ok(Ok(Ok(()))) => Ended::Done,
                    Ok(Ok(Err(error))) => Ended::Failed(error),
                    Ok(Err(panic)) => {
                        Ended::Failed(EffectError::Panicked { message: panic_message(&*panic) })
                    }
                    Err(_) => Ended::Cancelled,
                };
                seated.leave(ended);
            });
        }
    }

    fn task(self: &Arc<Self>, work: Work<R::Action>) -> Task<R::Action> {
        match work {
            Work::Future(work) => Task::Action(work),
            Work::Delay(due, action) => Task::Delay(self.clock.sleep(self.until(due)), action),
            Work::Database(effect) => Task::Other(Box::pin(Arc::clone(self).database(*effect))),
            Work::Publish(message) => Task::Other(Box::pin(Arc::clone(self).publish(*message))),
        }
    }

    fn until(&self, due: Due) -> Duration {
        match due {
            Due::After(duration) => duration,
            Due::At(moment) => moment.since(self.clock.now()),
        }
    }

    async fn database(
        self: Arc<Self>,
        effect: DatabaseEffect<R::Action>,
    ) -> Result<Option<R::Action>, EffectError> {
        let Some(store) = &self.event_store else {
            return Err(ActionError::from(UnsupportedEffect::Database).into());
        };
        let result = ports::operate(store, effect.operation).await;
        Ok(Some((effect.then)(result)))
    }

    async fn publish(
        self: Arc<Self>,
        message: BusMessage,
    ) -> Result<Option<R::Action>, EffectError> {
        let topic = message.topic.clone();
        let Some(bus) = &self.bus else {
            return Err(ActionError::from(UnsupportedEffect::Publish { topic }).into());
        };
        match bus.publish(message).await {
            Ok(()) => Ok(None),
            Err(error) => Err(EffectError::Publish { topic, source: Arc::new(error) }),
        }
    }

    /// Reduces an action that a job brings back, unless the job was cancelled meanwhile. It never
    /// waits for room: its job holds some.
    fn feed(
        self: &Arc<Self>,
        action: R::Action,
        ticket: &Ticket<R::Action>,
    ) -> Result<(), EffectError> {
        let core = self.lock();
        if ticket.abort.is_aborted() {
            return Ok(());
        }
        match self.accept(core, action, Some(Arc::clone(&ticket.batch))) {
            Ok(_) => Ok(()),
            Err(ActionError::Rejected(rejected)) => {
                tracing::debug!(code = rejected.code(), "an action brought back was rejected");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn leave(self: &Arc<Self>, ticket: &Ticket<R::Action>, ended: Ended) {
        let mut core = self.lock();
        let before = core.running.len();
        let stopped = core.running.is_stopped(ticket.number);
        let failed = stopped || matches!(ended, Ended::Failed(_));
        let mut planner = self.planner(&mut core, Some(Arc::clone(&ticket.batch)));
        planner.leave(ticket, failed);
        let Planner { jobs, rejected, .. } = planner;
        let after = core.running.len();
        drop(core);
        match ended {
            _ if stopped => ticket.batch.fail(EffectError::ShutDown),
            Ended::Failed(error) => {
                tracing::error!(error = &error as &dyn Error, "an effect failed");
                ticket.batch.fail(error);
            }
            Ended::Done | Ended::Cancelled => {}
        }
        if let Some(rejection) = rejected {
            tracing::debug!(code = rejection.kind().name, "a step of a sequence rejects");
        }
        self.start(jobs);
        ticket.batch.leave();
        if before >= self.max_effects && after < self.max_effects {
            self.room.notify_one();
        }
        if after == 0 {
            self.idle.notify_waiters();
        }
    }
}
