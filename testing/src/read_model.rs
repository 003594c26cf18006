//! A read model in memory.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use composable_rust_core::StreamId;
use composable_rust_core::projection::{
    BlockedStream, ProjectionRecord, ProjectionState, ReadModel,
};
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::StoreError;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::{Fault, MockClock};

/// An in-memory read model for tests: projections write to a `T`.
///
/// A transaction works on a copy, which replaces the `T` at commit. One transaction runs at a time,
/// as in SQLite. Clones share the data.
///
/// # Example: looking at what was projected
///
/// ```
/// use composable_rust_core::projection::ReadModel;
/// use composable_rust_testing::InMemoryReadModel;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let model = InMemoryReadModel::new(Vec::new());
/// let mut transaction = model.begin().await?;
/// transaction.push("placed");
/// assert!(model.get().is_empty());
/// model.commit(transaction).await?;
/// assert_eq!(model.get(), ["placed"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct InMemoryReadModel<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    committed: Mutex<Data<T>>,
    writing: Arc<tokio::sync::Mutex<()>>,
    faults: Mutex<VecDeque<Fault>>,
    /// The clock by which delayed commits wait.
    clock: Mutex<Option<MockClock>>,
}

#[derive(Debug, Clone)]
struct Data<T> {
    value: T,
    projections: BTreeMap<String, KeptProjection>,
}

/// The record of one projection.
#[derive(Debug, Clone, Default)]
struct KeptProjection {
    log: Uuid,
    /// Checkpoints with the epochs under which they were written.
    checkpoints: BTreeMap<u16, (Checkpoint, u64)>,
    state: ProjectionState,
    rebuilds: u64,
    rebuilding: bool,
    waiting: BTreeMap<StreamId, BlockedStream>,
}

impl KeptProjection {
    fn record(&self) -> ProjectionRecord {
        ProjectionRecord {
            log: self.log,
            state: self.state.clone(),
            checkpoints: self.checkpoints.values().map(|(at, _)| *at).collect(),
            epoch: self.checkpoints.values().map(|(_, epoch)| *epoch).max().unwrap_or(0),
            rebuilds: self.rebuilds,
            rebuilding: self.rebuilding,
        }
    }
}

/// A transaction of an [`InMemoryReadModel`]: a copy of its `T`.
#[derive(Debug)]
pub struct InMemoryTransaction<T> {
    data: Data<T>,
    _writing: OwnedMutexGuard<()>,
}

impl<T> Deref for InMemoryTransaction<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data.value
    }
}

impl<T> DerefMut for InMemoryTransaction<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data.value
    }
}

impl<T> Clone for InMemoryReadModel<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Default> Default for InMemoryReadModel<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for InMemoryReadModel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let committed = self.committed();
        let projections = committed.projections.keys().collect::<Vec<_>>();
        f.debug_struct("InMemoryReadModel").field("projections", &projections).finish()
    }
}

