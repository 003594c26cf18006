//! The aggregate of a linear saga.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::step::Meaning;
use super::{
    FailedStep, LinearSaga, Next, Reason, SagaCommand, SagaContext, SagaEvent, SagaReply, Status,
    Task,
};
use crate::{Aggregate, Context, Decision, Reactions, Timestamp, record, unchanged};

/// The aggregate of the linear saga that `S` defines; see [`LinearSaga`].
///
/// Late and duplicate replies and timeouts change nothing: each has its task as a tag, and only
/// those of the current task count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "S: LinearSaga", deserialize = "S: LinearSaga"))]
pub struct Saga<S: LinearSaga> {
    input: Option<S::Input>,
    status: Status<S>,
    /// The steps to undo before the end, the last first; those that are done.
    done: Vec<S>,
    not_undone: Vec<FailedStep<S>>,
    /// The number of timeouts of the current task.
    timeouts: u32,
}

impl<S: LinearSaga> Default for Saga<S> {
    fn default() -> Self {
        let (done, not_undone) = (Vec::new(), Vec::new());
        Self { input: None, status: Status::New, done, not_undone, timeouts: 0 }
    }
}

impl<S: LinearSaga> Aggregate for Saga<S> {
    const NAME: &'static str = S::NAME;
    type Command = SagaCommand<S>;
    type Event = SagaEvent<S>;
    type Rejection = Infallible;
    type Environment = S::Environment;

    fn decide(&self, command: SagaCommand<S>, ctx: &Context<Self>) -> Decision<Self> {
        let (saga, at) = (SagaContext::of(ctx), ctx.now());
        match command {
            SagaCommand::Start(input) if self.input.is_none() => {
                check_steps::<S>();
                let next = next_to_do(S::STEPS, &input, &saga);
                record(SagaEvent::Started { input, next, at })
            }
            SagaCommand::Start(_) => unchanged(),
            SagaCommand::TimedOut(task) => self.decide_task(task, None, ctx),
            SagaCommand::Replied(task, reply) => self.decide_task(task, Some(&reply), ctx),
        }
    }

    fn apply(&mut self, event: SagaEvent<S>) {
        let (next, at) = (event.next(), event.at());
        let failed = match event {
            SagaEvent::TimedOut { task, .. } if next.task() == Some(task) => {
                self.timeouts += 1;
                return;
            }
            SagaEvent::Started { input, .. } => {
                self.input = Some(input);
                None
            }
            SagaEvent::Done { task: Task::Do(step), .. } => {
                self.done.push(step);
                None
            }
            SagaEvent::Done { .. } => None,
            SagaEvent::Refused { task: Task::Undo(step), reason, .. } => {
                self.not_undone.push(FailedStep { step, reason });
                None
            }
            SagaEvent::Refused { task, reason, .. } | SagaEvent::TimedOut { task, reason, .. } => {
                Some(FailedStep { step: task.step(), reason })
            }
        };
        self.proceed(next, at, failed);
    }

    fn react(&self, _: &SagaEvent<S>, ctx: &Context<Self>) -> Reactions<SagaCommand<S>> {
        let (Some(input), Some(task)) = (&self.input, self.status.task()) else {
            return Reactions::none();
        };
        task.step().step(input, &SagaContext::of(ctx)).reactions(task, self.timeouts)
    }

    fn is_finished(&self) -> bool {
        self.status.is_finished()
    }
}

impl<S: LinearSaga> Saga<S> {
    /// Returns the data that the saga was started with; `None` before the start.
    pub fn input(&self) -> Option<&S::Input> {
        self.input.as_ref()
    }

    /// Returns the status.
    pub fn status(&self) -> &Status<S> {
        &self.status
    }

    /// Returns the steps whose undoing was refused, with the reasons, in the order of the refusals.
    pub fn not_undone(&self) -> &[FailedStep<S>] {
        &self.not_undone
    }

    /// Returns the number of timeouts of the current task.
    pub fn timeouts(&self) -> u32 {
        self.timeouts
    }

