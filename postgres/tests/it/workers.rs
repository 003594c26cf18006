//! Workers of several processes that get in each other's way.

use std::collections::HashSet;
use std::time::Duration;

use composable_rust_core::event::ERASED;
use composable_rust_core::{
    Advance, Append, Checkpoint, DeadLetterDecision, Due, EventStore as _, ExpectedVersion, Firing,
    Lease, LeaseAction, LeaseRound, MessageId, NewOutboxRow, NewTimer, OutboxKind, OutboxRow,
    Queue, QueueChange, QueuePlace, QueuedRow, Settlement, TimerChange, TimerQueue,
    TimerSettlement, Verdict, WorkQueues as _,
};
use composable_rust_postgres::PostgresEventStore;
use sqlx::{Connection as _, Executor as _};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::database::Database;
use crate::fixtures::{append, commit, content, exact, mark, stream};

const WORKER: &str = "dispatch/payment";

fn queue() -> Queue {
    Queue { partition: 0, kind: OutboxKind::Dispatch, target: "payment".to_owned() }
}

fn timer_queue() -> TimerQueue {
    TimerQueue { partition: 0, category: "order".to_owned() }
}

fn row(n: u128) -> NewOutboxRow {
    NewOutboxRow {
        id: Uuid::from_u128(n),
        kind: OutboxKind::Dispatch,
        target: "payment".to_owned(),
        recipient: format!("payment-{}", n % 7),
        content: content("payment.charge", b"secret"),
        metadata: r#"{"user": "u"}"#.to_owned(),
    }
}

fn queued(n: u128) -> QueuedRow {
    QueuedRow { stream: stream("order-1"), row: row(n) }
}

fn round(holder: u128, ttl: Duration, changes: Vec<(Lease, LeaseAction)>) -> LeaseRound {
    LeaseRound { holder: Uuid::from_u128(holder), workers: vec![WORKER.to_owned()], ttl, changes }
}

fn lease(partition: u16, epoch: u64) -> Lease {
    Lease { worker: WORKER.to_owned(), partition, epoch }
}

/// Holds the lease of partition 0, which nobody ever held.
async fn hold(store: &PostgresEventStore) -> Lease {
    let claim = vec![(lease(0, 0), LeaseAction::Claim)];
    let made = store.change_leases(&round(1, Duration::from_secs(60), claim)).await.unwrap();
    assert_eq!(made, [true]);
    lease(0, 1)
}

async fn read(store: &PostgresEventStore) -> Vec<OutboxRow> {
    store.read_outbox(&[(queue(), QueuePlace::default())], 1_000).await.unwrap()
}

fn settlement(lease: &Lease, row: &OutboxRow, change: QueueChange) -> Settlement {
    Settlement { lease: lease.clone(), queue: queue(), place: row.place, change }
}

fn done() -> QueueChange {
    QueueChange::Done(Vec::new())
}

fn parked(error: Option<&str>) -> QueueChange {
    QueueChange::Parked { attempts: 1, error: error.map(str::to_owned) }
}

fn arm(n: u128, due: Due) -> TimerChange {
    TimerChange::Arm(NewTimer {
        id: "t".to_owned(),
        arming: (MessageId(Uuid::from_u128(n)), 0),
        due,
        content: content("order.late", b""),
        metadata: String::new(),
    })
}

fn firing(n: u128) -> Firing {
    Firing { id: "t".to_owned(), arming: (MessageId(Uuid::from_u128(n)), 0) }
}

/// Another arming of the timer, by message `n`.
fn arming(n: u128) -> Append {
    let timers = vec![arm(n, Due::After(Duration::ZERO))];
    Append { timers, ..append("order-1", ExpectedVersion::Any, &[]) }
}

/// Fires arming `n`, as message `message`.
fn fires(n: u128, message: u128) -> Append {
    let marks = vec![mark(message, 0, 0)];
    Append { fires: vec![firing(n)], marks, ..append("order-1", ExpectedVersion::Any, &[]) }
}

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
                // Each in another order.
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
async fn who_cannot_work_any_more_is_no_member() {
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
    let withdrawn = LeaseRound { workers: Vec::new(), ..round(1, minute, Vec::new()) };
    store.change_leases(&withdrawn).await.unwrap();
    assert_eq!(members(store.clone()).await, [member(3)]);
    let kept: i64 =
        sqlx::query_scalar("select count(*) from members").fetch_one(store.pool()).await.unwrap();
    assert_eq!(kept, 1, "what has lapsed goes");
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
    let id = rows[1].queued.row.id;
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
        let lost = TimerSettlement { lease, stream: stream("order-1"), firing: firing(5), change };
        async move { store.settle_timers(0, &[lost]).await.unwrap() }
    });
    let enqueue = tokio::spawn({
        let (store, lease) = (store.clone(), lease.clone());
        let to = Checkpoint { partition: 0, offset: 1, event_id: None };
        let advance = Advance { name: "policy".to_owned(), lease, to };
        async move { store.enqueue(0, &[queued(4)], Some(&advance)).await.unwrap() }
    });
    let resolve = tokio::spawn({
        let (store, lease, letter) = (store.clone(), lease.clone(), letter.clone());
        async move { store.resolve_dead_letter(&lease, &letter, &[]).await.unwrap() }
    });
    sleep(Duration::from_millis(300)).await;
    assert!(!settle.is_finished(), "it does not wait for the lease");
    takeover.commit().await.unwrap();
    assert_eq!(settle.await.unwrap(), [false]);
    timers.await.unwrap();
    assert!(!enqueue.await.unwrap());
    assert!(!resolve.await.unwrap());
    assert_eq!(read(&store).await, rows[..1].iter().map(behind).collect::<Vec<_>>());
    assert_eq!(store.dead_letters(None, 10).await.unwrap(), [letter.clone()]);
    assert_eq!(store.load_checkpoints("policy").await.unwrap(), []);
    assert_eq!(store.due_timers(&[timer_queue()], 10).await.unwrap().timers.len(), 1);
    let now = Lease { epoch: 2, ..lease };
    assert!(store.resolve_dead_letter(&now, &letter, &[]).await.unwrap());
    assert_eq!(read(&store).await, rows);
}

