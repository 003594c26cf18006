//! Replies on their way: what is answered, to whom, and how it becomes a command.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    Answer, CallError, DecodeError, Format, Gateway, Message, Receives, ReceivesAnswer, Reply,
    ReturnAddress, Target,
};

/// Whose replies or answers a command type takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplySource {
    /// Of the target with this name.
    Target(&'static str),
    /// Of the gateway with this name.
    Gateway(&'static str),
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyOutcome {
    /// [`Reply::Recorded`]; the content is the event.
    Recorded,
    /// [`Reply::Rejected`]; the content is the rejection.
    Rejected,
    /// [`Reply::Unchanged`].
    Unchanged,
    /// [`Reply::Undelivered`].
    Undelivered,
    /// [`Answer::Done`]; the content is the response.
    Done,
    /// [`Answer::Failed`]; the content is the failure.
    Failed,
    /// [`Answer::Exhausted`].
    Exhausted,
}

impl ReplyOutcome {
    /// Whether a gateway answers so, not a target.
    pub fn is_gateways(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Exhausted)
    }
}

/// What a message that is a reply answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The target or gateway that answers.
    pub from: String,
    /// How.
    pub outcome: ReplyOutcome,
    /// The tag that the asker attached, as JSON text.
    pub tag: String,
}

/// A reply as it was stored, before it is a command.
#[derive(Debug, Clone, Copy)]
pub struct RawReply<'a> {
    /// What it answers.
    pub to: &'a ReplyTo,
    /// The content's name.
    pub name: &'a str,
    /// The content's version.
    pub version: u16,
    /// The content's format.
    pub format: Format,
    /// The content; empty where the outcome has none.
    pub bytes: &'a [u8],
}

impl RawReply<'_> {
    fn content<M: Message>(&self) -> Result<M, DecodeError> {
        M::decode(self.name, self.version, self.format, self.bytes)
    }

    fn tag<T: serde::de::DeserializeOwned>(&self) -> Result<T, DecodeError> {
        serde_json::from_str(&self.to.tag).map_err(|error| DecodeError::Malformed {
            name: format!("the tag of a reply of {}", self.to.from),
            version: 1,
            source: error.into(),
        })
    }

    /// The command that delivers a reply of `T`; what the derive calls.
    #[doc(hidden)]
    pub fn reply<C: Receives<T>, T: Target>(&self) -> Result<C, DecodeError> {
        let reply = match self.to.outcome {
            ReplyOutcome::Recorded => Reply::Recorded(self.content()?),
            ReplyOutcome::Rejected => Reply::Rejected(self.content()?),
            ReplyOutcome::Unchanged => Reply::Unchanged,
            _ => Reply::Undelivered,
        };
        Ok(C::receive(self.tag()?, reply))
    }

    /// The command that delivers an answer of `G`; what the derive calls.
    #[doc(hidden)]
    pub fn answer<C: ReceivesAnswer<G>, G: Gateway>(&self) -> Result<C, DecodeError> {
        let answer = match self.to.outcome {
            ReplyOutcome::Done => Answer::Done(self.content()?),
            ReplyOutcome::Failed => Answer::Failed(self.content()?),
            _ => Answer::Exhausted,
        };
        Ok(C::receive_answer(self.tag()?, answer))
    }

    /// That nothing takes it; what the derive falls back to.
    #[doc(hidden)]
    pub fn unknown<C>(&self) -> Result<C, DecodeError> {
        let what = if self.to.outcome.is_gateways() { "an answer" } else { "a reply" };
        Err(DecodeError::UnknownName { name: format!("{what} of {}", self.to.from) })
    }
}

/// To whom the outcome of a message is answered: kept in a state or an event, it lets an aggregate
/// [`answer`](crate::answer) later, when something outside comes back.
///
/// It is written as a text in every format, so that it can be kept whatever it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyAddress(pub(crate) Vec<ReturnAddress>);

impl ReplyAddress {
    /// Whether nobody waits.
    pub fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }

    /// The addresses; the last is the nearest.
    pub fn stack(&self) -> &[ReturnAddress] {
        &self.0
    }
}

impl Serialize for ReplyAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            return serializer.serialize_str("");
        }
        let text = serde_json::to_string(&self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for ReplyAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl<F> CallError<F> {
    /// It may have happened; see [`CallError::Retry`].
    pub fn retry(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Retry(error.into())
    }

    /// Nothing was sent; see [`CallError::Unreachable`].
    pub fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unreachable(error.into())
    }
}
