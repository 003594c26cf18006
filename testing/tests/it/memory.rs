//! The in-memory event store passes the conformance suite.

use composable_rust_runtime::environment::SystemClock;
use composable_rust_testing::conformance::StoreBackend;
use composable_rust_testing::{InMemoryEventStore, StoredOutboxRow, StoredTimer};

pub(crate) struct Memory(pub(crate) InMemoryEventStore);

impl StoreBackend for Memory {
    type Store = InMemoryEventStore;

    fn store(&self) -> InMemoryEventStore {
        self.0.clone()
    }

    async fn open_again(&self) -> InMemoryEventStore {
        self.0.clone()
    }

    async fn outbox(&self) -> Option<Vec<StoredOutboxRow>> {
        Some(self.0.outbox())
    }

    async fn timers(&self) -> Option<Vec<StoredTimer>> {
        Some(self.0.timers())
    }
}

async fn memory(partitions: u16) -> Memory {
    Memory(InMemoryEventStore::with_partitions(partitions).with_clock(SystemClock))
}

composable_rust_testing::conformance!(memory);
