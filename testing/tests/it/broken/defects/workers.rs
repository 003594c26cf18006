//! Leases without exclusion, and fences without effect.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use composable_rust_core::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints as _, DeadLetter, DeadLetters as _, Lease,
    LeaseAction, LeaseRequest, LeaseSnapshot, LeaseStatus, Leases as _, Outbox as _, OutboxMessage,
    Settlement, TimerSettlement, Timers as _,
};
use composable_rust_core::store::StoreError;
use composable_rust_testing::{InMemoryEventStore, Intercept};
use uuid::Uuid;

use super::super::store::{Backing, poll};

const DAY: Duration = Duration::from_secs(86_400);

fn standing(store: &InMemoryEventStore, lease: &Lease) -> Option<LeaseStatus> {
    let table = poll(store.load_leases(std::slice::from_ref(&lease.worker)));
    let mut leases = table.expect("memory is available").leases.into_iter();
    leases.find(|standing| standing.lease.partition == lease.partition)
}

fn change(store: &InMemoryEventStore, holder: Uuid, lease: &Lease, action: LeaseAction) {
    let changes = vec![(lease.clone(), action)];
    let round = LeaseRequest { holder, workers: Vec::new(), ttl: DAY, min_epoch: 0, changes };
    let _ = poll(store.change_leases(&round));
}

/// Grants a lease to every claimant.
pub(crate) struct StealsLeases;

impl Intercept<InMemoryEventStore> for StealsLeases {
    async fn change_leases(
        &self,
        store: &InMemoryEventStore,
        round: &LeaseRequest,
    ) -> Result<Vec<bool>, StoreError> {
        let mut round = round.clone();
        for (lease, action) in &mut round.changes {
            let Some(found) = standing(store, lease) else { continue };
            *lease = found.lease;
            if let (LeaseAction::Claim, Some(holder)) = (*action, found.holder) {
                change(store, holder, lease, LeaseAction::Release);
            }
        }
        store.change_leases(&round).await
    }
}

/// Does not let an operator seize a lease.
pub(crate) struct SeizesNothing;

impl Intercept<InMemoryEventStore> for SeizesNothing {
    async fn change_leases(
        &self,
        store: &InMemoryEventStore,
        round: &LeaseRequest,
    ) -> Result<Vec<bool>, StoreError> {
        let mut round = round.clone();
        for (_, action) in &mut round.changes {
            if *action == LeaseAction::Seize {
                *action = LeaseAction::Claim;
            }
        }
        store.change_leases(&round).await
    }
}

/// Reports the first epoch forever.
pub(crate) struct NeverRaisesEpochs;

impl Intercept<InMemoryEventStore> for NeverRaisesEpochs {
    fn after_load_leases(&self, mut table: LeaseSnapshot) -> LeaseSnapshot {
        table.leases.iter_mut().for_each(|standing| standing.lease.epoch = 1);
        table
    }
}

/// Keeps every member forever.
pub(crate) struct NeverExpires;

impl Intercept<InMemoryEventStore> for NeverExpires {
    async fn change_leases(
        &self,
        store: &InMemoryEventStore,
        round: &LeaseRequest,
    ) -> Result<Vec<bool>, StoreError> {
        let round = LeaseRequest { ttl: DAY, ..round.clone() };
        store.change_leases(&round).await
    }
}

/// Fails a whole round if a part of it failed.
pub(crate) struct FailsWholeRounds;

impl Intercept<InMemoryEventStore> for FailsWholeRounds {
    async fn change_leases(
        &self,
        store: &InMemoryEventStore,
        round: &LeaseRequest,
    ) -> Result<Vec<bool>, StoreError> {
        let changed = store.change_leases(round).await?;
        Ok(vec![changed.iter().all(|changed| *changed); changed.len()])
    }
}

/// Reports no members, and leases in another order.
pub(crate) struct MixesLeases;

impl Intercept<InMemoryEventStore> for MixesLeases {
    fn after_load_leases(&self, mut table: LeaseSnapshot) -> LeaseSnapshot {
        table.members.clear();
        table.leases.reverse();
        table
    }
}

/// Reports no overrides.
pub(crate) struct CountsNoOverrides;

impl Intercept<InMemoryEventStore> for CountsNoOverrides {
    fn after_load_leases(&self, table: LeaseSnapshot) -> LeaseSnapshot {
        LeaseSnapshot { overrides: 0, ..table }
    }
}

/// Reports a pause only to processes that ask about a worker.
pub(crate) struct HidesPauses;

impl Intercept<InMemoryEventStore> for HidesPauses {
    fn after_load_leases(&self, mut table: LeaseSnapshot) -> LeaseSnapshot {
        if table.leases.is_empty() {
            table.pauses.clear();
        }
        table
    }
}

/// Forgets the names of those who paused.
pub(crate) struct ForgetsWhoPaused;

impl Intercept<InMemoryEventStore> for ForgetsWhoPaused {
    fn after_load_leases(&self, mut table: LeaseSnapshot) -> LeaseSnapshot {
        table.pauses.iter_mut().for_each(|pause| pause.by = None);
        table
    }
}

/// Keeps no checkpoints.
pub(crate) struct ForgetsCheckpoints;

impl Intercept<InMemoryEventStore> for ForgetsCheckpoints {
    fn after_load_checkpoints(&self, _: Vec<Checkpoint>) -> Vec<Checkpoint> {
        Vec::new()
    }
}

