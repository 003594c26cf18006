//! Leases, and the writes that they protect.

use std::collections::HashSet;
use std::time::Duration;

use composable_rust_core::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints as _, DeadLetterDecision, DeadLetters as _, Lease,
    LeaseAction, LeaseRequest, Leases as _, Outbox as _, QueueChange, TimerSettlement, Timers as _,
};
use composable_rust_core::store::{Due, EventStore as _};
use composable_rust_postgres::PostgresEventStore;
use sqlx::{Connection as _, Executor as _};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::database::Database;
use crate::fixtures::{append, commit, exact, stream};
use crate::work::{
    WORKER, arm, done, firing, hold, lease, parked, queued, read, round, row, settlement,
    timer_queue,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pools_race_for_leases() {
    let database = Database::create().await;
    let stores = [database.store(4).await, database.store(4).await];
    let processes = (1..=6_u128).map(|holder| {
        let store = stores[usize::from(holder % 2 == 0)].clone();
        tokio::spawn(async move {
            let mut won = Vec::new();
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                let table = store.load_leases(&[WORKER.to_owned()]).await.unwrap();
                let mut known: Vec<Lease> = (0..4).map(|partition| lease(partition, 0)).collect();
                for standing in table.leases {
                    let partition = usize::from(standing.lease.partition);
                    known[partition] = standing.lease;
                }
                // Each holder in another order.
                known.rotate_left(usize::try_from(holder % 4).unwrap());
                let claims: Vec<_> = known.into_iter().map(|l| (l, LeaseAction::Claim)).collect();
                let ttl = Duration::from_millis(5);
                let made = store.change_leases(&round(holder, ttl, claims.clone())).await.unwrap();
                for ((lease, _), made) in claims.into_iter().zip(made) {
                    if made {
                        won.push((lease.partition, lease.epoch + 1));
                    }
                }
            }
            won
        })
    });
    let won: Vec<Vec<(u16, u64)>> =
        futures_util::future::join_all(processes).await.into_iter().map(Result::unwrap).collect();
    let all: Vec<_> = won.concat();
    let distinct: HashSet<_> = all.iter().copied().collect();
    assert_eq!(distinct.len(), all.len(), "an epoch has one holder");
    assert!(won.iter().filter(|won| !won.is_empty()).count() > 1, "nobody raced");
    let table = stores[0].load_leases(&[WORKER.to_owned()]).await.unwrap();
    for standing in table.leases {
        let own = all.iter().filter(|(partition, _)| *partition == standing.lease.partition);
        assert_eq!(own.count() as u64, standing.lease.epoch, "no epoch is left out");
    }
}

#[tokio::test]
async fn expired_and_withdrawn_workers_are_no_members() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let minute = Duration::from_secs(60);
    store.change_leases(&round(1, minute, Vec::new())).await.unwrap();
    store.change_leases(&round(2, Duration::ZERO, Vec::new())).await.unwrap();
    let members = |store: PostgresEventStore| async move {
        store.load_leases(&[WORKER.to_owned()]).await.unwrap().members
    };
    let member = |holder| (WORKER.to_owned(), Uuid::from_u128(holder));
    assert_eq!(members(store.clone()).await, [member(1)]);
    store.change_leases(&round(3, minute, Vec::new())).await.unwrap();
    assert_eq!(members(store.clone()).await, [member(1), member(3)]);
    let withdrawn = LeaseRequest { workers: Vec::new(), ..round(1, minute, Vec::new()) };
    store.change_leases(&withdrawn).await.unwrap();
    assert_eq!(members(store.clone()).await, [member(3)]);
    let kept: i64 = sqlx::query_scalar("select count(*) from members")
        .fetch_one(&database.pool())
        .await
        .unwrap();
    assert_eq!(kept, 1, "what has lapsed goes");
}

