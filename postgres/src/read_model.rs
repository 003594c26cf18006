//! Read models in PostgreSQL: transactions, checkpoints, states.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::projection::{
    BlockedStream, ProjectionRecord, ProjectionState, ReadModel,
};
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::StoreError;
use composable_rust_core::{EventId, StreamId, Version};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{Executor as _, PgConnection, PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

use crate::builder::is_name;
use crate::error::{is_unavailable, model_error, store_error};
use crate::migrate::{ensure_schema, quoted};
use crate::row::{bigint, unsigned};
use crate::session::{CHECK, Sessions};
use crate::timeout::MAX_CONNECTION_AGE;

/// The migrations; the one at index n leads to version n + 1. A released migration never changes.
const MIGRATIONS: &[&str] = &[include_str!("../read_model/0001_projections.sql")];

/// The advisory lock of migrations, so that one process migrates at a time. The number has no
/// meaning.
const MIGRATION_LOCK: i64 = 0x636f_6d70_6f73_6501;

/// The isolation level does not depend on the database's default. Of two transactions, the later
/// sees the writes that it waited for.
const BEGIN: &str = "begin isolation level read committed";

/// The idle time within a transaction after which the server ends it and releases its locks, since
/// the process is frozen.
const FROZEN_AFTER: &str = "30s";

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

const LOCK: &str = "select from projection_states where name = $1 for update";
const INSERT: &str =
    "insert into projection_states (name, log_id) values ($1, $2) on conflict do nothing";

const LOAD: &str = "select s.state, s.reason, s.log_id, c.partition, c.log_offset, c.event_id, \
    c.epoch, s.rebuilds, s.rebuilding from projection_states s left join projection_checkpoints c on c.name = s.name \
    where s.name = $1 order by c.partition";

const ADVANCE: &str = "insert into projection_checkpoints as c \
    (name, partition, log_offset, event_id, epoch) \
    select $1, a.partition, a.log_offset, a.event_id, $2 \
    from unnest($3::integer[], $4::bigint[], $5::uuid[]) a(partition, log_offset, event_id) \
    on conflict (name, partition) do update set log_offset = excluded.log_offset, \
    event_id = excluded.event_id, epoch = excluded.epoch, updated_at = excluded.updated_at";

const SET_STATE: &str = "update projection_states set state = $2, reason = $3, \
    rebuilding = rebuilding and $2 <> 'running' where name = $1";

const FORGET: &str = "update projection_states set state = 'rebuilding', reason = '', \
    log_id = $2, rebuilds = rebuilds + 1, rebuilding = true where name = $1";

const LOAD_BLOCKED: &str = "select stream_id, version, blockage_id from projection_blocked \
    where name = $1 and ($2::text is null or stream_id = $2) order by stream_id";

const SET_BLOCKED: &str = "insert into projection_blocked (name, stream_id, version, blockage_id) \
    values ($1, $2, $3, $4) on conflict (name, stream_id) do update \
    set version = excluded.version, blockage_id = excluded.blockage_id";

/// A PostgreSQL database for read models: that of the event store or any other.
///
/// Projections write to tables that the application creates, with a [`PgConnection`] inside a
/// transaction. Opening the database creates the tables `projection_checkpoints`,
/// `projection_states`, `projection_blocked` and `projection_schema` in the first schema of the
/// `search_path`, in one transaction, unless they exist.
///
/// Clones share the connections. Read with [`PostgresReadModel::pool`], or with any other client.
///
/// # Example: a projection's database
///
/// ```no_run
/// use composable_rust_postgres::{PostgresReadModel, sqlx};
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let model = PostgresReadModel::connect("postgres://app@localhost/reports").await?;
/// sqlx::query("create table if not exists totals (customer text primary key, cents bigint)")
///     .execute(model.pool())
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PostgresReadModel {
    pool: PgPool,
}

/// A builder of a [`PostgresReadModel`].
#[derive(Clone)]
#[must_use = "nothing is opened until `connect`"]
pub struct PostgresReadModelBuilder {
    url: String,
    schema: Option<String>,
    max_connections: u32,
}

/// Omits the URL, which may contain a password.
impl fmt::Debug for PostgresReadModelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresReadModelBuilder")
            .field("schema", &self.schema)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl PostgresReadModelBuilder {
    /// The schema of the projections' tables, and the first in the `search_path` of projections;
    /// created if it is missing. Default: the first schema of the user's `search_path`. Services
    /// that share a database separate their projections this way.
    pub fn schema(mut self, name: &str) -> Self {
        self.schema = Some(name.to_owned());
        self
    }

    /// The maximum number of connections, at least 2. Default: 8.
    pub fn max_connections(mut self, count: u32) -> Self {
        self.max_connections = count.max(2);
        self
    }

    /// Connects to the database. The server ends a transaction that is idle for 30 seconds, since a
    /// frozen process would block others.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Unavailable`]: no server answers, or the tables cannot be created.
    /// - [`StoreError::Invalid`]: the URL or the schema's name is wrong, or newer code has
    ///   migrated the tables.
    pub async fn connect(self) -> Result<PostgresReadModel, StoreError> {
        let url = &self.url;
        // sqlx accepts any scheme.
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(StoreError::Invalid("the URL does not start with postgres://".to_owned()));
        }
        let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            StoreError::Invalid(format!("not a PostgreSQL URL: {error}"))
        })?;
        let mut settings = vec![("idle_in_transaction_session_timeout", FROZEN_AFTER.to_owned())];
        if let Some(schema) = &self.schema {
            if !is_name(schema) {
                let reason = "a schema's name has from 1 to 63 bytes and no NUL";
                return Err(StoreError::Invalid(reason.to_owned()));
            }
            settings.push(("search_path", quoted(schema)));
        }
        let sessions = Arc::new(Sessions::new(options, settings, ACQUIRE_TIMEOUT));
        // The pool would not report the reason for a missing connection.
        sessions.open().await?;
        let pool = pool(&sessions, self.max_connections);
        PostgresReadModel { pool }.migrated(self.schema.as_deref()).await
    }
}

