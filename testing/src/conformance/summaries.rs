//! Summaries of all queues, with or without a worker.

use std::time::Duration;

use composable_rust_core::queue::{
    Outbox as _, OutboxKind, Queue, QueueSummary, TimerSettlement, Timers as _,
};
use composable_rust_core::store::{Due, EventStore as _, TimerChange};

use super::builders::stream;
use super::firing::{arming, at_once, firing_of, timer};
use super::subject::StoreUnderTest;
use super::workers::{HOUR, SOON, eventually, failed, parked, queue, queued};

async fn summaries(on: &StoreUnderTest, limit: usize) -> Vec<QueueSummary> {
    on.store.summarize_queues(limit).await.expect("the queues are summarized")
}

/// A queue with its numbers of rows and dead letters, and its last error.
fn essence(of: &QueueSummary) -> (Queue, u64, u64, Option<&str>) {
    (of.queue.clone(), of.rows, of.dead_letters, of.last_error.as_deref())
}

pub(super) async fn summaries_count_every_queue(on: StoreUnderTest) {
    assert_eq!(summaries(&on, 9).await, []);
    let worker = on.worker("work", 0).await;
    let last = on.partitions() - 1;
    let to = |target: &str, kind| {
        let mut queued = queued(&stream("thing-1"), "a");
        (queued.row.target, queued.row.kind) = (target.to_owned(), kind);
        queued
    };
    let mut rows = vec![to("it's \"ä\"", OutboxKind::Call), to("other", OutboxKind::Call)];
    rows.extend(["a", "b", "c", "d"].map(|to| queued(&stream("thing-1"), to)));
    on.enqueue(0, &rows).await;
    on.enqueue(last, &[to("zoo", OutboxKind::Send)]).await;
    let waiting = on.waiting(&queue(0)).await;
    assert!(on.settle_one(&worker, &waiting[0], parked(1, Some("no"))).await);
    assert!(on.settle_one(&worker, &waiting[2], failed(2, HOUR)).await);
    let other = Queue { kind: OutboxKind::Call, ..queue(0) };
    let waiting = on.waiting(&other).await;
    assert!(on.settle_one(&worker, &waiting[0], parked(1, Some("no"))).await);

    let found = summaries(&on, 9).await;
    let odd = Queue { target: "it's \"ä\"".to_owned(), ..other.clone() };
    let zoo = Queue { partition: last, kind: OutboxKind::Send, target: "zoo".to_owned() };
    let expected = [
        (odd, 1, 0, None),
        (other, 0, 1, None),
        (queue(0), 3, 1, Some("it's \"down\"")),
        (zoo, 1, 0, None),
    ];
    assert_eq!(found.iter().map(essence).collect::<Vec<_>>(), expected);
    assert_eq!(found[1].oldest, Duration::ZERO, "nothing waits");
    eventually("its age", async || summaries(&on, 9).await[0].oldest >= SOON).await;
    assert!(summaries(&on, 9).await.iter().all(|of| of.oldest < HOUR));
    let elsewhere = on.another_process().await;
    let seen = summaries(&elsewhere, 9).await;
    assert_eq!(seen.iter().map(essence).collect::<Vec<_>>(), expected);
}

