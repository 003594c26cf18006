//! Working the queues of the outbox: reading, starting, writing what became of it.

mod ready;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    OutboxKind, OutboxRow, Queue, QueueChange, QueuePlace, QueuedRow, ReplyOutcome, Settlement,
    StoreError, StreamId, WorkQueues as _, validate_rows,
};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::attempts::{Attempts, wait_for_others};
use super::breaker::{Admitted, Breaker};
use super::context::{Work, kept, metadata};
use super::decisions::{LOOK_FOR_DECISIONS, answer};
use super::envelope::category_of;
use super::execute::Executed;
use super::lanes::{self, LaneKey, Lanes, Serial};
use super::leases::{Held, worker_of};
use super::page::Page;
use super::quarantine::{Quarantine, Suspicion, wait_of_begun};

/// Rows of one queue that are in memory at most, those aside that wait for another try: they must
/// not keep others from being read.
const BUFFER: usize = 1_000;
/// Rows of one queue that are in memory at most, whatever they wait for.
const MOST: usize = 20_000;
/// Pairs of one queue of which only the place of the first row is in memory, from which on no more is
/// read.
const MAX_AWAY: usize = 100_000;
/// Bytes of one queue from which on no more is read, those aside that wait for another try.
const MOST_BYTES: usize = 32 << 20;
/// How often room is made by letting go what waits.
const MAKE_ROOM: Duration = Duration::from_secs(1);
/// Rows of one queue that are read at a time: at first, and at most.
const FIRST_PAGE: usize = 50;
const PAGE: usize = 500;
/// Rows that one statement reads, of all queues; and of each queue at least, however many there are.
const MAX_READ: usize = 500;
const MIN_PAGE: usize = 4;
/// How often decisions are looked for while it is not known whether one was carried out.
const IN_DOUBT: Duration = Duration::from_millis(100);
/// How often a queue is read from its beginning, though nothing should be there.
const SWEEP: Duration = Duration::from_secs(60);
/// The same where rows were let go, which it reads in vain.
const LONG_SWEEP: Duration = Duration::from_secs(600);
/// How long a full window stands still before what waits for it no longer keeps others from being
/// read.
const STALLED: Duration = Duration::from_secs(1);

/// Reads the queues that this process has leases of, and executes their rows: those of one sender
/// for one recipient in order, everything else side by side.
pub(crate) struct Dispatcher {
    work: Arc<Work>,
    /// What this process can execute.
    kinds: Vec<(OutboxKind, String)>,
    queues: BTreeMap<Queue, Reading>,
    lanes: Lanes,
    page: Page,
    running: JoinSet<Finished>,
    /// Rows under way, by what executes them.
    windows: BTreeMap<(OutboxKind, String), Window>,
    quarantine: Quarantine,
    breakers: BTreeMap<String, Breaker>,
    /// What is to be written of each partition once what is being written of it is.
    unsettled: BTreeMap<u16, Vec<(Finished, QueueChange)>>,
    /// What is being written: of each partition one batch, while others go on.
    settling: JoinSet<Settled>,
    partitions_settling: BTreeSet<u16>,
    /// Those of which rows are being parked. Nothing of them is read meanwhile: it would not be known
    /// that it stands behind.
    partitions_parking: BTreeSet<u16>,
    looked_for_decisions: Duration,
    /// Decisions that are being carried out, while others go on.
    deciding: JoinSet<Decided>,
    /// Pairs of which it is not known whether their dead letters are back in their queues, and the
    /// places of these.
    doubtful: BTreeMap<LaneKey, QueuePlace>,
    /// Pairs of which a row is under way: it may have been read anew meanwhile.
    executing: BTreeSet<LaneKey>,
    /// The instances whose messages need not wait any longer.
    retries: mpsc::UnboundedReceiver<StreamId>,
}

