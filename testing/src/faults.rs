//! An event store that fails when it is told to.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use composable_rust_core::{
    Advance, Append, Checkpoint, Clock, DeadLetter, DeadLetterDecision, DueTimers, Encoded,
    EventId, EventStore, Fingerprint, Lease, LeaseRound, LeaseTable, Loaded, LogInfo, Mark,
    MessageId, OutboxRow, Position, Queue, QueuePlace, QueuedRow, RecordedEvent, Settlement,
    Snapshot, StoreError, StreamId, TimerQueue, TimerSettlement, Timestamp, Verdict, Version,
    WorkQueues,
};
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the call does what it always does.
    None,
    /// The store does not do it and is reported as unavailable.
    FailBefore,
    /// The store does it and is reported as unavailable: an answer that was lost. A load fails
    /// after its last row.
    FailAfter,
    /// The call takes this much longer.
    Delay(Duration),
    /// Nothing is appended, and every append of the batch is told that it lost on version. Without
    /// effect on what is no append.
    Conflict,
}

/// How often each fault happens by chance, from 0 (never) to 1 (always).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Chances {
    /// Of [`Fault::FailBefore`].
    pub fail_before: f64,
    /// Of [`Fault::FailAfter`].
    pub fail_after: f64,
    /// Of [`Fault::Conflict`].
    pub conflict: f64,
    /// Of [`Fault::Delay`], by a random part of `longest_delay`.
    pub delay: f64,
    /// The longest delay.
    pub longest_delay: Duration,
}

/// What a [`FaultyEventStore`] was asked and what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// Calls that append.
    pub appends: u64,
    /// Calls that read.
    pub reads: u64,
    /// Calls that write to leases, queues or checkpoints.
    pub writes: u64,
    /// Calls that failed before.
    pub failed_before: u64,
    /// Calls that failed after.
    pub failed_after: u64,
    /// Calls that were told of a conflict that there was not.
    pub conflicts: u64,
    /// Calls that were delayed.
    pub delayed: u64,
}

/// An event store that fails when it is told to: by a script, or by seeded chance.
///
/// Scripts come first: one entry for each call, in order; then chance, if any. Appends are the
/// calls of `append_events`; reads are loads, pages, heads, look-ups of snapshots and marks, and what
/// [`WorkQueues`] reads; writes are what [`WorkQueues`] changes. Everything else is passed on. Clones share scripts, chance and counts.
///
/// # Example: an answer that is lost
///
/// ```
/// use composable_rust_core::{Append, EventStore, ExpectedVersion, StoreError, StreamId};
/// use composable_rust_testing::{Fault, FaultyEventStore, InMemoryEventStore};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = FaultyEventStore::new(InMemoryEventStore::new());
/// store.next_appends([Fault::FailAfter]);
///
/// let stream: StreamId = "order-1".parse()?;
/// let partition = store.log().partition_of(&stream);
/// let append = [Append::new(stream, ExpectedVersion::EMPTY)];
/// let lost = store.append_events(partition, &append).await;
/// assert!(matches!(lost, Err(StoreError::Unavailable(_))));
/// assert!(store.append_events(partition, &append).await.is_ok());
/// assert_eq!((store.counts().appends, store.counts().failed_after), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FaultyEventStore<S> {
    store: S,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    appends: VecDeque<Fault>,
    reads: VecDeque<Fault>,
    writes: VecDeque<Fault>,
    chance: Option<(StdRng, Chances)>,
    clock: Option<Arc<dyn Clock>>,
    counts: FaultCounts,
}

#[derive(Clone, Copy)]
enum Call {
    Append,
    Read,
    Write,
}

impl<S> FaultyEventStore<S> {
    /// A store that passes everything on until it is told otherwise.
    pub fn new(store: S) -> Self {
        Self { store, plan: Arc::default() }
    }

    /// The same store with faults by chance, of appends, reads and writes alike. The same calls in the same
    /// order meet the same faults.
    #[must_use]
    pub fn with_chances(self, seed: u64, chances: Chances) -> Self {
        self.plan().chance = Some((StdRng::seed_from_u64(seed), chances));
        self
    }

