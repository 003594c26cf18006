//! Suspects: the rows and timers of a process that crashed without releasing its leases. Any of
//! them may have caused the crash.
//!
//! An attempt at a suspect is recorded before it begins, so that a suspect that keeps crashing the
//! process runs out of attempts. Only a few suspects are attempted at a time, so that a crash
//! throws suspicion on few others.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::queue::{OutboxKind, OutboxRow, QueuePosition};

use crate::worker::retry::RetryPolicy;

/// Maximum number of suspects that one executor attempts at a time.
const MAX_SUSPECTS: usize = 16;

/// A reason for which a row or timer is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suspicion {
    /// The row or timer was waiting when a process that may have worked on it crashed.
    Waited,
    /// An attempt was begun, and its outcome is not recorded. The row or timer is retried once no
    /// other suspect is under way.
    Begun,
}

impl Suspicion {
    /// Returns the suspicion about a row, if there is any. The rows of its queue up to
    /// `suspects_to` were waiting when a process crashed.
    pub(crate) fn of(row: &OutboxRow, suspects_to: QueuePosition) -> Option<Self> {
        match row {
            OutboxRow { behind_parked: true, .. } => None,
            OutboxRow { begun: true, .. } => Some(Self::Begun),
            row => (row.position <= suspects_to).then_some(Self::Waited),
        }
    }
}

/// The numbers of suspects under way. The key of an executor is the kind of its queue, with the
/// name of its aggregate type, gateway, policy or topic.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    waited: BTreeMap<(OutboxKind, String), usize>,
    begun: usize,
}

impl Quarantine {
    /// Returns `true` if `executor` may begin an attempt at another suspect.
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

/// Returns the backoff of a suspect after `attempts` attempts, or `None` if none are left. During
/// the backoff, other rows progress before the suspect may crash the process again.
pub(crate) fn backoff_of_begun(retry: RetryPolicy, attempts: u32) -> Option<Duration> {
    retry.backoff_after(attempts)
}
