//! What waits in the queues of a log, for operators.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    ArmedTimer, DueTimer, Lease, LeaseAction, LeaseRequest, NewOutboxRow, OutboxKind,
    OutboxMessage, OutboxRow, Queue, QueueChange, QueuePosition, Settlement, StoreError,
    TimerQueue, TimerSettlement, WorkQueues as _,
};
use futures_util::{Stream, TryStreamExt as _, stream};

use crate::instance::runtime::AppContext;
use crate::worker::leases::worker_of;
use crate::worker::outbox::dead_letters::{mark_refused, refusal};

/// Counting the rows or dead letters of one queue ends here.
pub(crate) const MAX_COUNTED: usize = 10_000;

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
    /// The partition, the kind of work, and the target's, gateway's or policy's name.
    pub queue: Queue,
    /// The number of rows that wait, or of timers that are due. Counting ends at 10,000.
    pub rows: u64,
    /// The age of the first of them, by the store's clock; of timers, the time since it was due.
    pub oldest: Duration,
    /// The last error, or the reason for waiting, of the first row that has one.
    pub last_error: Option<String>,
    /// The number of dead letters. Counting ends at 10,000.
    pub dead_letters: u64,
    /// `true` if a running process has announced that it works the queue; `false` of all while the log
    /// is paused. Rows of a queue without a worker wait until one is registered, or they are parked or
    /// discarded.
    pub has_worker: bool,
}

/// A message that waits: a row of a queue, or a timer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitingMessage {
    /// Its queue. Of a timer, kind [`OutboxKind::Timer`] and the category.
    pub queue: Queue,
    /// The effect and its sender. Of a timer, the message that it delivers and its stream; the
    /// recipient is the timer's id.
    pub queued: OutboxMessage,
    /// The number of failed attempts.
    pub attempts: u32,
    place: RowLocation,
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

    /// Returns the state of every queue that has rows, timers that are due, or dead letters, in order
    /// of partitions, kinds and targets.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store cannot be read. Try again.
    pub async fn all(&self) -> Result<Vec<QueueStatus>, StoreError> {
        Ok(self.look().await?.0)
    }

    /// The state of every queue, and `true` if the log is paused.
    pub(crate) async fn look(&self) -> Result<(Vec<QueueStatus>, bool), StoreError> {
        let summaries = self.0.store.summarize_queues(MAX_COUNTED).await?;
        let workers: BTreeSet<String> = summaries.iter().map(|of| worker(&of.queue)).collect();
        let table = self.0.store.load_leases(&Vec::from_iter(workers)).await?;
        let announced: BTreeSet<String> = table.members.into_iter().map(|(of, _)| of).collect();
        let status = |of: composable_rust_core::QueueSummary| QueueStatus {
            has_worker: announced.contains(&worker(&of.queue)),
            queue: of.queue,
            rows: of.rows,
            oldest: of.oldest,
            last_error: of.last_error,
            dead_letters: of.dead_letters,
        };
        Ok((summaries.into_iter().map(status).collect(), table.paused))
    }

    /// Returns the messages that wait in a queue, in order; of timers, the first 10,000 that are due.
    ///
    /// # Errors
    ///
    /// The stream ends with a [`StoreError`] when the store cannot be read on.
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

    /// Puts a message among the dead letters, whether or not anything works its queue; what its
    /// sender sends to the same recipient from then on is parked behind it. One that has gone
    /// meanwhile is left alone.
    ///
    /// The queue's worker loses its lease of the partition and takes it up again within seconds; what
    /// it has under way is handled again, as after a crash.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it may not be parked. Try again.
    pub async fn park(&self, message: &WaitingMessage, reason: &str) -> Result<(), StoreError> {
        // A dead letter without an attempt is one that came too late; this one was judged.
        let (attempts, error) = (message.attempts.max(1), Some(reason.replace('\0', " ")));
        self.settle(message, QueueChange::Parked { attempts, error }).await
    }

    /// Gives a message up for good, whether or not anything works its queue: its sender is answered
    /// `Undelivered` (of a call, `Exhausted`), unless it was handled meanwhile. One that has gone is
    /// left alone. Of a stream that is to be published on, the event in the way is left out.
    ///
    /// The queue's worker loses its lease of the partition and takes it up again within seconds; what
    /// it has under way is handled again, as after a crash.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it may not be discarded. Try again.
    pub async fn discard(&self, message: &WaitingMessage) -> Result<(), StoreError> {
        let mut answers = refusal(&message.queue, &message.queued)?;
        if !mark_refused(&self.0, &message.queue, &message.queued).await? {
            answers.clear();
        }
        self.settle(message, QueueChange::Done(answers)).await
    }

    async fn settle(
        &self,
        message: &WaitingMessage,
        change: QueueChange,
    ) -> Result<(), StoreError> {
        let (queue, partition) = (message.queue.clone(), message.queue.partition);
        under_seized_lease(&self.0, &message.queue, async |lease| match &message.place {
            RowLocation::Row(place) => {
                let settlement = Settlement { lease, queue, position: *place, change };
                let settled = self.0.store.settle(partition, &[settlement]).await?;
                if settled == [true] { Ok(()) } else { Err(taken_over()) }
            }
            RowLocation::Timer(firing) => {
                let (stream, firing) = (message.queued.sender.clone(), firing.clone());
                let settlement = TimerSettlement { lease, stream, timer: firing, change };
                self.0.store.settle_timers(partition, &[settlement]).await
            }
        })
        .await?;
        self.0.unknowns.gone(&worker(&message.queue), &message.queued.row.id);
        Ok(())
    }
}

fn worker(queue: &Queue) -> String {
    worker_of(queue.kind, &queue.target)
}

fn taken_over() -> StoreError {
    StoreError::unavailable("another process took the queue over in the same moment")
}

fn waiting_row(row: OutboxRow) -> WaitingMessage {
    let OutboxRow { queue, position: place, message: queued, attempts, .. } = row;
    WaitingMessage { queue, queued, attempts, place: RowLocation::Row(place) }
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
        place: RowLocation::Timer(timer.timer),
    }
}

/// Acts on a queue as its worker, whoever that is. The worker's writes are refused from then on, as
/// after a takeover, so that it reads the queue anew.
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
        tracing::debug!(%error, "failed to release a seized lease; it lapses");
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
