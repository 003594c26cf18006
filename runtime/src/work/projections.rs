//! Running projections: catching up, following, rebuilding, stopping.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Checkpoint, EventStore as _, OutboxKind, Position, Projection, ProjectionState, Queue,
    QueuedRow, ReadModel, Recorded, RecordedEvent, StoreError, StoredContent, StreamId,
    WorkQueues as _,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::attempts::wait_for_others;
use super::context::Work;
use super::leases::Held;
use super::policies::{Input, queued};
use crate::aggregate::Shared;
use crate::encode::describe;
use crate::error::panic_text;
use crate::handle::content_of;

/// Events of one partition that are projected in one transaction at most.
const PAGE: usize = 500;
/// How often the state is looked at, which operators change.
const LOOK_AT_STATE: Duration = Duration::from_secs(1);

/// How a projection is run.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ProjectionSettings {
    /// What happens to an event that cannot be projected.
    pub poison: Poison,
}

/// What happens to an event that cannot be projected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Poison {
    /// The projection stops before it, in state `Failed`, until it is resumed: what is read is never
    /// wrong, only old.
    #[default]
    Stop,
    /// The event waits, and what follows of its stream behind it; after the attempts they are dead
    /// letters. Everything else goes on: what is read lacks them. An event that has waited may be
    /// projected twice if the process ends at that moment.
    Park,
}

/// The worker of a projection, as leases and queues name it.
pub(crate) fn projection_worker(name: &str) -> String {
    format!("project/{name}")
}

/// A projection with its read model, the types erased.
pub(crate) trait ErasedProjection: Send + Sync {
    fn name(&self) -> &'static str;
    fn run(self: Arc<Self>, work: Arc<Work>) -> BoxFuture<'static, ()>;
    /// Projects one event that waited.
    fn project_queued<'a>(
        &'a self,
        shared: &'a Shared,
        event: &'a RecordedEvent,
    ) -> BoxFuture<'a, Result<(), Fault>>;
    fn load(&self) -> BoxFuture<'_, Result<(Vec<Checkpoint>, ProjectionState), StoreError>>;
    fn set_state(&self, state: ProjectionState) -> BoxFuture<'_, Result<(), StoreError>>;
    fn rebuild(&self) -> BoxFuture<'_, Result<(), Fault>>;
    fn moved(&self) -> watch::Receiver<u64>;
}

/// Why an event was not projected.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database or the store cannot be reached.
    Unavailable(String),
    /// Newer code knows the event.
    Newer(String),
    /// The projection fails on it, or it cannot be read.
    Poison(String),
    /// Somebody else has taken over, or begun anew.
    Fenced,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(describe(&error))
    }
}

pub(crate) struct Registered<P, M> {
    pub(crate) projection: P,
    pub(crate) model: M,
    pub(crate) settings: ProjectionSettings,
    pub(crate) moved: watch::Sender<u64>,
}

