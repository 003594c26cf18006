//! A database of its own for each test, and what opens it.

use composable_rust_postgres::{PostgresEventStore, PostgresEventStoreBuilder};
use composable_rust_testing::TestDatabase;
use sqlx::{Connection as _, PgConnection};

/// A database that is dropped when the test is done.
pub(crate) struct Database(TestDatabase);

impl Database {
    pub(crate) async fn create() -> Self {
        Self(TestDatabase::create().await)
    }

    pub(crate) fn builder(&self) -> PostgresEventStoreBuilder {
        PostgresEventStore::builder(&self.0.url())
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    pub(crate) async fn store(&self, partitions: u16) -> PostgresEventStore {
        self.builder().partitions(partitions).connect().await.unwrap()
    }

    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.0.url()).await.unwrap()
    }
}