/// As after the server's clock was set back by two hours.
#[tokio::test]
async fn expiries_too_far_ahead_are_shortened_to_one_time_to_live() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let (short, minute) = (Duration::from_millis(300), Duration::from_secs(60));
    let claim = |epoch| vec![(lease(0, epoch), LeaseAction::Claim)];
    assert_eq!(store.change_leases(&round(1, short, claim(0))).await.unwrap(), [true]);
    for table in ["leases", "members"] {
        let ahead = format!("update {table} set expires_at = expires_at + interval '2 hours'");
        database.pool().execute(&*ahead).await.unwrap();
    }
    assert_eq!(store.change_leases(&round(2, minute, claim(1))).await.unwrap(), [false]);
    let members = async || store.load_leases(&[WORKER.to_owned()]).await.unwrap().members.len();
    assert_eq!(members().await, 2);
    let started = Instant::now();
    while store.change_leases(&round(2, minute, claim(1))).await.unwrap() == [false] {
        assert!(started.elapsed() < Duration::from_secs(30), "the lease does not lapse");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(members().await, 1);
}

/// The lease changes hands while the worker's write waits for it.
#[tokio::test]
async fn a_holder_that_loses_its_epoch_writes_nothing() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let lease = hold(&store).await;
    let mut first = append("order-1", exact(0), &[1]);
    first.outbox = vec![row(1), row(2)];
    first.timers = vec![arm(5, Due::After(Duration::ZERO))];
    commit(&store, &first).await;
    let rows = read(&store).await;
    let park = settlement(&lease, &rows[1], parked(Some("no")));
    assert_eq!(store.settle(0, &[park]).await.unwrap(), [true]);
    let id = rows[1].message.row.id;
    assert!(store.decide_dead_letter(0, id, DeadLetterDecision::Redrive).await.unwrap());
    let letter = store.dead_letters(None, 10).await.unwrap().remove(0);

    let mut foreign = database.connection().await;
    let mut takeover = foreign.begin().await.unwrap();
    takeover.execute("update leases set epoch = epoch + 1").await.unwrap();
    let settle = tokio::spawn({
        let (store, lease, row) = (store.clone(), lease.clone(), rows[0].clone());
        async move {
            let other = Lease { epoch: 2, ..lease.clone() };
            let changes = [
                settlement(&lease, &row, QueueChange::Done(vec![queued(3)])),
                settlement(&other, &row, done()),
            ];
            store.settle(0, &changes[..1]).await.unwrap()
        }
    });
    let timers = tokio::spawn({
        let (store, lease) = (store.clone(), lease.clone());
        let change = parked(Some("no"));
        let lost = TimerSettlement { lease, stream: stream("order-1"), timer: firing(5), change };
        async move { store.settle_timers(0, &[lost]).await.unwrap() }
    });
    let enqueue = tokio::spawn({
        let (store, lease) = (store.clone(), lease.clone());
        let to = Checkpoint { partition: 0, offset: 1, event_id: None };
        let advance = CheckpointAdvance { name: "policy".to_owned(), lease, to };
        async move { store.enqueue(0, &[queued(4)], Some(&advance)).await.unwrap() }
    });
    let resolve = tokio::spawn({
        let (store, lease, letter) = (store.clone(), lease.clone(), letter.clone());
        async move { store.resolve_dead_letter(&lease, &letter, &[]).await.unwrap() }
    });
    database.wait_for_lock_of("settle_rows").await;
    assert!(!settle.is_finished(), "settling does not wait for the lease");
    takeover.commit().await.unwrap();
    assert_eq!(settle.await.unwrap(), [false]);
    timers.await.unwrap();
    assert!(!enqueue.await.unwrap());
    assert!(!resolve.await.unwrap());
    assert_eq!(read(&store).await, rows[..1]);
    assert_eq!(store.dead_letters(None, 10).await.unwrap(), std::slice::from_ref(&letter));
    assert_eq!(store.load_checkpoints("policy").await.unwrap(), []);
    assert_eq!(store.due_timers(&[timer_queue()], 10).await.unwrap().timers.len(), 1);
    let now = Lease { epoch: 2, ..lease };
    assert!(store.resolve_dead_letter(&now, &letter, &[]).await.unwrap());
    assert_eq!(read(&store).await, rows);
}

