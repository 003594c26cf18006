//! The connections to the file: one that writes, some that read, one that watches.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};

use crate::error::is_busy;
use crate::sql::Args;

/// Copies the write-ahead log into the file and truncates it. Fails while a connection reads an old
/// state of the file.
const TRUNCATE: &str = "pragma wal_checkpoint(truncate)";

/// The interval between attempts at a pending truncation, each of which blocks writers for
/// [`LOCK_SLICE`].
const TRUNCATION_INTERVAL: Duration = Duration::from_secs(1);

/// The time for which SQLite itself waits for the write lock before the writer asks again. SQLite
/// polls at intervals that grow to 100 ms, in which a busy process takes the lock many times.
pub(crate) const LOCK_SLICE: Duration = Duration::from_millis(40);

/// The one connection that writes.
///
/// The connection is taken out during a transaction and put back at its end. Otherwise (an error, a
/// dropped future) it is closed, which rolls back and releases the lock; the next transaction opens
/// another.
#[derive(Debug)]
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    busy_timeout: Duration,
    idle: tokio::sync::Mutex<IdleConnection>,
}

/// The writer's connection between transactions.
#[derive(Debug)]
struct IdleConnection {
    connection: Option<SqliteConnection>,
    /// `true` if the write-ahead log may contain bytes of erased content. Also at first, since the
    /// previous process may have ended before its truncation.
    owes_truncation: bool,
    /// The time of the last attempt at the pending truncation.
    tried: Option<Instant>,
}

impl IdleConnection {
    fn truncation_is_due(&self) -> bool {
        self.owes_truncation && self.tried.is_none_or(|at| at.elapsed() >= TRUNCATION_INTERVAL)
    }

    /// Puts back a connection that is in no transaction, after truncating the write-ahead log if
    /// that is pending; a failed truncation stays pending.
    async fn put_back(&mut self, mut connection: SqliteConnection) {
        if self.truncation_is_due() {
            let is_first = self.tried.is_none();
            self.tried = Some(Instant::now());
            let truncated = fetch(&mut connection, TRUNCATE, Args::default().into_inner()).await;
            let is_busy = truncated.and_then(|rows| match rows.first() {
                Some(row) => row.try_get_unchecked::<i64, _>(0),
                None => Ok(1),
            });
            match is_busy {
                Ok(0) => self.owes_truncation = false,
                Ok(_) if is_first => tracing::warn!(
                    "failed to truncate the write-ahead log, which may hold erased content, because \
                     of a reader; retrying every second"
                ),
                Ok(_) => {}
                // The next transaction opens another connection.
                Err(error) => {
                    tracing::warn!(%error, "failed to truncate the write-ahead log; retrying");
                    return;
                }
            }
        }
        self.connection = Some(connection);
    }
}

impl Writer {
    pub(crate) fn new(options: SqliteConnectOptions, busy_timeout: Duration) -> Self {
        // The last of the pragmas: opening waits as long as necessary.
        let slice = LOCK_SLICE.min(busy_timeout).as_millis().to_string();
        let options = options.pragma("busy_timeout", slice);
        let idle = IdleConnection { connection: None, owes_truncation: true, tried: None };
        Self { options, busy_timeout, idle: tokio::sync::Mutex::new(idle) }
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&self) -> Result<Transaction<'_>, sqlx::Error> {
        Ok(self.begin_reading(BEGIN, Args::default).await?.0)
    }

    /// Begins a transaction and reads in the same round trip: `sql` starts with [`BEGIN`].
    pub(crate) async fn begin_reading<'q>(
        &self,
        sql: &str,
        args: impl Fn() -> Args<'q>,
    ) -> Result<(Transaction<'_>, Vec<SqliteRow>), sqlx::Error> {
        let mut idle = self.idle.lock().await;
        let mut connection = match idle.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let asked = Instant::now();
        loop {
            match fetch(&mut connection, sql, args().into_inner()).await {
                Ok(rows) => return Ok((Transaction { idle, connection }, rows)),
                Err(error) if is_busy(&error) && asked.elapsed() < self.busy_timeout => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Truncates the write-ahead log if that is pending and no transaction is running.
    pub(crate) async fn truncate_if_due(&self) -> Result<(), sqlx::Error> {
        let Ok(mut idle) = self.idle.try_lock() else { return Ok(()) };
        if idle.truncation_is_due() {
            let connection = match idle.connection.take() {
                Some(connection) => connection,
                None => self.options.connect().await?,
            };
            idle.put_back(connection).await;
        }
        Ok(())
    }
}

/// The start of a statement that takes the write lock.
pub(crate) const BEGIN: &str = "begin immediate;";

/// A transaction that holds the write lock. Dropping it rolls it back.
#[derive(Debug)]
pub(crate) struct Transaction<'w> {
    idle: MutexGuard<'w, IdleConnection>,
    connection: SqliteConnection,
}

impl Transaction<'_> {
    pub(crate) async fn fetch(
        &mut self,
        sql: &str,
        args: Args<'_>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        fetch(&mut self.connection, sql, args.into_inner()).await
    }

    /// Runs `sql`, whose last statement is `commit`.
    pub(crate) async fn commit_with(
        mut self,
        sql: &str,
        args: Args<'_>,
    ) -> Result<(), sqlx::Error> {
        self.fetch(sql, args).await?;
        self.idle.put_back(self.connection).await;
        Ok(())
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        self.commit_with("commit", Args::default()).await
    }

    /// Ends a transaction that has made no changes.
    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.commit_with("rollback", Args::default()).await
    }

    /// Commits and truncates the write-ahead log, which still contains the erased content. If a
    /// reader prevents it, the truncation is retried after later commits and polls.
    pub(crate) async fn commit_erasure(mut self) -> Result<(), sqlx::Error> {
        (self.idle.owes_truncation, self.idle.tried) = (true, None);
        self.commit().await
    }
}

