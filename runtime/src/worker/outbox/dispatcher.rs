//! Working the queues of the outbox: reading them. What can begin is begun in `ready`, and what became of
//! it is written in `settlement`.

mod ready;
mod settlement;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Outbox as _, OutboxKind, OutboxMessage, OutboxRow, Queue, QueueChange, QueuePosition,
    StoreError, StreamId,
};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::settlement::SettledBatch;
use crate::worker::bus::cloud_event::category_of;
use crate::worker::context::WorkerContext;
use crate::worker::leases::{HeldLease, worker_of};
use crate::worker::outbox::circuit_breaker::{CallPermit, CircuitBreaker};
use crate::worker::outbox::dead_letters::DECISION_POLL_INTERVAL;
use crate::worker::outbox::execute::Executed;
use crate::worker::outbox::lanes::{self, LaneKey, Lanes, ReadId};
use crate::worker::page_size::PageSize;
use crate::worker::quarantine::{Quarantine, Suspicion, wait_of_begun};
use crate::worker::retry::RetryPolicy;

/// Rows of one queue that are in memory at most, those aside that wait for another try: they must
/// not keep others from being read.
const MAX_READY_ROWS: usize = 1_000;
/// Rows of one queue that are in memory at most, whatever they wait for.
const MAX_ROWS_IN_MEMORY: usize = 20_000;
/// Pairs of one queue of which only the place of the first row is in memory, from which on no more is
/// read.
const MAX_EVICTED_ROWS: usize = 100_000;
/// Bytes of one queue from which on no more is read, those aside that wait for another try.
const MAX_BUFFERED_BYTES: usize = 32 << 20;
/// How often room is made by letting go what waits.
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);
/// Rows of one queue that are read at a time: at first, and at most.
const FIRST_PAGE: usize = 50;
const PAGE: usize = 500;
/// Rows that one statement reads, of all queues; and of each queue at least, however many there are.
const MAX_READ: usize = 500;
const MIN_PAGE: usize = 4;
/// How often decisions are looked for while it is not known whether one was carried out.
const UNCONFIRMED_DECISION_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How often a queue is read from its beginning, though nothing should be there.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The same where rows were let go, which it reads in vain.
const MAX_SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// How long a full window stands still before what waits for it no longer keeps others from being
/// read.
const STALL_THRESHOLD: Duration = Duration::from_secs(1);

/// Reads the queues that this process has leases of, and executes their rows: those of one sender
/// for one recipient in order, everything else side by side.
pub(crate) struct Dispatcher {
    work: Arc<WorkerContext>,
    /// What this process can execute.
    kinds: Vec<(OutboxKind, String)>,
    queues: BTreeMap<Queue, QueueCursor>,
    lanes: Lanes,
    page: PageSize,
    running: JoinSet<ExecutedRow>,
    /// Rows under way, by what executes them.
    windows: BTreeMap<(OutboxKind, String), ReadWindow>,
    quarantine: Quarantine,
    breakers: BTreeMap<String, CircuitBreaker>,
    /// What is to be written of each partition once what is being written of it is.
    unsettled: BTreeMap<u16, Vec<(ExecutedRow, QueueChange)>>,
    /// What is being written: of each partition one batch, while others go on.
    settling: JoinSet<SettledBatch>,
    partitions_settling: BTreeSet<u16>,
    /// Those of which rows are being parked. Nothing of them is read meanwhile: it would not be known
    /// that it stands behind.
    partitions_parking: BTreeSet<u16>,
    looked_for_decisions: Duration,
    /// Decisions that are being carried out, while others go on.
    deciding: JoinSet<DecidedDeadLetters>,
    /// Pairs of which it is not known whether their dead letters are back in their queues, and the
    /// places of these.
    doubtful: BTreeMap<LaneKey, QueuePosition>,
    /// Pairs of which a row is under way: it may have been read anew meanwhile.
    executing: BTreeSet<LaneKey>,
    /// The instances whose messages need not wait any longer.
    retries: mpsc::UnboundedReceiver<StreamId>,
}

struct QueueCursor {
    held: Arc<HeldLease>,
    after: QueuePosition,
    /// Whether there may be rows that were not read.
    more: bool,
    /// Rows up to here waited when a process died that may have worked on them.
    /// `None`: the last place is not read yet.
    waited_to: Option<QueuePosition>,
    swept: Duration,
    made_room: Duration,
}