    /// The same store with `clock` to wait by when a call is delayed, instead of tokio's.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.plan().clock = Some(Arc::new(clock));
        self
    }

    /// What happens to the next appends, after those that were already told.
    pub fn next_appends(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().appends.extend(faults);
    }

    /// What happens to the next reads, after those that were already told.
    pub fn next_reads(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().reads.extend(faults);
    }

    /// What happens to the next writes, after those that were already told.
    pub fn next_writes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().writes.extend(faults);
    }

    /// Ends all faults: scripts and chance.
    pub fn recover(&self) {
        let mut plan = self.plan();
        plan.appends.clear();
        plan.reads.clear();
        plan.writes.clear();
        plan.chance = None;
    }

    /// What it was asked and what it did.
    pub fn counts(&self) -> FaultCounts {
        self.plan().counts
    }

    /// The store behind it.
    pub fn inner(&self) -> &S {
        &self.store
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to this call; what happens before it has happened.
    async fn strike(&self, call: Call) -> Result<Fault, StoreError> {
        let (fault, clock) = {
            let mut plan = self.plan();
            (plan.next(call), plan.clock.clone())
        };
        match (fault, clock) {
            (Fault::FailBefore, _) => return Err(injected("before")),
            (Fault::Delay(duration), Some(clock)) => clock.sleep(duration).await,
            (Fault::Delay(duration), None) => tokio::time::sleep(duration).await,
            _ => {}
        }
        Ok(fault)
    }

    async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.struck(Call::Read, read).await
    }

    async fn write<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.struck(Call::Write, write).await
    }

    async fn struck<T>(
        &self,
        call: Call,
        done: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let fault = self.strike(call).await?;
        let answer = done.await?;
        if fault == Fault::FailAfter { Err(injected("after")) } else { Ok(answer) }
    }

    fn read_rows<'a, T: Send + 'a, R>(
        &'a self,
        rows: impl FnOnce() -> R + Send + 'a,
    ) -> impl Stream<Item = Result<T, StoreError>> + Send + 'a
    where
        R: Stream<Item = Result<T, StoreError>> + Send + 'a,
        S: Sync,
    {
        let rows = async move {
            let fault = self.strike(Call::Read).await?;
            let lost = (fault == Fault::FailAfter).then(|| Err(injected("after")));
            Ok(rows().chain(stream::iter(lost)))
        };
        stream::once(rows).try_flatten()
    }
}

impl Plan {
    fn next(&mut self, call: Call) -> Fault {
        let script = match call {
            Call::Append => {
                self.counts.appends += 1;
                &mut self.appends
            }
            Call::Read => {
                self.counts.reads += 1;
                &mut self.reads
            }
            Call::Write => {
                self.counts.writes += 1;
                &mut self.writes
            }
        };
        let fault = script.pop_front().or_else(|| self.by_chance()).unwrap_or(Fault::None);
        let fault = match (fault, call) {
            (Fault::Conflict, Call::Read | Call::Write) => Fault::None,
            (fault, _) => fault,
        };
        match fault {
            Fault::None => {}
            Fault::FailBefore => self.counts.failed_before += 1,
            Fault::FailAfter => self.counts.failed_after += 1,
            Fault::Delay(_) => self.counts.delayed += 1,
            Fault::Conflict => self.counts.conflicts += 1,
        }
        fault
    }

    fn by_chance(&mut self) -> Option<Fault> {
        let (rng, chances) = self.chance.as_mut()?;
        // Drawn whether used or not, so that each call takes the same from the generator.
        let (roll, part): (f64, f64) = (rng.random(), rng.random());
        let delay = Fault::Delay(chances.longest_delay.mul_f64(part));
        let mut below = 0.0;
        let faults = [
            (chances.fail_before, Fault::FailBefore),
            (chances.fail_after, Fault::FailAfter),
            (chances.conflict, Fault::Conflict),
            (chances.delay, delay),
        ];
        faults.into_iter().find_map(|(chance, fault)| {
            below += chance;
            (roll < below).then_some(fault)
        })
    }
}

fn injected(when: &str) -> StoreError {
    StoreError::unavailable(format!("injected fault: failed {when} the call"))
}

impl<S: fmt::Debug> fmt::Debug for FaultyEventStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyEventStore")
            .field("store", &self.store)
            .field("plan", &*self.plan())
            .finish()
    }
}

impl<S: EventStore> EventStore for FaultyEventStore<S> {
    fn log(&self) -> LogInfo {
        self.store.log()
    }

