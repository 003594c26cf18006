//! The queues of a log and the messages in them, for operators.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::queue::{
    ArmedTimer, DueTimer, Lease, LeaseAction, LeaseRequest, Leases as _, Outbox as _, OutboxKind,
    OutboxMessage, OutboxRow, Queue, QueueChange, QueuePosition, Settlement, TimerQueue,
    TimerSettlement, Timers as _,
};
use composable_rust_core::store::{Inspection as _, NewOutboxRow, StoreError};
use futures_util::{Stream, TryStreamExt as _, stream};

use crate::app::context::AppContext;
use crate::worker::dead_letters::{record_discarded, replies_to_discarded};
use crate::worker::worker_id::WorkerId;

/// The maximum number of rows or dead letters that are counted per queue.
pub(crate) const MAX_COUNTED: usize = 10_000;

/// The highest index of a row, as every store can keep it.
const MAX_INDEX: u32 = i32::MAX as u32;

/// The queues of a log: see [`App::queues`](crate::App::queues).
#[derive(Clone)]
pub struct Queues(Arc<AppContext>);

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Queues").field(&self.0.log.id).finish()
    }
}

/// The state of one queue in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStatus {
    /// The partition, the kind of work, and the name of the target, gateway or policy.
    pub queue: Queue,
    /// The number of rows that wait, or of timers that are due. Counting ends at 10,000.
    pub rows: u64,
    /// The age of the first row, by the store's clock; for timers, the time since the first was
    /// due.
    pub oldest: Duration,
    /// The last error, or the reason for waiting, of the first row that has one.
    pub last_error: Option<String>,
    /// The number of dead letters. Counting ends at 10,000.
    pub dead_letters: u64,
    /// `true` if a running process has announced that it works the queue; `None` while the log is
    /// paused, when no process announces anything. Rows of a queue without a worker wait until a
    /// worker is registered, or until they are parked or discarded.
    pub has_worker: Option<bool>,
}

/// A message that waits in a queue: a row of the outbox, or a timer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitingMessage {
    /// The message's queue. For a timer: the kind [`OutboxKind::Timer`] and the category.
    pub queue: Queue,
    /// The effect and its sender. For a timer: the message that it delivers and its stream; the
    /// recipient is the timer's id.
    pub queued: OutboxMessage,
    /// The number of failed attempts.
    pub attempts: u32,
    location: RowLocation,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RowLocation {
    Row(QueuePosition),
    Timer(ArmedTimer),
}

