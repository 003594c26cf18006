//! Read models in SQLite: transactions, checkpoints, states.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use composable_rust_core::projection::{
    BlockedStream, ProjectionRecord, ProjectionState, ReadModel,
};
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::StoreError;
use composable_rust_core::{EventId, StreamId, Version};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Executor as _, Row as _, Sqlite, Transaction};
use uuid::Uuid;

use crate::builder::checked;
use crate::connection::LOCK_SLICE;
use crate::error::{is_busy, is_unavailable, model_error, store_error};
use crate::sql::{int, uint};
use crate::store::clock;

/// The migrations; the one at index n leads to version n + 1. A released migration never changes.
const MIGRATIONS: &[&str] = &[include_str!("../read_model/0001_projections.sql")];

const ROLLED_BACK: &str = "a statement of the projection failed and rolled the transaction back, and \
    its error was ignored; return it from `project`";

/// The timeout of a transaction that waits for the lock of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const INSERT: &str = "insert or ignore into projection_states (name, log_id, state) \
    values (?, ?, 'running')";

const LOAD: &str = "select s.state, s.reason, s.log_id, c.partition, c.log_offset, c.event_id, \
    c.epoch, s.rebuilds, s.rebuilding from projection_states s left join projection_checkpoints c on c.name = s.name \
    where s.name = ? order by c.partition";

const ADVANCE: &str = "insert or replace into projection_checkpoints \
    (name, partition, log_offset, event_id, epoch, updated_at) values (?, ?, ?, ?, ?, ?)";

const SET_STATE: &str = "update projection_states set state = ?2, reason = ?3, \
    rebuilding = rebuilding and ?2 <> 'running' where name = ?1";

const FORGET: &str = "update projection_states set state = 'rebuilding', reason = '', \
    log_id = ?2, rebuilds = rebuilds + 1, rebuilding = 1 where name = ?1";

const LOAD_BLOCKED: &str = "select stream_id, version, blockage_id from projection_blocked \
    where name = ?1 and (?2 is null or stream_id = ?2) order by stream_id";

const SET_BLOCKED: &str = "insert or replace into projection_blocked \
    (name, stream_id, version, blockage_id) values (?, ?, ?, ?)";

/// An SQLite file for read models: that of the event store or any other.
///
/// Projections write to tables that the application creates, with a [`SqliteConnection`] inside a
/// transaction. Opening the file creates the tables `projection_checkpoints`, `projection_states`,
/// `projection_blocked` and `projection_schema` in one transaction, unless they exist. To share the
/// file of an event store, open the event store first: it rejects a file with other content.
///
/// Clones share the connections: one that writes, some that read. Read with
/// [`SqliteReadModel::pool`], or with any other program. While a projection's transaction is open,
/// no other connection writes to the file; the transactions are short, and an event store in the
/// same file writes in between.
///
/// # Example: a projection's database
///
/// ```
/// use composable_rust_sqlite::{SqliteReadModel, sqlx};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("reports.db");
/// let model = SqliteReadModel::open(path).await?;
/// sqlx::query("create table if not exists totals (customer text primary key, cents integer)")
///     .execute(model.pool())
///     .await?;
/// # Ok(())
/// # })
/// # .map_err(|e: Box<dyn std::error::Error>| e)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SqliteReadModel {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteReadModel {
    /// Opens the file at `path`, creating it if it is missing. Several processes may do so at the
    /// same time.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Unavailable`]: SQLite failed, for lack of permission or of space.
    /// - [`StoreError::Invalid`]: the path cannot be a file's, or newer code has migrated the
    ///   tables.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = checked(path.as_ref()).map_err(|e| StoreError::Invalid(e.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            // On macOS a plain fsync does not reach the disk.
            .pragma("fullfsync", "on")
            .pragma("checkpoint_fullfsync", "on")
            // Erased content is zeroed in the file too.
            .pragma("secure_delete", "on")
            .disable_statement_logging();
        write_ahead(options.clone().journal_mode(SqliteJournalMode::Wal)).await?;
        let pool = || SqlitePoolOptions::new().acquire_timeout(BUSY_TIMEOUT);
        // The last of the pragmas: opening waits as long as necessary.
        let slice = LOCK_SLICE.as_millis().to_string();
        let readers = pool().max_connections(4).connect_with(options.clone()).await;
        let readers = readers.map_err(store_error)?;
        let writer = pool()
            .max_connections(1)
            .connect_with(options.pragma("busy_timeout", slice))
            .await
            .map_err(store_error)?;
        Self { writer, readers }.migrated().await
    }

    /// Uses an existing pool of at least two connections to a file in WAL mode; one may wait for
    /// the other.
    ///
    /// # Errors
    ///
    /// As [`SqliteReadModel::open`].
    pub async fn with_pool(pool: SqlitePool) -> Result<Self, StoreError> {
        Self { writer: pool.clone(), readers: pool }.migrated().await
    }

    /// Returns the connections, for reading and for creating tables.
    pub fn pool(&self) -> &SqlitePool {
        &self.readers
    }

    async fn migrated(self) -> Result<Self, StoreError> {
        let known = MIGRATIONS.len();
        let mut connection = self.readers.acquire().await.map_err(store_error)?;
        let mut found = version(&mut connection).await.map_err(store_error)?;
        drop(connection);
        if found < known {
            let mut transaction = self.begin().await?;
            found = version(&mut transaction).await.map_err(store_error)?;
            for sql in MIGRATIONS.iter().skip(found) {
                transaction.execute(sqlx::raw_sql(sql)).await.map_err(store_error)?;
            }
            transaction.commit().await.map_err(store_error)?;
            found = found.max(known);
        }
        if found > known {
            return Err(StoreError::Invalid(format!(
                "the tables of projections have version {found}, this program knows versions up to \
                 {known}; upgrade it"
            )));
        }
        Ok(self)
    }
}

