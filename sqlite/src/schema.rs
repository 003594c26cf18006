//! The schema of an event log: its application id, version and migrations.

use std::path::Path;
use std::time::{Duration, Instant};

use composable_rust_core::queue::Pause;
use composable_rust_core::store::{Adoption, LogInfo, LogSecret};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Executor as _, Row as _};
use uuid::Uuid;

use crate::error::{ConnectError, is_busy, is_not_a_database};
use crate::store::clock;

/// The application id, `CoRu`, by which the `file` command and SQLite identify the file's format.
const APPLICATION_ID: i64 = 0x436f_5275;

/// The migrations; the one at index n leads to schema version n + 1. A released migration never
/// changes.
const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001_event_store.sql")];

/// The hash from which partitions are computed; see `StreamId::partition`.
const HASH: &str = "xxh3-64";

/// The log to open.
pub(crate) struct ExpectedLog<'a> {
    pub(crate) path: &'a Path,
    /// The number of partitions, if the log is created.
    pub(crate) partitions: u16,
    /// `true` if the log is created and migrated.
    pub(crate) migrate: bool,
    pub(crate) adopt: Option<Adoption>,
}

/// Migrates the file to this code's schema, and reads the log's settings.
///
/// Any number of processes may do so at the same time: each check is repeated under the write lock.
pub(crate) async fn prepare(
    connection: &mut SqliteConnection,
    wanted: &ExpectedLog<'_>,
    busy_timeout: Duration,
) -> Result<LogInfo, ConnectError> {
    let (asked, path) = (Instant::now(), wanted.path);
    loop {
        match try_prepare(connection, wanted).await {
            // The change to write-ahead logging does not wait for locks.
            Err(SchemaError::Sqlite(error))
                if is_busy(&error) && asked.elapsed() < busy_timeout =>
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(log) => return Ok(log),
            Err(SchemaError::Open(error)) => return Err(error),
            Err(SchemaError::Sqlite(error)) => return Err(unavailable(path, error)),
        }
    }
}

/// Converts an error of SQLite while opening.
pub(crate) fn unavailable(path: &Path, error: sqlx::Error) -> ConnectError {
    let path = path.to_owned();
    if is_not_a_database(&error) {
        ConnectError::NotALog { path, reason: "it is no SQLite database" }
    } else {
        ConnectError::Unavailable { path, source: error.into() }
    }
}

enum SchemaError {
    Open(ConnectError),
    Sqlite(sqlx::Error),
}

impl From<sqlx::Error> for SchemaError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlite(error)
    }
}

async fn try_prepare(
    connection: &mut SqliteConnection,
    wanted: &ExpectedLog<'_>,
) -> Result<LogInfo, SchemaError> {
    let path = wanted.path;
    let latest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let mut found = schema_version(connection, path).await?;
    if found < latest && !wanted.migrate {
        let path = path.to_owned();
        return Err(SchemaError::Open(ConnectError::Older { path, found, needed: latest }));
    }
    // A file that `vacuum into` has written is in another mode.
    if wanted.migrate {
        let mode: String =
            sqlx::query_scalar("pragma journal_mode = wal").fetch_one(&mut *connection).await?;
        if mode != "wal" {
            return Err(SchemaError::Open(ConnectError::NoWal { path: path.to_owned() }));
        }
    }
    if found < latest {
        let mut transaction = connection.begin_with("begin immediate").await?;
        found = schema_version(&mut transaction, path).await?;
        migrate(&mut transaction, found, wanted).await?;
        transaction.commit().await?;
        found = schema_version(connection, path).await?;
    }
    if found > latest {
        let oldest: i64 =
            sqlx::query_scalar("select oldest_code from log").fetch_one(&mut *connection).await?;
        if oldest > latest {
            let path = path.to_owned();
            return Err(SchemaError::Open(ConnectError::Newer {
                path,
                found,
                oldest,
                known: latest,
            }));
        }
    }
    settle_home(connection, wanted).await?;
    read_log_info(connection, path).await
}

