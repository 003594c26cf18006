//! The commands of sagas.

use serde::{Deserialize, Serialize};

use super::names::{Named, REPLIED, START, TIMED_OUT, kind, named_step};
use super::reply::{EncodedReply, StoredReply};
use super::{LinearSaga, OldInput, Partners, SagaReply, Task};
use crate::codec::content::{decode_content, encode_content};
use crate::codec::{DecodeError, EncodeError, Format};
use crate::message::{MessageKind, RawReply, Receives, ReceivesOutcome, ReplySource};
use crate::schema::SchemaTracer;
use crate::{CallOutcome, Gateway, Message, Reply, Target};

/// A command of a saga. Clients send [`Start`](Self::Start); the runtime delivers the others.
///
/// For a saga called `checkout`, the stored names are `checkout.start`, `checkout.timed_out` and
/// `checkout.replied`.
#[derive(Debug, Clone, PartialEq)]
pub enum SagaCommand<S: LinearSaga> {
    /// Starts the saga. Starting it again changes nothing.
    Start(S::Input),
    /// The time limit of a task has passed.
    TimedOut(Task<S>),
    /// The reply to the request of a task.
    Replied(Task<S>, SagaReply),
}

impl<S: LinearSaga> SagaCommand<S> {
    /// Creates the command that delivers a reply of `T`, for tests.
    pub fn reply<T: Target>(task: Task<S>, reply: Reply<T>) -> Self {
        Self::Replied(task, SagaReply::from(reply))
    }

    /// Creates the command that delivers the outcome of a call to `G`, for tests.
    pub fn outcome<G: Gateway>(task: Task<S>, outcome: CallOutcome<G>) -> Self {
        Self::Replied(task, SagaReply::from(outcome))
    }
}

pub(super) const fn input_version<S: LinearSaga>() -> u16 {
    let older = S::OLD_INPUTS.len();
    assert!(older < 1_000, "an input has fewer than 1,000 older shapes");
    #[expect(clippy::cast_possible_truncation, reason = "it is below 1,000")]
    let version = older as u16 + 1;
    version
}

/// Returns the reader of an input of version `version`.
pub(super) fn old_input<S: LinearSaga>(
    name: &str,
    version: u16,
) -> Result<&'static OldInput<S::Input>, DecodeError> {
    let old = usize::from(version).checked_sub(1).and_then(|index| S::OLD_INPUTS.get(index));
    old.ok_or_else(|| DecodeError::UnknownVersion {
        name: name.to_owned(),
        version,
        known: input_version::<S>(),
    })
}

impl<S: LinearSaga> Message for SagaCommand<S> {
    const KINDS: &'static [MessageKind] = &[
        kind::<S, START>(
            input_version::<S>(),
            false,
            "Starts the saga. Starting it again changes nothing.",
        ),
        kind::<S, TIMED_OUT>(1, true, "The time limit of a task has passed."),
        kind::<S, REPLIED>(1, true, "The reply to the request of a task."),
    ];

    const REPLIES: &'static [ReplySource] = <S::Partners as Partners>::SOURCES;

    fn kind(&self) -> &'static MessageKind {
        &Self::KINDS[match self {
            Self::Start(_) => 0,
            Self::TimedOut(_) => 1,
            Self::Replied(..) => 2,
        }]
    }

    fn encode(&self, format: Format) -> Result<Vec<u8>, EncodeError> {
        let kind = self.kind();
        match self {
            Self::Start(input) => encode_content(kind, format, input),
            Self::TimedOut(task) => encode_content(kind, format, &task.map(Named)),
            Self::Replied(task, reply) => {
                encode_content(kind, format, &RepliedContent(task.map(Named), reply))
            }
        }
    }

    fn decode(name: &str, version: u16, format: Format, bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some(index) = Self::KINDS.iter().position(|kind| kind.name == name) else {
            return Err(DecodeError::UnknownName { name: name.to_owned() });
        };
        let known = Self::KINDS[index].version;
        if index == 0 && version != known {
            let old = old_input::<S>(name, version)?;
            return (old.read)(name, version, format, bytes).map(Self::Start);
        }
        if version != known {
            return Err(DecodeError::UnknownVersion { name: name.to_owned(), version, known });
        }
        match index {
            0 => decode_content(name, version, format, bytes).map(Self::Start),
            1 => {
                let task: Task<String> = decode_content(name, version, format, bytes)?;
                task.try_map(named_step).map(Self::TimedOut)
            }
            _ => {
                let content: RepliedContent<Task<String>, StoredReply> =
                    decode_content(name, version, format, bytes)?;
                let RepliedContent(task, reply) = content;
                Ok(Self::Replied(task.try_map(named_step)?, reply.read::<S::Partners>()?))
            }
        }
    }

    fn trace(tracer: &mut SchemaTracer) {
        let [start, timed_out, replied] = Self::KINDS else { return };
        for (version, old) in (1..).zip(S::OLD_INPUTS) {
            (old.trace)(tracer, &MessageKind { version, ..*start });
        }
        tracer.content::<S::Input>(start);
        tracer.content::<Task<String>>(timed_out);
        tracer.content::<RepliedContent<Task<String>, StoredReply>>(replied);
    }

    fn receive_raw(raw: &RawReply<'_>) -> Result<Self, DecodeError> {
        let encoded = EncodedReply {
            name: raw.name,
            version: raw.version,
            format: raw.format,
            bytes: raw.bytes,
        };
        match <S::Partners as Partners>::read(&raw.to.from, raw.to.outcome, &encoded)? {
            Some(reply) => raw.delivered(&Self::KINDS[2], reply, Self::Replied),
            None => raw.unknown(),
        }
    }
}

/// The stored content of [`SagaCommand::Replied`]; the form of a derived variant.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Replied")]
struct RepliedContent<T, R>(T, R);

impl<S: LinearSaga, T: Target> Receives<T> for SagaCommand<S> {
    type Tag = Task<S>;
    const KIND: &'static MessageKind = &<Self as Message>::KINDS[2];
    const FIELDS: u16 = 1;

    fn receive(task: Task<S>, reply: Reply<T>) -> Self {
        Self::reply(task, reply)
    }
}

impl<S: LinearSaga, G: Gateway> ReceivesOutcome<G> for SagaCommand<S> {
    type Tag = Task<S>;
    const KIND: &'static MessageKind = &<Self as Message>::KINDS[2];
    const FIELDS: u16 = 1;

    fn receive_outcome(task: Task<S>, outcome: CallOutcome<G>) -> Self {
        Self::outcome(task, outcome)
    }
}
