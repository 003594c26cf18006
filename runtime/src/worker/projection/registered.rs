//! The projections of an app, their types erased.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::environment::Clock;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::message::derive_id;
use composable_rust_core::projection::{
    BlockedStream, ProjectionRecord, ProjectionState, ReadModel,
};
use composable_rust_core::queue::{OutboxKind, OutboxMessage};
use composable_rust_core::store::{EventStore as _, NewOutboxRow, StoreError};
use composable_rust_core::{EventSet, Position, Projection, ProjectionError, Recorded, Version};
use futures_util::TryFutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use crate::app::context::AppContext;
use crate::error::error_chain;
use crate::panic::{guarded, guarded_future};
use crate::worker::context::WorkerContext;
use crate::worker::outcome::Failure;
use crate::worker::projection::runner;
use crate::worker::worker_id::WorkerId;

/// Settings of one projection. Change them with
/// [`AppBuilder::projection_with`](crate::AppBuilder::projection_with).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProjectionSettings {
    /// The policy for an event that cannot be projected. Default: [`PoisonPolicy::Stop`].
    pub poison: PoisonPolicy,
    /// Timeout of the projection, or of its database, for one event. After it, the event is
    /// retried, as if the database were unavailable. Default: 30 seconds.
    pub timeout: Duration,
}

impl Default for ProjectionSettings {
    fn default() -> Self {
        Self { poison: PoisonPolicy::default(), timeout: Duration::from_secs(30) }
    }
}

/// The policy for an event that cannot be projected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PoisonPolicy {
    /// Retries the event. After the attempts of
    /// [`Settings::retry`](crate::settings::Settings::retry), stops the projection before the
    /// event, in state `Failed`, until it is resumed: the read model is never wrong, only old.
    #[default]
    Stop,
    /// Queues the event, and later events of its stream behind it. After the attempts they become
    /// dead letters, which can be redriven. All other streams are projected: the read model lacks
    /// only these events.
    Park,
}

/// Returns the name of a projection's worker.
pub(crate) fn projection_worker(name: &str) -> String {
    WorkerId::Projection(name.to_owned()).to_string()
}

/// A projection with its read model, the types erased.
pub(crate) trait ErasedProjection: Send + Sync {
    fn name(&self) -> &'static str;
    fn run(self: Arc<Self>, context: Arc<WorkerContext>) -> BoxFuture<'static, ()>;
    /// Projects a queued event.
    fn project_queued<'a>(
        &'a self,
        shared: &'a AppContext,
        queued: &'a OutboxMessage,
    ) -> BoxFuture<'a, Result<(), Failure>>;
    /// Loads the projection's record; in state `Failed` if the projection belongs to another log.
    fn load(&self, log: Uuid) -> BoxFuture<'_, Result<ProjectionRecord, StoreError>>;
    /// Loads the streams that have queued events.
    fn blocked_streams(&self) -> BoxFuture<'_, Result<Vec<BlockedStream>, StoreError>>;
    /// Changes the state to what `to` returns for the record, if it returns one.
    fn change_state(
        &self,
        log: Uuid,
        to: fn(ProjectionRecord) -> Option<ProjectionState>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Empties the read model, and lets it be projected again. The read model of another log is
    /// emptied only if `adopts`.
    fn rebuild(&self, log: Uuid, adopts: bool) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Returns a counter that changes with the checkpoints and the state.
    fn moved(&self) -> watch::Receiver<u64>;
    /// Returns the number of operations of the read model that are under way.
    fn operations(&self) -> u64;
}

