//! Running a projection: catching up, following, stopping.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    BlockedStream, Checkpoint, EventStore as _, Outbox as _, OutboxKind, OutboxMessage, Position,
    Projection, ProjectionRecord, ProjectionState, Queue, ReadModel, StoreError, StoredContent,
    StoredEvent, StreamId, Version,
};
use futures_util::TryFutureExt as _;
use uuid::Uuid;

use crate::app::unknown_messages::NewerCode;
use crate::instance::load::size;
use crate::worker::context::WorkerContext;
use crate::worker::leases::HeldLease;
use crate::worker::page_size::PageSize;
use crate::worker::projection::registered::{
    ErasedProjection as _, Fault, PoisonPolicy, RegisteredProjection, before, is_at_work,
    projection_worker, queued, refused,
};
use crate::worker::queue_bounds::FullQueuePause;
use crate::worker::retry::wait_for_others;

/// Events of one partition that are read at a time, at first and at most.
const FIRST_PAGE: usize = 16;
const LARGEST_PAGE: usize = 500;
/// Partitions that one page is of.
const PAGE_PARTITIONS: usize = 16;
/// How often the state is looked at, which operators change.
const STATE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a transaction should take: it holds locks, in SQLite those of the whole file.
const TARGET_TRANSACTION_TIME: Duration = Duration::from_millis(50);
/// Events of a transaction at first.
const FIRST_BATCH: usize = 64;
/// Events of a transaction at most.
const MAX_BATCH: usize = 4_096;

/// How often in a row the lease is claimed anew, because it was outranked, before it fails.
const MAX_STALE_EPOCHS: u32 = 5;

/// What went wrong since something went well.
#[derive(Default)]
struct Failures {
    others: u32,
    outranked: u32,
    poison: Option<(Position, u32)>,
}

/// Runs a projection whenever this process has its lease.
pub(crate) async fn run<P, M>(registered: &RegisteredProjection<P, M>, work: &WorkerContext)
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    let worker = projection_worker(P::NAME);
    let mut leases = work.leases.changes();
    let mut failures = Failures::default();
    while !work.stop.is_cancelled() {
        let Some(held) = work.leases.of(&worker).pop() else {
            tokio::select! {
                biased;
                () = work.stop.cancelled() => return,
                _ = leases.changed() => continue,
            }
        };
        let mut runner = Runner::new(registered, work, held, &mut failures);
        let pause = tokio::select! {
            biased;
            // A transaction that is dropped leaves nothing behind; another process begins it anew.
            () = work.stop.cancelled() => return,
            pause = runner.turn() => pause,
        };
        drop(runner);
        if !work.pause(pause).await {
            return;
        }
    }
}

/// A projection under one holding of its lease.
struct Runner<'r, P, M> {
    registered: &'r RegisteredProjection<P, M>,
    work: &'r WorkerContext,
    held: Arc<HeldLease>,
    failures: &'r mut Failures,
    /// The checkpoints, once they were compared with the log.
    at: Option<BTreeMap<u16, Checkpoint>>,
    /// The number of rebuilds that they are of.
    rebuilds: u64,
    /// Streams of which something waited when it was last looked, with their tickets.
    waiting: BTreeMap<StreamId, Uuid>,
    /// Those of them that have something in the queue, with the version that was set aside last, if
    /// this runner did.
    queued: BTreeMap<StreamId, Option<Version>>,
    /// Partitions that are left alone for now, until when: they wait for newer code, or for room in the
    /// queue.
    resting: BTreeMap<u16, Duration>,
    /// Of partitions in which something waits.
    rests: BTreeMap<u16, FullQueuePause>,
    state: ProjectionState,
    looked: Option<Duration>,
    page: PageSize,
    batch: usize,
}

