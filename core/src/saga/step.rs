//! The definition of a saga's step.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::names::step_name;
use super::{LinearSaga, SagaCommand, SagaReply, Task};
use crate::effect::{CallGateway, DispatchCommand, IdempotencyKey, Reaction, ReplyMode};
use crate::message::{MessageKind, Tag};
use crate::{Message as _, Reactions, after, effects};

/// Limits the time limit of repeated requests to 128 (2⁷) times the first.
const MAX_DOUBLINGS: u32 = 7;
/// The time limit of undoing a step that has no limit.
const UNDO_LIMIT: Duration = Duration::from_secs(60);

/// The definition of a step: its request, its undo, its time limit and its retries.
///
/// Made by [`undo`](super::SagaRequest::undo) and [`no_undo`](super::SagaRequest::no_undo) of a
/// request, by [`pause`](Self::pause) and by [`skip`](Self::skip).
#[must_use = "a step does nothing unless `step` returns it"]
pub struct SagaStep<S: LinearSaga> {
    action: Action,
    undo: Option<ErasedRequest>,
    limit: Option<Duration>,
    retries: Option<u32>,
    is_skipped: bool,
    saga: PhantomData<fn() -> S>,
}

enum Action {
    Request(ErasedRequest),
    Pause(Duration),
    Skip,
}

/// A request whose target's type is erased.
pub(super) struct ErasedRequest {
    pub(super) sending: Sending,
    pub(super) detached: bool,
    pub(super) judge: Box<dyn Fn(&SagaReply) -> Meaning>,
}

/// A dispatch or call that has no tag yet.
#[derive(Debug)]
pub(super) enum Sending {
    Dispatch(Box<DispatchCommand>),
    Call(Box<CallGateway>),
}

/// The meaning of a reply or of a timeout for the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Done,
    /// The task did not happen.
    Refused,
    /// The task may have happened, or may still happen.
    Unknown,
    /// The reply is an interim one.
    Waits,
}

impl<S: LinearSaga> SagaStep<S> {
    pub(super) fn of(request: ErasedRequest, undo: Option<ErasedRequest>) -> Self {
        Self { undo, ..Self::from(Action::Request(request)) }
    }

    fn from(action: Action) -> Self {
        let is_skipped = matches!(action, Action::Skip);
        Self { action, undo: None, limit: None, retries: None, is_skipped, saga: PhantomData }
    }

    /// Returns a step that waits for `duration` and then is done.
    pub fn pause(duration: Duration) -> Self {
        Self::from(Action::Pause(duration))
    }

    /// Returns a step that is left out because this saga has nothing to do in it.
    ///
    /// The decision may depend on the input only. To leave out a step of which sagas under way may
    /// have sent the request, use [`skipped`](Self::skipped), which keeps its undo: a saga that
    /// waits for a step that has become `skip()` moves on at the next reply or timeout, and never
    /// undoes the step.
    pub fn skip() -> Self {
        Self::from(Action::Skip)
    }

    /// Leaves the step out from now on. A saga that has sent its request before still waits for the
    /// reply, and undoes the step if a later one fails.
    pub fn skipped(mut self) -> Self {
        self.is_skipped = true;
        self
    }

