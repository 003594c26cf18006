//! A store as one process reaches it: it can freeze, crash, lose responses and hold them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints, DeadLetter, DeadLetterDecision, DeadLetters,
    DueTimers, Inbox, InboxEntry, Lease, LeaseRequest, LeaseSnapshot, Leases, Outbox,
    OutboxMessage, OutboxRow, Queue, QueuePosition, QueueSummary, Settlement, TimerQueue,
    TimerSettlement, Timers,
};
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore, Fingerprint, LogInfo, Snapshot, StaleSnapshots, StoreError,
    StreamRow,
};
use composable_rust_core::{EventId, MessageId, Position, StreamId, Timestamp, Version};
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;
use uuid::Uuid;

/// The state of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessState {
    Running,
    /// Its calls wait.
    Frozen,
    /// Its calls never return, and have no effect.
    Dead,
}

/// The outcome of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// None: the call is done.
    None,
    /// The call is not made, and rejected as invalid.
    Rejected,
    /// The call is not made, and reported as unavailable.
    FailsBefore,
    /// The call is made, and reported as unavailable.
    FailsAfter,
    /// The call is not made, and reported as unavailable after this many milliseconds.
    FailsIn(u64),
    /// The call is made, and its response is held until the test releases it.
    Held,
    /// The process crashes before the call.
    CrashesBefore,
    /// The process crashes after the call.
    CrashesAfter,
}

/// A store that behaves as its process does. Clones belong to the same process.
#[derive(Debug, Clone)]
pub(crate) struct Node<S> {
    store: S,
    state: watch::Sender<ProcessState>,
    held: watch::Sender<bool>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    mishaps: BTreeMap<&'static str, VecDeque<Mishap>>,
    slow: BTreeMap<&'static str, Duration>,
    counts: BTreeMap<&'static str, u64>,
    holding: u32,
    calls: u64,
    /// The number of the call at which the process crashes, and whether that call is made.
    crash_at: Option<(u64, bool)>,
    /// A stream for which every batch with an append fails, reported as unavailable.
    failing: Option<StreamId>,
    /// A partition in which enqueueing waits for a lock, in vain.
    locked: Option<u16>,
    /// Changes to the rows of the next loads.
    rewrites: VecDeque<Rewrite>,
    /// The number of open loads, now and at most.
    open: (u32, u32),
    /// The most bytes of events that a page of the log had.
    largest_page: usize,
}

struct Rewrite(Box<dyn FnOnce(Vec<StreamRow>) -> Vec<StreamRow> + Send>);

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewrite")
    }
}

/// A load whose rows are being read.
struct Open(Arc<Mutex<Plan>>);

impl Open {
    fn new(plan: &Arc<Mutex<Plan>>) -> Self {
        let mut open = plan.lock().unwrap();
        open.open.0 += 1;
        open.open.1 = open.open.1.max(open.open.0);
        Self(Arc::clone(plan))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open.0 -= 1;
    }
}

impl<S: Send + Sync> Node<S> {
    pub(crate) fn new(store: S) -> Self {
        let (state, held) = (watch::Sender::new(ProcessState::Running), watch::Sender::new(true));
        Self { store, state, held, plan: Arc::default() }
    }

    pub(crate) fn inner(&self) -> &S {
        &self.store
    }

    /// Crashes the process: no later call reaches the store.
    pub(crate) fn crash(&self) {
        self.state.send_replace(ProcessState::Dead);
    }

    /// Crashes the process at the call of this number, before or after it is made.
    pub(crate) fn crash_at(&self, call: u64, is_done: bool) {
        self.plan().crash_at = Some((call, is_done));
    }