impl Queues {
    pub(crate) fn new(shared: &Arc<AppContext>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Returns the state of every queue that has rows, timers that are due, or dead letters, in
    /// order of partitions, kinds and targets.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store cannot be read. Retry.
    pub async fn all(&self) -> Result<Vec<QueueStatus>, StoreError> {
        let summaries = self.0.store.summarize_queues(MAX_COUNTED).await?;
        let workers: BTreeSet<String> = summaries.iter().map(|of| worker(&of.queue)).collect();
        let table = self.0.store.load_leases(&Vec::from_iter(workers)).await?;
        let announced: BTreeSet<String> = table.members.iter().map(|(of, _)| of.clone()).collect();
        let is_paused = table.is_log_paused();
        let status = |of: composable_rust_core::queue::QueueSummary| QueueStatus {
            has_worker: (!is_paused).then(|| announced.contains(&worker(&of.queue))),
            queue: of.queue,
            rows: of.rows,
            oldest: of.oldest,
            last_error: of.last_error,
            dead_letters: of.dead_letters,
        };
        Ok(summaries.into_iter().map(status).collect())
    }

    /// Returns the messages that wait in a queue, in order; for timers, the first 10,000 that are
    /// due.
    ///
    /// # Errors
    ///
    /// The stream ends with a [`StoreError`] if the store cannot be read.
    pub fn messages(
        &self,
        queue: &Queue,
    ) -> impl Stream<Item = Result<WaitingMessage, StoreError>> + Send + use<> {
        const PAGE: usize = 500;
        let start = (Arc::clone(&self.0), queue.clone(), Some(QueuePosition::default()));
        let pages = stream::try_unfold(start, |(shared, queue, after)| async move {
            let Some(after) = after else { return Ok::<_, StoreError>(None) };
            let (page, next) = if queue.kind == OutboxKind::Timer {
                let (partition, category) = (queue.partition, queue.target.clone());
                let of = [TimerQueue { partition, category }];
                let due = shared.store.due_timers(&of, MAX_COUNTED).await?;
                let timer = |timer| waiting_timer(&shared, &queue, timer);
                (due.timers.into_iter().map(timer).collect::<Vec<_>>(), None)
            } else {
                let rows = shared.store.read_outbox(&[(queue.clone(), after)], PAGE).await?;
                let next = rows.last().map(|row| row.position).filter(|_| rows.len() >= PAGE);
                (rows.into_iter().map(waiting_row).collect(), next)
            };
            let page = stream::iter(page.into_iter().map(Ok));
            Ok(Some((page, (shared, queue, next))))
        });
        pages.try_flatten()
    }

    /// Parks a message among the dead letters, with or without a worker for its queue. Later
    /// messages from its sender to the same recipient are parked behind it. Returns `false`, and
    /// does nothing, if the message was handled meanwhile.
    ///
    /// The queue's worker loses its lease of the partition and takes it again within seconds. The
    /// work that it has under way is repeated, as after a crash.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the message may not be parked. Retry.
    pub async fn park(&self, message: &WaitingMessage, reason: &str) -> Result<bool, StoreError> {
        // Zero attempts mark a dead letter that was redelivered too late, which this one is not.
        let (attempts, error) = (message.attempts.max(1), Some(reason.replace('\0', " ")));
        self.settle(message, QueueChange::Parked { attempts, error }).await
    }

    /// Discards a message, with or without a worker for its queue: its sender gets the reply
    /// `Undelivered` (for a call, `Exhausted`). If the message is an event that blocks the
    /// publication of its stream, the event is left out. Returns `false`, and does nothing, if the
    /// message was handled meanwhile.
    ///
    /// The queue's worker loses its lease of the partition and takes it again within seconds. The
    /// work that it has under way is repeated, as after a crash.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the message may not be discarded. Retry.
    pub async fn discard(&self, message: &WaitingMessage) -> Result<bool, StoreError> {
        let mut replies = replies_to_discarded(&message.queue, &message.queued)?;
        if !record_discarded(&self.0, &message.queue, &message.queued).await? {
            replies.clear();
        }
        self.settle(message, QueueChange::Done(replies)).await
    }

    /// Changes a message, if it still waits.
    async fn settle(
        &self,
        message: &WaitingMessage,
        change: QueueChange,
    ) -> Result<bool, StoreError> {
        let (queue, partition) = (message.queue.clone(), message.queue.partition);
        let settled = under_seized_lease(&self.0, &message.queue, async |lease| {
            // Under the lease, no worker settles it from now on.
            if !self.still_waits(message).await? {
                return Ok(false);
            }
            match &message.location {
                RowLocation::Row(position) => {
                    let settlement = Settlement { lease, queue, position: *position, change };
                    let settled = self.0.store.settle(partition, &[settlement]).await?;
                    if settled == [true] { Ok(true) } else { Err(taken_over()) }
                }
                RowLocation::Timer(firing) => {
                    let (stream, timer) = (message.queued.sender.clone(), firing.clone());
                    let settlement = TimerSettlement { lease, stream, timer, change };
                    self.0.store.settle_timers(partition, &[settlement]).await.map(|()| true)
                }
            }
        })
        .await?;
        self.0.unknowns.gone(&worker(&message.queue), &message.queued.row.id);
        Ok(settled)
    }

    async fn still_waits(&self, message: &WaitingMessage) -> Result<bool, StoreError> {
        let store = &self.0.store;
        match &message.location {
            RowLocation::Row(position) => {
                let before = QueuePosition {
                    sequence: position.sequence.saturating_sub(1),
                    index: MAX_INDEX,
                };
                let after = if position.index == 0 {
                    before
                } else {
                    QueuePosition { index: position.index - 1, ..*position }
                };
                let rows = store.read_outbox(&[(message.queue.clone(), after)], 1).await?;
                Ok(rows.first().is_some_and(|row| row.position == *position))
            }
            RowLocation::Timer(firing) => {
                let timers = store.timers_of(&message.queued.sender).await?;
                Ok(timers.iter().any(|of| of.timer.timer == *firing))
            }
        }
    }
}

fn worker(queue: &Queue) -> String {
    WorkerId::of_queue(queue.kind, &queue.target).to_string()
}

fn taken_over() -> StoreError {
    StoreError::unavailable("another process took the queue over at the same moment")
}

fn waiting_row(row: OutboxRow) -> WaitingMessage {
    let OutboxRow { queue, position, message: queued, attempts, .. } = row;
    WaitingMessage { queue, queued, attempts, location: RowLocation::Row(position) }
}

fn waiting_timer(shared: &AppContext, queue: &Queue, timer: DueTimer) -> WaitingMessage {
    let row = NewOutboxRow {
        id: timer.timer.message_id(shared.log.id, &timer.stream).0,
        kind: OutboxKind::Timer,
        target: queue.target.clone(),
        recipient: timer.timer.id.clone(),
        content: timer.content,
        metadata: timer.metadata,
    };
    WaitingMessage {
        queue: queue.clone(),
        queued: OutboxMessage { sender: timer.stream, row },
        attempts: timer.attempts,
        location: RowLocation::Timer(timer.timer),
    }
}

/// Takes the lease of a queue from its worker, calls `act` under it, and releases it. As after any
/// takeover, the worker's writes are fenced from then on, so that it reads the queue again.
pub(crate) async fn under_seized_lease<T>(
    shared: &AppContext,
    queue: &Queue,
    act: impl AsyncFnOnce(Lease) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let holder = shared.ids.new_id();
    let lease = seize(shared, holder, queue).await?;
    let acted = act(lease.clone()).await;
    let round = LeaseRequest {
        holder,
        workers: Vec::new(),
        ttl: shared.settings.lease_ttl,
        min_epoch: 0,
        changes: vec![(lease, LeaseAction::Release)],
    };
    if let Err(error) = shared.store.change_leases(&round).await {
        tracing::debug!(%error, "failed to release a seized lease; it expires by itself");
    }
    acted
}

async fn seize(
    shared: &AppContext,
    holder: uuid::Uuid,
    queue: &Queue,
) -> Result<Lease, StoreError> {
    const MAX_ATTEMPTS: u32 = 10;
    let workers = [worker(queue)];
    for _ in 0..MAX_ATTEMPTS {
        let leases = shared.store.load_leases(&workers).await?.leases;
        let standing = leases.into_iter().find(|of| of.lease.partition == queue.partition);
        let epoch = standing.map_or(0, |of| of.lease.epoch);
        let lease = Lease { worker: worker(queue), partition: queue.partition, epoch };
        let min_epoch = u64::try_from(shared.clock.now().as_micros()).unwrap_or(0);
        let round = LeaseRequest {
            holder,
            workers: Vec::new(),
            ttl: shared.settings.lease_ttl,
            min_epoch,
            changes: vec![(lease.clone(), LeaseAction::Seize)],
        };
        if shared.store.change_leases(&round).await? == [true] {
            return Ok(Lease { epoch: min_epoch.max(epoch + 1), ..lease });
        }
    }
    Err(taken_over())
}
