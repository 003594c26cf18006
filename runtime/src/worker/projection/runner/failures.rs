//! Failures of a projection: retrying, and stopping the projection.

use std::time::Duration;

use composable_rust_core::projection::{ProjectionRecord, ProjectionState, ReadModel};
use composable_rust_core::{Position, Projection};

use super::{RunFailure, Runner, STATE_POLL_INTERVAL};
use crate::app::unknown_messages::NewerCode;
use crate::worker::outcome::Failure;
use crate::worker::projection::registered::is_active;
use crate::worker::retry::dependency_backoff;

/// Claims of the lease after a stale epoch, after which the projection fails.
const MAX_STALE_EPOCHS: u32 = 5;

/// Consecutive failures of a projection.
#[derive(Default)]
pub(super) struct Failures {
    /// Failures that do not count as attempts.
    uncounted: u32,
    stale_epochs: u32,
    /// The position of the event that fails, and the number of attempts.
    poison: Option<(Position, u32)>,
}

impl Failures {
    /// Records a success.
    pub(super) fn went_well(&mut self) {
        (self.uncounted, self.stale_epochs) = (0, 0);
    }
}

impl<P, M> Runner<'_, P, M>
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    /// Handles a failure. Returns the pause before the next turn.
    pub(super) async fn failed(&mut self, failure: RunFailure) -> Duration {
        let RunFailure { failure, at } = failure;
        match (failure, at) {
            (Failure::Fenced, _) => Duration::from_millis(100),
            (Failure::NeedsNewerCode(NewerCode { what, reason }), Some(at)) => {
                let reason = format!(
                    "no running code knows {what} (the event at {at}: {reason}): deploy code that \
                     does, or override the event; then resume the projection"
                );
                self.stop(reason, false).await;
                STATE_POLL_INTERVAL
            }
            (Failure::LogRewound(reason), _) => {
                self.stop(reason, false).await;
                STATE_POLL_INTERVAL
            }
            (Failure::StaleEpoch(reason), _) => self.stale_epoch(reason).await,
            (Failure::Poison(reason), Some(at)) => self.poisoned(at, reason).await,
            (failure, _) => {
                tracing::warn!(
                    projection = P::NAME, error = %failure,
                    "projection read model or log unavailable; retrying"
                );
                self.failures.uncounted += 1;
                dependency_backoff(self.failures.uncounted)
            }
        }
    }

    /// Retries an event that cannot be projected; stops the projection after the attempts.
    async fn poisoned(&mut self, at: Position, reason: String) -> Duration {
        let before = self.failures.poison.filter(|(of, _)| *of == at).map_or(0, |(_, n)| n);
        self.failures.poison = Some((at, before + 1));
        if let Some(backoff) = self.context.shared.settings.retry.backoff_after(before + 1) {
            tracing::warn!(
                projection = P::NAME, %at, reason,
                "failed to project an event; retrying"
            );
            return backoff;
        }
        if self.stop(format!("the event at {at}: {reason}"), false).await {
            self.failures.poison = None;
        }
        STATE_POLL_INTERVAL
    }

    /// Claims the lease again, so that its epoch rises; stops the projection if that does not help.
    async fn stale_epoch(&mut self, reason: String) -> Duration {
        self.failures.stale_epochs += 1;
        if self.failures.stale_epochs < MAX_STALE_EPOCHS {
            tracing::warn!(
                projection = P::NAME,
                reason,
                "stale epoch of the projection's lease; claiming it again"
            );
            self.context.leases.lost(&self.held);
        } else {
            let reason = format!(
                "{reason}, also after the lease was claimed again: make sure that no other \
                 deployment writes to this read model, then rebuild the projection"
            );
            if self.stop(reason, true).await {
                self.failures.stale_epochs = 0;
            }
        }
        STATE_POLL_INTERVAL
    }

    /// Changes the state to `Failed`, unless an operator or another process has changed it;
    /// whatever the epoch is if `is_stale`. Returns `true` if the state is settled.
    async fn stop(&mut self, reason: String, is_stale: bool) -> bool {
        if !self.may_continue() {
            return false;
        }
        tracing::error!(projection = P::NAME, reason, "projection failed and has stopped");
        let epoch = if is_stale { u64::MAX } else { self.held.lease.epoch };
        // PostgreSQL cannot store NUL.
        let failed = ProjectionState::Failed { reason: reason.replace('\0', "\u{fffd}") };
        let to = |record: &ProjectionRecord| is_active(&record.state).then(|| failed.clone());
        match self.change_state(epoch, to).await {
            Ok(()) | Err(Failure::Fenced) => true,
            Err(failure) => {
                tracing::warn!(
                    projection = P::NAME, error = %failure,
                    "failed to record the projection's failure; retrying"
                );
                false
            }
        }
    }
}