/// The rows that one aggregate type, gateway, policy or topic has under way.
struct ReadWindow {
    busy: usize,
    /// When one was last begun while there was none, or ended.
    moved: Duration,
}

struct ExecutedRow {
    key: LaneKey,
    serial: ReadId,
    row: OutboxRow,
    held: Arc<HeldLease>,
    suspicion: Option<Suspicion>,
    /// Whether the attempt was on record before it was made.
    is_recorded: bool,
    executed: Executed,
    /// The call that the gateway's breaker has admitted.
    call: Option<CallPermit>,
}

/// How far decisions were carried out.
#[derive(Default)]
struct DecidedDeadLetters {
    /// Whether it is known what came of all of them.
    is_done: bool,
    more: bool,
}

impl Dispatcher {
    pub(crate) fn new(work: Arc<WorkerContext>, kinds: Vec<(OutboxKind, String)>) -> Self {
        let breakers = work
            .gateways
            .iter()
            .map(|(name, registered)| {
                ((*name).to_owned(), CircuitBreaker::new(registered.settings.circuit_breaker))
            })
            .collect();
        let retries = work.shared.stuck.retries();
        Self {
            work,
            kinds,
            queues: BTreeMap::new(),
            lanes: Lanes::default(),
            page: PageSize::new(FIRST_PAGE, PAGE),
            running: JoinSet::new(),
            windows: BTreeMap::new(),
            quarantine: Quarantine::default(),
            breakers,
            unsettled: BTreeMap::new(),
            settling: JoinSet::new(),
            partitions_settling: BTreeSet::new(),
            partitions_parking: BTreeSet::new(),
            looked_for_decisions: Duration::ZERO,
            deciding: JoinSet::new(),
            doubtful: BTreeMap::new(),
            executing: BTreeSet::new(),
            retries,
        }
    }

    pub(crate) async fn run(mut self) {
        let work = Arc::clone(&self.work);
        let (mut wake, mut leases) = (work.wake.clone(), work.leases.changes());
        loop {
            // Whatever else keeps this busy.
            if wake.has_changed().unwrap_or(false) {
                wake.mark_unchanged();
                self.mark_more();
            }
            self.take_queues();
            if let Err(error) = self.read().await {
                tracing::warn!(%error, "the outbox cannot be read; this is tried again");
                self.mark_more();
                if !work.pause(Duration::from_millis(200)).await {
                    break;
                }
            }
            if let Err(error) = self.look_for_decisions().await {
                tracing::debug!(%error, "failed to read decisions about dead letters; retrying");
            }
            self.start();
            let next = self.until_next();
            tokio::select! {
                biased;
                () = work.stop.cancelled() => break,
                Some(settled) = self.settling.join_next() => self.conclude(settled.ok()),
                Some(decided) = self.deciding.join_next() => self.take_back(&decided.unwrap_or_default()),
                Some(finished) = self.running.join_next() => self.finish(finished.ok()),
                Some(stream) = self.retries.recv() => {
                    self.lanes.retry_instance(stream.as_str(), work.now());
                }
                _ = leases.changed() => {}
                _ = wake.changed() => self.mark_more(),
                () = work.clock().sleep(next) => {}
            }
        }
        // What is under way ends; what it says is kept, so that it is not done twice.
        while let Some(finished) = self.running.join_next().await {
            self.finish(finished.ok());
        }
        while let Some(settled) = self.settling.join_next().await {
            self.conclude(settled.ok());
        }
    }

    /// Takes up the queues whose leases came, drops those whose leases went.
    fn take_queues(&mut self) {
        let mut held = BTreeMap::new();
        for (kind, target) in &self.kinds {
            for lease in self.work.leases.of(&worker_of(*kind, target)) {
                let partition = lease.lease.partition;
                held.insert(Queue { partition, kind: *kind, target: target.clone() }, lease);
            }
        }
        let gone: Vec<Queue> = self
            .queues
            .iter()
            .filter(|(queue, reading)| {
                held.get(queue).is_none_or(|held| !Arc::ptr_eq(held, &reading.held))
            })
            .map(|(queue, _)| queue.clone())
            .collect();
        for queue in gone {
            self.queues.remove(&queue);
            self.lanes.remove_queue(&queue);
        }
        let now = self.work.now();
        for (queue, held) in held {
            self.queues.entry(queue).or_insert_with(|| QueueCursor {
                waited_to: (!held.is_from_dead()).then(QueuePosition::default),
                held,
                after: QueuePosition::default(),
                more: true,
                swept: now,
                made_room: Duration::ZERO,
            });
        }
    }

