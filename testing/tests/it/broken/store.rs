//! The in-memory store, with a defect between it and the suite.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{AppendOutcome, StoreError, StreamRow};
use composable_rust_runtime::environment::SystemClock;
use composable_rust_testing::conformance::StoreBackend;
use composable_rust_testing::{
    InMemoryEventStore, Intercept, Intercepted, StoreCall, StoredOutboxRow, StoredTimer, StreamRows,
};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

pub(crate) type Outcomes = Result<Vec<AppendOutcome>, StoreError>;
pub(crate) type Page = Result<Vec<StoredEvent>, StoreError>;

/// The hooks of a defect that are outside the port: in what the suite sees of the backend.
pub(crate) trait Backing {
    /// The store that another process opens.
    fn elsewhere(&self, store: &InMemoryEventStore) -> InMemoryEventStore {
        store.clone()
    }

    /// Holds a foreign transaction open for a while.
    fn hold(&self) -> impl Future<Output = bool> + Send {
        async { false }
    }

    fn dead_rows(&self, _store: &InMemoryEventStore) -> Option<u64> {
        None
    }

    fn outbox(&self, rows: Vec<StoredOutboxRow>) -> Vec<StoredOutboxRow> {
        rows
    }

    fn timers(&self, timers: Vec<StoredTimer>) -> Vec<StoredTimer> {
        timers
    }
}

/// A defect: a layer that passes all calls on but those that it gets wrong.
pub(crate) trait Defect: Intercept<InMemoryEventStore> + Backing {}

impl<D: Intercept<InMemoryEventStore> + Backing> Defect for D {}

/// Returns the value of a future of the in-memory store, which never waits.
pub(crate) fn poll<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("memory answers at once")
}

/// Changes the events of a load, all at once.
pub(crate) fn with_events<'a>(
    rows: StreamRows<'a>,
    change: impl FnOnce(Vec<StoredEvent>) -> Vec<StoredEvent> + Send + 'a,
) -> StreamRows<'a> {
    let changed = async move {
        let (mut snapshot, mut events) = (None, Vec::new());
        for row in rows.try_collect::<Vec<_>>().await? {
            match row {
                StreamRow::Snapshot(_) => snapshot = Some(row),
                StreamRow::Event(event) => events.push(event),
            }
        }
        let events = change(events).into_iter().map(StreamRow::Event);
        Ok(stream::iter(snapshot.into_iter().chain(events).map(Ok)))
    };
    stream::once(changed).try_flatten().boxed()
}

/// A layer that yields before a read or an append, so that the test can stop a case that a defect
/// makes retry forever.
pub(crate) struct Yields;

impl<D: Defect> Intercept<Intercepted<InMemoryEventStore, D>> for Yields {
    async fn call<T: Send>(
        &self,
        call: StoreCall,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if let "append_events" | "read_log" | "read_outbox" | "due_timers" = call.method {
            tokio::task::yield_now().await;
        }
        made.await
    }

    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        let rows = async move {
            tokio::task::yield_now().await;
            rows
        };
        stream::once(rows).flatten().boxed()
    }
}

/// The backend of a store with a defect.
pub(crate) struct Broken<D> {
    store: InMemoryEventStore,
    defect: Arc<D>,
}

impl<D: Defect> Broken<D> {
    pub(crate) fn new(defect: D, partitions: u16) -> Self {
        let store = InMemoryEventStore::with_partitions(partitions).with_clock(SystemClock);
        Self { store, defect: Arc::new(defect) }
    }

    fn broken(&self, store: InMemoryEventStore) -> <Self as StoreBackend>::Store {
        Intercepted::layered(Intercepted::layered(store, Arc::clone(&self.defect)), Yields)
    }
}

impl<D: Defect> StoreBackend for Broken<D> {
    type Store = Intercepted<Intercepted<InMemoryEventStore, D>, Yields>;

    fn store(&self) -> Self::Store {
        self.broken(self.store.clone())
    }

    async fn open_again(&self) -> Self::Store {
        self.broken(self.defect.elsewhere(&self.store))
    }

    async fn hold_foreign_transaction(&self, _: Duration) -> bool {
        self.defect.hold().await
    }

    async fn dead_rows(&self) -> Option<u64> {
        self.defect.dead_rows(&self.store)
    }

    async fn outbox(&self) -> Option<Vec<StoredOutboxRow>> {
        Some(self.defect.outbox(self.store.outbox()))
    }

    async fn timers(&self) -> Option<Vec<StoredTimer>> {
        Some(self.defect.timers(self.store.timers()))
    }
}
