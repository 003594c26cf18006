//! The outbox dispatcher: reads rows, executes them, and records the results. Rows begin in
//! `ready`, and their results are recorded in `settlement`.

mod decisions;
mod ready;
mod settlement;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::queue::{
    Outbox as _, OutboxKind, OutboxRow, Pause, Queue, QueueChange, QueuePosition,
};
use composable_rust_core::store::StoreError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::decisions::CarriedOut;
use self::settlement::SettledBatch;
use crate::metrics;
use crate::worker::context::WorkerContext;
use crate::worker::leases::{HeldLease, UnderLease, remove_released};
use crate::worker::outbox::call_limits::AdmittedCall;
use crate::worker::outbox::execution::{Execution, RowExecutor};
use crate::worker::outbox::gateway::RegisteredGateway;
use crate::worker::outbox::lanes::{self, LaneKey, Lanes, ReadId};
use crate::worker::page_size::PageSize;
use crate::worker::quarantine::{Quarantine, Suspicion, backoff_of_begun};
use crate::worker::queued_message::category_of;
use crate::worker::retry::RetryPolicy;
use crate::worker::throttle::Throttle;
use crate::worker::worker_id::WorkerId;

/// Maximum rows per queue in memory, not counting rows of blocked lanes, which must not keep others
/// from being read.
const MAX_READY_ROWS: usize = 1_000;
/// Maximum rows per queue in memory.
const MAX_ROWS_IN_MEMORY: usize = 20_000;
/// Maximum lanes per queue whose rows are all evicted.
const MAX_EVICTED_LANES: usize = 100_000;
/// Size of the rows per queue in memory above which no more are read, not counting rows of blocked
/// lanes.
const MAX_BUFFERED_BYTES: usize = 32 << 20;
/// Interval at which the rows of blocked lanes are evicted.
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);
/// Rows per queue that the first page has.
const FIRST_PAGE: usize = 50;
/// Maximum rows per queue that a page has.
const MAX_PAGE: usize = 500;
/// Maximum rows of all queues that one statement reads, unless that is less than [`MIN_PAGE`] of
/// each.
const MAX_READ: usize = 500;
/// Minimum rows per queue that one statement reads.
const MIN_PAGE: usize = 4;
/// Interval at which a dispatcher without news checks whether it must act.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which each queue is read from its beginning, in case rows were missed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The same for queues with evicted rows, which a sweep reads in vain.
const SWEEP_INTERVAL_WITH_EVICTED: Duration = Duration::from_secs(600);

/// Reads the queues whose leases this process holds, and executes their rows: those of one sender
/// for one recipient in order, all others concurrently.
pub(crate) struct Dispatcher<E> {
    context: Arc<WorkerContext>,
    executor: Arc<E>,
    gateways: BTreeMap<&'static str, RegisteredGateway>,
    /// The kinds and targets of the queues that this process can execute.
    kinds: Vec<(OutboxKind, String)>,
    queues: BTreeMap<Queue, QueueCursor>,
    lanes: Lanes,
    page: PageSize,
    running: JoinSet<ExecutedRow>,
    /// The rows under way, by executor.
    windows: BTreeMap<(OutboxKind, String), InFlight>,
    quarantine: Quarantine,
    /// The settlements of each partition that wait for the write in flight.
    unsettled: BTreeMap<u16, Vec<(ExecutedRow, QueueChange)>>,
    /// The writes in flight, at most one of each partition.
    settling: JoinSet<SettledBatch>,
    partitions_settling: BTreeSet<u16>,
    /// The partitions in which rows are being parked. They are not read meanwhile: later rows would
    /// not show that they are behind a parked one.
    partitions_parking: BTreeSet<u16>,
    decisions: Throttle,
    /// `true` if there may be decisions about dead letters that are not read yet.
    may_have_decisions: bool,
    /// The decisions that are being carried out.
    deciding: JoinSet<CarriedOut>,
    /// The lanes whose dead letters may be back in their queues, and the positions of these.
    unconfirmed: BTreeMap<LaneKey, QueuePosition>,
    /// The lanes of which a row is under way. It may have been read again meanwhile.
    executing: BTreeSet<LaneKey>,
    /// The stuck instances that are to be retried now.
    retries: mpsc::UnboundedReceiver<StreamId>,
}

