//! Who works on what: keeping leases and giving them up.

mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use composable_rust_core::{
    Clock, Lease, LeaseAction, LeaseRequest, LeaseSnapshot, LeaseStatus, Leases as _, OutboxKind,
    SharedEventStore, StoreError,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::shares::{missing, plan, was_left};
use crate::worker::bus::parked_streams::RELAY_PREFIX;

/// How long others are given to take what only newer code knows.
const WITHDRAWN_FOR: Duration = Duration::from_secs(30);
/// The time after which a worker is left to others again for what it was left for before: a process
/// that knows it may not have come to it.
const WITHDRAWN_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// How often it is looked whether leases are free to be given up.
const RELEASE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often it is looked for leases that come free, while this process has less than its share.
const REBALANCE_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The worker of a queue, as leases name it. Whoever executes commands of a type works both of their
/// queues; parked streams are the relay's.
pub(crate) fn worker_of(kind: OutboxKind, target: &str) -> String {
    if kind == OutboxKind::Policy && target.starts_with(RELAY_PREFIX) {
        return target.to_owned();
    }
    let kind = if kind == OutboxKind::Bulk { OutboxKind::Dispatch } else { kind };
    format!("{}/{target}", kind.as_str())
}

/// A lease that this process holds. Whoever works on what it gives the right to keeps a clone for
/// as long; it is given up when nobody does.
#[derive(Debug)]
pub(crate) struct HeldLease {
    pub(crate) lease: Lease,
    /// When it lapses, in monotonic microseconds.
    until: AtomicU64,
    /// Whether it is to be given up: no new work begins under it.
    leaving: AtomicBool,
    /// When it was taken (monotonic).
    taken: Duration,
    /// `true` if its last holder did not give it up: that process is dead, or was cut off.
    from_dead: bool,
}

impl HeldLease {
    /// Whether work that takes at most `limit` may begin under it.
    pub(crate) fn admits(&self, clock: &dyn Clock, limit: Duration) -> bool {
        let end = micros(clock.monotonic().saturating_add(limit));
        !self.leaving.load(Ordering::SeqCst) && end < self.until.load(Ordering::SeqCst)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// When it was taken (monotonic).
    pub(crate) fn taken(&self) -> Duration {
        self.taken
    }

    /// Whether its last holder did not give it up, so that what it worked on may have killed it.
    pub(crate) fn is_from_dead(&self) -> bool {
        self.from_dead
    }
}

/// The leases of this process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Leases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    holder: Uuid,
    /// What this process can do, and in how many partitions there is work of it.
    workers: BTreeMap<String, u16>,
    ttl: Duration,
    store: SharedEventStore,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    /// The log's count of overrides; `None` before the first round.
    overrides: watch::Sender<Option<u64>>,
    hurry: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<(String, u16), Arc<HeldLease>>,
    /// Workers that others should take for now, until when (monotonic).
    withdrawn: BTreeMap<String, Duration>,
    /// When each worker was last left to others (monotonic).
    left: BTreeMap<String, Duration>,
    /// Workers that other processes have announced too.
    elsewhere: BTreeSet<String>,
    /// The other processes that have ever announced a worker.
    processes: BTreeSet<Uuid>,
    /// When the last of them was met first (monotonic).
    joined: Duration,
    /// When the leases were last renewed (monotonic).
    renewed: Option<Duration>,
    /// The workers that the store has as this process's.
    announced: Option<Vec<String>>,
    /// How many leases this process has too few, because others still hold them.
    missing: usize,
    /// Whether the log is paused; not known before the first round.
    paused: Option<bool>,
}

impl State {
    /// Takes note of the processes that have announced workers. A withdrawal stands for as long as
    /// one of them works instead: two that withdraw at the same time do not leave the work to nobody.
    fn note_members(&mut self, holder: Uuid, table: &LeaseSnapshot, now: Duration) {
        self.elsewhere.clear();
        for (worker, process) in table.members.iter().filter(|(_, who)| *who != holder) {
            self.elsewhere.insert(worker.clone());
            if self.processes.insert(*process) {
                self.joined = now;
            }
        }
        let (elsewhere, left) = (&self.elsewhere, &mut self.left);
        self.withdrawn.retain(|worker, until| {
            let is_due = *until <= now;
            if !is_due && !elsewhere.contains(worker) {
                left.remove(worker);
                return false;
            }
            !is_due
        });
    }
}

impl Leases {
    pub(crate) fn new(
        holder: Uuid,
        workers: BTreeMap<String, u16>,
        ttl: Duration,
        store: SharedEventStore,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (changes, overrides) = (watch::Sender::new(0), watch::Sender::new(None));
        let (state, hurry) = (Mutex::default(), tokio::sync::Notify::new());
        let inner = Inner { holder, workers, ttl, store, clock, state, changes, overrides, hurry };
        Self(Arc::new(inner))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leases of a worker under which work may begin.
    pub(crate) fn of(&self, worker: &str) -> Vec<Arc<HeldLease>> {
        let state = self.lock();
        let range = (worker.to_owned(), 0)..=(worker.to_owned(), u16::MAX);
        state.held.range(range).map(|(_, held)| held).filter(|h| !h.is_leaving()).cloned().collect()
    }

    /// The partitions of a worker of which no other process has the lease: those of which this one
    /// has, or nobody, as while the log is paused.
    pub(crate) async fn not_elsewhere(&self, worker: &str) -> Result<BTreeSet<u16>, StoreError> {
        let inner = &self.0;
        let count = inner.workers.get(worker).copied().unwrap_or(0);
        let mut partitions: BTreeSet<u16> = (0..count).collect();
        if self.of(worker).len() < partitions.len() {
            let table = inner.store.load_leases(&[worker.to_owned()]).await?;
            let is_elsewhere = |standing: &&LeaseStatus| {
                !standing.lapsed && standing.holder.is_some_and(|holder| holder != inner.holder)
            };
            for standing in table.leases.iter().filter(is_elsewhere) {
                partitions.remove(&standing.lease.partition);
            }
        }
        Ok(partitions)
    }

    /// Changes when leases come and go.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Changes when events of the log are overridden; `None` before the first look.
    pub(crate) fn overrides(&self) -> watch::Receiver<Option<u64>> {
        self.0.overrides.subscribe()
    }

    /// Leaves a worker to others for a while, if there are any: they may know what this process does
    /// not. Alone, it goes on with whatever it knows.
    ///
    /// For what was met before, `is_first` is `false`: the others have had it, so that it is left to
    /// them again only if a process has joined, or after [`WITHDRAWN_AGAIN_AFTER`].
    pub(crate) fn withdraw(&self, worker: &str, is_first: bool) {
        let now = self.0.clock.monotonic();
        let mut state = self.lock();
        let had_it = |left: &Duration| *left >= state.joined && now < *left + WITHDRAWN_AGAIN_AFTER;
        if !state.elsewhere.contains(worker)
            || (!is_first && state.left.get(worker).is_some_and(had_it))
        {
            return;
        }
        state.left.insert(worker.to_owned(), now);
        state.withdrawn.insert(worker.to_owned(), now + WITHDRAWN_FOR);
        drop(state);
        self.0.hurry.notify_one();
    }

    /// A lease was found to be another's by now.
    pub(crate) fn lost(&self, held: &Arc<HeldLease>) {
        let key = (held.lease.worker.clone(), held.lease.partition);
        held.leaving.store(true, Ordering::SeqCst);
        let mut state = self.lock();
        if state.held.get(&key).is_some_and(|own| Arc::ptr_eq(own, held)) {
            state.held.remove(&key);
        }
        drop(state);
        self.changed();
        self.0.hurry.notify_one();
    }

    /// Whether the log is known not to be paused, so that what others send may be taken.
    pub(crate) fn may_take(&self) -> bool {
        self.lock().paused == Some(false)
    }

    /// Takes note of the log's count of overrides.
    fn note_overrides(&self, count: u64) {
        self.0.overrides.send_if_modified(|known| known.replace(count) != Some(count));
    }

    /// Takes note of a pause, or of its end.
    fn note_pause(&self, paused: bool) {
        let before = self.lock().paused.replace(paused);
        match (before, paused) {
            (Some(true), false) => tracing::info!("the log is not paused any more"),
            (None | Some(false), true) => tracing::warn!(
                "the log is paused: queues, timers and followers rest until `App::resume`"
            ),
            _ => {}
        }
        if before != Some(paused) {
            self.changed();
        }
    }

    /// Gives up all leases in one statement, also those that something still works under: whoever
    /// claims them next is not held up, and what is written under the old ones is refused.
    pub(crate) async fn give_up(&self) -> Result<(), StoreError> {
        let held = std::mem::take(&mut self.lock().held);
        for held in held.values() {
            held.leaving.store(true, Ordering::SeqCst);
        }
        let changes = held.values().map(|held| (held.lease.clone(), LeaseAction::Release));
        let (holder, ttl) = (self.0.holder, self.0.ttl);
        let changes = changes.collect();
        let round = LeaseRequest { holder, workers: Vec::new(), ttl, min_epoch: 0, changes };
        self.0.store.change_leases(&round).await?;
        Ok(())
    }

    fn changed(&self) {
        self.0.changes.send_modify(|n| *n += 1);
    }

    /// Keeps the leases until `stop`, then gives them up as they come free.
    pub(crate) async fn keep(&self, stop: CancellationToken) {
        let inner = &self.0;
        let mut failures = 0;
        loop {
            let stopping = stop.is_cancelled();
            match self.round(stopping).await {
                Ok(0) if stopping => return,
                Ok(_) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "failed to renew the leases; retrying");
                    if stopping {
                        return;
                    }
                }
            }
            let pause = match failures {
                0 if stopping => RELEASE_POLL_INTERVAL,
                0 => self.until_next().min(inner.ttl / 3),
                _ => retry_pause(inner.ttl, failures),
            };
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {}
                () = inner.hurry.notified() => {}
                () = inner.clock.sleep(pause) => {}
            }
        }
    }

    /// How long until the next turn, unless the leases want it earlier.
    fn until_next(&self) -> Duration {
        let state = self.lock();
        match state.missing {
            _ if state.held.values().any(|held| held.is_leaving()) => RELEASE_POLL_INTERVAL,
            // The others may withdraw too.
            0 if state.withdrawn.is_empty() => self.0.ttl,
            _ => REBALANCE_POLL_INTERVAL,
        }
    }

    /// One turn. Gives how many leases are held after it.
    async fn round(&self, stopping: bool) -> Result<usize, StoreError> {
        let inner = &self.0;
        let started = inner.clock.monotonic();
        let min_epoch = u64::try_from(inner.clock.now().as_micros()).unwrap_or(0);
        // A turn in between, to give something up or to claim more, leaves the others as they are.
        let renewed = self.lock().renewed;
        let is_renewal =
            renewed.is_none_or(|renewed| started.saturating_sub(renewed) >= inner.ttl / 6);
        let mut table = LeaseSnapshot::default();
        if !stopping {
            let workers: Vec<String> = inner.workers.keys().cloned().collect();
            table = inner.store.load_leases(&workers).await?;
            self.note_pause(table.paused);
            self.note_overrides(table.overrides);
        }
        let (workers, changes, some_leave) = {
            let mut state = self.lock();
            state.note_members(inner.holder, &table, started);
            let is_announced = |worker: &&String| {
                !stopping && !table.paused && !state.withdrawn.contains_key(*worker)
            };
            let workers: Vec<String> = inner.workers.keys().filter(is_announced).cloned().collect();
            let leaving = |state: &State| state.held.values().filter(|h| h.is_leaving()).count();
            let before = leaving(&state);
            let mut changes = plan(inner.holder, &inner.workers, &workers, &table, &state.held);
            if !is_renewal {
                changes.retain(|(_, action)| *action != LeaseAction::Renew);
            }
            (workers, changes, leaving(&state) > before)
        };
        if some_leave {
            self.changed();
        }
        let announced = self.lock().announced.take();
        let mut done = Vec::new();
        if is_renewal || !changes.is_empty() || announced.as_ref() != Some(&workers) {
            let (holder, ttl, changes) = (inner.holder, inner.ttl, changes.clone());
            let round = LeaseRequest { holder, workers: workers.clone(), ttl, min_epoch, changes };
            done = inner.store.change_leases(&round).await?;
        }
        let until = micros(started + inner.ttl);
        let (mut moved, mut left) = (false, 0);
        let mut state = self.lock();
        if is_renewal {
            state.renewed = Some(started);
        }
        for ((lease, action), done) in changes.into_iter().zip(done) {
            let key = (lease.worker.clone(), lease.partition);
            match (action, done) {
                (LeaseAction::Renew, true) => {
                    if let Some(held) = state.held.get(&key) {
                        held.until.store(until, Ordering::SeqCst);
                    }
                }
                (LeaseAction::Claim | LeaseAction::Seize, true) => {
                    let lease = Lease { epoch: min_epoch.max(lease.epoch + 1), ..lease };
                    tracing::debug!(worker = %lease.worker, partition = lease.partition, "lease taken");
                    let from_dead = was_left(inner.holder, &table, &lease);
                    left += usize::from(from_dead);
                    let (until, leaving) = (AtomicU64::new(until), AtomicBool::new(false));
                    let held = HeldLease { lease, until, leaving, taken: started, from_dead };
                    state.held.insert(key, Arc::new(held));
                    moved = true;
                }
                (LeaseAction::Claim | LeaseAction::Seize, false) => {}
                (LeaseAction::Renew, false) | (LeaseAction::Release, _) => {
                    if let Some(held) = state.held.remove(&key) {
                        held.leaving.store(true, Ordering::SeqCst);
                        moved = true;
                    } else {
                        // It was held without this process's knowing, and can be taken now.
                        inner.hurry.notify_one();
                    }
                }
            }
        }
        let missing = missing(inner.holder, &inner.workers, &workers, &table, &state.held);
        state.announced = Some(workers);
        if missing > 0 && state.missing == 0 {
            let lapse = inner.ttl;
            tracing::info!(
                missing,
                ?lapse,
                "other processes hold part of this one's share of the work: they hand it over, or \
                 their leases lapse if they are gone"
            );
        }
        if left > 0 {
            tracing::warn!(
                leases = left,
                "leases were taken over that their holder did not give up: it died, or was cut off; \
                 attempts at what it may have worked on are recorded before they are made"
            );
        }
        state.missing = missing;
        let count = state.held.len();
        drop(state);
        if moved {
            self.changed();
        }
        Ok(count)
    }
}

/// The pause before a round that failed is repeated: a fifteenth of the leases' time to live, doubled
/// with each failure up to a third. So one failed round costs no lease, also where the failure took a
/// third itself, as waiting for a connection does.
fn retry_pause(ttl: Duration, failures: u32) -> Duration {
    (ttl / 15).saturating_mul(1 << (failures - 1).min(8)).min(ttl / 3)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
