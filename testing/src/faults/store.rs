//! An event store with injected faults.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use composable_rust_core::Version;
use composable_rust_core::environment::Clock;
use composable_rust_core::store::{Append, AppendOutcome, EventStore, StoreError};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::plan::{Plan, injected};
use super::{Chances, Fault, FaultCounts};
use crate::intercept::{CallKind, Intercept, Intercepted, StoreCall, StreamRows};

/// An event store with injected faults, by a script or by seeded chance.
///
/// Scripts come first, one entry for each call, in order; then chance, if any. Three kinds of calls
/// have faults: appends (`append_events`), reads (loads, pages of the log, heads, snapshots, inbox
/// entries, and the reads of the queues) and writes (the changes of the queues, leases, checkpoints
/// and the inbox). All other calls are passed on. Clones share scripts, chance and counts.
///
/// # Example: an answer that is lost
///
/// ```
/// use composable_rust_core::StreamId;
/// use composable_rust_core::store::{Append, EventStore, ExpectedVersion, StoreError};
/// use composable_rust_testing::{Fault, FaultyEventStore, InMemoryEventStore};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = FaultyEventStore::new(InMemoryEventStore::new());
/// store.next_appends([Fault::FailAfter]);
///
/// let stream: StreamId = "order-1".parse()?;
/// let partition = store.log().partition_of(&stream);
/// let append = [Append::new(stream, ExpectedVersion::EMPTY)];
/// let lost = store.append_events(partition, &append).await;
/// assert!(matches!(lost, Err(StoreError::Unavailable(_))));
/// assert!(store.append_events(partition, &append).await.is_ok());
/// assert_eq!((store.counts().appends, store.counts().failed_after), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type FaultyEventStore<S> = Intercepted<S, FaultPlan>;

/// The layer of a [`FaultyEventStore`].
#[derive(Debug, Default)]
pub struct FaultPlan(Mutex<Plan>);

impl<S> FaultyEventStore<S> {
    /// Creates a store that passes all calls on until a fault is planned.
    pub fn new(store: S) -> Self {
        Self::layered(store, FaultPlan::default())
    }

    /// Adds faults by chance, of appends, reads and writes alike. The same calls in the same order
    /// meet the same faults.
    #[must_use]
    pub fn with_chances(self, seed: u64, chances: Chances) -> Self {
        self.layer().plan().chance = Some((StdRng::seed_from_u64(seed), chances));
        self
    }

    /// Sets the clock by which delayed calls wait, instead of tokio's.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.layer().plan().clock = Some(Arc::new(clock));
        self
    }
}

impl FaultPlan {
    /// Adds faults of the next appends to the script.
    pub fn next_appends(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().appends.extend(faults);
    }

    /// Adds faults of the next reads to the script.
    pub fn next_reads(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().reads.extend(faults);
    }

    /// Adds faults of the next writes to the script.
    pub fn next_writes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().writes.extend(faults);
    }

    /// Ends all faults: scripts and chance.
    pub fn recover(&self) {
        let mut plan = self.plan();
        plan.appends.clear();
        plan.reads.clear();
        plan.writes.clear();
        plan.chance = None;
    }

    /// Returns the numbers of calls and faults.
    pub fn counts(&self) -> FaultCounts {
        self.plan().counts
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws the fault of a call; fails or waits if the fault comes before the call.
    async fn strike(&self, kind: CallKind) -> Result<Fault, StoreError> {
        let (fault, clock) = {
            let mut plan = self.plan();
            (plan.next(kind), plan.clock.clone())
        };
        match (fault, clock) {
            (Fault::FailBefore, _) => return Err(injected("before")),
            (Fault::Delay(duration), Some(clock)) => clock.sleep(duration).await,
            (Fault::Delay(duration), None) => tokio::time::sleep(duration).await,
            _ => {}
        }
        Ok(fault)
    }
}

/// Makes a call, and loses its answer if the fault is to fail after it.
async fn finish<T>(
    fault: Fault,
    made: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    let answer = made.await?;
    if fault == Fault::FailAfter { Err(injected("after")) } else { Ok(answer) }
}

impl<S: EventStore> Intercept<S> for FaultPlan {
    async fn call<T: Send>(
        &self,
        call: StoreCall,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        finish(self.strike(call.kind).await?, made).await
    }

    fn load<'a>(&'a self, call: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        let rows = async move {
            let fault = self.strike(call.kind).await?;
            let lost = (fault == Fault::FailAfter).then(|| Err(injected("after")));
            Ok(rows.chain(stream::iter(lost)))
        };
        stream::once(rows).try_flatten().boxed()
    }

    async fn append_events(
        &self,
        store: &S,
        partition: u16,
        batch: &[Append],
    ) -> Result<Vec<AppendOutcome>, StoreError> {
        let fault = self.strike(CallKind::Append).await?;
        if fault != Fault::Conflict {
            return finish(fault, store.append_events(partition, batch)).await;
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for append in batch {
            let events = store.load_events(&append.stream, Version::ZERO);
            let last = events.try_fold(Version::ZERO, async |_, event| Ok(event.version));
            outcomes.push(AppendOutcome::Conflict { actual: last.await? });
        }
        Ok(outcomes)
    }
}
