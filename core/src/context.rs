//! The context of `decide` and `react`.

use std::cell::Cell;
use std::fmt;

use uuid::Uuid;

use crate::ids::derive_id;
use crate::{Aggregate, CorrelationId, EventId, Id, MessageId, Metadata, Timestamp, Version};

/// The id, metadata and arrival time of the message being handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The message's id. The inbox recognises duplicates by it, and derived ids are made from it.
    pub message_id: MessageId,
    /// The message's metadata: correlation, causation, user and so on.
    pub metadata: Metadata,
    /// The time of arrival, by the runtime's clock.
    pub now: Timestamp,
}

/// The inputs of an aggregate's `decide` and `react` besides state and message.
///
/// The message fixes everything in a context, so deciding again gives the same result.
pub struct Context<'a, A: Aggregate> {
    log: Uuid,
    id: &'a Id<A>,
    version: Version,
    incoming: &'a Incoming,
    env: &'a A::Environment,
    issued: Cell<u32>,
}

impl<'a, A: Aggregate> Context<'a, A> {
    /// Creates the context for deciding `incoming` on instance `id` at `version` in log `log`.
    pub fn new(
        log: Uuid,
        id: &'a Id<A>,
        version: Version,
        incoming: &'a Incoming,
        env: &'a A::Environment,
    ) -> Self {
        Self { log, id, version, incoming, env, issued: Cell::new(0) }
    }

    /// Returns the id of the instance.
    pub fn id(&self) -> &Id<A> {
        self.id
    }

    /// Returns the version of the state that `decide` sees.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the message's time of arrival. Deciding again sees the same time.
    pub fn now(&self) -> Timestamp {
        self.incoming.now
    }

    /// Returns a new id. Deciding again gives the same ids in the same order, so nothing is created
    /// twice.
    pub fn new_id(&self) -> Uuid {
        let n = self.issued.get();
        self.issued.set(n + 1);
        self.derived("id", n)
    }

    /// Returns the id of the message's event number `n`, counted from 0.
    pub fn event_id(&self, n: u32) -> EventId {
        EventId(self.derived("event", n))
    }

    /// Returns the id of the message's durable effect number `n`, counted from 0.
    pub fn effect_id(&self, n: u32) -> Uuid {
        self.derived("effect", n)
    }

    fn derived(&self, kind: &str, n: u32) -> Uuid {
        let stream = [A::NAME, "-", self.id.as_str()];
        derive_id(kind, self.log, &stream, self.incoming.message_id.0, n)
    }

    /// Returns the message's id.
    pub fn message_id(&self) -> MessageId {
        self.incoming.message_id
    }

    /// Returns the id of the workflow that the message belongs to.
    pub fn correlation_id(&self) -> CorrelationId {
        self.incoming.metadata.correlation_id
    }

    /// Returns the user who asked, if the sender named one. `None` if another service named the
    /// user: see [`foreign_user`](Self::foreign_user).
    pub fn user(&self) -> Option<&str> {
        let Metadata { user, user_from, .. } = &self.incoming.metadata;
        user.as_deref().filter(|_| user_from.is_none())
    }

    /// Returns the user whom another service named, and the log of that service.
    ///
    /// The name is as trustworthy as that service and every client that may write to its topic:
    /// record it, but grant no rights by it.
    pub fn foreign_user(&self) -> Option<(&str, Uuid)> {
        let Metadata { user, user_from, .. } = &self.incoming.metadata;
        user.as_deref().zip(*user_from)
    }

    /// Returns the message's metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.incoming.metadata
    }

    /// Returns the return addresses to which the outcome is replied.
    ///
    /// The runtime sends the events of this message there by itself. To reply with an event of a
    /// later message, which something outside sends, keep the path and use
    /// [`reply_to`](crate::reply_to).
    pub fn return_path(&self) -> crate::ReturnPath {
        crate::ReturnPath(self.incoming.metadata.return_addresses.clone())
    }

    /// Returns the environment that the aggregate was registered with.
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
