//! Firing timers.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    ArmedTimer, DueTimer, EventStore as _, Lease, OutboxKind, Queue, QueueChange, StoreError,
    StreamId, TimerQueue, TimerSettlement, Timers as _, Timestamp,
};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::app::unknown_messages::NewerCode;
use crate::instance::receive::{DeliveryOutcome, InboundMessage};
use crate::worker::context::{WorkerContext, kept, metadata};
use crate::worker::leases::{HeldLease, worker_of};
use crate::worker::outbox::dead_letters::DECISION_POLL_INTERVAL;
use crate::worker::quarantine::{Quarantine, Suspicion, killed, wait_of_begun};
use crate::worker::retry::wait_for_others;

/// Timers that are read and under way at a time.
const PAGE: usize = 500;
/// The least time between two looks: many commits wake it, and a look is a query.
const MIN_WAIT: Duration = Duration::from_millis(10);
/// The longest wait for a timer that nobody announced.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The wait for what cannot be done at the moment.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

type TimerKey = (StreamId, ArmedTimer);

/// Fires the timers of those types and partitions that this process has leases of.
pub(crate) struct Timers {
    work: Arc<WorkerContext>,
    categories: Vec<&'static str>,
    held: BTreeMap<(String, u16), Arc<HeldLease>>,
    running: JoinSet<FiredTimer>,
    /// What became of timers and is not being written yet, by partition.
    unsettled: BTreeMap<u16, Vec<TimerSettlement>>,
    /// One write for each partition at a time: a partition that is locked holds up no other.
    settling: JoinSet<SettledTimers>,
    partitions_settling: BTreeSet<u16>,
    /// Until they are settled.
    under_way: BTreeSet<TimerKey>,
    quarantine: Quarantine,
    /// Of queues that were taken over from a process that died: the epoch of the lease, and the
    /// store's time then. What was due is in quarantine.
    taken_over: BTreeMap<(String, u16), (u64, Timestamp)>,
    looked_for_decisions: Duration,
    /// Timers of stuck instances, with the errors that their rows show.
    waiting: BTreeMap<StreamId, BTreeMap<ArmedTimer, WaitingTimer>>,
    /// The instances whose timers need not wait any longer.
    retries: mpsc::UnboundedReceiver<StreamId>,
}

/// A timer whose instance is stuck.
struct WaitingTimer {
    partition: u16,
    lease: Lease,
    attempts: u32,
    error: String,
}

struct FiredTimer {
    timer: DueTimer,
    held: Arc<HeldLease>,
    suspicion: Option<Suspicion>,
    delivered: DeliveryOutcome,
}

/// Settlements of a partition after they were written.
struct SettledTimers {
    partition: u16,
    settlements: Vec<TimerSettlement>,
    is_written: bool,
}

impl Timers {
    pub(crate) fn new(work: Arc<WorkerContext>, categories: Vec<&'static str>) -> Self {
        let retries = work.shared.stuck.retries();
        Self {
            work,
            categories,
            held: BTreeMap::new(),
            running: JoinSet::new(),
            unsettled: BTreeMap::new(),
            settling: JoinSet::new(),
            partitions_settling: BTreeSet::new(),
            under_way: BTreeSet::new(),
            quarantine: Quarantine::default(),
            taken_over: BTreeMap::new(),
            looked_for_decisions: Duration::ZERO,
            waiting: BTreeMap::new(),
            retries,
        }
    }

    pub(crate) async fn run(mut self) {
        let work = Arc::clone(&self.work);
        let (mut wake, mut leases) = (work.wake.clone(), work.leases.changes());
        let mut next = Duration::ZERO;
        loop {
            if next.is_zero() {
                next = match self.look().await {
                    Ok(next) => next,
                    Err(error) => {
                        tracing::warn!(%error, "timers cannot be read; this is tried again");
                        Duration::from_millis(500)
                    }
                };
            }
            let started = work.now();
            tokio::select! {
                biased;
                () = work.stop.cancelled() => break,
                Some(fired) = self.running.join_next() => {
                    // A full page may have left others behind.
                    let full = self.under_way.len() >= PAGE;
                    let again = self.finish(fired.ok());
                    let waited = work.now().saturating_sub(started);
                    next = if full { Duration::ZERO } else { next.saturating_sub(waited).min(again) };
                }
                Some(settled) = self.settling.join_next() => {
                    let full = self.under_way.len() >= PAGE;
                    let again = self.conclude(settled.ok());
                    let waited = work.now().saturating_sub(started);
                    next = if full { Duration::ZERO } else { next.saturating_sub(waited).min(again) };
                }
                Some(stream) = self.retries.recv() => self.retry(&stream),
                _ = leases.changed() => next = Duration::ZERO,
                _ = wake.changed() => {
                    work.clock().sleep(MIN_WAIT).await;
                    next = Duration::ZERO;
                }
                () = work.clock().sleep(next) => next = Duration::ZERO,
            }
        }
        while let Some(fired) = self.running.join_next().await {
            self.finish(fired.ok());
        }
        while let Some(settled) = self.settling.join_next().await {
            self.conclude(settled.ok());
        }
    }