struct Reading {
    held: Arc<Held>,
    after: QueuePlace,
    /// Whether there may be rows that were not read.
    more: bool,
    /// Rows up to here waited when a process died that may have worked on them.
    /// `None`: the last place is not read yet.
    waited_to: Option<QueuePlace>,
    swept: Duration,
    made_room: Duration,
}

/// The rows that one aggregate type, gateway, policy or topic has under way.
struct Window {
    busy: usize,
    /// When one was last begun while there was none, or ended.
    moved: Duration,
}

struct Finished {
    key: LaneKey,
    serial: Serial,
    row: OutboxRow,
    held: Arc<Held>,
    suspicion: Option<Suspicion>,
    /// Whether the attempt was on record before it was made.
    is_recorded: bool,
    executed: Executed,
    /// The call that the gateway's breaker has admitted.
    call: Option<Admitted>,
}

/// How far decisions were carried out.
#[derive(Default)]
struct Decided {
    /// Whether it is known what came of all of them.
    is_done: bool,
    more: bool,
}

/// A batch of settlements, and the outcome of writing each.
struct Settled {
    partition: u16,
    ended: Vec<(Finished, QueueChange)>,
    outcomes: Vec<SettleOutcome>,
}

/// The outcome of writing a settlement.
#[derive(Clone)]
enum SettleOutcome {
    Written,
    /// The row is another process's, or the outcome is unknown.
    NotOurs,
    /// The store cannot hold the settlement.
    Invalid(String),
}

