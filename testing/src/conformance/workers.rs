//! Operations of the cases as workers: holding leases, reading queues, settling rows.

use std::future::Future;
use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::queue::{
    DeadLetter, DeadLetters as _, DueTimer, DueTimers, Lease, LeaseAction, LeaseRequest,
    LeaseSnapshot, LeaseStatus, Leases as _, Outbox as _, OutboxKind, OutboxMessage, OutboxRow,
    Queue, QueueChange, QueuePosition, Settlement, TimerQueue, Timers as _,
};
use composable_rust_core::store::NewOutboxRow;
use uuid::Uuid;

use super::builders::{content, fresh_id, json, metadata};
use super::subject::StoreUnderTest;

/// A lease time longer than any case.
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
/// A lease time short enough to wait for.
pub(super) const SOON: Duration = Duration::from_millis(30);

/// A process that holds a lease.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) holder: Uuid,
    pub(super) lease: Lease,
}

/// Waits until a condition holds. Unlike [`eventually`](crate::eventually()), its future is `Send`.
pub(super) async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    for _ in 0..1_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("timed out waiting for {what}");
}

/// An outbox row for instance `recipient` of the target `other`.
pub(super) fn row(recipient: &str) -> NewOutboxRow {
    let id = fresh_id();
    NewOutboxRow {
        id,
        kind: OutboxKind::Dispatch,
        target: "other".to_owned(),
        recipient: recipient.to_owned(),
        content: content(id.as_bytes()),
        metadata: metadata(),
    }
}

pub(super) fn queued(sender: &StreamId, recipient: &str) -> OutboxMessage {
    OutboxMessage { sender: sender.clone(), row: row(recipient) }
}

/// The queue of the rows of [`row`].
pub(super) fn queue(partition: u16) -> Queue {
    Queue { partition, kind: OutboxKind::Dispatch, target: "other".to_owned() }
}

/// The comparable parts of an outbox message, since a store may change the notation of metadata.
pub(super) fn essence(queued: &OutboxMessage) -> (OutboxMessage, serde_json::Value) {
    let mut plain = queued.clone();
    plain.row.metadata = String::new();
    (plain, json(&queued.row.metadata))
}

pub(super) fn essences<'a>(
    queued: impl IntoIterator<Item = &'a OutboxMessage>,
) -> Vec<(OutboxMessage, serde_json::Value)> {
    queued.into_iter().map(essence).collect()
}

pub(super) fn ids<'a>(queued: impl IntoIterator<Item = &'a OutboxMessage>) -> Vec<Uuid> {
    queued.into_iter().map(|queued| queued.row.id).collect()
}

pub(super) fn failed(attempts: u32, retry_after: Duration) -> QueueChange {
    QueueChange::Failed { attempts, retry_after, error: "it's \"down\"".to_owned() }
}

pub(super) fn parked(attempts: u32, error: Option<&str>) -> QueueChange {
    QueueChange::Parked { attempts, error: error.map(str::to_owned) }
}

/// The queue of a stream's timers.
pub(super) fn timers_of(on: &StoreUnderTest, stream: &StreamId) -> TimerQueue {
    let partition = on.log().partition_of(stream);
    TimerQueue { partition, category: stream.category().to_owned() }
}

/// The due timers of a stream, in order of ids.
pub(super) async fn armed(on: &StoreUnderTest, stream: &StreamId) -> Vec<DueTimer> {
    let mut due = on.due(&[timers_of(on, stream)], 1_000).await.timers;
    due.retain(|timer| timer.stream == *stream);
    due.sort_by(|a, b| a.timer.id.cmp(&b.timer.id));
    due
}

impl Worker {
    pub(super) fn settlement(&self, row: &OutboxRow, change: QueueChange) -> Settlement {
        Settlement {
            lease: self.lease.clone(),
            queue: row.queue.clone(),
            position: row.position,
            change,
        }
    }
}

impl StoreUnderTest {
    pub(super) async fn leases(&self, workers: &[&str]) -> LeaseSnapshot {
        let workers: Vec<_> = workers.iter().map(|&worker| worker.to_owned()).collect();
        self.store.load_leases(&workers).await.expect("the leases are read")
    }

