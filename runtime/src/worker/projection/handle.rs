//! Operating a projection: its status, waiting for it, rebuilding and pausing it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::Position;
use composable_rust_core::projection::{ProjectionRecord, ProjectionState};
use composable_rust_core::queue::Outbox as _;
use composable_rust_core::store::{EventStore as _, StoreError};
use futures_util::{Stream, stream};

use crate::app::context::AppContext;
use crate::panic::lock;
use crate::worker::projection::registered::ErasedProjection;

/// Poll interval of the read model, which another process may write.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Poll interval of [`ProjectionHandle::positions`].
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

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

/// The status of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// The state.
    pub state: ProjectionState,
    /// The number of events that are processed.
    pub done: u64,
    /// The number of events in the log.
    pub of: u64,
    /// The last processed position of each partition.
    pub positions: Vec<Position>,
}

/// An error of [`ProjectionHandle::wait_for`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionWaitError {
    /// The projection did not reach all positions within the deadline.
    #[error("the projection did not reach {position} within the deadline")]
    DeadlinePassed {
        /// One that it may not have reached.
        position: Position,
    },
    /// The projection is being rebuilt, is paused, or has failed: it may not reach the position
    /// soon, or ever. Or the deadline has passed while a partition waited for newer code.
    #[error("the projection is not running: {state:?}")]
    NotRunning {
        /// The state.
        state: ProjectionState,
    },
    /// The read model is unavailable. Try again.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

impl ProjectionHandle {
    pub(crate) fn new(projection: Arc<dyn ErasedProjection>, shared: Arc<AppContext>) -> Self {
        Self { projection, shared }
    }

