//! The size of the write-ahead log, and erased content in it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use composable_rust_core::store::{Append, EventStore, ExpectedVersion};
use composable_rust_core::{Position, Version};
use composable_rust_sqlite::SqliteEventStore;
use futures_util::StreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::make::{append, commit, events, stream};

const MIB: u64 = 1024 * 1024;

/// A reader follows the log, and an abandoned load stays open, while 100 MiB are written.
#[tokio::test]
async fn readers_do_not_let_the_log_grow_without_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteEventStore::open(&path).await.unwrap();
    commit(
        &store,
        &Append::new(stream("1"), ExpectedVersion::EMPTY).with_events(events(9_000, 200)),
    )
    .await;
    let id = stream("1");
    let mut load = Box::pin(store.load_events(&id, Version::ZERO));
    assert!(load.next().await.is_some());

    let (mut after, mut largest) = (Position::start_positions(8), 0);
    for n in 0..100 {
        let id = format!("big-{n}");
        commit(
            &store,
            &Append::new(stream(&id), ExpectedVersion::EMPTY).with_events(events(4, 256 * 1024)),
        )
        .await;
        for event in store.read_log(&after, 7).await.unwrap() {
            after[usize::from(event.position.partition)] = event.position;
        }
        largest = largest.max(fs::metadata(wal(&path)).unwrap().len());
    }
    assert!(largest < 40 * MIB, "the write-ahead log grew to {} MiB", largest / MIB);
    let rest = load.count().await;
    assert_eq!(rest, 8_999);
}

#[tokio::test]
async fn erased_content_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteEventStore::open(&path).await.unwrap();
    let secret = b"card 4929 1234 5678 9012";
    let mut placed = append("1", ExpectedVersion::EMPTY, 20);
    for (n, event) in placed.events.iter_mut().enumerate() {
        event.content.bytes = secret.repeat(1 + n * 40);
    }
    commit(&store, &placed).await;
    commit(&store, &append("2", ExpectedVersion::EMPTY, 20)).await;
    assert!(holds(&path, secret) || holds(&wal(&path), secret));

    assert_eq!(store.erase_stream(&stream("1")).await.unwrap(), 20);
    assert!(!holds(&path, secret), "in the file");
    assert!(!holds(&wal(&path), secret), "in the write-ahead log");
}

/// A log whose stream 1 was erased while another connection reads it.
async fn erased_under_a_reader(path: &Path, secret: &[u8]) -> (SqliteEventStore, SqliteConnection) {
    let store = SqliteEventStore::open(path).await.unwrap();
    // The first commit truncates.
    commit(&store, &append("0", ExpectedVersion::EMPTY, 1)).await;
    let mut placed = append("1", ExpectedVersion::EMPTY, 20);
    for event in &mut placed.events {
        event.content.bytes = secret.repeat(100);
    }
    commit(&store, &placed).await;
    let options = SqliteConnectOptions::new().filename(path);
    let mut reader = options.connect().await.unwrap();
    sqlx::query("begin").execute(&mut reader).await.unwrap();
    sqlx::query("select * from events").fetch_all(&mut reader).await.unwrap();
    assert_eq!(store.erase_stream(&stream("1")).await.unwrap(), 20);
    assert!(holds(&wal(path), secret), "the reader may still need it");
    (store, reader)
}

#[tokio::test]
async fn erased_content_leaves_the_write_ahead_log_when_its_readers_end() {
    let secret = b"card 4929 1234 5678 9012";
    for waits in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let (store, reader) = erased_under_a_reader(&path, secret).await;
        reader.close().await.unwrap();
        let mut n = 0;
        let gone = async {
            while holds(&wal(&path), secret) {
                // On a quiet log a waiting reader truncates it, on a busy one the commits do.
                if waits {
                    let heads = store.heads().await.unwrap();
                    let wait = store.wait_for_events(&heads);
                    let _ = tokio::time::timeout(Duration::from_millis(300), wait).await;
                } else {
                    n += 1;
                    let id = format!("small-{n}");
                    commit(&store, &append(&id, ExpectedVersion::EMPTY, 1)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it stays in the log");
        assert!(!holds(&path, secret), "in the file");
    }
}

#[tokio::test]
async fn erased_content_leaves_the_write_ahead_log_after_a_restart() {
    let secret = b"card 4929 1234 5678 9012";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let (store, reader) = erased_under_a_reader(&path, secret).await;
    drop(store);
    // Closing the last connection would truncate the log.
    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::query("select * from log").fetch_all(&mut other).await.unwrap();
    reader.close().await.unwrap();
    assert!(holds(&wal(&path), secret));
    let store = SqliteEventStore::open(&path).await.unwrap();
    commit(&store, &append("2", ExpectedVersion::EMPTY, 1)).await;
    assert!(!holds(&wal(&path), secret));
    assert!(!holds(&path, secret), "in the file");
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
}

fn wal(path: &Path) -> std::path::PathBuf {
    format!("{}-wal", path.display()).into()
}
