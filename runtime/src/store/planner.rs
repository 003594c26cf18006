//! Planning the jobs of effects.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use composable_rust_core::bus::BusMessage;
use composable_rust_core::effect::{DatabaseEffect, EffectId};
use composable_rust_core::environment::Clock;
use composable_rust_core::message::AnyMessage;
use composable_rust_core::store::Due;
use composable_rust_core::{Effect, Timestamp};
use futures_util::future::{AbortHandle, AbortRegistration};

use crate::panic::lock;

use super::batch::Batch;
use super::running::{Running, Scope};
use super::subscription::Listeners;

/// One piece of work that runs as a task.
pub(super) struct Job<A> {
    pub(super) ticket: EffectTicket<A>,
    pub(super) registration: AbortRegistration,
    pub(super) work: Work<A>,
}

/// The work of a job.
pub(super) enum Work<A> {
    Future(Pin<Box<dyn Future<Output = Option<A>> + Send>>),
    Delay(Due, A),
    Database(Box<DatabaseEffect<A>>),
    Publish(Box<BusMessage>),
}

/// A job's entry in the list of running effects, returned when the job ends.
pub(super) struct EffectTicket<A> {
    pub(super) number: usize,
    pub(super) abort: AbortHandle,
    pub(super) batch: Arc<Batch>,
    scope: Option<Arc<Scope>>,
    /// The sequence whose current step includes this.
    step: Option<Arc<Sequence<A>>>,
}

/// A sequence while one of its steps runs.
struct Sequence<A> {
    scope: Option<Arc<Scope>>,
    /// The sequence whose current step includes this.
    step: Option<Arc<Sequence<A>>>,
    progress: Mutex<SequenceProgress<A>>,
}

struct SequenceProgress<A> {
    rest: std::vec::IntoIter<Effect<A>>,
    /// The number of parts of the current step that have not ended.
    pending: usize,
    failed: bool,
}

/// Adds effects to the list of running effects. Lives while the store is locked, and calls no
/// users' code but the clock.
pub(super) struct Planner<'a, A> {
    pub(super) running: &'a mut Running,
    pub(super) recorded: &'a mut Listeners<AnyMessage>,
    pub(super) clock: &'a dyn Clock,
    /// Created for the first job if it is `None`.
    pub(super) batch: Option<Arc<Batch>>,
    pub(super) jobs: Vec<Job<A>>,
    pub(super) rejected: Option<AnyMessage>,
}

impl<A> Planner<'_, A> {
    /// Plans effects that are not part of a sequence, in order.
    pub(super) fn plan_all(&mut self, effects: impl IntoIterator<Item = Effect<A>>) {
        for effect in effects {
            self.plan(effect, None, None);
        }
    }

    /// Ends a job. If its step has ended, starts the next step of its sequence.
    pub(super) fn leave(&mut self, ticket: &EffectTicket<A>, failed: bool) {
        if let Some(sequence) = &ticket.step {
            self.end_part_of(sequence, failed);
        }
        self.running.leave(ticket.number, ticket.scope.as_ref());
    }

    fn plan(
        &mut self,
        effect: Effect<A>,
        scope: Option<&Arc<Scope>>,
        step: Option<&Arc<Sequence<A>>>,
    ) {
        match effect {
            Effect::Future(work) => self.enter(Work::Future(work), None, scope, step),
            Effect::Database(database) => {
                self.enter(Work::Database(database), None, scope, step);
            }
            Effect::PublishEvent(message) => {
                self.enter(Work::Publish(message), None, scope, step);
            }
            Effect::Delay(delay) => {
                let due = match delay.due {
                    Due::After(duration) => self.clock.now() + duration,
                    Due::At(moment) => moment,
                };
                let work = Work::Delay(delay.due, delay.action);
                match delay.id {
                    Some(id) => self.within(id, scope, |planner, scope| {
                        planner.enter(work, Some(due), Some(scope), step);
                    }),
                    None => self.enter(work, Some(due), scope, step),
                }
            }
            Effect::Cancel(id) => self.running.cancel(&id),
            Effect::Cancellable(id, effect) => self.within(id, scope, |planner, scope| {
                planner.plan(*effect, Some(scope), step);
            }),
            Effect::Parallel(effects) => {
                for effect in effects {
                    self.plan(effect, scope, step);
                }
            }
            Effect::Sequential(steps) => self.begin(steps, scope, step),
            Effect::Record(event) => self.recorded.publish(event),
            Effect::Reject(rejection) => {
                self.rejected.get_or_insert(rejection);
            }
            // An effect that cannot be executed was rejected together with its action.
            _ => {}
        }
    }

    fn within(
        &mut self,
        id: EffectId,
        parent: Option<&Arc<Scope>>,
        plan: impl FnOnce(&mut Self, &Arc<Scope>),
    ) {
        if let Some(scope) = self.running.open(id, parent) {
            plan(self, &scope);
            self.running.close_if_empty(&scope);
        } else if let Some(parent) = parent {
            plan(self, parent);
        }
    }

    fn enter(
        &mut self,
        work: Work<A>,
        due: Option<Timestamp>,
        scope: Option<&Arc<Scope>>,
        step: Option<&Arc<Sequence<A>>>,
    ) {
        let batch = Arc::clone(self.batch.get_or_insert_default());
        batch.enter();
        if let Some(sequence) = step {
            sequence.progress().pending += 1;
        }
        let (number, abort, registration) = self.running.enter(scope, due);
        let ticket =
            EffectTicket { number, abort, batch, scope: scope.cloned(), step: step.cloned() };
        self.jobs.push(Job { ticket, registration, work });
    }

    fn begin(
        &mut self,
        steps: Vec<Effect<A>>,
        scope: Option<&Arc<Scope>>,
        step: Option<&Arc<Sequence<A>>>,
    ) {
        if let Some(sequence) = step {
            sequence.progress().pending += 1;
        }
        let progress = SequenceProgress { rest: steps.into_iter(), pending: 0, failed: false };
        let sequence =
            Sequence { scope: scope.cloned(), step: step.cloned(), progress: Mutex::new(progress) };
        self.advance(&Arc::new(sequence));
    }

    /// Starts the next step of `sequence` that has work to do.
    fn advance(&mut self, sequence: &Arc<Sequence<A>>) {
        while let Some(effect) = sequence.next_step() {
            self.plan(effect, sequence.scope.as_ref(), Some(sequence));
            if !sequence.end_part(false) {
                return;
            }
        }
        if let Some(outer) = &sequence.step {
            let failed = sequence.progress().failed;
            self.end_part_of(outer, failed);
        }
    }

    fn end_part_of(&mut self, sequence: &Arc<Sequence<A>>, failed: bool) {
        if sequence.end_part(failed) {
            self.advance(sequence);
        }
    }
}

impl<A> Sequence<A> {
    fn progress(&self) -> std::sync::MutexGuard<'_, SequenceProgress<A>> {
        lock(&self.progress)
    }

    /// Returns the next step, with planning as its first part; `None` after a failure, and once the
    /// sequence is cancelled.
    fn next_step(&self) -> Option<Effect<A>> {
        let mut progress = self.progress();
        if progress.failed || Scope::is_cancelled(self.scope.as_ref()) {
            return None;
        }
        progress.pending = 1;
        progress.rest.next()
    }

    /// Ends a part of the current step. Returns `true` if it was the last one.
    fn end_part(&self, failed: bool) -> bool {
        let mut progress = self.progress();
        progress.failed |= failed;
        progress.pending -= 1;
        progress.pending == 0
    }
}
