//! The schema: creating, migrating and reading it.

use composable_rust_core::store::{Adoption, LogInfo, LogSecret};
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::PostgresEventStoreBuilder;
use crate::error::ConnectError;

/// The migrations that a database lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationPlan {
    /// The version of the database's schema; 0 if there is none.
    pub found: i32,
    /// The version that this program needs.
    pub needed: i32,
    /// The SQL of the migrations, as one transaction; empty if none is due.
    pub sql: String,
}

impl MigrationPlan {
    /// Returns `true` if no migration is due.
    pub fn is_done(&self) -> bool {
        self.sql.is_empty()
    }
}

/// The migrations; the one at index n leads to version n + 1. A released migration never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_tables.sql"),
    include_str!("../migrations/0002_append.sql"),
    include_str!("../migrations/0003_erase.sql"),
    include_str!("../migrations/0004_queues.sql"),
];

/// The advisory lock of migrations, so that one process migrates at a time. The number has no
/// meaning.
const MIGRATION_LOCK: i64 = 0x636f_6d70_6f73_6500;

/// Migrates the schema if the builder says so, and reads the log's settings. If no migration is
/// due, it only reads: the role of the service may have no other rights.
pub(crate) async fn open(
    connection: &mut PgConnection,
    builder: &PostgresEventStoreBuilder,
) -> Result<LogInfo, ConnectError> {
    let known = known_version();
    let mut found = version(connection).await.map_err(ConnectError::Schema)?;
    if builder.migrate
        && (found < known
            || found == known && !has_log(connection).await.map_err(ConnectError::Schema)?)
    {
        found = migrate(connection, builder).await?;
    }
    if found > known {
        let oldest = oldest_code(connection).await.map_err(ConnectError::Schema)?;
        if oldest > known {
            return Err(ConnectError::SchemaNewer { found, oldest, known });
        }
        tracing::info!(
            found,
            oldest,
            known,
            "the schema is newer than this program, which may use it"
        );
    }
    if found < known {
        return Err(ConnectError::SchemaOlder { found, needed: known });
    }
    settle_home(connection, builder.adopt).await?;
    raise_sequence(connection).await.map_err(ConnectError::Schema)?;
    read(connection).await
}

/// Returns the migrations that are due.
pub(crate) async fn plan(
    connection: &mut PgConnection,
    builder: &PostgresEventStoreBuilder,
) -> Result<MigrationPlan, ConnectError> {
    let needed = known_version();
    let found = version(connection).await.map_err(ConnectError::Schema)?;
    if found == 0 {
        refuse_foreign_tables(connection).await?;
    }
    if found > needed {
        let oldest = oldest_code(connection).await.map_err(ConnectError::Schema)?;
        if oldest > needed {
            return Err(ConnectError::SchemaNewer { found, oldest, known: needed });
        }
    }
    let has_log = found > 0 && has_log(connection).await.map_err(ConnectError::Schema)?;
    let sql = if found < needed || !has_log { sql_after(found, builder) } else { String::new() };
    Ok(MigrationPlan { found, needed, sql })
}

/// Returns the SQL of the migrations after a version, which does what [`migrate`] does.
fn sql_after(found: i32, builder: &PostgresEventStoreBuilder) -> String {
    let mut sql = format!(
        "begin;\nset local statement_timeout = 0;\n\
         select pg_advisory_xact_lock({MIGRATION_LOCK});\n"
    );
    if let Some(schema) = builder.schema.as_deref().map(quoted) {
        sql.push_str("create schema if not exists ");
        sql.push_str(&schema);
        sql.push_str(";\nset local search_path = ");
        sql.push_str(&schema);
        sql.push_str(";\n");
    }
    for (version, migration) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        let migration = migration.trim_end();
        let migration = format!("\n-- Migration {version}\n{migration}\n");
        sql.push_str(&migration);
    }
    sql + &format!("\nselect create_log({});\ncommit;\n", builder.partitions)
}

