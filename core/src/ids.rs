//! Derived ids.

use uuid::Uuid;

use crate::{MessageId, StreamId};

/// Derives the id of the durable effect at index `n` of a message that `stream` handled.
pub(crate) fn effect_id(log: Uuid, stream: &StreamId, message: MessageId, n: u32) -> Uuid {
    derive_id("effect", log, &[stream.as_str()], message.0, n)
}

/// Derives the id of a consequence of a message, an event or another cause: a version 8 UUID from
/// the SHA-256 hash of all arguments. The same arguments give the same id in every process.
///
/// `kind` separates ids of different uses, `log` those of different services, and the parts of
/// `name`, which are concatenated, those of different instances; `n` numbers the consequences of a
/// `cause`. Derived ids are idempotency keys and clients choose instance ids, so the hash is
/// cryptographic: a client cannot choose an instance id to obtain another instance's ids.
pub fn derive_id(kind: &str, log: Uuid, name: &[&str], cause: Uuid, n: u32) -> Uuid {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new()
        .chain_update(log.as_bytes())
        .chain_update(cause.as_bytes())
        .chain_update(n.to_le_bytes())
        .chain_update([u8::try_from(kind.len()).unwrap_or(u8::MAX)])
        .chain_update(kind);
    for part in name {
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
