//! The store's data: for each partition the rows of the log, the state of each stream, and the
//! queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::environment::Clock;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::queue::{
    Checkpoint, DeadLetter, InboxEntry, Pause, Process, QueuePosition,
};
use composable_rust_core::store::{Fingerprint, LogInfo, LogSecret, Snapshot};
use composable_rust_core::{MessageId, StreamId, Timestamp, Version};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::StoredTimer;
use super::leases::{HeldLease, Member};
use super::outbox::StoredRow;

/// The data that the clones of one store share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) log: LogInfo,
    pub(super) partitions: Vec<PartitionState>,
    /// The pauses, by name.
    pub(super) pauses: BTreeMap<String, Pause>,
    /// The number of overrides.
    pub(super) overrides: u64,
    pub(super) leases: BTreeMap<(String, u16), HeldLease>,
    /// The processes that announced a worker.
    pub(super) members: BTreeMap<(String, Uuid), Member>,
    /// The processes, with the times of their starts.
    pub(super) processes: Vec<(Process, Timestamp)>,
    /// The holders that are known to be alive, whose leases do not expire.
    pub(super) present: BTreeSet<Uuid>,
    pub(super) checkpoints: BTreeMap<(String, u16), Checkpoint>,
    pub(super) time: Time,
    /// The generator that shuffles the results of
    /// [`read_log`](composable_rust_core::store::EventStore::read_log).
    pub(super) rng: StdRng,
}

/// The store's clock.
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
    pub(super) outbox: BTreeMap<QueuePosition, StoredRow>,
    /// The dead letters by position; a parked timer's position was drawn when it was parked.
    pub(super) dead: BTreeMap<QueuePosition, DeadLetter>,
    /// The times at which rows were queued that are dead letters now.
    pub(super) dead_queued_at: BTreeMap<QueuePosition, Timestamp>,
}

#[derive(Debug)]
pub(super) struct Row {
    /// The event as it was appended, unless erased.
    pub(super) original: StoredEvent,
    /// The content of an override.
    pub(super) replacement: Option<EncodedMessage>,
}

#[derive(Debug, Default)]
pub(super) struct StreamState {
    /// The offset of version n is at index n - 1.
    pub(super) offsets: Vec<u64>,
    pub(super) entries: BTreeMap<MessageId, InboxEntry>,
    pub(super) handled_at: BTreeMap<MessageId, Timestamp>,
    pub(super) snapshots: BTreeMap<Fingerprint, Snapshot>,
    pub(super) snapshots_saved_at: BTreeMap<Fingerprint, Timestamp>,
    pub(super) timers: BTreeMap<String, StoredTimerRow>,
}

/// An armed timer with its attempts.
#[derive(Debug)]
pub(super) struct StoredTimerRow {
    pub(super) timer: StoredTimer,
    pub(super) armed_at: Timestamp,
    pub(super) attempts: u32,
    pub(super) last_error: Option<String>,
}

/// Returns the secret of a log in memory, which is derived from its id, so that tests are
/// deterministic.
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
            pauses: BTreeMap::new(),
            overrides: 0,
            leases: BTreeMap::new(),
            members: BTreeMap::new(),
            processes: Vec::new(),
            present: BTreeSet::new(),
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

    /// Returns `true` if the last event up to `version`, other than a closing one, is erased.
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

/// Converts a number that counts from 1 to an index.
fn index(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}
