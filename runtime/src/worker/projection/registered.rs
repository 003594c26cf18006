//! Projections as an app holds them: their types erased, projecting one event, being emptied.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::__private::derive_id;
use composable_rust_core::{
    BlockedStream, Clock, EncodedMessage, EventStore as _, NewOutboxRow, OutboxKind, OutboxMessage,
    Position, Projection, ProjectionError, ProjectionRecord, ProjectionState, ReadModel, Recorded,
    StoreError, StoredContent, StoredEvent, Version,
};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryFutureExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use crate::app::context::AppContext;
use crate::app::unknown_messages::NewerCode;
use crate::error::{error_chain, panic_text};
use crate::worker::context::WorkerContext;
use crate::worker::projection::runner;

/// How a projection is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProjectionSettings {
    /// What happens to an event that cannot be projected.
    pub poison: PoisonPolicy,
    /// How long the projection, or its database, may take over one event. What takes longer is tried
    /// again for as long as it does, as if the database could not be reached. Default 30 seconds.
    pub timeout: Duration,
}

impl Default for ProjectionSettings {
    fn default() -> Self {
        Self { poison: PoisonPolicy::default(), timeout: Duration::from_secs(30) }
    }
}

/// What happens to an event that cannot be projected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PoisonPolicy {
    /// It is tried again; after the attempts of [`Settings`](crate::Settings) the projection stops
    /// before it, in state `Failed`, until it is resumed: what is read is never wrong, only old.
    #[default]
    Stop,
    /// The event waits, and what follows of its stream behind it; after the attempts they are dead
    /// letters, which can be re-driven. Everything else goes on: what is read lacks them.
    Park,
}

/// The worker that follows the log for a projection, as leases and checkpoints name it.
pub(crate) fn projection_worker(name: &str) -> String {
    format!("project/{name}")
}

/// A projection with its read model, the types erased.
pub(crate) trait ErasedProjection: Send + Sync {
    fn name(&self) -> &'static str;
    fn run(self: Arc<Self>, work: Arc<WorkerContext>) -> BoxFuture<'static, ()>;
    /// Projects one event that waited.
    fn project_queued<'a>(
        &'a self,
        shared: &'a AppContext,
        queued: &'a OutboxMessage,
    ) -> BoxFuture<'a, Result<(), Fault>>;
    /// The record of the projection as the log sees it: if it belongs to another log, it has failed.
    fn load(&self, log: Uuid) -> BoxFuture<'_, Result<ProjectionRecord, StoreError>>;
    fn waiting(&self) -> BoxFuture<'_, Result<Vec<BlockedStream>, StoreError>>;
    /// Changes the state to what `to` makes of the record; to nothing else, if it makes nothing of it.
    fn change_state(
        &self,
        log: Uuid,
        to: fn(ProjectionRecord) -> Option<ProjectionState>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Empties the read model; that of another log only if `adopts`.
    fn rebuild(&self, log: Uuid, adopts: bool) -> BoxFuture<'_, Result<(), StoreError>>;
    fn moved(&self) -> watch::Receiver<u64>;
}

/// Why an event was not projected.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database or the store cannot be reached.
    Unavailable(String),
    /// Newer code knows the event at this position.
    Newer(Position, NewerCode),
    /// The projection fails on the event at this position, or it cannot be read.
    Poison(Position, String),
    /// The log does not hold what was projected.
    LogWentBack(String),
    /// The checkpoints were written under a higher epoch, for this reason.
    Outranked(String),
    /// Another process has moved the checkpoints, or the projection has begun anew.
    Moved,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error_chain(&error))
    }
}

pub(crate) struct RegisteredProjection<P, M> {
    pub(crate) projection: P,
    pub(crate) model: M,
    pub(crate) settings: ProjectionSettings,
    moved: watch::Sender<u64>,
    /// One event that waited is projected at a time.
    queued: Mutex<()>,
}