/// Raises the sequence of queue positions if it is behind the rows. Logical replication does not
/// copy sequences, so after a move to another server by it, positions would be drawn again, before
/// rows that wait.
async fn raise_sequence(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let (drawn, highest): (i64, i64) = sqlx::query_as(
        "select coalesce(pg_sequence_last_value('outbox_sequence'), 0), \
         greatest( \
             (select coalesce(max(sequence), 0) from outbox), \
             (select coalesce(max(sequence), 0) from dead_letters) \
         )",
    )
    .fetch_one(&mut *connection)
    .await?;
    if drawn < highest {
        tracing::warn!(drawn, highest, "outbox_sequence is behind the rows of queues; raising it");
        sqlx::query("select setval('outbox_sequence', greatest($1, nextval('outbox_sequence')))")
            .bind(highest)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Rejects the log of another database, unless it is to be adopted.
async fn settle_home(
    connection: &mut PgConnection,
    adopt: Option<Adoption>,
) -> Result<(), ConnectError> {
    if adopt == Some(Adoption::UndetectedCopy) {
        // The database has the original's identity.
        let forget = sqlx::query("update log set home = ''").execute(&mut *connection).await;
        forget.map_err(ConnectError::Schema)?;
    }
    let strange = "select home, log_home() from log where home <> log_home()";
    let strange: Option<(String, String)> = sqlx::query_as(strange)
        .fetch_optional(&mut *connection)
        .await
        .map_err(ConnectError::Schema)?;
    let Some((home, here)) = strange else { return Ok(()) };
    let Some(adoption) = adopt else { return Err(ConnectError::Copied { home, here }) };
    tracing::warn!(home, here, ?adoption, "adopting the log of another database");
    sqlx::query("select adopt_log($1)")
        .bind(adoption.is_copy())
        .execute(connection)
        .await
        .map_err(ConnectError::Schema)?;
    Ok(())
}

/// Returns the number of the last migration.
fn known_version() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// Returns the number of the last migration that the database has run; 0 if none.
async fn version(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    // Not `to_regproc`, which may answer from a cache that lacks what another process has just
    // committed.
    let there: bool = sqlx::query_scalar(
        "select exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where p.proname = 'event_store_schema_version' and n.nspname = any (current_schemas(false)))",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !there {
        return Ok(0);
    }
    sqlx::query_scalar("select event_store_schema_version()").fetch_one(connection).await
}

async fn has_log(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from log)").fetch_one(connection).await
}

/// Returns the oldest version that may use the schema, as the number of the last migration that it
/// knows.
async fn oldest_code(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("select event_store_oldest_code()").fetch_one(connection).await
}

/// Runs the migrations that the database has not run, all of them or none. Several processes may do
/// so at the same time. sqlx's own bookkeeping is not used: its table would be the application's as
/// well, and it lacks migrations that were run by hand.
async fn migrate(
    connection: &mut PgConnection,
    builder: &PostgresEventStoreBuilder,
) -> Result<i32, ConnectError> {
    let mut transaction = connection.begin().await.map_err(ConnectError::Schema)?;
    // Creating an index on a full table takes long.
    let no_limit = "set local statement_timeout = 0";
    transaction.execute(no_limit).await.map_err(ConnectError::Schema)?;
    // The schema is created before a statement looks for a schema to create tables in.
    create_schema(&mut transaction, builder).await.map_err(ConnectError::Schema)?;
    let found = version(&mut transaction).await.map_err(ConnectError::Schema)?;
    if found == 0 {
        refuse_foreign_tables(&mut transaction).await?;
    }
    let found = run(&mut transaction, found, builder).await.map_err(ConnectError::Schema)?;
    transaction.commit().await.map_err(ConnectError::Schema)?;
    Ok(found)
}

/// Creates the schema if it is missing. Looking first requires no right to create schemas.
async fn create_schema(
    transaction: &mut PgConnection,
    builder: &PostgresEventStoreBuilder,
) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(MIGRATION_LOCK)
        .execute(&mut *transaction)
        .await?;
    match &builder.schema {
        Some(schema) => ensure_schema(transaction, schema).await,
        None => Ok(()),
    }
}

/// Creates a schema if it is missing.
pub(crate) async fn ensure_schema(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<(), sqlx::Error> {
    let is_there: bool =
        sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)")
            .bind(schema)
            .fetch_one(&mut *connection)
            .await?;
    if !is_there {
        let create = format!("create schema {}", quoted(schema));
        connection.execute(create.as_str()).await?;
    }
    Ok(())
}

/// Rejects tables of other owners, which the migrations would take for their own.
async fn refuse_foreign_tables(transaction: &mut PgConnection) -> Result<(), ConnectError> {
    let foreign: Vec<(String, String)> = sqlx::query_as(
        "select n.nspname::text, c.relname::text from pg_class c \
         join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = current_schema() and c.relname = any ($1) order by c.relname",
    )
    .bind(tables())
    .fetch_all(transaction)
    .await
    .map_err(ConnectError::Schema)?;
    match foreign.first() {
        None => Ok(()),
        Some((schema, _)) => Err(ConnectError::ForeignTables {
            schema: schema.clone(),
            tables: foreign.iter().map(|(_, table)| table.clone()).collect(),
        }),
    }
}

/// Returns the names of the tables that the migrations create.
fn tables() -> Vec<&'static str> {
    let creations =
        MIGRATIONS.iter().flat_map(|sql| sql.split("create table if not exists ").skip(1));
    creations.filter_map(|rest| rest.split_whitespace().next()).collect()
}

async fn run(
    transaction: &mut PgConnection,
    found: i32,
    builder: &PostgresEventStoreBuilder,
) -> Result<i32, sqlx::Error> {
    for (version, sql) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        tracing::info!(version, "migrating the event store's schema");
        transaction.execute(sqlx::raw_sql(sql)).await?;
    }
    let found = version(transaction).await?;
    if found <= known_version() {
        sqlx::query("select create_log($1)")
            .bind(i32::from(builder.partitions))
            .execute(transaction)
            .await?;
    }
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

/// Returns a quoted SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::tables;

    #[test]
    fn the_tables_are_read_from_the_migrations() {
        let tables = tables();
        assert_eq!(tables.len(), 14);
        for name in ["log", "events", "outbox", "dead_letters", "pauses", "processes"] {
            assert!(tables.contains(&name), "{name} is not among {tables:?}");
        }
    }
}
