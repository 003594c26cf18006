//! What tests look at besides what the port shows.

use composable_rust_core::{
    EncodedMessage, Fingerprint, InboxEntry, NewOutboxRow, Snapshot, StoredEvent, StreamId,
    TimerArming, Timestamp, Version,
};

use super::InMemoryEventStore;

/// An effect that waits in a store to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOutboxRow {
    /// The stream whose append stored it.
    pub stream: StreamId,
    /// The row as it was appended.
    pub row: NewOutboxRow,
}

/// A timer that is armed in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTimer {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Scoped to the stream.
    pub id: String,
    /// The arming.
    pub arming: TimerArming,
    /// When it fires, by the store's clock.
    pub due: Timestamp,
    /// The command it delivers.
    pub content: EncodedMessage,
    /// [`Metadata`](composable_rust_core::Metadata) as JSON text.
    pub metadata: String,
}

impl InMemoryEventStore {
    /// The events of `stream`, in order of versions.
    pub fn events(&self, stream: &StreamId) -> Vec<StoredEvent> {
        self.locked().events_of(stream, Version::ZERO)
    }

    /// All events: partition after partition, each in order of offsets.
    pub fn all_events(&self) -> Vec<StoredEvent> {
        let state = self.locked();
        state.partitions.iter().flat_map(|p| p.rows.iter().map(super::state::Row::read)).collect()
    }

    /// What the inbox of `stream` remembers, in order of message ids.
    pub fn marks(&self, stream: &StreamId) -> Vec<InboxEntry> {
        let state = self.locked();
        state.stream(stream).map(|s| s.marks.values().cloned().collect()).unwrap_or_default()
    }

    /// The effects that wait to be executed: partition after partition, each in the order in which
    /// they were committed.
    pub fn outbox(&self) -> Vec<StoredOutboxRow> {
        let state = self.locked();
        let waiting = state.partitions.iter().flat_map(|partition| partition.outbox.values());
        let queued = waiting.map(|waiting| waiting.queued.clone());
        queued.map(|queued| StoredOutboxRow { stream: queued.sender, row: queued.row }).collect()
    }

    /// The armed timers, in order of streams and ids.
    pub fn timers(&self) -> Vec<StoredTimer> {
        let state = self.locked();
        let armed = state.streams().flat_map(|(_, stream)| stream.timers.values());
        let mut timers: Vec<_> = armed.map(|armed| armed.timer.clone()).collect();
        timers.sort_by(|a, b| (&a.stream, &a.id).cmp(&(&b.stream, &b.id)));
        timers
    }

    /// The snapshots of `stream`, in order of fingerprints.
    pub fn snapshots(&self, stream: &StreamId) -> Vec<(Fingerprint, Snapshot)> {
        let state = self.locked();
        let of_stream = |s: &super::state::StreamState| {
            s.snapshots.iter().map(|(f, s)| (*f, s.clone())).collect()
        };
        state.stream(stream).map(of_stream).unwrap_or_default()
    }
}
