//! The suite's access to a store beyond the port.

use std::any::Any;
use std::future::Future;
use std::time::Duration;

use composable_rust_core::store::{EventStore, SharedEventStore};
use futures_util::future::BoxFuture;

use crate::{StoredOutboxRow, StoredTimer};

/// An empty log, with what a test can do to it beyond the store's port.
///
/// The defaults, which do nothing, are for stores without the feature in question.
pub trait StoreBackend: Send + Sync + 'static {
    /// The store under test.
    type Store: EventStore;

    /// `true` if appends wait while another process has an open transaction that has written, as in
    /// SQLite. Default: `false`.
    const WAITS_FOR_FOREIGN_WRITERS: bool = false;

    /// The store as the process under test uses it. Each call returns a handle of the same store.
    fn store(&self) -> Self::Store;

    /// Opens the store as another process does, sharing nothing but the data.
    fn open_again(&self) -> impl Future<Output = Self::Store> + Send;

    /// Disturbs the numbering of events and rolls back: where the store has transactions, one that
    /// writes rows to the store's own tables (under the partition's lock, by the store's rules) and
    /// is rolled back.
    fn foreign_rollback(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Opens a transaction that has written to a table of its own, holds it open for `duration`,
    /// and rolls it back. Appends may have to wait for it (see
    /// [`WAITS_FOR_FOREIGN_WRITERS`](Self::WAITS_FOR_FOREIGN_WRITERS)); none may fail. Returns
    /// `true` if the store has such transactions.
    fn hold_foreign_transaction(&self, duration: Duration) -> impl Future<Output = bool> + Send {
        let _ = duration;
        async { false }
    }

    /// Takes a snapshot of the database, as an idle reporting transaction does, and holds it until
    /// the returned guard is dropped.
    fn idle_snapshot(&self) -> impl Future<Output = Box<dyn Any + Send>> + Send {
        async { Box::new(()) as Box<dyn Any + Send> }
    }

    /// The number of dead row versions or wasted pages in the store's tables: whatever grows while
    /// a snapshot is open and slows appends down. `None` if the store has none.
    fn dead_rows(&self) -> impl Future<Output = Option<u64>> + Send {
        async { None }
    }

    /// The outbox rows, those of each stream in commit order. `None` if the test cannot read them.
    fn outbox(&self) -> impl Future<Output = Option<Vec<StoredOutboxRow>>> + Send {
        async { None }
    }

    /// The armed timers, in any order. `None` if the test cannot read them.
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