/// A lease that is being used cannot be taken before the write is committed.
#[tokio::test]
async fn a_running_write_holds_its_lease() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let lease = hold(&store).await;
    store.enqueue(0, &[queued(1)], None).await.unwrap();
    database.pool().execute("update leases set expires_at = '2000-01-01'").await.unwrap();
    let place = read(&store).await[0].position;
    let mut foreign = database.connection().await;
    let mut settling = foreign.begin().await.unwrap();
    let settled: Vec<bool> = sqlx::query_scalar(
        "select settle_rows(0::smallint, array[$1], array[1::bigint], array['dispatch'], \
         array['payment'], array[$2], array[0], array[0], array[0], array[0::bigint], \
         array[null])",
    )
    .bind(WORKER)
    .bind(i64::try_from(place.sequence).unwrap())
    .fetch_one(&mut *settling)
    .await
    .unwrap();
    // Indices count from 1.
    assert_eq!(settled, [true]);
    let takeover = tokio::spawn({
        let store = store.clone();
        let claim = vec![(lease, LeaseAction::Claim)];
        async move { store.change_leases(&round(2, Duration::from_secs(9), claim)).await.unwrap() }
    });
    database.wait_for_lock_of("change_leases").await;
    assert!(!takeover.is_finished(), "the lease was taken under a write");
    settling.commit().await.unwrap();
    assert_eq!(takeover.await.unwrap(), [true]);
}

/// Something holds the only partition: an erasure, an operator, a backup.
#[tokio::test]
async fn leases_are_renewed_while_the_partition_is_locked() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let lease = hold(&store).await;
    let mut foreign = database.connection().await;
    let mut holder = foreign.begin().await.unwrap();
    holder.execute("select from partitions for update").await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.append_events(0, &[append("order-1", exact(0), &[1])]).await }
    });
    database.wait_for_lock().await;
    let tasks: Vec<_> = (1..6)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.enqueue(0, &[queued(n)], None).await })
        })
        .collect();
    let renew = vec![(lease, LeaseAction::Renew)];
    let made = store.change_leases(&round(1, Duration::from_secs(60), renew)).await;
    assert_eq!(made.unwrap(), [true]);
    assert_eq!(store.load_leases(&[WORKER.to_owned()]).await.unwrap().leases.len(), 1);
    for task in tasks {
        let given_up = task.await.unwrap().unwrap_err();
        assert!(given_up.is_transient(), "{given_up:?}");
    }
    assert!(!waiting.is_finished(), "an append waits for as long as a statement may");
    holder.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert!(store.enqueue(0, &[queued(9)], None).await.unwrap());
}

/// Workers of one partition wait: the appends of others do not.
#[tokio::test]
async fn a_locked_partition_does_not_block_others() {
    let database = Database::create().await;
    let store = database.builder().partitions(4).max_connections(8).connect().await.unwrap();
    let mut foreign = database.connection().await;
    let mut holder = foreign.begin().await.unwrap();
    holder.execute("select from partitions where partition = 0 for update").await.unwrap();
    let tasks: Vec<_> = (1..12)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.enqueue(0, &[queued(n)], None).await })
        })
        .collect();
    database.wait_for_lock().await;
    let other = (0..).map(|n| format!("order-{n}"));
    let other = other.into_iter().find(|name| store.log().partition_of(&stream(name)) != 0);
    commit(&store, &append(&other.unwrap(), exact(0), &[1])).await;
    assert!(tasks.iter().any(|task| !task.is_finished()), "nobody waited");
    for task in tasks {
        assert!(task.await.unwrap().unwrap_err().is_transient());
    }
}
