//! The connections to the file: one that writes, some that read, one that watches.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};

use crate::error::is_busy;
use crate::sql::Args;

/// How long SQLite itself waits for the write lock before the writer asks again. Its own waiting
/// grows to 100 ms between looks, in which a busy process takes the lock many times over.
pub(crate) const LOCK_SLICE: Duration = Duration::from_millis(40);

/// The one connection that writes.
///
/// It is taken out while a transaction is under way and put back when that has ended. Whatever
/// happens in between, a dropped future included, closes it, which rolls back and gives up the
/// lock; the next transaction opens another.
#[derive(Debug)]
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    busy_timeout: Duration,
    idle: tokio::sync::Mutex<Option<SqliteConnection>>,
}

impl Writer {
    pub(crate) fn new(options: SqliteConnectOptions, busy_timeout: Duration) -> Self {
        // The last of the pragmas: opening waits as long as it must.
        let slice = LOCK_SLICE.min(busy_timeout).as_millis().to_string();
        let options = options.pragma("busy_timeout", slice);
        Self { options, busy_timeout, idle: tokio::sync::Mutex::new(None) }
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&self) -> Result<Transaction<'_>, sqlx::Error> {
        Ok(self.begin_reading(BEGIN, Args::default).await?.0)
    }

    /// Begins a transaction and reads in the same round trip: `sql` is [`BEGIN`] and what follows.
    pub(crate) async fn begin_reading<'q>(
        &self,
        sql: &str,
        args: impl Fn() -> Args<'q>,
    ) -> Result<(Transaction<'_>, Vec<SqliteRow>), sqlx::Error> {
        let mut idle = self.idle.lock().await;
        let mut connection = match idle.take() {
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
}

/// What a statement that takes the write lock starts with.
pub(crate) const BEGIN: &str = "begin immediate;";

/// A transaction that holds the write lock. Dropped before its end, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Transaction<'w> {
    idle: MutexGuard<'w, Option<SqliteConnection>>,
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
        *self.idle = Some(self.connection);
        Ok(())
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        self.commit_with("commit", Args::default()).await
    }

    /// Ends a transaction that has written nothing.
    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.commit_with("rollback", Args::default()).await
    }

    /// The connection back in its place, with the guard of that place: for what cannot run in a
    /// transaction and must not run beside one.
    pub(crate) async fn commit_and_then(mut self, sql: &str) -> Result<(), sqlx::Error> {
        self.fetch("commit", Args::default()).await?;
        // The commit stands; what follows it is best effort.
        if self.fetch(sql, Args::default()).await.is_ok() {
            *self.idle = Some(self.connection);
        }
        Ok(())
    }
}

/// Connections that read. One that was dropped in use is closed, not used again.
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

/// A connection that reads, until it is put back with [`Reader::done`].
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

/// The connection that notices what other connections commit.
#[derive(Debug)]
pub(crate) struct Watcher {
    options: SqliteConnectOptions,
    interval: Duration,
    state: tokio::sync::Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    connection: Option<SqliteConnection>,
    looked: Option<Instant>,
    data_version: Option<i64>,
}

impl Watcher {
    /// Watches through `connection`, and through another like it should that be lost.
    pub(crate) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        interval: Duration,
    ) -> Self {
        let state = Watched { connection: Some(connection), looked: None, data_version: None };
        Self { options, interval, state: tokio::sync::Mutex::new(state) }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether anybody has committed since the last look; looks at most once per interval,
    /// whoever asks.
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
