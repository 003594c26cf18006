//! Work of which the store has no news, because a notification was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use composable_rust_core::queue::DeadLetterDecision;
use tokio::time::Instant;

use super::actor::{Act, Actor};
use super::world::{World, eventually, heard, millis, started, tell_to};
use crate::deaf::Deaf;

/// The longest time until a worker looks without news.
const LATE: u64 = 16_000;

/// The other process commits, and runs no workers.
#[tokio::test(start_paused = true)]
async fn queued_rows_and_timers_are_found_without_news() {
    let world = World::new();
    let _deaf = world.start(Deaf::to(world.memory.clone()));
    let other = world.builder(world.memory.clone()).build().unwrap();
    tokio::time::sleep(millis(20_000)).await;
    let start = Instant::now();
    tell_to(&other, "a", Act::Ask { to: "b".into(), tag: 1, act: Box::new(Act::Note(1)) }).await;
    heard(&other, "b", "note 1").await;
    assert!(start.elapsed() <= millis(LATE), "{:?}", start.elapsed());
    tokio::time::sleep(millis(20_000)).await;
    let start = Instant::now();
    tell_to(&other, "c", Act::Later { id: None, after: 10, act: Box::new(Act::Note(2)) }).await;
    heard(&other, "c", "note 2").await;
    assert!(start.elapsed() <= millis(LATE), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn decisions_are_found_without_news() {
    let world = World::new();
    let deaf = world.start(Deaf::to(world.memory.clone()));
    world.broken.set(true);
    tell_to(&deaf, "a", Act::Tell { to: "b".into(), act: Box::new(Act::Fragile(1)) }).await;
    let letter = world.dead_letter().await;
    world.broken.set(false);
    tokio::time::sleep(millis(20_000)).await;
    let start = Instant::now();
    assert!(world.decide(&letter, DeadLetterDecision::Redrive).await);
    heard(&deaf, "b", "note 1").await;
    // The row that is back in its queue is found by another look.
    assert!(start.elapsed() <= millis(2 * LATE), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn events_are_found_without_news() {
    let world = World::new();
    let seen = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&seen);
    let _deaf = started(world.builder(Deaf::to(world.memory.clone())).on::<Actor, Actor, Vec<_>>(
        "count",
        move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Vec::new()
        },
    ));
    let other = world.builder(world.memory.clone()).build().unwrap();
    tokio::time::sleep(millis(60_000)).await;
    let start = Instant::now();
    tell_to(&other, "a", Act::Note(1)).await;
    eventually("the policy's event", async || seen.load(Ordering::SeqCst) == 1).await;
    assert!(start.elapsed() <= millis(31_000), "{:?}", start.elapsed());
}