    /// Begins to fire what is due. Gives how long nothing else will be.
    async fn look(&mut self) -> Result<Duration, StoreError> {
        self.held.clear();
        for category in &self.categories {
            for held in self.work.leases.of(&worker_of(OutboxKind::Timer, category)) {
                self.held.insert(((*category).to_owned(), held.lease.partition), held);
            }
        }
        if self.held.is_empty() {
            return Ok(DECISION_POLL_INTERVAL);
        }
        self.note_takeovers().await?;
        self.carry_out_decisions().await?;
        if self.under_way.len() >= PAGE {
            return Ok(DECISION_POLL_INTERVAL);
        }
        let queues: Vec<TimerQueue> = self
            .held
            .keys()
            .map(|(category, partition)| TimerQueue {
                partition: *partition,
                category: category.clone(),
            })
            .collect();
        let (mut longest, mut put_off) = (MAX_WAIT, Vec::new());
        let due = self.work.store().due_timers(&queues, PAGE + self.under_way.len()).await?;
        // What waited goes before what may have killed a process.
        let (begun, others): (Vec<_>, Vec<_>) = due.timers.into_iter().partition(|of| of.begun);
        for timer in others.into_iter().chain(begun) {
            let key = (timer.stream.clone(), timer.timer.clone());
            let of = (timer.stream.category().to_owned(), timer.partition);
            let Some(held) = self.held.get(&of).map(Arc::clone) else { continue };
            if !held.admits(self.work.clock(), Duration::ZERO) {
                longest = RETRY_PAUSE;
                continue;
            }
            if self.under_way.contains(&key) {
                continue;
            }
            let suspicion = self.suspicion(&timer, &of, &held);
            if let Some(wait) = suspicion.and_then(|s| self.holds_back(s, &timer, &held)) {
                longest = longest.min(wait);
                continue;
            }
            self.under_way.insert(key);
            // It is put off in the store too: else those that wait would be all that is read.
            if let Some(error) = self.stuck(&timer) {
                let delivered = DeliveryOutcome::Stuck(error);
                put_off.push(FiredTimer { timer, held, suspicion: None, delivered });
                continue;
            }
            if let Some(suspicion) = suspicion {
                self.quarantine.begin(suspicion, &executor(&timer));
            }
            let work = Arc::clone(&self.work);
            self.running.spawn(async move {
                let delivered = work.fire_with_caution(&held, &timer, suspicion).await;
                FiredTimer { timer, held, suspicion, delivered }
            });
        }
        self.end(put_off);
        // What is due and under way is not waited for.
        let next = match due.next {
            None => longest,
            Some(next) if next.is_zero() => MIN_WAIT,
            Some(next) => next,
        };
        Ok(next.min(longest))
    }

    /// Keeps when queues were taken over from processes that died.
    async fn note_takeovers(&mut self) -> Result<(), StoreError> {
        let is_new = |(of, held): &(&(String, u16), &Arc<HeldLease>)| {
            let noted = self.taken_over.get(*of).map(|(epoch, _)| *epoch);
            held.is_from_dead() && noted != Some(held.lease.epoch)
        };
        let new = self.held.iter().filter(is_new).map(|(of, held)| (of.clone(), held.lease.epoch));
        let new: Vec<_> = new.collect();
        if !new.is_empty() {
            let now = self.work.store().now().await?;
            self.taken_over.extend(new.into_iter().map(|(of, epoch)| (of, (epoch, now))));
        }
        Ok(())
    }

    fn suspicion(
        &self,
        timer: &DueTimer,
        of: &(String, u16),
        held: &HeldLease,
    ) -> Option<Suspicion> {
        if timer.begun {
            return Some(Suspicion::Begun);
        }
        let (epoch, at) = self.taken_over.get(of)?;
        (*epoch == held.lease.epoch && timer.due <= *at).then_some(Suspicion::Waited)
    }

    /// How long a suspect is not to begin, if it is not.
    fn holds_back(
        &self,
        suspicion: Suspicion,
        timer: &DueTimer,
        held: &HeldLease,
    ) -> Option<Duration> {
        if !self.quarantine.admits(suspicion, &executor(timer)) {
            return Some(MAX_WAIT);
        }
        if suspicion == Suspicion::Waited {
            return None;
        }
        let wait = wait_of_begun(self.work.shared.settings.retry, timer.attempts)?;
        let waited = self.work.now().saturating_sub(held.taken());
        wait.checked_sub(waited).filter(|left| !left.is_zero())
    }

