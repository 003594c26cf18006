//! The metadata of messages.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_newtype!(
    /// The id of one event, derived from the message that caused it, so that deciding again gives
    /// the same id.
    EventId
);
uuid_newtype!(
    /// The id of one message to an instance, by which the inbox recognises duplicates.
    MessageId
);
uuid_newtype!(
    /// The id of a whole workflow, from its first command to its last event.
    CorrelationId
);

impl MessageId {
    /// Returns the message id of an idempotency key: SHA-256 of the key, cut to a version 8 UUID.
    pub fn from_key(key: &str) -> Self {
        Self::hashed(&[key.as_bytes()])
    }

    /// Returns the message id of a message from another source: SHA-256 of that source and of
    /// its id there, cut to a version 8 UUID.
    ///
    /// No other source can produce the same id, regardless of the ids it chooses. No idempotency
    /// key can, because the hashed bytes are not UTF-8.
    pub fn from_elsewhere(source: &str, id: &str) -> Self {
        let length = (source.len() as u64).to_le_bytes();
        Self::hashed(&[&[0xff], &length, source.as_bytes(), id.as_bytes()])
    }

    fn hashed(parts: &[&[u8]]) -> Self {
        use sha2::{Digest as _, Sha256};
        let hash = parts.iter().fold(Sha256::new(), Sha256::chain_update).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// The address of a reply: one level of the stack that travels with dispatches, timers and replies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnAddress {
    /// The stream of the asking instance.
    pub stream: crate::StreamId,
    /// The name of the target that selects the asker's reply variant.
    pub target: String,
    /// The tag that the asker attached.
    pub tag: crate::message::Tag,
    /// The log of the asker's service, if that is another service: the reply goes over the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Uuid>,
    /// The proof of the asker's service that it made the address, once the address has left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

/// The proof that a return address was made by the service that it leads to.
///
/// The code authenticates the address, the addresses below it, and the rest of the seal with the
/// service's [`LogSecret`](crate::store::LogSecret). Other services carry a seal and cannot make
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The id of the message with which the address left the service.
    pub message: Uuid,
    /// The user of that message, on whose behalf the replies are handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The log of the service that named the user, if that was another service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_from: Option<Uuid>,
    /// The authentication code, in hexadecimal digits.
    pub code: String,
}

/// The metadata of an event, a command or an effect.
///
/// Stored as JSON beside the payload; empty fields are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The id of the whole workflow.
    #[serde(rename = "correlation")]
    pub correlation_id: CorrelationId,
    /// The id of the message or event that directly caused this one.
    #[serde(rename = "causation")]
    pub causation_id: Uuid,
    /// The user who asked, as the application names its users. Use a pseudonym: the log keeps the
    /// name permanently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The log of the service that named the user, if that was another service. This service cannot
    /// verify the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_from: Option<Uuid>,
    /// The W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The addresses to which the outcome is replied; the last is the nearest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub return_addresses: Vec<ReturnAddress>,
    /// The request that this message replies to, if it is a reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<crate::message::InReplyTo>,
    /// The name of the follower that delivers this message, if it is a [`Heard`](crate::Heard).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follower: Option<String>,
}
