//! The leases of this process: renewing, claiming and releasing them.

mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use composable_rust_core::environment::Clock;
use composable_rust_core::queue::{
    Lease, LeaseAction, LeaseRequest, LeaseSnapshot, LeaseStatus, Leases as _, Pause,
};
use composable_rust_core::store::{EventStore as _, Presence, SharedEventStore, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::shares::{missing, plan, was_left};
use crate::metrics::{LEASES_HELD, LEASES_MISSING};
use crate::panic::lock;
use crate::worker::worker_id::WorkerId;

/// The time that other processes have to take over a worker for which this one needs newer code.
const WITHDRAWN_FOR: Duration = Duration::from_secs(30);
/// The time after which a worker is left to other processes again for the same message: one with
/// newer code may not have reached it.
const WITHDRAWN_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Poll interval while leases are to be released.
const RELEASE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Poll interval while this process holds fewer leases than its fair share.
const REBALANCE_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A lease that this process holds. Tasks that work under the lease hold a clone; it is released
/// once the last clone is dropped.
#[derive(Debug)]
pub(crate) struct HeldLease {
    pub(crate) lease: Lease,
    /// The monotonic time at which it lapses, in microseconds.
    until: AtomicU64,
    /// `true` if it is to be released: no new work begins under it.
    leaving: AtomicBool,
    /// The monotonic time at which it was claimed.
    claimed_at: Duration,
    /// `true` if its last holder did not release it: that process crashed, or lost its connection.
    from_dead: bool,
}

impl HeldLease {
    /// Returns `true` if work that takes at most `limit` may begin under the lease.
    pub(crate) fn admits(&self, clock: &dyn Clock, limit: Duration) -> bool {
        let end = micros(clock.monotonic().saturating_add(limit));
        !self.leaving.load(Ordering::SeqCst) && end < self.until.load(Ordering::SeqCst)
    }

    /// Returns `true` if the lease is to be released.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Returns the monotonic time at which it was claimed.
    pub(crate) fn claimed_at(&self) -> Duration {
        self.claimed_at
    }

    /// Returns `true` if its last holder did not release it, so that its work may have crashed it.
    pub(crate) fn is_from_dead(&self) -> bool {
        self.from_dead
    }
}

/// A value that is valid under a lease.
pub(crate) trait UnderLease {
    fn lease(&self) -> &Arc<HeldLease>;
}

/// Removes the entries whose lease is not held any more, or was lost and claimed again, and returns
/// their keys.
pub(crate) fn remove_released<K: Ord + Clone, V: UnderLease>(
    entries: &mut BTreeMap<K, V>,
    held: &BTreeMap<K, Arc<HeldLease>>,
) -> Vec<K> {
    let is_held = |(key, entry): &(&K, &V)| {
        held.get(*key).is_some_and(|held| Arc::ptr_eq(held, entry.lease()))
    };
    let released = entries.iter().filter(|entry| !is_held(entry));
    let released: Vec<K> = released.map(|(key, _)| key.clone()).collect();
    for key in &released {
        entries.remove(key);
    }
    released
}

/// The leases of this process. Clones share them.
///
/// While the store has a [`Presence`] of this process, its leases do not expire, and it learns of
/// every change: nothing is renewed or polled.
#[derive(Debug, Clone)]
pub(crate) struct Leases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    holder: Uuid,
    /// The workers that this process can run, and the number of partitions of each.
    workers: BTreeMap<String, u16>,
    ttl: Duration,
    store: SharedEventStore,
    clock: Arc<dyn Clock>,
    /// `true` if the store notifies this process of every change.
    is_notified: bool,
    /// The presence at such a store, until the workers stop.
    presence: Mutex<Option<Arc<dyn Presence>>>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    /// The log's count of overrides; `None` before the first round.
    overrides: watch::Sender<Option<u64>>,
    /// Has the next round begin at once.
    round_now: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<(String, u16), Arc<HeldLease>>,
    /// Workers that other processes should take over, and the monotonic times until which they
    /// should.
    withdrawn: BTreeMap<String, Duration>,
    /// The monotonic times at which workers were last left to other processes.
    left: BTreeMap<String, Duration>,
    /// Workers that other processes have announced too.
    announced_elsewhere: BTreeSet<String>,
    /// The other processes that have ever announced a worker.
    processes: BTreeSet<Uuid>,
    /// The monotonic time at which the last of them joined.
    joined: Duration,
    /// The monotonic time of the last renewal.
    renewed: Option<Duration>,
    /// The workers that the store lists for this process.
    announced: Option<Vec<String>>,
    /// The number of leases that this process lacks because other processes still hold them.
    missing: usize,
    /// The pauses, in order of names; `None` before the first round.
    pauses: Option<Vec<Pause>>,
}