    /// The current state of a lease, if it was ever held.
    pub(super) async fn lease(&self, worker: &str, partition: u16) -> Option<LeaseStatus> {
        let leases = self.leases(&[worker]).await.leases;
        leases.into_iter().find(|standing| standing.lease.partition == partition)
    }

    pub(super) async fn change_leases(&self, round: &LeaseRequest) -> Vec<bool> {
        let changed = self.store.change_leases(round).await.expect("the leases are changed");
        assert_eq!(changed.len(), round.changes.len(), "one answer for each change");
        changed
    }

    /// A request for one change of a lease by `holder`, who announces its worker.
    pub(super) async fn change(
        &self,
        holder: Uuid,
        lease: &Lease,
        action: LeaseAction,
        ttl: Duration,
    ) -> bool {
        let workers = vec![lease.worker.clone()];
        let changes = vec![(lease.clone(), action)];
        self.change_leases(&LeaseRequest { holder, workers, ttl, min_epoch: 0, changes }).await
            == [true]
    }

    /// A process that acquires a free lease.
    pub(super) async fn worker(&self, worker: &str, partition: u16) -> Worker {
        let standing = self.lease(worker, partition).await;
        let epoch = standing.map_or(0, |standing| standing.lease.epoch);
        let mut lease = Lease { worker: worker.to_owned(), partition, epoch };
        let holder = fresh_id();
        assert!(self.change(holder, &lease, LeaseAction::Claim, HOUR).await, "it is free");
        lease.epoch += 1;
        Worker { holder, lease }
    }

    /// A process that seizes the lease of this one.
    pub(super) async fn successor(&self, of: &Worker) -> Worker {
        assert!(self.change(of.holder, &of.lease, LeaseAction::Release, HOUR).await, "it is held");
        self.worker(&of.lease.worker, of.lease.partition).await
    }

    pub(super) async fn enqueue(&self, partition: u16, rows: &[OutboxMessage]) {
        let done = self.store.enqueue(partition, rows, None).await.expect("the rows are queued");
        assert!(done, "nothing forbids it");
    }

    /// One page of a queue.
    pub(super) async fn queue_page(
        &self,
        queue: &Queue,
        after: QueuePosition,
        limit: usize,
    ) -> Vec<OutboxRow> {
        let after = [(queue.clone(), after)];
        self.store.read_outbox(&after, limit).await.expect("the queue is read")
    }

    /// All rows of a queue. Sequences must rise.
    pub(super) async fn waiting(&self, queue: &Queue) -> Vec<OutboxRow> {
        let mut all: Vec<OutboxRow> = Vec::new();
        loop {
            let last = all.last().map(|row| row.position).unwrap_or_default();
            let page = self.queue_page(queue, last, 100).await;
            if page.is_empty() {
                return all;
            }
            for row in page {
                assert_eq!(row.queue, *queue);
                assert!(all.last().is_none_or(|last| last.position < row.position), "{row:?}");
                all.push(row);
            }
        }
    }

    pub(super) async fn settle(&self, settlements: &[Settlement]) -> Vec<bool> {
        let partition = settlements.first().map_or(0, |settlement| settlement.lease.partition);
        let settled =
            self.store.settle(partition, settlements).await.expect("the rows should be settled");
        assert_eq!(settled.len(), settlements.len(), "one answer for each settlement");
        settled
    }

    /// Settles one row. Returns `true` if the worker could.
    pub(super) async fn settle_one(
        &self,
        worker: &Worker,
        row: &OutboxRow,
        change: QueueChange,
    ) -> bool {
        self.settle(&[worker.settlement(row, change)]).await == [true]
    }

    pub(super) async fn due(&self, queues: &[TimerQueue], limit: usize) -> DueTimers {
        self.store.due_timers(queues, limit).await.expect("the timers are read")
    }

    /// All dead letters, read in pages of `limit`.
    pub(super) async fn dead_letters(&self, limit: usize) -> Vec<DeadLetter> {
        let mut all: Vec<DeadLetter> = Vec::new();
        loop {
            let last = all.last().map(|last| (last.queue.clone(), last.position));
            let page = self.store.dead_letters(last, limit).await.expect("the page is read");
            assert!(page.len() <= limit, "a page of {limit}");
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }
}
