//! Leases and members.

use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{
    Lease, LeaseAction, LeaseRequest, LeaseSnapshot, LeaseStatus, Leases, Pause,
};
use composable_rust_core::store::StoreError;
use uuid::Uuid;

use super::InMemoryEventStore;
use super::state::State;

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

impl Leases for InMemoryEventStore {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, StoreError> {
        Ok(self.locked().load_leases(workers))
    }

    async fn change_leases(&self, request: &LeaseRequest) -> Result<Vec<bool>, StoreError> {
        Ok(self.locked().change_leases(request))
    }

    async fn pause(&self, name: &str, by: Option<&str>) -> Result<(), StoreError> {
        let mut state = self.locked();
        let (name, since, by) = (name.to_owned(), state.time.now(), by.map(str::to_owned));
        state.pauses.entry(name.clone()).or_insert(Pause { name, since, by });
        Ok(())
    }

    async fn resume(&self, name: &str) -> Result<(), StoreError> {
        self.locked().pauses.remove(name);
        Ok(())
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
                    lapsed: held.until <= now,
                })
                .collect(),
            members: members
                .filter(|(_, member)| member.until > now)
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
        self.members.retain(|(_, holder), member| *holder != request.holder && member.until > now);
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
        let possible = held.epoch == lease.epoch
            && match action {
                LeaseAction::Claim => held.holder.is_none() || held.until <= now,
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
