//! Read models in PostgreSQL: transactions, checkpoints, states.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    BlockedStream, Checkpoint, EventId, ProjectionRecord, ProjectionState, ReadModel, StoreError,
    StreamId, Version,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{Executor as _, PgConnection, PgPool, Postgres, Row as _, Transaction};
use uuid::Uuid;

use crate::builder::is_name;
use crate::error::{is_unavailable, model_error, store_error};
use crate::migrate::{ensure_schema, quoted};
use crate::row::{bigint, unsigned};
use crate::session::{CHECK, Sessions};
use crate::timeout::MAX_CONNECTION_AGE;

/// The migration at index n leads to version n + 1. Those that were released never change.
const MIGRATIONS: &[&str] = &[include_str!("../read_model/0001_projections.sql")];

/// Only one process migrates at a time. The number has no meaning.
const MIGRATION_LOCK: i64 = 0x636f_6d70_6f73_6501;

/// Whatever the database's default is: of two transactions, the later one sees what it waited for.
const BEGIN: &str = "begin isolation level read committed";

/// After so long between two statements of a transaction, the server takes the process for frozen,
/// and lets go of what it holds.
const FROZEN_AFTER: &str = "30s";

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

const LOCK: &str = "select from projection_states where name = $1 for update";
const ADD: &str =
    "insert into projection_states (name, log_id) values ($1, $2) on conflict do nothing";

const LOAD: &str = "select s.state, s.reason, s.log_id, c.partition, c.log_offset, c.event_id, \
    c.epoch, s.rebuilds, s.rebuilding from projection_states s left join projection_checkpoints c on c.name = s.name \
    where s.name = $1 order by c.partition";

const MOVE: &str = "insert into projection_checkpoints as c \
    (name, partition, log_offset, event_id, epoch) \
    select $1, a.partition, a.log_offset, a.event_id, $2 \
    from unnest($3::integer[], $4::bigint[], $5::uuid[]) a(partition, log_offset, event_id) \
    on conflict (name, partition) do update set log_offset = excluded.log_offset, \
    event_id = excluded.event_id, epoch = excluded.epoch, updated_at = excluded.updated_at";

const SET_STATE: &str = "update projection_states set state = $2, reason = $3, \
    rebuilding = rebuilding and $2 <> 'running' where name = $1";

const FORGET: &str = "update projection_states set state = 'rebuilding', reason = '', \
    log_id = $2, rebuilds = rebuilds + 1, rebuilding = true where name = $1";

const WAITING: &str = "select stream_id, version, ticket from projection_waiting \
    where name = $1 and ($2::text is null or stream_id = $2) order by stream_id";

const SET_WAITING: &str = "insert into projection_waiting (name, stream_id, version, ticket) \
    values ($1, $2, $3, $4) on conflict (name, stream_id) do update \
    set version = excluded.version, ticket = excluded.ticket";

/// A PostgreSQL database that holds read models: that of the event store or any other.
///
/// Projections write to tables that are yours to create, with a [`PgConnection`] inside a
/// transaction. Opening it creates the tables `projection_checkpoints`, `projection_states`,
/// `projection_waiting` and `projection_schema` where the `search_path` leads, in one transaction,
/// unless they are there.
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

/// How a [`PostgresReadModel`] is opened.
#[derive(Clone)]
#[must_use = "nothing is opened until `connect`"]
pub struct PostgresReadModelBuilder {
    url: String,
    schema: Option<String>,
    max_connections: u32,
}

/// Without the URL, which may hold a password.
impl fmt::Debug for PostgresReadModelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresReadModelBuilder")
            .field("schema", &self.schema)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl PostgresReadModelBuilder {
    /// The schema that holds the tables of projections, and first that which unqualified names in
    /// projections mean; created if it is missing. Default: where the user's `search_path` leads.
    /// Services that share a database keep their projections apart this way.
    pub fn schema(mut self, name: &str) -> Self {
        self.schema = Some(name.to_owned());
        self
    }

    /// The most connections; at least 2. Default: 8.
    pub fn max_connections(mut self, count: u32) -> Self {
        self.max_connections = count.max(2);
        self
    }

    /// Connects. A transaction that is left alone for 30 seconds is ended by the server: its process
    /// is frozen, and holds up others.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: nobody answers, or the tables cannot be created.
    /// [`StoreError::Invalid`]: the URL or the schema's name is wrong, or newer code has migrated the
    /// tables.
    pub async fn connect(self) -> Result<PostgresReadModel, StoreError> {
        let url = &self.url;
        // sqlx would take any scheme.
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
        // The pool would not say why there is no connection.
        sessions.open().await?;
        let pool = pool(&sessions, self.max_connections);
        PostgresReadModel { pool }.migrated(self.schema.as_deref()).await
    }
}

