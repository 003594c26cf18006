//! Following the log: page by page, a checkpoint for each partition, under a lease.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Checkpoint, CheckpointAdvance, Checkpoints as _, EventId, EventStore as _, Outbox as _,
    OutboxMessage, Position, Queue, SharedEventStore, StoreError, StoredContent, StoredEvent,
};

use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use crate::app::unknown_messages::NewerCode;
use crate::worker::context::WorkerContext;
use crate::worker::leases::HeldLease;
use crate::worker::page_size::PageSize;
use crate::worker::queue_bounds::{FULL_QUEUE_PAUSE, FullQueuePause};
use crate::worker::retry::wait_for_others;

/// Events of one partition that are read at first; then it depends on how large they are.
const FIRST_PAGE: usize = 500;
/// The longest pause between two looks at a log without news, unless a follower wants a shorter one.
pub(crate) const IDLE_PAUSE: Duration = Duration::from_secs(5);

/// What is done with the events of the log.
pub(crate) trait LogHandler: Send + Sync {
    /// Of its lease and its checkpoints; must not change.
    fn name(&self) -> &str;

    /// Whether it begins at the start of the log, not at its head.
    fn begins_at_start(&self) -> bool;

    /// A partition was taken over, with the checkpoint that is stored.
    fn take_over(
        &mut self,
        _held: &Arc<HeldLease>,
        _stored: Option<Checkpoint>,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        std::future::ready(Ok(()))
    }

    /// Events of one partition that are handled at a time at most.
    fn page(&self) -> usize {
        1_000
    }

    /// The longest pause between two looks at a log without news.
    fn pause(&self) -> Duration {
        IDLE_PAUSE
    }

    /// The queues of a partition that it adds to: it rests while one of them is full.
    fn fills(&self, _partition: u16) -> Vec<Queue> {
        Vec::new()
    }

    /// Called before each page, with the last offset that is done, and when there is none.
    fn between_pages(
        &mut self,
        _held: &Arc<HeldLease>,
        _at: u64,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        std::future::ready(Ok(()))
    }

    /// A partition was given up.
    fn give_up(&mut self, partition: u16);

    /// Handles events of one partition, in order, and gives what is to be queued with the checkpoint
    /// and how many of the events that is for.
    fn handle(
        &mut self,
        held: &Arc<HeldLease>,
        events: &[StoredEvent],
    ) -> impl Future<Output = Result<(Vec<OutboxMessage>, usize), Stop>> + Send;
}

/// Why a follower does not go on in a partition.
#[derive(Debug)]
pub(crate) enum Stop {
    /// For now; it tries again from its checkpoint.
    Unavailable(String),
    /// Somebody else has taken over.
    Fenced,
    /// Newer code is needed.
    Newer(NewerCode),
    /// The log has another event at the checkpoint, or ends before it: it was restored, or a
    /// failover lost commits. Somebody must look.
    LogWentBack(String),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(crate::error::error_chain(&error))
    }
}

struct PartitionCursor {
    held: Arc<HeldLease>,
    at: Checkpoint,
    rest: FullQueuePause,
}

/// A page that was handled and queued, with its checkpoint.
struct SavedCheckpoint {
    held: Arc<HeldLease>,
    to: Checkpoint,
    events: usize,
    result: Result<(), Stop>,
}

pub(crate) struct Follower<F> {
    work: Arc<WorkerContext>,
    follow: F,
    partitions: BTreeMap<u16, PartitionCursor>,
    /// Partitions that are left alone for now, until when.
    resting: BTreeMap<u16, Duration>,
    /// Pages that are being queued, of each partition one: a partition that is locked holds up no
    /// other.
    saving: JoinSet<SavedCheckpoint>,
    partitions_saving: BTreeSet<u16>,
    /// Failures in a row to read the log, and of each partition to go on.
    failures: u32,
    partition_failures: BTreeMap<u16, u32>,
    /// The only partition that it takes; all, if none.
    only: Option<u16>,
    page: PageSize,
}

impl<F: LogHandler> Follower<F> {
    pub(crate) fn new(work: Arc<WorkerContext>, follow: F) -> Self {
        let page = PageSize::new(FIRST_PAGE, follow.page());
        Self {
            work,
            follow,
            partitions: BTreeMap::new(),
            resting: BTreeMap::new(),
            saving: JoinSet::new(),
            partitions_saving: BTreeSet::new(),
            failures: 0,
            partition_failures: BTreeMap::new(),
            only: None,
            page,
        }
    }

    /// The same for one partition, where each is to go its own way.
    pub(crate) fn of_partition(mut self, partition: u16) -> Self {
        self.only = Some(partition);
        self
    }