    /// The error for which the instance of a timer is stuck, unless it is to be tried now.
    fn stuck(&self, timer: &DueTimer) -> Option<String> {
        let (stream, now) = (timer.stream.as_str(), self.work.now());
        let stuck = &self.work.shared.stuck;
        // One that was erased needs no instance.
        let waits = !is_erased(timer) && stuck.admit(stream, now).is_err();
        waits.then(|| stuck.last_error(stream).unwrap_or_default())
    }

    /// Makes the timers of an instance due that waited because it was stuck.
    fn retry(&mut self, stream: &StreamId) {
        for (firing, waiting) in self.waiting.remove(stream).unwrap_or_default() {
            let WaitingTimer { partition, lease, attempts, error } = waiting;
            let change = QueueChange::Failed { attempts, retry_after: Duration::ZERO, error };
            let stream = stream.clone();
            let settlement = TimerSettlement { lease, stream, timer: firing, change };
            self.unsettled.entry(partition).or_default().push(settlement);
        }
        self.settle();
    }

    /// Begins to write what became of timers. Returns the time until another may begin.
    fn finish(&mut self, first: Option<FiredTimer>) -> Duration {
        let mut fired: Vec<FiredTimer> = first.into_iter().collect();
        while let Some(next) = self.running.try_join_next() {
            fired.extend(next.ok());
        }
        self.end(fired)
    }

    fn end(&mut self, fired: Vec<FiredTimer>) -> Duration {
        let now = self.work.now();
        let mut again = MAX_WAIT;
        for FiredTimer { timer, held, suspicion, delivered } in fired {
            if let Some(suspicion) = suspicion {
                self.quarantine.end(suspicion, &executor(&timer));
                again = Duration::ZERO;
            }
            let attempts = timer.attempts + 1;
            let id = timer.timer.message_id(self.work.shared.log.id, &timer.stream).0;
            let worker = &held.lease.worker;
            if let DeliveryOutcome::Newer(newer) = &delivered {
                let meeting = self.work.meet(worker, newer, &id);
                self.work.leases.withdraw(worker, meeting.is_first);
            } else if !matches!(delivered, DeliveryOutcome::Stuck(_)) {
                self.work.shared.unknowns.gone(worker, &id);
            }
            let change = match delivered {
                DeliveryOutcome::Handled if is_erased(&timer) => QueueChange::Done(Vec::new()),
                DeliveryOutcome::Handled | DeliveryOutcome::Void => {
                    self.under_way.remove(&(timer.stream, timer.timer));
                    continue;
                }
                // It was brought back after its stream was closed.
                DeliveryOutcome::Closed => QueueChange::Done(Vec::new()),
                DeliveryOutcome::Failed(error) => {
                    match self.work.shared.settings.retry.wait_after(attempts) {
                        Some(retry_after) => {
                            QueueChange::Failed { attempts, retry_after, error: kept(error) }
                        }
                        None => parked(&timer, attempts, error),
                    }
                }
                DeliveryOutcome::Poison(error) => parked(&timer, attempts, error),
                DeliveryOutcome::Killed => parked(&timer, timer.attempts, killed(timer.attempts)),
                DeliveryOutcome::Waiting(error) => {
                    let retry_after = wait_for_others(5);
                    QueueChange::Failed {
                        attempts: timer.attempts,
                        retry_after,
                        error: kept(error),
                    }
                }
                DeliveryOutcome::Stuck(error)
                | DeliveryOutcome::Newer(NewerCode { reason: error, .. }) => {
                    let next = self.work.shared.stuck.next_attempt(timer.stream.as_str(), now);
                    let (attempts, error) = (timer.attempts, kept(error));
                    if next > now {
                        let (partition, lease) = (timer.partition, held.lease.clone());
                        let waiting =
                            WaitingTimer { partition, lease, attempts, error: error.clone() };
                        let waits = self.waiting.entry(timer.stream.clone()).or_default();
                        waits.insert(timer.timer.clone(), waiting);
                    }
                    let retry_after = next.saturating_sub(now).max(wait_for_others(5));
                    QueueChange::Failed { attempts, retry_after, error }
                }
            };
            let lease = held.lease.clone();
            let (stream, firing) = (timer.stream, timer.timer);
            let settlement = TimerSettlement { lease, stream, timer: firing, change };
            self.unsettled.entry(timer.partition).or_default().push(settlement);
        }
        self.settle();
        again
    }

    /// Writes what became of timers of those partitions of which nothing is being written.
    fn settle(&mut self) {
        for (partition, settlements) in std::mem::take(&mut self.unsettled) {
            if !self.partitions_settling.insert(partition) {
                self.unsettled.insert(partition, settlements);
                continue;
            }
            let work = Arc::clone(&self.work);
            self.settling.spawn(async move {
                let writing = work.settle_timers(partition, &settlements);
                let written = AssertUnwindSafe(writing).catch_unwind().await;
                if let Ok(Err(error)) = &written {
                    tracing::warn!(%error, "failed to settle timers; firing them again");
                }
                SettledTimers { partition, settlements, is_written: matches!(written, Ok(Ok(()))) }
            });
        }
    }