/// Keeps no checkpoints without a lease.
pub(crate) struct KeepsNoUnleasedCheckpoints;

impl Intercept<InMemoryEventStore> for KeepsNoUnleasedCheckpoints {
    async fn save_checkpoints(
        &self,
        _: &InMemoryEventStore,
        _: &str,
        _: &[Checkpoint],
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Does not rewind checkpoints.
pub(crate) struct NeverRewinds;

impl Intercept<InMemoryEventStore> for NeverRewinds {
    async fn rewind(
        &self,
        _: &InMemoryEventStore,
        _: &str,
        _: Checkpoint,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Rewinds checkpoints to the beginning, whatever the target.
pub(crate) struct RewindsToTheBeginning;

impl Intercept<InMemoryEventStore> for RewindsToTheBeginning {
    async fn rewind(
        &self,
        store: &InMemoryEventStore,
        worker: &str,
        to: Checkpoint,
    ) -> Result<(), StoreError> {
        store.rewind(worker, Checkpoint { offset: 0, event_id: None, ..to }).await
    }
}

/// Stores checkpoints even if they move backward.
#[derive(Default)]
pub(crate) struct GoesBack(Mutex<BTreeMap<u16, Checkpoint>>);

impl Intercept<InMemoryEventStore> for GoesBack {
    async fn save_checkpoints(
        &self,
        store: &InMemoryEventStore,
        name: &str,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        self.0.lock().unwrap().extend(to.iter().map(|to| (to.partition, *to)));
        store.save_checkpoints(name, to).await
    }

    fn after_load_checkpoints(&self, mut checkpoints: Vec<Checkpoint>) -> Vec<Checkpoint> {
        let last = self.0.lock().unwrap();
        for checkpoint in &mut checkpoints {
            *checkpoint = last.get(&checkpoint.partition).copied().unwrap_or(*checkpoint);
        }
        checkpoints
    }
}

/// Queues rows that should be parked.
pub(crate) struct QueuesParkedRows;

impl Intercept<InMemoryEventStore> for QueuesParkedRows {
    async fn park(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        rows: &[OutboxMessage],
        _: &str,
    ) -> Result<(), StoreError> {
        store.enqueue(partition, rows, None).await.map(drop)
    }
}

/// Queues the rows of a checkpoint advance that is repeated.
pub(crate) struct QueuesRepeatedAdvances;

impl Intercept<InMemoryEventStore> for QueuesRepeatedAdvances {
    async fn enqueue(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        store.enqueue(partition, rows, None).await?;
        store.enqueue(partition, &[], advance).await
    }
}

/// Accepts writes under any epoch.
pub(crate) struct IgnoresEpochs;

impl IgnoresEpochs {
    fn fenced(store: &InMemoryEventStore, lease: &Lease) -> Lease {
        if standing(store, lease).is_none() {
            let never = Lease { epoch: 0, ..lease.clone() };
            change(store, Uuid::nil(), &never, LeaseAction::Claim);
        }
        standing(store, lease).map_or_else(|| lease.clone(), |standing| standing.lease)
    }
}

impl Intercept<InMemoryEventStore> for IgnoresEpochs {
    async fn enqueue(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        let advance = advance.map(|advance| {
            let lease = Self::fenced(store, &advance.lease);
            CheckpointAdvance { lease, ..advance.clone() }
        });
        store.enqueue(partition, rows, advance.as_ref()).await
    }

    async fn settle(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        let fenced = |settlement: &Settlement| {
            let lease = Self::fenced(store, &settlement.lease);
            Settlement { lease, ..settlement.clone() }
        };
        store.settle(partition, &settlements.iter().map(fenced).collect::<Vec<_>>()).await
    }

    async fn settle_timers(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        let fenced = |settlement: &TimerSettlement| {
            let lease = Self::fenced(store, &settlement.lease);
            TimerSettlement { lease, ..settlement.clone() }
        };
        store.settle_timers(partition, &settlements.iter().map(fenced).collect::<Vec<_>>()).await
    }

    async fn resolve_dead_letter(
        &self,
        store: &InMemoryEventStore,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        let lease = Self::fenced(store, lease);
        store.resolve_dead_letter(&lease, letter, answers).await
    }
}

/// Returns success for invalid arguments.
pub(crate) struct SwallowsRejections;

impl Intercept<InMemoryEventStore> for SwallowsRejections {
    async fn enqueue(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        Ok(store.enqueue(partition, rows, advance).await.unwrap_or(true))
    }

    async fn settle(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        let settled = store.settle(partition, settlements).await;
        Ok(settled.unwrap_or_else(|_| vec![true; settlements.len()]))
    }

    async fn settle_timers(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        let _ = store.settle_timers(partition, settlements).await;
        Ok(())
    }
}

backed_by_memory!(
    StealsLeases,
    SeizesNothing,
    NeverRaisesEpochs,
    NeverExpires,
    FailsWholeRounds,
    MixesLeases,
    CountsNoOverrides,
    ForgetsWhoPaused,
    HidesPauses,
    ForgetsCheckpoints,
    KeepsNoUnleasedCheckpoints,
    NeverRewinds,
    RewindsToTheBeginning,
    GoesBack,
    QueuesParkedRows,
    QueuesRepeatedAdvances,
    IgnoresEpochs,
    SwallowsRejections
);
