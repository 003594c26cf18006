//! Streams that a relay publishes no further, because one of their events cannot be published.

use std::collections::BTreeSet;
use std::time::Duration;

use composable_rust_core::__private::{decode_value, derive_id, encode_value};
use composable_rust_core::{
    EncodedMessage, Format, NewOutboxRow, Outbox as _, OutboxKind, OutboxMessage, Queue, StreamId,
    Version,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::worker::context::WorkerContext;
use crate::worker::follower::Stop;
use crate::worker::outbox::dead_letters::DECISION_POLL_INTERVAL;

/// The beginning of the names of relays.
pub(crate) const RELAY_PREFIX: &str = "relay/";

/// The name of the content of a parked stream's row.
const PARKED_STREAM_NAME: &str = "relay.stream";

/// From where on a stream is to be published.
#[derive(Serialize, Deserialize)]
struct ParkedRest {
    from_version: u64,
}

/// The streams that one relay has parked. For each there is a row in the relay's queue or a dead
/// letter of it.
pub(crate) struct ParkedStreams {
    worker: String,
    topic: String,
    streams: BTreeSet<StreamId>,
    /// The next look for operators' decisions, in monotonic time.
    look_at: Duration,
}

impl ParkedStreams {
    pub(crate) fn new(worker: &str, topic: &str) -> Self {
        let (worker, topic) = (worker.to_owned(), topic.to_owned());
        Self { worker, topic, streams: BTreeSet::new(), look_at: Duration::ZERO }
    }

    pub(crate) fn queue(&self, partition: u16) -> Queue {
        Queue { partition, kind: OutboxKind::Policy, target: self.worker.clone() }
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

    /// Reads them from the store.
    pub(crate) async fn load(&mut self, work: &WorkerContext, partition: u16) -> Result<(), Stop> {
        let streams = work.store().queued_streams(&self.queue(partition)).await?;
        self.streams = streams.into_iter().collect();
        self.look_at = work.now() + DECISION_POLL_INTERVAL;
        Ok(())
    }

    /// `true` if it is time to look for decisions.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        !self.streams.is_empty() && now >= self.look_at
    }

    /// The row that stands for a stream from `version` on.
    pub(crate) fn row(&self, log: Uuid, stream: &StreamId, version: Version) -> OutboxMessage {
        let name = [&*self.worker, "\0", stream.as_str(), "\0", &version.to_string()];
        let row = NewOutboxRow {
            id: derive_id("parked", log, &name, Uuid::nil(), 0),
            kind: OutboxKind::Policy,
            target: self.worker.clone(),
            recipient: self.topic.clone(),
            content: content(version),
            metadata: String::new(),
        };
        OutboxMessage { sender: stream.clone(), row }
    }
}

fn content(version: Version) -> EncodedMessage {
    let bytes = encode_value(Format::Json, &ParkedRest { from_version: version.get() })
        .unwrap_or_else(|_| unreachable!("a number"));
    EncodedMessage { name: PARKED_STREAM_NAME.into(), version: 1, codec: "json".into(), bytes }
}

/// `true` if the rows of a queue are parked streams.
pub(crate) fn is_of_relay(queue: &Queue) -> bool {
    queue.kind == OutboxKind::Policy && queue.target.starts_with(RELAY_PREFIX)
}

/// The row that stands for a parked stream once the event in the way is given up.
pub(crate) fn without_its_first(parked: &OutboxMessage) -> OutboxMessage {
    let mut rest = parked.clone();
    rest.row.id = derive_id("parked", parked.row.id, &[], parked.row.id, 0);
    rest.row.content = content(version_of(&parked.row).next());
    rest
}

/// The version from which a row's stream is to be published: of one that was erased, the first.
pub(crate) fn version_of(row: &NewOutboxRow) -> Version {
    let rest = decode_value::<ParkedRest>(Format::Json, &row.content.bytes);
    Version::new(rest.map_or(1, |rest| rest.from_version))
}
