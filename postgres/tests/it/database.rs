//! A database of its own for each test, and what opens it.

use std::time::Duration;

use composable_rust_postgres::{PostgresEventStore, PostgresEventStoreBuilder};
use composable_rust_testing::TestDatabase;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::sleep;

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

    /// A connection as whoever else works in the database has it, opened when it is used.
    pub(crate) fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(1).connect_lazy(&self.0.url()).unwrap()
    }

    /// Waits until all other backends are gone; then they have reported their counts.
    pub(crate) async fn wait_for_end_of_others(&self, own: &mut PgConnection) {
        let others = "select count(*) from pg_stat_activity \
                      where datname = current_database() and pid <> pg_backend_pid()";
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *own).await.unwrap() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a statement in this database waits for a lock.
    pub(crate) async fn wait_for_lock(&self) {
        let mut connection = self.connection().await;
        let waits = "select exists (select from pg_stat_activity \
                     where datname = current_database() and wait_event_type = 'Lock')";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut connection).await.unwrap() {
            sleep(Duration::from_millis(10)).await;
        }
    }
}
