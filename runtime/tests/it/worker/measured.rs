//! Metrics of commands, queues, timers, gateways and leases.

#![expect(clippy::float_cmp, reason = "the gauges are small whole numbers")]

use std::time::Duration;

use composable_rust_core::Version;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::DeadLetterDecision;

use crate::recorded::Recorded;

use super::actor::{Act, Actor, ActorCommand, Behaviour};
use super::world::{PATIENCE, World, eventually, heard, started, tell_to};

/// Longer than the interval at which the gauges are set.
const INTERVAL: Duration = Duration::from_secs(16);

type Commands = Vec<(Id<Actor>, ActorCommand)>;

async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[tokio::test(start_paused = true)]
async fn commands_count_by_their_outcome() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let world = World::new();
    let app = world.app();
    let a = app.handle(&Actor::id("a"));
    let send = async |act| a.send(ActorCommand::Do(act)).key("key").await;
    send(Act::Note(1)).await.unwrap();
    send(Act::Note(1)).await.unwrap();
    send(Act::Note(2)).await.unwrap_err();
    a.send(ActorCommand::Do(Act::Nothing)).await.unwrap();
    a.send(ActorCommand::Do(Act::Refuse)).await.unwrap_err();
    a.send(ActorCommand::Do(Act::Note(3))).expecting(Version::new(9)).await.unwrap_err();
    world.broken.set(true);
    a.send(ActorCommand::Do(Act::Fragile(1))).await.unwrap_err();
    a.send(ActorCommand::Do(Act::Note(4))).within(Duration::ZERO).await.unwrap_err();
    let counts =
        ["committed", "unchanged", "rejected", "conflict", "duplicate", "expired", "failed"].map(
            |outcome| {
                let labels = format!("aggregate=actor,command=actor.do,outcome={outcome}");
                recorded.values(&format!("command_duration_seconds{{{labels}}}")).len()
            },
        );
    assert_eq!(counts, [1, 1, 1, 2, 1, 1, 1]);
    assert!(recorded.values("append_batch_events{}").contains(&1.0));
    assert!(!recorded.values("append_duration_seconds{outcome=committed}").is_empty());
    assert_eq!(recorded.get("live_instances{aggregate=actor}"), 1.0);
    assert!(recorded.get("live_instance_bytes{aggregate=actor}") > 1_024.0);
}

#[tokio::test(start_paused = true)]
async fn conflicts_of_two_processes_are_counted() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let world = World::new();
    let [one, other] = [(); 2].map(|()| world.builder(world.memory.clone()).build().unwrap());
    for (n, app) in [&one, &other, &one].into_iter().enumerate() {
        tell_to(app, "a", Act::Note(u32::try_from(n).unwrap())).await;
    }
    assert!(recorded.get("append_conflicts_total{aggregate=actor}") >= 1.0);
}

/// An alert needs the gauges most while nothing is handled.
#[tokio::test(start_paused = true)]
async fn the_gauges_of_a_queue_rise_while_it_is_stuck_and_end_at_zero() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let world = World::new();
    let app = world.app();
    world.outside.next([Behaviour::IsUnreachable; 1_000]);
    tell_to(&app, "a", Act::Call { tag: 1, text: "text".to_owned() }).await;
    pass(INTERVAL * 2).await;
    let depth = || recorded.get("queue_depth{queue=call/outside}");
    let age = || recorded.get("queue_oldest_age_seconds{queue=call/outside}");
    assert_eq!(depth(), 1.0);
    let before = age();
    pass(Duration::from_secs(200)).await;
    assert!(age() >= before + 80.0, "{before}, {}", age());
    let attempts = recorded.get("delivery_attempts_total{queue=call/outside,outcome=unavailable}");
    assert!(attempts > 1.0);

    world.outside.script.lock().unwrap().clear();
    heard(&app, "a", "1: text").await;
    pass(INTERVAL * 2).await;
    assert_eq!((depth(), age()), (0.0, 0.0));
    assert_eq!(recorded.get("delivery_attempts_total{queue=call/outside,outcome=handled}"), 1.0);
    let waited = recorded.values("delivery_duration_seconds{queue=call/outside}");
    assert!(waited.len() == 1 && waited[0] > 100.0, "{waited:?}");
    let calls = |outcome: &str| {
        let labels = format!("gateway=outside,outcome={outcome}");
        recorded.values(&format!("gateway_call_duration_seconds{{{labels}}}")).len()
    };
    assert!(calls("unreachable") > 1 && calls("done") == 1);
}