    /// Sets the time after which the step counts as timed out. Default: none; the saga waits for
    /// the reply.
    ///
    /// Also the time after which undoing is requested again; 60 seconds if the step has none. Each
    /// repetition of a request has twice the time of the one before it, up to 128 times the first.
    /// A limit that the step has already stays, so a limit for all steps can follow the `match`.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit.get_or_insert(limit);
        self
    }

    /// Requests the step up to `times` more times when it times out, before undoing it. Default: 0.
    ///
    /// For requests that the target recognises as repeated. A number that the step has already
    /// stays.
    pub fn retry(mut self, times: u32) -> Self {
        self.retries.get_or_insert(times);
        self
    }

    pub(super) fn is_skipped(&self) -> bool {
        self.is_skipped
    }

    pub(super) fn has_undo(&self) -> bool {
        self.undo.is_some()
    }

    pub(super) fn retries(&self) -> u32 {
        self.retries.unwrap_or(0)
    }

    fn request(&self, task: Task<S>) -> Option<&ErasedRequest> {
        match (task, &self.action) {
            (Task::Do(_), Action::Request(request)) => Some(request),
            (Task::Do(_), Action::Pause(_) | Action::Skip) => None,
            (Task::Undo(_), _) => self.undo.as_ref(),
        }
    }

    /// Returns the meaning of a reply to `task`, or of its timeout.
    pub(super) fn judge(&self, task: Task<S>, reply: Option<&SagaReply>) -> Meaning {
        match (reply, &self.action, task) {
            (None, Action::Pause(_), Task::Do(_)) | (_, Action::Skip, _) => Meaning::Done,
            (None, ..) => Meaning::Unknown,
            (Some(reply), ..) => {
                self.request(task).map_or(Meaning::Waits, |request| (request.judge)(reply))
            }
        }
    }

    /// Returns the request of `task` and the timer of its time limit. The timers share an id, so
    /// the timer of a task replaces that of the task before it.
    pub(super) fn reactions(self, task: Task<S>, timeouts: u32) -> Reactions<SagaCommand<S>> {
        let limit = match (task, &self.action) {
            (Task::Do(_), Action::Pause(duration)) => Some(*duration),
            (Task::Do(_), _) => self.limit,
            (Task::Undo(_), _) => Some(self.limit.unwrap_or(UNDO_LIMIT)),
        };
        let request = match (task, self.action) {
            (Task::Do(_), Action::Request(request)) => Some(request),
            (Task::Do(_), Action::Pause(_) | Action::Skip) => None,
            (Task::Undo(_), _) => self.undo,
        };
        let mut reactions = Reactions::none();
        if let Some(request) = request {
            reactions.push(request.tagged(task));
        }
        if let Some(limit) = limit {
            let limit = limit.saturating_mul(1 << timeouts.min(MAX_DOUBLINGS));
            let timer = after(limit, SagaCommand::TimedOut(task)).with_id("task");
            reactions = reactions.merge(effects![timer]);
        }
        reactions
    }
}

impl ErasedRequest {
    fn tagged<S: LinearSaga>(self, task: Task<S>) -> Reaction<SagaCommand<S>> {
        const FIELDS: u16 = 1;
        let kind: &MessageKind = &SagaCommand::<S>::KINDS[2];
        let tag = Tag::new(kind, FIELDS, &task);
        let replies = if self.detached { ReplyMode::Detached(tag) } else { ReplyMode::Tagged(tag) };
        match self.sending {
            Sending::Dispatch(dispatch) => {
                Reaction::DispatchCommand(Box::new(DispatchCommand { replies, ..*dispatch }))
            }
            Sending::Call(call) => {
                let key = call.idempotency_key.unwrap_or_else(|| key_of(task));
                let (gateway, request) = (call.gateway, call.request);
                let idempotency_key = Some(key);
                let call = CallGateway { gateway, request, replies, idempotency_key };
                Reaction::CallGateway(Box::new(call))
            }
        }
    }
}

/// Returns the idempotency key of the calls of `task`, such as `do Charge`: a repeated call does
/// not act twice.
fn key_of<S: LinearSaga>(task: Task<S>) -> IdempotencyKey {
    let name = step_name(task.step()).unwrap_or_else(|_| format!("{:?}", task.step()));
    IdempotencyKey::Scoped(match task {
        Task::Do(_) => format!("do {name}"),
        Task::Undo(_) => format!("undo {name}"),
    })
}

impl<S: LinearSaga> fmt::Debug for SagaStep<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = match &self.action {
            Action::Request(request) => Some(&request.sending),
            Action::Pause(_) | Action::Skip => None,
        };
        f.debug_struct("SagaStep")
            .field("request", &request)
            .field("undo", &self.undo.as_ref().map(|undo| &undo.sending))
            .field("limit", &self.limit)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}