    pub(crate) async fn run(mut self) {
        let work = Arc::clone(&self.work);
        let mut leases = work.leases.changes();
        while !work.stop.is_cancelled() {
            while let Some(saved) = self.saving.try_join_next() {
                self.go_on(saved.ok());
            }
            let stepped = self.step().await;
            let wait = match stepped {
                Ok(true) => {
                    self.failures = 0;
                    continue;
                }
                Ok(false) => None,
                Err(error) => {
                    tracing::warn!(follower = self.follow.name(), %error, "the log cannot be read");
                    self.failures += 1;
                    self.begin_anew();
                    Some(wait_for_others(self.failures))
                }
            };
            let after: Vec<_> = self.positions();
            let idle = self.resting.is_empty().then(|| self.follow.pause());
            let pause = wait.or(idle).unwrap_or(Duration::from_millis(100));
            tokio::select! {
                biased;
                () = work.stop.cancelled() => break,
                Some(saved) = self.saving.join_next() => self.go_on(saved.ok()),
                _ = leases.changed() => {}
                waited = work.store().wait_for_events(&after), if wait.is_none() && !after.is_empty() => {
                    if waited.is_err() {
                        self.begin_anew();
                        if !work.pause(Duration::from_millis(500)).await {
                            break;
                        }
                    }
                }
                () = work.clock().sleep(pause) => {}
            }
        }
        // What is being queued is not handled again.
        while self.saving.join_next().await.is_some() {}
    }

    /// A log that could not be reached may be another when it can: it is compared with the
    /// checkpoints again.
    fn begin_anew(&mut self) {
        for partition in std::mem::take(&mut self.partitions).into_keys() {
            self.follow.give_up(partition);
        }
    }

    fn positions(&self) -> Vec<Position> {
        let now = self.work.now();
        self.partitions
            .iter()
            .filter(|(partition, _)| self.resting.get(partition).is_none_or(|until| *until <= now))
            .filter(|(partition, _)| !self.partitions_saving.contains(partition))
            .map(|(partition, following)| Position::new(*partition, following.at.offset))
            .collect()
    }

    /// One page of everything. Gives whether there was anything.
    async fn step(&mut self) -> Result<bool, StoreError> {
        let now = self.work.now();
        self.resting.retain(|_, until| *until > now);
        self.take_partitions().await;
        for Position { partition, offset } in self.positions() {
            let Some(following) = self.partitions.get(&partition) else { continue };
            let held = Arc::clone(&following.held);
            if let Err(stop) = self.follow.between_pages(&held, offset).await {
                self.stop(partition, stop);
            }
        }
        self.rest_where_full().await?;
        let after = self.positions();
        if after.is_empty() {
            return Ok(false);
        }
        let events = self.work.store().read_log(&after, self.page.rows()).await?;
        let size = |event: &StoredEvent| match &event.content {
            StoredContent::Present(content) => content.bytes.len() + event.metadata.len(),
            _ => 0,
        };
        let (count, bytes) = (events.len(), events.iter().map(size).sum());
        let mut pages: BTreeMap<u16, Vec<StoredEvent>> = BTreeMap::new();
        for event in events {
            pages.entry(event.position.partition).or_default().push(event);
        }
        let (mut any, mut failed) = (false, false);
        for (partition, events) in pages {
            match self.take_page(partition, &events).await {
                Ok(()) => any = true,
                Err(stop) => {
                    failed |= matches!(stop, Stop::Unavailable(_));
                    self.stop(partition, stop);
                }
            }
        }
        if failed {
            self.page.failed(count);
        } else {
            self.page.was_read(bytes, count >= self.page.rows());
        }
        Ok(any)
    }

    /// Leaves those partitions alone for now whose queues are full.
    async fn rest_where_full(&mut self) -> Result<(), StoreError> {
        let partitions = self.positions().into_iter().map(|position| position.partition);
        let partitions: Vec<u16> = partitions.collect();
        let fills = partitions.iter().flat_map(|partition| self.follow.fills(*partition)).collect();
        let full = self.work.full_queues(self.follow.name(), fills).await?;
        let now = self.work.now();
        for partition in partitions {
            let Some(following) = self.partitions.get_mut(&partition) else { continue };
            let is_full = full.iter().any(|queue| queue.partition == partition);
            if !following.rest.is_over(is_full, now) {
                self.resting.insert(partition, now + FULL_QUEUE_PAUSE);
            }
        }
        Ok(())
    }

    /// Handles a page, and begins to queue what comes of it.
    async fn take_page(&mut self, partition: u16, events: &[StoredEvent]) -> Result<(), Stop> {
        let Some(following) = self.partitions.get(&partition) else { return Ok(()) };
        let held = Arc::clone(&following.held);
        if !held.admits(self.work.clock(), Duration::ZERO) {
            return Err(Stop::Unavailable("the lease has lapsed".to_owned()));
        }
        let (rows, done) = self.follow.handle(&held, events).await?;
        let Some(last) = done.checked_sub(1).and_then(|index| events.get(index)) else {
            return Ok(());
        };
        let offset = last.position.offset;
        let to = Checkpoint { partition, offset, event_id: Some(last.id) };
        let (work, name) = (Arc::clone(&self.work), self.follow.name().to_owned());
        let events = events.len();
        self.partitions_saving.insert(partition);
        self.saving.spawn(async move {
            let saving = AssertUnwindSafe(save(&work, name, &held, to, &rows)).catch_unwind();
            let panicked = |_| Err(Stop::Unavailable("queueing panicked".to_owned()));
            let result = saving.await.unwrap_or_else(panicked);
            SavedCheckpoint { held, to, events, result }
        });
        Ok(())
    }