/// The process that has the lease tells; the sum over all processes is the depth.
#[tokio::test(start_paused = true)]
async fn the_gauges_of_a_log_are_zero_after_a_shutdown() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let world = World::new();
    let app = world.app();
    world.outside.next([Behaviour::IsUnreachable; 1_000]);
    tell_to(&app, "a", Act::Call { tag: 1, text: "text".to_owned() }).await;
    pass(INTERVAL * 2).await;
    assert_eq!(recorded.get("queue_depth{queue=call/outside}"), 1.0);
    assert!(recorded.get("leases_held{}") > 0.0);
    assert!(app.shutdown(PATIENCE).await);
    assert_eq!(recorded.get("queue_depth{queue=call/outside}"), 0.0);
    assert_eq!(recorded.get("leases_held{}"), 0.0);
}

/// A pause lasts until an operator ends it.
#[tokio::test(start_paused = true)]
async fn the_gauges_of_a_log_rise_while_it_is_paused() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let world = World::new();
    let builder = world.builder(world.memory.clone());
    let app = started(builder.on::<Actor, Actor, Commands>("listen", |_| Vec::new()));
    tell_to(&app, "a", Act::Note(1)).await;
    pass(INTERVAL).await;
    app.pause().await.unwrap();
    pass(INTERVAL * 2).await;
    tell_to(&app, "a", Act::Tell { to: "b".to_owned(), act: Box::new(Act::Note(1)) }).await;
    pass(Duration::from_secs(200)).await;
    for age in
        ["queue_oldest_age_seconds{queue=dispatch/actor}", "policy_lag_seconds{policy=listen}"]
    {
        assert!(recorded.get(age) > 60.0, "{age}: {}", recorded.get(age));
    }
    assert_eq!(recorded.get("policy_lag_events{policy=listen}"), 1.0);
    app.resume().await.unwrap();
    heard(&app, "b", "note 1").await;
    pass(INTERVAL * 3).await;
    for gauge in ["queue_depth{queue=dispatch/actor}", "policy_lag_events{policy=listen}"] {
        assert_eq!(recorded.get(gauge), 0.0, "{gauge}");
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_a_gauge_and_a_counter() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let world = World::new();
    let app = world.app();
    world.broken.set(true);
    tell_to(&app, "a", Act::Tell { to: "b".to_owned(), act: Box::new(Act::Fragile(1)) }).await;
    let letter = world.dead_letter().await;
    let gauge = || recorded.try_get("dead_letters{queue=dispatch/actor}").unwrap_or_default();
    eventually("the gauge", async || gauge() > 0.5).await;
    assert_eq!(recorded.get("messages_parked_total{queue=dispatch/actor}"), 1.0);
    let failed = recorded.get("delivery_attempts_total{queue=dispatch/actor,outcome=failed}");
    assert!(failed > 1.0, "{failed}");
    world.broken.set(false);
    assert!(world.decide(&letter, DeadLetterDecision::Redrive).await);
    heard(&app, "b", "note 1").await;
    eventually("no dead letter", async || gauge() < 0.5).await;
    assert_eq!(recorded.get("messages_parked_total{queue=dispatch/actor}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_timer_is_late_while_no_process_runs() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let world = World::new();
    let later = |after, act| Act::Later { id: None, after, act: Box::new(act) };
    let app = world.builder(world.memory.clone()).build().unwrap();
    tell_to(&app, "a", later(1_000, Act::Note(1))).await;
    pass(Duration::from_secs(61)).await;
    app.start();
    heard(&app, "a", "note 1").await;
    let lateness = || recorded.values("timer_lateness_seconds{aggregate=actor}");
    eventually("the timer is recorded", async || !lateness().is_empty()).await;
    let late = lateness();
    assert!(late.len() == 1 && late[0] >= 60.0 && late[0] < 61.0, "{late:?}");
    assert_eq!(recorded.get("delivery_attempts_total{queue=timer/actor,outcome=handled}"), 1.0);

    app.pause().await.unwrap();
    tell_to(&app, "a", later(1, Act::Note(2))).await;
    pass(Duration::from_secs(200)).await;
    assert_eq!(recorded.get("timers_due{aggregate=actor}"), 1.0);
    assert!(recorded.get("timers_overdue_seconds{aggregate=actor}") > 60.0);
    app.resume().await.unwrap();
    heard(&app, "a", "note 2").await;
    pass(INTERVAL * 3).await;
    assert_eq!(recorded.get("timers_due{aggregate=actor}"), 0.0);
}