/// An operation of a read model that is under way.
struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn of(operations: &'a AtomicU64) -> Self {
        operations.fetch_add(1, Ordering::SeqCst);
        Self(operations)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A projection with its read model.
pub(crate) struct RegisteredProjection<P, M> {
    pub(crate) projection: P,
    pub(crate) model: M,
    pub(crate) settings: ProjectionSettings,
    moved: watch::Sender<u64>,
    /// The number of operations of the read model that are under way.
    operations: AtomicU64,
    /// Held while a queued event is projected: one at a time.
    queued: Mutex<()>,
}

impl<P, M> RegisteredProjection<P, M>
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    pub(crate) fn new(projection: P, model: M, settings: ProjectionSettings) -> Self {
        let (moved, _) = watch::channel(0);
        let (operations, queued) = (AtomicU64::new(0), Mutex::default());
        Self { projection, model, settings, moved, operations, queued }
    }

    /// Records that the checkpoints or the state have changed.
    pub(crate) fn has_moved(&self) {
        self.moved.send_modify(|n| *n += 1);
    }

    /// Returns the result of `work`, which fails after the projection's timeout.
    pub(crate) async fn within<T, E: Into<Failure>>(
        &self,
        clock: &dyn Clock,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        let limit = self.settings.timeout;
        let _under_way = UnderWay::of(&self.operations);
        tokio::select! {
            biased;
            result = work => result.map_err(Into::into),
            () = clock.sleep(limit) => {
                Err(Failure::Unavailable(format!("no response within {limit:?}")))
            }
        }
    }

    /// Takes the projection's lock, unless the projection belongs to another log.
    pub(crate) async fn lock(
        &self,
        transaction: &mut M::Transaction,
        log: Uuid,
    ) -> Result<ProjectionRecord, StoreError> {
        let record = self.model.lock(transaction, P::NAME, log).await?;
        if record.log == log {
            Ok(record)
        } else {
            Err(StoreError::Invalid(belongs_elsewhere(P::NAME, record.log, log)))
        }
    }

    /// Projects an event, whose position the caller knows.
    pub(crate) async fn project(
        &self,
        shared: &AppContext,
        event: &StoredEvent,
        connection: &mut P::Connection,
    ) -> Result<(), Failure> {
        let decoded = decode::<P>(shared, event)?;
        let projecting = async {
            match (&decoded, &event.content) {
                (Some(recorded), _) => self.projection.project(recorded, connection).await,
                (None, StoredContent::Erased) => {
                    self.projection.erase(&event.stream, connection).await
                }
                (None, _) => Ok(()),
            }
        };
        let guarded = async {
            match guarded_future(projecting).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(self.failure(&error)),
                Err(message) => Err(Failure::Poison(format!("the projection panicked: {message}"))),
            }
        };
        self.within(&*shared.clock, guarded).await
    }

    fn failure(&self, error: &ProjectionError) -> Failure {
        let reason = error_chain(&**error);
        if self.model.is_unavailable(&**error) {
            Failure::Unavailable(reason)
        } else {
            Failure::Poison(reason)
        }
    }

    /// Projects a queued event, unless it was projected, or was queued for an earlier blockage.
    async fn project_blocked(
        &self,
        shared: &AppContext,
        event: &StoredEvent,
        blockage_id: Uuid,
    ) -> Result<(), Failure> {
        let _one_at_a_time = self.queued.lock().await;
        let clock = &*shared.clock;
        let mut transaction = self.within(clock, self.model.begin()).await?;
        let record = self.within(clock, self.lock(&mut transaction, shared.log.id)).await?;
        if !is_active(&record.state) {
            return Err(Failure::Unavailable(format!("the projection is {:?}", record.state)));
        }
        let finding = self.model.find_blocked(&mut transaction, P::NAME, &event.stream);
        let found = self.within(clock, finding).await?;
        let is_due = |w: &BlockedStream| w.blockage_id == blockage_id && w.version < event.version;
        if !found.as_ref().is_some_and(is_due) {
            return Ok(());
        }
        self.project(shared, event, &mut transaction).await?;
        let (stream, version) = (event.stream.clone(), event.version);
        let done = BlockedStream { stream, version, blockage_id };
        let ending = async {
            self.model.set_blocked(&mut transaction, P::NAME, &done).await?;
            self.model.commit(transaction).await
        };
        self.within(clock, ending.map_err(failure_of)).await?;
        self.has_moved();
        Ok(())
    }
}

/// Returns `true` if a projection in this state runs.
pub(crate) fn is_active(state: &ProjectionState) -> bool {
    use ProjectionState::{Rebuilding, Running, WaitingForNewerCode};
    matches!(state, Running | WaitingForNewerCode { .. } | Rebuilding)
}

/// Returns the reason for which a projection does not run for the log `own`.
fn belongs_elsewhere(name: &str, log: Uuid, own: Uuid) -> String {
    format!(
        "the projection `{name}` of this read model belongs to the log {log}, not to {own}: give \
         it another name, or a database or schema of its own; if that log is gone, adopt the \
         projection"
    )
}

/// Returns the failure of a database to store what an event was projected to.
pub(crate) fn failure_of(error: StoreError) -> Failure {
    match error {
        StoreError::Invalid(reason) => Failure::Poison(reason),
        StoreError::Unavailable(_) => error.into(),
    }
}

/// Decodes an event for a projection; `None` if its content was erased.
fn decode<P: Projection>(
    shared: &AppContext,
    event: &StoredEvent,
) -> Result<Option<Recorded<<P::Events as EventSet>::Event>>, Failure> {
    let Some(content) = event.content.present() else { return Ok(None) };
    match guarded(|| shared.codecs.decode_event::<P::Events>(&event.stream, content)) {
        Ok(Ok(decoded)) => Ok(Some(event.decoded(decoded))),
        Ok(Err(error)) => Err(Failure::of_decode(&error, Failure::Poison)),
        Err(message) => Err(Failure::Poison(format!("the decoder panicked: {message}"))),
    }
}

/// The name of the content of a row that holds a blocked event.
const WAITING_NAME: &str = "waiting";

/// The content of a row that holds a blocked event.
#[derive(Serialize, Deserialize)]
struct BlockedEvent {
    /// The position of the event.
    at: String,
    blockage_id: Uuid,
}