/// Opens the file once, to change it to write-ahead logging; that change does not wait for locks.
async fn write_ahead(options: SqliteConnectOptions) -> Result<(), StoreError> {
    let asked = Instant::now();
    loop {
        match options.connect().await {
            Ok(_) => return Ok(()),
            Err(error) if is_busy(&error) && asked.elapsed() < BUSY_TIMEOUT => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => return Err(store_error(error)),
        }
    }
}

/// Returns the version of the tables; 0 if they do not exist.
async fn version(connection: &mut SqliteConnection) -> Result<usize, sqlx::Error> {
    let there: i64 =
        sqlx::query_scalar("select count(*) from sqlite_schema where name = 'projection_schema'")
            .fetch_one(&mut *connection)
            .await?;
    if there == 0 {
        return Ok(0);
    }
    let version: i64 =
        sqlx::query_scalar("select version from projection_schema").fetch_one(connection).await?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

async fn try_lock(
    connection: &mut SqliteConnection,
    name: &str,
    log: Uuid,
) -> Result<ProjectionRecord, sqlx::Error> {
    sqlx::query(INSERT).bind(name).bind(log).execute(&mut *connection).await?;
    let rows = sqlx::query(LOAD).bind(name).fetch_all(connection).await?;
    record(&rows)?.ok_or(sqlx::Error::RowNotFound)
}

async fn try_advance(
    connection: &mut SqliteConnection,
    name: &str,
    epoch: u64,
    to: &[Checkpoint],
) -> Result<(), StoreError> {
    // SQLite begins a transaction only if none is open. An open one was rolled back by the
    // projection, and later writes would commit without the earlier ones. The caller rolls back the
    // transaction that begins here.
    if connection.execute("begin").await.is_ok() {
        return Err(StoreError::Invalid(ROLLED_BACK.to_owned()));
    }
    for to in to {
        sqlx::query(ADVANCE)
            .bind(name)
            .bind(i64::from(to.partition))
            .bind(int(to.offset))
            .bind(to.event_id.map(|id| id.0))
            .bind(int(epoch))
            .bind(clock().as_micros())
            .execute(&mut *connection)
            .await
            .map_err(model_error)?;
    }
    Ok(())
}

async fn try_forget(
    connection: &mut SqliteConnection,
    name: &str,
    log: Uuid,
) -> Result<(), sqlx::Error> {
    for sql in [
        "delete from projection_checkpoints where name = ?",
        "delete from projection_blocked where name = ?",
    ] {
        sqlx::query(sql).bind(name).execute(&mut *connection).await?;
    }
    sqlx::query(FORGET).bind(name).bind(log).execute(connection).await?;
    Ok(())
}

fn partition(row: &SqliteRow, index: usize) -> Result<u16, sqlx::Error> {
    let number: i64 = row.try_get(index)?;
    u16::try_from(number).map_err(|source| sqlx::Error::ColumnDecode {
        index: "partition".to_owned(),
        source: Box::new(source),
    })
}

fn state(row: &SqliteRow) -> Result<ProjectionState, sqlx::Error> {
    let (name, reason): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    ProjectionState::from_name(&name, reason).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: "state".to_owned(),
        source: format!("unknown state `{name}`").into(),
    })
}

