//! Sharing leases evenly among the processes that have announced a worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use composable_rust_core::queue::{Lease, LeaseAction, LeaseSnapshot, LeaseStatus};
use uuid::Uuid;

use crate::worker::leases::HeldLease;

/// The leases that the same processes share evenly: those of a worker with several partitions, or
/// those of all workers with a single one that the same processes have announced.
struct Pool {
    leases: Vec<(String, u16)>,
    /// The number of them that each other process holds.
    others: BTreeMap<Uuid, usize>,
}

impl Pool {
    /// Returns the fair share of a process, rounded up.
    fn share(&self) -> usize {
        self.leases.len().div_ceil(self.others.len() + 1)
    }

    /// Returns the fair share of a process, rounded down: no process must have fewer.
    fn least(&self) -> usize {
        self.leases.len() / (self.others.len() + 1)
    }

    /// Returns the number of leases that this process may hold: others that have too few come
    /// first.
    fn limit(&self) -> usize {
        let least = self.least();
        if self.others.values().any(|theirs| *theirs < least) { least } else { self.share() }
    }
}

fn pools(
    holder: Uuid,
    partitions: &BTreeMap<String, u16>,
    announced: &[String],
    table: &LeaseSnapshot,
) -> Vec<Pool> {
    let mut shared = Vec::new();
    let mut single: BTreeMap<BTreeSet<Uuid>, Vec<(String, u16)>> = BTreeMap::new();
    for worker in announced {
        let others = table.members.iter().filter(|(of, who)| of == worker && *who != holder);
        let others: BTreeSet<Uuid> = others.map(|(_, who)| *who).collect();
        match partitions.get(worker).copied().unwrap_or(0) {
            0 => {}
            1 => single.entry(others).or_default().push((worker.clone(), 0)),
            count => shared.push((others, (0..count).map(|p| (worker.clone(), p)).collect())),
        }
    }
    let pool = |(others, leases): (BTreeSet<Uuid>, Vec<(String, u16)>)| {
        let theirs = |who: &Uuid| {
            let status = table.leases.iter().filter(|s| s.holder == Some(*who) && !s.lapsed);
            let key = |s: &LeaseStatus| (s.lease.worker.clone(), s.lease.partition);
            status.filter(|s| leases.contains(&key(s))).count()
        };
        let others = others.iter().map(|who| (*who, theirs(who))).collect();
        Pool { leases, others }
    };
    shared.into_iter().chain(single).map(pool).collect()
}

/// Plans a round: renews the leases held, claims free ones up to a fair share, and releases those
/// beyond it once no task works under them.
pub(super) fn plan(
    holder: Uuid,
    partitions: &BTreeMap<String, u16>,
    announced: &[String],
    table: &LeaseSnapshot,
    held: &BTreeMap<(String, u16), Arc<HeldLease>>,
) -> Vec<(Lease, LeaseAction)> {
    let mut changes = Vec::new();
    for pool in pools(holder, partitions, announced, table) {
        let (limit, count) = (pool.limit(), pool.leases.len());
        let mut own = 0;
        for held in pool.leases.iter().filter_map(|key| held.get(key)) {
            own += usize::from(!held.is_leaving());
            if own > limit {
                held.leaving.store(true, Ordering::SeqCst);
            }
        }
        // Processes that claim at the same time begin at different leases.
        let first = usize::try_from(holder.as_u128() % count.max(1) as u128).unwrap_or(0);
        for (worker, partition) in pool.leases.iter().cycle().skip(first).take(count) {
            if own >= limit {
                break;
            }
            if held.contains_key(&(worker.clone(), *partition)) {
                continue;
            }
            let status = table
                .leases
                .iter()
                .find(|s| s.lease.worker == *worker && s.lease.partition == *partition);
            // The response to a claim was lost, or the lease was dropped with tasks under it.
            if let Some(own) = status.filter(|s| s.holder == Some(holder) && !s.lapsed) {
                changes.push((own.lease.clone(), LeaseAction::Release));
            }
            let free = status.is_none_or(|s| s.holder.is_none() || s.lapsed);
            if free {
                let epoch = status.map_or(0, |s| s.lease.epoch);
                let lease = Lease { worker: worker.clone(), partition: *partition, epoch };
                changes.push((lease, LeaseAction::Claim));
                own += 1;
            }
        }
    }
    for held in held.values() {
        if !announced.contains(&held.lease.worker) {
            held.leaving.store(true, Ordering::SeqCst);
        }
        // The map has one reference; tasks under the lease have more.
        let unused = Arc::strong_count(held) == 1;
        let action =
            if held.is_leaving() && unused { LeaseAction::Release } else { LeaseAction::Renew };
        changes.push((held.lease.clone(), action));
    }
    changes
}

