//! Moving a policy over the log.

use composable_rust_core::{Checkpoint, EventStore as _, Position, StoreError, WorkQueues as _};

use crate::app::app::App;
use crate::worker::follower::event_at;
use crate::worker::policy::follower::policy_worker;

/// The place in the log at which a policy goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyPosition {
    /// The first event: the policy is applied to the whole log again. Recipients absorb the commands that
    /// they had within [`inbox_retention`](crate::Settings::inbox_retention) and handle older ones again.
    Beginning,
    /// Behind the last event that the log has now: the policy is applied to none of those before.
    End,
}

/// The reason for which a policy was not moved.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResetPolicyError {
    /// This process has no policy of this name over the log of this service. Ask a process that has. A
    /// policy over a topic begins where its consumer group stands.
    #[error("this process has no policy `{0}` over the log of this service")]
    Unknown(String),
    /// The store cannot be reached; the policy may be moved in some log partitions. Try again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Moves a policy over the log of this service to another place: if it stopped because the log went
    /// back (restored from a backup, or a failover lost commits), or if it is to be applied again. The
    /// process that runs it goes on there within a minute or so. Events that wait in the policy's queue
    /// keep their places.
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
        let (shared, worker) = (self.shared(), policy_worker(name));
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
