//! What may have killed a process: rows and timers that it left when it died without giving up its
//! leases. Attempts at them are on record before they are made, so that one that kills again and
//! again runs out of attempts, and few are made at a time, so that few others are blamed.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Outbox as _, OutboxKind, OutboxRow, QueueChange, QueuePosition, Settlement,
};
use futures_util::FutureExt as _;

use crate::error::{error_chain, panic_text};
use crate::worker::context::WorkerContext;
use crate::worker::leases::HeldLease;
use crate::worker::outbox::execute::Executed;
use crate::worker::retry::RetryPolicy;

/// Suspects of one executor that are under way at most.
const MAX_SUSPECTS: usize = 16;

/// Why something is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suspicion {
    /// It waited when a process died that may have worked on it.
    Waited,
    /// It was begun, and how that ended is not on record. It is tried alone, once nothing that waited
    /// is under way.
    Begun,
}

impl Suspicion {
    /// Of a row, in a queue whose rows up to a place waited when its lease was taken from a process
    /// that died.
    pub(crate) fn of(row: &OutboxRow, waited_to: QueuePosition) -> Option<Self> {
        match row {
            OutboxRow { behind_parked: true, .. } => None,
            OutboxRow { begun: true, .. } => Some(Self::Begun),
            row => (row.position <= waited_to).then_some(Self::Waited),
        }
    }
}

/// The suspects under way, by what executes them.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    waited: BTreeMap<(OutboxKind, String), usize>,
    begun: usize,
}

impl Quarantine {
    /// Whether one more may begin.
    pub(crate) fn admits(&self, suspicion: Suspicion, executor: &(OutboxKind, String)) -> bool {
        match suspicion {
            Suspicion::Waited => self.waited.get(executor).is_none_or(|busy| *busy < MAX_SUSPECTS),
            Suspicion::Begun => self.begun == 0 && self.waited.values().all(|busy| *busy == 0),
        }
    }

    pub(crate) fn begin(&mut self, suspicion: Suspicion, executor: &(OutboxKind, String)) {
        match suspicion {
            Suspicion::Waited => *self.waited.entry(executor.clone()).or_default() += 1,
            Suspicion::Begun => self.begun += 1,
        }
    }

    pub(crate) fn end(&mut self, suspicion: Suspicion, executor: &(OutboxKind, String)) {
        let busy = match suspicion {
            Suspicion::Waited => self.waited.entry(executor.clone()).or_default(),
            Suspicion::Begun => &mut self.begun,
        };
        *busy = busy.saturating_sub(1);
    }
}

/// The wait of a suspect that was begun so often after a takeover, so that others get on before it may
/// kill again; `None` when its attempts are used up.
pub(crate) fn wait_of_begun(attempts: RetryPolicy, begun: u32) -> Option<Duration> {
    attempts.wait_after(begun)
}

/// Why a message is given up.
pub(crate) fn killed(attempts: u32) -> String {
    format!("the process died while it was handled, {attempts} times")
}

impl WorkerContext {
    /// One attempt at a row, unless the lease may lapse meanwhile. An attempt at a suspect is on
    /// record before it is made. Gives whether it is, or may be.
    pub(crate) async fn attempt(
        &self,
        held: &Arc<HeldLease>,
        row: &OutboxRow,
        limit: Duration,
        suspicion: Option<Suspicion>,
    ) -> (Executed, bool) {
        if row.begun && wait_of_begun(self.attempts_of(&row.queue), row.attempts).is_none() {
            return (Executed::Killed(killed(row.attempts)), false);
        }
        let is_recorded = suspicion.is_some();
        if is_recorded {
            let settlement = Settlement {
                lease: held.lease.clone(),
                queue: row.queue.clone(),
                position: row.position,
                change: QueueChange::Begun { attempts: row.attempts + 1 },
            };
            match self.store().settle(row.queue.partition, &[settlement]).await {
                Ok(ours) if ours == [true] => {}
                Ok(_) => {
                    self.leases.lost(held);
                    return (Executed::NotBegun("the lease is another's".to_owned()), false);
                }
                Err(error) => return (Executed::NotBegun(error_chain(&error)), true),
            }
        }
        // It may have lapsed since the row was picked.
        if !held.admits(self.clock(), limit) {
            return (Executed::NotBegun("the lease lapses".to_owned()), is_recorded);
        }
        let executed = AssertUnwindSafe(self.execute(row)).catch_unwind().await;
        let executed = executed.unwrap_or_else(|panic| Executed::Failed(panic_text(&*panic)));
        (executed, is_recorded)
    }
}
