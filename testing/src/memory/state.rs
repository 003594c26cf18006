//! The data: per partition the rows of the log and what is kept of each stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use composable_rust_core::{
    Checkpoint, Clock, DeadLetter, EncodedMessage, Fingerprint, InboxEntry, LogInfo, LogSecret,
    MessageId, QueuePosition, Snapshot, StoredContent, StoredEvent, StreamId, Timestamp, Version,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::StoredTimer;
use super::leases::{HeldLease, Member};
use super::outbox::WaitingRow;

/// Everything that the clones of one store share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) log: LogInfo,
    pub(super) partitions: Vec<PartitionState>,
    /// `true` while leases are not to be claimed.
    pub(super) paused: bool,
    /// The number of overrides.
    pub(super) overrides: u64,
    pub(super) leases: BTreeMap<(String, u16), HeldLease>,
    /// The processes that can do a worker's work.
    pub(super) members: BTreeMap<(String, Uuid), Member>,
    pub(super) checkpoints: BTreeMap<(String, u16), Checkpoint>,
    pub(super) time: Time,
    /// Shuffles what [`read_log`](composable_rust_core::EventStore::read_log) delivers.
    pub(super) rng: StdRng,
}

/// Where the store's moments come from.
#[derive(Debug)]
pub(super) enum Time {
    Still(Timestamp),
    Clock(Arc<dyn Clock>),
}

impl Time {
    pub(super) fn now(&self) -> Timestamp {
        match self {
            Self::Still(moment) => *moment,
            Self::Clock(clock) => clock.now(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct PartitionState {
    pub(super) partition: u16,
    /// The row at offset n is at index n - 1.
    pub(super) rows: Vec<Row>,
    pub(super) streams: BTreeMap<StreamId, StreamState>,
    /// The last sequence number that was drawn.
    pub(super) sequence: u64,
    pub(super) outbox: BTreeMap<QueuePosition, WaitingRow>,
    /// By their places; those of timers, which have none, by a place drawn when they were parked.
    pub(super) dead: BTreeMap<QueuePosition, DeadLetter>,
}

#[derive(Debug)]
pub(super) struct Row {
    /// As it was appended, unless erased.
    pub(super) original: StoredEvent,
    /// What an operator put beside it.
    pub(super) replacement: Option<EncodedMessage>,
}

#[derive(Debug, Default)]
pub(super) struct StreamState {
    /// The offset of version n is at index n - 1.
    pub(super) offsets: Vec<u64>,
    pub(super) marks: BTreeMap<MessageId, InboxEntry>,
    pub(super) marked_at: BTreeMap<MessageId, Timestamp>,
    pub(super) snapshots: BTreeMap<Fingerprint, Snapshot>,
    pub(super) snapshots_saved_at: BTreeMap<Fingerprint, Timestamp>,
    pub(super) timers: BTreeMap<String, StoredTimerRow>,
}

/// A timer, and how often it was tried in vain.
#[derive(Debug)]
pub(super) struct StoredTimerRow {
    pub(super) timer: StoredTimer,
    pub(super) attempts: u32,
    pub(super) last_error: Option<String>,
}

/// The secret of a log in memory: of its id, so that tests are deterministic.
pub(super) fn secret_of(log: Uuid) -> LogSecret {
    let code = |half| LogSecret::new([0; 32]).code("log", &[log.as_bytes(), &[half]]);
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&code(0));
    bytes[16..].copy_from_slice(&code(1));
    LogSecret::new(bytes)
}

impl State {
    pub(super) fn new(id: Uuid, partitions: u16, now: Timestamp) -> Self {
        let empty = |partition| PartitionState { partition, ..PartitionState::default() };
        Self {
            log: LogInfo { id, partitions, secret: secret_of(id) },
            partitions: (0..partitions).map(empty).collect(),
            paused: false,
            overrides: 0,
            leases: BTreeMap::new(),
            members: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            time: Time::Still(now),
            rng: StdRng::seed_from_u64(0),
        }
    }

    pub(super) fn partition_of(&self, stream: &StreamId) -> &PartitionState {
        &self.partitions[usize::from(self.log.partition_of(stream))]
    }

    pub(super) fn partition_of_mut(&mut self, stream: &StreamId) -> &mut PartitionState {
        &mut self.partitions[usize::from(self.log.partition_of(stream))]
    }

    pub(super) fn stream(&self, stream: &StreamId) -> Option<&StreamState> {
        self.partition_of(stream).streams.get(stream)
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = (&StreamId, &StreamState)> {
        self.partitions.iter().flat_map(|partition| &partition.streams)
    }

    pub(super) fn events_of(&self, stream: &StreamId, after: Version) -> Vec<StoredEvent> {
        let partition = self.partition_of(stream);
        let offsets = partition.streams.get(stream).map(|s| &*s.offsets).unwrap_or_default();
        let skipped = usize::try_from(after.get()).unwrap_or(usize::MAX).min(offsets.len());
        let rows = offsets[skipped..].iter().filter_map(|offset| partition.row(*offset));
        rows.map(Row::read).collect()
    }
}

impl PartitionState {
    pub(super) fn row(&self, offset: u64) -> Option<&Row> {
        self.rows.get(index(offset)?)
    }

    pub(super) fn row_mut(&mut self, offset: u64) -> Option<&mut Row> {
        self.rows.get_mut(index(offset)?)
    }

    pub(super) fn head(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Whether the last event that has content up to `version` has lost it.
    pub(super) fn is_erased_at(&self, stream: &StreamId, version: Version) -> bool {
        let offsets = self.streams.get(stream).map(|s| &*s.offsets).unwrap_or_default();
        let count = usize::try_from(version.get()).unwrap_or(usize::MAX).min(offsets.len());
        let contents = offsets[..count].iter().rev().filter_map(|offset| self.row(*offset));
        contents
            .map(|row| &row.original.content)
            .find(|content| **content != StoredContent::Closed)
            .is_some_and(|content| *content == StoredContent::Erased)
    }

    pub(super) fn is_closed(&self, stream: &StreamId) -> bool {
        let last = self.streams.get(stream).and_then(|s| s.offsets.last());
        let row = last.and_then(|offset| self.row(*offset));
        row.is_some_and(|row| row.original.content == StoredContent::Closed)
    }
}

impl StreamState {
    pub(super) fn version(&self) -> Version {
        Version::new(self.offsets.len() as u64)
    }

    pub(super) fn offset(&self, version: Version) -> Option<u64> {
        self.offsets.get(index(version.get())?).copied()
    }
}

impl Row {
    pub(super) fn read(&self) -> StoredEvent {
        let mut event = self.original.clone();
        if let Some(replacement) = &self.replacement {
            event.content = StoredContent::Present(replacement.clone());
        }
        event
    }
}

/// The index of what is counted from 1.
fn index(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}