/// Returns `true` if another process held a lease last and did not release it.
pub(super) fn was_left(holder: Uuid, table: &LeaseSnapshot, lease: &Lease) -> bool {
    let is_it = |of: &Lease| of.worker == lease.worker && of.partition == lease.partition;
    let status = table.leases.iter().find(|status| is_it(&status.lease));
    status.and_then(|status| status.holder).is_some_and(|last| last != holder)
}

/// Returns the number of leases that this process lacks and will get: they are free, or held by a
/// process that has more than its share.
pub(super) fn missing(
    holder: Uuid,
    partitions: &BTreeMap<String, u16>,
    announced: &[String],
    table: &LeaseSnapshot,
    held: &BTreeMap<(String, u16), Arc<HeldLease>>,
) -> usize {
    let of_pool = |pool: &Pool| {
        let own = pool.leases.iter().filter(|key| held.contains_key(key)).count();
        let elsewhere = |s: &&LeaseStatus| {
            !s.lapsed
                && s.holder.is_some_and(|who| who != holder)
                && pool.leases.iter().any(|(w, p)| *w == s.lease.worker && *p == s.lease.partition)
        };
        let theirs = table.leases.iter().filter(elsewhere).count();
        let free = pool.leases.len().saturating_sub(own + theirs);
        let least = pool.least();
        let beyond: usize = pool.others.values().map(|theirs| theirs.saturating_sub(least)).sum();
        least.saturating_sub(own).min(free + beyond)
    };
    pools(holder, partitions, announced, table).iter().map(of_pool).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64};
    use std::time::Duration;

    use super::*;

    fn held(worker: &str, partition: u16) -> ((String, u16), Arc<HeldLease>) {
        let lease = Lease { worker: worker.to_owned(), partition, epoch: 1 };
        let (until, leaving) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let (claimed_at, from_dead) = (Duration::ZERO, false);
        let held = HeldLease { lease, until, leaving, claimed_at, from_dead };
        ((worker.to_owned(), partition), Arc::new(held))
    }

    fn kinds(changes: &[(Lease, LeaseAction)], action: LeaseAction) -> Vec<u16> {
        let mut of: Vec<_> =
            changes.iter().filter(|(_, a)| *a == action).map(|(l, _)| l.partition).collect();
        of.sort_unstable();
        of
    }

    #[test]
    fn a_process_alone_claims_all_leases_that_are_free_or_lapsed() {
        let me = Uuid::from_u128(1);
        let status = |partition, holder, lapsed| LeaseStatus {
            lease: Lease { worker: "w".into(), partition, epoch: 7 },
            holder,
            lapsed,
        };
        let other = Some(Uuid::from_u128(2));
        let leases = vec![status(0, other, false), status(1, other, true), status(2, None, true)];
        let table = LeaseSnapshot { leases, ..LeaseSnapshot::default() };
        let partitions = BTreeMap::from([("w".to_owned(), 4)]);
        let changes = plan(me, &partitions, &["w".to_owned()], &table, &BTreeMap::new());
        assert_eq!(kinds(&changes, LeaseAction::Claim), [1, 2, 3]);
        let epochs: BTreeMap<_, _> = changes.iter().map(|(l, _)| (l.partition, l.epoch)).collect();
        assert_eq!(epochs, BTreeMap::from([(1, 7), (2, 7), (3, 0)]));
    }

    #[test]
    fn leases_beyond_the_share_are_released_when_no_task_works_under_them() {
        let me = Uuid::from_u128(1);
        let own: BTreeMap<_, _> = (0..8).map(|p| held("w", p)).collect();
        let members = vec![("w".to_owned(), Uuid::from_u128(2)), ("w".to_owned(), me)];
        let table = LeaseSnapshot { members, ..LeaseSnapshot::default() };
        let partitions = BTreeMap::from([("w".to_owned(), 8)]);
        let working = Arc::clone(&own[&("w".to_owned(), 7)]);
        let changes = plan(me, &partitions, &["w".to_owned()], &table, &own);
        assert_eq!(kinds(&changes, LeaseAction::Renew), [0, 1, 2, 3, 7]);
        assert_eq!(kinds(&changes, LeaseAction::Release), [4, 5, 6]);
        assert!(working.is_leaving());
    }

    #[test]
    fn leases_of_the_share_that_others_hold_are_missing() {
        let me = Uuid::from_u128(1);
        let partitions = BTreeMap::from([("w".to_owned(), 8), ("one".to_owned(), 1)]);
        let announced = ["w".to_owned(), "one".to_owned()];
        let other = |worker: &str, n| (worker.to_owned(), Uuid::from_u128(n));
        let missing = |others: u128, own: u16| {
            let members = (0..others).flat_map(|n| ["w", "one"].map(|w| other(w, 2 + n)));
            // The first of the others has all that this one does not.
            let leases = (own..8).map(|partition| LeaseStatus {
                lease: Lease { worker: "w".into(), partition, epoch: 1 },
                holder: Some(Uuid::from_u128(2)),
                lapsed: false,
            });
            let (leases, members) = (leases.collect(), members.collect());
            let table = LeaseSnapshot { leases, members, ..LeaseSnapshot::default() };
            let held: BTreeMap<_, _> = (0..own).map(|p| held("w", p)).collect();
            missing(me, &partitions, &announced, &table, &held)
        };
        assert_eq!([missing(1, 0), missing(1, 3), missing(1, 4)], [4, 1, 0]);
        assert_eq!([missing(2, 1), missing(2, 2)], [1, 0], "three cannot all have three");
    }

    #[test]
    fn leases_of_workers_that_are_not_announced_are_released() {
        let me = Uuid::from_u128(1);
        let own: BTreeMap<_, _> = [held("old", 0)].into();
        let partitions = BTreeMap::from([("old".to_owned(), 1)]);
        let changes = plan(me, &partitions, &[], &LeaseSnapshot::default(), &own);
        assert_eq!(kinds(&changes, LeaseAction::Release), [0]);
    }

    /// Processes that run their rounds in turn, until no lease moves.
    #[derive(Default)]
    struct Processes {
        held: BTreeMap<Uuid, BTreeMap<(String, u16), Arc<HeldLease>>>,
        workers: BTreeMap<Uuid, BTreeMap<String, u16>>,
    }

    impl Processes {
        fn join(&mut self, who: u128, workers: &[&str]) {
            let workers = workers.iter().map(|worker| ((*worker).to_owned(), 1));
            self.workers.insert(Uuid::from_u128(who), workers.collect());
            self.held.insert(Uuid::from_u128(who), BTreeMap::new());
        }

        fn leave(&mut self, who: u128) {
            self.workers.remove(&Uuid::from_u128(who));
            self.held.remove(&Uuid::from_u128(who));
        }

        fn table(&self) -> LeaseSnapshot {
            let status = |who: Uuid, held: &Arc<HeldLease>| LeaseStatus {
                lease: held.lease.clone(),
                holder: Some(who),
                lapsed: false,
            };
            let of = |(who, held): (&Uuid, &BTreeMap<_, Arc<HeldLease>>)| {
                held.values().map(|held| status(*who, held)).collect::<Vec<_>>()
            };
            let members = |(who, workers): (&Uuid, &BTreeMap<String, u16>)| {
                workers.keys().map(|worker| (worker.clone(), *who)).collect::<Vec<_>>()
            };
            LeaseSnapshot {
                leases: self.held.iter().flat_map(of).collect(),
                members: self.workers.iter().flat_map(members).collect(),
                ..LeaseSnapshot::default()
            }
        }

        /// Returns the number of leases that each process holds once no lease moves.
        fn settled(&mut self) -> Vec<usize> {
            for _ in 0..20 {
                let mut is_at_rest = true;
                for who in self.workers.keys().copied().collect::<Vec<_>>() {
                    let workers = &self.workers[&who];
                    let announced: Vec<_> = workers.keys().cloned().collect();
                    let changes = plan(who, workers, &announced, &self.table(), &self.held[&who]);
                    let own = self.held.entry(who).or_default();
                    for (lease, action) in changes {
                        let key = (lease.worker.clone(), lease.partition);
                        is_at_rest &= action == LeaseAction::Renew;
                        match action {
                            LeaseAction::Claim | LeaseAction::Seize => {
                                own.insert(key.clone(), held(&key.0, 0).1);
                            }
                            LeaseAction::Release => {
                                own.remove(&key);
                            }
                            LeaseAction::Renew => {}
                        }
                    }
                }
                if is_at_rest {
                    return self.held.values().map(BTreeMap::len).collect();
                }
            }
            panic!("leases keep moving: {:?}", self.held)
        }
    }

    #[test]
    fn single_leases_are_shared_evenly() {
        let workers = ["a", "b", "c", "d"];
        let mut processes = Processes::default();
        processes.join(1, &workers);
        assert_eq!(processes.settled(), [4]);
        processes.join(2, &workers);
        assert_eq!(processes.settled(), [2, 2]);
        processes.join(3, &workers);
        let mut three = processes.settled();
        three.sort_unstable();
        assert_eq!(three, [1, 1, 2]);
        processes.leave(1);
        assert_eq!(processes.settled(), [2, 2]);
        // A process with newer code runs more workers. Those that both run are shared.
        processes.leave(2);
        processes.join(4, &["a", "b", "c", "d", "e", "f"]);
        assert_eq!(processes.settled(), [2, 4]);
        processes.leave(3);
        assert_eq!(processes.settled(), [6]);
    }
}
