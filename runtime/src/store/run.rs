//! Running jobs as tasks.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::Effects;
use composable_rust_core::bus::{BusMessage, EventBus as _};
use composable_rust_core::effect::DatabaseEffect;
use composable_rust_core::store::Due;
use futures_util::future::{Abortable, BoxFuture};

use crate::panic::guarded_future;

use super::planner::{EffectTicket, Job, Planner, Work};
use super::shared::StoreShared;
use super::{ActionError, EffectError, StoreReducer, UnsupportedEffect, ports};

/// The outcome of a job.
enum EffectOutcome<A> {
    /// The effect is done, and may bring an action back.
    Done(Option<A>),
    Cancelled,
    Failed(EffectError),
}

/// Returns the ticket, also when the task is dropped because the tokio runtime stops.
struct SlotGuard<R: StoreReducer> {
    shared: Arc<StoreShared<R>>,
    ticket: Option<EffectTicket<R::Action>>,
}

impl<R: StoreReducer> SlotGuard<R> {
    fn end(mut self, outcome: EffectOutcome<R::Action>) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.leave(&ticket, outcome);
        }
    }
}

impl<R: StoreReducer> Drop for SlotGuard<R> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let error = if std::thread::panicking() {
                EffectError::Panicked { message: "in the drop of its future".to_owned() }
            } else {
                EffectError::ShutDown
            };
            self.shared.leave(&ticket, EffectOutcome::Failed(error));
        }
    }
}

/// The work of a job as a small future.
enum Task<A> {
    Action(BoxFuture<'static, Option<A>>),
    Delay(BoxFuture<'static, ()>, A),
    Other(BoxFuture<'static, Result<Option<A>, EffectError>>),
}

impl<R: StoreReducer> StoreShared<R> {
    /// Starts `jobs`. Delays start to count at once.
    pub(super) fn start(self: &Arc<Self>, jobs: Vec<Job<R::Action>>) {
        for Job { ticket, registration, work } in jobs {
            let guard = SlotGuard { shared: Arc::clone(self), ticket: Some(ticket) };
            let task = self.task(work);
            tokio::spawn(async move {
                let work = async {
                    match task {
                        Task::Action(work) => Ok(work.await),
                        Task::Delay(sleep, action) => {
                            sleep.await;
                            Ok(Some(action))
                        }
                        Task::Other(work) => work.await,
                    }
                };
                let work = Abortable::new(guarded_future(work), registration);
                let outcome = match work.await {
                    Ok(Ok(Ok(action))) => EffectOutcome::Done(action),
                    Ok(Ok(Err(error))) => EffectOutcome::Failed(error),
                    Ok(Err(message)) => EffectOutcome::Failed(EffectError::Panicked { message }),
                    Err(_) => EffectOutcome::Cancelled,
                };
                guard.end(outcome);
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

    /// Ends a job: in one step, reduces the action that it brings back, unless the job was
    /// cancelled meanwhile, and starts the effects that follow, also above the limit of running
    /// effects.
    fn leave(
        self: &Arc<Self>,
        ticket: &EffectTicket<R::Action>,
        outcome: EffectOutcome<R::Action>,
    ) {
        let mut core = self.lock();
        let before = core.running.len();
        let stopped = core.running.is_stopped(ticket.number);
        let mut effects = Effects::none();
        let failure = match outcome {
            _ if stopped => Some(EffectError::ShutDown),
            EffectOutcome::Failed(error) => Some(error),
            EffectOutcome::Done(Some(action)) if !ticket.abort.is_aborted() => {
                match self.reduce(&mut core, action) {
                    Ok(follows) => {
                        effects = follows;
                        None
                    }
                    Err(error) => Some(error.into()),
                }
            }
            EffectOutcome::Done(_) | EffectOutcome::Cancelled => None,
        };
        let mut planner = self.planner(&mut core, Some(Arc::clone(&ticket.batch)));
        planner.plan_all(effects);
        planner.leave(ticket, failure.is_some());
        let Planner { jobs, rejected, .. } = planner;
        let after = core.running.len();
        drop(core);
        if let Some(error) = failure {
            if !stopped {
                tracing::error!(error = &error as &dyn Error, "an effect failed");
            }
            ticket.batch.fail(error);
        }
        if let Some(rejection) = rejected {
            tracing::debug!(
                code = rejection.kind().name,
                "the reducer rejected an action that an effect brought back"
            );
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
