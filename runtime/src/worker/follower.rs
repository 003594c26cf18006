//! Following the log under leases: page by page, with a checkpoint for each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints as _, Outbox as _, OutboxMessage, Queue,
};
use composable_rust_core::store::{EventStore as _, SharedEventStore, StoreError};
use composable_rust_core::{EventId, Position};
use tokio::task::JoinSet;

use crate::panic::guarded_future;
use crate::worker::context::WorkerContext;
use crate::worker::leases::{HeldLease, UnderLease, remove_released};
use crate::worker::outcome::Failure;
use crate::worker::page_size::PageSize;
use crate::worker::queue_bounds::{FULL_QUEUE_PAUSE, FullQueuePause};
use crate::worker::retry::dependency_backoff;

/// Events of one partition that the first page has. Later pages depend on the events' size.
const FIRST_PAGE: usize = 500;
/// Interval at which a log is read of which the store has no news, in case it has missed some.
pub(crate) const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Handles the events of the log.
pub(crate) trait LogHandler: Send + Sync {
    /// Returns the name of the leases and checkpoints, which must not change.
    fn name(&self) -> &str;

    /// Returns `true` if the handler starts at the beginning of the log, not at its end.
    fn starts_at_beginning(&self) -> bool;

    /// Called when a partition is taken over, with the stored checkpoint.
    fn take_over(
        &mut self,
        _held: &Arc<HeldLease>,
        _stored: Option<Checkpoint>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Returns the maximum number of events of one partition that are handled at a time.
    fn max_page(&self) -> usize {
        1_000
    }

    /// Returns the pause after which a log without news is read.
    fn poll_interval(&self, context: &WorkerContext) -> Duration {
        context.poll_interval(IDLE_POLL_INTERVAL)
    }

    /// Returns `true` if the handler acts on news about the queues.
    fn hears_of_work(&self) -> bool {
        false
    }

    /// Called when the queues may have work, if the handler acts on that.
    fn on_work(&mut self) {}

    /// Returns the queues that are added to from a partition: the partition waits while one of them
    /// is full.
    fn queues(&self, _partition: u16) -> Vec<Queue> {
        Vec::new()
    }

    /// Called before each page, with the offset of the checkpoint, and also when no page follows.
    fn between_pages(
        &mut self,
        _held: &Arc<HeldLease>,
        _at: u64,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// Called when a partition is released.
    fn release(&mut self, partition: u16);

    /// Handles events of one partition, in order. Returns the rows to be queued together with the
    /// checkpoint, and the number of events that they are for.
    fn handle(
        &mut self,
        held: &Arc<HeldLease>,
        events: &[StoredEvent],
    ) -> impl Future<Output = Result<(Vec<OutboxMessage>, usize), Failure>> + Send;
}

/// A partition that is followed under a lease.
struct PartitionCursor {
    held: Arc<HeldLease>,
    at: Checkpoint,
    pause: FullQueuePause,
}

impl UnderLease for PartitionCursor {
    fn lease(&self) -> &Arc<HeldLease> {
        &self.held
    }
}

/// A page that was handled, and the result of queueing it with its checkpoint.
struct SavedCheckpoint {
    held: Arc<HeldLease>,
    to: Checkpoint,
    events: usize,
    result: Result<(), Failure>,
}

/// Reads the partitions of the log whose leases this process holds, and has a handler handle them.
pub(crate) struct Follower<F> {
    context: Arc<WorkerContext>,
    handler: F,
    partitions: BTreeMap<u16, PartitionCursor>,
    /// Partitions that are not read for now, and the monotonic times until which they are not.
    paused: BTreeMap<u16, Duration>,
    /// Pages that are being queued, at most one of each partition: a partition that is locked
    /// delays no other.
    saving: JoinSet<SavedCheckpoint>,
    partitions_saving: BTreeSet<u16>,
    /// Consecutive failures to read the log.
    failures: u32,
    /// Consecutive failures to handle a page of a partition.
    partition_failures: BTreeMap<u16, u32>,
    /// The only partition that is followed; `None` for all.
    only: Option<u16>,
    page: PageSize,
}

impl<F: LogHandler> Follower<F> {
    pub(crate) fn new(context: Arc<WorkerContext>, handler: F) -> Self {
        let page = PageSize::new(FIRST_PAGE, handler.max_page());
        Self {
            context,
            handler,
            partitions: BTreeMap::new(),
            paused: BTreeMap::new(),
            saving: JoinSet::new(),
            partitions_saving: BTreeSet::new(),
            failures: 0,
            partition_failures: BTreeMap::new(),
            only: None,
            page,
        }
    }

    /// Follows one partition only.
    pub(crate) fn of_partition(mut self, partition: u16) -> Self {
        self.only = Some(partition);
        self
    }

    pub(crate) async fn run(mut self) {
        let context = Arc::clone(&self.context);
        let (mut leases, mut wake) = (context.leases.changes(), context.wake.clone());
        while !context.stop.is_cancelled() {
            while let Some(saved) = self.saving.try_join_next() {
                self.advance(saved.ok());
            }
            let stepped = self.step().await;
            let wait = match stepped {
                Ok(true) => {
                    self.failures = 0;
                    continue;
                }
                Ok(false) => None,
                Err(error) => {
                    let follower = self.handler.name();
                    tracing::warn!(follower, %error, "failed to read the log; retrying");
                    self.failures += 1;
                    self.reset();
                    Some(dependency_backoff(self.failures))
                }
            };
            let after: Vec<_> = self.positions();
            let idle = self.handler.poll_interval(&context);
            let pause = wait.unwrap_or_else(|| self.until_resumed().unwrap_or(idle).min(idle));
            let hears_of_work = self.handler.hears_of_work();
            tokio::select! {
                biased;
                () = context.stop.cancelled() => break,
                Some(saved) = self.saving.join_next() => self.advance(saved.ok()),
                _ = leases.changed() => {}
                waited = context.store().wait_for_events(&after), if wait.is_none() && !after.is_empty() => {
                    if waited.is_err() {
                        self.reset();
                        if !context.pause(Duration::from_millis(500)).await {
                            break;
                        }
                    }
                }
                _ = wake.changed(), if hears_of_work => self.handler.on_work(),
                () = context.sleep(pause) => {}
            }
        }
        // A page that is being queued is not handled again.
        while self.saving.join_next().await.is_some() {}
    }

    /// Returns the time until the first paused partition is read again.
    fn until_resumed(&self) -> Option<Duration> {
        let now = self.context.now();
        self.paused.values().min().map(|until| until.saturating_sub(now))
    }

    /// Releases all partitions: a log that was unavailable may have been restored, so it is
    /// compared with the checkpoints again.
    fn reset(&mut self) {
        for partition in std::mem::take(&mut self.partitions).into_keys() {
            self.handler.release(partition);
        }
    }

    fn positions(&self) -> Vec<Position> {
        let now = self.context.now();
        self.partitions
            .iter()
            .filter(|(partition, _)| self.paused.get(partition).is_none_or(|until| *until <= now))
            .filter(|(partition, _)| !self.partitions_saving.contains(partition))
            .map(|(partition, cursor)| Position::new(*partition, cursor.at.offset))
            .collect()
    }

    /// Reads and handles a page of each partition. Returns `true` if an event was handled.
    async fn step(&mut self) -> Result<bool, StoreError> {
        let now = self.context.now();
        self.paused.retain(|_, until| *until > now);
        self.take_partitions().await;
        for Position { partition, offset } in self.positions() {
            let Some(cursor) = self.partitions.get(&partition) else { continue };
            let held = Arc::clone(&cursor.held);
            if let Err(failure) = self.handler.between_pages(&held, offset).await {
                self.stop(partition, failure);
            }
        }
        self.pause_full().await?;
        let after = self.positions();
        if after.is_empty() {
            return Ok(false);
        }
        let events = self.context.store().read_log(&after, self.page.rows()).await?;
        let size = |event: &StoredEvent| match &event.content {
            StoredContent::Present(content) => content.bytes.len() + event.metadata.len(),
            _ => 0,
        };
        let (count, bytes) = (events.len(), events.iter().map(size).sum());
        let mut pages: BTreeMap<u16, Vec<StoredEvent>> = BTreeMap::new();
        for event in events {
            pages.entry(event.position.partition).or_default().push(event);
        }
        let (mut any, mut has_failed) = (false, false);
        for (partition, events) in pages {
            match self.take_page(partition, &events).await {
                Ok(()) => any = true,
                Err(failure) => {
                    has_failed |= matches!(failure, Failure::Unavailable(_));
                    self.stop(partition, failure);
                }
            }
        }
        if has_failed {
            self.page.failed(count);
        } else {
            self.page.was_read(bytes, count >= self.page.rows());
        }
        Ok(any)
    }

    /// Pauses the partitions whose queues are full.
    async fn pause_full(&mut self) -> Result<(), StoreError> {
        let partitions = self.positions().into_iter().map(|position| position.partition);
        let partitions: Vec<u16> = partitions.collect();
        let queues = partitions.iter().flat_map(|of| self.handler.queues(*of)).collect();
        let full = self.context.full_queues(self.handler.name(), queues).await?;
        let now = self.context.now();
        for partition in partitions {
            let Some(cursor) = self.partitions.get_mut(&partition) else { continue };
            let is_full = full.iter().any(|queue| queue.partition == partition);
            if !cursor.pause.is_over(is_full, now) {
                self.paused.insert(partition, now + FULL_QUEUE_PAUSE);
            }
        }
        Ok(())
    }

    /// Handles a page, and begins to queue its rows.
    async fn take_page(&mut self, partition: u16, events: &[StoredEvent]) -> Result<(), Failure> {
        let Some(cursor) = self.partitions.get(&partition) else { return Ok(()) };
        let held = Arc::clone(&cursor.held);
        if !held.admits(self.context.clock(), Duration::ZERO) {
            return Err(Failure::Unavailable("the lease has lapsed".to_owned()));
        }
        let (rows, done) = self.handler.handle(&held, events).await?;
        let Some(last) = done.checked_sub(1).and_then(|index| events.get(index)) else {
            return Ok(());
        };
        let offset = last.position.offset;
        let to = Checkpoint { partition, offset, event_id: Some(last.id) };
        let (context, name) = (Arc::clone(&self.context), self.handler.name().to_owned());
        let events = events.len();
        self.partitions_saving.insert(partition);
        self.saving.spawn(async move {
            let saving = guarded_future(save(&context, name, &held, to, &rows));
            let panicked =
                |message| Err(Failure::Unavailable(format!("queueing a page panicked: {message}")));
            let result = saving.await.unwrap_or_else(panicked);
            SavedCheckpoint { held, to, events, result }
        });
        Ok(())
    }

    /// Moves the cursor behind a page that was queued.
    fn advance(&mut self, saved: Option<SavedCheckpoint>) {
        let Some(SavedCheckpoint { held, to, events, result }) = saved else { return };
        let partition = to.partition;
        self.partitions_saving.remove(&partition);
        // The partition may have been released meanwhile.
        let of = self.partitions.get_mut(&partition).filter(|of| Arc::ptr_eq(&of.held, &held));
        let Some(cursor) = of else { return };
        match result {
            Ok(()) => {
                let next = Position::new(partition, cursor.at.offset + 1);
                cursor.at = to;
                self.partition_failures.remove(&partition);
                self.context.shared.unknowns.gone(self.handler.name(), &next);
            }
            Err(failure) => {
                if matches!(failure, Failure::Unavailable(_)) {
                    self.page.failed(events);
                }
                self.stop(partition, failure);
            }
        }
    }

    /// Takes over the partitions whose leases came, and releases those whose leases went.
    async fn take_partitions(&mut self) {
        let held = self.context.leases.of(self.handler.name()).into_iter();
        let held = held.map(|held| (held.lease.partition, held));
        let held: BTreeMap<_, _> =
            held.filter(|(of, _)| self.only.is_none_or(|only| *of == only)).collect();
        for partition in remove_released(&mut self.partitions, &held) {
            self.handler.release(partition);
        }
        for (partition, held) in held {
            let is_busy =
                self.paused.contains_key(&partition) || self.partitions_saving.contains(&partition);
            if is_busy || self.partitions.contains_key(&partition) {
                continue;
            }
            match self.take_over(&held).await {
                Ok(at) => {
                    let pause = FullQueuePause::default();
                    self.partitions.insert(partition, PartitionCursor { held, at, pause });
                }
                Err(failure) => self.stop(partition, failure),
            }
        }
    }

    /// Takes over a partition, and returns the checkpoint after which it is read.
    async fn take_over(&mut self, held: &Arc<HeldLease>) -> Result<Checkpoint, Failure> {
        let partition = held.lease.partition;
        let store = self.context.store();
        let stored = store.load_checkpoints(self.handler.name()).await?;
        let stored = stored.into_iter().find(|checkpoint| checkpoint.partition == partition);
        self.handler.take_over(held, stored).await?;
        let store = self.context.store();
        if let Some(stored) = stored {
            let event_id = compare_with_log(store, &stored).await?;
            return Ok(Checkpoint { event_id, ..stored });
        }
        if self.handler.starts_at_beginning() {
            return Ok(Checkpoint { partition, offset: 0, event_id: None });
        }
        let heads = self.context.shared.first_ends().await?;
        let last = heads.iter().find(|position| position.partition == partition);
        let offset = last.map_or(0, |position| position.offset);
        let at = Checkpoint { partition, offset, event_id: None };
        let at = Checkpoint { event_id: compare_with_log(store, &at).await?, ..at };
        save(&self.context, self.handler.name().to_owned(), held, at, &[]).await?;
        Ok(at)
    }

    /// Releases a partition after a failure, and pauses it.
    fn stop(&mut self, partition: u16, failure: Failure) {
        let name = self.handler.name().to_owned();
        let cursor = self.partitions.remove(&partition);
        let next = cursor.as_ref().map_or(1, |cursor| cursor.at.offset + 1);
        let held = cursor.map(|cursor| cursor.held);
        self.handler.release(partition);
        let pause = match failure {
            Failure::Fenced => {
                tracing::info!(follower = name, partition, "another process has taken over");
                if let Some(held) = held {
                    self.context.leases.lost(&held);
                }
                Duration::from_millis(100)
            }
            Failure::NeedsNewerCode(newer) => {
                let at = Position::new(partition, next);
                let encounter = self.context.meet(&name, &newer, &at);
                self.context.leases.withdraw(&name, encounter.is_first);
                Duration::from_secs(5)
            }
            Failure::LogRewound(reason) => {
                tracing::error!(
                    follower = name,
                    partition,
                    reason,
                    "the log was rewound below the checkpoint; the follower has stopped"
                );
                Duration::from_secs(60)
            }
            failure => {
                tracing::warn!(
                    follower = name, partition, error = %failure,
                    "follower failed to handle events; retrying"
                );
                let failures = self.partition_failures.entry(partition).or_default();
                *failures += 1;
                dependency_backoff(*failures)
            }
        };
        self.paused.insert(partition, self.context.now() + pause);
    }
}

/// Queues rows together with the checkpoint.
async fn save(
    context: &WorkerContext,
    name: String,
    held: &HeldLease,
    to: Checkpoint,
    rows: &[OutboxMessage],
) -> Result<(), Failure> {
    let advance = CheckpointAdvance { name, lease: held.lease.clone(), to };
    let saved = context.store().enqueue(to.partition, rows, Some(&advance)).await?;
    context.has_queued(to.partition, rows);
    if saved { Ok(()) } else { Err(Failure::Fenced) }
}

/// Returns the id of the event at a position.
pub(crate) async fn event_at(
    store: &SharedEventStore,
    at: Position,
) -> Result<Option<EventId>, StoreError> {
    let Some(before) = at.offset.checked_sub(1) else { return Ok(None) };
    let events = store.read_log(&[Position::new(at.partition, before)], 1).await?;
    Ok(events.into_iter().find(|event| event.position == at).map(|event| event.id))
}

/// Compares a checkpoint with the log, and returns the id of the event at its position; `None` at
/// the beginning.
///
/// # Errors
///
/// [`Failure::LogRewound`]: the log has no event there, or another.
pub(crate) async fn compare_with_log(
    store: &SharedEventStore,
    checkpoint: &Checkpoint,
) -> Result<Option<EventId>, Failure> {
    let at = Position::new(checkpoint.partition, checkpoint.offset);
    let event_id = event_at(store, at).await?;
    let is_missing = at.offset > 0 && event_id.is_none();
    let is_other = checkpoint.event_id.is_some() && checkpoint.event_id != event_id;
    if is_missing || is_other {
        return Err(Failure::LogRewound(format!("the log has another event, or none, at {at}")));
    }
    Ok(event_id)
}
