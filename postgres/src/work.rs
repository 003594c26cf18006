//! Leases, queues, checkpoints, dead letters: what the methods promise stands at the port.

use std::time::Duration;

use composable_rust_core::{
    Checkpoint, CheckpointAdvance, DeadLetter, DeadLetterDecision, DueTimers, Lease, LeaseRequest,
    LeaseSnapshot, OutboxMessage, OutboxRow, Queue, QueuePosition, QueueSummary, Settlement,
    StoreError, StreamId, TimerQueue, TimerSettlement, WorkQueues,
};
use uuid::Uuid;

use crate::PostgresEventStore;

impl WorkQueues for PostgresEventStore {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, StoreError> {
        self.lease_table(workers).await
    }

    async fn change_leases(&self, round: &LeaseRequest) -> Result<Vec<bool>, StoreError> {
        self.lease_round(round).await
    }

    async fn set_paused(&self, paused: bool) -> Result<(), StoreError> {
        self.pause(paused).await
    }

    async fn load_checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        self.checkpoints(name).await
    }

    async fn save_checkpoints(&self, name: &str, to: &[Checkpoint]) -> Result<(), StoreError> {
        self.keep_positions(name, to).await
    }

    async fn rewind(&self, worker: &str, to: Checkpoint) -> Result<(), StoreError> {
        self.rewind_follower(worker, to).await
    }

    async fn enqueue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        self.queue(partition, rows, advance).await
    }

    async fn park(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        self.park_rows(partition, rows, error).await
    }

    async fn read_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.outbox(after, limit).await
    }

    async fn last_positions(&self, queues: &[Queue]) -> Result<Vec<QueuePosition>, StoreError> {
        self.last_places_of(queues).await
    }

    async fn summarize_queues(&self, limit: usize) -> Result<Vec<QueueSummary>, StoreError> {
        self.queue_summaries(limit).await
    }

    async fn count_waiting(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<usize>, StoreError> {
        self.rows_of(queues, limit).await
    }

    async fn queued_streams(&self, queue: &Queue) -> Result<Vec<StreamId>, StoreError> {
        self.streams_of(queue).await
    }

    async fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        self.settle_outbox(partition, settlements).await
    }

    async fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        self.timers(queues, limit).await
    }

    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        self.settle_due(partition, settlements).await
    }

    async fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.letters(after, limit).await
    }

    async fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        self.decide_letter(partition, id, decision).await
    }

    async fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.decided_letters(queues, limit).await
    }

    async fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        self.resolve_letter(lease, letter, answers).await
    }

    async fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.prune(partition, age, limit).await
    }

    async fn wait_for_work(&self, seen: u64) -> Result<u64, StoreError> {
        Ok(self.tail.work_since(seen).await)
    }
}