impl<P, M> Registered<P, M>
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    fn decode(shared: &Shared, event: &RecordedEvent) -> Result<Option<Recorded<P::Event>>, Fault> {
        let Some(content) = content_of(&event.content) else { return Ok(None) };
        let decode = || shared.codecs.decode::<P::Event>(&event.stream, content);
        let decoded = std::panic::catch_unwind(AssertUnwindSafe(decode))
            .map_err(|panic| Fault::Poison(panic_text(&*panic)))?;
        let event_of = |decoded| Recorded {
            event: decoded,
            id: event.id,
            stream: event.stream.clone(),
            version: event.version,
            position: event.position,
            metadata: event.metadata(),
            recorded_at: event.recorded_at,
        };
        match decoded {
            Ok(decoded) => Ok(Some(event_of(decoded))),
            Err(error) if error.is_newer() => Err(Fault::Newer(describe(&error))),
            Err(error) => Err(Fault::Poison(describe(&error))),
        }
    }

    async fn project(
        &self,
        shared: &Shared,
        event: &RecordedEvent,
        connection: &mut P::Connection,
    ) -> Result<(), Fault> {
        let decoded = Self::decode(shared, event)?;
        let projecting = async {
            match (&decoded, &event.content) {
                (Some(recorded), _) => self.projection.project(recorded, connection).await,
                (None, StoredContent::Erased) => {
                    self.projection.erase(&event.stream, connection).await
                }
                (None, _) => Ok(()),
            }
        };
        match AssertUnwindSafe(projecting).catch_unwind().await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::Poison(describe(&*error))),
            Err(panic) => Err(Fault::Poison(format!("it panicked: {}", panic_text(&*panic)))),
        }
    }

    /// Projects a page in one transaction. A fault comes with the event that it is of.
    async fn page(
        &self,
        follower: &mut Following<'_>,
        events: &[RecordedEvent],
    ) -> Result<(), (Fault, Option<usize>)> {
        let at = |index| move |fault| (fault, Some(index));
        let unavailable = |error: StoreError| (Fault::from(error), None);
        let mut transaction = self.model.begin().await.map_err(unavailable)?;
        let mut rows: BTreeMap<u16, Vec<QueuedRow>> = BTreeMap::new();
        let mut moves: BTreeMap<u16, (u64, Checkpoint)> = BTreeMap::new();
        for (index, event) in events.iter().enumerate() {
            let Position { partition, offset } = event.position;
            if P::CATEGORIES.contains(&event.stream.category()) {
                if follower.waiting.contains(&event.stream) {
                    let input = Input::Event(Box::new(event.clone()));
                    let worker = projection_worker(P::NAME);
                    let row = queued(&follower.work.shared, &worker, &input);
                    rows.entry(partition).or_default().push(row);
                } else {
                    let shared = &follower.work.shared;
                    self.project(shared, event, &mut transaction).await.map_err(at(index))?;
                }
            }
            let from = follower.at.get(&partition).map_or(0, |checkpoint| checkpoint.offset);
            let to = Checkpoint { partition, offset, event_id: Some(event.id) };
            moves.entry(partition).or_insert((from, to)).1 = to;
        }
        let moves: Vec<_> = moves.into_values().collect();
        let epoch = follower.held.lease.epoch;
        let advanced = self.model.advance(&mut transaction, P::NAME, epoch, &moves).await;
        if !advanced.map_err(unavailable)? {
            return Err((Fault::Fenced, None));
        }
        // Queued before the checkpoint moves: queued twice, it is projected twice, but never lost.
        for (partition, rows) in rows {
            let queued = follower.work.store().enqueue(partition, &rows, None).await;
            queued.map_err(unavailable)?;
        }
        self.model.commit(transaction).await.map_err(unavailable)?;
        for (_, to) in moves {
            follower.at.insert(to.partition, to);
        }
        Ok(())
    }

    /// Projects what can be projected of a page, event by event if need be.
    async fn take(
        &self,
        follower: &mut Following<'_>,
        events: &[RecordedEvent],
    ) -> Result<(), Fault> {
        let mut rest = events;
        while !rest.is_empty() {
            match self.page(follower, rest).await {
                Ok(()) => return Ok(()),
                Err((fault, Some(index))) if index > 0 => {
                    tracing::debug!(projection = P::NAME, ?fault, "the events before it first");
                    self.page(follower, &rest[..index]).await.map_err(|(fault, _)| fault)?;
                    rest = &rest[index..];
                }
                Err((Fault::Poison(error), Some(_))) if self.settings.poison == Poison::Park => {
                    let stream = &rest[0].stream;
                    tracing::warn!(projection = P::NAME, %stream, error, "an event waits");
                    follower.waiting.insert(stream.clone());
                }
                Err((fault, _)) => return Err(fault),
            }
        }
        Ok(())
    }

    async fn begin<'w>(&self, work: &'w Work, held: Arc<Held>) -> Result<Following<'w>, Fault> {
        let (checkpoints, state) = self.model.load(P::NAME).await?;
        let heads = work.store().heads().await?;
        let mut at = BTreeMap::new();
        for checkpoint in checkpoints {
            let partition = checkpoint.partition;
            let end = heads.iter().find(|end| end.partition == partition);
            let before = Position::new(partition, checkpoint.offset.saturating_sub(1));
            let there = work.store().read_log(&[before], 1).await?;
            let is_there = there.iter().any(|event| {
                event.position.offset == checkpoint.offset && Some(event.id) == checkpoint.event_id
            });
            let ahead = end.is_none_or(|end| end.offset < checkpoint.offset);
            if checkpoint.offset > 0 && (ahead || !is_there) {
                let position = Position::new(partition, checkpoint.offset);
                let reason = format!("the log is not what it was at {position}; rebuild it");
                return Err(Fault::Poison(reason));
            }
            at.insert(partition, checkpoint);
        }
        let mut waiting = BTreeSet::new();
        if self.settings.poison == Poison::Park {
            for partition in 0..work.shared.log.partitions {
                let target = projection_worker(P::NAME);
                let queue = Queue { partition, kind: OutboxKind::Policy, target };
                waiting.extend(work.store().queued_streams(&queue).await?);
            }
        }
        let looked = work.now();
        Ok(Following { work, held, at, waiting, state, looked })
    }

    /// Follows the log until the lease goes, it is stopped, or it fails.
    async fn follow(&self, work: &Work, held: Arc<Held>) -> Result<(), Fault> {
        let mut following = self.begin(work, Arc::clone(&held)).await?;
        while !work.stop.is_cancelled() && held.admits(work.clock(), Duration::ZERO) {
            if work.now().saturating_sub(following.looked) >= LOOK_AT_STATE {
                following.looked = work.now();
                let (checkpoints, state) = self.model.load(P::NAME).await?;
                // Begun anew elsewhere, the checkpoints are gone.
                if checkpoints.len() < following.at.len() {
                    return Err(Fault::Fenced);
                }
                following.state = state;
            }
            if matches!(following.state, ProjectionState::Paused | ProjectionState::Failed { .. }) {
                if !work.pause(LOOK_AT_STATE).await {
                    return Ok(());
                }
                continue;
            }
            let after: Vec<Position> = (0..work.shared.log.partitions)
                .map(|p| Position::new(p, following.at.get(&p).map_or(0, |at| at.offset)))
                .collect();
            let mut events = work.store().read_log(&after, PAGE).await?;
            if events.is_empty() {
                if following.state == ProjectionState::Rebuilding {
                    self.model.set_state(P::NAME, &ProjectionState::Running).await?;
                    following.state = ProjectionState::Running;
                }
                tokio::select! {
                    biased;
                    () = work.stop.cancelled() => {}
                    _ = work.store().wait_for_events(&after) => {}
                    () = work.clock().sleep(LOOK_AT_STATE) => {}
                }
                continue;
            }
            events.sort_by_key(|event| event.position);
            self.take(&mut following, &events).await?;
            self.moved.send_modify(|n| *n += 1);
            lag(work, P::NAME, &events);
        }
        Ok(())
    }
}

