//! Read models in PostgreSQL: transactions, checkpoints, states.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Checkpoint, EventId, ProjectionState, ReadModel, StoreError, StreamId, Version, WaitingStream,
};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{Executor as _, PgConnection, PgPool, Postgres, Row as _, Transaction};

use crate::error::{is_unavailable, store_error};
use crate::limit::MAX_AGE;
use crate::row::{bigint, unsigned};
use crate::session::{CHECK, Sessions};

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
const ADD: &str = "insert into projection_states (name) values ($1) on conflict do nothing";

const LOAD: &str = "select s.state, s.reason, c.partition, c.log_offset, c.event_id \
    from projection_states s left join projection_checkpoints c on c.name = s.name \
    where s.name = $1 order by c.partition";

const KNOWN: &str =
    "select partition, log_offset, epoch from projection_checkpoints where name = $1";

const MOVE: &str = "insert into projection_checkpoints as c \
    (name, partition, log_offset, event_id, epoch) \
    select $1, a.partition, a.log_offset, a.event_id, $2 \
    from unnest($3::integer[], $4::bigint[], $5::uuid[]) a(partition, log_offset, event_id) \
    on conflict (name, partition) do update set log_offset = excluded.log_offset, \
    event_id = excluded.event_id, epoch = excluded.epoch, updated_at = excluded.updated_at";

const SET_STATE: &str = "update projection_states set state = $2, reason = $3 \
    where name = $1 and ($4::text is null or (state = $4 and reason = $5))";

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

impl PostgresReadModel {
    /// Connects, with up to 8 connections. A transaction that is left alone for 30 seconds is ended
    /// by the server: its process is frozen, and holds up others.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: nobody answers, or the tables cannot be created.
    /// [`StoreError::Invalid`]: the URL is wrong, or newer code has migrated the tables.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        // sqlx would take any scheme.
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(StoreError::Invalid("the URL does not start with postgres://".to_owned()));
        }
        let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            StoreError::Invalid(format!("not a PostgreSQL URL: {error}"))
        })?;
        let settings = vec![("idle_in_transaction_session_timeout", FROZEN_AFTER.to_owned())];
        let sessions = Arc::new(Sessions::new(options, settings, ACQUIRE_TIMEOUT));
        // The pool would not say why there is no connection.
        sessions.open().await?;
        Self::with_pool(pool(&sessions)).await
    }

    /// Uses connections that are there; at least two, for whoever waits looks while another writes.
    /// Set `idle_in_transaction_session_timeout` on them: a frozen process holds up the others for
    /// as long.
    ///
    /// # Errors
    ///
    /// As [`PostgresReadModel::connect`].
    pub async fn with_pool(pool: PgPool) -> Result<Self, StoreError> {
        let model = Self { pool };
        model.migrate().await?;
        Ok(model)
    }

    /// The connections, to read with and to create tables with.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    async fn migrate(&self) -> Result<(), StoreError> {
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
        Ok(())
    }
}