impl State {
    /// Records the processes that have announced workers. A withdrawal lasts while one of them runs
    /// the worker: if all withdraw at the same time, the worker is announced again.
    fn note_members(&mut self, holder: Uuid, table: &LeaseSnapshot, now: Duration) {
        self.announced_elsewhere.clear();
        for (worker, process) in table.members.iter().filter(|(_, who)| *who != holder) {
            self.announced_elsewhere.insert(worker.clone());
            if self.processes.insert(*process) {
                self.joined = now;
            }
        }
        let (elsewhere, left) = (&self.announced_elsewhere, &mut self.left);
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
        workers: BTreeMap<WorkerId, u16>,
        ttl: Duration,
        store: SharedEventStore,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let workers = workers.into_iter().map(|(worker, count)| (worker.to_string(), count));
        let workers = workers.collect();
        let (changes, overrides) = (watch::Sender::new(0), watch::Sender::new(None));
        let (state, round_now) = (Mutex::default(), tokio::sync::Notify::new());
        let presence = store.attend(holder).map(Arc::from);
        Self(Arc::new(Inner {
            holder,
            workers,
            ttl,
            store,
            clock,
            is_notified: presence.is_some(),
            presence: Mutex::new(presence),
            state,
            changes,
            overrides,
            round_now,
        }))
    }

    /// Returns `true` if the store notifies this process of every change, so that its workers poll
    /// nothing.
    pub(crate) fn is_notified(&self) -> bool {
        self.0.is_notified
    }

