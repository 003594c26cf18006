//! What `decide` and `react` may know besides state and message.

use std::cell::Cell;
use std::fmt;

use uuid::Uuid;

use crate::{
    Aggregate, CorrelationId, EventId, Id, MessageId, Metadata, StreamId, Timestamp, Version,
};

/// The message being handled, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The message's id: what the inbox knows it by, and what derived ids hold.
    pub message_id: MessageId,
    /// Correlation, causation, user and so on.
    pub metadata: Metadata,
    /// When it arrived, by the runtime's clock.
    pub now: Timestamp,
}

/// What an aggregate's `decide` and `react` may know besides state and message.
///
/// Everything in it is fixed by the message, so deciding again gives the same.
pub struct Context<'a, A: Aggregate> {
    log: Uuid,
    id: &'a Id<A>,
    version: Version,
    incoming: &'a Incoming,
    env: &'a A::Environment,
    issued: Cell<u32>,
}

impl<'a, A: Aggregate> Context<'a, A> {
    /// For deciding `incoming` on instance `id` at `version` in log `log`.
    pub fn new(
        log: Uuid,
        id: &'a Id<A>,
        version: Version,
        incoming: &'a Incoming,
        env: &'a A::Environment,
    ) -> Self {
        Self { log, id, version, incoming, env, issued: Cell::new(0) }
    }

    /// The instance.
    pub fn id(&self) -> &Id<A> {
        self.id
    }

    /// The version of the state that `decide` sees.
    pub fn version(&self) -> Version {
        self.version
    }

    /// When the message arrived. Deciding again sees the same moment.
    pub fn now(&self) -> Timestamp {
        self.incoming.now
    }

    /// A new id. Deciding again gives the same ids in the same order, so nothing is created twice.
    pub fn new_id(&self) -> Uuid {
        let n = self.issued.get();
        self.issued.set(n + 1);
        derive_id("id", self.log, self.id, self.message_id(), n)
    }

    /// The id of the message's event number `n`, counted from 0.
    pub fn event_id(&self, n: u32) -> EventId {
        EventId(derive_id("event", self.log, self.id, self.message_id(), n))
    }

    /// The id of the message's durable effect number `n`, counted from 0.
    pub fn effect_id(&self, n: u32) -> Uuid {
        derive_id("effect", self.log, self.id, self.message_id(), n)
    }

    /// The message's id.
    pub fn message_id(&self) -> MessageId {
        self.incoming.message_id
    }

    /// The workflow that the message belongs to.
    pub fn correlation_id(&self) -> CorrelationId {
        self.incoming.metadata.correlation_id
    }

    /// Who asked, if the sender said.
    pub fn user(&self) -> Option<&str> {
        self.incoming.metadata.user.as_deref()
    }

    /// All that is known about the message besides its content.
    pub fn metadata(&self) -> &Metadata {
        &self.incoming.metadata
    }

    /// What the aggregate was registered with.
    pub fn env(&self) -> &A::Environment {
        self.env
    }
}

impl<A: Aggregate> fmt::Debug for Context<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", self.id)
            .field("version", &self.version)
            .field("incoming", self.incoming)
            .finish_non_exhaustive()
    }
}

/// xxh3-128 of kind, log, stream, message and number, as a version 8 UUID. The log keeps apart what
/// two services derive from one message, the stream what two instances do.
fn derive_id<A: Aggregate>(kind: &str, log: Uuid, id: &Id<A>, message: MessageId, n: u32) -> Uuid {
    derive(kind, log, &[A::NAME, "-", id.as_str()], message, n)
}

/// The id of the durable effect number `n` of a message that `stream` handled.
pub(crate) fn effect_id(log: Uuid, stream: &StreamId, message: MessageId, n: u32) -> Uuid {
    derive("effect", log, &[stream.as_str()], message, n)
}

fn derive(kind: &str, log: Uuid, stream: &[&str], message: MessageId, n: u32) -> Uuid {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(kind.as_bytes());
    hash.update(log.as_bytes());
    hash.update(message.0.as_bytes());
    hash.update(&n.to_le_bytes());
    for part in stream {
        hash.update(part.as_bytes());
    }
    uuid::Builder::from_custom_bytes(hash.digest128().to_be_bytes()).into_uuid()
}