    /// The number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.plan().calls
    }

    /// Freezes the process, as `SIGSTOP` does.
    pub(crate) fn freeze(&self) {
        self.state.send_replace(ProcessState::Frozen);
    }

    /// Thaws the process, as `SIGCONT` does.
    pub(crate) fn wake(&self) {
        self.state.send_replace(ProcessState::Running);
    }

    /// Sets the outcomes of the next calls of the method.
    pub(crate) fn next(&self, method: &'static str, mishaps: impl IntoIterator<Item = Mishap>) {
        self.plan().mishaps.entry(method).or_default().extend(mishaps);
    }

    /// Fails appends to the stream from now on; `None` ends it.
    pub(crate) fn fail_appends_of(&self, stream: Option<StreamId>) {
        self.plan().failing = stream;
    }

    /// Makes enqueueing in the partition wait five seconds and fail from now on; `None` ends it.
    pub(crate) fn lock(&self, partition: Option<u16>) {
        self.plan().locked = partition;
    }

    /// Changes the rows of the next load without a change.
    pub(crate) fn next_load(
        &self,
        rewrite: impl FnOnce(Vec<StreamRow>) -> Vec<StreamRow> + Send + 'static,
    ) {
        self.plan().rewrites.push_back(Rewrite(Box::new(rewrite)));
    }

    /// The most loads that were open at a time.
    pub(crate) fn most_open(&self) -> u32 {
        self.plan().open.1
    }

    /// The most bytes of events that a page of the log had.
    pub(crate) fn largest_page(&self) -> usize {
        self.plan().largest_page
    }

    /// Delays each call of the method from now on.
    pub(crate) fn slow(&self, method: &'static str, time: Duration) {
        self.plan().slow.insert(method, time);
    }

    /// `true` while a response is held.
    pub(crate) fn holds(&self) -> bool {
        self.plan().holding > 0
    }

    /// Releases all held responses.
    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    /// The number of calls of each method.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.plan().counts.clone()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }

    async fn alive(&self) {
        let mut state = self.state.subscribe();
        let running =
            state.wait_for(|state| *state != ProcessState::Frozen).await.map(|state| *state);
        if running.ok() != Some(ProcessState::Running) {
            std::future::pending::<()>().await;
        }
    }

    async fn pass<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.alive().await;
        let mishap = {
            let mut plan = self.plan();
            *plan.counts.entry(method).or_default() += 1;
            plan.calls += 1;
            match plan.crash_at {
                Some((call, is_done)) if call == plan.calls => {
                    Some(if is_done { Mishap::CrashesAfter } else { Mishap::CrashesBefore })
                }
                _ => plan.mishaps.get_mut(method).and_then(VecDeque::pop_front),
            }
        };
        if mishap == Some(Mishap::CrashesBefore) {
            self.crash();
            self.alive().await;
        }
        if let Some(Mishap::FailsIn(millis)) = mishap {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            return Err(StoreError::unavailable("failed after a while"));
        }
        if mishap == Some(Mishap::Rejected) {
            return Err(StoreError::Invalid("the call is rejected".to_owned()));
        }
        if mishap == Some(Mishap::FailsBefore) {
            return Err(StoreError::unavailable("failed before"));
        }
        let slow = self.plan().slow.get(method).copied();
        if let Some(time) = slow {
            tokio::time::sleep(time).await;
        }
        let answer = call.await;
        match mishap {
            Some(Mishap::FailsAfter) => return Err(StoreError::unavailable("failed after")),
            Some(Mishap::Held) => {
                self.plan().holding += 1;
                let _ = self.held.subscribe().wait_for(|held| !held).await;
                self.plan().holding -= 1;
            }
            Some(Mishap::CrashesAfter) => self.crash(),
            _ => {}
        }
        self.alive().await;
        answer
    }
}

impl<S: EventStore> Node<S> {
    fn rows<'a, R>(
        &'a self,
        method: &'static str,
        rows: impl FnOnce() -> R + Send + 'a,
    ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a
    where
        R: Stream<Item = Result<StreamRow, StoreError>> + Send + 'a,
    {
        let rows = async move {
            self.pass(method, std::future::ready(Ok(()))).await?;
            let open = Open::new(&self.plan);
            let rewrite = self.plan().rewrites.pop_front();
            let rows = match rewrite {
                None => rows().boxed(),
                Some(Rewrite(rewrite)) => {
                    let rows = rewrite(rows().try_collect().await?);
                    stream::iter(rows.into_iter().map(Ok)).boxed()
                }
            };
            Ok(rows.inspect(move |_| {
                let _ = &open;
            }))
        };
        stream::once(rows).try_flatten()
    }
}

impl<S: EventStore> EventStore for Node<S> {
    fn log(&self) -> LogInfo {
        self.store.log()
    }

    async fn append_events(
        &self,
        partition: u16,
        batch: &[Append],
    ) -> Result<Vec<AppendOutcome>, StoreError> {
        let failing = self.plan().failing.clone();
        if batch.iter().any(|append| Some(&append.stream) == failing.as_ref()) {
            let failed = std::future::ready(Err(StoreError::unavailable("a damaged page")));
            return self.pass("append_events", failed).await;
        }
        self.pass("append_events", self.store.append_events(partition, batch)).await
    }