/// The row as it is read while dead letters of other pairs stand.
fn behind(row: &OutboxRow) -> OutboxRow {
    OutboxRow { behind_parked: false, ..row.clone() }
}

/// A lease that is being used cannot be taken before the write is committed.
#[tokio::test]
async fn a_write_that_is_under_way_holds_its_lease() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let lease = hold(&store).await;
    store.enqueue(0, &[queued(1)], None).await.unwrap();
    store.pool().execute("update leases set expires_at = '2000-01-01'").await.unwrap();
    let place = read(&store).await[0].place;
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
    sleep(Duration::from_millis(200)).await;
    assert!(!takeover.is_finished(), "the lease was taken under a write");
    settling.commit().await.unwrap();
    assert_eq!(takeover.await.unwrap(), [true]);
}

/// Rows come from appends, followers and settlements of two pools; whoever reads on from the last
/// place misses none.
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
                    // A row that becomes another.
                    let other = Queue { target: format!("step{writer}"), ..queue() };
                    let mut step = queued(n + (1 << 64));
                    step.row.target = other.target.clone();
                    store.enqueue(0, &[step], None).await.unwrap();
                    let after = [(other.clone(), QueuePlace::default())];
                    let step = store.read_outbox(&after, 1).await.unwrap().remove(0);
                    let change = QueueChange::Done(vec![queued(n)]);
                    let settlement = Settlement {
                        lease: lease.clone(),
                        queue: other,
                        place: step.place,
                        change,
                    };
                    let settled = store.settle(0, &[settlement.clone()]).await.unwrap();
                    assert_eq!(settled, [true]);
                    // Sent again, it adds nothing.
                    assert_eq!(store.settle(0, &[settlement]).await.unwrap(), [true]);
                }
            }
        })
    });
    let writers = futures_util::future::join_all(writers.collect::<Vec<_>>());
    let reader = async {
        let mut seen = Vec::new();
        let mut place = QueuePlace::default();
        let deadline = Instant::now() + Duration::from_secs(60);
        while seen.len() < usize::try_from(WRITERS * EACH).unwrap() && Instant::now() < deadline {
            for row in stores[1].read_outbox(&[(queue(), place)], 7).await.unwrap() {
                assert!(row.place > place, "places rise");
                place = row.place;
                seen.push(row.queued.row.id.as_u128());
            }
        }
        seen
    };
    let (written, seen) = tokio::join!(writers, reader);
    written.into_iter().for_each(|writer| writer.unwrap());
    let all: HashSet<u128> =
        (0..WRITERS).flat_map(|w| (0..EACH).map(move |n| 1 + w * 1_000 + n)).collect();
    assert_eq!(seen.len(), all.len());
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), all, "missed some");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_fires_once_or_is_replaced() {
    let database = Database::create().await;
    let stores = [database.store(1).await, database.store(1).await];
    commit(&stores[0], &arming(1)).await;
    let (mut fired, mut void) = (0, 0);
    for n in 1..=60 {
        let one = fires(n, 1_000 + n);
        let other = fires(n, 2_000 + n);
        let next = arming(n + 1);
        let (one, other, next) =
            tokio::join!(commit(&stores[0], &one), commit(&stores[1], &other), async {
                if n % 2 == 0 {
                    tokio::task::yield_now().await;
                }
                commit(&stores[usize::from(n % 3 == 0)], &next).await
            });
        assert!(matches!(next, Verdict::Committed { .. }), "{next:?}");
        match (&one, &other) {
            (Verdict::Committed { .. }, Verdict::Void(which))
            | (Verdict::Void(which), Verdict::Committed { .. }) => {
                assert_eq!(which, &[0]);
                fired += 1;
            }
            (Verdict::Void(_), Verdict::Void(_)) => void += 1,
            both => panic!("{both:?}"),
        }
        let due = stores[0].due_timers(&[timer_queue()], 10).await.unwrap();
        let firings: Vec<_> = due.timers.into_iter().map(|timer| timer.firing).collect();
        assert_eq!(firings, [firing(n + 1)]);
    }
    println!("{fired} fired, {void} were replaced");
}

