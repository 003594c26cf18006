//! Replies with their target's type erased.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer, ser};

use super::{Partners, Reason};
use crate::codec::{DecodeError, Format};
use crate::message::{AnyMessage, ReplyOutcome, ReplySource};
use crate::{CallOutcome, Gateway, Message, Reply, Target};

/// A [`Reply`] or [`CallOutcome`] whose type is erased. It can still be printed and compared.
#[derive(Clone, PartialEq)]
pub struct SagaReply {
    source: ReplySource,
    outcome: ReplyOutcome,
    content: Content,
}

#[derive(Clone, PartialEq)]
enum Content {
    None,
    Message(AnyMessage),
    /// The reason of [`CallOutcome::Unstorable`].
    Reason(String),
}

/// The content of a reply, encoded.
#[derive(Debug)]
#[doc(hidden)]
pub struct EncodedReply<'a> {
    pub(super) name: &'a str,
    pub(super) version: u16,
    pub(super) format: Format,
    pub(super) bytes: &'a [u8],
}

impl EncodedReply<'_> {
    pub(super) fn message<M: Message>(&self) -> Result<M, DecodeError> {
        M::decode(self.name, self.version, self.format, self.bytes)
    }

    pub(super) fn reason(&self) -> String {
        String::from_utf8_lossy(self.bytes).into_owned()
    }
}

/// The stored form of a reply: the content as JSON text.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Reply")]
pub(super) struct StoredReply {
    from: String,
    outcome: ReplyOutcome,
    name: String,
    version: u16,
    content: String,
}

impl StoredReply {
    pub(super) fn read<P: Partners>(&self) -> Result<SagaReply, DecodeError> {
        let Self { from, outcome, name, version, content } = self;
        let (version, format) = (*version, Format::Json);
        let encoded = EncodedReply { name, version, format, bytes: content.as_bytes() };
        P::read(from, *outcome, &encoded)?
            .ok_or_else(|| DecodeError::UnknownName { name: format!("a reply of {from}") })
    }
}

impl SagaReply {
    /// Returns the target or gateway that answers.
    pub fn source(&self) -> ReplySource {
        self.source
    }

    /// Returns the outcome of the request.
    pub fn outcome(&self) -> ReplyOutcome {
        self.outcome
    }

    /// Returns the event, rejection, response or failure, if it is an `M`.
    pub fn content<M: Message>(&self) -> Option<&M> {
        match &self.content {
            Content::Message(message) => message.downcast_ref(),
            Content::None | Content::Reason(_) => None,
        }
    }

    /// Returns the reason of a task that this reply says was not done.
    pub(super) fn reason(&self) -> Reason {
        match &self.content {
            Content::Message(message) => Reason::refused_as(message.kind().name, message),
            Content::Reason(error) => Reason::unstorable(error),
            Content::None if self.outcome == ReplyOutcome::Exhausted => Reason::Exhausted,
            Content::None => Reason::Undelivered,
        }
    }

    fn source_name(&self) -> &'static str {
        match self.source {
            ReplySource::Target(name) | ReplySource::Gateway(name) => name,
        }
    }
}

impl<T: Target> From<Reply<T>> for SagaReply {
    fn from(reply: Reply<T>) -> Self {
        let (outcome, content) = match reply {
            Reply::Recorded(event) => {
                (ReplyOutcome::Recorded, Content::Message(AnyMessage::new(event)))
            }
            Reply::Rejected(rejection) => {
                (ReplyOutcome::Rejected, Content::Message(AnyMessage::new(rejection)))
            }
            Reply::Unchanged => (ReplyOutcome::Unchanged, Content::None),
            Reply::Undelivered => (ReplyOutcome::Undelivered, Content::None),
        };
        Self { source: ReplySource::Target(T::NAME), outcome, content }
    }
}

impl<G: Gateway> From<CallOutcome<G>> for SagaReply {
    fn from(outcome: CallOutcome<G>) -> Self {
        let (outcome, content) = match outcome {
            CallOutcome::Done(response) => {
                (ReplyOutcome::Done, Content::Message(AnyMessage::new(response)))
            }
            CallOutcome::Failed(failure) => {
                (ReplyOutcome::Failed, Content::Message(AnyMessage::new(failure)))
            }
            CallOutcome::Exhausted => (ReplyOutcome::Exhausted, Content::None),
            CallOutcome::Unstorable(reason) => (ReplyOutcome::Unstorable, Content::Reason(reason)),
        };
        Self { source: ReplySource::Gateway(G::NAME), outcome, content }
    }
}

impl fmt::Debug for SagaReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source_name())?;
        match &self.content {
            Content::None => write!(f, "{:?}", self.outcome),
            Content::Message(message) => {
                f.debug_tuple(&format!("{:?}", self.outcome)).field(message).finish()
            }
            Content::Reason(reason) => {
                f.debug_tuple(&format!("{:?}", self.outcome)).field(reason).finish()
            }
        }
    }
}

impl Serialize for SagaReply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, version, content) = match &self.content {
            Content::None => ("", 0, String::new()),
            Content::Reason(reason) => ("", 0, reason.clone()),
            Content::Message(message) => {
                let kind = message.kind();
                let content = message.encode(Format::Json).map_err(ser::Error::custom)?;
                (kind.name, kind.version, String::from_utf8_lossy(&content).into_owned())
            }
        };
        let (from, name) = (self.source_name().to_owned(), name.to_owned());
        StoredReply { from, outcome: self.outcome, name, version, content }.serialize(serializer)
    }
}
