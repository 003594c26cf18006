//! The connections that write.

use std::sync::Arc;

use composable_rust_core::store::{PoolStatus, StoreError};
use sqlx::PgConnection;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::store_error;
use crate::pool::{Pool, PoolSettings};
use crate::session::Sessions;

/// Connections for appends and for the writes of workers, so that long reads do not delay them.
/// Workers use at most half of them at a time, so that workers that wait for one partition do not
/// delay the appends to the others.
#[derive(Debug)]
pub(crate) struct Writers {
    pool: Arc<Pool>,
    settings: PoolSettings,
    workers: Semaphore,
}

impl Writers {
    pub(crate) fn new(sessions: Arc<Sessions>, settings: PoolSettings) -> Self {
        let half = usize::try_from(settings.connections.div_ceil(2)).unwrap_or(1);
        let pool = Pool::new(sessions, settings);
        Self { pool, settings, workers: Semaphore::new(half) }
    }

    pub(crate) fn status(&self) -> PoolStatus {
        self.pool.status("writers")
    }

    /// Runs the statement of an append.
    pub(crate) async fn append<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.pool.run(statement).await
    }

    /// Runs a statement that is not an append.
    pub(crate) async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let _turn = timeout(self.settings.wait, self.workers.acquire())
            .await
            .map_err(|_| store_error(sqlx::Error::PoolTimedOut))?
            .map_err(StoreError::unavailable)?;
        self.pool.run(statement).await
    }

    /// Adds a session to the pool.
    pub(crate) fn put(&self, session: crate::session::Session) {
        self.pool.put(session);
    }
}
