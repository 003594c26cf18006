//! Waiting for events.

use std::time::Duration;

use composable_rust_core::Position;
use composable_rust_core::store::{EventStore as _, ExpectedVersion};
use tokio::time::{Instant, sleep, timeout};

use crate::database::Database;
use crate::fixtures::{append, commit};

/// A store with a poll interval of ten minutes is notified of another store's commits.
#[tokio::test]
async fn other_processes_are_notified() {
    let database = Database::create().await;
    let writer = database.store(3).await;
    let reader =
        database.builder().poll_interval(Duration::from_secs(600)).connect().await.unwrap();
    let after = Position::start_positions(3);
    // Both connections are opened on first use; earlier notifications are missed.
    let warm_up = async {
        loop {
            commit(&writer, &append("a-0", ExpectedVersion::Any, &[0])).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = warm_up => unreachable!("it never ends"),
        heard = timeout(Duration::from_secs(20), reader.wait_for_events(&after)) => {
            heard.expect("no notification in 20 s").unwrap();
        }
    }
    for n in 1..=20 {
        sleep(Duration::from_millis(15)).await;
        let heads = writer.heads().await.unwrap();
        let start = Instant::now();
        let wait = tokio::spawn({
            let reader = reader.clone();
            async move { reader.wait_for_events(&heads).await }
        });
        commit(&writer, &append("a-1", ExpectedVersion::Any, &[n])).await;
        timeout(Duration::from_secs(20), wait).await.expect("a lost wake-up").unwrap().unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_wait_ends_after_a_commit_here_or_elsewhere() {
    let database = Database::create().await;
    let store =
        database.builder().poll_interval(Duration::from_millis(100)).connect().await.unwrap();
    let heads = store.heads().await.unwrap();
    let idle = timeout(Duration::from_millis(350), store.wait_for_events(&heads)).await;
    assert!(idle.is_err(), "nothing happened, but the wait ended");
    let (waited, ()) =
        tokio::join!(timeout(Duration::from_secs(20), store.wait_for_events(&heads)), async {
            commit(&store, &append("a-1", ExpectedVersion::Any, &[1])).await;
        });
    waited.expect("a lost wake-up").unwrap();
    // A writer that does not notify.
    let heads = store.heads().await.unwrap();
    let stream = append("a-1", ExpectedVersion::Any, &[]).stream;
    let call = "select append_event($1, 'a-1', -1, gen_random_uuid(), 'x', 1, 'c', '', null)";
    let partition = i16::try_from(store.log().partition_of(&stream)).unwrap();
    sqlx::query(call).bind(partition).execute(&database.pool()).await.unwrap();
    timeout(Duration::from_secs(20), store.wait_for_events(&heads)).await.unwrap().unwrap();
}

/// As after a failover that lost the end of the log.
#[tokio::test]
async fn a_wait_for_lost_events_does_not_loop() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", ExpectedVersion::Any, &[1])).await;
    let heads = store.heads().await.unwrap();
    let tell = "select pg_notify('events_' || replace(log_id::text, '-', ''), '0:99') from log";
    let lie = async {
        loop {
            sqlx::query(tell).execute(&database.pool()).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = lie => unreachable!("it never ends"),
        heard = timeout(Duration::from_secs(20), store.wait_for_events(&heads)) => {
            heard.expect("no notification in 20 s").unwrap();
        }
    }
    sleep(Duration::from_millis(200)).await;
    store.wait_for_events(&heads).await.unwrap();
    assert_eq!(store.read_log(&heads, 10).await.unwrap(), []);
    let idle = timeout(Duration::from_millis(600), store.wait_for_events(&heads)).await;
    assert!(idle.is_err(), "the page was empty, but the wait ended");
    let (waited, ()) =
        tokio::join!(timeout(Duration::from_secs(20), store.wait_for_events(&heads)), async {
            commit(&store, &append("a-1", ExpectedVersion::Any, &[2])).await;
        });
    waited.expect("a lost wake-up").unwrap();
}

#[tokio::test]
async fn background_connections_end_with_the_store() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", ExpectedVersion::Any, &[1])).await;
    let _ =
        timeout(Duration::from_millis(300), store.wait_for_events(&[Position::new(0, 1)])).await;
    let mut connection = database.connection().await;
    let others = "select count(*) from pg_stat_activity \
                  where datname = current_database() and pid <> pg_backend_pid()";
    let before: i64 = sqlx::query_scalar(others).fetch_one(&mut connection).await.unwrap();
    assert!(before >= 3, "a writer, a notifier and a listener, not {before}");
    drop(store);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left: i64 = sqlx::query_scalar(others).fetch_one(&mut connection).await.unwrap();
        if left == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{left} connections are left");
        sleep(Duration::from_millis(50)).await;
    }
}
