//! Resetting a policy to another place in the log.

use composable_rust_core::queue::{Checkpoint, Checkpoints as _};
use composable_rust_core::store::{Inspection as _, StoreError};

use crate::app::app::App;
use crate::app::log_start::{LogStart, rewound};
use crate::worker::follower::event_at;
use crate::worker::worker_id::WorkerId;

/// The error of [`App::reset_policy`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResetPolicyError {
    /// No policy of this name follows the log of this service. A policy over a topic continues at
    /// the position of its consumer group: see [`App::move_consumer`].
    #[error("no policy `{0}` follows the log of this service")]
    Unknown(String),
    /// The store is unavailable, and the policy may be reset in some log partitions; or the place
    /// is not in the log.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Resets a policy over the log of this service to another place: after the policy stopped
    /// because the log lost events (it was restored from a backup, or a failover lost commits), or
    /// to apply the policy again. The process that runs the policy continues there within about a
    /// minute. Events that wait in the policy's queue stay there.
    ///
    /// Recipients ignore duplicate commands within
    /// [`inbox_retention`](crate::settings::Settings::inbox_retention), and handle older ones
    /// again.
    ///
    /// # Errors
    ///
    /// [`ResetPolicyError`]; each variant says what to do.
    pub async fn reset_policy(&self, name: &str, to: LogStart) -> Result<(), ResetPolicyError> {
        let (shared, worker) = (self.shared(), WorkerId::Policy(name.to_owned()).to_string());
        if !self.follows_log(name) {
            let checkpoints = shared.store.all_checkpoints().await?;
            if !checkpoints.iter().any(|of| of.name == worker) {
                return Err(ResetPolicyError::Unknown(name.to_owned()));
            }
        }
        for at in self.positions_of(&to).await? {
            let event_id = event_at(&shared.store, at).await?;
            let to = Checkpoint { event_id, ..rewound(at) };
            shared.store.rewind(&worker, to).await?;
        }
        Ok(())
    }
}