fn lag(work: &Work, projection: &'static str, events: &[RecordedEvent]) {
    let last = events.iter().map(|event| event.recorded_at).max();
    if let Some(last) = last {
        let lag = work.shared.clock.now().since(last).as_secs_f64();
        metrics::gauge!("composable_rust_projection_lag_seconds", "projection" => projection)
            .set(lag);
    }
}

struct Following<'w> {
    work: &'w Work,
    held: Arc<Held>,
    at: BTreeMap<u16, Checkpoint>,
    /// Streams of which something waits in the queue.
    waiting: BTreeSet<StreamId>,
    state: ProjectionState,
    looked: Duration,
}

impl<P, M> ErasedProjection for Registered<P, M>
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn run(self: Arc<Self>, work: Arc<Work>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let worker = projection_worker(P::NAME);
            let mut leases = work.leases.changes();
            let mut failures = 0;
            while !work.stop.is_cancelled() {
                let Some(held) = work.leases.of(&worker).pop() else {
                    tokio::select! {
                        biased;
                        () = work.stop.cancelled() => return,
                        _ = leases.changed() => continue,
                    }
                };
                let ended = self.follow(&work, Arc::clone(&held)).await;
                let pause = match ended {
                    Ok(()) => {
                        failures = 0;
                        Duration::from_millis(100)
                    }
                    Err(Fault::Unavailable(reason)) => {
                        tracing::warn!(projection = P::NAME, reason, "it is tried again");
                        failures += 1;
                        wait_for_others(failures)
                    }
                    Err(Fault::Fenced) => Duration::from_millis(100),
                    Err(Fault::Newer(reason)) => {
                        tracing::warn!(projection = P::NAME, reason, "newer code is needed");
                        work.leases.withdraw(&worker, Duration::from_secs(30));
                        Duration::from_secs(1)
                    }
                    Err(Fault::Poison(reason)) => {
                        failures += 1;
                        let wait = work.shared.settings.attempts.wait_after(failures);
                        if wait.is_none() {
                            tracing::error!(projection = P::NAME, reason, "it stops");
                            let failed = ProjectionState::Failed { reason };
                            if self.model.set_state(P::NAME, &failed).await.is_ok() {
                                failures = 0;
                            }
                            self.moved.send_modify(|n| *n += 1);
                        }
                        wait.unwrap_or(LOOK_AT_STATE)
                    }
                };
                drop(held);
                if !work.pause(pause).await {
                    return;
                }
            }
        })
    }

    fn project_queued<'a>(
        &'a self,
        shared: &'a Shared,
        event: &'a RecordedEvent,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let mut transaction = self.model.begin().await?;
            self.project(shared, event, &mut transaction).await?;
            Ok(self.model.commit(transaction).await?)
        })
    }

    fn load(&self) -> BoxFuture<'_, Result<(Vec<Checkpoint>, ProjectionState), StoreError>> {
        Box::pin(self.model.load(P::NAME))
    }

    fn set_state(&self, state: ProjectionState) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.model.set_state(P::NAME, &state).await?;
            self.moved.send_modify(|n| *n += 1);
            Ok(())
        })
    }

    fn rebuild(&self) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let mut transaction = self.model.begin().await?;
            let cleared = self.projection.clear(&mut transaction).await;
            cleared.map_err(|error| Fault::Poison(describe(&*error)))?;
            self.model.forget(&mut transaction, P::NAME).await?;
            self.model.commit(transaction).await?;
            self.model.set_state(P::NAME, &ProjectionState::Rebuilding).await?;
            self.moved.send_modify(|n| *n += 1);
            Ok(())
        })
    }

    fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}

