//! Copies of a log in use.

use std::path::{Path, PathBuf};
use std::time::Duration;

use composable_rust_core::store::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::error::store_error;
use crate::store::SqliteEventStore;

/// The time for which a backup waits for the locks of other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

impl SqliteEventStore {
    /// Copies the log to a file, as it is at one moment, while processes work on it. Returns the
    /// number of bytes of the copy.
    ///
    /// The file appears under its name when it is complete and on the disk. To use it, open it with
    /// [`adopt`](crate::SqliteEventStoreBuilder::adopt): it is a copy of the log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`]: the file exists, or the path cannot be that of a file.
    /// [`StoreError::Unavailable`]: the disk is full, or the log cannot be read.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave a file with the suffix `.partial`, which the next call replaces.
    ///
    /// # Example: a backup before a deployment
    ///
    /// ```
    /// use composable_rust_core::store::{Adoption, EventStore};
    /// use composable_rust_sqlite::SqliteEventStore;
    ///
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// let store = SqliteEventStore::open(folder.path().join("orders.db")).await?;
    /// let copy = folder.path().join("backup.db");
    /// assert!(store.back_up(&copy).await? > 0);
    /// let restored = SqliteEventStore::builder(&copy).adopt(Adoption::Successor).open().await?;
    /// assert_eq!(restored.log().id, store.log().id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn back_up(&self, to: impl AsRef<Path>) -> Result<u64, StoreError> {
        let to = to.as_ref();
        let path = crate::builder::checked(to).map_err(|of| StoreError::Invalid(of.to_string()))?;
        if path.exists() {
            return Err(StoreError::Invalid(format!("`{}` exists", path.display())));
        }
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        if partial.exists() {
            std::fs::remove_file(&partial).map_err(StoreError::unavailable)?;
        }
        self.vacuum_into(&partial).await.map_err(store_error)?;
        sync(partial, path).await
    }

    async fn vacuum_into(&self, path: &Path) -> Result<(), sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(self.path())
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let mut connection: SqliteConnection = options.connect().await?;
        let path = path.to_string_lossy().into_owned();
        sqlx::query("vacuum into ?").bind(path).execute(&mut connection).await?;
        connection.close().await
    }
}

/// Writes a complete copy to the disk, then gives it its name.
async fn sync(partial: PathBuf, path: PathBuf) -> Result<u64, StoreError> {
    let written = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(&partial)?;
        file.sync_all()?;
        std::fs::rename(&partial, &path)?;
        Ok::<_, std::io::Error>(file.metadata()?.len())
    });
    written.await.map_err(StoreError::unavailable)?.map_err(StoreError::unavailable)
}
