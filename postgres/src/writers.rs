//! The connections that write.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use composable_rust_core::StoreError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::error::store_error;
use crate::limit::{MAX_IDLE, is_whole, within};

/// A few connections for appends and what workers write, so that long reads never hold them up.
///
/// Not an sqlx pool: that one asks the server about each connection it takes back, a second round
/// trip that costs as much as a small append. Here a connection goes back only after an answer has
/// arrived whole, and one whose caller gave up is closed.
#[derive(Debug)]
pub(crate) struct Writers {
    options: PgConnectOptions,
    wait: Duration,
    /// How long a statement may take; `None`: for ever.
    limit: Option<Duration>,
    permits: Semaphore,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
}

impl Writers {
    pub(crate) fn new(
        options: PgConnectOptions,
        count: u32,
        wait: Duration,
        limit: Option<Duration>,
        first: PgConnection,
    ) -> Self {
        Self {
            options,
            wait,
            limit,
            permits: Semaphore::new(usize::try_from(count).unwrap_or(1)),
            idle: Mutex::new(vec![(first, Instant::now())]),
        }
    }

    /// Runs `statement` on a connection of its own.
    pub(crate) async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let busy = |_| store_error(sqlx::Error::PoolTimedOut);
        let _permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => timeout(self.wait, self.permits.acquire())
                .await
                .map_err(busy)?
                .map_err(StoreError::unavailable)?,
        };
        let mut connection = match self.take() {
            Some(connection) => connection,
            None => timeout(self.wait, PgConnection::connect_with(&self.options))
                .await
                .map_err(busy)?
                .map_err(store_error)?,
        };
        let answer = within(self.limit, statement(&mut connection)).await;
        if answer.as_ref().err().is_none_or(is_whole) {
            self.put(connection);
        } else {
            // The others were opened to the same server: most likely they are gone too.
            self.clear();
        }
        answer.map_err(store_error)
    }

    fn take(&self) -> Option<PgConnection> {
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() < MAX_IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn put(&self, connection: PgConnection) {
        self.idle().push((connection, Instant::now()));
    }

    fn clear(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
