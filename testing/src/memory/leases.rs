//! Leases and members.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{
    Lease, LeaseAction, LeaseRequest, LeaseSnapshot, LeaseStatus, Leases, Pause, Process,
};
use composable_rust_core::store::{Presence, StoreError};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::InMemoryEventStore;
use super::state::{State, Time};

/// The time after which a process that announces no worker any more is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);

#[derive(Debug)]
pub(super) struct HeldLease {
    epoch: u64,
    holder: Option<Uuid>,
    until: Timestamp,
    ttl: Duration,
}

/// A process that announced a worker.
#[derive(Debug)]
pub(super) struct Member {
    until: Timestamp,
    ttl: Duration,
}

/// Shortens an expiry that is further ahead than its time to live, as after the clock was set back,
/// to one time to live from now.
fn shorten(until: &mut Timestamp, ttl: Duration, now: Timestamp) {
    *until = (*until).min(now + ttl);
}

/// The holders and epochs of all leases, and all members.
type HoldersAndMembers = (Vec<(Option<Uuid>, u64)>, Vec<(String, Uuid)>);

impl Leases for InMemoryEventStore {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, StoreError> {
        Ok(self.locked().load_leases(workers))
    }

    async fn change_leases(&self, request: &LeaseRequest) -> Result<Vec<bool>, StoreError> {
        let (changed, is_news) = {
            let mut state = self.locked();
            let before = state.who_does_what();
            let changed = state.change_leases(request);
            (changed, state.who_does_what() != before)
        };
        if is_news {
            self.leases_changed();
        }
        Ok(changed)
    }

    async fn pause(&self, name: &str, by: Option<&str>) -> Result<(), StoreError> {
        let mut state = self.locked();
        let (name, since, by) = (name.to_owned(), state.time.now(), by.map(str::to_owned));
        state.pauses.entry(name.clone()).or_insert(Pause { name, since, by });
        drop(state);
        self.leases_changed();
        Ok(())
    }

    async fn resume(&self, name: &str) -> Result<(), StoreError> {
        self.locked().pauses.remove(name);
        self.leases_changed();
        Ok(())
    }

    async fn introduce(&self, process: &Process) -> Result<(), StoreError> {
        let mut state = self.locked();
        let now = state.time.now();
        let members: BTreeSet<Uuid> = state.members.keys().map(|(_, holder)| *holder).collect();
        state.processes.retain(|(other, since)| {
            other.holder != process.holder
                && (members.contains(&other.holder) || *since + FORGOTTEN_AFTER > now)
        });
        state.processes.push((process.clone(), now));
        Ok(())
    }
}

/// The presence of a process.
pub(super) struct Attendance {
    store: InMemoryEventStore,
    holder: Uuid,
}

impl Attendance {
    pub(super) fn new(store: InMemoryEventStore, holder: Uuid) -> Self {
        store.locked().present.insert(holder);
        Self { store, holder }
    }
}

impl fmt::Debug for Attendance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attendance").field(&self.holder).finish()
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.store.locked().leave(self.holder);
        self.store.leases_changed();
    }
}

impl Presence for Attendance {
    fn lease_changes(&self, seen: u64) -> BoxFuture<'static, u64> {
        let store = self.store.clone();
        Box::pin(async move {
            tokio::select! {
                biased;
                count = store.lease_changes_since(seen) => count,
                () = store.next_lease_expires() => seen,
            }
        })
    }
}

impl InMemoryEventStore {
    /// Completes when a lease or a member expires; never if none can.
    async fn next_lease_expires(&self) {
        let sleep = {
            let state = self.locked();
            match (&state.time, state.next_expiry()) {
                (Time::Clock(clock), Some(at)) => Some(clock.sleep(at.since(clock.now()))),
                _ => None,
            }
        };
        match sleep {
            Some(sleep) => sleep.await,
            None => std::future::pending().await,
        }
    }
}

impl State {
    pub(super) fn load_leases(&self, workers: &[String]) -> LeaseSnapshot {
        let now = self.time.now();
        let leases = self.leases.iter().filter(|((worker, _), _)| workers.contains(worker));
        let members = self.members.iter().filter(|((worker, _), _)| workers.contains(worker));
        LeaseSnapshot {
            leases: leases
                .map(|((worker, partition), held)| LeaseStatus {
                    lease: Lease {
                        worker: worker.clone(),
                        partition: *partition,
                        epoch: held.epoch,
                    },
                    holder: held.holder,
                    lapsed: self.has_lapsed(held, now),
                })
                .collect(),
            members: members
                .filter(|((_, holder), member)| self.is_member(*holder, member, now))
                .map(|(member, _)| member.clone())
                .collect(),
            pauses: self.pauses.values().cloned().collect(),
            overrides: self.overrides,
        }
    }

