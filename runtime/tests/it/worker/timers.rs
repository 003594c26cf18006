//! Timers: durable, replaced, cancelled, stale.

use composable_rust_core::MessageId;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{Inbox as _, OutboxKind};
use composable_rust_core::store::EventStore as _;
use composable_rust_runtime::App;
use composable_rust_testing::InMemoryEventStore;

use super::actor::{Act, Actor, ActorCommand as In};
use super::node::{Mishap, Node, NodeProcess};
use super::world::{World, eventually, heard, log, millis, started, tell_to};

fn later(id: &str, after: u64, act: Act) -> Act {
    Act::Later { id: Some(id.into()), after, act: Box::new(act) }
}

/// A process whose actor `a` has armed the timer `t`, which makes it note 1 after `after`
/// milliseconds.
async fn armed(after: u64) -> (World, Node<InMemoryEventStore>, App) {
    let world = World::new();
    let (node, app) = world.node();
    tell_to(&app, "a", later("t", after, Act::Note(1))).await;
    (world, node, app)
}

/// An app whose actor `a` has armed a timer that fails until the world is mended.
async fn armed_to_fail() -> (World, App) {
    let world = World::new();
    let app = world.app();
    world.broken.set(true);
    tell_to(&app, "a", later("t", 1_000, Act::Fragile(1))).await;
    (world, app)
}

/// Lets a worker read the timer `t`, which is due after a second, and holds the response until the
/// process is released.
async fn armed_and_read() -> (World, Node<InMemoryEventStore>, App) {
    let (world, node, app) = armed(1_000).await;
    tokio::time::sleep(millis(500)).await;
    node.next("due_timers", [Mishap::Held]);
    eventually("the firing is read", async || node.holds()).await;
    (world, node, app)
}

