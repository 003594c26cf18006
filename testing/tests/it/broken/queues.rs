//! The ports that `EventStore` builds on, with the defect between them and the suite.

use std::time::Duration;

use composable_rust_core::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints, DeadLetter, DeadLetterDecision, DeadLetters,
    DueTimers, Inbox, InboxEntry, Lease, LeaseRequest, LeaseSnapshot, Leases, Outbox,
    OutboxMessage, OutboxRow, Queue, QueuePosition, QueueSummary, Settlement, TimerQueue,
    TimerSettlement, Timers,
};
use composable_rust_core::store::StoreError;
use composable_rust_core::{MessageId, StreamId};
use uuid::Uuid;

use super::store::{Broken, Defect};

impl<D: Defect> Leases for Broken<D> {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, StoreError> {
        Ok(self.defect.leases(self.store.load_leases(workers).await?))
    }

    async fn change_leases(&self, round: &LeaseRequest) -> Result<Vec<bool>, StoreError> {
        Ok(self.defect.change_leases(&self.store, round))
    }

    async fn set_paused(&self, paused: bool) -> Result<(), StoreError> {
        self.store.set_paused(paused).await
    }
}

impl<D: Defect> Checkpoints for Broken<D> {
    async fn load_checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        Ok(self.defect.checkpoints(self.store.load_checkpoints(name).await?))
    }

    async fn save_checkpoints(&self, name: &str, to: &[Checkpoint]) -> Result<(), StoreError> {
        self.defect.keep_checkpoints(&self.store, name, to)
    }

    async fn rewind(&self, worker: &str, to: Checkpoint) -> Result<(), StoreError> {
        self.defect.rewind(&self.store, worker, to)
    }
}

impl<D: Defect> Outbox for Broken<D> {
    async fn enqueue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        self.defect.enqueue(&self.store, partition, rows, advance)
    }

    async fn park(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        self.defect.park(&self.store, partition, rows, error)
    }

    async fn read_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.defect.rows(self.store.read_outbox(after, limit).await?, limit))
    }

    async fn last_positions(&self, queues: &[Queue]) -> Result<Vec<QueuePosition>, StoreError> {
        Ok(self.defect.last_places(self.store.last_positions(queues).await?))
    }

    async fn summarize_queues(&self, limit: usize) -> Result<Vec<QueueSummary>, StoreError> {
        Ok(self.defect.summaries(self.store.summarize_queues(limit).await?))
    }

    async fn count_waiting(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<usize>, StoreError> {
        Ok(self.defect.counts(self.store.count_waiting(queues, limit).await?))
    }

    async fn queued_streams(&self, queue: &Queue) -> Result<Vec<StreamId>, StoreError> {
        Ok(self.defect.senders(self.store.queued_streams(queue).await?))
    }

    async fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        self.defect.settle(&self.store, partition, settlements)
    }

    async fn wait_for_work(&self, seen: u64) -> Result<u64, StoreError> {
        self.defect.work(&self.store, seen).await
    }
}

impl<D: Defect> Timers for Broken<D> {
    async fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.defect.due(&self.store, queues, limit))
    }

    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        self.defect.settle_timers(&self.store, partition, settlements)
    }
}

impl<D: Defect> DeadLetters for Broken<D> {
    async fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let partition = after.as_ref().map(|(queue, _)| queue.partition);
        let letters = self.store.dead_letters(after, limit).await?;
        Ok(self.defect.letters(letters, partition))
    }

    async fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        let is_kept = self.store.decide_dead_letter(partition, id, decision).await?;
        Ok(self.defect.decided(decision, is_kept))
    }

    async fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.store.decided_dead_letters(queues, limit).await
    }

    async fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        Ok(self.defect.resolve(&self.store, lease, letter, answers))
    }
}

impl<D: Defect> Inbox for Broken<D> {
    async fn load_inbox_entry(
        &self,
        stream: &StreamId,
        message_id: MessageId,
    ) -> Result<Option<InboxEntry>, StoreError> {
        Ok(self.defect.mark(self.store.load_inbox_entry(stream, message_id).await?))
    }

    async fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        Ok(self.defect.prune(&self.store, partition, age, limit))
    }
}
