//! Errors of opening a file, and the classification of SQLite's errors.

use std::error::Error;
use std::path::PathBuf;

use composable_rust_core::store::StoreError;

/// The reason for which an event log could not be opened or created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The file's folder is missing. Create it, or correct the path.
    #[error("there is no folder `{}` for the event log `{}`", folder.display(), path.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// The missing folder.
        folder: PathBuf,
    },
    /// The file is missing, and the builder was told [`migrate(false)`]. Correct the path, or start
    /// the program that creates the log.
    ///
    /// [`migrate(false)`]: crate::SqliteEventStoreBuilder::migrate
    #[error("there is no event log `{}`", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is empty or has an old schema, and the builder was told [`migrate(false)`]. Start
    /// the program that migrates the log.
    ///
    /// [`migrate(false)`]: crate::SqliteEventStoreBuilder::migrate
    #[error(
        "the event log `{}` has schema version {found}, this program needs {needed}: open it once \
         with a program that migrates it",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// The schema version of the file; 0 if it is empty.
        found: i64,
        /// The version that this program needs.
        needed: i64,
    },
    /// SQLite cannot open a file at this path. Choose another.
    #[error("`{}` cannot be an event log: {reason}", path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
        /// The reason.
        reason: &'static str,
    },
    /// The file has other content, and was not changed. Choose another path.
    #[error("`{}` is not an event log: {reason}", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
        /// The file's apparent content.
        reason: &'static str,
    },
    /// Newer code created or migrated the file, and this code is older than the oldest that may use
    /// it. Upgrade this program.
    #[error(
        "the event log `{}` has schema version {found}, which needs code that knows version {oldest}; \
         this program knows versions up to {known}: upgrade it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema version of the file.
        found: i64,
        /// The oldest code that may use the file, as the highest schema version that it knows.
        oldest: i64,
        /// The highest schema version that this code knows.
        known: i64,
    },
    /// The log belongs to another file, of which this one is a copy: a restored backup, a moved
    /// file. If this file continues the log, open it once with [`adopt(Adoption::Successor)`]; if
    /// the other does, with [`adopt(Adoption::Copy)`].
    ///
    /// Files are distinguished by their inode numbers on Unix. So a renamed file is not a copy, and
    /// a file that was overwritten in place is not detected.
    ///
    /// [`adopt(Adoption::Successor)`]: crate::SqliteEventStoreBuilder::adopt
    /// [`adopt(Adoption::Copy)`]: crate::SqliteEventStoreBuilder::adopt
    #[error(
        "`{}` is a copy: its log is at home in another file ({home}, this is {here}). Open it once \
         with adopt(Adoption::Successor), or run `composable adopt successor`, if the log goes on \
         here; with adopt(Adoption::Copy), or `composable adopt copy`, if this is to be a log of its \
         own",
        path.display()
    )]
    Copied {
        /// The file.
        path: PathBuf,
        /// The number of the log's file.
        home: String,
        /// The number of this file.
        here: String,
    },
    /// The file system cannot share memory between processes. Choose a local one.
    #[error(
        "`{}` is on a file system without the shared memory that write-ahead logging needs; use a local one",
        path.display()
    )]
    NoWal {
        /// The file.
        path: PathBuf,
    },
    /// The builder's number of partitions is not from 1 to
    /// [`MAX_PARTITIONS`](crate::MAX_PARTITIONS).
    #[error("an event log has 1 to {} partitions, not {count}", crate::MAX_PARTITIONS)]
    BadPartitions {
        /// The number.
        count: u16,
    },
    /// SQLite failed: no permission, disk full, locked for longer than the busy timeout. The source
    /// says which. A retry may succeed.
    #[error("cannot open the event log `{}`", path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

// Primary result codes, <https://www.sqlite.org/rescode.html>.
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_NOMEM: i32 = 7;
const SQLITE_INTERRUPT: i32 = 9;
const SQLITE_IOERR: i32 = 10;
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_PROTOCOL: i32 = 15;
const SQLITE_TOOBIG: i32 = 18;
const SQLITE_CONSTRAINT: i32 = 19;
const SQLITE_MISMATCH: i32 = 20;
const SQLITE_RANGE: i32 = 25;
const SQLITE_NOTADB: i32 = 26;

/// Converts an error of SQLite to the port's error.
pub(crate) fn store_error(error: sqlx::Error) -> StoreError {
    match primary_code(&error) {
        Some(SQLITE_CONSTRAINT | SQLITE_TOOBIG | SQLITE_MISMATCH | SQLITE_RANGE) => {
            StoreError::Invalid(error.to_string())
        }
        _ => StoreError::unavailable(error),
    }
}

/// Converts the error of a statement in a read model's transaction. An error that a retry would
/// meet again is `Invalid`, since its cause is what the projection wrote.
pub(crate) fn model_error(error: sqlx::Error) -> StoreError {
    if is_unavailable(&error) {
        StoreError::unavailable(error)
    } else {
        StoreError::Invalid(error.to_string())
    }
}

/// Returns `true` if another connection holds the lock.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(SQLITE_BUSY)
}

/// Returns `true` if a projection's error comes from a file that cannot be written now, not from
/// the projection.
pub(crate) fn is_unavailable(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    let Some(error) = causes.find_map(|error| error.downcast_ref::<sqlx::Error>()) else {
        return false;
    };
    match error {
        sqlx::Error::Database(_) => matches!(
            primary_code(error),
            Some(
                SQLITE_BUSY
                    | SQLITE_LOCKED
                    | SQLITE_NOMEM
                    | SQLITE_INTERRUPT
                    | SQLITE_IOERR
                    | SQLITE_FULL
                    | SQLITE_CANTOPEN
                    | SQLITE_PROTOCOL
            )
        ),
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Returns `true` if the file is not an SQLite database.
pub(crate) fn is_not_a_database(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(SQLITE_NOTADB)
}

/// The low byte of the extended result code that sqlx reports.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
