//! The idempotency key of a call, chosen by its caller.

use uuid::Uuid;

use crate::ids::derive_id;
use crate::stream::check_id;
use crate::{InvalidId, StreamId};

/// The idempotency key of a call, chosen by its caller.
///
/// Its text is not empty, has at most 1,024 bytes and contains no NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdempotencyKey {
    /// A key that is unique within the calls of one instance to one gateway.
    Scoped(String),
    /// A key that is passed to the gateway as it is.
    Exact(String),
}

impl IdempotencyKey {
    /// Returns the text as the caller gave it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Scoped(key) | Self::Exact(key) => key,
        }
    }

    /// Returns the key that the gateway receives. For a [scoped](Self::Scoped) key it is a version
    /// 8 UUID from the SHA-256 hash of the log, the calling instance, the gateway and the text, so
    /// equal texts of two instances, gateways or logs give different keys.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] names the rule that the text breaks.
    pub fn resolve(
        &self,
        log: Uuid,
        caller: &StreamId,
        gateway: &str,
    ) -> Result<String, InvalidId> {
        check_id(self.as_str())?;
        Ok(match self {
            // No part contains a NUL, so the separators make the name unambiguous.
            Self::Scoped(key) => {
                let name = [caller.as_str(), "\0", gateway, "\0", key];
                derive_id("idempotency key", log, &name, Uuid::nil(), 0).to_string()
            }
            Self::Exact(key) => key.clone(),
        })
    }
}
