//! Suspects: rows and timers that a process left when it crashed without releasing its leases, any
//! of which may have crashed it.
//!
//! Attempts at suspects are recorded before they are made, so that one that crashes the process
//! again runs out of attempts. Few are made at a time, so that few others are suspected with it.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::queue::{OutboxKind, OutboxRow, QueuePosition};

use crate::worker::retry::RetryPolicy;

/// Maximum suspects of one executor that are under way.
const MAX_SUSPECTS: usize = 16;

/// A reason for which a row or timer is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suspicion {
    /// It waited when a process crashed that may have worked on it.
    Waited,
    /// An attempt was begun, and its end is not recorded. It is retried alone, once no other
    /// suspect is under way.
    Begun,
}

impl Suspicion {
    /// Returns the suspicion about a row of a queue whose rows up to `suspects_to` waited when a
    /// process crashed.
    pub(crate) fn of(row: &OutboxRow, suspects_to: QueuePosition) -> Option<Self> {
        match row {
            OutboxRow { behind_parked: true, .. } => None,
            OutboxRow { begun: true, .. } => Some(Self::Begun),
            row => (row.position <= suspects_to).then_some(Self::Waited),
        }
    }
}

/// The suspects under way, by executor: the kind, with the aggregate type, gateway, policy or
/// topic.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    waited: BTreeMap<(OutboxKind, String), usize>,
    begun: usize,
}

impl Quarantine {
    /// Returns `true` if one more may begin.
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

/// Returns the backoff of a suspect that was begun `attempts` times, so that other rows progress
/// before it may crash the process again; `None` if no attempts are left.
pub(crate) fn backoff_of_begun(retry: RetryPolicy, attempts: u32) -> Option<Duration> {
    retry.backoff_after(attempts)
}