/// Returns the schema version of the file; 0 if the file is empty.
async fn schema_version(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<i64, SchemaError> {
    let row = sqlx::query(
        "select (select application_id from pragma_application_id), \
         (select user_version from pragma_user_version), (select count(*) from sqlite_schema)",
    )
    .fetch_one(connection)
    .await?;
    let (application, version, tables) =
        (row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?);
    match (application, version, tables) {
        (APPLICATION_ID, version, _) => Ok(version),
        (0, 0, 0) => Ok(0),
        _ => Err(SchemaError::Open(ConnectError::NotALog {
            path: path.to_owned(),
            reason: "it is a SQLite database of another program, or a read model: open the event \
                     store of a common file first",
        })),
    }
}

async fn migrate(
    connection: &mut SqliteConnection,
    found: i64,
    wanted: &ExpectedLog<'_>,
) -> Result<(), sqlx::Error> {
    let known = usize::try_from(found).unwrap_or(0);
    for sql in MIGRATIONS.iter().skip(known) {
        connection.execute(*sql).await?;
    }
    if MIGRATIONS.len() > known {
        let version = MIGRATIONS.len();
        let sql =
            format!("pragma application_id = {APPLICATION_ID}; pragma user_version = {version}");
        connection.execute(&*sql).await?;
    }
    if known == 0 {
        create_log(connection, wanted).await?;
    }
    Ok(())
}

async fn create_log(
    connection: &mut SqliteConnection,
    wanted: &ExpectedLog<'_>,
) -> Result<(), sqlx::Error> {
    let partitions = wanted.partitions;
    sqlx::query(
        "insert into log (only_row, log_id, hash, partition_count, secret, home, created_at) \
         values (1, ?, ?, ?, ?, ?, ?)",
    )
    .bind(Uuid::new_v4())
    .bind(HASH)
    .bind(i64::from(partitions))
    .bind(new_secret())
    .bind(home_of(wanted.path))
    .bind(clock().as_micros())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "with recursive n (n) as (values (0) union all select n + 1 from n where n + 1 < ?) \
         insert into partitions (partition) select n from n",
    )
    .bind(i64::from(partitions))
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the number of the file, on systems where files have one.
#[cfg(unix)]
fn home_of(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|file| format!("inode {}", file.ino()))
}

#[cfg(not(unix))]
fn home_of(_: &Path) -> Option<String> {
    None
}

/// Rejects the log of another file, unless it is to be adopted.
async fn settle_home(
    connection: &mut SqliteConnection,
    wanted: &ExpectedLog<'_>,
) -> Result<(), SchemaError> {
    let home: Option<String> =
        sqlx::query_scalar("select home from log").fetch_one(&mut *connection).await?;
    let (Some(home), Some(here)) = (home, home_of(wanted.path)) else { return Ok(()) };
    if home == here && wanted.adopt != Some(Adoption::UndetectedCopy) {
        return Ok(());
    }
    let Some(adoption) = wanted.adopt else {
        let path = wanted.path.to_owned();
        return Err(SchemaError::Open(ConnectError::Copied { path, home, here }));
    };
    let mut transaction = connection.begin_with("begin immediate").await?;
    let adopt = "update log set home = ? where home = ?";
    let adopted = sqlx::query(adopt).bind(here).bind(home).execute(&mut *transaction).await?;
    if adopted.rows_affected() > 0 && adoption.is_copy() {
        become_another(&mut transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Gives the log a new id and secret, and pauses it.
async fn become_another(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let old: Uuid =
        sqlx::query_scalar("select log_id from log").fetch_one(&mut *connection).await?;
    let new = Uuid::new_v4();
    let update = "update log set log_id = ?, secret = ?";
    sqlx::query(update).bind(new).bind(new_secret()).execute(&mut *connection).await?;
    let pause = "insert or ignore into pauses (name, since) values (?, ?)";
    sqlx::query(pause).bind(Pause::LOG).bind(clock().as_micros()).execute(&mut *connection).await?;
    // The processes of the original do not run here; its positions in topics stay valid.
    connection
        .execute("delete from members; delete from processes; update leases set holder = null")
        .await?;
    sqlx::query(
        "update checkpoints set name = 'bus/' || ? || substr(name, 41) \
         where substr(name, 1, 41) = 'bus/' || ? || '-'",
    )
    .bind(new.to_string())
    .bind(old.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns 244 random bits of the operating system.
fn new_secret() -> Vec<u8> {
    [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat()
}

async fn read_log_info(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<LogInfo, SchemaError> {
    let row = sqlx::query("select log_id, hash, partition_count, secret from log")
        .fetch_one(connection)
        .await?;
    let hash: &str = row.try_get(1)?;
    let partitions = u16::try_from(row.try_get::<i64, _>(2)?);
    let secret = <[u8; 32]>::try_from(row.try_get::<Vec<u8>, _>(3)?);
    match (hash, partitions, secret) {
        (HASH, Ok(partitions), Ok(secret)) => {
            let (id, secret) = (row.try_get(0)?, LogSecret::new(secret));
            Ok(LogInfo { id, partitions, secret })
        }
        _ => Err(SchemaError::Open(ConnectError::NotALog {
            path: path.to_owned(),
            reason: "its log table does not say how streams are partitioned",
        })),
    }
}
