//! The metrics of commands, instances and appends.

use std::sync::OnceLock;
use std::time::Duration;

use composable_rust_core::store::{Append, AppendOutcome, StoreError};
use composable_rust_core::{Aggregate, Message as _};

use crate::error::SendError;
use crate::instance::message::{Completion, SubmitError};
use crate::metrics::{
    APPEND_BATCH_APPENDS, APPEND_BATCH_EVENTS, APPEND_CONFLICTS, APPEND_DURATION, COMMAND_DURATION,
    DUPLICATES_IGNORED, LIVE_INSTANCE_BYTES, LIVE_INSTANCES, as_f64,
};

/// The metrics of one aggregate type. Their series are looked up once, because a lookup allocates.
pub(crate) struct AggregateMetrics {
    aggregate: &'static str,
    commands: Vec<(&'static str, CommandDurations)>,
    pub(crate) conflicts: metrics::Counter,
    pub(crate) duplicates: metrics::Counter,
}

/// The durations of one command, by the index of their outcome.
type CommandDurations = [OnceLock<metrics::Histogram>; OUTCOMES.len()];

const OUTCOMES: [&str; 7] =
    ["committed", "unchanged", "rejected", "conflict", "duplicate", "expired", "failed"];

const COMMITTED: usize = 0;
const UNCHANGED: usize = 1;
const REJECTED: usize = 2;
const CONFLICT: usize = 3;
const DUPLICATE: usize = 4;
const EXPIRED: usize = 5;
const FAILED: usize = 6;

impl AggregateMetrics {
    pub(crate) fn new<A: Aggregate>() -> Self {
        let commands = A::Command::KINDS.iter();
        Self {
            aggregate: A::NAME,
            commands: commands.map(|kind| (kind.name, CommandDurations::default())).collect(),
            conflicts: APPEND_CONFLICTS.of([A::NAME]),
            duplicates: DUPLICATES_IGNORED.of([A::NAME]),
        }
    }

    /// Records the duration of the command of this name.
    pub(crate) fn completed<A: Aggregate>(
        &self,
        command: &'static str,
        completion: &Completion<A>,
        duration: Duration,
    ) {
        let of_name = self.commands.iter().find(|(name, _)| *name == command);
        let Some((_, durations)) = of_name else { return };
        let outcome = outcome(completion);
        let of = durations[outcome]
            .get_or_init(|| COMMAND_DURATION.of([self.aggregate, command, OUTCOMES[outcome]]));
        of.record(duration);
    }
}

/// Returns the index of an outcome.
fn outcome<A: Aggregate>(completion: &Completion<A>) -> usize {
    if completion.is_duplicate {
        return DUPLICATE;
    }
    match &completion.result {
        Ok(receipt) if receipt.position.is_some() => COMMITTED,
        Ok(_) | Err(SubmitError::StaleTimer) => UNCHANGED,
        Err(SubmitError::Send(SendError::Rejected(_))) => REJECTED,
        Err(SubmitError::Send(SendError::UnexpectedVersion { .. } | SendError::KeyReused)) => {
            CONFLICT
        }
        Err(SubmitError::DeadlinePassed) => EXPIRED,
        Err(SubmitError::Send(_) | SubmitError::ShuttingDown | SubmitError::DrainFailed) => FAILED,
    }
}

/// The gauges of the live instances of one aggregate type.
pub(crate) struct InstanceGauges {
    count: metrics::Gauge,
    bytes: metrics::Gauge,
}

impl InstanceGauges {
    pub(crate) fn new(aggregate: &'static str) -> Self {
        let (count, bytes) = (LIVE_INSTANCES.of([aggregate]), LIVE_INSTANCE_BYTES.of([aggregate]));
        let gauges = Self { count, bytes };
        gauges.set(0, 0);
        gauges
    }

    pub(crate) fn set(&self, count: usize, bytes: usize) {
        self.count.set(as_f64(count as u64));
        self.bytes.set(as_f64(bytes as u64));
    }
}

/// The metrics of a log's appends.
pub(crate) struct AppendMetrics {
    appends: metrics::Histogram,
    events: metrics::Histogram,
    committed: metrics::Histogram,
    invalid: metrics::Histogram,
    unknown: metrics::Histogram,
}

impl Default for AppendMetrics {
    fn default() -> Self {
        let duration = |outcome| APPEND_DURATION.of([outcome]);
        Self {
            appends: APPEND_BATCH_APPENDS.of([]),
            events: APPEND_BATCH_EVENTS.of([]),
            committed: duration("committed"),
            invalid: duration("invalid"),
            unknown: duration("unknown"),
        }
    }
}

impl AppendMetrics {
    /// Records the store's answer to a batch.
    pub(crate) fn appended(
        &self,
        batch: &[Append],
        answer: &Result<Vec<AppendOutcome>, StoreError>,
        duration: Duration,
    ) {
        let of = match answer {
            Ok(_) => &self.committed,
            Err(error) if error.is_transient() => &self.unknown,
            Err(_) => &self.invalid,
        };
        of.record(duration);
        let events: usize = batch.iter().map(|append| append.events.len()).sum();
        self.appends.record(as_f64(batch.len() as u64));
        self.events.record(as_f64(events as u64));
    }
}