impl PostgresReadModel {
    /// Returns a builder of the read model at `url`.
    pub fn builder(url: &str) -> PostgresReadModelBuilder {
        PostgresReadModelBuilder { url: url.to_owned(), schema: None, max_connections: 8 }
    }

    /// Connects with the defaults of [`PostgresReadModelBuilder`].
    ///
    /// # Errors
    ///
    /// As [`PostgresReadModelBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).connect().await
    }

    /// Uses an existing pool of at least two connections, since one may wait for the other. Set
    /// `idle_in_transaction_session_timeout` on them: a frozen process blocks the others for as
    /// long.
    ///
    /// # Errors
    ///
    /// As [`PostgresReadModel::connect`].
    pub async fn with_pool(pool: PgPool) -> Result<Self, StoreError> {
        Self { pool }.migrated(None).await
    }

    /// Returns the connections, for reading and for creating tables.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    async fn migrated(self, schema: Option<&str>) -> Result<Self, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(store_error)?;
        let mut found = version(&mut connection).await.map_err(store_error)?;
        drop(connection);
        if found < MIGRATIONS.len() {
            let mut transaction = self.begin().await?;
            sqlx::query("select pg_advisory_xact_lock($1)")
                .bind(MIGRATION_LOCK)
                .execute(&mut *transaction)
                .await
                .map_err(store_error)?;
            if let Some(schema) = schema {
                ensure_schema(&mut transaction, schema).await.map_err(store_error)?;
            }
            found = version(&mut transaction).await.map_err(store_error)?;
            for sql in MIGRATIONS.iter().skip(found) {
                transaction.execute(sqlx::raw_sql(sql)).await.map_err(store_error)?;
            }
            transaction.commit().await.map_err(store_error)?;
            found = found.max(MIGRATIONS.len());
        }
        if found > MIGRATIONS.len() {
            let known = MIGRATIONS.len();
            return Err(StoreError::Invalid(format!(
                "the tables of projections have version {found}, this program knows versions up to \
                 {known}; upgrade it"
            )));
        }
        Ok(self)
    }
}

/// Returns a pool whose connections are checked before each use: an error of a projection's
/// statement does not tell whether its connection is usable.
fn pool(sessions: &Arc<Sessions>, max_connections: u32) -> PgPool {
    let (opened, asked) = (Arc::clone(sessions), Arc::clone(sessions));
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(MAX_CONNECTION_AGE)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let sessions = Arc::clone(&opened);
            Box::pin(async move {
                sessions.set_up(connection).await?;
                Ok(())
            })
        })
        .before_acquire(move |connection, _| {
            let sessions = Arc::clone(&asked);
            Box::pin(
                async move { Ok(sessions.check(connection.fetch_one(CHECK), None).await.is_ok()) },
            )
        })
        .connect_lazy_with(sessions.options().clone())
}

