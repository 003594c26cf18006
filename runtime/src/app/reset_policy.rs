//! Resetting a policy to another position of the log.

use composable_rust_core::Position;
use composable_rust_core::queue::{Checkpoint, Checkpoints as _};
use composable_rust_core::store::{EventStore as _, StoreError};

use crate::app::app::App;
use crate::worker::follower::event_at;
use crate::worker::worker_id::WorkerId;

/// The position of the log at which a policy continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyPosition {
    /// The first event: the policy is applied to the whole log again. Recipients ignore duplicate
    /// commands within [`inbox_retention`](crate::settings::Settings::inbox_retention), and
    /// handle older commands again.
    Beginning,
    /// The end of the log: the policy is applied to none of the present events.
    End,
}

/// The error of [`App::reset_policy`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResetPolicyError {
    /// This process has no policy of this name over the log of this service. Call it in a process
    /// that has. A policy over a topic starts at the position of its consumer group.
    #[error("this process has no policy `{0}` over the log of this service")]
    Unknown(String),
    /// The store is unavailable; the policy may be reset in some log partitions. Retry.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Resets a policy over the log of this service to another position: after the policy stopped
    /// because the log lost events (it was restored from a backup, or a failover lost commits), or
    /// to apply the policy again. The process that runs the policy continues there within about a
    /// minute. Events that wait in the policy's queue stay there.
    ///
    /// # Errors
    ///
    /// [`ResetPolicyError`]; each variant says what to do.
    pub async fn reset_policy(
        &self,
        name: &str,
        position: PolicyPosition,
    ) -> Result<(), ResetPolicyError> {
        if !self.follows_log(name) {
            return Err(ResetPolicyError::Unknown(name.to_owned()));
        }
        let (shared, worker) = (self.shared(), WorkerId::Policy(name.to_owned()).to_string());
        let heads = match position {
            PolicyPosition::Beginning => Vec::new(),
            PolicyPosition::End => shared.store.heads().await?,
        };
        for partition in 0..shared.log.partitions {
            let head = heads.iter().find(|head| head.partition == partition);
            let offset = head.map_or(0, |head| head.offset);
            let event_id = event_at(&shared.store, Position::new(partition, offset)).await?;
            let to = Checkpoint { partition, offset, event_id };
            shared.store.rewind(&worker, to).await?;
        }
        Ok(())
    }
}