/// The connections that read. A connection that is dropped in use is closed, not used again.
#[derive(Debug)]
pub(crate) struct Readers {
    options: SqliteConnectOptions,
    permits: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl Readers {
    pub(crate) fn new(options: SqliteConnectOptions, count: usize) -> Self {
        let options = options.pragma("query_only", "on");
        Self { options, permits: Semaphore::new(count), idle: Mutex::new(Vec::new()) }
    }

    pub(crate) async fn get(&self) -> Result<Reader<'_>, sqlx::Error> {
        let permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Reader { readers: self, connection, _permit: permit })
    }

    /// Runs one short statement.
    pub(crate) async fn fetch(
        &self,
        sql: &str,
        args: Args<'_>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut reader = self.get().await?;
        let rows = fetch(&mut reader.connection, sql, args.into_inner()).await?;
        reader.done();
        Ok(rows)
    }
}

/// A connection that reads, until [`Reader::done`] puts it back.
#[derive(Debug)]
pub(crate) struct Reader<'r> {
    readers: &'r Readers,
    pub(crate) connection: SqliteConnection,
    _permit: SemaphorePermit<'r>,
}

impl Reader<'_> {
    pub(crate) fn done(self) {
        self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}

/// The connection that detects commits of other connections.
#[derive(Debug)]
pub(crate) struct Watcher {
    options: SqliteConnectOptions,
    interval: Duration,
    state: tokio::sync::Mutex<WatchState>,
}

#[derive(Debug)]
struct WatchState {
    connection: Option<SqliteConnection>,
    looked: Option<Instant>,
    data_version: Option<i64>,
}

impl Watcher {
    /// Watches through `connection`; a lost connection is replaced by one with the same options.
    pub(crate) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        interval: Duration,
    ) -> Self {
        let state = WatchState { connection: Some(connection), looked: None, data_version: None };
        Self { options, interval, state: tokio::sync::Mutex::new(state) }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns `true` if any connection has committed since the last poll; polls at most once per
    /// interval for all callers.
    pub(crate) async fn has_changed(&self) -> Result<bool, sqlx::Error> {
        let mut state = self.state.lock().await;
        if state.looked.is_some_and(|looked| looked.elapsed() < self.interval / 2) {
            return Ok(false);
        }
        let mut connection = if let Some(connection) = state.connection.take() {
            connection
        } else {
            state.data_version = None;
            self.options.connect().await?
        };
        let seen = sqlx::query_scalar("pragma data_version").fetch_one(&mut connection).await?;
        state.connection = Some(connection);
        state.looked = Some(Instant::now());
        Ok(state.data_version.replace(seen) != Some(seen))
    }
}

async fn fetch(
    connection: &mut SqliteConnection,
    sql: &str,
    args: SqliteArguments<'_>,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    sqlx::query_with(sql, args).fetch_all(connection).await
}
