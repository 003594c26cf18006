//! A database for each test.

use std::time::Duration;

use composable_rust_postgres::{PostgresEventStore, PostgresEventStoreBuilder};
use composable_rust_testing::TestDatabase;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::sleep;

/// A database that is dropped at the end of the test.
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

    /// A lazily opened connection of another user of the database.
    pub(crate) fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(1).connect_lazy(&self.0.url()).unwrap()
    }

    /// Waits until all other backends are gone, and so have reported their counts.
    pub(crate) async fn wait_for_end_of_others(&self, own: &mut PgConnection) {
        let others = "select count(*) from pg_stat_activity \
                      where datname = current_database() and pid <> pg_backend_pid()";
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *own).await.unwrap() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a statement in this database waits for a lock.
    pub(crate) async fn wait_for_lock(&self) {
        self.wait_for_lock_of("").await;
    }

    /// Waits until a statement in this database whose text contains `part` waits for a lock.
    pub(crate) async fn wait_for_lock_of(&self, part: &str) {
        self.wait_for_lock_other_than(&[], part).await;
    }

    /// Waits until a statement whose text contains `part` waits for a lock, in a session other than
    /// these.
    pub(crate) async fn wait_for_lock_other_than(&self, sessions: &[i32], part: &str) {
        while self.sessions_waiting_for_locks(part).await.iter().all(|pid| sessions.contains(pid)) {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the sessions whose statement contains `part` and waits for a lock.
    pub(crate) async fn sessions_waiting_for_locks(&self, part: &str) -> Vec<i32> {
        let waiting = "select pid from pg_stat_activity where datname = current_database() \
                       and wait_event_type = 'Lock' and position($1 in query) > 0";
        let mut connection = self.connection().await;
        sqlx::query_scalar(waiting).bind(part).fetch_all(&mut connection).await.unwrap()
    }

    /// Waits until these sessions have ended.
    pub(crate) async fn wait_for_end_of(&self, sessions: &[i32]) {
        let left = "select count(*) from pg_stat_activity where pid = any ($1)";
        let mut connection = self.connection().await;
        while sqlx::query_scalar::<_, i64>(left)
            .bind(sessions)
            .fetch_one(&mut connection)
            .await
            .unwrap()
            > 0
        {
            sleep(Duration::from_millis(10)).await;
        }
    }
}
