//! The outbox.

use std::collections::BTreeSet;
use std::ops::Bound;

use composable_rust_core::queue::{
    CheckpointAdvance, DeadLetter, Outbox, OutboxMessage, OutboxRow, Queue, QueueChange,
    QueuePosition, QueueSummary, Settlement,
};
use composable_rust_core::store::{
    EventStore as _, StoreError, validate_enqueue, validate_settlements,
};
use composable_rust_core::{StreamId, Timestamp};

use uuid::Uuid;

use super::InMemoryEventStore;
use super::state::{PartitionState, State};

/// A row of the outbox.
#[derive(Debug)]
pub(super) struct StoredRow {
    pub(super) queued: OutboxMessage,
    attempts: u32,
    not_before: Timestamp,
    pub(super) queued_at: Timestamp,
    pub(super) last_error: Option<String>,
}

impl Outbox for InMemoryEventStore {
    async fn enqueue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        validate_enqueue(self.log(), partition, rows, advance)?;
        let done = self.locked().enqueue(partition, rows, advance);
        if !rows.is_empty() {
            self.has_work();
        }
        Ok(done)
    }

    async fn park(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        validate_enqueue(self.log(), partition, rows, None)?;
        self.locked().park(partition, rows, error);
        Ok(())
    }

    async fn read_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        Ok(self.locked().read_outbox(after, limit))
    }

    async fn last_positions(&self, queues: &[Queue]) -> Result<Vec<QueuePosition>, StoreError> {
        Ok(self.locked().last_positions(queues))
    }

    async fn summarize_queues(&self, limit: usize) -> Result<Vec<QueueSummary>, StoreError> {
        Ok(self.locked().summarize_queues(limit))
    }

    async fn count_waiting(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<usize>, StoreError> {
        Ok(self.locked().count_waiting(queues, limit))
    }

    async fn queued_streams(&self, queue: &Queue) -> Result<Vec<StreamId>, StoreError> {
        Ok(self.locked().queued_streams(queue))
    }

    async fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        validate_settlements(self.log(), partition, settlements)?;
        let settled = self.locked().settle(partition, settlements);
        if settlements.iter().any(|settlement| settlement.change.adds_rows()) {
            self.has_work();
        }
        Ok(settled)
    }

    async fn wait_for_work(&self, seen: u64) -> Result<u64, StoreError> {
        Ok(self.work_since(seen).await)
    }

    async fn wake_workers(&self) -> Result<(), StoreError> {
        self.has_work();
        Ok(())
    }
}

impl State {
    pub(super) fn enqueue(
        &mut self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> bool {
        if let Some(CheckpointAdvance { name, lease, to }) = advance {
            if !self.is_at_epoch(lease) {
                return false;
            }
            let key = (name.clone(), to.partition);
            if self.checkpoints.get(&key).is_some_and(|at| at.offset >= to.offset) {
                return true;
            }
            self.checkpoints.insert(key, *to);
        }
        let now = self.time.now();
        self.partitions[usize::from(partition)].queue(rows.iter().cloned(), now);
        true
    }

    pub(super) fn park(&mut self, partition: u16, rows: &[OutboxMessage], error: &str) {
        let now = self.time.now();
        self.partitions[usize::from(partition)].park(rows, error, now);
    }

    pub(super) fn read_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Vec<OutboxRow> {
        let now = self.time.now();
        let of_queue = |(queue, after): &(Queue, QueuePosition)| {
            let partition = self.partitions.get(usize::from(queue.partition))?;
            let rows = partition.outbox.range((Bound::Excluded(*after), Bound::Unbounded));
            let rows = rows.filter(|(_, waiting)| is_in(queue, &waiting.queued)).take(limit);
            let read = rows.map(|(position, waiting)| OutboxRow {
                queue: queue.clone(),
                position: *position,
                message: waiting.queued.clone(),
                attempts: waiting.attempts,
                begun: waiting.attempts > 0 && waiting.last_error.is_none(),
                wait: waiting.not_before.since(now),
                behind_parked: partition.has_parked(queue, *position, &waiting.queued),
                queued_at: waiting.queued_at,
            });
            Some(read.collect::<Vec<_>>())
        };
        after.iter().filter_map(of_queue).flatten().collect()
    }

    pub(super) fn last_positions(&self, queues: &[Queue]) -> Vec<QueuePosition> {
        let last = |queue: &Queue| {
            let partition = self.partitions.get(usize::from(queue.partition))?;
            let mut rows = partition.outbox.iter().rev();
            rows.find(|(_, waiting)| is_in(queue, &waiting.queued)).map(|(position, _)| *position)
        };
        queues.iter().map(|queue| last(queue).unwrap_or_default()).collect()
    }

    pub(super) fn count_waiting(&self, queues: &[Queue], limit: usize) -> Vec<usize> {
        let count = |queue: &Queue| {
            let partition = self.partitions.get(usize::from(queue.partition));
            let waiting = partition.into_iter().flat_map(|partition| partition.outbox.values());
            waiting.filter(|waiting| is_in(queue, &waiting.queued)).take(limit).count()
        };
        queues.iter().map(count).collect()
    }

    pub(super) fn queued_streams(&self, queue: &Queue) -> Vec<StreamId> {
        let Some(partition) = self.partitions.get(usize::from(queue.partition)) else {
            return Vec::new();
        };
        let waiting = partition.outbox.values().map(|waiting| &waiting.queued);
        let waiting = waiting.filter(|queued| is_in(queue, queued));
        let dead = partition.dead.values().filter(|letter| letter.queue == *queue);
        let all = waiting.chain(dead.map(|letter| &letter.message));
        let streams: BTreeSet<_> = all.map(|queued| queued.sender.clone()).collect();
        streams.into_iter().collect()
    }

    pub(super) fn settle(&mut self, partition: u16, settlements: &[Settlement]) -> Vec<bool> {
        let now = self.time.now();
        let mut settled = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let is_own = self.is_at_epoch(&settlement.lease);
            if is_own {
                self.partitions[usize::from(partition)].settle(settlement, now);
            }
            settled.push(is_own);
        }
        settled
    }
}