/// What was fired is not parked, and what was parked is not fired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_fires_or_is_parked() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let other = database.store(1).await;
    let lease = hold(&store).await;
    for n in 1..=40 {
        commit(&store, &arming(n)).await;
        let firing_append = fires(n, 1_000 + n);
        let park = TimerSettlement {
            lease: lease.clone(),
            stream: stream("order-1"),
            firing: firing(n),
            change: parked(Some("no")),
        };
        let before = store.dead_letters(None, 1_000).await.unwrap().len();
        let park = [park];
        let (fired, parked) =
            tokio::join!(commit(&other, &firing_append), store.settle_timers(0, &park));
        parked.unwrap();
        let letters = store.dead_letters(None, 1_000).await.unwrap();
        let is_parked = letters.len() > before;
        match fired {
            Verdict::Committed { .. } => assert!(!is_parked, "both"),
            Verdict::Void(_) => assert!(is_parked, "neither"),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.due_timers(&[timer_queue()], 10).await.unwrap().timers, []);
    }
}

/// The row changes its place on disk while the worker waits for it.
#[tokio::test]
async fn rows_that_are_being_erased_are_settled_all_the_same() {
    let database = Database::create().await;
    let store = database.store(3).await;
    let lease = hold(&store).await;
    store.enqueue(0, &[queued(1), queued(2), queued(3)], None).await.unwrap();
    let rows = read(&store).await;
    let mut foreign = database.connection().await;
    let mut erasure = foreign.begin().await.unwrap();
    let erase = "select erase_stream($1, 'order-1')";
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
    sleep(Duration::from_millis(300)).await;
    assert!(!settle.is_finished(), "it does not wait for the rows");
    erasure.commit().await.unwrap();
    assert_eq!(settle.await.unwrap(), [true; 3]);
    let left = read(&store).await;
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].place, left[0].attempts), (rows[1].place, 3));
    assert!(left[0].wait > Duration::from_secs(50) && left[0].wait <= Duration::from_secs(60));
    let letters = store.dead_letters(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    for queued in [&left[0].queued, &letters[0].queued] {
        assert_eq!((&*queued.row.content.name, &*queued.row.metadata), (ERASED, ""));
    }
}

/// How long a store that looks every ten minutes takes to hear of work through another.
#[tokio::test]
async fn work_of_other_processes_is_heard_of() {
    let database = Database::create().await;
    let writer = database.store(1).await;
    let worker =
        database.builder().poll_interval(Duration::from_secs(600)).connect().await.unwrap();
    let mut seen = worker.wait_for_work(0).await.unwrap();
    // Both connections are opened when first needed; what is said before that is missed.
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
        // What was said meanwhile.
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
    // Events alone are no work.
    commit(&writer, &append("order-2", ExpectedVersion::Any, &[1])).await;
    let idle = timeout(Duration::from_millis(200), worker.wait_for_work(seen)).await;
    assert!(idle.is_err(), "nothing was queued, but the wait ended");
}

/// Own work is told to others and not heard of twice.
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

/// More pages than are looked at in one step, of which other partitions fill a part.
#[tokio::test]
async fn a_large_inbox_is_pruned_bit_by_bit() {
    let database = Database::create().await;
    let store = database.store(2).await;
    let lease = hold(&store).await;
    let fill = "insert into inbox select 0, null, now() - make_interval(days => 40 - n / 1000, hours => -1), \
        ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(), n % 2, \
        'a-' || n, '' from generate_series(1, 20000) n";
    store.pool().execute(fill).await.unwrap();
    let mut two = [queued(2), queued(4)];
    two[1].row.recipient = "payment-9".to_owned();
    store.enqueue(0, &two, None).await.unwrap();
    store
        .pool()
        .execute("update outbox set created_at = now() - interval '50 days'")
        .await
        .unwrap();
    let rows = read(&store).await;
    let park = settlement(&lease, &rows[1], parked(Some("no")));
    store.settle(0, &[park]).await.unwrap();
    let month = Duration::from_secs(30 * 24 * 3600);
    let mut counts = Vec::new();
    loop {
        let pruned = store.prune_marks(0, month, 700).await.unwrap();
        if pruned == 0 {
            break;
        }
        counts.push(pruned);
    }
    // Those of the first 9,999 that are even, but for two whose messages wait.
    assert_eq!(counts.iter().sum::<u64>(), 4_999 - 2, "{counts:?}");
    assert!(counts[..counts.len() - 1].iter().all(|pruned| *pruned == 700), "{counts:?}");
    let left: Vec<(i16, i64)> =
        sqlx::query_as("select partition, count(*) from inbox group by 1 order by 1")
            .fetch_all(store.pool())
            .await
            .unwrap();
    assert_eq!(left, [(0, 10_000 - 4_997), (1, 10_000)]);
    // Marks of other ages wait for their turn.
    assert_eq!(store.prune_marks(1, Duration::from_secs(3600 * 24 * 365), 10).await.unwrap(), 0);
}
