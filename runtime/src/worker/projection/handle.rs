//! What a user does with a projection: look, wait, rebuild, pause.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    EventStore as _, Position, ProjectionRecord, ProjectionState, StoreError,
};

use crate::app::context::AppContext;
use crate::worker::projection::registered::ErasedProjection;

/// How often a waiter looks at the read model, which another process may write.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A projection of an app: see [`App::projection`](crate::App::projection).
#[derive(Clone)]
pub struct ProjectionHandle {
    projection: Arc<dyn ErasedProjection>,
    shared: Arc<AppContext>,
}

impl std::fmt::Debug for ProjectionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProjectionHandle").field(&self.projection.name()).finish()
    }
}

/// How far a projection has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// How it does.
    pub state: ProjectionState,
    /// How many events of the log are behind it.
    pub done: u64,
    /// How many events the log has.
    pub of: u64,
    /// The last position that is behind it, of each partition.
    pub positions: Vec<Position>,
}

/// Why a position of a projection was not waited for to the end.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionWaitError {
    /// It did not come there in time.
    #[error("the projection did not come to {position} within the deadline")]
    DeadlinePassed {
        /// What was waited for.
        position: Position,
    },
    /// It is being rebuilt, paused or failed, and may take long or for ever.
    #[error("the projection is not running: {state:?}")]
    NotRunning {
        /// How it does.
        state: ProjectionState,
    },
    /// The read model cannot be reached. Try again.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

impl ProjectionHandle {
    pub(crate) fn new(projection: Arc<dyn ErasedProjection>, shared: Arc<AppContext>) -> Self {
        Self { projection, shared }
    }

    async fn load(&self) -> Result<ProjectionRecord, StoreError> {
        self.projection.load(self.shared.log.id).await
    }

    /// How far it has come, and how it does. One that belongs to another log has failed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the read model or the log cannot be reached.
    pub async fn status(&self) -> Result<ProjectionStatus, StoreError> {
        let ProjectionRecord { checkpoints, state, .. } = self.load().await?;
        let heads = self.shared.store.heads().await?;
        let done = checkpoints.iter().map(|checkpoint| checkpoint.offset).sum();
        let of = heads.iter().map(|head| head.offset).sum();
        let positions = checkpoints.iter().map(|c| Position::new(c.partition, c.offset)).collect();
        Ok(ProjectionStatus { state, done, of, positions })
    }

    /// Waits until the event at `position` is projected: with the position of a command's receipt,
    /// what is read after it shows what the command wrote.
    ///
    /// # Errors
    ///
    /// [`ProjectionWaitError`]; each variant says what it means.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing but waiting is lost.
    pub async fn wait_for(
        &self,
        position: Position,
        deadline: Duration,
    ) -> Result<(), ProjectionWaitError> {
        let late = self.shared.clock.sleep(deadline);
        let mut moved = self.projection.moved();
        let watch = async {
            loop {
                moved.mark_unchanged();
                let ProjectionRecord { checkpoints, state, .. } = self.load().await?;
                let is_behind = checkpoints.iter().any(|checkpoint| {
                    checkpoint.partition == position.partition
                        && checkpoint.offset >= position.offset
                });
                if is_behind && !self.waits(position).await? {
                    return Ok(());
                }
                if state != ProjectionState::Running {
                    return Err(ProjectionWaitError::NotRunning { state });
                }
                tokio::select! {
                    biased;
                    _ = moved.changed() => {}
                    () = self.shared.clock.sleep(POLL_INTERVAL) => {}
                }
            }
        };
        tokio::select! {
            biased;
            found = watch => found,
            () = late => Err(ProjectionWaitError::DeadlinePassed { position }),
        }
    }

    /// Whether the event at a position that was passed waits for an earlier one of its stream.
    async fn waits(&self, position: Position) -> Result<bool, StoreError> {
        let waiting = self.projection.waiting().await?;
        if waiting.is_empty() {
            return Ok(false);
        }
        let before = Position::new(position.partition, position.offset.saturating_sub(1));
        let events = self.shared.store.read_log(&[before], 1).await?;
        let event = events.iter().find(|event| event.position == position);
        Ok(event.is_some_and(|event| {
            waiting.iter().any(|w| w.stream == event.stream && w.version < event.version)
        }))
    }

    /// Empties the read model and lets it be made anew from the whole log. Whichever process runs it
    /// begins within a second; see [`ProjectionHandle::status`] for how far it is. One that was
    /// paused or has failed goes on with this.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: it may have been emptied; rebuild again.
    /// [`StoreError::Invalid`]: it was not, since [`clear`](composable_rust_core::Projection::clear)
    /// failed, or since the projection belongs to another log; nothing of that one is touched.
    pub async fn rebuild(&self) -> Result<(), StoreError> {
        self.projection.rebuild(self.shared.log.id, false).await
    }

    /// Rebuilds a projection that belongs to another log, which is gone: from now on it belongs to
    /// this one. If the other log is still in use, its projection fails from then on, and what it had
    /// in common with this one is emptied; give this one another name, or a schema of its own.
    ///
    /// # Errors
    ///
    /// As [`ProjectionHandle::rebuild`].
    pub async fn adopt(&self) -> Result<(), StoreError> {
        self.projection.rebuild(self.shared.log.id, true).await
    }

    /// Stops it where it is, in all processes, within a second or so.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it may go on; pause it again.
    pub async fn pause(&self) -> Result<(), StoreError> {
        let log = self.shared.log.id;
        self.projection.change_state(log, |_| Some(ProjectionState::Paused)).await
    }

    /// Lets it go on within a second or so, after it was paused or has failed. A rebuild that was
    /// interrupted goes on as one. A projection that is running or being rebuilt is left alone.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it may not go on; resume it again.
    pub async fn resume(&self) -> Result<(), StoreError> {
        use ProjectionState::{Failed, Paused, Rebuilding, Running};
        let resumed = |record: ProjectionRecord| match record.state {
            Running | Rebuilding => None,
            Paused | Failed { .. } => Some(if record.rebuilding { Rebuilding } else { Running }),
        };
        self.projection.change_state(self.shared.log.id, resumed).await
    }
}
