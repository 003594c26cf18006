//! Firing timers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::queue::{
    ArmedTimer, DueTimer, Lease, OutboxKind, Queue, QueueChange, TimerQueue, TimerSettlement,
    Timers as _,
};
use composable_rust_core::store::{EventStore as _, StoreError};
use composable_rust_core::{StreamId, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::app::registry::Registry;
use crate::instance::receive::InboundMessage;
use crate::metrics::MESSAGES_PARKED;
use crate::panic::guarded_future;
use crate::spans;
use crate::worker::context::{UNTIL_WOKEN, WorkerContext};
use crate::worker::dead_letters::{DECISION_POLL_INTERVAL, carry_out, decided, decision_interval};
use crate::worker::deliveries::queue_label;
use crate::worker::leases::HeldLease;
use crate::worker::outcome::{Delivered, Failure, truncate_error};
use crate::worker::quarantine::{Quarantine, Suspicion, backoff_of_begun};
use crate::worker::queued_message::metadata;
use crate::worker::retry::dependency_backoff;
use crate::worker::throttle::Throttle;
use crate::worker::worker_id::WorkerId;

/// Maximum timers that are read and under way at a time.
const MAX_TIMERS: usize = 500;
/// Minimum interval between two reads: many commits wake the worker, and a read is a query.
const MIN_WAIT: Duration = Duration::from_millis(10);
/// Maximum interval between two reads.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Pause after which timers that cannot be fired for now are read again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

type TimerKey = (StreamId, ArmedTimer);

/// Fires the timers of the aggregate types and partitions whose leases this process holds.
pub(crate) struct Timers {
    context: Arc<WorkerContext>,
    registry: Registry,
    held: BTreeMap<(String, u16), Arc<HeldLease>>,
    running: JoinSet<FiredTimer>,
    /// The settlements of each partition that wait for the write in flight.
    unsettled: BTreeMap<u16, Vec<TimerSettlement>>,
    /// The writes in flight, at most one of each partition: a partition that is locked delays no
    /// other.
    settling: JoinSet<SettledTimers>,
    partitions_settling: BTreeSet<u16>,
    /// The timers that are fired and not settled.
    under_way: BTreeSet<TimerKey>,
    quarantine: Quarantine,
    /// The epoch of the lease, and the store's time, when a queue was taken over from a process
    /// that crashed. The timers that were due then are in quarantine.
    taken_over: BTreeMap<(String, u16), (u64, Timestamp)>,
    decisions: Throttle,
    /// `true` if there may be decisions about dead letters that are not read yet.
    may_have_decisions: bool,
    /// The timers of stuck instances.
    waiting: BTreeMap<StreamId, BTreeMap<ArmedTimer, WaitingTimer>>,
    /// The stuck instances that are to be retried now.
    retries: mpsc::UnboundedReceiver<StreamId>,
}

/// A timer whose instance is stuck, with the error that is stored.
struct WaitingTimer {
    partition: u16,
    lease: Lease,
    attempts: u32,
    error: String,
}

/// A timer after an attempt to fire it.
struct FiredTimer {
    timer: DueTimer,
    held: Arc<HeldLease>,
    suspicion: Option<Suspicion>,
    result: Result<Delivered, Failure>,
}

/// The settlements of a partition after an attempt to write them.
struct SettledTimers {
    partition: u16,
    settlements: Vec<TimerSettlement>,
    is_written: bool,
}

impl Timers {
    pub(crate) fn new(context: Arc<WorkerContext>, registry: Registry) -> Self {
        let retries = context.shared.stuck.retries();
        Self {
            context,
            registry,
            held: BTreeMap::new(),
            running: JoinSet::new(),
            unsettled: BTreeMap::new(),
            settling: JoinSet::new(),
            partitions_settling: BTreeSet::new(),
            under_way: BTreeSet::new(),
            quarantine: Quarantine::default(),
            taken_over: BTreeMap::new(),
            decisions: Throttle::default(),
            may_have_decisions: true,
            waiting: BTreeMap::new(),
            retries,
        }
    }

    pub(crate) async fn run(mut self) {
        let context = Arc::clone(&self.context);
        let (mut wake, mut leases) = (context.wake.clone(), context.leases.changes());
        // The monotonic time of the next read.
        let mut next = Duration::ZERO;
        loop {
            if next <= context.now() {
                let wait = match self.look().await {
                    Ok(wait) => wait,
                    Err(error) => {
                        tracing::warn!(%error, "failed to read timers; retrying");
                        RETRY_PAUSE
                    }
                };
                next = context.now().saturating_add(wait);
            }
            let wait = match next {
                UNTIL_WOKEN => UNTIL_WOKEN,
                next => next.saturating_sub(context.now()),
            };
            // With a full page, more timers may be due.
            let full = self.under_way.len() >= MAX_TIMERS;
            let again = tokio::select! {
                biased;
                () = context.stop.cancelled() => break,
                Some(fired) = self.running.join_next() => self.finish(fired.ok()),
                Some(settled) = self.settling.join_next() => self.conclude(settled.ok()),
                Some(stream) = self.retries.recv() => {
                    self.retry(&stream);
                    continue;
                }
                _ = leases.changed() => {
                    self.may_have_decisions = true;
                    Duration::ZERO
                }
                _ = wake.changed() => {
                    if !context.is_notified() {
                        context.clock().sleep(MIN_WAIT).await;
                    }
                    self.may_have_decisions = true;
                    Duration::ZERO
                }
                () = context.sleep(wait) => Duration::ZERO,
            };
            let again = if full { Duration::ZERO } else { again };
            next = next.min(context.now().saturating_add(again));
        }
        while let Some(fired) = self.running.join_next().await {
            self.finish(fired.ok());
        }
        while let Some(settled) = self.settling.join_next().await {
            self.conclude(settled.ok());
        }
    }

    /// Begins to fire the timers that are due. Returns the time until another may be.
    async fn look(&mut self) -> Result<Duration, StoreError> {
        self.held.clear();
        for category in self.registry.names() {
            let worker = WorkerId::of_queue(OutboxKind::Timer, category).to_string();
            for held in self.context.leases.of(&worker) {
                self.held.insert((category.to_owned(), held.lease.partition), held);
            }
        }
        if self.held.is_empty() {
            return Ok(self.context.poll_interval(DECISION_POLL_INTERVAL));
        }
        self.note_takeovers().await?;
        self.carry_out_decisions().await?;
        if self.under_way.len() >= MAX_TIMERS {
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
        let (mut longest, mut deferred) = (self.context.poll_interval(MAX_WAIT), Vec::new());
        if self.may_have_decisions {
            let interval = decision_interval(&self.context);
            let wait = self.decisions.until_due(self.context.now(), interval);
            longest = longest.min(wait);
        }
        let due =
            self.context.store().due_timers(&queues, MAX_TIMERS + self.under_way.len()).await?;
        // Timers that waited precede those that may have crashed a process.
        let (begun, others): (Vec<_>, Vec<_>) = due.timers.into_iter().partition(|of| of.begun);
        for timer in others.into_iter().chain(begun) {
            let key = (timer.stream.clone(), timer.timer.clone());
            let of = (timer.stream.category().to_owned(), timer.partition);
            let Some(held) = self.held.get(&of).map(Arc::clone) else { continue };
            if !held.admits(self.context.clock(), Duration::ZERO) {
                longest = longest.min(RETRY_PAUSE);
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
            // The timer is deferred in the store too, so that it does not fill the pages.
            if let Some(error) = self.stuck(&timer) {
                let result = Err(Failure::Stuck(error));
                deferred.push(FiredTimer { timer, held, suspicion: None, result });
                continue;
            }
            if let Some(suspicion) = suspicion {
                self.quarantine.begin(suspicion, &executor(&timer));
            }
            let (context, registry) = (Arc::clone(&self.context), self.registry.clone());
            self.running.spawn(async move {
                // A retry has another deadline.
                let is_first = timer.attempts == 0;
                let lateness = is_first.then(|| context.clock().now().since(timer.due));
                let span = spans::timer(&timer, context.clock().now());
                let attempt = attempt(&context, &registry, &held, &timer, suspicion);
                let result = attempt.instrument(span.clone()).await;
                if let Err(failure) = &result {
                    spans::failed(&span, failure.kind());
                }
                context.deliveries.fired(timer.stream.category(), &result, lateness);
                FiredTimer { timer, held, suspicion, result }
            });
        }
        self.settle_fired(deferred);
        // Timers that are due and under way are not waited for.
        let next = match due.next {
            None => longest,
            Some(next) if next.is_zero() => MIN_WAIT,
            Some(next) => next,
        };
        Ok(next.min(longest))
    }

    /// Records the takeover of queues from processes that crashed.
    async fn note_takeovers(&mut self) -> Result<(), StoreError> {
        let is_new = |(of, held): &(&(String, u16), &Arc<HeldLease>)| {
            let noted = self.taken_over.get(*of).map(|(epoch, _)| *epoch);
            held.is_from_dead() && noted != Some(held.lease.epoch)
        };
        let new = self.held.iter().filter(is_new).map(|(of, held)| (of.clone(), held.lease.epoch));
        let new: Vec<_> = new.collect();
        if !new.is_empty() {
            let now = self.context.store().now().await?;
            self.taken_over.extend(new.into_iter().map(|(of, epoch)| (of, (epoch, now))));
        }
        Ok(())
    }

    /// Returns the suspicion about a timer.
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

    /// Returns the pause before a suspect may begin; `None` if it may begin now.
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
        let backoff = backoff_of_begun(self.context.shared.settings.retry, timer.attempts)?;
        let waited = self.context.now().saturating_sub(held.claimed_at());
        backoff.checked_sub(waited).filter(|left| !left.is_zero())
    }

    /// Returns the error of a timer's instance that is stuck; `None` if the timer is to be fired
    /// now.
    fn stuck(&self, timer: &DueTimer) -> Option<String> {
        let (stream, now) = (timer.stream.as_str(), self.context.now());
        let stuck = &self.context.shared.stuck;
        // An erased timer needs no instance.
        let waits = !is_erased(timer) && stuck.admit(stream, now).is_err();
        waits.then(|| stuck.last_error(stream).unwrap_or_default())
    }

    /// Makes the timers of a stuck instance due.
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

    /// Begins to settle the timers that were fired. Returns the time until another may begin.
    fn finish(&mut self, first: Option<FiredTimer>) -> Duration {
        let mut fired: Vec<FiredTimer> = first.into_iter().collect();
        while let Some(next) = self.running.try_join_next() {
            fired.extend(next.ok());
        }
        self.settle_fired(fired)
    }

    /// Begins to settle timers. Returns the time until another may begin.
    fn settle_fired(&mut self, fired: Vec<FiredTimer>) -> Duration {
        let now = self.context.now();
        let mut again = UNTIL_WOKEN;
        for FiredTimer { timer, held, suspicion, result } in fired {
            if let Some(suspicion) = suspicion {
                self.quarantine.end(suspicion, &executor(&timer));
                again = Duration::ZERO;
            }
            let id = timer.timer.message_id(self.context.shared.log.id, &timer.stream).0;
            let worker = &held.lease.worker;
            match &result {
                Err(Failure::NeedsNewerCode(newer)) => {
                    let encounter = self.context.meet(worker, newer, &id);
                    self.context.leases.withdraw(worker, encounter.is_first);
                }
                Err(Failure::Stuck(_)) => {}
                _ => self.context.shared.unknowns.gone(worker, &id),
            }
            let change = match result {
                // A timer on a closed stream was redriven after the stream was closed.
                Ok(Delivered::StreamClosed) => QueueChange::Done(Vec::new()),
                Ok(Delivered::Handled) if is_erased(&timer) => QueueChange::Done(Vec::new()),
                // The append has disarmed it.
                Ok(Delivered::Handled | Delivered::StaleTimer) => {
                    self.under_way.remove(&(timer.stream, timer.timer));
                    continue;
                }
                Err(failure) => self.change(&timer, &held, failure, now),
            };
            let lease = held.lease.clone();
            let (stream, firing) = (timer.stream, timer.timer);
            let settlement = TimerSettlement { lease, stream, timer: firing, change };
            self.unsettled.entry(timer.partition).or_default().push(settlement);
        }
        self.settle();
        again
    }

    /// Returns the change of a timer's state after a failure.
    fn change(
        &mut self,
        timer: &DueTimer,
        held: &HeldLease,
        failure: Failure,
        now: Duration,
    ) -> QueueChange {
        let failures = timer.attempts + 1;
        match failure {
            Failure::Failed(error) => {
                match self.context.shared.settings.retry.backoff_after(failures) {
                    Some(retry_after) => {
                        let error = truncate_error(error);
                        QueueChange::Failed { attempts: failures, retry_after, error }
                    }
                    None => parked(timer, failures, error),
                }
            }
            Failure::Poison(error) => parked(timer, failures, error),
            Failure::Crashed { attempts } => parked(timer, attempts, failure.to_string()),
            Failure::Stuck(_) | Failure::NeedsNewerCode(_) => {
                let next = self.context.shared.stuck.next_attempt(timer.stream.as_str(), now);
                let (attempts, error) = (timer.attempts, truncate_error(failure.to_string()));
                if next > now {
                    let (partition, lease) = (timer.partition, held.lease.clone());
                    let waiting = WaitingTimer { partition, lease, attempts, error: error.clone() };
                    let waits = self.waiting.entry(timer.stream.clone()).or_default();
                    waits.insert(timer.timer.clone(), waiting);
                }
                let retry_after = next.saturating_sub(now).max(dependency_backoff(5));
                QueueChange::Failed { attempts, retry_after, error }
            }
            Failure::Unavailable(_)
            | Failure::Fenced
            | Failure::StaleEpoch(_)
            | Failure::LogRewound(_) => {
                let (attempts, retry_after) = (timer.attempts, dependency_backoff(5));
                let error = truncate_error(failure.to_string());
                QueueChange::Failed { attempts, retry_after, error }
            }
        }
    }

    /// Begins to write the settlements of the partitions that have no write in flight.
    fn settle(&mut self) {
        for (partition, settlements) in std::mem::take(&mut self.unsettled) {
            if !self.partitions_settling.insert(partition) {
                self.unsettled.insert(partition, settlements);
                continue;
            }
            let context = Arc::clone(&self.context);
            self.settling.spawn(async move {
                let written = guarded_future(write(&context, partition, &settlements)).await;
                if let Ok(Err(error)) = &written {
                    tracing::warn!(%error, "failed to settle timers; firing them again");
                }
                SettledTimers { partition, settlements, is_written: matches!(written, Ok(Ok(()))) }
            });
        }
    }

    /// Continues after a write has ended. Returns the time until the first of its timers is due
    /// again.
    fn conclude(&mut self, settled: Option<SettledTimers>) -> Duration {
        let Some(SettledTimers { partition, settlements, is_written }) = settled else {
            return RETRY_PAUSE;
        };
        self.partitions_settling.remove(&partition);
        self.settle();
        let mut again = if is_written { UNTIL_WOKEN } else { RETRY_PAUSE };
        for TimerSettlement { stream, timer: firing, change, .. } in settlements {
            if let QueueChange::Failed { retry_after, .. } = change {
                again = again.min(retry_after);
            }
            self.under_way.remove(&(stream, firing));
        }
        again
    }

    /// Carries out decisions about dead letters of timers.
    async fn carry_out_decisions(&mut self) -> Result<(), StoreError> {
        let interval = decision_interval(&self.context);
        if !self.may_have_decisions || !self.decisions.admits(self.context.now(), interval) {
            return Ok(());
        }
        let queue = |category: &str, partition| Queue {
            partition,
            kind: OutboxKind::Timer,
            target: category.to_owned(),
        };
        let held = self.held.iter().map(|((c, p), held)| (queue(c, *p), Arc::clone(held)));
        let held: BTreeMap<_, _> = held.collect();
        let (letters, has_more) = decided(&self.context, &held).await?;
        if has_more {
            self.decisions.reset();
        }
        carry_out(&self.context, &held, letters).await?;
        self.may_have_decisions = has_more;
        Ok(())
    }
}

fn executor(timer: &DueTimer) -> (OutboxKind, String) {
    (OutboxKind::Timer, timer.stream.category().to_owned())
}

fn parked(timer: &DueTimer, attempts: u32, error: String) -> QueueChange {
    let error = truncate_error(error);
    let (stream, id) = (&timer.stream, &timer.timer.id);
    MESSAGES_PARKED.increment([&queue_label(OutboxKind::Timer, stream.category())]);
    tracing::error!(?stream, id, attempts, error, "a timer cannot be fired; parking it");
    QueueChange::Parked { attempts, error: Some(error) }
}

/// Returns `true` if a timer was erased, so that no append disarms it.
fn is_erased(timer: &DueTimer) -> bool {
    timer.metadata.is_empty()
}

/// Fires a timer, unless the lease lapses. An attempt at a suspect is recorded before it is made.
async fn attempt(
    context: &WorkerContext,
    registry: &Registry,
    held: &HeldLease,
    timer: &DueTimer,
    suspicion: Option<Suspicion>,
) -> Result<Delivered, Failure> {
    let retry = context.shared.settings.retry;
    if timer.begun && backoff_of_begun(retry, timer.attempts).is_none() {
        return Err(Failure::Crashed { attempts: timer.attempts });
    }
    if suspicion.is_some() {
        let settlement = TimerSettlement {
            lease: held.lease.clone(),
            stream: timer.stream.clone(),
            timer: timer.timer.clone(),
            change: QueueChange::Begun { attempts: timer.attempts + 1 },
        };
        context.store().settle_timers(timer.partition, &[settlement]).await?;
    }
    if !held.admits(context.clock(), Duration::ZERO) {
        return Err(Failure::Unavailable("the lease lapses".to_owned()));
    }
    let fired = guarded_future(fire(context, registry, timer)).await;
    fired.unwrap_or_else(|message| Err(Failure::panicked(&message)))
}

async fn fire(
    context: &WorkerContext,
    registry: &Registry,
    timer: &DueTimer,
) -> Result<Delivered, Failure> {
    // A timer that was erased with its stream has no message to deliver.
    let Some(metadata) = metadata(&timer.metadata)? else { return Ok(Delivered::Handled) };
    let message = InboundMessage {
        stream: timer.stream.clone(),
        id: timer.timer.message_id(context.shared.log.id, &timer.stream),
        content: timer.content.clone(),
        metadata,
        fired_timer: Some(timer.timer.clone()),
    };
    registry.handle_carried(&message).await
}

/// Writes settlements of timers. If the store cannot hold all of them, each is written by itself.
async fn write(
    context: &WorkerContext,
    partition: u16,
    settlements: &[TimerSettlement],
) -> Result<(), StoreError> {
    let store = context.store();
    let settled = store.settle_timers(partition, settlements).await;
    if settlements.len() == 1 || !matches!(settled, Err(StoreError::Invalid(_))) {
        return settled;
    }
    let mut result = Ok(());
    for settlement in settlements {
        let settled = store.settle_timers(partition, std::slice::from_ref(settlement)).await;
        result = result.and(settled);
    }
    result
}