/// The read position of a queue.
struct QueueCursor {
    held: Arc<HeldLease>,
    after: QueuePosition,
    /// `true` if the queue may have rows that were not read.
    has_more: bool,
    /// The last position of the rows that waited when a process crashed that may have worked on
    /// them; `None` until it is read.
    suspects_to: Option<QueuePosition>,
    sweeps: Throttle,
    evictions: Throttle,
}

impl UnderLease for QueueCursor {
    fn lease(&self) -> &Arc<HeldLease> {
        &self.held
    }
}

/// The rows that an executor (an aggregate type, gateway, policy or topic) has under way.
struct InFlight {
    count: usize,
    /// The monotonic time at which the first was begun, or the last one ended.
    last_progress: Duration,
}

/// A row after an attempt to execute it.
struct ExecutedRow {
    key: LaneKey,
    read_id: ReadId,
    row: OutboxRow,
    held: Arc<HeldLease>,
    suspicion: Option<Suspicion>,
    /// `true` if the attempt was recorded before it was made.
    is_recorded: bool,
    execution: Execution,
    /// The permit of the gateway's limits, until the call ends.
    call: Option<AdmittedCall>,
}

impl<E: RowExecutor> Dispatcher<E> {
    pub(crate) fn new(
        context: Arc<WorkerContext>,
        executor: Arc<E>,
        gateways: BTreeMap<&'static str, RegisteredGateway>,
        kinds: Vec<(OutboxKind, String)>,
    ) -> Self {
        // The calls of a dispatcher that panicked have ended with it.
        for gateway in gateways.values() {
            gateway.limits().restart();
        }
        let retries = context.shared.stuck.retries();
        Self {
            context,
            executor,
            gateways,
            kinds,
            queues: BTreeMap::new(),
            lanes: Lanes::default(),
            page: PageSize::new(FIRST_PAGE, MAX_PAGE),
            running: JoinSet::new(),
            windows: BTreeMap::new(),
            quarantine: Quarantine::default(),
            unsettled: BTreeMap::new(),
            settling: JoinSet::new(),
            partitions_settling: BTreeSet::new(),
            partitions_parking: BTreeSet::new(),
            decisions: Throttle::default(),
            may_have_decisions: true,
            deciding: JoinSet::new(),
            unconfirmed: BTreeMap::new(),
            executing: BTreeSet::new(),
            retries,
        }
    }

    pub(crate) async fn run(mut self) {
        let context = Arc::clone(&self.context);
        let (mut wake, mut leases) = (context.wake.clone(), context.leases.changes());
        loop {
            // News counts even while the events below keep this loop busy.
            if wake.has_changed().unwrap_or(false) {
                wake.mark_unchanged();
                self.mark_more();
            }
            self.take_queues();
            self.update_gateways();
            if let Err(error) = self.read().await {
                tracing::warn!(%error, "failed to read the outbox; retrying");
                self.mark_more();
                if !context.pause(Duration::from_millis(200)).await {
                    break;
                }
            }
            if let Err(error) = self.look_for_decisions().await {
                tracing::debug!(%error, "failed to read decisions about dead letters; retrying");
                if !context.pause(Duration::from_millis(200)).await {
                    break;
                }
            }
            self.start();
            let next = self.until_next();
            tokio::select! {
                biased;
                () = context.stop.cancelled() => break,
                Some(settled) = self.settling.join_next() => self.conclude(settled.ok()),
                Some(carried_out) = self.deciding.join_next() => {
                    self.confirm_decisions(&carried_out.unwrap_or_default());
                }
                Some(finished) = self.running.join_next() => self.finish(finished.ok()),
                Some(stream) = self.retries.recv() => {
                    self.lanes.retry_instance(stream.as_str(), context.now());
                }
                _ = leases.changed() => {}
                _ = wake.changed() => self.mark_more(),
                () = context.sleep(next) => {}
            }
        }
        // Rows under way end and are recorded, so that they are not executed twice.
        while let Some(finished) = self.running.join_next().await {
            self.finish(finished.ok());
        }
        while let Some(settled) = self.settling.join_next().await {
            self.conclude(settled.ok());
        }
    }

