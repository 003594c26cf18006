//! The suite that every store passes.

use composable_rust_sqlite::SqliteEventStore;
use composable_rust_testing::conformance::StoreBackend;
use tempfile::TempDir;

struct File {
    folder: TempDir,
    store: SqliteEventStore,
}

impl File {
    async fn create(partitions: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let store = SqliteEventStore::builder(path).partitions(partitions).open().await.unwrap();
        Self { folder, store }
    }
}

impl StoreBackend for File {
    type Store = SqliteEventStore;

    fn store(&self) -> SqliteEventStore {
        self.store.clone()
    }

    async fn open_again(&self) -> SqliteEventStore {
        SqliteEventStore::open(self.folder.path().join("log.db")).await.unwrap()
    }
}

composable_rust_testing::conformance!(File::create);