#[tokio::test(start_paused = true)]
async fn a_timer_due_during_downtime_fires_once_and_compensates() {
    let world = World::new();
    let (node, app) = world.node();
    let undo = Act::Ask { to: "b".into(), tag: 1, act: Box::new(Act::Note(1)) };
    tell_to(&app, "a", later("timeout", 10_000, undo)).await;
    node.crash();
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(world.memory.timers().len(), 1);

    let app = world.app();
    heard(&app, "a", "1: note 1").await;
    world.quiet().await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(log(&app, "a").await, ["later", "ask", "1: note 1"]);
    assert_eq!(log(&app, "b").await, ["note 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_timer_fires_when_due_and_not_before() {
    let started = tokio::time::Instant::now();
    let (_world, _node, app) = armed(90_000).await;
    heard(&app, "a", "note 1").await;
    let took = started.elapsed();
    assert!(took >= millis(90_000) && took < millis(90_100), "{took:?}");
}

/// Each firing arms the next under the same id, in its own append.
#[tokio::test(start_paused = true)]
async fn a_timer_rearmed_by_its_own_firing_survives() {
    let world = World::new();
    let (node, app) = world.node();
    // Responses to appends are lost, so that each firing is appended twice.
    node.next("append_events", [Mishap::FailsAfter; 3]);
    let ticks = (0..5).rev().fold(Act::Note(9), |act, _| later("tick", 1_000, act));
    tell_to(&app, "a", ticks).await;
    node.next("append_events", [Mishap::FailsAfter; 20]);
    heard(&app, "a", "note 9").await;
    assert_eq!(log(&app, "a").await, ["later", "later", "later", "later", "later", "note 9"]);
    assert!(world.memory.timers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_timer_cancelled_after_it_was_read_does_not_fire() {
    let (world, node, app) = armed_and_read().await;
    tell_to(&app, "a", Act::Cancel("t".into())).await;
    node.release();
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(log(&app, "a").await, ["later", "cancel"]);
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_timer_replaced_after_it_was_read_fires_as_replaced() {
    let (_world, node, app) = armed_and_read().await;
    tell_to(&app, "a", later("t", 5_000, Act::Note(2))).await;
    node.release();
    heard(&app, "a", "note 2").await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(log(&app, "a").await, ["later", "later", "note 2"]);
}

/// The cancelling command and the firing meet in one drain: the firing is stale there.
#[tokio::test(start_paused = true)]
async fn a_timer_cancelled_in_the_same_drain_does_not_fire() {
    for replaces in [false, true] {
        let (world, node, app) = armed(1_000).await;
        tokio::time::sleep(millis(500)).await;
        // While this append is held, later messages wait for the next drain.
        node.next("append_events", [Mishap::Held]);
        let handle = app.handle(&Actor::id("a"));
        let first = tokio::spawn({
            let handle = handle.clone();
            async move { handle.send(In::Do(Act::Note(2))).within(millis(60_000)).await }
        });
        eventually("the append", async || node.holds()).await;
        let act = if replaces { later("t", 60_000, Act::Note(3)) } else { Act::Cancel("t".into()) };
        let second =
            tokio::spawn(async move { handle.send(In::Do(act)).within(millis(60_000)).await });
        tokio::time::sleep(millis(2_000)).await;
        node.release();
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        tokio::time::sleep(millis(30_000)).await;
        assert!(!log(&app, "a").await.contains(&"note 1".to_owned()));
        assert_eq!(world.memory.timers().len(), usize::from(replaces));
    }
}

#[tokio::test(start_paused = true)]
async fn timers_of_a_finished_instance_are_cancelled() {
    let (world, _node, app) = armed(1_000).await;
    tell_to(&app, "a", Act::End).await;
    assert!(world.memory.timers().is_empty());
    // A timer armed by an ended instance is cancelled by its next event.
    tell_to(&app, "a", later("t", 1_000, Act::Note(1))).await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(log(&app, "a").await, ["later", "end", "later"]);
}

/// A timer whose handler fails is retried after 2, 4, 8 and 16 seconds, then parked.
#[tokio::test(start_paused = true)]
async fn a_failing_timer_is_retried_and_finally_parked() {
    let (world, app) = armed_to_fail().await;
    let started = tokio::time::Instant::now();
    let letter = world.dead_letter().await;
    let took = started.elapsed();
    assert!(took >= millis(31_000) && took < millis(32_000), "{took:?}");
    assert_eq!((letter.queue.kind, letter.attempts), (OutboxKind::Timer, 5));
    assert!(letter.error.as_ref().unwrap().contains("it is broken"));
    assert!(world.memory.timers().is_empty());

    world.broken.set(false);
    assert!(world.decide(&letter, composable_rust_core::queue::DeadLetterDecision::Redrive).await);
    heard(&app, "a", "note 1").await;
    assert!(world.dead_letters().await.is_empty());
    // The inbox knows the firing by the id that keeps its entry from being pruned.
    let id = MessageId(letter.message.row.id);
    assert!(world.memory.load_inbox_entry(&letter.message.sender, id).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_discarded_timer_is_deleted() {
    let (world, app) = armed_to_fail().await;
    let letter = world.dead_letter().await;
    world.decide(&letter, composable_rust_core::queue::DeadLetterDecision::Discard).await;
    eventually("refused", async || world.dead_letters().await.is_empty()).await;
    world.broken.set(false);
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(log(&app, "a").await, ["later"]);
}

#[tokio::test(start_paused = true)]
async fn an_erased_timer_is_deleted() {
    let (world, _node, app) = armed(1_000).await;
    app.handle(&Actor::id("a")).erase().await.unwrap();
    eventually("it is gone", async || world.memory.timers().is_empty()).await;
    assert!(world.dead_letters().await.is_empty());
}

/// Failed settlements of timers, and reads under a lease that had expired for a moment, are retried
/// before the next deadline.
#[tokio::test(start_paused = true)]
async fn timers_fire_soon_after_an_outage() {
    let (_world, node, app) = armed(20_000).await;
    tokio::time::sleep(millis(1_000)).await;
    node.freeze();
    tokio::time::sleep(millis(60_000)).await;
    node.wake();
    let started = tokio::time::Instant::now();
    heard(&app, "a", "note 1").await;
    let took = started.elapsed();
    // Its leases have expired, and are renewed every five seconds.
    assert!(took < millis(6_000), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn many_timers_due_at_once_all_fire() {
    let world = World::new();
    let app = world.app();
    for n in 0..1_200 {
        tell_to(&app, &format!("a{n}"), later("t", 60_000, Act::Note(1))).await;
    }
    world.quiet().await;
    for n in 0..1_200 {
        assert_eq!(log(&app, &format!("a{n}")).await, ["later", "note 1"]);
    }
}

/// An actor of another partition than `a`.
fn elsewhere(world: &World) -> String {
    let partition = |id: &str| world.memory.log().partition_of(&Actor::id(id).stream());
    let mut ids = (0..100).map(|n| format!("b{n}"));
    ids.find(|id| partition(id) != partition("a")).unwrap()
}

/// As when another session holds the lock of the partition.
#[tokio::test(start_paused = true)]
async fn a_partition_with_unsettleable_timers_holds_up_no_other() {
    let world = World::new();
    let (node, app) = world.node();
    let other = elsewhere(&world);
    world.broken.set(true);
    node.next("settle_timers", [Mishap::Held]);
    tell_to(&app, "a", later("t", 1_000, Act::Fragile(1))).await;
    eventually("its failure is being written", async || node.holds()).await;
    world.broken.set(false);
    tell_to(&app, &other, later("t", 1_000, Act::Note(2))).await;
    heard(&app, &other, "note 2").await;
    assert!(node.holds());
    node.release();
    heard(&app, "a", "note 1").await;
}

/// Timers that become due after a process died cannot have killed it.
#[tokio::test(start_paused = true)]
async fn timers_due_after_a_takeover_are_not_quarantined() {
    let world = World::new();
    let crashing = || {
        let node = NodeProcess::start(world.memory.clone());
        let builder = world.builder(node.clone());
        let app = started(builder.settings(|own| own.retry.initial_backoff = millis(600_000)));
        (node, app)
    };
    // It is started twice, so that the third process waits before the next attempt.
    let (node, app) = crashing();
    tell_to(&app, "a", later("killer", 1_000, Act::Note(0))).await;
    node.crash();
    tokio::time::sleep(millis(60_000)).await;
    let (node, _app) = crashing();
    node.next("append_events", [Mishap::CrashesBefore]);
    tokio::time::sleep(millis(60_000)).await;

    let (node, app) = crashing();
    tokio::time::sleep(millis(60_000)).await;
    for n in 1..=20 {
        tell_to(&app, "a", later("t", 1_000, Act::Note(n))).await;
        heard(&app, "a", &format!("note {n}")).await;
    }
    assert!(!log(&app, "a").await.contains(&"note 0".to_owned()), "the timer still waits");
    assert_eq!(node.counts().get("settle_timers"), None, "no attempt was recorded");
    heard(&app, "a", "note 0").await;
}