fn record(rows: &[SqliteRow]) -> Result<Option<ProjectionRecord>, sqlx::Error> {
    let Some(first) = rows.first() else { return Ok(None) };
    let (state, log) = (state(first)?, first.try_get(2)?);
    let (rebuilds, rebuilding) = (uint(first.try_get(7)?), first.try_get(8)?);
    let (mut checkpoints, mut epoch) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        if row.try_get::<Option<i64>, _>(3)?.is_some() {
            checkpoints.push(Checkpoint {
                partition: partition(row, 3)?,
                offset: uint(row.try_get(4)?),
                event_id: row.try_get::<Option<_>, _>(5)?.map(EventId),
            });
            epoch = epoch.max(uint(row.try_get(6)?));
        }
    }
    Ok(Some(ProjectionRecord { log, state, checkpoints, epoch, rebuilds, rebuilding }))
}

fn blocked_stream(row: &SqliteRow) -> Result<BlockedStream, sqlx::Error> {
    let stream: String = row.try_get(0)?;
    let stream = stream.parse().map_err(|source| sqlx::Error::ColumnDecode {
        index: "stream_id".to_owned(),
        source: Box::new(source),
    })?;
    let version = Version::new(uint(row.try_get(1)?));
    Ok(BlockedStream { stream, version, blockage_id: row.try_get(2)? })
}

/// A transaction holds the lock of the file, and so of every projection in it.
impl ReadModel for SqliteReadModel {
    type Connection = SqliteConnection;
    type Transaction = Transaction<'static, Sqlite>;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        let asked = Instant::now();
        loop {
            match self.writer.begin_with("begin immediate").await {
                Ok(transaction) => return Ok(transaction),
                // SQLite polls at intervals that grow to 100 ms, in which a busy event store takes
                // the lock many times.
                Err(error) if is_busy(&error) && asked.elapsed() < BUSY_TIMEOUT => {}
                Err(error) => return Err(store_error(error)),
            }
        }
    }

    async fn commit(&self, transaction: Self::Transaction) -> Result<(), StoreError> {
        transaction.commit().await.map_err(model_error)
    }

    async fn load(&self, name: &str) -> Result<Option<ProjectionRecord>, StoreError> {
        let rows = sqlx::query(LOAD).bind(name).fetch_all(&self.readers).await;
        record(&rows.map_err(model_error)?).map_err(model_error)
    }

    async fn lock(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<ProjectionRecord, StoreError> {
        try_lock(transaction, name, log).await.map_err(model_error)
    }

    async fn advance(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        epoch: u64,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        try_advance(transaction, name, epoch, to).await
    }

    async fn set_state(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        to: &ProjectionState,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(SET_STATE).bind(name).bind(to.as_str()).bind(to.reason());
        query.execute(&mut **transaction).await.map_err(model_error)?;
        Ok(())
    }

    async fn forget(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<(), StoreError> {
        try_forget(transaction, name, log).await.map_err(model_error)
    }

    async fn blocked_streams(&self, name: &str) -> Result<Vec<BlockedStream>, StoreError> {
        let query = sqlx::query(LOAD_BLOCKED).bind(name).bind(None::<&str>);
        let rows = query.fetch_all(&self.readers).await.map_err(model_error)?;
        rows.iter().map(blocked_stream).collect::<Result<_, _>>().map_err(model_error)
    }

    async fn find_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<BlockedStream>, StoreError> {
        let query = sqlx::query(LOAD_BLOCKED).bind(name).bind(stream.as_str());
        let row = query.fetch_optional(&mut **transaction).await.map_err(model_error)?;
        row.as_ref().map(blocked_stream).transpose().map_err(model_error)
    }

    async fn set_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        blocked: &BlockedStream,
    ) -> Result<(), StoreError> {
        sqlx::query(SET_BLOCKED)
            .bind(name)
            .bind(blocked.stream.as_str())
            .bind(int(blocked.version.get()))
            .bind(blocked.blockage_id)
            .execute(&mut **transaction)
            .await
            .map_err(model_error)?;
        Ok(())
    }

    async fn clear_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<(), StoreError> {
        sqlx::query("delete from projection_blocked where name = ? and stream_id = ?")
            .bind(name)
            .bind(stream.as_str())
            .execute(&mut **transaction)
            .await
            .map_err(model_error)?;
        Ok(())
    }

    fn is_unavailable(&self, error: &(dyn Error + 'static)) -> bool {
        is_unavailable(error)
    }
}
