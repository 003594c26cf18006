//! Creating, migrating and reading the schema.

use composable_rust_core::{LogInfo, LogSecret};
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::PostgresEventStoreBuilder;
use crate::error::ConnectError;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Only one process migrates at a time. The number has no meaning.
const MIGRATION_LOCK: i64 = 0x636f_6d70_6f73_6500;

/// Brings the schema up to date if asked to, and reads what is fixed about the log.
pub(crate) async fn open(
    connection: &mut PgConnection,
    builder: &PostgresEventStoreBuilder,
) -> Result<LogInfo, ConnectError> {
    let known = known_version();
    let mut found = version(connection).await.map_err(ConnectError::Schema)?;
    if found <= known && builder.migrate {
        found = migrate(connection, builder).await.map_err(ConnectError::Schema)?;
    }
    if found > known {
        return Err(ConnectError::SchemaNewer { found, known });
    }
    if found < known {
        return Err(ConnectError::SchemaOlder { found, needed: known });
    }
    read(connection).await
}

/// The number of the last migration.
fn known_version() -> i32 {
    let last = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    i32::try_from(last).unwrap_or(i32::MAX)
}

/// The number of the last migration that the database has seen; 0 if none.
async fn version(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let there: bool =
        sqlx::query_scalar("select to_regproc('event_store_schema_version') is not null")
            .fetch_one(&mut *connection)
            .await?;
    if !there {
        return Ok(0);
    }
    sqlx::query_scalar("select event_store_schema_version()").fetch_one(connection).await
}

/// Runs what the database has not seen yet; all of it or nothing. Several processes may do so at
/// once. sqlx's own bookkeeping is not used: its table would be the application's as well, and
/// migrations that were run by hand are not in it.
async fn migrate(
    connection: &mut PgConnection,
    builder: &PostgresEventStoreBuilder,
) -> Result<i32, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // The schema is created before anything looks for a place to create tables in.
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(MIGRATION_LOCK)
        .execute(&mut *transaction)
        .await?;
    if let Some(schema) = &builder.schema {
        let create = format!("create schema if not exists {}", quoted(schema));
        transaction.execute(create.as_str()).await?;
    }
    let found = version(&mut transaction).await?;
    for migration in MIGRATIONS.iter().filter(|m| m.version > i64::from(found)) {
        tracing::info!(version = migration.version, "migrating the event store's schema");
        transaction.execute(sqlx::raw_sql(&migration.sql)).await?;
    }
    let found = version(&mut transaction).await?;
    if found <= known_version() {
        sqlx::query("select create_log($1)")
            .bind(i32::from(builder.partitions))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(found)
}

async fn read(connection: &mut PgConnection) -> Result<LogInfo, ConnectError> {
    let log: Option<(Uuid, String, i16, i64, Vec<u8>)> = sqlx::query_as(
        "select log_id, hash, partition_count, (select count(*) from partitions), secret from log",
    )
    .fetch_optional(connection)
    .await
    .map_err(ConnectError::Schema)?;
    let Some((id, hash, partitions, rows, secret)) = log else {
        return Err(ConnectError::Partitions(
            "the schema is there but the log is not: run `select create_log(8)`".to_owned(),
        ));
    };
    if hash != "xxh3-64" {
        return Err(ConnectError::UnknownHash(hash));
    }
    if i64::from(partitions) != rows {
        return Err(ConnectError::Partitions(format!(
            "the log has {partitions} partitions, but the table `partitions` has {rows} rows"
        )));
    }
    let partitions = u16::try_from(partitions).map_err(|_| {
        ConnectError::Partitions(format!("a log cannot have {partitions} partitions"))
    })?;
    let secret = secret.try_into().map_err(|_| {
        ConnectError::Partitions("the secret in the table `log` must have 32 bytes".to_owned())
    })?;
    Ok(LogInfo { id, partitions, secret: LogSecret::new(secret) })
}

/// An SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
