//! Why a file cannot be opened, and which of SQLite's errors are final.

use std::error::Error;
use std::path::PathBuf;

use composable_rust_core::StoreError;

/// Why an event log could not be opened or created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The folder that the file belongs in is not there. Create it, or correct the path.
    #[error("there is no folder `{}` for the event log `{}`", folder.display(), path.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// The folder that is missing.
        folder: PathBuf,
    },
    /// This is no path of a file that SQLite can open. Choose another.
    #[error("`{}` cannot be an event log: {reason}", path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file holds something else, and was left as it is. Choose another path.
    #[error("`{}` is not an event log: {reason}", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        reason: &'static str,
    },
    /// Newer code has created or migrated the file, and older code than it names may not use it.
    /// Upgrade this program.
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
    /// The file is a copy of the one that the log is at home in: a restored backup, a moved file. If
    /// the log goes on here, open it once with [`adopt(Adoption::Successor)`]; if it goes on there,
    /// with [`adopt(Adoption::Copy)`].
    ///
    /// Files are told apart by the numbers that Unix systems give them (inodes), so that a file which
    /// was renamed is no copy, and one which was overwritten in place is not noticed.
    ///
    /// [`adopt(Adoption::Successor)`]: crate::Builder::adopt
    /// [`adopt(Adoption::Copy)`]: crate::Builder::adopt
    #[error(
        "`{}` is a copy: its log is at home in another file ({home}, this is {here}). Open it once \
         with adopt(Adoption::Successor) if the log goes on here, or with adopt(Adoption::Copy) if \
         this is to be a log of its own",
        path.display()
    )]
    Copied {
        /// The file.
        path: PathBuf,
        /// The log's file, as the system numbers it.
        home: String,
        /// This file, as the system numbers it.
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
    /// The builder was given a count of partitions outside 1 to
    /// [`MAX_PARTITIONS`](crate::MAX_PARTITIONS).
    #[error("an event log has 1 to {} partitions, not {count}", crate::MAX_PARTITIONS)]
    BadPartitions {
        /// What it was given.
        count: u16,
    },
    /// SQLite failed: no permission, disk full, locked for longer than the busy timeout. The source
    /// says which; trying again may help.
    #[error("cannot open the event log `{}`", path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
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

/// What the port calls an error of SQLite.
pub(crate) fn store_error(error: sqlx::Error) -> StoreError {
    match primary_code(&error) {
        Some(SQLITE_CONSTRAINT | SQLITE_TOOBIG | SQLITE_MISMATCH | SQLITE_RANGE) => {
            StoreError::Invalid(error.to_string())
        }
        _ => StoreError::unavailable(error),
    }
}

/// What a failed statement of a read model's transaction means: whatever does not pass by itself is
/// refused, for it comes from what the projection wrote.
pub(crate) fn model_error(error: sqlx::Error) -> StoreError {
    if is_unavailable(&error) {
        StoreError::unavailable(error)
    } else {
        StoreError::Invalid(error.to_string())
    }
}

/// Whether another connection holds the lock.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(SQLITE_BUSY)
}

/// Whether an error of a projection comes from a file that cannot be written now, and not from what
/// the projection does.
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

/// Whether the file is no SQLite database.
pub(crate) fn is_not_a_database(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(SQLITE_NOTADB)
}

/// The low byte of the extended result code that sqlx reports.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
