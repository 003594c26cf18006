//! Stored replies: the request, the return path, and the conversion into a command.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{DecodeError, Format};
use crate::message::{MessageKind, Receives, ReceivesOutcome, ReturnAddress, Seal};
use crate::{CallError, CallOutcome, Gateway, Message, Reply, Target};

/// The target or gateway whose replies a command type takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplySource {
    /// The target with this name.
    Target(&'static str),
    /// The gateway with this name.
    Gateway(&'static str),
}

/// The outcome of a request.
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
    /// [`CallOutcome::Done`]; the content is the response.
    Done,
    /// [`CallOutcome::Failed`]; the content is the failure.
    Failed,
    /// [`CallOutcome::Exhausted`].
    Exhausted,
    /// [`CallOutcome::Unstorable`]; the content is the reason as UTF-8 text.
    Unstorable,
}

impl ReplyOutcome {
    /// Returns `true` if the outcome is that of a gateway, not of a target.
    pub fn is_gateways(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Exhausted | Self::Unstorable)
    }
}

/// The request that a reply answers, and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InReplyTo {
    /// The name of the target or gateway that answers.
    pub from: String,
    /// The outcome of the request.
    pub outcome: ReplyOutcome,
    /// The tag that the asker attached.
    pub tag: Tag,
    /// The seal of the return address, if the address has left its service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

/// The tag of a request: the fields of the asker's reply variant that stand before the reply.
///
/// The tag has that variant's name and version, so that a later version of the asker's code can
/// read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The stable name of the reply variant.
    pub variant: String,
    /// The version of the reply variant.
    pub version: u16,
    /// The number of fields in the tag.
    pub fields: u16,
    /// The tag as JSON text: `null` without fields, the field itself, or an array of several.
    pub value: String,
}

impl Tag {
    /// Creates the tag of a request whose replies the variant `kind` takes; `fields` of its fields
    /// stand before the reply.
    ///
    /// # Panics
    ///
    /// Panics if `tag` is not the same once it is written as JSON and read again: the replies would
    /// wait for code that can read the tag.
    pub(crate) fn new<T>(kind: &MessageKind, fields: u16, tag: &T) -> Self
    where
        T: Serialize + DeserializeOwned + PartialEq,
    {
        let value = serde_json::to_string(tag)
            .unwrap_or_else(|error| panic!("a tag must be representable in JSON: {error}"));
        match serde_json::from_str::<T>(&value) {
            Ok(read) if read == *tag => {}
            Ok(_) => panic!("a tag must be the same when it is read from JSON: {value}"),
            Err(error) => panic!("a tag must be readable from JSON: {error}: {value}"),
        }
        Self { variant: kind.name.to_owned(), version: kind.version, fields, value }
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        serde_json::from_str(&self.value).map_err(|error| DecodeError::UnknownTag {
            name: self.variant.clone(),
            version: self.version,
            source: error.into(),
        })
    }

    /// Reads the variant in a version that is not the current one, as [`Message::decode`] does.
    fn decode<C: Message>(&self, reply: &impl Serialize) -> Result<C, DecodeError> {
        let malformed = |error: serde_json::Error| DecodeError::Malformed {
            name: self.variant.clone(),
            version: self.version,
            source: error.into(),
        };
        let reply = serde_json::to_string(reply).map_err(malformed)?;
        let decode =
            |json: &str| C::decode(&self.variant, self.version, Format::Json, json.as_bytes());
        match self.fields {
            // One unnamed field is the content; one named field stands in a struct.
            0 => match decode(&reply) {
                Err(DecodeError::Malformed { .. }) => decode(&format!("[{reply}]")),
                decoded => decoded,
            },
            1 => decode(&format!("[{},{reply}]", self.value)),
            _ => {
                let tag = self.value.trim_end();
                decode(&format!("{},{reply}]", tag.strip_suffix(']').unwrap_or(tag)))
            }
        }
    }
}

/// A stored reply, not yet converted into a command.
#[derive(Debug, Clone, Copy)]
pub struct RawReply<'a> {
    /// The request that the reply answers, and its outcome.
    pub to: &'a InReplyTo,
    /// The content's name.
    pub name: &'a str,
    /// The content's version.
    pub version: u16,
    /// The content's format.
    pub format: Format,
    /// The encoded content; empty if the outcome has none.
    pub bytes: &'a [u8],
}

impl RawReply<'_> {
    fn content<M: Message>(&self) -> Result<M, DecodeError> {
        M::decode(self.name, self.version, self.format, self.bytes)
    }

    /// Returns the command that delivers `reply`.
    ///
    /// A tag of the variant's current version is read directly; one of an older version goes
    /// through the variant's upcasters.
    pub(crate) fn delivered<C: Message, Tag: DeserializeOwned, R: Serialize>(
        &self,
        kind: &MessageKind,
        reply: R,
        receive: impl FnOnce(Tag, R) -> C,
    ) -> Result<C, DecodeError> {
        let tag = &self.to.tag;
        if tag.variant == kind.name && tag.version == kind.version {
            Ok(receive(tag.read()?, reply))
        } else {
            tag.decode(&reply)
        }
    }

    /// Returns the command that delivers a reply of `T`. Called by the derive.
    #[doc(hidden)]
    pub fn reply<C: Receives<T>, T: Target>(&self) -> Result<C, DecodeError> {
        let reply = match self.to.outcome {
            ReplyOutcome::Recorded => Reply::Recorded(self.content()?),
            ReplyOutcome::Rejected => Reply::Rejected(self.content()?),
            ReplyOutcome::Unchanged => Reply::Unchanged,
            _ => Reply::Undelivered,
        };
        self.delivered(C::KIND, reply, C::receive)
    }

    /// Returns the command that delivers an outcome of `G`. Called by the derive.
    #[doc(hidden)]
    pub fn call_outcome<C: ReceivesOutcome<G>, G: Gateway>(&self) -> Result<C, DecodeError> {
        let outcome = match self.to.outcome {
            ReplyOutcome::Done => CallOutcome::Done(self.content()?),
            ReplyOutcome::Failed => CallOutcome::Failed(self.content()?),
            ReplyOutcome::Unstorable => {
                CallOutcome::Unstorable(String::from_utf8_lossy(self.bytes).into_owned())
            }
            _ => CallOutcome::Exhausted,
        };
        self.delivered(C::KIND, outcome, C::receive_outcome)
    }

    /// Returns the error of a reply that no variant takes. The derive's fallback.
    #[doc(hidden)]
    pub fn unknown<C>(&self) -> Result<C, DecodeError> {
        let what = if self.to.outcome.is_gateways() { "an outcome" } else { "a reply" };
        Err(DecodeError::UnknownName { name: format!("{what} of {}", self.to.from) })
    }
}

/// The return addresses of a message.
///
/// An aggregate that keeps the path in its state or an event can [`reply_to`](crate::reply_to) it
/// later, when something outside comes back.
///
/// Every format stores the path as a text, so any path can be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReturnPath(pub(crate) Vec<ReturnAddress>);

impl ReturnPath {
    /// Returns `true` if no asker waits for the outcome.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the addresses; the last is the nearest.
    pub fn stack(&self) -> &[ReturnAddress] {
        &self.0
    }
}

impl Serialize for ReturnPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            return serializer.serialize_str("");
        }
        let text = serde_json::to_string(&self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for ReturnPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl<F> CallError<F> {
    /// Creates the error of a call that may have happened; see [`CallError::Retry`].
    pub fn retry(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Retry(error.into())
    }

    /// Creates the error of a call that was not sent; see [`CallError::Unreachable`].
    pub fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unreachable(error.into())
    }
}
