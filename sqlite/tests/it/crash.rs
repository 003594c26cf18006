//! Dropped calls and killed processes.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use composable_rust_core::store::{
    Append, AppendOutcome, EventStore, ExpectedVersion, Fingerprint, Snapshot,
};
use composable_rust_core::{Position, Version};
use composable_rust_sqlite::SqliteEventStore;
use futures_util::{StreamExt as _, poll};

use crate::make::{append, commit, events, load, stream};

/// Drops an append after each possible number of steps, and checks that the file can still be
/// written, from this store and another.
#[tokio::test]
async fn a_dropped_append_releases_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteEventStore::open(&path).await.unwrap();
    let elsewhere = SqliteEventStore::open(&path).await.unwrap();
    let (mut dropped, mut steps) = (0, 0);
    loop {
        let id = format!("dropped-{steps}");
        let large = Append::new(stream(&id), ExpectedVersion::EMPTY).with_events(events(2_000, 50));
        let done = stops_after(&store, &large, steps).await;
        let count = load(&elsewhere, &id).await.len();
        assert!(count == 0 || count == 2_000, "{count} of 2000 events");
        for (store, id) in [(&elsewhere, "elsewhere"), (&store, "here")] {
            let one = append(&format!("{id}-{steps}"), ExpectedVersion::EMPTY, 1);
            let next = tokio::time::timeout(Duration::from_secs(5), commit(store, &one)).await;
            assert!(
                matches!(next, Ok(AppendOutcome::Committed { .. })),
                "after {steps} steps: {next:?}"
            );
        }
        if let AppendOutcome::Committed { version, .. } = commit(&store, &large).await {
            assert_eq!(version, Version::new(2_000));
        } else {
            panic!("the same append again is not recognised");
        }
        if done {
            break;
        }
        (dropped, steps) = (dropped + 1, steps + 1);
    }
    assert!(dropped > 5, "dropped only {dropped} times");
    assert_no_gaps(&store).await;
}

/// Polls an append `steps` times, then drops it. Returns `true` if it was complete by then.
async fn stops_after(store: &SqliteEventStore, append: &Append, steps: usize) -> bool {
    let partition = store.log().partition_of(&append.stream);
    let mut future = Box::pin(store.append_events(partition, std::slice::from_ref(append)));
    for _ in 0..steps {
        if poll!(&mut future).is_ready() {
            return true;
        }
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    false
}

#[tokio::test]
async fn dropped_reads_do_not_affect_later_reads() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteEventStore::builder(folder.path().join("log.db")).read_connections(1);
    let store = store.open().await.unwrap();
    let long = Append::new(stream("1"), ExpectedVersion::EMPTY).with_events(events(10_000, 50));
    commit(&store, &long).await;
    for steps in 0..20 {
        let id = stream("1");
        let mut load = Box::pin(store.load_events(&id, Version::ZERO));
        for _ in 0..steps {
            let _ = poll!(load.next());
        }
        drop(load);
        let _ = poll!(Box::pin(store.heads()));
    }
    assert_eq!(load(&store, "1").await.len(), 10_000);
}

#[tokio::test]
async fn committed_events_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    for round in 0..5 {
        let acknowledged = kill_a_writer(&path, round);
        let store = SqliteEventStore::open(&path).await.unwrap();
        let stored = load(&store, &format!("killed-{round}")).await;
        assert!(stored.len() >= acknowledged, "{} of {acknowledged}", stored.len());
        assert!(stored.len() % 3 == 0, "{} events are half an append", stored.len());
        assert_no_gaps(&store).await;
    }
}

/// Starts a process that appends, kills it, and returns the number of events that the process
/// reported as stored.
fn kill_a_writer(path: &Path, round: u32) -> usize {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::child", "--nocapture"])
        .env("SQLITE_TEST_CRASH", format!("killed-{round}"))
        .env("SQLITE_TEST_PATH", path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let until = 20 + 17 * usize::try_from(round).unwrap();
    let mut acknowledged = 0;
    for line in lines.map_while(Result::ok) {
        // Other output may precede it on the same line.
        if let Some((_, version)) = line.split_once("stored ") {
            acknowledged = version.parse().unwrap();
            if acknowledged > until && child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(acknowledged > until);
    acknowledged
}

/// The writing process of `committed_events_survive_a_kill`.
#[tokio::test]
#[ignore = "child process of committed_events_survive_a_kill"]
async fn child() {
    let id = std::env::var("SQLITE_TEST_CRASH").expect("the parent sets it");
    let store = SqliteEventStore::open(std::env::var("SQLITE_TEST_PATH").unwrap()).await.unwrap();
    loop {
        match commit(&store, &append(&id, ExpectedVersion::Any, 3)).await {
            AppendOutcome::Committed { version, .. } => println!("\nstored {version}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn all_data_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteEventStore::open(&path).await.unwrap();
    let (log, id) = (store.log(), stream("1"));
    commit(&store, &append("1", ExpectedVersion::EMPTY, 3)).await;
    let snapshot = Snapshot {
        version: Version::new(2),
        fingerprint: Fingerprint(u64::MAX),
        codec: "bincode".to_owned(),
        bytes: vec![1, 2, 3],
    };
    let before = load(&store, "1").await;
    store.save_snapshot(&id, &snapshot, before[1].id).await.unwrap();
    drop(store);

    let store = SqliteEventStore::open(&path).await.unwrap();
    assert_eq!(store.log(), log);
    assert_eq!(load(&store, "1").await, before);
    let found = store.load_snapshot(&id, Fingerprint(u64::MAX)).await.unwrap();
    assert_eq!(found, Some(snapshot));
}

async fn assert_no_gaps(store: &SqliteEventStore) {
    let heads = store.heads().await.unwrap();
    for head in heads {
        let (mut after, mut seen) = (Position::new(head.partition, 0), 0);
        while after.offset < head.offset {
            for event in store.read_log(&[after], 1_000).await.unwrap() {
                seen += 1;
                assert_eq!(event.position.offset, seen);
                after = event.position;
            }
        }
    }
}