    /// Ends the presence of this process: leases that are not released expire.
    pub(crate) fn depart(&self) {
        drop(lock(&self.0.presence).take());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    /// Returns the leases of a worker under which work may begin.
    pub(crate) fn of(&self, worker: &str) -> Vec<Arc<HeldLease>> {
        let state = self.lock();
        let range = (worker.to_owned(), 0)..=(worker.to_owned(), u16::MAX);
        state.held.range(range).map(|(_, held)| held).filter(|h| !h.is_leaving()).cloned().collect()
    }

    /// Returns the partitions of a worker whose leases no other process holds. While the log is
    /// paused, no process holds any.
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

    /// Returns a counter that changes when leases are claimed or released.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Returns the log's number of overridden events; `None` before the first round.
    pub(crate) fn overrides(&self) -> watch::Receiver<Option<u64>> {
        self.0.overrides.subscribe()
    }

    /// Leaves a worker to other processes for a while, if any has announced it: they may run newer
    /// code.
    ///
    /// If the message that needs newer code was met before, `is_first` is `false`: the others have
    /// had it, so the worker is left to them again only if a process has joined, or after
    /// [`WITHDRAWN_AGAIN_AFTER`].
    pub(crate) fn withdraw(&self, worker: &str, is_first: bool) {
        let now = self.0.clock.monotonic();
        let mut state = self.lock();
        let had_it = |left: &Duration| *left >= state.joined && now < *left + WITHDRAWN_AGAIN_AFTER;
        if !state.announced_elsewhere.contains(worker)
            || (!is_first && state.left.get(worker).is_some_and(had_it))
        {
            return;
        }
        state.left.insert(worker.to_owned(), now);
        state.withdrawn.insert(worker.to_owned(), now + WITHDRAWN_FOR);
        drop(state);
        self.0.round_now.notify_one();
    }

    /// Records that another process has taken over a lease.
    pub(crate) fn lost(&self, held: &Arc<HeldLease>) {
        let key = (held.lease.worker.clone(), held.lease.partition);
        held.leaving.store(true, Ordering::SeqCst);
        let mut state = self.lock();
        if state.held.get(&key).is_some_and(|own| Arc::ptr_eq(own, held)) {
            state.held.remove(&key);
        }
        drop(state);
        self.changed();
        self.0.round_now.notify_one();
    }

    /// Returns `true` if the log is known not to be paused, so that the bus may be consumed.
    pub(crate) fn may_take(&self) -> bool {
        let state = self.lock();
        let mut pauses = state.pauses.iter().flatten();
        state.pauses.is_some() && !pauses.any(|pause| pause.name == Pause::LOG)
    }

    /// Returns `true` if a part of the log's work is known to be paused.
    pub(crate) fn is_paused(&self, name: &str) -> bool {
        self.lock().pauses.iter().flatten().any(|pause| pause.name == name)
    }

    /// Has the next round begin at once, which reads the pauses.
    pub(crate) fn look_now(&self) {
        self.0.round_now.notify_one();
    }

    /// Records the log's number of overridden events.
    fn note_overrides(&self, count: u64) {
        self.0.overrides.send_if_modified(|known| known.replace(count) != Some(count));
    }

    /// Records and logs pauses that began or ended.
    fn note_pauses(&self, pauses: &[Pause]) {
        let before = self.lock().pauses.replace(pauses.to_vec());
        if before.as_deref() == Some(pauses) {
            return;
        }
        let before = before.unwrap_or_default();
        let is_in = |of: &[Pause], pause: &Pause| of.iter().any(|other| other.name == pause.name);
        for pause in pauses.iter().filter(|pause| !is_in(&before, pause)) {
            let Pause { name, by, .. } = pause;
            if name == Pause::LOG {
                tracing::warn!(
                    by,
                    "the log is paused: queues, timers and followers wait until `App::resume`"
                );
            } else {
                tracing::warn!(name, by, "a part of the log's work is paused");
            }
        }
        for pause in before.iter().filter(|pause| !is_in(pauses, pause)) {
            tracing::info!(name = pause.name, "the pause has ended");
        }
        self.changed();
    }

    /// Releases all leases in one statement, also those under which tasks still work: the next
    /// holder need not wait, and fences what these tasks still write.
    pub(crate) async fn release_all(&self) -> Result<(), StoreError> {
        let held = std::mem::take(&mut self.lock().held);
        for held in held.values() {
            held.leaving.store(true, Ordering::SeqCst);
        }
        let changes = held.values().map(|held| (held.lease.clone(), LeaseAction::Release));
        let (holder, ttl) = (self.0.holder, self.0.ttl);
        let changes = changes.collect();
        let round = LeaseRequest { holder, workers: Vec::new(), ttl, min_epoch: 0, changes };
        LEASES_HELD.set_count([], 0);
        self.0.store.change_leases(&round).await?;
        Ok(())
    }

    fn changed(&self) {
        self.0.changes.send_modify(|n| *n += 1);
    }

    /// Renews and claims leases until `stop`, then releases each once no task works under it.
    pub(crate) async fn keep(&self, stop: CancellationToken) {
        // Also if the task is dropped with its tokio runtime.
        let _depart_on_drop = DepartOnDrop(self);
        self.keep_until_released(stop).await;
    }

    async fn keep_until_released(&self, stop: CancellationToken) {
        let inner = &self.0;
        let (mut failures, mut seen) = (0, 0);
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
                0 if stopping => Some(RELEASE_POLL_INTERVAL),
                0 => self.until_next(),
                _ => Some(retry_pause(inner.ttl, failures)),
            };
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {}
                () = inner.round_now.notified() => {}
                count = self.changes_elsewhere(seen) => seen = count,
                () = inner.clock.sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Completes when a process has changed leases, if the store tells; otherwise never.
    async fn changes_elsewhere(&self, seen: u64) -> u64 {
        let presence = lock(&self.0.presence).clone();
        match presence {
            Some(presence) => presence.lease_changes(seen).await,
            None => std::future::pending().await,
        }
    }

    /// Returns the pause until the next round, at most a third of the leases' time-to-live; `None`
    /// if the store tells when the next is due.
    fn until_next(&self) -> Option<Duration> {
        let state = self.lock();
        if state.held.values().any(|held| held.is_leaving()) {
            return Some(RELEASE_POLL_INTERVAL.min(self.0.ttl / 3));
        }
        if self.0.is_notified {
            let now = self.0.clock.monotonic();
            return state.withdrawn.values().min().map(|until| until.saturating_sub(now));
        }
        let pause = match state.missing {
            // The other processes may withdraw too.
            0 if state.withdrawn.is_empty() => self.0.ttl,
            _ => REBALANCE_POLL_INTERVAL,
        };
        Some(pause.min(self.0.ttl / 3))
    }

    /// Runs one round, and returns the number of leases held after it.
    async fn round(&self, stopping: bool) -> Result<usize, StoreError> {
        let inner = &self.0;
        let started = inner.clock.monotonic();
        let min_epoch = u64::try_from(inner.clock.now().as_micros()).unwrap_or(0);
        // A round in between, to release or to claim leases, does not renew the others, unless it
        // is the only kind there is: a renewal also shows which leases were lost.
        let renewed = self.lock().renewed;
        let is_renewal = inner.is_notified
            || renewed.is_none_or(|renewed| started.saturating_sub(renewed) >= inner.ttl / 6);
        let mut table = LeaseSnapshot::default();
        if !stopping {
            let workers: Vec<String> = inner.workers.keys().cloned().collect();
            table = inner.store.load_leases(&workers).await?;
            self.note_pauses(&table.pauses);
            self.note_overrides(table.overrides);
        }
        let (workers, changes, some_leave) = {
            let mut state = self.lock();
            state.note_members(inner.holder, &table, started);
            let is_announced = |worker: &&String| {
                !stopping && !table.is_log_paused() && !state.withdrawn.contains_key(*worker)
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
        let until = if inner.is_notified { u64::MAX } else { micros(started + inner.ttl) };
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
                    let (worker, partition) = (&lease.worker, lease.partition);
                    tracing::debug!(%worker, partition, "lease claimed");
                    let from_dead = was_left(inner.holder, &table, &lease);
                    left += usize::from(from_dead);
                    let (until, leaving) = (AtomicU64::new(until), AtomicBool::new(false));
                    let held = HeldLease { lease, until, leaving, claimed_at: started, from_dead };
                    state.held.insert(key, Arc::new(held));
                    moved = true;
                }
                (LeaseAction::Claim | LeaseAction::Seize, false) => {}
                (LeaseAction::Renew, false) | (LeaseAction::Release, _) => {
                    if let Some(held) = state.held.remove(&key) {
                        if action == LeaseAction::Renew {
                            // It may be free again.
                            inner.round_now.notify_one();
                        }
                        held.leaving.store(true, Ordering::SeqCst);
                        moved = true;
                    } else {
                        // The lease was held without a record here; now it can be claimed.
                        inner.round_now.notify_one();
                    }
                }
            }
        }
        let missing = missing(inner.holder, &inner.workers, &workers, &table, &state.held);
        state.announced = Some(workers);
        self.log_round(missing, state.missing, left);
        state.missing = missing;
        let count = state.held.len();
        drop(state);
        LEASES_HELD.set_count([], count as u64);
        LEASES_MISSING.set_count([], missing as u64);
        if moved {
            self.changed();
        }
        Ok(count)
    }

    /// Logs leases that others still hold, when they begin to, and leases of crashed processes.
    fn log_round(&self, missing: usize, missing_before: usize, left: usize) {
        if missing > 0 && missing_before == 0 {
            let lapse = self.0.ttl;
            tracing::info!(
                missing,
                ?lapse,
                "other processes hold leases of this process's fair share: they release them, or \
                 the leases lapse if the processes are gone"
            );
        }
        if left > 0 {
            tracing::warn!(
                leases = left,
                "claimed leases that their holder did not release, because it crashed or lost its \
                 connection; attempts at its unfinished work are recorded before they are made"
            );
        }
    }
}

struct DepartOnDrop<'a>(&'a Leases);

impl Drop for DepartOnDrop<'_> {
    fn drop(&mut self) {
        self.0.depart();
    }
}

/// Returns the pause before a failed round is retried: a fifteenth of the leases' time-to-live,
/// doubled with each failure, up to a third. So no lease lapses because of one failed round, even
/// if the round itself took a third, as waiting for a connection does.
fn retry_pause(ttl: Duration, failures: u32) -> Duration {
    (ttl / 15).saturating_mul(1 << (failures - 1).min(8)).min(ttl / 3)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