pub(super) async fn summaries_count_due_timers(on: StoreUnderTest) {
    let things = on.streams_of(0, "thing", 2);
    let others = on.streams_of(0, "another", 1);
    let now = on.store.now().await.expect("the clock is read");
    let mut append = arming(&things[0], 0, &[&at_once("a")]);
    append.timers.push(TimerChange::Arm(timer("late", Due::At(now - HOUR))));
    append.timers.push(TimerChange::Arm(timer("later", Due::After(HOUR))));
    on.commit(&append).await;
    let at_once = at_once("b");
    on.commit(&arming(&things[1], 0, &[&at_once])).await;
    let mut append = arming(&others[0], 0, &[]);
    append.timers.push(TimerChange::Arm(timer("later", Due::After(HOUR))));
    on.commit(&append).await;
    let queue = Queue { partition: 0, kind: OutboxKind::Timer, target: "thing".to_owned() };
    let found = summaries(&on, 9).await;
    assert_eq!(found.iter().map(essence).collect::<Vec<_>>(), [(queue.clone(), 3, 0, None)]);
    assert!((HOUR..HOUR * 2).contains(&found[0].oldest), "{:?}", found[0].oldest);

    let worker = on.worker("work", 0).await;
    let settle = async |change| {
        let (lease, stream) = (worker.lease.clone(), things[1].clone());
        let settlement = TimerSettlement { lease, stream, timer: firing_of(&at_once), change };
        on.store.settle_timers(0, &[settlement]).await.expect("the store is available");
    };
    settle(failed(1, Duration::ZERO)).await;
    let found = summaries(&on, 9).await;
    let expected = (queue.clone(), 3, 0, Some("it's \"down\""));
    assert_eq!(found.iter().map(essence).collect::<Vec<_>>(), [expected]);
    settle(parked(2, Some("no"))).await;
    let found = summaries(&on, 9).await;
    assert_eq!(found.iter().map(essence).collect::<Vec<_>>(), [(queue, 2, 1, None)]);
}

pub(super) async fn summaries_end_at_the_limit(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let rows: Vec<_> = (0..10).map(|n| queued(&stream("thing-1"), &n.to_string())).collect();
    on.enqueue(0, &rows).await;
    let waiting = on.waiting(&queue(0)).await;
    for row in &waiting[..5] {
        assert!(on.settle_one(&worker, row, parked(1, Some("no"))).await);
    }
    assert!(on.settle_one(&worker, &waiting[8], failed(1, HOUR)).await);
    let counted = async |limit| {
        let found = summaries(&on, limit).await;
        (found[0].rows, found[0].dead_letters, found[0].last_error.is_some())
    };
    assert_eq!(counted(2).await, (2, 2, false));
    assert_eq!(counted(4).await, (4, 4, true));
    assert_eq!(counted(100).await, (5, 5, true));
}

pub(super) async fn counts_of_waiting_rows_end_at_the_limit(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    let last = on.partitions() - 1;
    let to = |target: &str, kind| {
        let mut queued = queued(&stream("thing-1"), "a");
        (queued.row.target, queued.row.kind) = (target.to_owned(), kind);
        queued
    };
    on.enqueue(0, &vec![to("other", OutboxKind::Bulk); 7]).await;
    on.enqueue(0, &[to("it's \"ä\"", OutboxKind::Call), to("other", OutboxKind::Call)]).await;
    on.enqueue(last, &vec![to("zoo", OutboxKind::Send); 3]).await;
    let of = |partition, kind, target: &str| Queue { partition, kind, target: target.to_owned() };
    let queues = [
        of(last, OutboxKind::Send, "zoo"),
        of(0, OutboxKind::Policy, "nobody"),
        of(0, OutboxKind::Bulk, "other"),
        of(0, OutboxKind::Call, "it's \"ä\""),
    ];
    let counted = async |queues: &[Queue], limit| {
        on.store.count_waiting(queues, limit).await.expect("the rows are counted")
    };
    assert_eq!(counted(&queues, 100).await, [3, 0, 7, 1]);
    assert_eq!(counted(&queues, 5).await, [3, 0, 5, 1]);
    assert_eq!(counted(&queues[2..3], 7).await, [7]);
    assert_eq!(counted(&[], 5).await, [0; 0]);
    let (rows, many) = (on.waiting(&queues[2]).await, vec![queues[2].clone(); 300]);
    assert!(on.settle_one(&worker, &rows[0], parked(1, Some("no"))).await);
    assert!(on.settle_one(&worker, &rows[1], failed(1, HOUR)).await);
    assert_eq!(counted(&many, 100).await, vec![6; 300], "dead letters do not wait");
}
