//! What the suite needs of a store besides the port.

use std::any::Any;
use std::future::Future;
use std::time::Duration;

use composable_rust_core::{EventStore, SharedEventStore};
use futures_util::future::BoxFuture;

use crate::{StoredOutboxRow, StoredTimer};

/// One empty log, and what a test can do to it besides going through the store.
///
/// What a store has no notion of keeps its default, which does nothing.
pub trait StoreBackend: Send + Sync + 'static {
    /// The store under test.
    type Store: EventStore;

    /// Whether appends have to wait while another process has a transaction open that has written,
    /// as in SQLite.
    const WAITS_FOR_FOREIGN_WRITERS: bool = false;

    /// The store as the process under test uses it; each call gives a handle to the same.
    fn store(&self) -> Self::Store;

    /// The store as another process sees it: opened anew, sharing nothing but the data.
    fn open_again(&self) -> impl Future<Output = Self::Store> + Send;

    /// Does what can disturb numbering and rolls it back: where the store has transactions, one
    /// that writes rows to the store's own tables (taking the partition's lock, as the store's
    /// rules ask) and is rolled back.
    fn foreign_rollback(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Opens a transaction that has written something of its own beside the store's tables, holds
    /// it open for `duration`, and rolls it back. Appends may have to wait for it (see
    /// [`WAITS_FOR_FOREIGN_WRITERS`](Self::WAITS_FOR_FOREIGN_WRITERS)); none may fail. Gives
    /// whether the store has such a thing.
    fn hold_foreign_transaction(&self, duration: Duration) -> impl Future<Output = bool> + Send {
        let _ = duration;
        async { false }
    }

    /// Takes a snapshot of the database, as an idle reporting transaction does, and keeps it until
    /// the returned guard is dropped.
    fn idle_snapshot(&self) -> impl Future<Output = Box<dyn Any + Send>> + Send {
        async { Box::new(()) as Box<dyn Any + Send> }
    }

    /// How many dead row versions the store's tables hold, or how many pages they waste: whatever
    /// grows while a snapshot is open and makes appends slower and slower. `None`: no such thing.
    fn dead_rows(&self) -> impl Future<Output = Option<u64>> + Send {
        async { None }
    }

    /// The effects that wait to be executed, of each stream in the order in which they were
    /// committed. `None`: the test cannot look.
    fn outbox(&self) -> impl Future<Output = Option<Vec<StoredOutboxRow>>> + Send {
        async { None }
    }

    /// The armed timers, in any order. `None`: the test cannot look.
    fn timers(&self) -> impl Future<Output = Option<Vec<StoredTimer>>> + Send {
        async { None }
    }
}

/// [`StoreBackend`] with its type erased, so that the cases are compiled once.
pub(super) trait DynBackend: Send + Sync {
    fn waits_for_foreign_writers(&self) -> bool;
    fn store(&self) -> SharedEventStore;
    fn open_again(&self) -> BoxFuture<'_, SharedEventStore>;
    fn foreign_rollback(&self) -> BoxFuture<'_, ()>;
    fn hold_foreign_transaction(&self, duration: Duration) -> BoxFuture<'_, bool>;
    fn idle_snapshot(&self) -> BoxFuture<'_, Box<dyn Any + Send>>;
    fn dead_rows(&self) -> BoxFuture<'_, Option<u64>>;
    fn outbox(&self) -> BoxFuture<'_, Option<Vec<StoredOutboxRow>>>;
    fn timers(&self) -> BoxFuture<'_, Option<Vec<StoredTimer>>>;
}

impl<B: StoreBackend> DynBackend for B {
    fn waits_for_foreign_writers(&self) -> bool {
        B::WAITS_FOR_FOREIGN_WRITERS
    }

    fn store(&self) -> SharedEventStore {
        SharedEventStore::new(StoreBackend::store(self))
    }

    fn open_again(&self) -> BoxFuture<'_, SharedEventStore> {
        Box::pin(async { SharedEventStore::new(StoreBackend::open_again(self).await) })
    }

    fn foreign_rollback(&self) -> BoxFuture<'_, ()> {
        Box::pin(StoreBackend::foreign_rollback(self))
    }

    fn hold_foreign_transaction(&self, duration: Duration) -> BoxFuture<'_, bool> {
        Box::pin(StoreBackend::hold_foreign_transaction(self, duration))
    }

    fn idle_snapshot(&self) -> BoxFuture<'_, Box<dyn Any + Send>> {
        Box::pin(StoreBackend::idle_snapshot(self))
    }

    fn dead_rows(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(StoreBackend::dead_rows(self))
    }

    fn outbox(&self) -> BoxFuture<'_, Option<Vec<StoredOutboxRow>>> {
        Box::pin(StoreBackend::outbox(self))
    }

    fn timers(&self) -> BoxFuture<'_, Option<Vec<StoredTimer>>> {
        Box::pin(StoreBackend::timers(self))
    }
}