impl<T> InMemoryReadModel<T> {
    /// A read model that starts as `value`.
    pub fn new(value: T) -> Self {
        let committed = Mutex::new(Data { value, projections: BTreeMap::new() });
        let (writing, faults, clock) = (Arc::default(), Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { committed, writing, faults, clock }) }
    }

    /// Sets the clock by which delayed commits wait, of all clones, instead of tokio's: that of the
    /// [`World`](crate::World), if the model is part of one.
    #[must_use]
    pub fn with_clock(self, clock: MockClock) -> Self {
        *self.clock() = Some(clock);
        self
    }

    fn clock(&self) -> MutexGuard<'_, Option<MockClock>> {
        self.shared.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The committed value.
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        self.committed().value.clone()
    }

    /// Adds outcomes for the next commits, after those already queued.
    pub fn next_commits(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults().extend(faults);
    }

    fn faults(&self) -> MutexGuard<'_, VecDeque<Fault>> {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self) -> MutexGuard<'_, Data<T>> {
        self.shared.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> InMemoryTransaction<T> {
    fn kept(&mut self, name: &str) -> &mut KeptProjection {
        self.data.projections.entry(name.to_owned()).or_default()
    }
}

impl<T: Clone + Send + 'static> ReadModel for InMemoryReadModel<T> {
    type Connection = T;
    type Transaction = InMemoryTransaction<T>;

    async fn begin(&self) -> Result<InMemoryTransaction<T>, StoreError> {
        let writing = Arc::clone(&self.shared.writing).lock_owned().await;
        Ok(InMemoryTransaction { data: self.committed().clone(), _writing: writing })
    }

    async fn commit(&self, transaction: InMemoryTransaction<T>) -> Result<(), StoreError> {
        let fault = self.faults().pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::FailBefore => return Err(lost("before")),
            Fault::Delay(duration) => {
                let clock = self.clock().clone();
                match clock {
                    Some(clock) => clock.sleep_in_operation(duration).await,
                    None => tokio::time::sleep(duration).await,
                }
            }
            _ => {}
        }
        *self.committed() = transaction.data;
        if fault == Fault::FailAfter { Err(lost("after")) } else { Ok(()) }
    }

    async fn load(&self, name: &str) -> Result<Option<ProjectionRecord>, StoreError> {
        Ok(self.committed().projections.get(name).map(KeptProjection::record))
    }

    async fn lock(
        &self,
        transaction: &mut InMemoryTransaction<T>,
        name: &str,
        log: Uuid,
    ) -> Result<ProjectionRecord, StoreError> {
        let unknown = || KeptProjection { log, ..KeptProjection::default() };
        let projections = &mut transaction.data.projections;
        Ok(projections.entry(name.to_owned()).or_insert_with(unknown).record())
    }

    async fn advance(
        &self,
        transaction: &mut InMemoryTransaction<T>,
        name: &str,
        epoch: u64,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        let checkpoints = &mut transaction.kept(name).checkpoints;
        checkpoints.extend(to.iter().map(|to| (to.partition, (*to, epoch))));
        Ok(())
    }

    async fn set_state(
        &self,
        transaction: &mut InMemoryTransaction<T>,
        name: &str,
        to: &ProjectionState,
    ) -> Result<(), StoreError> {
        let kept = transaction.kept(name);
        kept.state = to.clone();
        kept.rebuilding &= *to != ProjectionState::Running;
        Ok(())
    }

    async fn forget(
        &self,
        transaction: &mut InMemoryTransaction<T>,
        name: &str,
        log: Uuid,
    ) -> Result<(), StoreError> {
        let (kept, state) = (transaction.kept(name), ProjectionState::Rebuilding);
        let rebuilds = kept.rebuilds + 1;
        *kept =
            KeptProjection { log, state, rebuilds, rebuilding: true, ..KeptProjection::default() };
        Ok(())
    }

    async fn blocked_streams(&self, name: &str) -> Result<Vec<BlockedStream>, StoreError> {
        let committed = self.committed();
        let kept = committed.projections.get(name);
        Ok(kept.map(|kept| kept.waiting.values().cloned().collect()).unwrap_or_default())
    }

    async fn find_blocked(
        &self,
        transaction: &mut InMemoryTransaction<T>,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<BlockedStream>, StoreError> {
        Ok(transaction.kept(name).waiting.get(stream).cloned())
    }

    async fn set_blocked(
        &self,
        transaction: &mut InMemoryTransaction<T>,
        name: &str,
        waiting: &BlockedStream,
    ) -> Result<(), StoreError> {
        transaction.kept(name).waiting.insert(waiting.stream.clone(), waiting.clone());
        Ok(())
    }

    async fn clear_blocked(
        &self,
        transaction: &mut InMemoryTransaction<T>,
        name: &str,
        stream: &StreamId,
    ) -> Result<(), StoreError> {
        transaction.kept(name).waiting.remove(stream);
        Ok(())
    }
}

fn lost(when: &str) -> StoreError {
    StoreError::unavailable(format!("injected fault: failed {when} the commit"))
}
