//! Running a projection: following the log.

mod failures;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::projection::{ProjectionRecord, ProjectionState, ReadModel};
use composable_rust_core::queue::{Checkpoint, OutboxKind, Queue};
use composable_rust_core::store::{EventStore as _, StoreError};
use composable_rust_core::{Position, Projection, StreamId, Version};
use tokio::sync::watch;
use tracing::Instrument as _;
use uuid::Uuid;

use self::failures::Failures;
use crate::instance::load::size;
use crate::spans;
use crate::worker::context::{UNTIL_WOKEN, WorkerContext};
use crate::worker::follower::compare_with_log;
use crate::worker::leases::HeldLease;
use crate::worker::outcome::Failure;
use crate::worker::page_size::PageSize;
use crate::worker::projection::registered::{
    ErasedProjection as _, RegisteredProjection, is_active, projection_worker,
};
use crate::worker::queue_bounds::FullQueuePause;

/// Events of one partition that the first page has.
const FIRST_PAGE: usize = 16;
/// Maximum events of one partition that a page has.
const MAX_PAGE: usize = 500;
/// Maximum partitions that one page has events of.
const MAX_PAGE_PARTITIONS: usize = 16;
/// Interval at which a projection that cannot continue tries again.
const STATE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which the projection's record, which operators change, is read without a wakeup.
const RECORD_POLL_INTERVAL: Duration = Duration::from_secs(30);
/// Minimum interval between two reads of the record, unless the store is in memory.
const MIN_RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// Events of the first transaction.
const FIRST_BATCH: usize = 64;

/// Runs a projection whenever this process has its lease.
pub(crate) async fn run<P, M>(registered: &RegisteredProjection<P, M>, context: &WorkerContext)
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    let worker = projection_worker(P::NAME);
    let mut leases = context.leases.changes();
    let mut failures = Failures::default();
    while !context.stop.is_cancelled() {
        let Some(held) = context.leases.of(&worker).pop() else {
            tokio::select! {
                biased;
                () = context.stop.cancelled() => return,
                _ = leases.changed() => continue,
            }
        };
        let mut runner = Runner::new(registered, context, held, &mut failures);
        let pause = tokio::select! {
            biased;
            // A dropped transaction is rolled back; another process starts it again.
            () = context.stop.cancelled() => return,
            pause = runner.turn() => pause,
        };
        drop(runner);
        if !context.pause(pause).await {
            return;
        }
    }
}

/// A failure to run a projection, with the position of the event that it concerns.
#[derive(Debug)]
struct RunFailure {
    failure: Failure,
    at: Option<Position>,
}

impl From<Failure> for RunFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, at: None }
    }
}

impl From<StoreError> for RunFailure {
    fn from(error: StoreError) -> Self {
        Failure::from(error).into()
    }
}

/// A projection under one lease.
struct Runner<'r, P, M> {
    registered: &'r RegisteredProjection<P, M>,
    context: &'r WorkerContext,
    held: Arc<HeldLease>,
    failures: &'r mut Failures,
    /// The checkpoints, once they were compared with the log.
    at: Option<BTreeMap<u16, Checkpoint>>,
    /// The number of rebuilds that the checkpoints belong to.
    rebuilds: u64,
    /// The blocked streams, as of the last look, with the ids of their blockages.
    blocked: BTreeMap<StreamId, Uuid>,
    /// The blocked streams that have queued events, with the version that this runner set aside
    /// last.
    queued: BTreeMap<StreamId, Option<Version>>,
    /// Partitions that are not read for now, and the monotonic times until which they are not: they
    /// wait for newer code, or for room in the queue.
    paused: BTreeMap<u16, Duration>,
    /// The pauses of partitions that have blocked streams.
    queue_pauses: BTreeMap<u16, FullQueuePause>,
    state: ProjectionState,
    /// The monotonic time of the last look at the record.
    looked: Option<Duration>,
    /// A counter that rises when the record may have changed.
    wake: watch::Receiver<u64>,
    /// `true` if it has risen since the last look.
    may_have_changed: bool,
    page: PageSize,
    /// The maximum number of events of the next transaction.
    batch: usize,
}

