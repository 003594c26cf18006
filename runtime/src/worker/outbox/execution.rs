//! Attempts to execute a row.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::queue::{Outbox as _, OutboxMessage, OutboxRow, QueueChange, Settlement};

use crate::error::error_chain;
use crate::panic::guarded_future;
use crate::worker::context::WorkerContext;
use crate::worker::leases::HeldLease;
use crate::worker::outcome::Failure;
use crate::worker::quarantine::{Suspicion, backoff_of_begun};
use crate::worker::retry::RetryPolicy;

/// Executes the rows of the outbox.
pub(crate) trait RowExecutor: Send + Sync + 'static {
    fn execute(&self, row: &OutboxRow) -> impl Future<Output = Execution> + Send;
}

/// The outcome of executing a row.
#[derive(Debug)]
pub(crate) struct Execution {
    /// The rows that are queued in its place.
    pub(crate) result: Result<Vec<OutboxMessage>, Failure>,
    /// The outcome of the call to a gateway, for its circuit breaker.
    pub(crate) call: CallHealth,
}

/// The outcome of a call to a gateway, as its circuit breaker counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallHealth {
    /// The gateway was not called.
    NotCalled,
    /// The gateway has responded.
    Succeeded,
    /// The gateway has failed, or cannot be reached.
    Failed,
}

impl Execution {
    /// Returns the outcome of a row that is not a call, or was not called.
    pub(crate) fn without_call(result: Result<Vec<OutboxMessage>, Failure>) -> Self {
        Self { result, call: CallHealth::NotCalled }
    }

    fn not_begun(reason: impl Into<String>) -> Self {
        Self::without_call(Err(Failure::Unavailable(reason.into())))
    }
}

/// An attempt to execute a row.
pub(crate) struct Attempt {
    pub(crate) execution: Execution,
    /// `true` if the attempt was recorded before it was made, or may have been.
    pub(crate) is_recorded: bool,
}

impl Attempt {
    /// Makes an attempt, unless the lease may lapse during it. An attempt at a suspect is recorded
    /// before it is made.
    pub(crate) async fn make(
        context: &WorkerContext,
        executor: &impl RowExecutor,
        held: &Arc<HeldLease>,
        row: &OutboxRow,
        limits: AttemptLimits,
        suspicion: Option<Suspicion>,
    ) -> Self {
        if row.begun && backoff_of_begun(limits.retry, row.attempts).is_none() {
            let crashed = Failure::Crashed { attempts: row.attempts };
            let execution = Execution::without_call(Err(crashed));
            return Self { execution, is_recorded: false };
        }
        let is_recorded = suspicion.is_some();
        if is_recorded {
            if let Err(attempt) = Self::record(context, held, row).await {
                return attempt;
            }
        }
        // The lease may have lapsed since the row was picked.
        if !held.admits(context.clock(), limits.timeout) {
            return Self { execution: Execution::not_begun("the lease lapses"), is_recorded };
        }
        let execution = guarded_future(executor.execute(row)).await;
        let execution = execution.unwrap_or_else(|message| Execution {
            result: Err(Failure::panicked(&message)),
            call: CallHealth::Failed,
        });
        Self { execution, is_recorded }
    }

    /// Records that an attempt begins, or returns the attempt that is not begun.
    async fn record(
        context: &WorkerContext,
        held: &Arc<HeldLease>,
        row: &OutboxRow,
    ) -> Result<(), Self> {
        let settlement = Settlement {
            lease: held.lease.clone(),
            queue: row.queue.clone(),
            position: row.position,
            change: QueueChange::Begun { attempts: row.attempts + 1 },
        };
        match context.store().settle(row.queue.partition, &[settlement]).await {
            Ok(ours) if ours == [true] => Ok(()),
            Ok(_) => {
                context.leases.lost(held);
                let execution = Execution::not_begun("lease lost to another process");
                Err(Self { execution, is_recorded: false })
            }
            Err(error) => {
                let execution = Execution::not_begun(error_chain(&error));
                Err(Self { execution, is_recorded: true })
            }
        }
    }
}

/// The limits of an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptLimits {
    /// The maximum duration of the attempt; zero if it is not limited.
    pub(crate) timeout: Duration,
    pub(crate) retry: RetryPolicy,
}
