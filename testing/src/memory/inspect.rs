//! Inspection of the store's data, beyond the port.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::InboxEntry;
use composable_rust_core::store::{Fingerprint, NewOutboxRow, Snapshot, TimerArming};
use composable_rust_core::{StreamId, Timestamp, Version};

use super::InMemoryEventStore;

/// A row of a store's outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOutboxRow {
    /// The stream whose append stored the row.
    pub stream: StreamId,
    /// The row as it was appended.
    pub row: NewOutboxRow,
}

/// An armed timer of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTimer {
    /// The timer's stream.
    pub stream: StreamId,
    /// The timer's id, scoped to the stream.
    pub id: String,
    /// The arming.
    pub arming: TimerArming,
    /// The deadline, by the store's clock.
    pub due: Timestamp,
    /// The command to deliver.
    pub content: EncodedMessage,
    /// [`Metadata`](composable_rust_core::Metadata) as JSON text.
    pub metadata: String,
}

impl InMemoryEventStore {
    /// Returns the events of `stream`, in order of versions.
    pub fn events(&self, stream: &StreamId) -> Vec<StoredEvent> {
        self.locked().events_of(stream, Version::ZERO)
    }

    /// Returns all events: partition after partition, each in order of offsets.
    pub fn all_events(&self) -> Vec<StoredEvent> {
        let state = self.locked();
        state.partitions.iter().flat_map(|p| p.rows.iter().map(super::state::Row::read)).collect()
    }

    /// Returns the inbox entries of `stream`, in order of message ids.
    pub fn inbox_entries(&self, stream: &StreamId) -> Vec<InboxEntry> {
        let state = self.locked();
        state.stream(stream).map(|s| s.entries.values().cloned().collect()).unwrap_or_default()
    }

    /// Returns the rows of the outbox: partition after partition, each in commit order.
    pub fn outbox(&self) -> Vec<StoredOutboxRow> {
        let state = self.locked();
        let waiting = state.partitions.iter().flat_map(|partition| partition.outbox.values());
        let queued = waiting.map(|waiting| waiting.queued.clone());
        queued.map(|queued| StoredOutboxRow { stream: queued.sender, row: queued.row }).collect()
    }

    /// Returns the armed timers, in order of streams and ids.
    pub fn timers(&self) -> Vec<StoredTimer> {
        let state = self.locked();
        let armed = state.streams().flat_map(|(_, stream)| stream.timers.values());
        let mut timers: Vec<_> = armed.map(|armed| armed.timer.clone()).collect();
        timers.sort_by(|a, b| (&a.stream, &a.id).cmp(&(&b.stream, &b.id)));
        timers
    }

    /// Returns `true` if no row waits in the outbox and no timer is armed.
    pub fn is_idle(&self) -> bool {
        let state = self.locked();
        state.partitions.iter().all(|partition| partition.outbox.is_empty())
            && state.streams().all(|(_, stream)| stream.timers.is_empty())
    }

    /// Returns the snapshots of `stream`, in order of fingerprints.
    pub fn snapshots(&self, stream: &StreamId) -> Vec<(Fingerprint, Snapshot)> {
        let state = self.locked();
        let of_stream = |s: &super::state::StreamState| {
            s.snapshots.iter().map(|(f, s)| (*f, s.clone())).collect()
        };
        state.stream(stream).map(of_stream).unwrap_or_default()
    }
}
