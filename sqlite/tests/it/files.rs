//! Files, folders and other content at the log's path.

use std::fs;
use std::path::Path;

use composable_rust_core::store::{DEFAULT_PARTITIONS, EventStore, ExpectedVersion};
use composable_rust_sqlite::{ConnectError, MAX_PARTITIONS, SqliteEventStore};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use crate::make::{append, commit, load};

#[tokio::test]
async fn unusual_file_names_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let odd = [
        "with spaces.db",
        "what?.db",
        "a#b.db",
        "100%25.db",
        "ünïcödé-😀.db",
        "it's \"quoted\".db",
        "file:x?mode=memory",
        ":memory:x",
        "back\\slash",
        "no-extension",
        "-dash",
        "*.db",
    ];
    for name in odd {
        let path = folder.path().join(name);
        let store = SqliteEventStore::open(&path).await.unwrap();
        commit(&store, &append("1", ExpectedVersion::EMPTY, 1)).await;
        assert!(path.is_file(), "{name} is not there");
        drop(store);
        let store = SqliteEventStore::open(&path).await.unwrap();
        assert_eq!(load(&store, "1").await.len(), 1, "{name}");
    }
    let names = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name());
    for name in names.map(|name| name.into_string().unwrap()) {
        let stem = name.strip_suffix("-wal").or(name.strip_suffix("-shm")).unwrap_or(&name);
        assert!(odd.contains(&stem), "{name} is left behind");
    }
}

#[tokio::test]
async fn a_relative_path_is_below_the_working_folder() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let path = Path::new(".").join(folder.path().file_name().unwrap()).join("log.db");
    let store = SqliteEventStore::open(&path).await.unwrap();
    assert!(store.path().is_absolute());
    assert!(path.is_file());
}

#[tokio::test]
async fn the_number_of_partitions_is_fixed_at_creation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let created = SqliteEventStore::builder(&path).partitions(3).open().await.unwrap();
    let again = SqliteEventStore::builder(&path).partitions(5).open().await.unwrap();
    assert_eq!((created.log(), created.log().partitions), (again.log(), 3));

    let default = SqliteEventStore::open(folder.path().join("default.db")).await.unwrap();
    assert_eq!(default.log().partitions, DEFAULT_PARTITIONS);
    assert_ne!(default.log().id, created.log().id);
    assert_ne!(default.log().secret, created.log().secret);
}

#[tokio::test]
async fn the_number_of_partitions_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    for count in [0, MAX_PARTITIONS + 1] {
        let path = folder.path().join(count.to_string());
        let opened = SqliteEventStore::builder(&path).partitions(count).open().await;
        assert!(matches!(opened, Err(ConnectError::BadPartitions { count: c }) if c == count));
        assert!(!path.exists());
    }
    let most = SqliteEventStore::builder(folder.path().join("most")).partitions(MAX_PARTITIONS);
    let most = most.open().await.unwrap();
    let heads = most.heads().await.unwrap();
    assert_eq!(heads.len(), usize::from(MAX_PARTITIONS));
    assert_eq!(most.read_log(&heads, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/log.db");
    let error = SqliteEventStore::open(&path).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoFolder { .. }), "{error:?}");
    let missing = folder.path().join("no/such");
    assert!(error.to_string().contains(&format!("no folder `{}`", missing.display())), "{error}");
}

#[tokio::test]
async fn a_path_that_is_no_file_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    for path in [Path::new(""), Path::new(":memory:"), folder.path(), Path::new("a\0b")] {
        let error = SqliteEventStore::open(path).await.unwrap_err();
        assert!(matches!(error, ConnectError::BadPath { .. }), "{path:?}: {error:?}");
    }
}

#[tokio::test]
async fn files_with_other_content_are_rejected_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    fs::write(&text, "remember the milk, and that this is no database ".repeat(100)).unwrap();
    let foreign = folder.path().join("foreign.db");
    let mut connection = plain(&foreign).await;
    connection.execute("create table milk (litres integer)").await.unwrap();
    connection.close().await.unwrap();

    for path in [text, foreign] {
        let before = fs::read(&path).unwrap();
        let error = SqliteEventStore::open(&path).await.unwrap_err();
        assert!(matches!(error, ConnectError::NotALog { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn a_newer_schema_is_rejected_unless_it_admits_this_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    drop(SqliteEventStore::open(&path).await.unwrap());
    let mut connection = plain(&path).await;
    connection.execute("pragma user_version = 99").await.unwrap();
    SqliteEventStore::open(&path).await.unwrap();
    connection.execute("update log set oldest_code = 98").await.unwrap();
    connection.close().await.unwrap();

    let error = SqliteEventStore::open(&path).await.unwrap_err();
    assert!(matches!(error, ConnectError::Newer { found: 99, oldest: 98, .. }), "{error:?}");
    assert!(error.to_string().contains("schema version 99"), "{error}");
}

#[tokio::test]
async fn an_empty_file_becomes_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    fs::write(&path, "").unwrap();
    let store = SqliteEventStore::open(&path).await.unwrap();
    commit(&store, &append("1", ExpectedVersion::EMPTY, 1)).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_unavailable() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write everywhere except where the kernel itself forbids it.
    let is_root = fs::write(folder.path().join("probe"), "").is_ok();
    let path = if is_root { "/proc/log.db".into() } else { folder.path().join("log.db") };
    let error = SqliteEventStore::open(&path).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

pub(crate) async fn plain(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    options.connect().await.unwrap()
}
