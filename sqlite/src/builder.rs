//! The builder of the store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use composable_rust_core::store::{Adoption, DEFAULT_PARTITIONS};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};

use crate::connection::{Readers, Watcher, Writer};
use crate::error::ConnectError;
use crate::schema::{self, ExpectedLog};
use crate::store::SqliteEventStore;

/// The maximum number of partitions of a log in a file.
pub const MAX_PARTITIONS: u16 = 1_024;

/// The moment at which a commit is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// When the disk reports the write: a commit survives power loss. The default.
    #[default]
    Full,
    /// When the operating system has the write. A commit survives the end of the process, but not a
    /// power loss, which can take the last commits with it; the rest is consistent. Several times
    /// faster for small commits. Do not use it under a log that a bus or another system follows,
    /// which would know events that the log has lost.
    Normal,
}

/// A builder of a [`SqliteEventStore`].
///
/// # Example: a log of three partitions that is read by many
///
/// ```
/// use composable_rust_core::store::EventStore;
/// use composable_rust_sqlite::SqliteEventStore;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.db");
/// let store = SqliteEventStore::builder(path).partitions(3).read_connections(8).open().await?;
/// assert_eq!(store.log().partitions, 3);
/// # Ok(())
/// # })
/// # .map_err(|e: Box<dyn std::error::Error>| e)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct SqliteEventStoreBuilder {
    path: PathBuf,
    partitions: u16,
    poll_interval: Duration,
    busy_timeout: Duration,
    read_connections: usize,
    synchronous: Synchronous,
    migrate: bool,
    adopt: Option<Adoption>,
}

impl SqliteEventStoreBuilder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            partitions: DEFAULT_PARTITIONS,
            poll_interval: Duration::from_millis(50),
            busy_timeout: Duration::from_secs(10),
            read_connections: 4,
            synchronous: Synchronous::Full,
            migrate: true,
            adopt: None,
        }
    }

    /// The number of log partitions of a new log, from 1 to [`MAX_PARTITIONS`]. Default:
    /// [`DEFAULT_PARTITIONS`]. It never changes; for a log that exists, its own number is used.
    pub fn partitions(mut self, count: u16) -> Self {
        self.partitions = count;
        self
    }

    /// The poll interval for commits of other processes. Default: 50 milliseconds. One poll costs
    /// some 20 µs. A commit of this process is noticed at once.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// The timeout of a call that waits for the write lock of other processes, after which the
    /// result is [`Unavailable`](composable_rust_core::store::StoreError::Unavailable). Default: 10
    /// seconds.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// The number of connections that read, at least 1. Default: 4. Each is a thread and up to 2 MB
    /// of cache, opened when first needed.
    pub fn read_connections(mut self, count: usize) -> Self {
        self.read_connections = count.max(1);
        self
    }

    /// The moment at which a commit is complete. Default: [`Synchronous::Full`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// `true` if the store creates and migrates the file. Default: `true`. With `false`, a missing
    /// file is [`ConnectError::NoFile`], and one of an older schema [`ConnectError::Older`].
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Decides which log a copied file contains, where [`open`](Self::open) would return
    /// [`ConnectError::Copied`]; elsewhere only
    /// [`Adoption::UndetectedCopy`] has an effect. Meant for one start, by hand: a program that
    /// always sets it adopts every copy.
    pub fn adopt(mut self, adoption: Adoption) -> Self {
        self.adopt = Some(adoption);
        self
    }

    /// Opens the log, creating the file if it is missing and [`migrate`](Self::migrate) allows it.
    /// Several processes may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names the path and says what to do. A file that is not an event log is not
    /// changed.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave an empty file, or a complete log without events.
    pub async fn open(self) -> Result<SqliteEventStore, ConnectError> {
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return Err(ConnectError::BadPartitions { count: self.partitions });
        }
        let path = checked(&self.path)?;
        if !self.migrate && !path.exists() {
            return Err(ConnectError::NoFile { path });
        }
        let options = self.options(&path);
        let opened = options.clone().create_if_missing(self.migrate).connect().await;
        let mut connection = opened.map_err(|error| schema::unavailable(&path, error))?;
        let wanted = ExpectedLog {
            path: &path,
            partitions: self.partitions,
            migrate: self.migrate,
            adopt: self.adopt,
        };
        let log = schema::prepare(&mut connection, &wanted, self.busy_timeout).await?;
        let writer = Writer::new(
            options
                .clone()
                // In KiB. A batch that does not fit is written to the file before its commit.
                .pragma("cache_size", "-32768")
                // Overwritten and deleted content is zeroed in the file too, as erasing requires.
                .pragma("secure_delete", "on"),
            self.busy_timeout,
        );
        let readers = Readers::new(options.clone(), self.read_connections);
        // This connection stays open: closing the last one would lock the file for a moment.
        let watcher = Watcher::new(connection, options, self.poll_interval);
        Ok(SqliteEventStore::new(path, log, writer, readers, watcher))
    }

    fn options(&self, path: &Path) -> SqliteConnectOptions {
        let synchronous = match self.synchronous {
            Synchronous::Full => SqliteSynchronous::Full,
            Synchronous::Normal => SqliteSynchronous::Normal,
        };
        SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(self.busy_timeout)
            .synchronous(synchronous)
            // On macOS a plain fsync does not reach the disk.
            .pragma("fullfsync", "on")
            .pragma("checkpoint_fullfsync", "on")
            // 16 MiB instead of 4: pages that are written repeatedly are copied to the file less
            // often.
            .pragma("wal_autocheckpoint", "4096")
            // A write-ahead log that grew beyond this because of a reader is truncated.
            .pragma("journal_size_limit", "67108864")
            .statement_cache_capacity(256)
            .row_buffer_size(256)
            .disable_statement_logging()
    }
}

/// Returns the absolute path if it can be a file's.
pub(crate) fn checked(path: &Path) -> Result<PathBuf, ConnectError> {
    let bad = |reason| Err(ConnectError::BadPath { path: path.to_owned(), reason });
    if path.as_os_str().is_empty() {
        return bad("the path is empty");
    }
    if path.as_os_str() == ":memory:" {
        return bad("an event log is a file");
    }
    // An absolute path is never taken for a URI, with any characters in it.
    let Ok(absolute) = std::path::absolute(path) else { return bad("the path is not complete") };
    if absolute.to_str().is_none_or(|text| text.contains('\0')) {
        return bad("SQLite needs a path in UTF-8 without NUL");
    }
    if absolute.is_dir() {
        return bad("it is a folder");
    }
    match absolute.parent() {
        Some(folder) if !folder.is_dir() => {
            Err(ConnectError::NoFolder { folder: folder.to_owned(), path: absolute })
        }
        _ => Ok(absolute),
    }
}