    fn mark_more(&mut self) {
        for reading in self.queues.values_mut() {
            reading.more = true;
        }
    }

    /// The rows of each queue that one statement reads: those of all together are bounded.
    fn limit(&self, queues: usize) -> usize {
        self.page.rows().min((MAX_READ / queues.max(1)).max(MIN_PAGE))
    }

    /// Reads rows again that were let go, of lanes that have their turns.
    async fn reread(&mut self) -> Result<(), StoreError> {
        let now = self.work.now();
        let queues = self.queues.keys().filter(|queue| has_room_to_reread(&self.lanes, queue));
        let after = queues.filter_map(|queue| Some((queue.clone(), self.lanes.unread(queue)?)));
        let after: Vec<_> = after.collect();
        if after.is_empty() {
            return Ok(());
        }
        let limit = self.limit(after.len());
        let mut rows: BTreeMap<Queue, Vec<OutboxRow>> = BTreeMap::new();
        for row in self.work.store().read_outbox(&after, limit).await? {
            rows.entry(row.queue.clone()).or_default().push(row);
        }
        for (queue, _) in after {
            let rows = rows.remove(&queue).unwrap_or_default();
            self.lanes.reread(&queue, rows, limit, now);
        }
        Ok(())
    }

    /// Finds where the suspects end in queues that were taken over from a process that died: what is
    /// queued later it cannot have worked on.
    async fn find_suspects(&mut self) -> Result<(), StoreError> {
        let unknown = self.queues.iter().filter(|(_, reading)| reading.waited_to.is_none());
        let unknown: Vec<Queue> = unknown.map(|(queue, _)| queue.clone()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let places = self.work.store().last_positions(&unknown).await?;
        for (queue, place) in unknown.into_iter().zip(places) {
            if let Some(reading) = self.queues.get_mut(&queue) {
                reading.waited_to = Some(place);
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        self.find_suspects().await?;
        self.reread().await?;
        let now = self.work.now();
        let mut after = Vec::new();
        for (queue, reading) in &mut self.queues {
            let sweep =
                if self.lanes.has_let_go(queue) { MAX_SWEEP_INTERVAL } else { SWEEP_INTERVAL };
            if now.saturating_sub(reading.swept) > sweep {
                (reading.after, reading.more, reading.swept) =
                    (QueuePosition::default(), true, now);
            }
            if let Some(place) = self.lanes.rewound(queue) {
                (reading.after, reading.more) = (reading.after.min(place), true);
            }
            let is_large = self.lanes.count(queue) >= MAX_ROWS_IN_MEMORY
                || self.lanes.bytes(queue) >= MAX_BUFFERED_BYTES;
            let is_wanted = reading.more || self.lanes.unread(queue).is_some();
            if is_wanted && is_large && now.saturating_sub(reading.made_room) >= EVICTION_INTERVAL {
                reading.made_room = now;
                self.lanes.let_go(queue);
            }
            let is_parking = self.partitions_parking.contains(&queue.partition);
            if reading.more && !is_parking && has_room(&self.lanes, queue) {
                after.push((queue.clone(), reading.after));
            }
        }
        if after.is_empty() {
            return Ok(());
        }
        let limit = self.limit(after.len());
        let rows = self.work.store().read_outbox(&after, limit).await?;
        let mut size = 0;
        let mut counts: BTreeMap<Queue, usize> = BTreeMap::new();
        for mut row in rows {
            *counts.entry(row.queue.clone()).or_default() += 1;
            size += lanes::bytes(&row);
            if let Some(reading) = self.queues.get_mut(&row.queue) {
                reading.after = reading.after.max(row.position);
            }
            if row.begun {
                let wait = wait_of_begun(self.work.attempts_of(&row.queue), row.attempts);
                row.wait = row.wait.max(wait.unwrap_or_default());
            }
            self.lanes.push(row, now);
        }
        let mut full = false;
        for (queue, _) in after {
            if let Some(reading) = self.queues.get_mut(&queue) {
                let count = counts.get(&queue);
                reading.more = count.is_some_and(|count| *count >= limit);
                full |= reading.more;
            }
        }
        self.page.was_read(size, full);
        Ok(())
    }

    fn until_next(&self) -> Duration {
        let now = self.work.now();
        let more = self.queues.iter().any(|(queue, reading)| {
            let is_parking = self.partitions_parking.contains(&queue.partition);
            let more = reading.more && !is_parking && has_room(&self.lanes, queue);
            more || self.lanes.unread(queue).is_some() && has_room_to_reread(&self.lanes, queue)
        });
        if more {
            return Duration::ZERO;
        }
        self.until_start(now).unwrap_or(DECISION_POLL_INTERVAL).min(DECISION_POLL_INTERVAL)
    }

    /// Begins to carry out what was decided. The pairs wait until it is known what came of it.
    async fn look_for_decisions(&mut self) -> Result<(), StoreError> {
        if !self.deciding.is_empty() {
            return Ok(());
        }
        let now = self.work.now();
        let pause = if self.doubtful.is_empty() {
            DECISION_POLL_INTERVAL
        } else {
            UNCONFIRMED_DECISION_POLL_INTERVAL
        };
        if now.saturating_sub(self.looked_for_decisions) < pause {
            return Ok(());
        }
        self.looked_for_decisions = now;
        // What is being parked may stand behind what is decided about.
        let is_parking = |queue: &Queue| self.partitions_parking.contains(&queue.partition);
        let queues = self.queues.iter().filter(|(queue, _)| !is_parking(queue));
        let held: BTreeMap<_, _> =
            queues.map(|(queue, of)| (queue.clone(), Arc::clone(&of.held))).collect();
        let (letters, more) = self.work.decided(&held).await?;
        if letters.is_empty() && self.doubtful.is_empty() {
            return Ok(());
        }
        for letter in &letters {
            let OutboxMessage { sender: stream, row } = &letter.message;
            let pair = (letter.queue.clone(), stream.clone(), row.recipient.clone());
            let place = self.doubtful.entry(pair).or_insert(letter.position);
            *place = letter.position.min(*place);
        }
        let work = Arc::clone(&self.work);
        self.deciding.spawn(async move {
            let carried_out = AssertUnwindSafe(work.carry_out(&held, letters)).catch_unwind().await;
            let is_done = carried_out.is_ok_and(|(_, done)| done.is_ok());
            DecidedDeadLetters { is_done, more }
        });
        Ok(())
    }

    /// Takes back into the queues what was decided about.
    fn take_back(&mut self, decided: &DecidedDeadLetters) {
        if !decided.is_done {
            return;
        }
        if decided.more {
            self.looked_for_decisions = Duration::ZERO;
        }
        for (pair, mut place) in std::mem::take(&mut self.doubtful) {
            // What went back stands before what was read, and nothing is behind it any more.
            if let Some(first) = self.lanes.remove(&pair).first() {
                place = place.min(first.position);
            }
            if let Some(reading) = self.queues.get_mut(&pair.0) {
                let before =
                    QueuePosition { sequence: place.sequence.saturating_sub(1), index: u32::MAX };
                (reading.after, reading.more) = (reading.after.min(before), true);
            }
        }
    }
}

/// Whether a lane's rows are handled by an instance.
fn is_to_instance((queue, ..): &LaneKey) -> bool {
    matches!(queue.kind, OutboxKind::Dispatch | OutboxKind::Bulk)
}

/// What a lane's rows share their bound with: those of its target, or, for other services, those of
/// its recipient's topic.
fn window_of((queue, _, recipient): &LaneKey) -> (OutboxKind, String) {
    let target = match queue.kind {
        OutboxKind::Send => category_of(recipient),
        _ => &*queue.target,
    };
    (queue.kind, target.to_owned())
}

/// Whether more rows of a queue are to be read.
fn has_room(lanes: &Lanes, queue: &Queue) -> bool {
    lanes.flowing(queue) < MAX_READY_ROWS
        && lanes.flowing_bytes(queue) < MAX_BUFFERED_BYTES
        && lanes.count(queue) < MAX_ROWS_IN_MEMORY
        && lanes.away(queue) < MAX_EVICTED_ROWS
}

/// Whether rows that were let go are to be read again.
fn has_room_to_reread(lanes: &Lanes, queue: &Queue) -> bool {
    lanes.count(queue) < MAX_ROWS_IN_MEMORY && lanes.bytes(queue) < MAX_BUFFERED_BYTES
}

impl WorkerContext {
    /// The attempts that rows of a queue have.
    pub(crate) fn attempts_of(&self, queue: &Queue) -> RetryPolicy {
        match self.gateways.get(queue.target.as_str()) {
            Some(gateway) if queue.kind == OutboxKind::Call => gateway.settings.retry,
            _ => self.shared.settings.retry,
        }
    }
}