impl<P, M> RegisteredProjection<P, M>
where
    P: Projection,
    M: ReadModel<Connection = P::Connection>,
{
    pub(crate) fn new(projection: P, model: M, settings: ProjectionSettings) -> Self {
        let (moved, _) = watch::channel(0);
        Self { projection, model, settings, moved, queued: Mutex::default() }
    }

    pub(crate) fn has_moved(&self) {
        self.moved.send_modify(|n| *n += 1);
    }

    /// What came of `asked`, if it came in time.
    pub(crate) async fn within<T, E: Into<Fault>>(
        &self,
        clock: &dyn Clock,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Fault> {
        let limit = self.settings.timeout;
        tokio::select! {
            biased;
            answer = asked => answer.map_err(Into::into),
            () = clock.sleep(limit) => {
                Err(Fault::Unavailable(format!("there is no answer after {limit:?}")))
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

    /// Writes what follows from one event, or nothing if that fails.
    pub(crate) async fn project(
        &self,
        shared: &AppContext,
        event: &StoredEvent,
        connection: &mut P::Connection,
    ) -> Result<(), Fault> {
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
            match AssertUnwindSafe(projecting).catch_unwind().await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(self.fault(event, &error)),
                Err(panic) => Err(poison(event, format!("it panicked: {}", panic_text(&*panic)))),
            }
        };
        self.within(&*shared.clock, guarded).await
    }

    fn fault(&self, event: &StoredEvent, error: &ProjectionError) -> Fault {
        let reason = error_chain(&**error);
        if self.model.is_unavailable(&**error) {
            Fault::Unavailable(reason)
        } else {
            poison(event, reason)
        }
    }

    /// Projects an event that waited, unless it is done or was queued for another waiting.
    async fn project_waiting(
        &self,
        shared: &AppContext,
        event: &StoredEvent,
        ticket: Uuid,
    ) -> Result<(), Fault> {
        let _one_at_a_time = self.queued.lock().await;
        let clock = &*shared.clock;
        let mut transaction = self.within(clock, self.model.begin()).await?;
        let record = self.within(clock, self.lock(&mut transaction, shared.log.id)).await?;
        if !is_at_work(&record.state) {
            return Err(Fault::Unavailable(format!("the projection is {:?}", record.state)));
        }
        let finding = self.model.find_blocked(&mut transaction, P::NAME, &event.stream);
        let found = self.within(clock, finding).await?;
        let is_due = |w: &BlockedStream| w.blockage_id == ticket && w.version < event.version;
        if !found.as_ref().is_some_and(is_due) {
            return Ok(());
        }
        self.project(shared, event, &mut transaction).await?;
        let (stream, version) = (event.stream.clone(), event.version);
        let done = BlockedStream { stream, version, blockage_id: ticket };
        let ending = async {
            self.model.set_blocked(&mut transaction, P::NAME, &done).await?;
            self.model.commit(transaction).await
        };
        self.within(clock, ending.map_err(|error| refused(event, error))).await?;
        self.has_moved();
        Ok(())
    }
}

/// `true` if a projection in this state writes.
pub(crate) fn is_at_work(state: &ProjectionState) -> bool {
    matches!(state, ProjectionState::Running | ProjectionState::Rebuilding)
}

/// Why a projection does not run for `own`.
fn belongs_elsewhere(name: &str, log: Uuid, own: Uuid) -> String {
    format!(
        "the projection `{name}` of this read model belongs to the log {log}, not to {own}: give it \
         another name, or a database or schema of its own; if that log is gone, adopt the projection"
    )
}

/// What it means that the database refuses to keep what came of an event.
pub(crate) fn refused(event: &StoredEvent, error: StoreError) -> Fault {
    match error {
        StoreError::Invalid(reason) => poison(event, reason),
        StoreError::Unavailable(_) => error.into(),
    }
}

fn poison(event: &StoredEvent, reason: String) -> Fault {
    Fault::Poison(event.position, reason)
}

/// The event as the projection takes it; `None` if there is nothing of it any more.
fn decode<P: Projection>(
    shared: &AppContext,
    event: &StoredEvent,
) -> Result<Option<Recorded<P::Event>>, Fault> {
    let Some(content) = event.content.present() else { return Ok(None) };
    let decode = || shared.codecs.decode::<P::Event>(&event.stream, content);
    match std::panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(decoded)) => Ok(Some(event.decoded(decoded))),
        Ok(Err(error)) => Err(match NewerCode::of(&error) {
            Some(newer) => Fault::Newer(event.position, newer),
            None => poison(event, error_chain(&error)),
        }),
        Err(panic) => Err(poison(event, format!("it panicked: {}", panic_text(&*panic)))),
    }
}

/// Names the content of an effect that projects an event that waits.
const WAITING_NAME: &str = "waiting";

/// What that content is.
#[derive(Serialize, Deserialize)]
struct BlockedEvent {
    at: String,
    ticket: Uuid,
}

/// The effect that projects an event in its turn.
pub(crate) fn queued(
    shared: &AppContext,
    name: &str,
    event: &StoredEvent,
    ticket: Uuid,
) -> OutboxMessage {
    let worker = projection_worker(name);
    let waits = BlockedEvent { at: event.position.to_string(), ticket };
    let bytes =
        serde_json::to_vec(&waits).unwrap_or_else(|_| unreachable!("texts and ids are JSON"));
    let of = [worker.as_str(), &ticket.to_string()];
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
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if queued.row.content.name != WAITING_NAME {
                // Erased with its stream.
                return Ok(());
            }
            let waits: Option<BlockedEvent> =
                serde_json::from_slice(&queued.row.content.bytes).ok();
            let place = waits.and_then(|w| Some((w.at.parse::<Position>().ok()?, w.ticket)));
            let Some((at, ticket)) = place else {
                let reason = "this is no event that waits".to_owned();
                return Err(Fault::Poison(Position::new(0, 0), reason));
            };
            let before = Position::new(at.partition, at.offset.saturating_sub(1));
            let events = shared.store.read_log(&[before], 1).await?;
            match events.iter().find(|event| event.position == at && event.stream == queued.sender)
            {
                Some(event) => self.project_waiting(shared, event, ticket).await,
                None => Ok(()),
            }
        })
    }

    fn load(&self, log: Uuid) -> BoxFuture<'_, Result<ProjectionRecord, StoreError>> {
        Box::pin(async move {
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

    fn waiting(&self) -> BoxFuture<'_, Result<Vec<BlockedStream>, StoreError>> {
        Box::pin(self.model.blocked_streams(P::NAME))
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
            // Nobody projects while the tables are emptied.
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
            // Last: it fails if `clear` has ignored an error that aborted the transaction.
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
}

/// The version before that of an event.
pub(crate) fn before(event: &StoredEvent) -> Version {
    Version::new(event.version.get().saturating_sub(1))
}

/// Runs a projection under the work's lease.
pub(crate) fn run(
    projection: &Arc<dyn ErasedProjection>,
    work: &Arc<WorkerContext>,
) -> impl Future<Output = ()> + Send + use<> {
    Arc::clone(projection).run(Arc::clone(work))
}
