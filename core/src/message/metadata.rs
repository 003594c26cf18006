//! What is known about a message besides its content.

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
    /// The id of one event; derived from the message that caused it, so that deciding again gives
    /// the same.
    EventId
);
uuid_newtype!(
    /// The id of one message on its way to an instance; what the inbox knows it by.
    MessageId
);
uuid_newtype!(
    /// The id that runs through a whole workflow, from the first command to its last event.
    CorrelationId
);

impl MessageId {
    /// The message id of an idempotency key: SHA-256 of the key, cut to a version 8 UUID.
    pub fn from_key(key: &str) -> Self {
        Self::hashed(&[key.as_bytes()])
    }

    /// The message id of what comes from elsewhere: SHA-256 of where it comes from and of its id
    /// there, cut to a version 8 UUID.
    ///
    /// Nobody else can use it up: no other source, whatever ids it chooses, and no idempotency key,
    /// because the hashed bytes are not UTF-8.
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

/// Where an answer goes: one level of the stack that travels with dispatches, timers and replies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnAddress {
    /// The stream of the instance that asked.
    pub stream: crate::StreamId,
    /// The asking command's reply variant, by its target's name.
    pub target: String,
    /// The tag that the asker attached.
    pub tag: crate::message::Tag,
    /// The log of the service in which the asker lives, if that is not this one: the answer goes over
    /// the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Uuid>,
    /// The asker's service's proof that it has asked, once the address has left that service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

/// Proof that a return address was made by the service that it leads to.
///
/// The code is that of the service's [`LogSecret`](crate::store::LogSecret) over the address, the
/// addresses below it, and the rest of the seal. Other services carry it and cannot make one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The id of the message that the address left with.
    pub message: Uuid,
    /// The user of that message, for whom the replies are handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The log of the service that named the user, if it was another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_from: Option<Uuid>,
    /// The authentication code, in hexadecimal digits.
    pub code: String,
}

/// What is known about an event, a command or an effect besides its content.
///
/// Stored as JSON beside the payload; an empty part takes no room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Runs through the whole workflow.
    #[serde(rename = "correlation")]
    pub correlation_id: CorrelationId,
    /// The message or event that directly caused this one.
    #[serde(rename = "causation")]
    pub causation_id: Uuid,
    /// Who asked, as the application names its users; pseudonymous, since it is kept for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The log of the service that named the user, if it was another: this service has no more than
    /// that service's word for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_from: Option<Uuid>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// To whom the outcome is to be answered; the last is the nearest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub return_addresses: Vec<ReturnAddress>,
    /// Of a reply: what it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<crate::message::InReplyTo>,
}
