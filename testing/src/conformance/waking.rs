//! Waiting workers are woken when there may be work.

use std::time::Duration;

use composable_rust_core::queue::{DeadLetterDecision, DeadLetters as _, Outbox as _, QueueChange};
use tokio::task::JoinHandle;

use super::builders::{append, stream};
use super::firing::{arming, at_once};
use super::random::{joined, others_go_on};
use super::subject::StoreUnderTest;
use super::workers::{parked, queue, queued, row};

async fn wait(on: &StoreUnderTest, seen: u64) -> u64 {
    on.store.wait_for_work(seen).await.expect("the store is available")
}

/// Consumes earlier wakeups, then waits for the next one.
async fn waiting(on: &StoreUnderTest) -> JoinHandle<u64> {
    let mut seen = 0;
    while let Ok(next) = tokio::time::timeout(Duration::from_millis(200), wait(on, seen)).await {
        seen = next;
    }
    let on = on.clone();
    let waiting = tokio::spawn(async move { wait(&on, seen).await });
    others_go_on().await;
    waiting
}

pub(super) async fn appends_with_effects_wake_workers(on: StoreUnderTest) {
    for there in [on.clone(), on.another_process().await] {
        let thing = on.streams_of(0, "thing", 1).remove(0);
        let version = on.events(&thing).await.len() as u64;
        let woken = waiting(&there).await;
        let mut queueing = append(&thing, version, 1);
        queueing.outbox = vec![row("a")];
        on.commit(&queueing).await;
        joined(woken).await;
        let woken = waiting(&there).await;
        on.commit(&arming(&thing, version + 1, &[&at_once("t")])).await;
        joined(woken).await;
    }
}

pub(super) async fn rows_queued_by_workers_wake_workers(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    for there in [on.clone(), on.another_process().await] {
        let woken = waiting(&there).await;
        on.enqueue(0, &[queued(&stream("thing-1"), "a")]).await;
        joined(woken).await;
        let rows = on.waiting(&queue(0)).await;
        let woken = waiting(&there).await;
        let done = QueueChange::Done(vec![queued(&stream("thing-1"), "b")]);
        assert!(on.settle_one(&worker, &rows[0], done).await);
        joined(woken).await;
    }
}

pub(super) async fn dead_letter_decisions_wake_workers(on: StoreUnderTest) {
    let worker = on.worker("work", 0).await;
    for there in [on.clone(), on.another_process().await] {
        let queued = queued(&stream("thing-1"), "a");
        on.enqueue(0, std::slice::from_ref(&queued)).await;
        let row = on.waiting(&queue(0)).await.remove(0);
        assert!(on.settle_one(&worker, &row, parked(1, Some("no"))).await);
        let woken = waiting(&there).await;
        let redrive = DeadLetterDecision::Redrive;
        let kept = on.store.decide_dead_letter(0, queued.row.id, redrive).await;
        assert!(kept.expect("the store is available"));
        joined(woken).await;
        let letter = on.store.decided_dead_letters(&[queue(0)], 9).await;
        let letter = letter.expect("the dead letters are read").remove(0);
        let woken = waiting(&there).await;
        let resolved = on.store.resolve_dead_letter(&worker.lease, &letter, &[]).await;
        assert!(resolved.expect("the store is available"));
        joined(woken).await;
        let rows = on.waiting(&queue(0)).await;
        assert!(on.settle_one(&worker, &rows[0], QueueChange::Done(Vec::new())).await);
    }
}

pub(super) async fn a_missed_wakeup_is_delivered_at_once(on: StoreUnderTest) {
    on.enqueue(0, &[queued(&stream("thing-1"), "a")]).await;
    let first = wait(&on, 0).await;
    on.enqueue(0, &[queued(&stream("thing-1"), "b")]).await;
    let second = wait(&on, first).await;
    assert_ne!(first, second);
    on.store.wake_workers().await.expect("the store is available");
    assert_ne!(second, wait(&on, second).await);
    let there = on.another_process().await;
    wait(&there, 0).await;
}

pub(super) async fn workers_of_other_processes_are_woken(on: StoreUnderTest) {
    let there = on.another_process().await;
    let woken = waiting(&there).await;
    on.store.wake_workers().await.expect("the store is available");
    joined(woken).await;
}
