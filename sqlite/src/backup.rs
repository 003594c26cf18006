//! Copies of a log in use.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use composable_rust_core::store::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use uuid::Uuid;

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
    /// A dropped call leaves no copy, and at most a file with the suffix `.partial`, to be deleted.
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
            return Err(exists(&path));
        }
        let partial = Partial::of(&path);
        self.vacuum_into(&partial.0).await.map_err(store_error)?;
        let named = tokio::task::spawn_blocking(move || name(&partial, &path));
        named.await.map_err(StoreError::unavailable)?
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

/// A copy under way, in a file of its own, which is deleted when it is dropped.
struct Partial(PathBuf);

impl Partial {
    fn of(path: &Path) -> Self {
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.partial", Uuid::new_v4()));
        Self(PathBuf::from(partial))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It has its name already, or is not needed.
        _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a complete copy to the disk, then gives it its name, which no other file has.
fn name(partial: &Partial, path: &Path) -> Result<u64, StoreError> {
    let unavailable = |error: std::io::Error| StoreError::unavailable(error);
    let file = std::fs::File::open(&partial.0).map_err(unavailable)?;
    file.sync_all().map_err(unavailable)?;
    match std::fs::hard_link(&partial.0, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(path)),
        // A file system without links, where a file that appears at this moment is replaced.
        Err(_) if path.exists() => return Err(exists(path)),
        Err(_) => std::fs::rename(&partial.0, path).map_err(unavailable)?,
    }
    // The name is on the disk when its folder is.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        std::fs::File::open(folder).and_then(|of| of.sync_all()).map_err(unavailable)?;
    }
    Ok(file.metadata().map_err(unavailable)?.len())
}

fn exists(path: &Path) -> StoreError {
    StoreError::Invalid(format!("`{}` exists", path.display()))
}
