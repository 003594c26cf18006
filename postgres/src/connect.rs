//! Opening connections.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::error::ConnectError;
use crate::limit::{MAX_IDLE, answer_limit};
use crate::notify::Tail;
use crate::readers::Readers;
use crate::writers::Writers;
use crate::{PostgresEventStore, PostgresEventStoreBuilder, migrate};

/// The oldest server that is tested against, as `server_version_num` has it.
const OLDEST_SERVER: i32 = 150_000;

pub(crate) async fn connect(
    builder: PostgresEventStoreBuilder,
) -> Result<PostgresEventStore, ConnectError> {
    let options = options(&builder)?;
    let mut connection = first_connection(&options, builder.acquire_timeout).await?;
    let log = migrate::open(&mut connection, &builder).await?;

    let writers = (builder.max_connections / 2).min(u32::from(log.partitions));
    let pool = PgPoolOptions::new()
        .max_connections(builder.max_connections - writers)
        .acquire_timeout(builder.acquire_timeout)
        // Waiting for one's turn is how a burst of loads is held back, not a fault.
        .acquire_slow_threshold(builder.acquire_timeout)
        .idle_timeout(MAX_IDLE)
        .test_before_acquire(false)
        .connect_lazy_with(options.clone());
    let limit = answer_limit(builder.statement_timeout);
    let tail = Tail::new(log, options.clone(), builder.poll_interval);
    let writers = Writers::new(options, writers, builder.acquire_timeout, limit, connection);
    Ok(PostgresEventStore::new(log, Readers::new(pool, limit), writers, tail))
}

/// What every connection of the store has in common.
///
/// A prepared plan is kept for as long as the connection lives, and it may have been made when the
/// tables were empty. So the planner is held to the plans that are right for full tables: an index
/// for every look-up. Rows arrive in the order of one process, hence no parallel workers.
fn options(builder: &PostgresEventStoreBuilder) -> Result<PgConnectOptions, ConnectError> {
    // sqlx would take any scheme.
    if !["postgres://", "postgresql://"].iter().any(|scheme| builder.url.starts_with(scheme)) {
        let source = sqlx::Error::Configuration("it does not start with postgres://".into());
        return Err(ConnectError::InvalidUrl(source));
    }
    let mut options: PgConnectOptions = builder.url.parse().map_err(ConnectError::InvalidUrl)?;
    let timeout = builder.statement_timeout.as_millis().min(2_147_483_647);
    options = options
        .options([
            ("default_transaction_isolation", r"read\ committed"),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("max_parallel_workers_per_gather", "0"),
            ("jit", "off"),
        ])
        .options([("statement_timeout", timeout)])
        .disable_statement_logging();
    if let Some(schema) = &builder.schema {
        options = options.options([("search_path", escaped(&migrate::quoted(schema)))]);
    }
    if options.get_application_name().is_none() {
        options = options.application_name("composable-rust");
    }
    Ok(options)
}

/// A value among the start-up options, which blanks of any kind separate.
fn escaped(value: &str) -> String {
    let needs_escape = |c: char| c == '\\' || c.is_ascii_whitespace() || c == '\x0b';
    value.chars().flat_map(|c| needs_escape(c).then_some('\\').into_iter().chain([c])).collect()
}

async fn first_connection(
    options: &PgConnectOptions,
    limit: Duration,
) -> Result<PgConnection, ConnectError> {
    let attempt = tokio::time::timeout(limit, PgConnection::connect_with(options)).await;
    let unreachable = |source| ConnectError::Unreachable { address: address(options), source };
    let mut connection =
        attempt.map_err(|_| unreachable(sqlx::Error::PoolTimedOut))?.map_err(unreachable)?;
    // No warnings about tables that are already there.
    connection.execute("set client_min_messages = warning").await.map_err(ConnectError::Schema)?;
    let (number, text, encoding): (i32, String, String) = sqlx::query_as(
        "select current_setting('server_version_num')::int, current_setting('server_version'), \
             current_setting('server_encoding')",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(ConnectError::Schema)?;
    if number < OLDEST_SERVER {
        return Err(ConnectError::ServerTooOld(text));
    }
    if encoding != "UTF8" {
        return Err(ConnectError::Encoding(encoding));
    }
    Ok(connection)
}

fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
