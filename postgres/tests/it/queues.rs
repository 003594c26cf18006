//! Queues with concurrent writers.

use std::collections::HashSet;
use std::slice;
use std::time::Duration;

use composable_rust_core::event::ERASED;
use composable_rust_core::queue::{
    DeadLetterDecision, DeadLetters as _, Outbox as _, OutboxKind, OutboxMessage, Queue,
    QueueChange, QueuePosition, Settlement,
};
use composable_rust_core::store::{EventStore as _, ExpectedVersion};
use sqlx::{Connection as _, Executor as _};
use tokio::time::Instant;

use crate::database::Database;
use crate::fixtures::{append, commit, stream};
use crate::work::{done, hold, parked, queue, queued, read, row, settlement};

/// Rows come from appends, followers and settlements of two pools; a reader that continues from the
/// last position misses none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_queue_misses_nothing() {
    const WRITERS: u128 = 6;
    const EACH: u128 = 120;
    let database = Database::create().await;
    let stores = [database.store(1).await, database.store(1).await];
    let lease = hold(&stores[0]).await;
    let writers = (0..WRITERS).map(|writer| {
        let (store, lease) = (stores[usize::from(writer % 2 == 0)].clone(), lease.clone());
        tokio::spawn(async move {
            for n in 0..EACH {
                let n = 1 + writer * 1_000 + n;
                if writer % 3 == 0 {
                    store.enqueue(0, &[queued(n)], None).await.unwrap();
                } else if writer % 3 == 1 {
                    let mut one = append(&format!("order-{writer}"), ExpectedVersion::Any, &[n]);
                    one.outbox = vec![row(n)];
                    commit(&store, &one).await;
                } else {
                    // A row that is replaced by another.
                    let other = Queue { target: format!("step{writer}"), ..queue() };
                    let mut step = queued(n + (1 << 64));
                    step.row.target = other.target.clone();
                    store.enqueue(0, &[step], None).await.unwrap();
                    let after = [(other.clone(), QueuePosition::default())];
                    let step = store.read_outbox(&after, 1).await.unwrap().remove(0);
                    let change = QueueChange::Done(vec![queued(n)]);
                    let settlement = Settlement {
                        lease: lease.clone(),
                        queue: other,
                        position: step.position,
                        change,
                    };
                    let settled = store.settle(0, slice::from_ref(&settlement)).await.unwrap();
                    assert_eq!(settled, [true]);
                    // A repeated settlement adds no rows.
                    assert_eq!(store.settle(0, &[settlement]).await.unwrap(), [true]);
                }
            }
        })
    });
    let writers = futures_util::future::join_all(writers.collect::<Vec<_>>());
    let reader = async {
        let mut seen = Vec::new();
        let mut place = QueuePosition::default();
        let deadline = Instant::now() + Duration::from_secs(60);
        while seen.len() < usize::try_from(WRITERS * EACH).unwrap() && Instant::now() < deadline {
            for row in stores[1].read_outbox(&[(queue(), place)], 7).await.unwrap() {
                assert!(row.position > place, "places rise");
                place = row.position;
                seen.push(row.message.row.id.as_u128());
            }
        }
        seen
    };
    let (written, seen) = tokio::join!(writers, reader);
    written.into_iter().collect::<Result<(), _>>().unwrap();
    let all: HashSet<u128> =
        (0..WRITERS).flat_map(|w| (0..EACH).map(move |n| 1 + w * 1_000 + n)).collect();
    assert_eq!(seen.len(), all.len());
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), all, "missed some");
}