    /// Decides what a reply to `task` leads to, or its timeout if there is no reply.
    fn decide_task(
        &self,
        task: Task<S>,
        reply: Option<&SagaReply>,
        ctx: &Context<Self>,
    ) -> Decision<Self> {
        let (saga, at) = (SagaContext::of(ctx), ctx.now());
        let Some(input) = self.input.as_ref().filter(|_| self.status.task() == Some(task)) else {
            // The saga has moved on: the reply or timeout is late, or a duplicate.
            return unchanged();
        };
        let step = task.step().step(input, &saga);
        let reason = || reply.map_or(Reason::TimedOut, SagaReply::reason);
        match (step.judge(task, reply), task) {
            (Meaning::Waits, _) => unchanged(),
            (Meaning::Done, Task::Do(done)) => {
                record(SagaEvent::Done { task, next: next_to_do(after(done), input, &saga), at })
            }
            (Meaning::Done, Task::Undo(_)) => {
                let next = self.next_to_undo(None, !self.not_undone.is_empty(), input, &saga);
                record(SagaEvent::Done { task, next, at })
            }
            // It did not happen: undo the steps before it. If it was requested more than once, only
            // one of the requests is known not to have happened: undo the step itself too.
            (Meaning::Refused, Task::Do(refused)) => {
                let unknown = (self.timeouts > 0).then_some(refused);
                let next = self.next_to_undo(unknown, false, input, &saga);
                record(SagaEvent::Refused { task, reason: reason(), next, at })
            }
            (Meaning::Refused, Task::Undo(_)) => {
                let next = self.next_to_undo(None, true, input, &saga);
                record(SagaEvent::Refused { task, reason: reason(), next, at })
            }
            (Meaning::Unknown, Task::Do(_)) if self.timeouts < step.retries() => {
                record(SagaEvent::TimedOut { task, reason: reason(), next: task.into(), at })
            }
            // It may have happened, or may still happen: undo the step itself.
            (Meaning::Unknown, Task::Do(unknown)) => {
                let next = self.next_to_undo(Some(unknown), false, input, &saga);
                record(SagaEvent::TimedOut { task, reason: reason(), next, at })
            }
            // The timer requests it again.
            (Meaning::Unknown, Task::Undo(_)) if reply.is_some() => unchanged(),
            (Meaning::Unknown, Task::Undo(_)) => {
                record(SagaEvent::TimedOut { task, reason: reason(), next: task.into(), at })
            }
        }
    }

    /// Returns the first of `unknown` and the steps to undo that has an undo, or the end.
    fn next_to_undo(
        &self,
        unknown: Option<S>,
        is_stuck: bool,
        input: &S::Input,
        saga: &SagaContext<'_, S>,
    ) -> Next<S> {
        let mut steps = unknown.into_iter().chain(self.done.iter().rev().copied());
        match steps.find(|step| step.step(input, saga).has_undo()) {
            Some(step) => Next::Undo(step),
            None if is_stuck => Next::Stuck,
            None => Next::Compensated,
        }
    }

    /// Starts the next task, or ends. `failed` is the step that the event says was not done.
    ///
    /// # Panics
    ///
    /// Panics if steps are undone although none has failed.
    fn proceed(&mut self, next: Next<S>, since: Timestamp, failed: Option<FailedStep<S>>) {
        self.timeouts = 0;
        let failed = || match self.status.failed().cloned().or(failed) {
            Some(failed) => failed,
            None => panic!("the saga `{}` undoes its steps, but none has failed", S::NAME),
        };
        self.status = match next {
            Next::Do(step) => Status::Doing { step, since },
            Next::Undo(step) => {
                if let Some(index) = self.done.iter().rposition(|done| *done == step) {
                    self.done.truncate(index);
                }
                Status::Undoing { step, since, failed: failed() }
            }
            Next::Completed => Status::Completed,
            Next::Compensated => Status::Compensated { failed: failed() },
            Next::Stuck => Status::Stuck { failed: failed(), not_undone: self.not_undone.clone() },
        };
    }
}

/// Returns the first of `steps` that is not skipped, or the end.
fn next_to_do<S: LinearSaga>(steps: &[S], input: &S::Input, saga: &SagaContext<'_, S>) -> Next<S> {
    let next = steps.iter().find(|step| !step.step(input, saga).is_skipped());
    next.map_or(Next::Completed, |step| Next::Do(*step))
}

/// Returns the steps after `step`.
///
/// # Panics
///
/// Panics if the step was removed from `STEPS` while a saga waited for it.
fn after<S: LinearSaga>(step: S) -> &'static [S] {
    match S::STEPS.iter().position(|other| *other == step) {
        Some(index) => &S::STEPS[index + 1..],
        None => panic!(
            "`STEPS` of the saga `{}` lacks {step:?}, for which a saga waits; put it back, and \
             leave it out with `SagaStep::skipped`",
            S::NAME
        ),
    }
}

/// Panics if `STEPS` names a step twice.
fn check_steps<S: LinearSaga>() {
    for (index, step) in S::STEPS.iter().enumerate() {
        assert!(
            !S::STEPS[..index].contains(step),
            "`STEPS` of the saga `{}` names {step:?} twice",
            S::NAME
        );
    }
}
