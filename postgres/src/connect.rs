//! Opening connections.

use std::io::ErrorKind;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _, PgConnection, Row as _};

use crate::error::ConnectError;
use crate::notify::HeadTracker;
use crate::pool::{Pool, PoolSettings};
use crate::session::{Session, SessionError, Sessions};
use crate::timeout::{LEASE_TIMEOUT, response_timeout};
use crate::writers::Writers;
use crate::{PostgresEventStore, PostgresEventStoreBuilder, migrate};

/// The oldest supported server, in the form of `server_version_num`.
const MIN_SERVER_VERSION: i32 = 150_000;

const SERVER: &str = "select current_setting('server_version_num')::int, \
     current_setting('server_version'), current_setting('server_encoding'), \
     coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false)";

pub(crate) async fn connect(
    builder: PostgresEventStoreBuilder,
) -> Result<PostgresEventStore, ConnectError> {
    let (options, wait) = (options(&builder)?, builder.acquire_timeout);
    let sessions = Arc::new(Sessions::new(options, settings(&builder), wait));
    let (mut first, second) = first_sessions(&sessions).await?;
    let log = migrate::open(&mut first.connection, &builder).await?;

    let writers = (builder.max_connections / 2).min(u32::from(log.partitions));
    let limit = response_timeout(builder.statement_timeout);
    let settings = PoolSettings { connections: 1, wait, limit, idle: builder.idle_timeout };
    let single = || {
        let limit = Some(limit.map_or(LEASE_TIMEOUT, |limit| limit.min(LEASE_TIMEOUT)));
        Pool::new(Arc::clone(&sessions), PoolSettings { limit, ..settings })
    };
    let readers = PoolSettings { connections: builder.max_connections - writers, ..settings };
    let readers = Pool::new(Arc::clone(&sessions), readers);
    readers.put(second);
    let writers = PoolSettings { connections: writers, ..settings };
    let writers = Writers::new(Arc::clone(&sessions), writers);
    writers.put(first);
    let (leases, notifier) = (single(), single());
    let heads = HeadTracker::new(log, sessions, notifier, builder.poll_interval);
    Ok(PostgresEventStore::new(log, readers, writers, leases, heads))
}

/// Returns the migrations that the database lacks.
pub(crate) async fn plan(
    builder: &PostgresEventStoreBuilder,
) -> Result<migrate::MigrationPlan, ConnectError> {
    let (options, wait) = (options(builder)?, builder.acquire_timeout);
    let sessions = Arc::new(Sessions::new(options, settings(builder), wait));
    let (mut first, _) = first_sessions(&sessions).await?;
    migrate::plan(&mut first.connection, builder).await
}

fn options(builder: &PostgresEventStoreBuilder) -> Result<PgConnectOptions, ConnectError> {
    // sqlx accepts any scheme.
    if !["postgres://", "postgresql://"].iter().any(|scheme| builder.url.starts_with(scheme)) {
        let source = sqlx::Error::Configuration("it does not start with postgres://".into());
        return Err(ConnectError::InvalidUrl(source));
    }
    let options: PgConnectOptions = builder.url.parse().map_err(ConnectError::InvalidUrl)?;
    Ok(options.disable_statement_logging())
}

/// Returns the settings of all sessions of the store.
///
/// A prepared plan is kept as long as the connection lives, and may have been made when the tables
/// were empty. So the planner is restricted to the plans that are right for full tables: an index
/// for every look-up. Rows arrive in the order of one process, hence no parallel workers.
fn settings(builder: &PostgresEventStoreBuilder) -> Vec<(&'static str, String)> {
    let timeout = builder.statement_timeout.as_millis().min(2_147_483_647);
    let mut settings: Vec<(&str, String)> = [
        ("default_transaction_isolation", "read committed"),
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
        // No notices about tables that exist already.
        ("client_min_messages", "warning"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    settings.push(("statement_timeout", timeout.to_string()));
    if let Some(schema) = &builder.schema {
        settings.push(("search_path", migrate::quoted(schema)));
    }
    settings
}

/// Opens two sessions at the same time, so that a pooler that shares one session among its clients
/// is detected.
async fn first_sessions(sessions: &Sessions) -> Result<(Session, Session), ConnectError> {
    let open = async || {
        let mut first = sessions.open().await?;
        let second = sessions.open().await?;
        first.check_now(sessions).await?;
        Ok((first, second))
    };
    let (mut first, second) = open().await.map_err(|error| connect_error(sessions, error))?;
    judge_server(&mut first.connection, sessions).await?;
    Ok((first, second))
}

fn connect_error(sessions: &Sessions, error: SessionError) -> ConnectError {
    let address = sessions.address();
    match error {
        SessionError::Driver(source) if is_about_encryption(&source) => {
            ConnectError::Tls { address, source }
        }
        SessionError::Driver(source) => ConnectError::Unreachable { address, source },
        SessionError::ReadOnly(address) => ConnectError::ReadOnly { address },
        SessionError::Shared(address) => ConnectError::SharedSession { address },
    }
}

/// Returns `true` for errors of encryption. A certificate that is not trusted is reported as
/// invalid data.
fn is_about_encryption(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() == ErrorKind::InvalidData,
        _ => false,
    }
}

async fn judge_server(
    connection: &mut PgConnection,
    sessions: &Sessions,
) -> Result<(), ConnectError> {
    let row = connection.fetch_one(SERVER).await.map_err(ConnectError::Schema)?;
    let text = |column: usize| row.try_get::<String, _>(column).map_err(ConnectError::Schema);
    if row.try_get::<i32, _>(0).map_err(ConnectError::Schema)? < MIN_SERVER_VERSION {
        return Err(ConnectError::ServerTooOld(text(1)?));
    }
    if text(2)? != "UTF8" {
        return Err(ConnectError::Encoding(text(2)?));
    }
    if sessions.may_be_unencrypted() && !row.try_get::<bool, _>(3).map_err(ConnectError::Schema)? {
        tracing::warn!(
            server = %sessions.address(),
            "the connection to PostgreSQL is not encrypted; set sslmode=verify-full in its URL"
        );
    }
    Ok(())
}