impl<'r, P, M> Runner<'r, P, M>
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    fn new(
        registered: &'r RegisteredProjection<P, M>,
        work: &'r WorkerContext,
        held: Arc<HeldLease>,
        failures: &'r mut Failures,
    ) -> Self {
        Self {
            registered,
            work,
            held,
            failures,
            at: None,
            rebuilds: 0,
            waiting: BTreeMap::new(),
            queued: BTreeMap::new(),
            resting: BTreeMap::new(),
            rests: BTreeMap::new(),
            state: ProjectionState::default(),
            looked: None,
            page: PageSize::new(FIRST_PAGE, LARGEST_PAGE),
            batch: FIRST_BATCH,
        }
    }

    /// Follows the log for as long as it can. Returns the pause before the next try.
    async fn turn(&mut self) -> Duration {
        match self.follow().await {
            Ok(()) | Err(Fault::Moved) => Duration::from_millis(100),
            Err(fault) => self.failed(fault).await,
        }
    }

    /// Does what a fault asks for. Returns the pause before the next try.
    async fn failed(&mut self, fault: Fault) -> Duration {
        match fault {
            Fault::Moved => Duration::ZERO,
            Fault::Unavailable(reason) => {
                tracing::warn!(projection = P::NAME, reason, "failed to project; retrying");
                self.failures.others += 1;
                wait_for_others(self.failures.others)
            }
            Fault::Newer(at, NewerCode { what, reason }) => {
                let reason = format!(
                    "no running code knows {what} (the event at {at}: {reason}): deploy code that \
                     does, or override the event; then resume the projection"
                );
                self.stop(reason, false).await;
                STATE_POLL_INTERVAL
            }
            Fault::LogWentBack(reason) => {
                self.stop(reason, false).await;
                STATE_POLL_INTERVAL
            }
            Fault::Outranked(reason) => self.outranked(reason).await,
            Fault::Poison(at, reason) => {
                let before = self.failures.poison.filter(|(of, _)| *of == at).map_or(0, |(_, n)| n);
                self.failures.poison = Some((at, before + 1));
                if let Some(wait) = self.work.shared.settings.retry.wait_after(before + 1) {
                    tracing::warn!(projection = P::NAME, %at, reason, "failed to project; retrying");
                    return wait;
                }
                if self.stop(format!("the event at {at}: {reason}"), false).await {
                    self.failures.poison = None;
                }
                STATE_POLL_INTERVAL
            }
        }
    }

    /// Claims the lease anew, so that its epoch rises; fails when that does not help.
    async fn outranked(&mut self, reason: String) -> Duration {
        self.failures.outranked += 1;
        if self.failures.outranked < MAX_STALE_EPOCHS {
            tracing::warn!(projection = P::NAME, reason, "outranked; claiming the lease anew");
            self.work.leases.lost(&self.held);
        } else {
            let reason = format!(
                "{reason}, also after the lease was claimed anew: see to it that no other \
                 deployment writes to this read model, then rebuild the projection"
            );
            if self.stop(reason, true).await {
                self.failures.outranked = 0;
            }
        }
        STATE_POLL_INTERVAL
    }

    /// Lets the projection fail, unless an operator or another process was first; if `outranked`,
    /// whatever the epoch is. Says whether that is settled.
    async fn stop(&self, reason: String, outranked: bool) -> bool {
        if !self.may_go_on() {
            return false;
        }
        tracing::error!(projection = P::NAME, reason, "the projection stops");
        let epoch = if outranked { u64::MAX } else { self.held.lease.epoch };
        // PostgreSQL keeps no NUL.
        let failed = ProjectionState::Failed { reason: reason.replace('\0', "\u{fffd}") };
        let from = [ProjectionState::Running, ProjectionState::Rebuilding];
        match self.change_state(epoch, &from, &failed).await {
            Ok(()) | Err(Fault::Moved) => true,
            Err(fault) => {
                let projection = P::NAME;
                tracing::warn!(projection, ?fault, "failed to write that it stops; retrying");
                false
            }
        }
    }

    /// Changes the state if it is one of `from`, under the lock and the epoch.
    async fn change_state(
        &self,
        epoch: u64,
        from: &[ProjectionState],
        to: &ProjectionState,
    ) -> Result<(), Fault> {
        let (registered, clock) = (self.registered, self.work.clock());
        let model = &registered.model;
        let mut transaction = registered.within(clock, model.begin()).await?;
        let record = self.lock(&mut transaction, epoch).await?;
        if from.contains(&record.state) {
            registered.within(clock, model.set_state(&mut transaction, P::NAME, to)).await?;
            registered.within(clock, model.commit(transaction)).await?;
        }
        registered.has_moved();
        Ok(())
    }

    /// Takes the projection's lock. It is this process's turn if nobody has written under a higher
    /// epoch, the checkpoints are where this process left them, and nobody has begun it anew.
    async fn lock(
        &self,
        transaction: &mut M::Transaction,
        epoch: u64,
    ) -> Result<ProjectionRecord, Fault> {
        let locking = self.registered.lock(transaction, self.work.shared.log.id);
        let record = self.registered.within(self.work.clock(), locking).await?;
        if record.epoch > epoch {
            return Err(Fault::Outranked(format!(
                "its checkpoints were written under epoch {}, this lease has {epoch}",
                record.epoch
            )));
        }
        match &self.at {
            Some(at)
                if self.rebuilds != record.rebuilds || !at.values().eq(&record.checkpoints) =>
            {
                Err(Fault::Moved)
            }
            _ => Ok(record),
        }
    }

    /// Begins a transaction under the projection's lock, if it is this process's turn and the
    /// projection is neither paused nor failed.
    async fn begin_writing(&self) -> Result<M::Transaction, Fault> {
        let begin = self.registered.model.begin();
        let mut transaction = self.registered.within(self.work.clock(), begin).await?;
        let record = self.lock(&mut transaction, self.held.lease.epoch).await?;
        if is_at_work(&record.state) { Ok(transaction) } else { Err(Fault::Moved) }
    }

    /// Follows the log until the lease goes, it is to stop, or it fails.
    async fn follow(&mut self) -> Result<(), Fault> {
        let work = self.work;
        while self.may_go_on() {
            self.look().await?;
            if !is_at_work(&self.state) {
                work.pause(STATE_POLL_INTERVAL).await;
                continue;
            }
            self.resting.retain(|_, until| *until > work.now());
            self.rest_where_full().await?;
            let after: Vec<Position> = (0..work.shared.log.partitions)
                .filter(|partition| !self.resting.contains_key(partition))
                .map(|partition| Position::new(partition, self.offset(partition)))
                .collect();
            if after.is_empty() {
                work.pause(STATE_POLL_INTERVAL).await;
                continue;
            }
            let mut is_behind = false;
            for some in after.chunks(PAGE_PARTITIONS) {
                is_behind |= self.take_page(some).await?;
            }
            if is_behind {
                continue;
            }
            if self.resting.is_empty() {
                self.caught_up().await?;
            }
            self.wait(&after).await?;
        }
        Ok(())
    }

    /// Reads a page of the log and projects it. Returns `false` if nothing comes after these
    /// positions.
    async fn take_page(&mut self, after: &[Position]) -> Result<bool, Fault> {
        let mut events = self.work.store().read_log(after, self.page.rows()).await?;
        let bytes = events.iter().map(size).sum();
        self.page.was_read(bytes, events.len() >= self.page.rows());
        events.sort_by_key(|event| event.position);
        self.take(&events).await?;
        Ok(!events.is_empty())
    }

    fn may_go_on(&self) -> bool {
        !self.work.stop.is_cancelled() && self.held.admits(self.work.clock(), Duration::ZERO)
    }

    fn offset(&self, partition: u16) -> u64 {
        let at = self.at.as_ref().and_then(|at| at.get(&partition));
        at.map_or(0, |checkpoint| checkpoint.offset)
    }

    /// Looks at what operators change, once in a while.
    async fn look(&mut self) -> Result<(), Fault> {
        let now = self.work.now();
        if self.looked.is_some_and(|looked| now.saturating_sub(looked) < STATE_POLL_INTERVAL) {
            return Ok(());
        }
        let loading = self.registered.load(self.work.shared.log.id);
        let record = self.registered.within(self.work.clock(), loading).await?;
        if let ProjectionState::Failed { reason } = &record.state
            && record.state != self.state
        {
            tracing::error!(projection = P::NAME, reason, "the projection has failed and waits");
        }
        (self.state, self.looked) = (record.state, Some(now));
        let loaded = record.checkpoints.into_iter().map(|c| (c.partition, c)).collect();
        match &self.at {
            Some(at) if *at == loaded && self.rebuilds == record.rebuilds => Ok(()),
            // Begun anew, or another process is at work.
            Some(_) => Err(Fault::Moved),
            None if is_at_work(&self.state) => {
                self.rebuilds = record.rebuilds;
                self.begin(loaded).await
            }
            None => Ok(()),
        }
    }

    /// Compares the checkpoints with the log.
    async fn begin(&mut self, checkpoints: BTreeMap<u16, Checkpoint>) -> Result<(), Fault> {
        let store = self.work.store();
        let checkpoints = self.at.insert(checkpoints);
        for checkpoint in checkpoints.values().filter(|checkpoint| checkpoint.offset > 0) {
            let at = Position::new(checkpoint.partition, checkpoint.offset);
            let events = if at.partition < self.work.shared.log.partitions {
                let before = Position::new(at.partition, at.offset - 1);
                store.read_log(&[before], 1).await?
            } else {
                Vec::new()
            };
            let mut same = events.iter().filter(|event| event.position == at);
            if !same.any(|event| checkpoint.event_id.is_none_or(|id| id == event.id)) {
                let reason = format!("the log is not what it was at {at}: rebuild the projection");
                return Err(Fault::LogWentBack(reason));
            }
        }
        let waiting = self.registered.model.blocked_streams(P::NAME);
        let waiting = self.registered.within(self.work.clock(), waiting).await?;
        self.waiting = waiting.into_iter().map(|w| (w.stream, w.blockage_id)).collect();
        Ok(())
    }

    /// Says that it has, if it was being rebuilt.
    async fn caught_up(&mut self) -> Result<(), Fault> {
        let (from, to) = ([ProjectionState::Rebuilding], ProjectionState::Running);
        if from.contains(&self.state) {
            self.change_state(self.held.lease.epoch, &from, &to).await?;
            self.looked = None;
        }
        self.went_well();
        Ok(())
    }

    fn went_well(&mut self) {
        (self.failures.others, self.failures.outranked) = (0, 0);
    }

    async fn wait(&self, after: &[Position]) -> Result<(), Fault> {
        tokio::select! {
            biased;
            () = self.work.stop.cancelled() => {}
            // A log that could not be reached may be another when it is there again.
            waited = self.work.store().wait_for_events(after) => waited?,
            () = self.work.clock().sleep(STATE_POLL_INTERVAL) => {}
        }
        Ok(())
    }

    /// Projects events in order, in transactions that are short.
    async fn take(&mut self, events: &[StoredEvent]) -> Result<(), Fault> {
        self.look_at_queue(events).await?;
        let mut rest = events;
        while !rest.is_empty() && self.may_go_on() {
            let count = rest.len().min(self.batch);
            let started = self.work.now();
            match self.transaction(&rest[..count]).await {
                Ok(()) => {
                    rest = &rest[count..];
                    self.pace(self.work.now().saturating_sub(started));
                }
                Err((Fault::Poison(..) | Fault::Newer(..), Some(index))) if index > 0 => {
                    // Those before it first. What an ignored error or the commit makes fail is found
                    // by halves.
                    self.batch = index.min(count / 2);
                }
                Err((Fault::Poison(at, reason), _))
                    if self.registered.settings.poison == PoisonPolicy::Park =>
                {
                    let stream = &rest[0].stream;
                    tracing::warn!(projection = P::NAME, ?stream, %at, reason, "an event waits");
                    self.set_aside(&rest[0]).await?;
                }
                Err((Fault::Newer(at, newer), _)) => {
                    self.stop_before(at, newer)?;
                    let others = |event: &StoredEvent| event.position.partition != at.partition;
                    rest = &rest[rest.iter().position(others).unwrap_or(rest.len())..];
                }
                Err((fault, _)) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Leaves a partition alone that goes on with an unknown event, unless no running code knows it.
    fn stop_before(&mut self, at: Position, newer: NewerCode) -> Result<(), Fault> {
        let worker = &self.held.lease.worker;
        let meeting = self.work.meet(worker, &newer, &at);
        if meeting.is_overdue {
            return Err(Fault::Newer(at, newer));
        }
        self.work.leases.withdraw(worker, meeting.is_first);
        self.resting.insert(at.partition, self.work.now() + STATE_POLL_INTERVAL);
        Ok(())
    }

    fn pace(&mut self, took: Duration) {
        if took > TARGET_TRANSACTION_TIME * 2 {
            self.batch = (self.batch / 2).max(1);
        } else if took < TARGET_TRANSACTION_TIME / 2 {
            self.batch = (self.batch * 2).min(MAX_BATCH);
        }
    }

    /// Leaves those partitions alone for now of which too many events wait already.
    async fn rest_where_full(&mut self) -> Result<(), Fault> {
        let (log, worker) = (self.work.shared.log, &self.held.lease.worker);
        let waiting = self.waiting.keys().map(|stream| log.partition_of(stream));
        let partitions: BTreeSet<u16> =
            waiting.filter(|partition| !self.resting.contains_key(partition)).collect();
        let queues = partitions.iter().map(|partition| queue_of::<P>(*partition)).collect();
        let full = self.work.full_queues(worker, queues).await?;
        let now = self.work.now();
        for partition in partitions {
            let is_full = full.iter().any(|queue| queue.partition == partition);
            if !self.rests.entry(partition).or_default().is_over(is_full, now) {
                self.resting.insert(partition, now + STATE_POLL_INTERVAL);
            }
        }
        Ok(())
    }

    /// Looks which streams of these events have something in the queue: what waited may have been done
    /// since.
    async fn look_at_queue(&mut self, events: &[StoredEvent]) -> Result<(), Fault> {
        self.queued.clear();
        let waiting = events.iter().filter(|event| self.waiting.contains_key(&event.stream));
        let partitions: BTreeSet<u16> = waiting.map(|event| event.position.partition).collect();
        for partition in partitions {
            let streams = self.work.store().queued_streams(&queue_of::<P>(partition)).await?;
            let streams = streams.into_iter().filter(|s| self.waiting.contains_key(s));
            self.queued.extend(streams.map(|stream| (stream, None)));
        }
        Ok(())
    }

    /// Projects events in one transaction. A fault comes with the index of the event that it is of.
    async fn transaction(&mut self, events: &[StoredEvent]) -> Result<(), (Fault, Option<usize>)> {
        let mut queued = self.queued.clone();
        let (waiting, due): (Vec<_>, Vec<_>) = events
            .iter()
            .enumerate()
            .filter(|(_, event)| P::CATEGORIES.contains(&event.stream.category()))
            .partition(|(_, event)| stays_queued(&mut queued, event));
        // Queued first: queued twice, an event is still projected once, but it is never lost. And no
        // transaction is open meanwhile, which may lock the very file that the log is in.
        let waiting = waiting.into_iter().map(|(_, event)| event);
        self.queue(waiting).await.map_err(|fault| (fault, None))?;
        let (registered, work) = (self.registered, self.work);
        let (model, clock, epoch) = (&registered.model, work.clock(), self.held.lease.epoch);
        let mut transaction = self.begin_writing().await.map_err(|fault| (fault, None))?;
        let mut ended = BTreeSet::new();
        for (index, event) in due {
            let stream = &event.stream;
            if self.waiting.contains_key(stream) && !ended.contains(stream) {
                // It fails for good if the projection has ignored an error of an event before.
                let ending = async {
                    let found = model.find_blocked(&mut transaction, P::NAME, stream).await?;
                    let is_done = found.is_some_and(|waiting| waiting.version >= event.version);
                    if !is_done {
                        model.clear_blocked(&mut transaction, P::NAME, stream).await?;
                    }
                    Ok::<_, StoreError>(is_done)
                };
                let ending = ending.map_err(|error| refused(event, error));
                let is_done = registered.within(clock, ending).await;
                if is_done.map_err(|fault| (fault, Some(index)))? {
                    continue;
                }
                ended.insert(stream.clone());
            }
            let projecting = registered.project(&work.shared, event, &mut transaction);
            projecting.await.map_err(|fault| (fault, Some(index)))?;
        }
        let Some((index, last)) = events.iter().enumerate().next_back() else { return Ok(()) };
        let to = reached(events);
        let ending = async {
            model.advance(&mut transaction, P::NAME, epoch, &to).await?;
            model.commit(transaction).await
        };
        let ending = ending.map_err(|error| refused(last, error));
        registered.within(clock, ending).await.map_err(|fault| (fault, Some(index)))?;
        for to in to {
            let next = Position::new(to.partition, self.offset(to.partition) + 1);
            work.shared.unknowns.gone(&self.held.lease.worker, &next);
            self.at.get_or_insert_default().insert(to.partition, to);
        }
        for stream in ended {
            self.waiting.remove(&stream);
        }
        self.queued = queued;
        self.went_well();
        registered.has_moved();
        Ok(())
    }

    /// Queues events of streams that wait.
    async fn queue<'e>(&self, events: impl Iterator<Item = &'e StoredEvent>) -> Result<(), Fault> {
        let mut rows: BTreeMap<u16, Vec<OutboxMessage>> = BTreeMap::new();
        for event in events {
            if let Some(ticket) = self.waiting.get(&event.stream) {
                let row = queued(&self.work.shared, P::NAME, event, *ticket);
                rows.entry(event.position.partition).or_default().push(row);
            }
        }
        for (partition, rows) in rows {
            self.work.store().enqueue(partition, &rows, None).await?;
            self.work.has_queued(partition, &rows);
        }
        Ok(())
    }

    /// Lets the stream of an event wait from there on.
    async fn set_aside(&mut self, event: &StoredEvent) -> Result<(), Fault> {
        let (registered, clock) = (self.registered, self.work.clock());
        let model = &registered.model;
        let mut transaction = self.begin_writing().await?;
        let (stream, ticket) = (event.stream.clone(), self.work.shared.ids.new_id());
        let waiting = BlockedStream { stream, version: before(event), blockage_id: ticket };
        let setting = model.set_blocked(&mut transaction, P::NAME, &waiting);
        registered.within(clock, setting).await?;
        registered.within(clock, model.commit(transaction)).await?;
        self.waiting.insert(waiting.stream.clone(), ticket);
        self.queued.insert(waiting.stream, Some(event.version));
        Ok(())
    }
}

/// Says whether an event waits behind others of its stream. An erasure does not: what waits before it
/// is erased too, and what follows it goes on. One waits that could not be projected itself.
fn stays_queued(queued: &mut BTreeMap<StreamId, Option<Version>>, event: &StoredEvent) -> bool {
    let Some(set_aside) = queued.get(&event.stream) else { return false };
    let waits = event.content != StoredContent::Erased || *set_aside == Some(event.version);
    if !waits {
        queued.remove(&event.stream);
    }
    waits
}

/// The queue of a partition's events that a projection was not given yet.
fn queue_of<P: Projection>(partition: u16) -> Queue {
    Queue { partition, kind: OutboxKind::Projection, target: P::NAME.to_owned() }
}

/// The checkpoints after events in order.
fn reached(events: &[StoredEvent]) -> Vec<Checkpoint> {
    let checkpoint = |event: &StoredEvent| {
        let Position { partition, offset } = event.position;
        (partition, Checkpoint { partition, offset, event_id: Some(event.id) })
    };
    events.iter().map(checkpoint).collect::<BTreeMap<_, _>>().into_values().collect()
}