    /// Returns the name of the projection.
    pub fn name(&self) -> &'static str {
        self.projection.name()
    }

    async fn load(&self) -> Result<ProjectionRecord, StoreError> {
        self.projection.load(self.shared.log.id).await
    }

    /// Returns the projection's status. A projection that belongs to another log has failed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the read model or the log is unavailable.
    pub async fn status(&self) -> Result<ProjectionStatus, StoreError> {
        let ProjectionRecord { checkpoints, state, .. } = self.load().await?;
        let heads = self.shared.store.heads().await?;
        let done = checkpoints.iter().map(|checkpoint| checkpoint.offset).sum();
        let of = heads.iter().map(|head| head.offset).sum();
        let positions = checkpoints.iter().map(|c| Position::new(c.partition, c.offset)).collect();
        Ok(ProjectionStatus { state, done, of, positions })
    }

    /// Waits until the events at `positions` are projected: one position, an `Option` of it as in a
    /// command's receipt, or several. The read model then shows what these commands wrote. With the
    /// positions that [`App::settled`](crate::App::settled) returns, it shows a whole workflow.
    ///
    /// # Errors
    ///
    /// [`ProjectionWaitError`]; each variant says what to do.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has no effect.
    pub async fn wait_for(
        &self,
        positions: impl IntoIterator<Item = Position>,
        deadline: Duration,
    ) -> Result<(), ProjectionWaitError> {
        let mut missing: Vec<Position> = positions.into_iter().collect();
        // Offset 0 is before the first event.
        missing.retain(|position| position.offset > 0);
        let late = self.shared.clock.sleep(deadline);
        let seen = Mutex::new(ProjectionState::default());
        let mut moved = self.projection.moved();
        let watch = async {
            loop {
                moved.mark_unchanged();
                let ProjectionRecord { checkpoints, state, .. } = self.load().await?;
                let is_reached = |position: &Position| {
                    let mut of = checkpoints.iter().filter(|c| c.partition == position.partition);
                    of.any(|checkpoint| checkpoint.offset >= position.offset)
                };
                if missing.iter().all(is_reached) {
                    while let Some(position) = missing.last() {
                        if self.is_blocked(*position).await? {
                            break;
                        }
                        missing.pop();
                    }
                }
                if missing.is_empty() {
                    return Ok(());
                }
                match state {
                    // Newer code may be on its way, and other partitions do not wait for it.
                    ProjectionState::Running | ProjectionState::WaitingForNewerCode { .. } => {
                        *lock(&seen) = state;
                    }
                    state => return Err(ProjectionWaitError::NotRunning { state }),
                }
                tokio::select! {
                    biased;
                    _ = moved.changed() => {}
                    () = self.shared.clock.sleep(POLL_INTERVAL) => {}
                }
            }
        };
        let found = tokio::select! {
            biased;
            found = watch => Some(found),
            () = late => None,
        };
        found.unwrap_or_else(|| {
            let position = missing.first().copied().unwrap_or(Position::new(0, 0));
            Err(match lock(&seen).clone() {
                ProjectionState::Running => ProjectionWaitError::DeadlinePassed { position },
                state => ProjectionWaitError::NotRunning { state },
            })
        })
    }

    /// Returns the last processed position of each partition, now and whenever one changes: at once
    /// for the progress of this process, within a second for that of others. The stream ends only
    /// with an error.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the read model is unavailable. Call it again.
    pub fn positions(
        &self,
    ) -> impl Stream<Item = Result<Vec<Position>, StoreError>> + Send + use<> {
        let state = (self.clone(), self.projection.moved(), None);
        stream::try_unfold(state, |(handle, mut moved, seen)| async move {
            loop {
                moved.mark_unchanged();
                let checkpoints = handle.load().await?.checkpoints;
                let positions: Vec<_> =
                    checkpoints.iter().map(|c| Position::new(c.partition, c.offset)).collect();
                if seen.as_ref() != Some(&positions) {
                    return Ok(Some((positions.clone(), (handle, moved, Some(positions)))));
                }
                tokio::select! {
                    biased;
                    _ = moved.changed() => {}
                    () = handle.shared.clock.sleep(WATCH_INTERVAL) => {}
                }
            }
        })
    }

    /// Returns `true` if the event at a processed position waits behind an earlier one of its
    /// stream.
    async fn is_blocked(&self, position: Position) -> Result<bool, StoreError> {
        let blocked = self.projection.blocked_streams().await?;
        if blocked.is_empty() {
            return Ok(false);
        }
        let before = Position::new(position.partition, position.offset.saturating_sub(1));
        let events = self.shared.store.read_log(&[before], 1).await?;
        let event = events.iter().find(|event| event.position == position);
        Ok(event.is_some_and(|event| {
            blocked.iter().any(|w| w.stream == event.stream && w.version < event.version)
        }))
    }

    /// Empties the read model and projects the whole log again. The process that runs the
    /// projection starts within a second; [`ProjectionHandle::status`] shows its progress. A
    /// projection that was paused or has failed is resumed by this.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Unavailable`]: the read model may have been emptied. Rebuild it again.
    /// - [`StoreError::Invalid`]: it was not emptied, because
    ///   [`clear`](composable_rust_core::Projection::clear) failed, or because the projection
    ///   belongs to another log, whose read model is not touched.
    pub async fn rebuild(&self) -> Result<(), StoreError> {
        self.projection.rebuild(self.shared.log.id, false).await?;
        self.wake_worker().await;
        Ok(())
    }

    /// Rebuilds a projection that belongs to another log, which is gone: from now on it belongs to
    /// this log. If the other log is still in use, its projection fails, and the read model that
    /// both share is emptied; then give this projection another name, or a schema of its own.
    ///
    /// # Errors
    ///
    /// As [`ProjectionHandle::rebuild`].
    pub async fn adopt(&self) -> Result<(), StoreError> {
        self.projection.rebuild(self.shared.log.id, true).await?;
        self.wake_worker().await;
        Ok(())
    }

    /// Pauses the projection in all processes, within about a second.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the projection may still run. Pause it again.
    pub async fn pause(&self) -> Result<(), StoreError> {
        let log = self.shared.log.id;
        self.projection.change_state(log, |_| Some(ProjectionState::Paused)).await?;
        self.wake_worker().await;
        Ok(())
    }

    /// Resumes the projection within about a second, after it was paused or has failed. An
    /// interrupted rebuild is continued. Has no effect on a projection that is running or being
    /// rebuilt.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the projection may not be resumed. Resume it again.
    pub async fn resume(&self) -> Result<(), StoreError> {
        use ProjectionState::{Failed, Paused, Rebuilding, Running, WaitingForNewerCode};
        let resumed = |record: ProjectionRecord| match record.state {
            Running | WaitingForNewerCode { .. } | Rebuilding => None,
            Paused | Failed { .. } => Some(if record.rebuilding { Rebuilding } else { Running }),
        };
        self.projection.change_state(self.shared.log.id, resumed).await?;
        self.wake_worker().await;
        Ok(())
    }

    /// Wakes the process that runs the projection, which otherwise polls.
    async fn wake_worker(&self) {
        if let Err(error) = self.shared.store.wake_workers().await {
            tracing::debug!(%error, "failed to wake the projection's worker; it polls");
        }
    }
}
