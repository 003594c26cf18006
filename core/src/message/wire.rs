//! The encoded form of replies and call outcomes.

use serde::{Deserialize, Serialize, de};

use crate::Message;
use crate::codec::EncodeError;
use crate::codec::Format;

/// An encoded outcome: its case, and the message as name, version and JSON text.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Answered")]
pub(crate) struct Wire<O> {
    pub(crate) outcome: O,
    name: String,
    version: u16,
    content: String,
}

impl<O> Wire<O> {
    pub(crate) fn of(outcome: O, message: &impl Message) -> Result<Self, EncodeError> {
        let kind = message.kind();
        let content = String::from_utf8_lossy(&message.encode(Format::Json)?).into_owned();
        Ok(Self { outcome, name: kind.name.to_owned(), version: kind.version, content })
    }

    pub(crate) fn empty(outcome: O) -> Self {
        Self { outcome, name: String::new(), version: 0, content: String::new() }
    }

    /// Encodes a case that holds a text instead of a message.
    pub(crate) fn text(outcome: O, text: &str) -> Self {
        Self { content: text.to_owned(), ..Self::empty(outcome) }
    }

    pub(crate) fn into_text(self) -> String {
        self.content
    }

    pub(crate) fn message<M: Message, E: de::Error>(&self) -> Result<M, E> {
        M::decode(&self.name, self.version, Format::Json, self.content.as_bytes())
            .map_err(de::Error::custom)
    }
}