/// Returns the row that projects an event behind earlier ones of its stream.
pub(crate) fn queued(
    shared: &AppContext,
    name: &str,
    event: &StoredEvent,
    blockage_id: Uuid,
) -> OutboxMessage {
    let worker = projection_worker(name);
    let blocked = BlockedEvent { at: event.position.to_string(), blockage_id };
    let bytes =
        serde_json::to_vec(&blocked).unwrap_or_else(|_| unreachable!("texts and ids are JSON"));
    let of = [worker.as_str(), &blockage_id.to_string()];
    let row = NewOutboxRow {
        id: derive_id("queued", shared.log.id, &of, event.id.0, 0),
        kind: OutboxKind::Projection,
        recipient: event.stream.to_string(),
        content: EncodedMessage {
            name: WAITING_NAME.into(),
            version: 1,
            codec: "json".into(),
            bytes,
        },
        metadata: event.metadata.clone(),
        target: name.to_owned(),
    };
    OutboxMessage { sender: event.stream.clone(), row }
}

impl<P, M> ErasedProjection for RegisteredProjection<P, M>
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn run(self: Arc<Self>, work: Arc<WorkerContext>) -> BoxFuture<'static, ()> {
        Box::pin(async move { runner::run(&self, &work).await })
    }

    fn project_queued<'a>(
        &'a self,
        shared: &'a AppContext,
        queued: &'a OutboxMessage,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if queued.row.content.name != WAITING_NAME {
                // Erased with its stream.
                return Ok(());
            }
            let blocked: Option<BlockedEvent> =
                serde_json::from_slice(&queued.row.content.bytes).ok();
            let parsed = |of: BlockedEvent| Some((of.at.parse::<Position>().ok()?, of.blockage_id));
            let Some((at, blockage_id)) = blocked.and_then(parsed) else {
                let reason = "the row does not hold a blocked event".to_owned();
                return Err(Failure::Poison(reason));
            };
            let before = Position::new(at.partition, at.offset.saturating_sub(1));
            let events = shared.store.read_log(&[before], 1).await?;
            match events.iter().find(|event| event.position == at && event.stream == queued.sender)
            {
                Some(event) => self.project_blocked(shared, event, blockage_id).await,
                None => Ok(()),
            }
        })
    }

    fn load(&self, log: Uuid) -> BoxFuture<'_, Result<ProjectionRecord, StoreError>> {
        Box::pin(async move {
            let _under_way = UnderWay::of(&self.operations);
            let unknown = |state| ProjectionRecord {
                log,
                state,
                checkpoints: Vec::new(),
                epoch: 0,
                rebuilds: 0,
                rebuilding: false,
            };
            Ok(match self.model.load(P::NAME).await? {
                None => unknown(ProjectionState::default()),
                Some(record) if record.log == log => record,
                Some(other) => {
                    let reason = belongs_elsewhere(P::NAME, other.log, log);
                    unknown(ProjectionState::Failed { reason })
                }
            })
        })
    }

    fn blocked_streams(&self) -> BoxFuture<'_, Result<Vec<BlockedStream>, StoreError>> {
        Box::pin(async move {
            let _under_way = UnderWay::of(&self.operations);
            self.model.blocked_streams(P::NAME).await
        })
    }

    fn change_state(
        &self,
        log: Uuid,
        to: fn(ProjectionRecord) -> Option<ProjectionState>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut transaction = self.model.begin().await?;
            let record = self.lock(&mut transaction, log).await?;
            if let Some(to) = to(record) {
                self.model.set_state(&mut transaction, P::NAME, &to).await?;
                self.model.commit(transaction).await?;
                self.has_moved();
            }
            Ok(())
        })
    }

    fn rebuild(&self, log: Uuid, adopts: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut transaction = self.model.begin().await?;
            // No process projects while the tables are emptied.
            if adopts {
                self.model.lock(&mut transaction, P::NAME, log).await?;
            } else {
                self.lock(&mut transaction, log).await?;
            }
            let not_emptied =
                |reason| StoreError::Invalid(format!("the read model was not emptied: {reason}"));
            self.projection.clear(&mut transaction).await.map_err(|error| {
                let reason = error_chain(&*error);
                if self.model.is_unavailable(&*error) {
                    StoreError::unavailable(reason)
                } else {
                    not_emptied(reason)
                }
            })?;
            // Last, because it fails if `clear` has ignored an error that aborted the transaction.
            let ending = async {
                self.model.forget(&mut transaction, P::NAME, log).await?;
                self.model.commit(transaction).await
            };
            ending.await.map_err(|error| match error {
                StoreError::Invalid(reason) => not_emptied(reason),
                error @ StoreError::Unavailable(_) => error,
            })?;
            self.has_moved();
            Ok(())
        })
    }

    fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }
}

/// Returns the version before that of an event.
pub(crate) fn before(event: &StoredEvent) -> Version {
    Version::new(event.version.get().saturating_sub(1))
}

/// Runs a projection whenever this process has its lease.
pub(crate) fn run(
    projection: &Arc<dyn ErasedProjection>,
    context: &Arc<WorkerContext>,
) -> impl Future<Output = ()> + Send + use<> {
    Arc::clone(projection).run(Arc::clone(context))
}