impl PostgresReadModel {
    /// Begins opening the database at `url`.
    pub fn builder(url: &str) -> PostgresReadModelBuilder {
        PostgresReadModelBuilder { url: url.to_owned(), schema: None, max_connections: 8 }
    }

    /// Connects with all defaults; see [`PostgresReadModelBuilder`].
    ///
    /// # Errors
    ///
    /// As [`PostgresReadModelBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).connect().await
    }

    /// Uses connections that are there; at least two, for whoever waits looks while another writes.
    /// Set `idle_in_transaction_session_timeout` on them: a frozen process holds up the others for
    /// as long.
    ///
    /// # Errors
    ///
    /// As [`PostgresReadModel::connect`].
    pub async fn with_pool(pool: PgPool) -> Result<Self, StoreError> {
        Self { pool }.migrated(None).await
    }

    /// The connections, to read with and to create tables with.
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

/// Connections that are asked before each use whether they serve: a statement of a projection that
/// fails says nothing about that.
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

/// The version of the tables; 0 if there are none.
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
            // A statement of its own: it sees what the lock was waited for.
            let rows = sqlx::query(LOAD).bind(name).fetch_all(&mut *connection).await?;
            return record(&rows)?.ok_or(sqlx::Error::RowNotFound);
        }
        sqlx::query(ADD).bind(name).bind(log).execute(&mut *connection).await?;
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
    sqlx::query(MOVE)
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
        "delete from projection_waiting where name = $1",
    ] {
        sqlx::query(sql).bind(name).execute(&mut *connection).await?;
    }
    sqlx::query(FORGET).bind(name).bind(log).execute(connection).await?;
    Ok(())
}

/// The name and reason that stand for a state.
fn columns(state: &ProjectionState) -> (&'static str, &str) {
    match state {
        ProjectionState::Running => ("running", ""),
        ProjectionState::Rebuilding => ("rebuilding", ""),
        ProjectionState::Paused => ("paused", ""),
        ProjectionState::Failed { reason } => ("failed", reason),
    }
}

fn state(row: &PgRow) -> Result<ProjectionState, sqlx::Error> {
    let (name, reason): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match name.as_str() {
        "rebuilding" => ProjectionState::Rebuilding,
        "paused" => ProjectionState::Paused,
        "failed" => ProjectionState::Failed { reason },
        _ => ProjectionState::Running,
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

fn waiting(row: &PgRow) -> Result<BlockedStream, sqlx::Error> {
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
        let (state, reason) = columns(to);
        let query = sqlx::query(SET_STATE).bind(name).bind(state).bind(reason);
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
        let query = sqlx::query(WAITING).bind(name).bind(None::<&str>);
        let rows = query.fetch_all(&self.pool).await.map_err(model_error)?;
        rows.iter().map(waiting).collect::<Result<_, _>>().map_err(model_error)
    }

    async fn find_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<BlockedStream>, StoreError> {
        let query = sqlx::query(WAITING).bind(name).bind(stream.as_str());
        let row = query.fetch_optional(&mut **transaction).await.map_err(model_error)?;
        row.as_ref().map(waiting).transpose().map_err(model_error)
    }

    async fn set_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        waiting: &BlockedStream,
    ) -> Result<(), StoreError> {
        sqlx::query(SET_WAITING)
            .bind(name)
            .bind(waiting.stream.as_str())
            .bind(bigint(waiting.version.get()))
            .bind(waiting.blockage_id)
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
        sqlx::query("delete from projection_waiting where name = $1 and stream_id = $2")
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