    pub(super) fn change_leases(&mut self, request: &LeaseRequest) -> Vec<bool> {
        let now = self.time.now();
        self.leases.values_mut().for_each(|held| shorten(&mut held.until, held.ttl, now));
        self.members.values_mut().for_each(|of| shorten(&mut of.until, of.ttl, now));
        let members = std::mem::take(&mut self.members);
        let stays = |(_, holder): &(String, Uuid), member: &Member| {
            *holder != request.holder && self.is_member(*holder, member, now)
        };
        self.members = members.into_iter().filter(|(key, member)| stays(key, member)).collect();
        for worker in &request.workers {
            let member = Member { until: now + request.ttl, ttl: request.ttl };
            self.members.insert((worker.clone(), request.holder), member);
        }
        let changes = request.changes.iter();
        changes.map(|(lease, action)| self.change_lease(request, lease, *action, now)).collect()
    }

    fn change_lease(
        &mut self,
        request: &LeaseRequest,
        lease: &Lease,
        action: LeaseAction,
        now: Timestamp,
    ) -> bool {
        let never = || HeldLease { epoch: 0, holder: None, until: now, ttl: request.ttl };
        let key = (lease.worker.clone(), lease.partition);
        let is_known = self.leases.contains_key(&key);
        if !is_known
            && (lease.epoch > 0 || matches!(action, LeaseAction::Renew | LeaseAction::Release))
        {
            return false;
        }
        let held = self.leases.entry(key).or_insert_with(never);
        let is_alive = held.holder.is_some_and(|holder| self.present.contains(&holder));
        let possible = held.epoch == lease.epoch
            && match action {
                LeaseAction::Claim => held.holder.is_none() || (held.until <= now && !is_alive),
                LeaseAction::Seize => true,
                LeaseAction::Renew | LeaseAction::Release => held.holder == Some(request.holder),
            };
        if possible {
            let (epoch, holder, ttl) = (held.epoch, Some(request.holder), request.ttl);
            let until = now + ttl;
            *held = match action {
                LeaseAction::Claim | LeaseAction::Seize => {
                    HeldLease { epoch: request.min_epoch.max(epoch + 1), holder, until, ttl }
                }
                LeaseAction::Renew => HeldLease { epoch, holder, until, ttl },
                LeaseAction::Release => HeldLease { epoch, holder: None, until: now, ttl },
            };
        }
        possible
    }

    fn has_lapsed(&self, held: &HeldLease, now: Timestamp) -> bool {
        let is_alive = held.holder.is_some_and(|holder| self.present.contains(&holder));
        held.until <= now && !is_alive
    }

    fn is_member(&self, holder: Uuid, member: &Member, now: Timestamp) -> bool {
        member.until > now || self.present.contains(&holder)
    }

    /// Returns the holders and epochs of all leases, and all members: what is news when it changes,
    /// unlike a renewal.
    fn who_does_what(&self) -> HoldersAndMembers {
        let leases = self.leases.values().map(|held| (held.holder, held.epoch)).collect();
        (leases, self.members.keys().cloned().collect())
    }

    /// Returns the time at which the next lease or member expires, of those that can.
    fn next_expiry(&self) -> Option<Timestamp> {
        let now = self.time.now();
        let leases = self.leases.values().filter_map(|held| Some((held.holder?, held.until)));
        let members = self.members.iter().map(|((_, holder), member)| (*holder, member.until));
        let expiring = leases.chain(members).filter(|(holder, _)| !self.present.contains(holder));
        expiring.map(|(_, until)| until).filter(|until| *until > now).min()
    }

    /// Lets the leases and the announcements of a process that has gone expire.
    fn leave(&mut self, holder: Uuid) {
        self.present.remove(&holder);
        let now = self.time.now();
        for held in self.leases.values_mut().filter(|held| held.holder == Some(holder)) {
            held.until = held.until.min(now);
        }
        self.members.retain(|(_, of), _| *of != holder);
    }

    /// Takes a lease from its holder.
    pub(super) fn end_lease(&mut self, key: &(String, u16)) {
        if let Some(held) = self.leases.get_mut(key) {
            held.epoch += 1;
            held.holder = None;
        }
    }

    /// Returns `true` if the lease is at its epoch.
    pub(super) fn is_at_epoch(&self, lease: &Lease) -> bool {
        let held = self.leases.get(&(lease.worker.clone(), lease.partition));
        held.is_some_and(|held| held.epoch == lease.epoch)
    }
}
