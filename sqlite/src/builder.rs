//! Opening a store, and what can be chosen about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use composable_rust_core::{Adoption, DEFAULT_PARTITIONS};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};

use crate::connection::{Readers, Watcher, Writer};
use crate::error::ConnectError;
use crate::schema::{self, ExpectedLog};
use crate::store::SqliteEventStore;

/// The most partitions that a log in a file can have.
pub const MAX_PARTITIONS: u16 = 1_024;

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// For the disk to say that it has written: a commit survives power loss. The default.
    #[default]
    Full,
    /// For the operating system only. A commit survives the end of the process, not power loss,
    /// which can take the last commits with it; what is left is consistent. Several times faster
    /// where commits are small. Do not use it under a log that a bus or another system follows:
    /// they would remember what the log has forgotten.
    Normal,
}

/// Chooses how a [`SqliteEventStore`] is opened.
///
/// # Example: a log of three partitions that is read by many
///
/// ```
/// use composable_rust_core::EventStore;
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
            adopt: None,
        }
    }

    /// How many log partitions a log is created with, 1 to [`MAX_PARTITIONS`];
    /// [`DEFAULT_PARTITIONS`] unless chosen. It never changes: a log that is there already keeps
    /// its count, whatever is given here.
    pub fn partitions(mut self, count: u16) -> Self {
        self.partitions = count;
        self
    }

    /// How often whoever waits for events looks for what other processes have committed; 50 ms
    /// unless chosen. One look costs some 20 µs. Commits of this process are seen at once.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// How long a call waits for the lock while other processes write, before it is
    /// [`Unavailable`](composable_rust_core::StoreError::Unavailable); 10 s unless chosen.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How many connections read at the same time, at least 1; 4 unless chosen. Each is a thread
    /// and up to 2 MB of cache, opened when first needed.
    pub fn read_connections(mut self, count: usize) -> Self {
        self.read_connections = count.max(1);
        self
    }

    /// What a commit waits for.
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Says which log a copied file holds, where [`open`](Self::open) would refuse it with
    /// [`ConnectError::Copied`]; elsewhere it has no effect. Meant for one start, by hand: a program that
    /// always says so adopts every copy.
    pub fn adopt(mut self, adoption: Adoption) -> Self {
        self.adopt = Some(adoption);
        self
    }

    /// Opens the log, creating the file if there is none. Several processes may do so at once.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names the path and says what to do about it. A file that is not an event log
    /// is not touched.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave an empty file, or a complete log without events.
    pub async fn open(self) -> Result<SqliteEventStore, ConnectError> {
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return Err(ConnectError::BadPartitions { count: self.partitions });
        }
        let path = checked(&self.path)?;
        let options = self.options(&path);
        let opened = options.clone().create_if_missing(true).connect().await;
        let mut connection = opened.map_err(|error| schema::unavailable(&path, error))?;
        let wanted = ExpectedLog { path: &path, partitions: self.partitions, adopt: self.adopt };
        let log = schema::prepare(&mut connection, &wanted, self.busy_timeout).await?;
        let writer = Writer::new(
            options
                .clone()
                // In KiB. A batch that does not fit is written out before its commit.
                .pragma("cache_size", "-32768")
                // What is overwritten or deleted is zeroed in the file too: erasing means that.
                .pragma("secure_delete", "on"),
            self.busy_timeout,
        );
        let readers = Readers::new(options.clone(), self.read_connections);
        // It stays open: the last connection to close would lock the file for a moment.
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
            // 16 MiB instead of 4: pages that are written again and again are copied to the file
            // less often.
            .pragma("wal_autocheckpoint", "4096")
            // What a reader made the write-ahead log grow beyond this is given back.
            .pragma("journal_size_limit", "67108864")
            .statement_cache_capacity(256)
            .row_buffer_size(256)
            .disable_statement_logging()
    }
}

/// The absolute path, if a file can be there.
pub(crate) fn checked(path: &Path) -> Result<PathBuf, ConnectError> {
    let bad = |reason| Err(ConnectError::BadPath { path: path.to_owned(), reason });
    if path.as_os_str().is_empty() {
        return bad("the path is empty");
    }
    if path.as_os_str() == ":memory:" {
        return bad("an event log is a file");
    }
    // An absolute path is never taken for a URI, whatever characters it holds.
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
