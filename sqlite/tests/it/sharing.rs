//! Several processes on one file. A second store on the path shares only the file with the first,
//! as another process does; one test opens the file from several processes.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use composable_rust_core::queue::{Lease, LeaseAction, LeaseRequest, Leases as _};
use composable_rust_core::store::{AppendOutcome, EventStore, ExpectedVersion, StoreError};
use composable_rust_core::{Position, Version};
use composable_rust_sqlite::SqliteEventStore;
use futures_util::future;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::files::plain;
use crate::make::{append, commit, load, stream};

#[tokio::test]
async fn commits_of_this_process_are_noticed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3_600);
    let store = SqliteEventStore::builder(folder.path().join("log.db")).poll_interval(hour);
    let store = store.open().await.unwrap();
    let (woken, _) = tokio::join!(waits(&store), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        commit(&store, &append("1", ExpectedVersion::EMPTY, 1)).await
    });
    assert!(woken < Duration::from_secs(10), "{woken:?}");
}

#[tokio::test]
async fn commits_elsewhere_are_noticed_within_the_interval() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let (here, elsewhere) = (open(&path).await, open(&path).await);
    for n in 1..=5 {
        let heads = here.heads().await.unwrap();
        let waiting = async {
            here.wait_for_events(&heads).await.unwrap();
            Instant::now()
        };
        let committing = async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            commit(&elsewhere, &append(&n.to_string(), ExpectedVersion::EMPTY, 1)).await;
            Instant::now()
        };
        let (woken, committed) = tokio::join!(waiting, committing);
        let late = woken.saturating_duration_since(committed);
        assert!(late < Duration::from_secs(1), "{late:?}");
        assert_eq!(here.read_log(&heads, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn events_of_other_partitions_do_not_end_a_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let (here, elsewhere) = (open(&path).await, open(&path).await);
    let other = stream("1");
    let partition = here.log().partition_of(&other);
    let after = Position::new((partition + 1) % here.log().partitions, 0);
    let positions = [after];
    let waiting = here.wait_for_events(&positions);
    let limited = tokio::time::timeout(Duration::from_millis(400), waiting);
    let one = append("1", ExpectedVersion::EMPTY, 1);
    let (woken, _) = tokio::join!(limited, commit(&elsewhere, &one));
    assert!(woken.is_err(), "woken by an event in another partition");
    let unknown = [Position::new(999, 0)];
    assert!(matches!(here.wait_for_events(&unknown).await, Err(StoreError::Invalid(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_on_one_stream_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let stores = [open(&path).await, open(&path).await, open(&path).await];
    let writers = stores.map(|store| {
        tokio::spawn(async move {
            let mut version = Version::ZERO;
            let (mut committed, mut slowest) = (0, Duration::ZERO);
            while committed < 50 {
                let one = append("1", ExpectedVersion::Exact(version), 1);
                let started = Instant::now();
                version = match commit(&store, &one).await {
                    AppendOutcome::Committed { version, .. } => {
                        committed += 1;
                        version
                    }
                    AppendOutcome::Conflict { actual } => actual,
                    other => panic!("{other:?}"),
                };
                slowest = slowest.max(started.elapsed());
            }
            slowest
        })
    });
    for slowest in future::try_join_all(writers).await.unwrap() {
        assert!(slowest < Duration::from_secs(5), "one writer starved for {slowest:?}");
    }
    let events = load(&open(&path).await, "1").await;
    let versions: Vec<u64> = events.iter().map(|event| event.version.get()).collect();
    assert_eq!(versions, (1..=150).collect::<Vec<_>>());
    let offsets: Vec<u64> = events.iter().map(|event| event.position.offset).collect();
    assert_eq!(offsets, (1..=150).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_writer_gives_up_after_the_busy_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteEventStore::builder(&path).busy_timeout(Duration::from_millis(300));
    let store = store.open().await.unwrap();
    let mut other = plain(&path).await;

    other.execute("begin immediate").await.unwrap();
    let one = append("1", ExpectedVersion::EMPTY, 1);
    let partition = store.log().partition_of(&one.stream);
    let started = Instant::now();
    let refused = store.append_events(partition, std::slice::from_ref(&one)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(store.heads().await.unwrap().len(), 8, "reading does not wait");

    let (committed, ()) = tokio::join!(commit(&store, &one), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        other.execute("rollback").await.unwrap();
    });
    assert!(matches!(committed, AppendOutcome::Committed { .. }), "{committed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_create_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let opening = (0..16).map(|_| {
        let path = path.clone();
        tokio::spawn(async move { open(&path).await.log() })
    });
    let logs = future::try_join_all(opening).await.unwrap();
    assert!(logs.iter().all(|log| *log == logs[0]), "{logs:?}");
}

#[tokio::test]
async fn many_processes_create_and_fill_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let mut children: Vec<_> = (0..6)
        .map(|n| {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "sharing::child", "--nocapture"])
                .env("SQLITE_TEST_CHILD", format!("{n}"))
                .env("SQLITE_TEST_PATH", &path)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let store = open(&path).await;
    let total: u64 = store.heads().await.unwrap().iter().map(|head| head.offset).sum();
    assert_eq!(total, 6 * 40);
    let log = store.read_log(&Position::start_positions(8), 1_000).await.unwrap();
    for events in log.windows(2) {
        let (a, b) = (events[0].position, events[1].position);
        assert!(b.offset == 1 || (a.partition, a.offset + 1) == (b.partition, b.offset));
    }
}

/// One of the processes of `many_processes_create_and_fill_one_log`.
#[tokio::test]
#[ignore = "child process of many_processes_create_and_fill_one_log"]
async fn child() {
    let n = std::env::var("SQLITE_TEST_CHILD").expect("the parent sets it");
    let store = open(Path::new(&std::env::var("SQLITE_TEST_PATH").unwrap())).await;
    for i in 0..40 {
        commit(&store, &append(&format!("{n}-{i}"), ExpectedVersion::EMPTY, 1)).await;
    }
}

async fn waits(store: &SqliteEventStore) -> Duration {
    let started = Instant::now();
    store.wait_for_events(&Position::start_positions(8)).await.unwrap();
    started.elapsed()
}

/// As after the clock was set back by two hours.
#[tokio::test]
async fn expiries_too_far_ahead_are_shortened_to_one_time_to_live() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let (store, mut file) = (open(&path).await, plain(&path).await);
    let round = |holder, ttl, changes| LeaseRequest {
        holder: Uuid::from_u128(holder),
        workers: vec!["work".to_owned()],
        ttl: Duration::from_millis(ttl),
        min_epoch: 0,
        changes,
    };
    let claim = |epoch| {
        let lease = Lease { worker: "work".to_owned(), partition: 0, epoch };
        vec![(lease, LeaseAction::Claim)]
    };
    assert_eq!(store.change_leases(&round(1, 300, claim(0))).await.unwrap(), [true]);
    for table in ["leases", "members"] {
        let ahead = format!("update {table} set expires_at = expires_at + 7200000000");
        sqlx::query(&ahead).execute(&mut file).await.unwrap();
    }
    assert_eq!(store.change_leases(&round(2, 60_000, claim(1))).await.unwrap(), [false]);
    let members = async || store.load_leases(&["work".to_owned()]).await.unwrap().members.len();
    assert_eq!(members().await, 2);
    let started = Instant::now();
    while store.change_leases(&round(2, 60_000, claim(1))).await.unwrap() == [false] {
        assert!(started.elapsed() < Duration::from_secs(30), "the lease does not lapse");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(members().await, 1);
}

async fn open(path: &Path) -> SqliteEventStore {
    SqliteEventStore::open(path).await.unwrap()
}