    fn load_events<'a>(
        &'a self,
        stream: &'a StreamId,
        after: Version,
    ) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a {
        let rows = move || self.store.load_events(stream, after).map_ok(StreamRow::Event);
        self.rows("load_events", rows).try_filter_map(async |row| match row {
            StreamRow::Event(event) => Ok(Some(event)),
            StreamRow::Snapshot(_) => Ok(None),
        })
    }

    fn load_with_snapshot<'a>(
        &'a self,
        stream: &'a StreamId,
        fingerprint: Fingerprint,
    ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
        let rows = move || self.store.load_with_snapshot(stream, fingerprint);
        self.rows("load_with_snapshot", rows)
    }

    async fn read_log(
        &self,
        after: &[Position],
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let events = self.pass("read_log", self.store.read_log(after, limit)).await?;
        let size = |event: &StoredEvent| match &event.content {
            StoredContent::Present(content) => content.bytes.len(),
            _ => 0,
        };
        let page = events.iter().map(size).sum();
        let mut plan = self.plan();
        plan.largest_page = plan.largest_page.max(page);
        Ok(events)
    }

    async fn heads(&self) -> Result<Vec<Position>, StoreError> {
        self.pass("heads", self.store.heads()).await
    }

    async fn wait_for_events(&self, after: &[Position]) -> Result<(), StoreError> {
        self.pass("wait_for_events", self.store.wait_for_events(after)).await
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        last: EventId,
    ) -> Result<(), StoreError> {
        self.pass("save_snapshot", self.store.save_snapshot(stream, snapshot, last)).await
    }

    async fn delete_snapshots(
        &self,
        stream: &StreamId,
        which: StaleSnapshots,
    ) -> Result<(), StoreError> {
        self.pass("delete_snapshots", self.store.delete_snapshots(stream, which)).await
    }

    async fn load_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> Result<Option<Snapshot>, StoreError> {
        self.pass("load_snapshot", self.store.load_snapshot(stream, fingerprint)).await
    }

    async fn erase_stream(&self, stream: &StreamId) -> Result<u64, StoreError> {
        self.pass("erase_stream", self.store.erase_stream(stream)).await
    }

    async fn close_stream(
        &self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> Result<AppendOutcome, StoreError> {
        self.pass("close_stream", self.store.close_stream(stream, expected, event_id)).await
    }

    async fn override_event(
        &self,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> Result<(), StoreError> {
        self.pass("override_event", self.store.override_event(stream, version, replacement)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.pass("now", self.store.now()).await
    }
}

impl<S: EventStore> Leases for Node<S> {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, StoreError> {
        self.pass("load_leases", self.store.load_leases(workers)).await
    }

    async fn change_leases(&self, round: &LeaseRequest) -> Result<Vec<bool>, StoreError> {
        self.pass("change_leases", self.store.change_leases(round)).await
    }

    async fn set_paused(&self, paused: bool) -> Result<(), StoreError> {
        self.pass("set_paused", self.store.set_paused(paused)).await
    }
}

impl<S: EventStore> Checkpoints for Node<S> {
    async fn load_checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        self.pass("load_checkpoints", self.store.load_checkpoints(name)).await
    }

    async fn save_checkpoints(&self, name: &str, to: &[Checkpoint]) -> Result<(), StoreError> {
        self.pass("save_checkpoints", self.store.save_checkpoints(name, to)).await
    }

    async fn rewind(&self, worker: &str, to: Checkpoint) -> Result<(), StoreError> {
        self.pass("rewind", self.store.rewind(worker, to)).await
    }
}

impl<S: EventStore> Outbox for Node<S> {
    async fn enqueue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        let locked = self.plan().locked;
        if locked == Some(partition) && !rows.is_empty() {
            tokio::time::sleep(Duration::from_secs(5)).await;
            return Err(StoreError::unavailable("the partition is locked"));
        }
        self.pass("enqueue", self.store.enqueue(partition, rows, advance)).await
    }

    async fn park(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        self.pass("park", self.store.park(partition, rows, error)).await
    }

    async fn read_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.pass("read_outbox", self.store.read_outbox(after, limit)).await
    }

    async fn last_positions(&self, queues: &[Queue]) -> Result<Vec<QueuePosition>, StoreError> {
        self.pass("last_positions", self.store.last_positions(queues)).await
    }

    async fn summarize_queues(&self, limit: usize) -> Result<Vec<QueueSummary>, StoreError> {
        self.pass("summarize_queues", self.store.summarize_queues(limit)).await
    }

    async fn count_waiting(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<usize>, StoreError> {
        self.pass("count_waiting", self.store.count_waiting(queues, limit)).await
    }

    async fn queued_streams(&self, queue: &Queue) -> Result<Vec<StreamId>, StoreError> {
        self.pass("queued_streams", self.store.queued_streams(queue)).await
    }

    async fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        self.pass("settle", self.store.settle(partition, settlements)).await
    }

    async fn wait_for_work(&self, seen: u64) -> Result<u64, StoreError> {
        self.pass("wait_for_work", self.store.wait_for_work(seen)).await
    }
}

impl<S: EventStore> Timers for Node<S> {
    async fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        self.pass("due_timers", self.store.due_timers(queues, limit)).await
    }

    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        self.pass("settle_timers", self.store.settle_timers(partition, settlements)).await
    }
}

impl<S: EventStore> DeadLetters for Node<S> {
    async fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.pass("dead_letters", self.store.dead_letters(after, limit)).await
    }

    async fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        let decided = self.store.decide_dead_letter(partition, id, decision);
        self.pass("decide_dead_letter", decided).await
    }

    async fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.pass("decided_dead_letters", self.store.decided_dead_letters(queues, limit)).await
    }

    async fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        let resolved = self.store.resolve_dead_letter(lease, letter, answers);
        self.pass("resolve_dead_letter", resolved).await
    }
}

impl<S: EventStore> Inbox for Node<S> {
    async fn load_inbox_entry(
        &self,
        stream: &StreamId,
        message_id: MessageId,
    ) -> Result<Option<InboxEntry>, StoreError> {
        self.pass("load_inbox_entry", self.store.load_inbox_entry(stream, message_id)).await
    }

    async fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.pass("prune_inbox", self.store.prune_inbox(partition, age, limit)).await
    }
}
