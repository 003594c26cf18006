//! Competing writers, and foreign transactions.

use std::time::Duration;

use composable_rust_core::Position;
use composable_rust_core::store::{AppendOutcome, EventStore as _, ExpectedVersion};
use composable_rust_postgres::PostgresEventStore;
use sqlx::{Connection as _, Executor as _};
use tokio::time::{Instant, timeout};

use crate::database::Database;
use crate::fixtures::{append, commit, committed, exact, load};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn competing_pools_append_without_gaps() {
    let database = Database::create().await;
    let stores = [database.store(3).await, database.store(3).await];
    let writers = (0..8_u128).map(|writer| {
        let store = stores[usize::from(writer % 2 == 0)].clone();
        tokio::spawn(async move {
            let mut committed = 0;
            let mut version = [0; 4];
            for n in 0..50_u128 {
                let stream = usize::try_from((writer + n) % 4).unwrap();
                let id = 1 + writer * 1_000 + n;
                loop {
                    let one = append(&format!("a-{stream}"), exact(version[stream]), &[id]);
                    match commit(&store, &one).await {
                        AppendOutcome::Committed { version: now, .. } => {
                            version[stream] = now.get();
                        }
                        AppendOutcome::Conflict { actual } => {
                            version[stream] = actual.get();
                            continue;
                        }
                        other => panic!("{other:?}"),
                    }
                    committed += 1;
                    break;
                }
            }
            committed
        })
    });
    let total: usize =
        futures_util::future::join_all(writers).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(total, 400);
    let log = stores[0].read_log(&Position::start_positions(3), 1_000).await.unwrap();
    let ids: std::collections::HashSet<_> = log.iter().map(|event| event.id).collect();
    assert_eq!((log.len(), ids.len()), (400, 400));
    for stream in 0..4 {
        let versions: Vec<u64> = load(&stores[1], &format!("a-{stream}"))
            .await
            .iter()
            .map(|event| event.version.get())
            .collect();
        assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
    }
}

/// The first attempt is still running when it is abandoned and repeated.
#[tokio::test]
async fn an_unknown_outcome_is_resolved_by_the_same_append() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-0", exact(0), &[1])).await;
    for (round, events) in [(1, vec![10]), (2, vec![20, 21])] {
        let one = append(&format!("a-{round}"), exact(0), &events);
        let mut foreign = database.connection().await;
        let mut holder = foreign.begin().await.unwrap();
        holder.execute("select from partitions where partition = 0 for update").await.unwrap();
        let first = tokio::spawn({
            let (store, one) = (store.clone(), one.clone());
            async move { commit(&store, &one).await }
        });
        database.wait_for_lock_of("append_event").await;
        let abandoned = database.sessions_waiting_for_locks("append_event").await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let again = tokio::spawn({
            let (store, one) = (store.clone(), one.clone());
            async move { commit(&store, &one).await }
        });
        database.wait_for_lock_other_than(&abandoned, "append_event").await;
        assert!(!again.is_finished());
        holder.commit().await.unwrap();
        let outcome = timeout(Duration::from_secs(20), again).await.unwrap().unwrap();
        assert!(matches!(outcome, AppendOutcome::Committed { .. }), "{outcome:?}");
        database.wait_for_end_of(&abandoned).await;
        assert_eq!(load(&store, &format!("a-{round}")).await.len(), events.len());
        assert_eq!(commit(&store, &one).await, outcome);
    }
}

#[tokio::test]
async fn a_foreign_transaction_does_not_block_appends() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", exact(0), &[1])).await;
    let mut foreign = database.connection().await;
    let mut open = foreign.begin().await.unwrap();
    open.execute("create table unrelated (n int)").await.unwrap();
    open.execute("insert into unrelated select generate_series(1, 10)").await.unwrap();
    open.execute("select count(*) from events").await.unwrap();
    let append = append("a-1", exact(1), &[2]);
    let outcome = timeout(Duration::from_secs(10), commit(&store, &append)).await.unwrap();
    assert_eq!(outcome, committed(2, 0, 2));
    assert_eq!(store.read_log(&[Position::new(0, 0)], 10).await.unwrap().len(), 2);
    open.rollback().await.unwrap();
}

/// The position of partition 0's row on disk, and the transaction that wrote it.
async fn row_version(database: &Database) -> (String, String) {
    sqlx::query_as("select ctid::text, xmin::text from partitions where partition = 0")
        .fetch_one(&database.pool())
        .await
        .unwrap()
}

async fn rate(store: &PostgresEventStore, first: u128, time: Duration) -> f64 {
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < time {
        let one = append("a-1", ExpectedVersion::Any, &[first + u128::from(count)]);
        commit(store, &one).await;
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// A counter row would leave a dead version per commit, and nothing could remove them.
#[tokio::test]
async fn an_old_snapshot_does_not_slow_appends() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let row_before = row_version(&database).await;
    rate(&store, 1, Duration::from_millis(300)).await;
    let before = rate(&store, 1 << 32, Duration::from_secs(1)).await;
    let mut foreign = database.connection().await;
    let mut idle = foreign.begin().await.unwrap();
    idle.execute("set transaction isolation level repeatable read").await.unwrap();
    idle.execute("select count(*) from events").await.unwrap();
    idle.execute("create table unrelated (n int)").await.unwrap();
    let mut rates = Vec::new();
    for round in 2..6 {
        rates.push(rate(&store, round << 32, Duration::from_secs(1)).await);
    }
    idle.rollback().await.unwrap();
    let row_after = row_version(&database).await;
    assert_eq!(row_after, row_before, "the partition's row is locked, never updated");
    let worst_of_last = rates[2].max(rates[3]);
    assert!(worst_of_last > before / 5.0, "{before:.0}/s, then {rates:.0?}");
}
