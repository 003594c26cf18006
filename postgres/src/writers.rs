//! The connections that append.

use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use composable_rust_core::StoreError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::error::store_error;

/// A connection that was idle for longer may have been forgotten by what lies between.
const MAX_IDLE: Duration = Duration::from_secs(300);
/// How much longer than the server's own limit to wait for its answer.
const GRACE: Duration = Duration::from_secs(5);

/// A few connections for appends alone, so that long reads never hold them up.
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
        statement_timeout: Duration,
        first: PgConnection,
    ) -> Self {
        Self {
            options,
            wait,
            limit: (!statement_timeout.is_zero()).then(|| statement_timeout + GRACE),
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
        let answer = match self.limit {
            Some(limit) => timeout(limit, statement(&mut connection))
                .await
                .unwrap_or(Err(sqlx::Error::Io(ErrorKind::TimedOut.into()))),
            None => statement(&mut connection).await,
        };
        match &answer {
            // The server answered, so the connection is whole. 57P0x: it is about to close it.
            Ok(_) => self.put(connection),
            Err(sqlx::Error::Database(e)) if !e.code().is_some_and(|c| c.starts_with("57P")) => {
                self.put(connection);
            }
            // The others were opened to the same server: most likely they are gone too.
            Err(_) => self.clear(),
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