/// A projection of an app: see [`App::projection`](crate::App::projection).
#[derive(Clone)]
pub struct ProjectionHandle {
    projection: Arc<dyn ErasedProjection>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for ProjectionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProjectionHandle").field(&self.projection.name()).finish()
    }
}

/// How far a projection has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionStatus {
    /// How it does.
    pub state: ProjectionState,
    /// How many events of the log are behind it.
    pub done: u64,
    /// How many events the log has.
    pub of: u64,
    /// The last position that is projected, of each partition.
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
    pub(crate) fn new(projection: Arc<dyn ErasedProjection>, shared: Arc<Shared>) -> Self {
        Self { projection, shared }
    }

    /// How far it has come, and how it does.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the read model or the log cannot be reached.
    pub async fn status(&self) -> Result<ProjectionStatus, StoreError> {
        let (checkpoints, state) = self.projection.load().await?;
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
                let (checkpoints, state) = self.projection.load().await?;
                let there = checkpoints.iter().any(|checkpoint| {
                    checkpoint.partition == position.partition
                        && checkpoint.offset >= position.offset
                });
                if there {
                    return Ok(());
                }
                if state != ProjectionState::Running {
                    return Err(ProjectionWaitError::NotRunning { state });
                }
                // Another process may run it.
                let elsewhere = self.shared.clock.sleep(Duration::from_millis(50));
                tokio::select! {
                    biased;
                    _ = moved.changed() => {}
                    () = elsewhere => {}
                }
            }
        };
        tokio::select! {
            biased;
            found = watch => found,
            () = late => Err(ProjectionWaitError::DeadlinePassed { position }),
        }
    }

    /// Empties the read model and lets it be made anew from the whole log. Whichever process runs it
    /// begins within a second; see [`ProjectionHandle::status`] for how far it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it was not emptied; or it was, and its state is not yet `Rebuilding`. Rebuild
    /// again.
    pub async fn rebuild(&self) -> Result<(), StoreError> {
        self.projection.rebuild().await.map_err(|fault| match fault {
            Fault::Unavailable(reason) => StoreError::unavailable(reason),
            fault => StoreError::Invalid(format!("{fault:?}")),
        })
    }

    /// Stops it where it is, in all processes, within a second or so.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it goes on.
    pub async fn pause(&self) -> Result<(), StoreError> {
        self.projection.set_state(ProjectionState::Paused).await
    }

    /// Lets it go on after it was paused or has failed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it does not.
    pub async fn resume(&self) -> Result<(), StoreError> {
        self.projection.set_state(ProjectionState::Running).await
    }
}

/// Runs a projection under the work's lease.
pub(crate) fn run(
    projection: &Arc<dyn ErasedProjection>,
    work: &Arc<Work>,
) -> impl Future<Output = ()> + Send + use<> {
    Arc::clone(projection).run(Arc::clone(work))
}
