//! The ports that [`EventStore`] builds on, with faults.

use std::time::Duration;

use composable_rust_core::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints, DeadLetter, DeadLetterDecision, DeadLetters,
    DueTimers, Inbox, InboxEntry, Lease, LeaseRequest, LeaseSnapshot, Leases, Outbox,
    OutboxMessage, OutboxRow, Queue, QueuePosition, QueueSummary, Settlement, TimerQueue,
    TimerSettlement, Timers,
};
use composable_rust_core::store::{EventStore, StoreError};
use composable_rust_core::{MessageId, StreamId};
use uuid::Uuid;

use super::FaultyEventStore;

impl<S: EventStore> Leases for FaultyEventStore<S> {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, StoreError> {
        self.read(self.inner().load_leases(workers)).await
    }

    async fn change_leases(&self, request: &LeaseRequest) -> Result<Vec<bool>, StoreError> {
        self.write(self.inner().change_leases(request)).await
    }

    async fn set_paused(&self, paused: bool) -> Result<(), StoreError> {
        self.write(self.inner().set_paused(paused)).await
    }
}

impl<S: EventStore> Checkpoints for FaultyEventStore<S> {
    async fn load_checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        self.read(self.inner().load_checkpoints(name)).await
    }

    async fn save_checkpoints(&self, name: &str, to: &[Checkpoint]) -> Result<(), StoreError> {
        self.write(self.inner().save_checkpoints(name, to)).await
    }

    async fn rewind(&self, worker: &str, to: Checkpoint) -> Result<(), StoreError> {
        self.write(self.inner().rewind(worker, to)).await
    }
}

impl<S: EventStore> Outbox for FaultyEventStore<S> {
    async fn enqueue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        self.write(self.inner().enqueue(partition, rows, advance)).await
    }

    async fn park(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        self.write(self.inner().park(partition, rows, error)).await
    }

    async fn read_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.read(self.inner().read_outbox(after, limit)).await
    }

    async fn last_positions(&self, queues: &[Queue]) -> Result<Vec<QueuePosition>, StoreError> {
        self.read(self.inner().last_positions(queues)).await
    }

    async fn summarize_queues(&self, limit: usize) -> Result<Vec<QueueSummary>, StoreError> {
        self.read(self.inner().summarize_queues(limit)).await
    }

    async fn count_waiting(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<usize>, StoreError> {
        self.read(self.inner().count_waiting(queues, limit)).await
    }

    async fn queued_streams(&self, queue: &Queue) -> Result<Vec<StreamId>, StoreError> {
        self.read(self.inner().queued_streams(queue)).await
    }

    async fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        self.write(self.inner().settle(partition, settlements)).await
    }

    async fn wait_for_work(&self, seen: u64) -> Result<u64, StoreError> {
        self.inner().wait_for_work(seen).await
    }
}

impl<S: EventStore> Timers for FaultyEventStore<S> {
    async fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        self.read(self.inner().due_timers(queues, limit)).await
    }

    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        self.write(self.inner().settle_timers(partition, settlements)).await
    }
}

impl<S: EventStore> DeadLetters for FaultyEventStore<S> {
    async fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(self.inner().dead_letters(after, limit)).await
    }

    async fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        self.write(self.inner().decide_dead_letter(partition, id, decision)).await
    }

    async fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(self.inner().decided_dead_letters(queues, limit)).await
    }

    async fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        replies: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        self.write(self.inner().resolve_dead_letter(lease, letter, replies)).await
    }
}

impl<S: EventStore> Inbox for FaultyEventStore<S> {
    async fn load_inbox_entry(
        &self,
        stream: &StreamId,
        message_id: MessageId,
    ) -> Result<Option<InboxEntry>, StoreError> {
        self.read(self.inner().load_inbox_entry(stream, message_id)).await
    }

    async fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.write(self.inner().prune_inbox(partition, age, limit)).await
    }
}
