//! The port to what follows from commits.

use std::time::Duration;

use composable_rust_core::{
    Checkpoint, CheckpointAdvance, DeadLetter, DeadLetterDecision, DueTimers, EventStore as _,
    Lease, LeaseRequest, LeaseSnapshot, OutboxMessage, OutboxRow, Queue, QueueChange,
    QueuePosition, QueueSummary, Settlement, StoreError, StreamId, TimerQueue, TimerSettlement,
    WorkQueues, validate_enqueue, validate_partition, validate_rows, validate_settlements,
    validate_timer_settlements,
};
use uuid::Uuid;

use super::InMemoryEventStore;

impl WorkQueues for InMemoryEventStore {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, StoreError> {
        Ok(self.locked().lease_table(workers))
    }

    async fn change_leases(&self, round: &LeaseRequest) -> Result<Vec<bool>, StoreError> {
        Ok(self.locked().change_leases(round))
    }

    async fn set_paused(&self, paused: bool) -> Result<(), StoreError> {
        self.locked().paused = paused;
        Ok(())
    }

    async fn load_checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        Ok(self.locked().checkpoints(name))
    }

    async fn save_checkpoints(&self, name: &str, to: &[Checkpoint]) -> Result<(), StoreError> {
        self.locked().keep_checkpoints(name, to);
        Ok(())
    }

    async fn rewind(&self, worker: &str, to: Checkpoint) -> Result<(), StoreError> {
        validate_partition(self.log(), to.partition)?;
        self.locked().rewind(worker, to);
        Ok(())
    }

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
        Ok(self.locked().last_places(queues))
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
        if settlements.iter().any(|settlement| queues_more(&settlement.change)) {
            self.has_work();
        }
        Ok(settled)
    }

    async fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        Ok(self.locked().due_timers(queues, limit))
    }

    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        validate_timer_settlements(self.log(), partition, settlements)?;
        self.locked().settle_timers(partition, settlements);
        if settlements.iter().any(|settlement| queues_more(&settlement.change)) {
            self.has_work();
        }
        Ok(())
    }

    async fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.locked().dead_letters(after.as_ref(), limit))
    }

    async fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        let is_kept = self.locked().decide(partition, id, decision);
        if is_kept {
            self.has_work();
        }
        Ok(is_kept)
    }

    async fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.locked().decided(queues, limit))
    }

    async fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        validate_partition(self.log(), lease.partition)?;
        validate_rows(answers)?;
        let is_done = self.locked().resolve(lease, letter, answers);
        if is_done {
            self.has_work();
        }
        Ok(is_done)
    }

    async fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        validate_partition(self.log(), partition)?;
        Ok(self.locked().prune_marks(partition, age, limit))
    }

    async fn wait_for_work(&self, seen: u64) -> Result<u64, StoreError> {
        Ok(self.work_since(seen).await)
    }
}

fn queues_more(change: &QueueChange) -> bool {
    matches!(change, QueueChange::Done(rows) if !rows.is_empty())
}