/// The row moves on disk while the worker waits for it.
#[tokio::test]
async fn rows_are_settled_during_their_erasure() {
    let database = Database::create().await;
    let store = database.store(3).await;
    let lease = hold(&store).await;
    store.enqueue(0, &[queued(1), queued(2), queued(3)], None).await.unwrap();
    let rows = read(&store).await;
    let mut foreign = database.connection().await;
    let mut erasure = foreign.begin().await.unwrap();
    let erase = "select erase_elsewhere($1, 'order-1')";
    let partition = store.log().partition_of(&stream("order-1"));
    sqlx::query(erase)
        .bind(i16::try_from(partition).unwrap())
        .execute(&mut *erasure)
        .await
        .unwrap();
    let settle = tokio::spawn({
        let (store, rows) = (store.clone(), rows.clone());
        let failed = QueueChange::Failed {
            attempts: 3,
            retry_after: Duration::from_secs(60),
            error: "no\0".to_owned(),
        };
        async move {
            let changes = [
                settlement(&lease, &rows[2], parked(None)),
                settlement(&lease, &rows[1], failed),
                settlement(&lease, &rows[0], done()),
            ];
            store.settle(0, &changes).await.unwrap()
        }
    });
    database.wait_for_lock_of("settle_rows").await;
    assert!(!settle.is_finished(), "settling does not wait for the rows");
    erasure.commit().await.unwrap();
    assert_eq!(settle.await.unwrap(), [true; 3]);
    let left = read(&store).await;
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].position, left[0].attempts), (rows[1].position, 3));
    assert!(left[0].wait > Duration::from_secs(50) && left[0].wait <= Duration::from_secs(60));
    let letters = store.dead_letters(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    for queued in [&left[0].message, &letters[0].message] {
        assert_eq!((&*queued.row.content.name, &*queued.row.metadata), (ERASED, ""));
    }
}

/// Stores agree on the order of queues of different kinds.
#[tokio::test]
async fn dead_letters_are_listed_in_order_of_queues() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let lease = hold(&store).await;
    let kinds = [OutboxKind::Send, OutboxKind::Call, OutboxKind::Policy, OutboxKind::Dispatch];
    let rows: Vec<OutboxMessage> = (1..=12)
        .map(|n| {
            let mut queued = queued(n);
            queued.row.kind = kinds[usize::try_from(n).unwrap() % kinds.len()];
            queued.row.target = ["a_b", "ab", "a"][usize::try_from(n).unwrap() % 3].to_owned();
            queued
        })
        .collect();
    store.enqueue(0, &rows, None).await.unwrap();
    for OutboxMessage { row, .. } in &rows {
        let queue = Queue { partition: 0, kind: row.kind, target: row.target.clone() };
        let after = [(queue.clone(), QueuePosition::default())];
        for row in store.read_outbox(&after, 10).await.unwrap() {
            let park = settlement(&lease, &row, parked(Some("no")));
            let park = Settlement { queue: queue.clone(), ..park };
            store.settle(0, &[park]).await.unwrap();
        }
    }
    let all = store.dead_letters(None, 100).await.unwrap();
    assert_eq!(all.len(), 12);
    assert!(all.is_sorted_by_key(|letter| (letter.queue.clone(), letter.position)));
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let page = store.dead_letters(after, 5).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.queue.clone(), last.position));
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

/// A dead letter before it is parked while the decision waits for the partition.
#[tokio::test]
async fn a_decision_sees_the_write_that_it_waited_for() {
    let database = Database::create().await;
    let store = database.store(1).await;
    store.park(0, &[queued(8)], "no").await.unwrap();
    let mut foreign = database.connection().await;
    let mut parking = foreign.begin().await.unwrap();
    parking.execute("select from partitions for update").await.unwrap();
    let decision = tokio::spawn({
        let store = store.clone();
        async move {
            let id = row(8).id;
            store.decide_dead_letter(0, id, DeadLetterDecision::Redrive).await.unwrap()
        }
    });
    database.wait_for_lock().await;
    // Of the same pair.
    let first = "insert into dead_letters select (jsonb_populate_record(d, \
                 jsonb_build_object('id', gen_random_uuid(), 'sequence', 0))).* from dead_letters d";
    parking.execute(first).await.unwrap();
    parking.commit().await.unwrap();
    assert!(!decision.await.unwrap(), "it is not the first of its pair");
}

/// As after a move to another server by logical replication.
#[tokio::test]
async fn positions_rise_after_the_sequence_was_lost() {
    let database = Database::create().await;
    let store = database.store(1).await;
    for n in 1..=3 {
        store.enqueue(0, &[queued(n)], None).await.unwrap();
    }
    drop(store);
    database.pool().execute("alter sequence outbox_sequence restart").await.unwrap();
    let store = database.store(1).await;
    store.enqueue(0, &[queued(4)], None).await.unwrap();
    let ids: Vec<u128> = read(&store).await.iter().map(|r| r.message.row.id.as_u128()).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
}