    async fn append_events(
        &self,
        partition: u16,
        batch: &[Append],
    ) -> Result<Vec<Verdict>, StoreError> {
        match self.strike(Call::Append).await? {
            Fault::Conflict => {
                let mut verdicts = Vec::with_capacity(batch.len());
                for append in batch {
                    let events = self.store.load_events(&append.stream, Version::ZERO);
                    let last = events.try_fold(Version::ZERO, async |_, event| Ok(event.version));
                    verdicts.push(Verdict::Conflict { actual: last.await? });
                }
                Ok(verdicts)
            }
            Fault::FailAfter => {
                self.store.append_events(partition, batch).await?;
                Err(injected("after"))
            }
            Fault::None | Fault::FailBefore | Fault::Delay(_) => {
                self.store.append_events(partition, batch).await
            }
        }
    }

    fn load_events<'a>(
        &'a self,
        stream: &'a StreamId,
        after: Version,
    ) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send + 'a {
        self.read_rows(move || self.store.load_events(stream, after))
    }

    fn load_with_snapshot<'a>(
        &'a self,
        stream: &'a StreamId,
        fingerprint: Fingerprint,
    ) -> impl Stream<Item = Result<Loaded, StoreError>> + Send + 'a {
        self.read_rows(move || self.store.load_with_snapshot(stream, fingerprint))
    }

    async fn read_log(
        &self,
        after: &[Position],
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.read(self.store.read_log(after, limit)).await
    }

    async fn heads(&self) -> Result<Vec<Position>, StoreError> {
        self.read(self.store.heads()).await
    }

    async fn wait_for_events(&self, after: &[Position]) -> Result<(), StoreError> {
        self.store.wait_for_events(after).await
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        self.store.save_snapshot(stream, snapshot).await
    }

    async fn load_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> Result<Option<Snapshot>, StoreError> {
        self.read(self.store.load_snapshot(stream, fingerprint)).await
    }

    async fn load_mark(
        &self,
        stream: &StreamId,
        message_id: MessageId,
    ) -> Result<Option<Mark>, StoreError> {
        self.read(self.store.load_mark(stream, message_id)).await
    }

    async fn erase_stream(&self, stream: &StreamId) -> Result<u64, StoreError> {
        self.store.erase_stream(stream).await
    }

    async fn close_stream(
        &self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> Result<Verdict, StoreError> {
        self.store.close_stream(stream, expected, event_id).await
    }

    async fn override_event(
        &self,
        stream: &StreamId,
        version: Version,
        replacement: &Encoded,
    ) -> Result<(), StoreError> {
        self.store.override_event(stream, version, replacement).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.store.now().await
    }
}

impl<S: EventStore> WorkQueues for FaultyEventStore<S> {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseTable, StoreError> {
        self.read(self.store.load_leases(workers)).await
    }

    async fn change_leases(&self, round: &LeaseRound) -> Result<Vec<bool>, StoreError> {
        self.write(self.store.change_leases(round)).await
    }

    async fn load_checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        self.read(self.store.load_checkpoints(name)).await
    }

    async fn enqueue(
        &self,
        partition: u16,
        rows: &[QueuedRow],
        advance: Option<&Advance>,
    ) -> Result<bool, StoreError> {
        self.write(self.store.enqueue(partition, rows, advance)).await
    }

    async fn read_outbox(
        &self,
        after: &[(Queue, QueuePlace)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.read(self.store.read_outbox(after, limit)).await
    }

    async fn queued_streams(&self, queue: &Queue) -> Result<Vec<StreamId>, StoreError> {
        self.read(self.store.queued_streams(queue)).await
    }

    async fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        self.write(self.store.settle(partition, settlements)).await
    }

    async fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        self.read(self.store.due_timers(queues, limit)).await
    }

    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        self.write(self.store.settle_timers(partition, settlements)).await
    }

    async fn dead_letters(
        &self,
        after: Option<(u16, Uuid)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(self.store.dead_letters(after, limit)).await
    }

    async fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        self.write(self.store.decide_dead_letter(partition, id, decision)).await
    }

    async fn decided_dead_letters(&self, queues: &[Queue]) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(self.store.decided_dead_letters(queues)).await
    }

    async fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[QueuedRow],
    ) -> Result<bool, StoreError> {
        self.write(self.store.resolve_dead_letter(lease, letter, answers)).await
    }

    async fn prune_marks(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.write(self.store.prune_marks(partition, age, limit)).await
    }

    async fn wait_for_work(&self, seen: u64) -> Result<u64, StoreError> {
        self.store.wait_for_work(seen).await
    }
}
