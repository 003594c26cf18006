//! Waiting for work.

use std::time::Duration;

use composable_rust_core::queue::Outbox as _;
use composable_rust_core::store::{Due, ExpectedVersion};
use tokio::time::{Instant, sleep, timeout};

use crate::database::Database;
use crate::fixtures::{append, commit};
use crate::work::{arm, queued};

/// A store with a poll interval of ten minutes is notified of another store's work.
#[tokio::test]
async fn work_of_other_processes_ends_a_wait() {
    let database = Database::create().await;
    let writer = database.store(1).await;
    let worker =
        database.builder().poll_interval(Duration::from_secs(600)).connect().await.unwrap();
    let mut seen = worker.wait_for_work(0).await.unwrap();
    // Both connections are opened on first use; earlier notifications are missed.
    let warm_up = async {
        loop {
            writer.enqueue(0, &[queued(1)], None).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = warm_up => unreachable!("it never ends"),
        heard = timeout(Duration::from_secs(20), worker.wait_for_work(seen)) => {
            seen = heard.expect("no notification in 20 s").unwrap();
        }
    }
    sleep(Duration::from_millis(100)).await;
    let mut timed = append("order-1", ExpectedVersion::Any, &[]);
    timed.timers = vec![arm(5, Due::After(Duration::ZERO))];
    for n in 0..10 {
        // Earlier notifications.
        while let Ok(more) = timeout(Duration::from_millis(50), worker.wait_for_work(seen)).await {
            seen = more.unwrap();
        }
        let wait = tokio::spawn({
            let worker = worker.clone();
            async move { worker.wait_for_work(seen).await }
        });
        if n % 2 == 0 {
            commit(&writer, &timed).await;
        } else {
            writer.enqueue(0, &[queued(1)], None).await.unwrap();
        }
        seen =
            timeout(Duration::from_secs(20), wait).await.expect("a lost wake-up").unwrap().unwrap();
    }
    // Events alone create no work.
    commit(&writer, &append("order-2", ExpectedVersion::Any, &[1])).await;
    let idle = timeout(Duration::from_millis(200), worker.wait_for_work(seen)).await;
    assert!(idle.is_err(), "nothing was queued, but the wait ended");
}

/// Work of this process is announced to others, and wakes this process once.
#[tokio::test]
async fn a_wait_for_work_ends_with_the_poll_interval() {
    let database = Database::create().await;
    let store =
        database.builder().poll_interval(Duration::from_millis(300)).connect().await.unwrap();
    let mut seen = store.wait_for_work(0).await.unwrap();
    for _ in 0..3 {
        store.enqueue(0, &[queued(1)], None).await.unwrap();
        let now = store.wait_for_work(seen).await.unwrap();
        assert_ne!(now, seen);
        seen = now;
        let start = Instant::now();
        assert_eq!(store.wait_for_work(seen).await.unwrap(), seen);
        assert!(start.elapsed() >= Duration::from_millis(290));
    }
}
