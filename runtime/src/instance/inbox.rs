//! The inbox: the encoding of stored outcomes, and the digests that tell commands of one key apart.

use std::sync::Arc;

use composable_rust_core::codec::decode_value;
use composable_rust_core::codec::{Codecs, DecodeError, EncodedMessage, Format};
use composable_rust_core::queue::InboxEntry;
use composable_rust_core::{Aggregate, Message, StreamId, Version};
use serde::{Deserialize, Serialize};

use crate::error::{SendError, error_chain};
use crate::instance::message::{SubmitError, SubmitResult};
use crate::panic::guarded;

/// The outcome in an inbox entry, in the bincode format.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum StoredOutcome {
    Accepted,
    Rejected { name: String, version: u16, codec: String, bytes: Vec<u8> },
    UnexpectedVersion { expected: Version, actual: Version },
}

impl StoredOutcome {
    pub(crate) fn rejected(rejection: EncodedMessage) -> Self {
        let EncodedMessage { name, version, codec, bytes } = rejection;
        let (name, codec) = (name.into_owned(), codec.into_owned());
        Self::Rejected { name, version, codec, bytes }
    }
}

/// Decodes the outcome of an inbox entry, as the result of a duplicate of the command.
pub(crate) fn stored_result<A: Aggregate>(
    codecs: &Codecs,
    stream: &StreamId,
    entry: &InboxEntry,
) -> SubmitResult<A> {
    // An erased outcome is empty. The position still shows that the command caused events.
    if entry.outcome.is_empty() {
        let has_events = entry.receipt.position.is_some();
        return if has_events { Ok(entry.receipt) } else { Err(SendError::Erased.into()) };
    }
    // The format is the framework's own, so only newer code can have written an unknown one.
    let outcome = decode_value(Format::Binary, &entry.outcome)
        .map_err(|source| SendError::UnreadableOutcome { newer: true, source: source.into() })?;
    match outcome {
        StoredOutcome::Accepted => Ok(entry.receipt),
        StoredOutcome::Rejected { name, version, codec, bytes } => {
            let content = EncodedMessage { name: name.into(), version, codec: codec.into(), bytes };
            Err(SubmitError::Send(rejection::<A>(codecs, stream, &content)))
        }
        StoredOutcome::UnexpectedVersion { expected, actual } => {
            Err(SendError::UnexpectedVersion { expected, actual }.into())
        }
    }
}

fn rejection<A: Aggregate>(
    codecs: &Codecs,
    stream: &StreamId,
    content: &EncodedMessage,
) -> SendError<A::Rejection> {
    // Upcasters and codecs are code of users.
    let decoded = guarded(|| codecs.decode::<A::Rejection>(stream, content));
    let decoded = decoded.unwrap_or_else(|panic| {
        let (name, version) = (content.name.to_string(), content.version);
        Err(DecodeError::Malformed { name, version, source: panic.into() })
    });
    match decoded {
        Ok(rejection) => SendError::Rejected(rejection),
        Err(source) => {
            let newer = source.is_newer();
            SendError::UnreadableOutcome { newer, source: Arc::new(source) }
        }
    }
}

/// Returns the digest that tells commands of one key apart: 48 bits of the command's name and the
/// expected version, 64 bits of its content, and 16 bits of the content's schema version.
///
/// The digest 0 stands for every message that the runtime delivers: a redelivery is the same to the
/// byte, so the message id identifies it.
pub(crate) fn digest(message: &impl Message, expected: Option<Version>) -> Result<u128, String> {
    let bytes = message.encode(Format::Binary).map_err(|error| error_chain(&error))?;
    let kind = message.kind();
    let mut kind_hash = xxhash_rust::xxh3::Xxh3::new();
    kind_hash.update(kind.name.as_bytes());
    if let Some(version) = expected {
        kind_hash.update(&version.get().to_le_bytes());
    }
    let (kind_hash, content) = (u128::from(kind_hash.digest()), xxhash_rust::xxh3::xxh3_64(&bytes));
    Ok((kind_hash >> 16 << 80) | (u128::from(content) << 16) | u128::from(kind.version))
}

/// Returns `true` if two digests may be of the same command.
///
/// The contents of two schema versions cannot be compared, and during a rolling deploy both are
/// sent with one key. Of those, only the names and expected versions are compared.
pub(crate) fn is_same(one: u128, other: u128) -> bool {
    let (kind, version) = (|digest: u128| digest >> 80, |digest: u128| digest & 0xFFFF);
    one == other || kind(one) == kind(other) && version(one) != version(other)
}