impl PartitionState {
    /// Adds rows at the ends of their queues.
    pub(super) fn queue(&mut self, rows: impl IntoIterator<Item = OutboxMessage>, now: Timestamp) {
        let mut sequence = None;
        for (row, index) in rows.into_iter().zip(0..) {
            let sequence = *sequence.get_or_insert_with(|| self.draw());
            self.put(QueuePosition { sequence, index }, row, now);
        }
    }

    /// Adds a row without attempts at a position.
    pub(super) fn put(&mut self, position: QueuePosition, queued: OutboxMessage, now: Timestamp) {
        let waiting =
            StoredRow { queued, attempts: 0, not_before: now, queued_at: now, last_error: None };
        self.outbox.insert(position, waiting);
    }

    /// Draws the next sequence number.
    pub(super) fn draw(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn settle(&mut self, settlement: &Settlement, now: Timestamp) {
        let Settlement { queue, position, change, .. } = settlement;
        let Some(waiting) = self.outbox.get_mut(position) else { return };
        if !is_in(queue, &waiting.queued) {
            return;
        }
        match change {
            QueueChange::Done(rows) => {
                self.outbox.remove(position);
                self.queue(rows.iter().cloned(), now);
            }
            QueueChange::Begun { attempts } => {
                (waiting.attempts, waiting.last_error) = (*attempts, None);
                waiting.not_before = now;
            }
            QueueChange::Failed { attempts, retry_after, error } => {
                waiting.attempts = *attempts;
                waiting.not_before = now + *retry_after;
                waiting.last_error = Some(error.clone());
            }
            QueueChange::Parked { attempts, error } => {
                let queued = waiting.queued.clone();
                self.dead_queued_at.insert(*position, waiting.queued_at);
                self.outbox.remove(position);
                let letter = DeadLetter {
                    queue: queue.clone(),
                    position: *position,
                    message: queued,
                    arming: None,
                    attempts: *attempts,
                    error: error.clone(),
                    is_head: false,
                    parked_at: now,
                    decision: None,
                };
                self.add_dead_letter(*position, letter);
            }
        }
    }

    /// Returns `true` if the outbox has a row of this id.
    pub(super) fn has_row(&self, id: Uuid) -> bool {
        self.outbox.values().any(|waiting| waiting.queued.row.id == id)
    }

    /// Returns `true` if a dead letter of the same pair is parked before the position.
    fn has_parked(&self, queue: &Queue, position: QueuePosition, queued: &OutboxMessage) -> bool {
        let mut dead = self.dead.range(..position).filter(|(_, letter)| letter.queue == *queue);
        dead.any(|(_, letter)| is_pair(&letter.message, queued))
    }
}

/// Returns `true` if both messages have the same sender and recipient.
pub(super) fn is_pair(one: &OutboxMessage, other: &OutboxMessage) -> bool {
    one.sender == other.sender && one.row.recipient == other.row.recipient
}

fn is_in(queue: &Queue, queued: &OutboxMessage) -> bool {
    queued.row.kind == queue.kind && queued.row.target == queue.target
}
