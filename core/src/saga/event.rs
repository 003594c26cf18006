//! The events of sagas.

use serde::{Deserialize, Serialize};

use super::command::{input_version, old_input};
use super::names::{DONE, Named, REFUSED, STARTED, TIMED_OUT, kind, named_step, step_name};
use super::{LinearSaga, Next, Reason, Task};
use crate::codec::content::{decode_content, encode_content};
use crate::codec::{DecodeError, EncodeError, Format};
use crate::message::MessageKind;
use crate::schema::SchemaTracer;
use crate::{Message, Timestamp};

/// An event of a saga. Each starts the next task, repeats the current one, or ends the saga.
///
/// For a saga called `checkout`, the stored names are `checkout.started`, `checkout.done`,
/// `checkout.refused` and `checkout.timed_out`.
#[derive(Debug, Clone, PartialEq)]
pub enum SagaEvent<S: LinearSaga> {
    /// The saga started.
    Started {
        /// The input.
        input: S::Input,
        /// The first task.
        next: Next<S>,
        /// The time.
        at: Timestamp,
    },
    /// The task is done.
    Done {
        /// The task.
        task: Task<S>,
        /// The continuation.
        next: Next<S>,
        /// The time.
        at: Timestamp,
    },
    /// The task was refused.
    Refused {
        /// The task.
        task: Task<S>,
        /// The reason.
        reason: Reason,
        /// The continuation.
        next: Next<S>,
        /// The time.
        at: Timestamp,
    },
    /// The task was not done in time, or a gateway's outcome is unknown. The continuation is the
    /// same task if it is requested again.
    TimedOut {
        /// The task.
        task: Task<S>,
        /// The reason: [`Reason::TimedOut`], or the gateway's.
        reason: Reason,
        /// The continuation.
        next: Next<S>,
        /// The time.
        at: Timestamp,
    },
}

impl<S: LinearSaga> SagaEvent<S> {
    /// Returns the continuation of the saga. A saga that is a step of another one is done when
    /// this is [`Next::Completed`], and refused when it is [`Next::Compensated`] or
    /// [`Next::Stuck`].
    pub fn next(&self) -> Next<S> {
        match *self {
            Self::Started { next, .. }
            | Self::Done { next, .. }
            | Self::Refused { next, .. }
            | Self::TimedOut { next, .. } => next,
        }
    }

    pub(super) fn at(&self) -> Timestamp {
        match *self {
            Self::Started { at, .. }
            | Self::Done { at, .. }
            | Self::Refused { at, .. }
            | Self::TimedOut { at, .. } => at,
        }
    }
}

/// The stored content of [`SagaEvent::Started`]. `N` is a step, stored as its name.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Started")]
pub(super) struct StartedContent<I, N> {
    pub(super) input: I,
    pub(super) next: Next<N>,
    pub(super) at: Timestamp,
}

/// The stored content of [`SagaEvent::Done`].
#[derive(Serialize, Deserialize)]
#[serde(rename = "Done")]
struct DoneContent<N> {
    task: Task<N>,
    next: Next<N>,
    at: Timestamp,
}

/// The stored content of [`SagaEvent::Refused`] and [`SagaEvent::TimedOut`].
#[derive(Serialize, Deserialize)]
#[serde(rename = "NotDone")]
struct NotDoneContent<R, N> {
    task: Task<N>,
    reason: R,
    next: Next<N>,
    at: Timestamp,
}

/// The content of a step's entry in the lock file of stored shapes.
#[derive(Deserialize)]
struct StepEntry {}

impl<S: LinearSaga> Message for SagaEvent<S> {
    const KINDS: &'static [MessageKind] = &[
        kind::<S, STARTED>(input_version::<S>(), false, "The saga started."),
        kind::<S, DONE>(1, false, "The task is done."),
        kind::<S, REFUSED>(1, false, "The task was refused."),
        kind::<S, TIMED_OUT>(1, false, "The task was not done in time."),
    ];

    fn kind(&self) -> &'static MessageKind {
        &Self::KINDS[match self {
            Self::Started { .. } => 0,
            Self::Done { .. } => 1,
            Self::Refused { .. } => 2,
            Self::TimedOut { .. } => 3,
        }]
    }

    fn encode(&self, format: Format) -> Result<Vec<u8>, EncodeError> {
        let (kind, next, at) = (self.kind(), self.next().map(Named), self.at());
        match self {
            Self::Started { input, .. } => {
                encode_content(kind, format, &StartedContent { input, next, at })
            }
            Self::Done { task, .. } => {
                let task = task.map(Named);
                encode_content(kind, format, &DoneContent { task, next, at })
            }
            Self::Refused { task, reason, .. } | Self::TimedOut { task, reason, .. } => {
                let task = task.map(Named);
                encode_content(kind, format, &NotDoneContent { task, reason, next, at })
            }
        }
    }

    fn decode(name: &str, version: u16, format: Format, bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some(index) = Self::KINDS.iter().position(|kind| kind.name == name) else {
            return Err(DecodeError::UnknownName { name: name.to_owned() });
        };
        let known = Self::KINDS[index].version;
        if index == 0 {
            let StartedContent { input, next, at } = if version == known {
                decode_content(name, version, format, bytes)?
            } else {
                let old = old_input::<S>(name, version)?;
                (old.read_started)(name, version, format, bytes)?
            };
            return Ok(Self::Started { input, next: next.try_map(named_step)?, at });
        }
        if version != known {
            return Err(DecodeError::UnknownVersion { name: name.to_owned(), version, known });
        }
        if index == 1 {
            let DoneContent { task, next, at } = decode_content(name, version, format, bytes)?;
            let (task, next) = (task.try_map(named_step)?, next.try_map(named_step)?);
            return Ok(Self::Done { task, next, at });
        }
        let NotDoneContent { task, reason, next, at } =
            decode_content(name, version, format, bytes)?;
        let (task, next) = (task.try_map(named_step)?, next.try_map(named_step)?);
        Ok(if index == 2 {
            Self::Refused { task, reason, next, at }
        } else {
            Self::TimedOut { task, reason, next, at }
        })
    }

    /// Traces the contents, and reports each step as an entry of its own: a step may be added, but
    /// neither renamed nor removed.
    fn trace(tracer: &mut SchemaTracer) {
        let [started, done, refused, timed_out] = Self::KINDS else { return };
        for (version, old) in (1..).zip(S::OLD_INPUTS) {
            (old.trace_started)(tracer, &MessageKind { version, ..*started });
        }
        tracer.content::<StartedContent<S::Input, String>>(started);
        tracer.content::<DoneContent<String>>(done);
        for kind in [refused, timed_out] {
            tracer.content::<NotDoneContent<Reason, String>>(kind);
        }
        for step in S::STEPS {
            let name = step_name(*step).unwrap_or_else(|problem| panic!("{problem}"));
            tracer.named::<StepEntry>(format!("{}.step.{name}", S::NAME), 1);
        }
    }
}