/// Returns the version of the tables; 0 if they do not exist.
async fn version(connection: &mut PgConnection) -> Result<usize, sqlx::Error> {
    let there: bool = sqlx::query_scalar("select to_regclass('projection_schema') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(0);
    }
    let version: i32 =
        sqlx::query_scalar("select version from projection_schema").fetch_one(connection).await?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

async fn try_lock(
    connection: &mut PgConnection,
    name: &str,
    log: Uuid,
) -> Result<ProjectionRecord, sqlx::Error> {
    loop {
        if sqlx::query(LOCK).bind(name).fetch_optional(&mut *connection).await?.is_some() {
            // A separate statement sees the writes that the lock waited for.
            let rows = sqlx::query(LOAD).bind(name).fetch_all(&mut *connection).await?;
            return record(&rows)?.ok_or(sqlx::Error::RowNotFound);
        }
        sqlx::query(INSERT).bind(name).bind(log).execute(&mut *connection).await?;
    }
}

async fn try_advance(
    connection: &mut PgConnection,
    name: &str,
    epoch: u64,
    to: &[Checkpoint],
) -> Result<(), sqlx::Error> {
    let partitions: Vec<i32> = to.iter().map(|to| i32::from(to.partition)).collect();
    let offsets: Vec<i64> = to.iter().map(|to| bigint(to.offset)).collect();
    let ids: Vec<_> = to.iter().map(|to| to.event_id.map(|id| id.0)).collect();
    sqlx::query(ADVANCE)
        .bind(name)
        .bind(bigint(epoch))
        .bind(partitions)
        .bind(offsets)
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(())
}

async fn try_forget(
    connection: &mut PgConnection,
    name: &str,
    log: Uuid,
) -> Result<(), sqlx::Error> {
    for sql in [
        "delete from projection_checkpoints where name = $1",
        "delete from projection_blocked where name = $1",
    ] {
        sqlx::query(sql).bind(name).execute(&mut *connection).await?;
    }
    sqlx::query(FORGET).bind(name).bind(log).execute(connection).await?;
    Ok(())
}

fn state(row: &PgRow) -> Result<ProjectionState, sqlx::Error> {
    let (name, reason): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    ProjectionState::from_name(&name, reason).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: "state".to_owned(),
        source: format!("unknown state `{name}`").into(),
    })
}

fn record(rows: &[PgRow]) -> Result<Option<ProjectionRecord>, sqlx::Error> {
    let Some(first) = rows.first() else { return Ok(None) };
    let (state, log) = (state(first)?, first.try_get(2)?);
    let (rebuilds, rebuilding) = (unsigned::<i64, u64>(first, 7)?, first.try_get(8)?);
    let (mut checkpoints, mut epoch) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        if row.try_get::<Option<i32>, _>(3)?.is_some() {
            checkpoints.push(Checkpoint {
                partition: unsigned::<i32, u16>(row, 3)?,
                offset: unsigned::<i64, u64>(row, 4)?,
                event_id: row.try_get::<Option<_>, _>(5)?.map(EventId),
            });
            epoch = epoch.max(unsigned::<i64, u64>(row, 6)?);
        }
    }
    Ok(Some(ProjectionRecord { log, state, checkpoints, epoch, rebuilds, rebuilding }))
}

fn blocked_stream(row: &PgRow) -> Result<BlockedStream, sqlx::Error> {
    let stream: String = row.try_get(0)?;
    let stream = stream.parse().map_err(|source| sqlx::Error::ColumnDecode {
        index: "stream_id".to_owned(),
        source: Box::new(source),
    })?;
    let version = Version::new(unsigned::<i64, u64>(row, 1)?);
    Ok(BlockedStream { stream, version, blockage_id: row.try_get(2)? })
}

impl ReadModel for PostgresReadModel {
    type Connection = PgConnection;
    type Transaction = Transaction<'static, Postgres>;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        self.pool.begin_with(BEGIN).await.map_err(model_error)
    }

    async fn commit(&self, transaction: Self::Transaction) -> Result<(), StoreError> {
        transaction.commit().await.map_err(model_error)
    }

    async fn load(&self, name: &str) -> Result<Option<ProjectionRecord>, StoreError> {
        let rows = sqlx::query(LOAD).bind(name).fetch_all(&self.pool).await.map_err(model_error)?;
        record(&rows).map_err(model_error)
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
        try_advance(transaction, name, epoch, to).await.map_err(model_error)
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
        let rows = query.fetch_all(&self.pool).await.map_err(model_error)?;
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
            .bind(bigint(blocked.version.get()))
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
        sqlx::query("delete from projection_blocked where name = $1 and stream_id = $2")
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