    /// Takes over the queues whose leases came, and drops those whose leases went.
    fn take_queues(&mut self) {
        let mut held = BTreeMap::new();
        for (kind, target) in &self.kinds {
            let worker = WorkerId::of_queue(*kind, target).to_string();
            for lease in self.context.leases.of(&worker) {
                let partition = lease.lease.partition;
                held.insert(Queue { partition, kind: *kind, target: target.clone() }, lease);
            }
        }
        for queue in remove_released(&mut self.queues, &held) {
            self.lanes.remove_queue(&queue);
        }
        let now = self.context.now();
        for (queue, held) in held {
            self.may_have_decisions |= !self.queues.contains_key(&queue);
            self.queues.entry(queue).or_insert_with(|| QueueCursor {
                suspects_to: (!held.is_from_dead()).then(QueuePosition::default),
                held,
                after: QueuePosition::default(),
                has_more: true,
                sweeps: Throttle::starting(now),
                evictions: Throttle::default(),
            });
        }
    }

    /// Tells the gateways which of their partitions are held, and whether they are paused.
    fn update_gateways(&self) {
        let (now, partitions) = (self.context.now(), self.context.shared.log.partitions);
        for (name, gateway) in &self.gateways {
            let is_own = |queue: &&Queue| queue.kind == OutboxKind::Call && queue.target == *name;
            let held = self.queues.keys().filter(is_own).count();
            let is_paused = self.context.leases.is_paused(&Pause::of_gateway(name));
            let mut limits = gateway.limits();
            limits.set_held(held, partitions, now);
            if limits.set_paused(is_paused) {
                metrics::GATEWAY_PAUSED.set([*name], f64::from(u8::from(is_paused)));
            }
        }
    }

    /// Records that the queues may have more rows, and that there may be decisions.
    fn mark_more(&mut self) {
        self.may_have_decisions = true;
        for cursor in self.queues.values_mut() {
            cursor.has_more = true;
        }
    }

    /// Returns the maximum rows of each queue that one statement reads from a number of queues.
    fn limit(&self, queues: usize) -> usize {
        self.page.rows().min((MAX_READ / queues.max(1)).max(MIN_PAGE))
    }

    /// Reads requested rows: those that were evicted, of lanes that have their turns.
    async fn read_requested(&mut self) -> Result<(), StoreError> {
        let now = self.context.now();
        let queues = self.queues.keys().filter(|queue| has_room_for_requested(&self.lanes, queue));
        let after =
            queues.filter_map(|queue| Some((queue.clone(), self.lanes.requested_after(queue)?)));
        let after: Vec<_> = after.collect();
        if after.is_empty() {
            return Ok(());
        }
        let limit = self.limit(after.len());
        let mut rows: BTreeMap<Queue, Vec<OutboxRow>> = BTreeMap::new();
        for row in self.context.store().read_outbox(&after, limit).await? {
            rows.entry(row.queue.clone()).or_default().push(row);
        }
        for (queue, _) in after {
            let rows = rows.remove(&queue).unwrap_or_default();
            self.lanes.restore(&queue, rows, limit, now);
        }
        Ok(())
    }