    /// Goes on behind a page that was queued.
    fn go_on(&mut self, saved: Option<SavedCheckpoint>) {
        let Some(SavedCheckpoint { held, to, events, result }) = saved else { return };
        let partition = to.partition;
        self.partitions_saving.remove(&partition);
        // It may have been given up meanwhile.
        let of = self.partitions.get_mut(&partition).filter(|of| Arc::ptr_eq(&of.held, &held));
        let Some(following) = of else { return };
        match result {
            Ok(()) => {
                let next = Position::new(partition, following.at.offset + 1);
                following.at = to;
                self.partition_failures.remove(&partition);
                self.work.shared.unknowns.gone(self.follow.name(), &next);
            }
            Err(stop) => {
                if matches!(stop, Stop::Unavailable(_)) {
                    self.page.failed(events);
                }
                self.stop(partition, stop);
            }
        }
    }

    async fn take_partitions(&mut self) {
        let mut held = self.work.leases.of(self.follow.name());
        held.retain(|held| self.only.is_none_or(|only| held.lease.partition == only));
        let gone: Vec<u16> = self
            .partitions
            .iter()
            .filter(|(_, own)| !held.iter().any(|held| Arc::ptr_eq(held, &own.held)))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in gone {
            self.partitions.remove(&partition);
            self.follow.give_up(partition);
        }
        for held in held {
            let partition = held.lease.partition;
            let is_left = self.resting.contains_key(&partition)
                || self.partitions_saving.contains(&partition);
            if is_left || self.partitions.contains_key(&partition) {
                continue;
            }
            match self.begin(&held).await {
                Ok(at) => {
                    let rest = FullQueuePause::default();
                    self.partitions.insert(partition, PartitionCursor { held, at, rest });
                }
                Err(stop) => self.stop(partition, stop),
            }
        }
    }

    /// Where to go on in a partition that was taken over.
    async fn begin(&mut self, held: &Arc<HeldLease>) -> Result<Checkpoint, Stop> {
        let partition = held.lease.partition;
        let store = self.work.store();
        let stored = store.load_checkpoints(self.follow.name()).await?;
        let stored = stored.into_iter().find(|checkpoint| checkpoint.partition == partition);
        self.follow.take_over(held, stored).await?;
        let store = self.work.store();
        let ends = store.heads().await?;
        let end = ends.iter().find(|end| end.partition == partition).map_or(0, |end| end.offset);
        let offset = match stored {
            Some(stored) => stored.offset,
            None if self.follow.begins_at_start() => 0,
            None => end,
        };
        let position = Position::new(partition, offset);
        let event_id = event_at(store, position).await?;
        let changed = stored.is_some_and(|at| at.event_id.is_some() && at.event_id != event_id);
        if offset > end || (offset > 0 && event_id.is_none()) || changed {
            return Err(Stop::LogWentBack(format!("it is not what it was at {position}")));
        }
        let at = Checkpoint { partition, offset, event_id };
        if stored.is_none() && !self.follow.begins_at_start() {
            save(&self.work, self.follow.name().to_owned(), held, at, &[]).await?;
        }
        Ok(at)
    }

    fn stop(&mut self, partition: u16, stop: Stop) {
        let name = self.follow.name().to_owned();
        let following = self.partitions.remove(&partition);
        let next = following.as_ref().map_or(1, |following| following.at.offset + 1);
        let held = following.map(|following| following.held);
        self.follow.give_up(partition);
        let rest = match stop {
            Stop::Unavailable(reason) => {
                tracing::warn!(follower = name, partition, reason, "it is tried again");
                let failures = self.partition_failures.entry(partition).or_default();
                *failures += 1;
                wait_for_others(*failures)
            }
            Stop::Fenced => {
                tracing::info!(follower = name, partition, "another process has taken over");
                if let Some(held) = held {
                    self.work.leases.lost(&held);
                }
                Duration::from_millis(100)
            }
            Stop::Newer(newer) => {
                let at = Position::new(partition, next);
                let meeting = self.work.meet(&name, &newer, &at);
                self.work.leases.withdraw(&name, meeting.is_first);
                Duration::from_secs(5)
            }
            Stop::LogWentBack(reason) => {
                tracing::error!(follower = name, partition, reason, "the log went back; it stops");
                Duration::from_secs(60)
            }
        };
        self.resting.insert(partition, self.work.now() + rest);
    }
}

/// Queues rows with the checkpoint that says so.
async fn save(
    work: &WorkerContext,
    name: String,
    held: &HeldLease,
    to: Checkpoint,
    rows: &[OutboxMessage],
) -> Result<(), Stop> {
    let advance = CheckpointAdvance { name, lease: held.lease.clone(), to };
    let saved = work.store().enqueue(to.partition, rows, Some(&advance)).await?;
    work.has_queued(to.partition, rows);
    if saved { Ok(()) } else { Err(Stop::Fenced) }
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
