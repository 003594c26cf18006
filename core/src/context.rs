//! What `decide` and `react` may know besides state and message.

use std::cell::Cell;
use std::fmt;

use uuid::Uuid;

use crate::ids::derive_id;
use crate::{Aggregate, CorrelationId, EventId, Id, MessageId, Metadata, Timestamp, Version};

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
        self.derived("id", n)
    }

    /// The id of the message's event number `n`, counted from 0.
    pub fn event_id(&self, n: u32) -> EventId {
        EventId(self.derived("event", n))
    }

    /// The id of the message's durable effect number `n`, counted from 0.
    pub fn effect_id(&self, n: u32) -> Uuid {
        self.derived("effect", n)
    }

    fn derived(&self, kind: &str, n: u32) -> Uuid {
        let stream = [A::NAME, "-", self.id.as_str()];
        derive_id(kind, self.log, &stream, self.incoming.message_id.0, n)
    }

    /// The message's id.
    pub fn message_id(&self) -> MessageId {
        self.incoming.message_id
    }

    /// The workflow that the message belongs to.
    pub fn correlation_id(&self) -> CorrelationId {
        self.incoming.metadata.correlation_id
    }

    /// The user who asked, if the sender said. `None` if another service named the user: see
    /// [`foreign_user`](Self::foreign_user).
    pub fn user(&self) -> Option<&str> {
        let Metadata { user, user_from, .. } = &self.incoming.metadata;
        user.as_deref().filter(|_| user_from.is_none())
    }

    /// The user whom another service named, and the log of that service. It is that service's word,
    /// and the word of everybody who may write to its topic: good for a record, not for a right.
    pub fn foreign_user(&self) -> Option<(&str, Uuid)> {
        let Metadata { user, user_from, .. } = &self.incoming.metadata;
        user.as_deref().zip(*user_from)
    }

    /// All that is known about the message besides its content.
    pub fn metadata(&self) -> &Metadata {
        &self.incoming.metadata
    }

    /// To whom the outcome is answered. The events of this message go there by themselves; keep the
    /// address to [`reply_to`](crate::reply_to) with an event of a later message, which something outside
    /// sends.
    pub fn return_path(&self) -> crate::ReturnPath {
        crate::ReturnPath(self.incoming.metadata.return_addresses.clone())
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
