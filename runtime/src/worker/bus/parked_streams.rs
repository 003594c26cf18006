//! The streams that a relay has parked.

use std::collections::BTreeSet;
use std::time::Duration;

use composable_rust_core::queue::{Outbox as _, OutboxKind, OutboxMessage, Queue};
use composable_rust_core::store::StoreError;
use composable_rust_core::{StreamId, Version};
use uuid::Uuid;

use crate::worker::context::WorkerContext;
use crate::worker::dead_letters::DECISION_POLL_INTERVAL;
use crate::worker::parked_stream::parked_stream;
use crate::worker::throttle::Throttle;

/// The streams of one log partition that a relay has parked. Each has a row in the relay's queue or
/// a dead letter.
pub(crate) struct ParkedStreams {
    relay: String,
    topic: String,
    streams: BTreeSet<StreamId>,
    decisions: Throttle,
}

impl ParkedStreams {
    pub(crate) fn new(relay: &str, topic: &str) -> Self {
        let (relay, topic) = (relay.to_owned(), topic.to_owned());
        Self { relay, topic, streams: BTreeSet::new(), decisions: Throttle::default() }
    }

    /// Returns the queue of a log partition's parked streams.
    pub(crate) fn queue(&self, partition: u16) -> Queue {
        Queue { partition, kind: OutboxKind::Policy, target: self.relay.clone() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    pub(crate) fn contains(&self, stream: &StreamId) -> bool {
        self.streams.contains(stream)
    }

    pub(crate) fn insert(&mut self, stream: StreamId) {
        self.streams.insert(stream);
    }

    /// Loads the streams from the store. The relay then looks for operators' decisions at once: a
    /// wake-up for one may have been used by an attempt that failed.
    pub(crate) async fn load(
        &mut self,
        context: &WorkerContext,
        partition: u16,
    ) -> Result<(), StoreError> {
        let streams = context.store().queued_streams(&self.queue(partition)).await?;
        self.streams = streams.into_iter().collect();
        self.decisions = Throttle::default();
        Ok(())
    }

    /// Has the relay look for operators' decisions at once.
    pub(crate) fn may_have_decisions(&mut self) {
        self.decisions.reset();
    }

    /// Returns `true` if the relay is to look for operators' decisions.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        !self.streams.is_empty() && self.decisions.is_due(now, DECISION_POLL_INTERVAL)
    }

    /// Returns the row of a stream that is parked before `version`.
    pub(crate) fn row(&self, log: Uuid, stream: &StreamId, version: Version) -> OutboxMessage {
        parked_stream(&self.relay, &self.topic, log, stream, version)
    }
}