impl Dispatcher {
    pub(crate) fn new(work: Arc<Work>, kinds: Vec<(OutboxKind, String)>) -> Self {
        let breakers = work
            .gateways
            .iter()
            .map(|(name, registered)| {
                ((*name).to_owned(), Breaker::new(registered.settings.breaker))
            })
            .collect();
        let retries = work.shared.stuck.retries();
        Self {
            work,
            kinds,
            queues: BTreeMap::new(),
            lanes: Lanes::default(),
            page: Page::new(FIRST_PAGE, PAGE),
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
            self.queues.entry(queue).or_insert_with(|| Reading {
                waited_to: (!held.is_from_dead()).then(QueuePlace::default),
                held,
                after: QueuePlace::default(),
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
        let places = self.work.store().last_places(&unknown).await?;
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
            let sweep = if self.lanes.has_let_go(queue) { LONG_SWEEP } else { SWEEP };
            if now.saturating_sub(reading.swept) > sweep {
                (reading.after, reading.more, reading.swept) = (QueuePlace::default(), true, now);
            }
            if let Some(place) = self.lanes.rewound(queue) {
                (reading.after, reading.more) = (reading.after.min(place), true);
            }
            let is_large = self.lanes.count(queue) >= MOST || self.lanes.bytes(queue) >= MOST_BYTES;
            let is_wanted = reading.more || self.lanes.unread(queue).is_some();
            if is_wanted && is_large && now.saturating_sub(reading.made_room) >= MAKE_ROOM {
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
                reading.after = reading.after.max(row.place);
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
        self.until_start(now).unwrap_or(LOOK_FOR_DECISIONS).min(LOOK_FOR_DECISIONS)
    }

    /// Says what became of everything that has ended, in one transaction for each partition.
    fn finish(&mut self, first: Option<Finished>) {
        let mut finished: Vec<Finished> = first.into_iter().collect();
        while let Some(next) = self.running.try_join_next() {
            finished.extend(next.ok());
        }
        let now = self.work.now();
        for mut ended in finished {
            if let Entry::Occupied(mut window) = self.windows.entry(window_of(&ended.key)) {
                window.get_mut().moved = now;
                window.get_mut().busy = window.get().busy.saturating_sub(1);
                if window.get().busy == 0 {
                    window.remove();
                }
            }
            self.record(&ended, now);
            // What it stood behind was decided about meanwhile: it is read anew.
            let is_first = self.lanes.is_first(&ended.key, ended.serial);
            if ended.row.behind_parked && (!is_first || self.doubtful.contains_key(&ended.key)) {
                self.leave(&mut ended);
                continue;
            }
            if let Some(change) = self.change(&mut ended) {
                self.unsettled.entry(ended.key.0.partition).or_default().push((ended, change));
            } else {
                self.leave(&mut ended);
                self.put_off(&ended, now);
            }
        }
        self.settle();
    }

    /// Lets others begin in the place of a row of which everything is on record. Before that, a suspect
    /// that killed the process would have it blamed, too.
    fn leave(&mut self, ended: &mut Finished) {
        self.executing.remove(&ended.key);
        if let Some(suspicion) = ended.suspicion.take() {
            self.quarantine.end(suspicion, &window_of(&ended.key));
        }
    }

    /// Writes what is to be written of those partitions of which nothing is being written.
    fn settle(&mut self) {
        for (partition, mut ended) in std::mem::take(&mut self.unsettled) {
            if self.partitions_settling.contains(&partition) {
                self.unsettled.insert(partition, ended);
                continue;
            }
            // What they stand behind was decided about while they waited: they are read anew.
            ended.retain_mut(|(of, _)| {
                let is_kept = !of.row.behind_parked || !self.doubtful.contains_key(&of.key);
                if !is_kept {
                    self.leave(of);
                }
                is_kept
            });
            if ended.is_empty() {
                continue;
            }
            self.partitions_settling.insert(partition);
            let work = Arc::clone(&self.work);
            if ended.iter().any(|(_, change)| matches!(change, QueueChange::Parked { .. })) {
                self.partitions_parking.insert(partition);
            }
            let settlements: Vec<_> = ended.iter().map(|of| self.with_lane(of)).collect();
            self.settling.spawn(async move {
                let written = AssertUnwindSafe(work.settled(partition, &settlements));
                let outcomes = written.catch_unwind().await;
                let outcomes =
                    outcomes.unwrap_or_else(|_| vec![SettleOutcome::NotOurs; settlements.len()]);
                Settled { partition, ended, outcomes }
            });
        }
    }

    fn record(&mut self, ended: &Finished, now: Duration) {
        let breaker = self.breakers.get_mut(&ended.key.0.target);
        let (Some(call), Some(breaker)) = (ended.call, breaker) else { return };
        let failed = match &ended.executed {
            Executed::Done(_) => false,
            Executed::Failed(_) | Executed::Exhausted(..) | Executed::Waiting(_) => true,
            Executed::Erased
            | Executed::Poison(_)
            | Executed::Killed(_)
            | Executed::Stuck(_)
            | Executed::NotBegun(_)
            | Executed::Newer(_) => return breaker.withdraw(call),
        };
        if breaker.record(call, failed, now) {
            tracing::warn!(
                gateway = %ended.key.0.target, "most calls of the gateway fail; its calls wait"
            );
        }
    }

    /// What is to be written about a row; nothing, if it is only put off.
    fn change(&mut self, ended: &mut Finished) -> Option<QueueChange> {
        let row = &ended.row;
        let failures = row.attempts + 1;
        Some(match std::mem::replace(&mut ended.executed, Executed::Done(Vec::new())) {
            Executed::Done(_) if row.behind_parked => {
                QueueChange::Parked { attempts: row.attempts, error: None }
            }
            Executed::Erased => QueueChange::Done(Vec::new()),
            Executed::Done(rows) => match validate_rows(&rows) {
                Ok(()) => QueueChange::Done(rows),
                Err(error) => parked(row, failures, error.to_string()),
            },
            Executed::Exhausted(error, answer) => {
                tracing::warn!(gateway = %row.queue.target, error, "a call is out of attempts");
                QueueChange::Done(answer)
            }
            Executed::Failed(error) => {
                match self.work.attempts_of(&row.queue).wait_after(failures) {
                    Some(retry_after) => {
                        let error = kept(error);
                        QueueChange::Failed { attempts: failures, retry_after, error }
                    }
                    None => parked(row, failures, error),
                }
            }
            Executed::Poison(error) => parked(row, failures, error),
            Executed::Killed(error) if row.queue.kind == OutboxKind::Call => {
                tracing::error!(
                    gateway = %row.queue.target, id = %row.queued.row.id, error,
                    "a call is answered `Exhausted`"
                );
                let (target, outcome) = (&row.queue.target, ReplyOutcome::Exhausted);
                // What was erased is not answered.
                let metadata = metadata(&row.queued.row.metadata).ok().flatten();
                let answers = metadata.map(|of| answer(&row.queued, of, target, outcome, None));
                QueueChange::Done(answers.unwrap_or_default())
            }
            Executed::Killed(error) => parked(row, row.attempts, error),
            Executed::Waiting(reason) | Executed::NotBegun(reason) => {
                tracing::debug!(target = %row.queue.target, reason, "an effect waits");
                return taken_back(ended, reason);
            }
            Executed::Stuck(reason) => {
                let is_first = self.lanes.times_put_off(&ended.key) == 0;
                if !is_first && !ended.is_recorded {
                    return None;
                }
                // Kept once, so that operators see it wherever they look.
                let (attempts, retry_after) = (row.attempts, wait_for_others(5));
                QueueChange::Failed { attempts, retry_after, error: kept(reason) }
            }
            Executed::Newer(newer) => {
                let worker = worker_of(row.queue.kind, &row.queue.target);
                let meeting = self.work.meet(&worker, &newer, &row.queued.row.id);
                self.work.leases.withdraw(&worker, meeting.is_first);
                if !meeting.is_first && !ended.is_recorded {
                    return None;
                }
                // Kept once, so that operators see it wherever they look.
                let (attempts, retry_after) = (row.attempts, wait_for_others(5));
                QueueChange::Failed { attempts, retry_after, error: kept(newer.reason) }
            }
        })
    }

    fn conclude(&mut self, settled: Option<Settled>) {
        let Some(Settled { partition, ended, outcomes }) = settled else { return };
        self.partitions_settling.remove(&partition);
        self.partitions_parking.remove(&partition);
        let invalid = self.go_on(ended, outcomes);
        for of in invalid {
            self.executing.insert(of.0.key.clone());
            self.unsettled.entry(partition).or_default().push(of);
        }
        self.settle();
    }

    /// What was written decides what its lanes do next. Gives the rows whose settlements the store
    /// cannot hold, to be parked instead.
    fn go_on(
        &mut self,
        ended: Vec<(Finished, QueueChange)>,
        outcomes: Vec<SettleOutcome>,
    ) -> Vec<(Finished, QueueChange)> {
        let now = self.work.now();
        let mut invalid = Vec::new();
        for ((mut ended, change), outcome) in ended.into_iter().zip(outcomes) {
            self.leave(&mut ended);
            // It may have been read anew.
            if let Some((serial, row)) = self.lanes.first(&ended.key) {
                if row.place == ended.row.place {
                    ended.serial = serial;
                }
            }
            match outcome {
                SettleOutcome::Written => {}
                SettleOutcome::NotOurs => {
                    self.work.leases.lost(&ended.held);
                    continue;
                }
                SettleOutcome::Invalid(error) if matches!(change, QueueChange::Parked { .. }) => {
                    tracing::error!(
                        queue = %worker_of(ended.row.queue.kind, &ended.row.queue.target),
                        id = %ended.row.queued.row.id, sender = ?ended.row.queued.stream, error,
                        "failed to park a message; it and those behind it wait until the lease changes"
                    );
                    self.lanes.set_aside(&ended.key, ended.serial);
                    continue;
                }
                SettleOutcome::Invalid(error) => {
                    let error = format!("its settlement cannot be stored: {error}");
                    let change = parked(&ended.row, ended.row.attempts + 1, error);
                    invalid.push((ended, change));
                    continue;
                }
            }
            if !matches!(change, QueueChange::Failed { .. }) {
                let worker = &ended.held.lease.worker;
                self.work.shared.unknowns.gone(worker, &ended.row.queued.row.id);
            }
            match change {
                QueueChange::Failed { attempts, .. } if attempts == ended.row.attempts => {
                    self.lanes.has_ended(&ended.key, ended.serial);
                    self.put_off(&ended, now);
                }
                QueueChange::Failed { attempts, retry_after, .. } => {
                    self.lanes.has_ended(&ended.key, ended.serial);
                    self.lanes.retry(&ended.key, ended.serial, attempts, now, retry_after);
                }
                QueueChange::Done(_) => self.lanes.advance(&ended.key, ended.serial, now),
                QueueChange::Parked { .. } => {
                    if self.lanes.is_first(&ended.key, ended.serial) {
                        self.lanes.remove(&ended.key);
                    }
                }
                QueueChange::Begun { .. } => {}
            }
        }
        invalid
    }

    /// Has a row wait that is tried again: until its recipient is, if that is stuck.
    fn put_off(&mut self, ended: &Finished, now: Duration) {
        self.lanes.put_off(&ended.key, ended.serial, now, wait_for_others);
        if !is_to_instance(&ended.key) {
            return;
        }
        let next = self.work.shared.stuck.next_attempt(&ended.key.2, now);
        if next > now && self.lanes.is_first(&ended.key, ended.serial) {
            self.lanes.wait_for_instance(&ended.key, now, next.saturating_sub(now));
        }
    }

    /// The settlement of a row and, if it is parked, of what is in memory behind it.
    fn with_lane(&self, of: &(Finished, QueueChange)) -> Vec<Settlement> {
        let (head, change) = of;
        let mut settlements = vec![settlement(of)];
        if matches!(change, QueueChange::Parked { .. })
            && self.lanes.is_first(&head.key, head.serial)
        {
            for row in self.lanes.behind_first(&head.key) {
                let change = QueueChange::Parked { attempts: row.attempts, error: None };
                let (lease, queue) = (head.held.lease.clone(), row.queue.clone());
                settlements.push(Settlement { lease, queue, place: row.place, change });
            }
        }
        settlements
    }

    /// Begins to carry out what was decided. The pairs wait until it is known what came of it.
    async fn look_for_decisions(&mut self) -> Result<(), StoreError> {
        if !self.deciding.is_empty() {
            return Ok(());
        }
        let now = self.work.now();
        let pause = if self.doubtful.is_empty() { LOOK_FOR_DECISIONS } else { IN_DOUBT };
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
            let QueuedRow { stream, row } = &letter.queued;
            let pair = (letter.queue.clone(), stream.clone(), row.recipient.clone());
            let place = self.doubtful.entry(pair).or_insert(letter.place);
            *place = letter.place.min(*place);
        }
        let work = Arc::clone(&self.work);
        self.deciding.spawn(async move {
            let carried_out = AssertUnwindSafe(work.carry_out(&held, letters)).catch_unwind().await;
            let is_done = carried_out.is_ok_and(|(_, done)| done.is_ok());
            Decided { is_done, more }
        });
        Ok(())
    }

    /// Takes back into the queues what was decided about.
    fn take_back(&mut self, decided: &Decided) {
        if !decided.is_done {
            return;
        }
        if decided.more {
            self.looked_for_decisions = Duration::ZERO;
        }
        for (pair, mut place) in std::mem::take(&mut self.doubtful) {
            // What went back stands before what was read, and nothing is behind it any more.
            if let Some(first) = self.lanes.remove(&pair).first() {
                place = place.min(first.place);
            }
            if let Some(reading) = self.queues.get_mut(&pair.0) {
                let before =
                    QueuePlace { sequence: place.sequence.saturating_sub(1), index: u32::MAX };
                (reading.after, reading.more) = (reading.after.min(before), true);
            }
        }
    }
}

impl SettleOutcome {
    /// The row's own comes first; those behind it may be gone. Reads all.
    fn of(ours: &mut dyn Iterator<Item = bool>) -> Self {
        let own = ours.next();
        ours.for_each(drop);
        if own == Some(true) { Self::Written } else { Self::NotOurs }
    }
}

fn settlement((ended, change): &(Finished, QueueChange)) -> Settlement {
    Settlement {
        lease: ended.held.lease.clone(),
        queue: ended.row.queue.clone(),
        place: ended.row.place,
        change: change.clone(),
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

/// What is to be written about an attempt that does not count: nothing, unless it is on record.
fn taken_back(ended: &Finished, reason: String) -> Option<QueueChange> {
    let (attempts, retry_after) = (ended.row.attempts, Duration::ZERO);
    let error = kept(reason);
    ended.is_recorded.then_some(QueueChange::Failed { attempts, retry_after, error })
}

/// Whether more rows of a queue are to be read.
fn has_room(lanes: &Lanes, queue: &Queue) -> bool {
    lanes.flowing(queue) < BUFFER
        && lanes.flowing_bytes(queue) < MOST_BYTES
        && lanes.count(queue) < MOST
        && lanes.away(queue) < MAX_AWAY
}

/// Whether rows that were let go are to be read again.
fn has_room_to_reread(lanes: &Lanes, queue: &Queue) -> bool {
    lanes.count(queue) < MOST && lanes.bytes(queue) < MOST_BYTES
}

fn parked(row: &OutboxRow, attempts: u32, error: String) -> QueueChange {
    let error = kept(error);
    tracing::error!(
        queue = %worker_of(row.queue.kind, &row.queue.target),
        id = %row.queued.row.id, sender = ?row.queued.stream, recipient = row.queued.row.recipient,
        attempts, error,
        "a message cannot be handled and is parked"
    );
    QueueChange::Parked { attempts, error: Some(error) }
}

impl Work {
    /// Writes settlements, each with those that belong to it. If the store cannot hold all of them,
    /// each is written by itself, so that only the invalid are left out.
    async fn settled(&self, partition: u16, settlements: &[Vec<Settlement>]) -> Vec<SettleOutcome> {
        match self.write(partition, &settlements.concat()).await {
            Ok(ours) => {
                let mut ours = ours.into_iter();
                let mut take = |count| SettleOutcome::of(&mut ours.by_ref().take(count));
                settlements.iter().map(|of_one| take(of_one.len())).collect()
            }
            Err(error) if settlements.len() == 1 => vec![SettleOutcome::Invalid(error)],
            Err(error) => {
                tracing::warn!(error, "a batch of settlements is invalid; writing them one by one");
                let mut outcomes = Vec::with_capacity(settlements.len());
                for of_one in settlements {
                    outcomes.push(match self.write(partition, of_one).await {
                        Ok(ours) => SettleOutcome::of(&mut ours.into_iter()),
                        Err(error) => SettleOutcome::Invalid(error),
                    });
                }
                outcomes
            }
        }
    }

    /// Writes settlements in one transaction, again and again until the outcome is known. Gives which
    /// were this process's.
    ///
    /// # Errors
    ///
    /// The store cannot hold one of them; none is written.
    async fn write(&self, partition: u16, settlements: &[Settlement]) -> Result<Vec<bool>, String> {
        let mut tries = 0;
        loop {
            match self.store().settle(partition, settlements).await {
                Ok(settled) => return Ok(settled),
                Err(StoreError::Invalid(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "what became of effects is not yet written");
                    if self.stop.is_cancelled() && tries > 5 {
                        return Ok(vec![false; settlements.len()]);
                    }
                    self.clock().sleep(wait_for_others(tries)).await;
                    tries += 1;
                }
            }
        }
    }

    /// The attempts that rows of a queue have.
    pub(super) fn attempts_of(&self, queue: &Queue) -> Attempts {
        match self.gateways.get(queue.target.as_str()) {
            Some(gateway) if queue.kind == OutboxKind::Call => gateway.settings.attempts,
            _ => self.shared.settings.attempts,
        }
    }
}
