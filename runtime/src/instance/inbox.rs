//! What the inbox keeps of an outcome, and how it is told again.

use std::sync::Arc;

use composable_rust_core::__private::decode_value;
use composable_rust_core::{
    Aggregate, Codecs, DecodeError, EncodedMessage, Format, InboxEntry, Message, StreamId, Version,
};
use serde::{Deserialize, Serialize};

use crate::error::{SendError, error_chain};
use crate::instance::decide::DecideContext;
use crate::instance::mailbox::SendResult;
use crate::panic::guarded;

/// What a mark keeps of an outcome, in the bincode format.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum StoredOutcome {
    Accepted,
    Rejected { name: String, version: u16, codec: String, bytes: Vec<u8> },
    UnexpectedVersion { expected: Version, actual: Version },
}

impl StoredOutcome {
    pub(crate) fn rejected<A: Aggregate>(
        rules: &DecideContext<'_, A>,
        rejection: &A::Rejection,
    ) -> Result<Self, SendError<A::Rejection>> {
        let EncodedMessage { name, version, codec, bytes } = rules.encoded(rejection)?;
        let (name, codec) = (name.into_owned(), codec.into_owned());
        Ok(Self::Rejected { name, version, codec, bytes })
    }
}

/// The answer that a mark keeps, as the sender is told it.
pub(crate) fn stored_answer<A: Aggregate>(
    codecs: &Codecs,
    stream: &StreamId,
    mark: &InboxEntry,
) -> SendResult<A> {
    // An erased answer is empty. That the message caused events can still be told.
    if mark.outcome.is_empty() {
        let told = mark.receipt.position.is_some();
        return if told { Ok(mark.receipt) } else { Err(SendError::Erased) };
    }
    // What the framework itself keeps, only newer code can have written in another way.
    let answer = decode_value(Format::Binary, &mark.outcome)
        .map_err(|source| SendError::UnreadableOutcome { newer: true, source: source.into() })?;
    match answer {
        StoredOutcome::Accepted => Ok(mark.receipt),
        StoredOutcome::Rejected { name, version, codec, bytes } => {
            let content = EncodedMessage { name: name.into(), version, codec: codec.into(), bytes };
            let decode = || codecs.decode::<A::Rejection>(stream, &content);
            // Upcasters and codecs are code of users.
            let decoded = guarded(decode).unwrap_or_else(|panic| {
                let (name, version) = (content.name.to_string(), content.version);
                Err(DecodeError::Malformed { name, version, source: panic.into() })
            });
            Err(match decoded {
                Ok(rejection) => SendError::Rejected(rejection),
                Err(source) => {
                    let newer = source.is_newer();
                    SendError::UnreadableOutcome { newer, source: Arc::new(source) }
                }
            })
        }
        StoredOutcome::UnexpectedVersion { expected, actual } => {
            Err(SendError::UnexpectedVersion { expected, actual })
        }
    }
}

/// Tells messages of one key apart: 48 bits of the command's name and the expected version, 64 of its
/// content, and 16 of the version that the content has.
///
/// 0 is every message that the runtime carries, for its id tells all: it comes again the same to the
/// byte.
pub(crate) fn digest(message: &impl Message, expecting: Option<Version>) -> Result<u128, String> {
    let bytes = message.encode(Format::Binary).map_err(|error| error_chain(&error))?;
    let kind = message.kind();
    let mut what = xxhash_rust::xxh3::Xxh3::new();
    what.update(kind.name.as_bytes());
    if let Some(version) = expecting {
        what.update(&version.get().to_le_bytes());
    }
    let (what, content) = (u128::from(what.digest()), xxhash_rust::xxh3::xxh3_64(&bytes));
    Ok((what >> 16 << 80) | (u128::from(content) << 16) | u128::from(kind.version))
}

/// Returns `true` if the messages of two digests are the same, as far as can be told: the contents of
/// two versions of a command cannot be compared, and in a rolling deploy both come under one key.
pub(crate) fn is_same(one: u128, other: u128) -> bool {
    let (what, version) = (|digest: u128| digest >> 80, |digest: u128| digest & 0xFFFF);
    one == other || what(one) == what(other) && version(one) != version(other)
}