impl<'r, P, M> Runner<'r, P, M>
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    fn new(
        registered: &'r RegisteredProjection<P, M>,
        context: &'r WorkerContext,
        held: Arc<HeldLease>,
        failures: &'r mut Failures,
    ) -> Self {
        Self {
            registered,
            context,
            held,
            failures,
            at: None,
            rebuilds: 0,
            blocked: BTreeMap::new(),
            queued: BTreeMap::new(),
            paused: BTreeMap::new(),
            queue_pauses: BTreeMap::new(),
            state: ProjectionState::default(),
            looked: None,
            wake: context.wake.clone(),
            may_have_changed: false,
            page: PageSize::new(FIRST_PAGE, MAX_PAGE),
            batch: FIRST_BATCH,
        }
    }

    /// Follows the log until the lease is lost, the projection is to stop, or it fails. Returns the
    /// pause before the next turn.
    async fn turn(&mut self) -> Duration {
        match self.follow().await {
            Ok(()) => Duration::from_millis(100),
            Err(failure) => self.failed(failure).await,
        }
    }

    async fn follow(&mut self) -> Result<(), RunFailure> {
        let context = self.context;
        while self.may_continue() {
            self.look().await?;
            if !is_active(&self.state) {
                self.rest(self.until_look()).await;
                continue;
            }
            self.paused.retain(|_, until| *until > context.now());
            self.pause_full().await?;
            let after: Vec<Position> = (0..context.shared.log.partitions)
                .filter(|partition| !self.paused.contains_key(partition))
                .map(|partition| Position::new(partition, self.offset(partition)))
                .collect();
            if after.is_empty() {
                self.rest(STATE_POLL_INTERVAL).await;
                continue;
            }
            let mut is_behind = false;
            for some in after.chunks(MAX_PAGE_PARTITIONS) {
                is_behind |= self.take_page(some).await?;
            }
            if self.paused.is_empty() {
                self.has_newer_code().await?;
            }
            if is_behind {
                continue;
            }
            if self.paused.is_empty() {
                self.caught_up().await?;
            }
            self.wait(&after).await?;
        }
        Ok(())
    }

    /// Reads a page of the log and projects it. Returns `false` if the log has no events after
    /// these positions.
    async fn take_page(&mut self, after: &[Position]) -> Result<bool, RunFailure> {
        let mut events = self.context.store().read_log(after, self.page.rows()).await?;
        let bytes = events.iter().map(size).sum();
        self.page.was_read(bytes, events.len() >= self.page.rows());
        events.sort_by_key(|event| event.position);
        if events.is_empty() {
            return Ok(false);
        }
        let span = spans::project(P::NAME, &events);
        let projected = self.project_page(&events).instrument(span.clone()).await;
        if let Err(RunFailure { failure, .. }) = &projected {
            spans::failed(&span, failure.kind());
        }
        projected.map(|()| true)
    }

    fn may_continue(&self) -> bool {
        !self.context.stop.is_cancelled() && self.held.admits(self.context.clock(), Duration::ZERO)
    }

    fn offset(&self, partition: u16) -> u64 {
        let at = self.at.as_ref().and_then(|at| at.get(&partition));
        at.map_or(0, |checkpoint| checkpoint.offset)
    }

    /// Returns the time until the record is to be looked at.
    fn until_look(&self) -> Duration {
        let Some(looked) = self.looked else { return Duration::ZERO };
        let may_have_changed = self.may_have_changed || self.wake.has_changed().unwrap_or(false);
        let interval = match (self.context.is_notified(), may_have_changed) {
            (true, true) => return Duration::ZERO,
            (true, false) => return UNTIL_WOKEN,
            (false, true) => MIN_RECORD_INTERVAL,
            (false, false) => RECORD_POLL_INTERVAL,
        };
        (looked + interval).saturating_sub(self.context.now())
    }

    /// Looks at the record, which operators change, once per poll interval, or when there may be
    /// news.
    async fn look(&mut self) -> Result<(), Failure> {
        let now = self.context.now();
        if !self.until_look().is_zero() {
            return Ok(());
        }
        self.may_have_changed = false;
        self.wake.mark_unchanged();
        let loading = self.registered.load(self.context.shared.log.id);
        let record = self.registered.within(self.context.clock(), loading).await?;
        if let ProjectionState::Failed { reason } = &record.state {
            if record.state != self.state {
                tracing::error!(
                    projection = P::NAME,
                    reason,
                    "the projection has failed; waiting until it is resumed or rebuilt"
                );
            }
        }
        (self.state, self.looked) = (record.state, Some(now));
        let loaded = record.checkpoints.into_iter().map(|c| (c.partition, c)).collect();
        match &self.at {
            Some(at) if *at == loaded && self.rebuilds == record.rebuilds => Ok(()),
            // The projection was rebuilt, or another process runs it.
            Some(_) => Err(Failure::Fenced),
            None if is_active(&self.state) => {
                self.rebuilds = record.rebuilds;
                self.begin(loaded).await
            }
            None => Ok(()),
        }
    }

    /// Compares the checkpoints with the log, and loads the blocked streams.
    async fn begin(&mut self, checkpoints: BTreeMap<u16, Checkpoint>) -> Result<(), Failure> {
        let partitions = self.context.shared.log.partitions;
        let checkpoints = self.at.insert(checkpoints);
        for checkpoint in checkpoints.values().filter(|checkpoint| checkpoint.offset > 0) {
            let compared = if checkpoint.partition < partitions {
                compare_with_log(self.context.store(), checkpoint).await.map(drop)
            } else {
                let partition = checkpoint.partition;
                Err(Failure::LogRewound(format!("the log has no partition {partition}")))
            };
            compared.map_err(|failure| match failure {
                Failure::LogRewound(reason) => {
                    Failure::LogRewound(format!("{reason}: rebuild the projection"))
                }
                failure => failure,
            })?;
        }
        let blocked = self.registered.model.blocked_streams(P::NAME);
        let blocked = self.registered.within(self.context.clock(), blocked).await?;
        self.blocked = blocked.into_iter().map(|of| (of.stream, of.blockage_id)).collect();
        Ok(())
    }

    /// Changes the state to `WaitingForNewerCode`. If several partitions wait, the state names the
    /// event that this process has met last.
    async fn needs_newer_code(&mut self, what: &str, is_first: bool) -> Result<(), Failure> {
        if is_first || !matches!(self.state, ProjectionState::WaitingForNewerCode { .. }) {
            // PostgreSQL cannot store NUL.
            let name = what.replace('`', "").replace('\0', "\u{fffd}");
            let waiting = ProjectionState::WaitingForNewerCode { name };
            let to = |record: &ProjectionRecord| is_active(&record.state).then(|| waiting.clone());
            self.change_state(self.held.lease.epoch, to).await?;
        }
        Ok(())
    }

    /// Ends the state `WaitingForNewerCode`: this process has decoded the event, or an operator has
    /// overridden it.
    async fn has_newer_code(&mut self) -> Result<(), Failure> {
        use ProjectionState::{Rebuilding, Running, WaitingForNewerCode};
        if matches!(self.state, WaitingForNewerCode { .. }) {
            let to = |record: &ProjectionRecord| {
                let waits = matches!(record.state, WaitingForNewerCode { .. });
                waits.then_some(if record.rebuilding { Rebuilding } else { Running })
            };
            self.change_state(self.held.lease.epoch, to).await?;
        }
        Ok(())
    }

    /// Changes the state to `Running` if the projection was being rebuilt.
    async fn caught_up(&mut self) -> Result<(), Failure> {
        if self.state == ProjectionState::Rebuilding {
            let rebuilt = |record: &ProjectionRecord| {
                let is_rebuilding = record.state == ProjectionState::Rebuilding;
                is_rebuilding.then_some(ProjectionState::Running)
            };
            self.change_state(self.held.lease.epoch, rebuilt).await?;
        }
        self.failures.went_well();
        Ok(())
    }

    /// Waits for events after the given positions, or until the record is to be looked at.
    async fn wait(&mut self, after: &[Position]) -> Result<(), StoreError> {
        let longest = if self.paused.is_empty() { UNTIL_WOKEN } else { STATE_POLL_INTERVAL };
        let pause = self.until_look().min(longest);
        let store = self.context.store();
        tokio::select! {
            biased;
            // After an error the log may have been restored, so the checkpoints are compared again.
            waited = store.wait_for_events(after) => waited,
            () = self.rest(pause) => Ok(()),
        }
    }

    /// Waits for `pause`, until the store has news about the record or the leases, or until the
    /// workers stop.
    async fn rest(&mut self, pause: Duration) {
        let mut leases = self.context.leases.changes();
        if !self.may_continue() {
            return;
        }
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => {}
            _ = leases.changed() => {}
            _ = self.wake.changed(), if !self.may_have_changed => self.may_have_changed = true,
            () = self.context.sleep(pause) => {}
        }
    }

    /// Pauses the partitions whose queue of blocked events is full.
    async fn pause_full(&mut self) -> Result<(), StoreError> {
        let (log, worker) = (self.context.shared.log, &self.held.lease.worker);
        let blocked = self.blocked.keys().map(|stream| log.partition_of(stream));
        let partitions: BTreeSet<u16> =
            blocked.filter(|partition| !self.paused.contains_key(partition)).collect();
        let queues = partitions.iter().map(|partition| queue_of::<P>(*partition)).collect();
        let full = self.context.full_queues(worker, queues).await?;
        let now = self.context.now();
        for partition in partitions {
            let is_full = full.iter().any(|queue| queue.partition == partition);
            if !self.queue_pauses.entry(partition).or_default().is_over(is_full, now) {
                self.paused.insert(partition, now + STATE_POLL_INTERVAL);
            }
        }
        Ok(())
    }

    /// Changes the state to what `to` returns for the record, if it returns one, under the lock and
    /// the epoch.
    async fn change_state(
        &mut self,
        epoch: u64,
        to: impl Fn(&ProjectionRecord) -> Option<ProjectionState>,
    ) -> Result<(), Failure> {
        let (registered, clock) = (self.registered, self.context.clock());
        let model = &registered.model;
        let mut transaction = registered.within(clock, model.begin()).await?;
        let record = self.lock(&mut transaction, epoch).await?;
        if let Some(to) = to(&record) {
            registered.within(clock, model.set_state(&mut transaction, P::NAME, &to)).await?;
            registered.within(clock, model.commit(transaction)).await?;
        }
        self.looked = None;
        registered.has_moved();
        Ok(())
    }

    /// Takes the projection's lock.
    ///
    /// # Errors
    ///
    /// - [`Failure::StaleEpoch`]: the checkpoints were written under a higher epoch.
    /// - [`Failure::Fenced`]: another process has moved the checkpoints, or the projection was
    ///   rebuilt.
    async fn lock(
        &self,
        transaction: &mut M::Transaction,
        epoch: u64,
    ) -> Result<ProjectionRecord, Failure> {
        let locking = self.registered.lock(transaction, self.context.shared.log.id);
        let record = self.registered.within(self.context.clock(), locking).await?;
        if record.epoch > epoch {
            return Err(Failure::StaleEpoch(format!(
                "the checkpoints were written under epoch {}, and this lease has epoch {epoch}",
                record.epoch
            )));
        }
        match &self.at {
            Some(at)
                if self.rebuilds != record.rebuilds || !at.values().eq(&record.checkpoints) =>
            {
                Err(Failure::Fenced)
            }
            _ => Ok(record),
        }
    }
}

/// Returns the queue of a projection's blocked events in a partition.
fn queue_of<P: Projection>(partition: u16) -> Queue {
    Queue { partition, kind: OutboxKind::Projection, target: P::NAME.to_owned() }
}