    /// Lets timers begin again that are settled. Returns the time until the first of them is due.
    fn conclude(&mut self, settled: Option<SettledTimers>) -> Duration {
        let Some(SettledTimers { partition, settlements, is_written }) = settled else {
            return RETRY_PAUSE;
        };
        self.partitions_settling.remove(&partition);
        self.settle();
        let mut again = if is_written { MAX_WAIT } else { RETRY_PAUSE };
        for TimerSettlement { stream, timer: firing, change, .. } in settlements {
            if let QueueChange::Failed { retry_after, .. } = change {
                again = again.min(retry_after);
            }
            self.under_way.remove(&(stream, firing));
        }
        again
    }

    async fn carry_out_decisions(&mut self) -> Result<(), StoreError> {
        let now = self.work.now();
        if now.saturating_sub(self.looked_for_decisions) < DECISION_POLL_INTERVAL {
            return Ok(());
        }
        self.looked_for_decisions = now;
        let queue = |category: &str, partition| Queue {
            partition,
            kind: OutboxKind::Timer,
            target: category.to_owned(),
        };
        let held = self.held.iter().map(|((c, p), held)| (queue(c, *p), Arc::clone(held)));
        let held: BTreeMap<_, _> = held.collect();
        let (letters, more) = self.work.decided(&held).await?;
        if more {
            self.looked_for_decisions = Duration::ZERO;
        }
        self.work.carry_out(&held, letters).await.1
    }
}

fn executor(timer: &DueTimer) -> (OutboxKind, String) {
    (OutboxKind::Timer, timer.stream.category().to_owned())
}

fn parked(timer: &DueTimer, attempts: u32, error: String) -> QueueChange {
    let error = kept(error);
    let (stream, id) = (&timer.stream, &timer.timer.id);
    tracing::error!(?stream, id, attempts, error, "a timer cannot be fired and is parked");
    QueueChange::Parked { attempts, error: Some(error) }
}

/// Whether it was erased, so that no append takes it away.
fn is_erased(timer: &DueTimer) -> bool {
    timer.metadata.is_empty()
}

impl WorkerContext {
    /// Fires a timer. An attempt at a suspect is on record before it is made.
    async fn fire_with_caution(
        &self,
        held: &HeldLease,
        timer: &DueTimer,
        suspicion: Option<Suspicion>,
    ) -> DeliveryOutcome {
        let attempts = self.shared.settings.retry;
        if timer.begun && wait_of_begun(attempts, timer.attempts).is_none() {
            return DeliveryOutcome::Killed;
        }
        if suspicion.is_some() {
            let settlement = TimerSettlement {
                lease: held.lease.clone(),
                stream: timer.stream.clone(),
                timer: timer.timer.clone(),
                change: QueueChange::Begun { attempts: timer.attempts + 1 },
            };
            if let Err(error) = self.store().settle_timers(timer.partition, &[settlement]).await {
                return DeliveryOutcome::Waiting(error.to_string());
            }
        }
        if !held.admits(self.clock(), Duration::ZERO) {
            return DeliveryOutcome::Waiting("the lease lapses".to_owned());
        }
        let fired = AssertUnwindSafe(self.fire(timer)).catch_unwind().await;
        fired.unwrap_or_else(|panic| DeliveryOutcome::Failed(crate::error::panic_text(&*panic)))
    }

    /// Writes settlements of timers, each by itself if the store cannot hold all of them.
    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        let settled = self.store().settle_timers(partition, settlements).await;
        if settlements.len() == 1 || !matches!(settled, Err(StoreError::Invalid(_))) {
            return settled;
        }
        let mut last = Ok(());
        for settlement in settlements {
            let settled =
                self.store().settle_timers(partition, std::slice::from_ref(settlement)).await;
            last = last.and(settled);
        }
        last
    }

    async fn fire(&self, timer: &DueTimer) -> DeliveryOutcome {
        let metadata = match metadata(&timer.metadata) {
            Ok(Some(metadata)) => metadata,
            // Erased with its stream: there is nothing to be told.
            Ok(None) => return DeliveryOutcome::Handled,
            Err(reason) => return DeliveryOutcome::Newer(reason),
        };
        let message = InboundMessage {
            stream: timer.stream.clone(),
            id: timer.timer.message_id(self.shared.log.id, &timer.stream),
            content: timer.content.clone(),
            metadata,
            fired_timer: Some(timer.timer.clone()),
        };
        self.registry.handle_carried(&message).await
    }
}