    /// Finds the last suspects of queues that were taken over from a process that crashed: it
    /// cannot have worked on rows that are queued later.
    async fn find_suspects(&mut self) -> Result<(), StoreError> {
        let unknown = self.queues.iter().filter(|(_, cursor)| cursor.suspects_to.is_none());
        let unknown: Vec<Queue> = unknown.map(|(queue, _)| queue.clone()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let positions = self.context.store().last_positions(&unknown).await?;
        for (queue, position) in unknown.into_iter().zip(positions) {
            if let Some(cursor) = self.queues.get_mut(&queue) {
                cursor.suspects_to = Some(position);
            }
        }
        Ok(())
    }

    /// Reads a page of each queue that has more rows and room for them.
    async fn read(&mut self) -> Result<(), StoreError> {
        self.find_suspects().await?;
        self.read_requested().await?;
        let now = self.context.now();
        let mut after = Vec::new();
        for (queue, cursor) in &mut self.queues {
            let has_evicted = self.lanes.has_evicted(queue);
            let sweep = if has_evicted { SWEEP_INTERVAL_WITH_EVICTED } else { SWEEP_INTERVAL };
            let may_miss_rows = !self.context.is_notified();
            if may_miss_rows && cursor.sweeps.admits(now, sweep) {
                (cursor.after, cursor.has_more) = (QueuePosition::default(), true);
            }
            if let Some(position) = self.lanes.take_rewind(queue) {
                (cursor.after, cursor.has_more) = (cursor.after.min(position), true);
            }
            if must_evict(&self.lanes, queue, cursor)
                && cursor.evictions.admits(now, EVICTION_INTERVAL)
            {
                self.lanes.evict(queue);
            }
            let is_parking = self.partitions_parking.contains(&queue.partition);
            if cursor.has_more && !is_parking && has_room(&self.lanes, queue) {
                after.push((queue.clone(), cursor.after));
            }
        }
        if after.is_empty() {
            return Ok(());
        }
        let limit = self.limit(after.len());
        let rows = self.context.store().read_outbox(&after, limit).await?;
        let mut size = 0;
        let mut counts: BTreeMap<Queue, usize> = BTreeMap::new();
        for mut row in rows {
            *counts.entry(row.queue.clone()).or_default() += 1;
            size += lanes::bytes(&row);
            if let Some(cursor) = self.queues.get_mut(&row.queue) {
                cursor.after = cursor.after.max(row.position);
            }
            if row.begun {
                let backoff = backoff_of_begun(self.retry_policy(&row.queue), row.attempts);
                row.wait = row.wait.max(backoff.unwrap_or_default());
            }
            self.lanes.push(row, now);
        }
        let mut full = false;
        for (queue, _) in after {
            if let Some(cursor) = self.queues.get_mut(&queue) {
                let count = counts.get(&queue);
                cursor.has_more = count.is_some_and(|count| *count >= limit);
                full |= cursor.has_more;
            }
        }
        self.page.was_read(size, full);
        Ok(())
    }

    /// Returns the time until the dispatcher must act again, if nothing happens before.
    fn until_next(&self) -> Duration {
        let now = self.context.now();
        let more = self.queues.iter().any(|(queue, cursor)| {
            let is_parking = self.partitions_parking.contains(&queue.partition);
            let more = cursor.has_more && !is_parking && has_room(&self.lanes, queue);
            more || self.lanes.requested_after(queue).is_some()
                && has_room_for_requested(&self.lanes, queue)
        });
        if more {
            return Duration::ZERO;
        }
        let must_evict =
            self.queues.iter().any(|(queue, cursor)| must_evict(&self.lanes, queue, cursor));
        let eviction = must_evict.then_some(EVICTION_INTERVAL);
        let waits = [self.until_start(now), self.until_decisions(now), eviction];
        let idle = self.context.poll_interval(IDLE_INTERVAL);
        waits.into_iter().flatten().min().unwrap_or(idle).min(idle)
    }

    /// Returns the attempts that rows of a queue have.
    fn retry_policy(&self, queue: &Queue) -> RetryPolicy {
        let gateway = self.gateways.get(queue.target.as_str());
        let gateway = gateway.filter(|_| queue.kind == OutboxKind::Call);
        gateway.map_or(self.context.shared.settings.retry, |gateway| gateway.retry)
    }
}

/// Returns `true` if instances handle the rows of a lane.
fn is_to_instance(key: &LaneKey) -> bool {
    matches!(key.queue.kind, OutboxKind::Dispatch | OutboxKind::Bulk)
}

/// Returns the executor of a lane's rows, by which they are bounded: the target, or, for other
/// services, the recipient's topic.
fn executor_of(key: &LaneKey) -> (OutboxKind, String) {
    let target = match key.queue.kind {
        OutboxKind::Send => category_of(&key.recipient),
        _ => &*key.queue.target,
    };
    (key.queue.kind, target.to_owned())
}

/// Returns `true` if rows of a queue must be evicted before others are read.
fn must_evict(lanes: &Lanes, queue: &Queue, cursor: &QueueCursor) -> bool {
    let is_large =
        lanes.rows(queue) >= MAX_ROWS_IN_MEMORY || lanes.bytes(queue) >= MAX_BUFFERED_BYTES;
    is_large && (cursor.has_more || lanes.requested_after(queue).is_some())
}

/// Returns `true` if more rows of a queue are to be read.
fn has_room(lanes: &Lanes, queue: &Queue) -> bool {
    lanes.unblocked_rows(queue) < MAX_READY_ROWS
        && lanes.unblocked_bytes(queue) < MAX_BUFFERED_BYTES
        && lanes.rows(queue) < MAX_ROWS_IN_MEMORY
        && lanes.evicted_lanes(queue) < MAX_EVICTED_LANES
}

/// Returns `true` if requested rows of a queue are to be read.
fn has_room_for_requested(lanes: &Lanes, queue: &Queue) -> bool {
    lanes.rows(queue) < MAX_ROWS_IN_MEMORY && lanes.bytes(queue) < MAX_BUFFERED_BYTES
}
