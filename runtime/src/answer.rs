//! What the inbox keeps of an outcome, and how it is told again.

use composable_rust_core::__private::decode_value;
use composable_rust_core::{Aggregate, Codecs, Encoded, Format, Mark, Message, StreamId, Version};
use serde::{Deserialize, Serialize};

use crate::encode::{describe, unstorable};
use crate::error::SendError;
use crate::instance::Answer;
use crate::plan::Rules;

/// What a mark keeps of an outcome, in the bincode format.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum StoredAnswer {
    Accepted,
    Rejected { name: String, version: u16, codec: String, bytes: Vec<u8> },
    UnexpectedVersion { expected: Version, actual: Version },
}

impl StoredAnswer {
    pub(crate) fn rejected<A: Aggregate>(
        rules: &Rules<'_, A>,
        rejection: &A::Rejection,
    ) -> Result<Self, SendError<A::Rejection>> {
        let Encoded { name, version, codec, bytes } = rules.encoded(rejection)?;
        let (name, codec) = (name.into_owned(), codec.into_owned());
        Ok(Self::Rejected { name, version, codec, bytes })
    }
}

/// The answer that a mark keeps, as the sender is told it.
pub(crate) fn stored_answer<A: Aggregate>(
    codecs: &Codecs,
    stream: &StreamId,
    mark: &Mark,
) -> Answer<A> {
    // An erased answer is empty. That the message caused events can still be told.
    if mark.answer.is_empty() {
        let told = mark.receipt.position.is_some();
        return if told { Ok(mark.receipt) } else { Err(SendError::Erased) };
    }
    match decode_value(Format::Binary, &mark.answer).map_err(unstorable)? {
        StoredAnswer::Accepted => Ok(mark.receipt),
        StoredAnswer::Rejected { name, version, codec, bytes } => {
            let content = Encoded { name: name.into(), version, codec: codec.into(), bytes };
            let rejection = codecs.decode(stream, &content).map_err(unstorable)?;
            Err(SendError::Rejected(rejection))
        }
        StoredAnswer::UnexpectedVersion { expected, actual } => {
            Err(SendError::UnexpectedVersion { expected, actual })
        }
    }
}

/// Of a command and what it expects: the same key with another request is another message.
pub(crate) fn digest(message: &impl Message, expecting: Option<Version>) -> Result<u128, String> {
    let bytes = message.encode(Format::Binary).map_err(|error| describe(&error))?;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let kind = message.kind();
    hash.update(kind.name.as_bytes());
    hash.update(&kind.version.to_le_bytes());
    hash.update(&bytes);
    if let Some(version) = expecting {
        hash.update(&version.get().to_le_bytes());
    }
    Ok(hash.digest128())
}