/// Connections that are asked before each use whether they serve: a statement of a projection that
/// fails says nothing about that.
fn pool(sessions: &Arc<Sessions>) -> PgPool {
    let (opened, asked) = (Arc::clone(sessions), Arc::clone(sessions));
    PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(MAX_AGE)
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

/// Locks a projection for the rest of the transaction.
async fn lock(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    while sqlx::query(LOCK).bind(name).fetch_optional(&mut *connection).await?.is_none() {
        sqlx::query(ADD).bind(name).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn try_advance(
    connection: &mut PgConnection,
    name: &str,
    epoch: u64,
    moves: &[(u64, Checkpoint)],
) -> Result<bool, sqlx::Error> {
    lock(connection, name).await?;
    // A statement of its own: it sees what the lock was waited for.
    let known = sqlx::query(KNOWN).bind(name).fetch_all(&mut *connection).await?;
    let mut offsets = std::collections::BTreeMap::new();
    for row in &known {
        let (partition, offset) = (unsigned::<i32, u16>(row, 0)?, unsigned::<i64, u64>(row, 1)?);
        if unsigned::<i64, u64>(row, 2)? > epoch {
            return Ok(false);
        }
        offsets.insert(partition, offset);
    }
    let at = |partition| offsets.get(&partition).copied().unwrap_or(0);
    if moves.iter().any(|(from, to)| at(to.partition) != *from) {
        return Ok(false);
    }
    if !moves.is_empty() {
        let partitions: Vec<i32> = moves.iter().map(|(_, to)| i32::from(to.partition)).collect();
        let offsets: Vec<i64> = moves.iter().map(|(_, to)| bigint(to.offset)).collect();
        let ids: Vec<_> = moves.iter().map(|(_, to)| to.event_id.map(|id| id.0)).collect();
        sqlx::query(MOVE)
            .bind(name)
            .bind(bigint(epoch))
            .bind(partitions)
            .bind(offsets)
            .bind(ids)
            .execute(connection)
            .await?;
    }
    Ok(true)
}

async fn try_forget(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    lock(connection, name).await?;
    for sql in [
        "delete from projection_checkpoints where name = $1",
        "delete from projection_waiting where name = $1",
        "update projection_states set state = 'rebuilding', reason = '' where name = $1",
    ] {
        sqlx::query(sql).bind(name).execute(&mut *connection).await?;
    }
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

fn loaded(rows: &[PgRow]) -> Result<(Vec<Checkpoint>, ProjectionState), sqlx::Error> {
    let state = rows.first().map(state).transpose()?.unwrap_or_default();
    let mut checkpoints = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<Option<i32>, _>(2)?.is_some() {
            checkpoints.push(Checkpoint {
                partition: unsigned::<i32, u16>(row, 2)?,
                offset: unsigned::<i64, u64>(row, 3)?,
                event_id: row.try_get::<Option<_>, _>(4)?.map(EventId),
            });
        }
    }
    Ok((checkpoints, state))
}

fn waiting(row: &PgRow) -> Result<WaitingStream, sqlx::Error> {
    let stream: String = row.try_get(0)?;
    let stream = stream.parse().map_err(|source| sqlx::Error::ColumnDecode {
        index: "stream_id".to_owned(),
        source: Box::new(source),
    })?;
    let version = Version::new(unsigned::<i64, u64>(row, 1)?);
    Ok(WaitingStream { stream, version, ticket: row.try_get(2)? })
}

impl ReadModel for PostgresReadModel {
    type Connection = PgConnection;
    type Transaction = Transaction<'static, Postgres>;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        self.pool.begin_with(BEGIN).await.map_err(store_error)
    }

    async fn commit(&self, transaction: Self::Transaction) -> Result<(), StoreError> {
        transaction.commit().await.map_err(store_error)
    }

    async fn load(&self, name: &str) -> Result<(Vec<Checkpoint>, ProjectionState), StoreError> {
        let rows = sqlx::query(LOAD).bind(name).fetch_all(&self.pool).await.map_err(store_error)?;
        loaded(&rows).map_err(store_error)
    }

    async fn advance(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        epoch: u64,
        moves: &[(u64, Checkpoint)],
    ) -> Result<bool, StoreError> {
        try_advance(transaction, name, epoch, moves).await.map_err(store_error)
    }

    async fn forget(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
    ) -> Result<(), StoreError> {
        try_forget(transaction, name).await.map_err(store_error)
    }

    async fn set_state(
        &self,
        name: &str,
        from: Option<&ProjectionState>,
        to: &ProjectionState,
    ) -> Result<bool, StoreError> {
        let (to, from) = (columns(to), from.map(columns));
        sqlx::query(ADD).bind(name).execute(&self.pool).await.map_err(store_error)?;
        let changed = sqlx::query(SET_STATE)
            .bind(name)
            .bind(to.0)
            .bind(to.1)
            .bind(from.map(|from| from.0))
            .bind(from.map(|from| from.1))
            .execute(&self.pool)
            .await
            .map_err(store_error)?;
        Ok(changed.rows_affected() > 0)
    }

    async fn waiting(&self, name: &str) -> Result<Vec<WaitingStream>, StoreError> {
        let query = sqlx::query(WAITING).bind(name).bind(None::<&str>);
        let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
        rows.iter().map(waiting).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn find_waiting(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<WaitingStream>, StoreError> {
        lock(transaction, name).await.map_err(store_error)?;
        let query = sqlx::query(WAITING).bind(name).bind(stream.as_str());
        let row = query.fetch_optional(&mut **transaction).await.map_err(store_error)?;
        row.as_ref().map(waiting).transpose().map_err(store_error)
    }

    async fn set_waiting(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        waiting: &WaitingStream,
    ) -> Result<(), StoreError> {
        sqlx::query(SET_WAITING)
            .bind(name)
            .bind(waiting.stream.as_str())
            .bind(bigint(waiting.version.get()))
            .bind(waiting.ticket)
            .execute(&mut **transaction)
            .await
            .map_err(store_error)?;
        Ok(())
    }

    async fn end_waiting(
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
            .map_err(store_error)?;
        Ok(())
    }

    fn is_unavailable(&self, error: &(dyn Error + 'static)) -> bool {
        is_unavailable(error)
    }
}
