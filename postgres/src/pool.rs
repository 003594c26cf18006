//! A pool of sessions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use composable_rust_core::store::{PoolStatus, StoreError};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::error::store_error;
use crate::session::{Session, SessionError, Sessions};
use crate::timeout::{MAX_CONNECTION_AGE, ROLLBACK_TIMEOUT, is_connection_reusable, within};

/// Sessions for statements of one kind.
///
/// Not an sqlx pool, which pings each connection that is returned (a second round trip that costs
/// as much as a small append) and hides the reason for a missing connection. This pool takes a
/// connection back only after a response has arrived completely, and pings a connection before use
/// if it was not checked for ten seconds.
#[derive(Debug)]
pub(crate) struct Pool {
    sessions: Arc<Sessions>,
    settings: PoolSettings,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
}

/// The timeouts of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSettings {
    pub(crate) connections: u32,
    /// The acquire timeout.
    pub(crate) wait: Duration,
    /// The response timeout, also for the next row of a response; `None`: no timeout.
    pub(crate) limit: Option<Duration>,
    /// The idle timeout.
    pub(crate) idle: Duration,
}

impl Pool {
    pub(crate) fn new(sessions: Arc<Sessions>, settings: PoolSettings) -> Arc<Self> {
        let permits = usize::try_from(settings.connections).unwrap_or(1);
        let permits = Arc::new(Semaphore::new(permits));
        Arc::new(Self { sessions, settings, permits, idle: Mutex::default() })
    }

    /// Returns the number of connections in use, and their maximum.
    pub(crate) fn status(&self, name: &'static str) -> PoolStatus {
        let max = usize::try_from(self.settings.connections).unwrap_or(1);
        PoolStatus { name, max, in_use: max.saturating_sub(self.permits.available_permits()) }
    }

    /// Waits for a response, or for its next row.
    pub(crate) async fn await_response<T>(
        &self,
        process: i32,
        response: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        self.sessions.await_response(process, self.settings.limit, response).await
    }

    /// Runs `statement` on a connection of the pool.
    pub(crate) async fn run<T>(
        self: &Arc<Self>,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let mut lent = self.lend().await?;
        let process = lent.process();
        let (connection, _) = lent.parts().map_err(store_error)?;
        let response = self.await_response(process, statement(connection)).await;
        lent.end(response.as_ref().err());
        response.map_err(store_error)
    }

    /// Waits for a session, in the order of the callers.
    pub(crate) async fn lend(self: &Arc<Self>) -> Result<PooledSession, SessionError> {
        let permits = Arc::clone(&self.permits);
        let permit = match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => timeout(self.settings.wait, permits.acquire_owned())
                .await
                .map_err(|_| sqlx::Error::PoolTimedOut)?
                .map_err(|_| sqlx::Error::PoolClosed)?,
        };
        let session = match self.checked().await {
            Some(session) => session,
            None => self.sessions.open().await?,
        };
        let (pool, session) = (Arc::clone(self), Some(session));
        Ok(PooledSession { pool, permit: Some(permit), session, is_reading: false })
    }

    /// Returns the session that was used last, if it is still usable.
    async fn checked(&self) -> Option<Session> {
        let mut session = self.take()?;
        match session.check(&self.sessions).await {
            Ok(()) => Some(session),
            Err(error) => {
                self.sessions.distrust(&session, &error);
                None
            }
        }
    }

    fn take(&self) -> Option<Session> {
        let mut idle = self.idle();
        idle.retain(|session| {
            session.used.elapsed() < self.settings.idle
                && session.opened.elapsed() < MAX_CONNECTION_AGE
                && self.sessions.trusts(session)
        });
        idle.pop()
    }

    /// Returns a session to the pool.
    pub(crate) fn put(&self, mut session: Session) {
        if self.sessions.trusts(&session) {
            session.used = Instant::now();
            self.idle().push(session);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session in use. When it is dropped before the end of its response, it is closed, unless only a
/// few rows were left to read.
#[derive(Debug)]
pub(crate) struct PooledSession {
    pool: Arc<Pool>,
    permit: Option<OwnedSemaphorePermit>,
    session: Option<Session>,
    is_reading: bool,
}

impl PooledSession {
    /// The id of the server's process.
    pub(crate) fn process(&self) -> i32 {
        self.session.as_ref().map_or(0, Session::process)
    }

    /// Returns the connection, and the flag to set while rows are read from it.
    pub(crate) fn parts(&mut self) -> Result<(&mut PgConnection, &mut bool), sqlx::Error> {
        let session = self.session.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        Ok((&mut session.connection, &mut self.is_reading))
    }

    /// Returns the session to the pool if the response, which ended with `error`, has arrived
    /// completely.
    pub(crate) fn end(mut self, error: Option<&sqlx::Error>) {
        let Some(session) = self.session.take() else { return };
        match error {
            Some(error) if !is_connection_reusable(error) => {
                self.pool.sessions.distrust(&session, error);
            }
            _ => self.pool.put(session),
        }
    }
}

impl Drop for PooledSession {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_reading {
            return;
        }
        let pool = Arc::clone(&self.pool);
        let permit = self.permit.take();
        runtime.spawn(async move {
            if within(Some(ROLLBACK_TIMEOUT), session.connection.ping()).await.is_ok() {
                pool.put(session);
            }
            drop(permit);
        });
    }
}
