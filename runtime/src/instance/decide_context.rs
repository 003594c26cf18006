//! The surroundings of a decision: everything but the state and the command.

use std::collections::BTreeSet;
use std::sync::Arc;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::message::{AnyMessage, ReplySource};
use composable_rust_core::{Aggregate, Id, Message, StreamId};
use uuid::Uuid;

use crate::error::SendError;
use crate::instance::encode::Storage;
use crate::worker::bus::published_topic::PublishedTopic;

/// The surroundings of a decision: everything but the state and the command.
pub(crate) struct DecideContext<'a, A: Aggregate> {
    /// The id of the log.
    pub(crate) log: Uuid,
    pub(crate) id: &'a Id<A>,
    pub(crate) stream: &'a StreamId,
    pub(crate) env: &'a A::Environment,
    pub(crate) storage: Storage<'a>,
    /// The size in bytes from which on an append takes no further command.
    pub(crate) max_bytes: usize,
    /// The targets that live in another service.
    pub(crate) remote: &'a BTreeSet<&'static str>,
    /// The targets and gateways of this service, in this process or another.
    pub(crate) known: &'a BTreeSet<ReplySource>,
    /// The publications of all aggregate types in this process.
    pub(crate) published: &'a [Arc<PublishedTopic>],
}

impl<A: Aggregate> DecideContext<'_, A> {
    /// Encodes a message of the instance.
    pub(crate) fn encoded<M: Message>(
        &self,
        message: &M,
    ) -> Result<EncodedMessage, SendError<A::Rejection>> {
        self.storage.encoded(self.stream, message).map_err(SendError::Unstorable)
    }

    /// Encodes a message of `stream`.
    pub(crate) fn encoded_any(
        &self,
        stream: &StreamId,
        message: &AnyMessage,
    ) -> Result<EncodedMessage, SendError<A::Rejection>> {
        self.storage.encoded_any(stream, message).map_err(SendError::Unstorable)
    }

    /// Checks that an event can be published to every topic to which this process publishes the
    /// aggregate's events.
    pub(crate) fn check_publication(
        &self,
        event: &A::Event,
    ) -> Result<(), SendError<A::Rejection>> {
        let mut topics = self.published.iter().filter(|topic| topic.category == A::NAME);
        let verify = self.storage.verify_encoding;
        let checked = topics.try_for_each(|topic| topic.check(event, verify));
        checked.map_err(SendError::Unstorable)
    }
}
