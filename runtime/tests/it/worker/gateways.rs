//! Calls: attempts, outcomes, time limits, the circuit breaker.

use composable_rust_core::prelude::*;

use super::actor::{Act, Actor, Behaviour, NOWHERE};
use super::node::Mishap;
use super::world::{World, eventually, heard, log, millis, started, tell_to};
use tokio::time::Instant;

fn call(tag: u32) -> Act {
    Act::Call { tag, text: format!("text {tag}") }
}

#[tokio::test(start_paused = true)]
async fn retries_end_with_the_outcome_exhausted() {
    let world = World::new();
    let app = world.app();
    world.outside.next([Behaviour::Retries; 5]);
    let started = Instant::now();
    tell_to(&app, "a", call(1)).await;
    heard(&app, "a", "1: exhausted").await;
    let took = started.elapsed();
    assert!(took >= millis(30_000) && took < millis(31_000), "{took:?}");
    let calls = world.outside.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 5);
    assert!(calls.iter().all(|call| *call == calls[0]), "one key: {calls:?}");
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_final() {
    let world = World::new();
    let app = world.app();
    world.outside.next([Behaviour::Retries, Behaviour::Fails]);
    tell_to(&app, "a", call(1)).await;
    heard(&app, "a", "1: failed").await;
    assert_eq!(world.outside.calls(), 2);
}

/// The call was made, and another would get the same response.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_stored_is_reported_to_the_caller() {
    let world = World::new();
    let app = world.app();
    world.outside.next([Behaviour::AnswersLossily, Behaviour::AnswersAtLength]);
    for tag in [1, 2] {
        tell_to(&app, "a", call(tag)).await;
        heard(&app, "a", &format!("{tag}: unstorable")).await;
        assert_eq!(world.outside.calls(), tag as usize);
    }
    world.quiet().await;
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn requests_that_were_never_sent_count_no_attempt() {
    let world = World::new();
    let app = started(world.builder(world.memory.clone()).gateway_with(Quiet, |_| {}));
    world.outside.next([Behaviour::Retries; 4]);
    world.outside.next([Behaviour::IsUnreachable; 3]);
    tell_to(&app, "a", call(1)).await;
    heard(&app, "a", "1: text 1").await;
    assert_eq!(world.outside.calls(), 8);
}

/// Used so that the builder has two gateways.
struct Quiet;

impl composable_rust_core::Gateway for Quiet {
    const NAME: &'static str = "quiet";
    type Request = super::actor::OutsideRequest;
    type Response = super::actor::OutsideResponse;
    type Failure = super::actor::OutsideFailure;

    async fn call(
        &self,
        _: Self::Request,
        _: &str,
    ) -> Result<Self::Response, composable_rust_core::CallError<Self::Failure>> {
        Err(composable_rust_core::CallError::Failed(super::actor::OutsideFailure::No))
    }
}

#[tokio::test(start_paused = true)]
async fn timeouts_and_panics_count_as_attempts() {
    let world = World::new();
    let app = world.app();
    world.outside.next([Behaviour::Hangs, Behaviour::Panics, Behaviour::Hangs]);
    let started = Instant::now();
    tell_to(&app, "a", call(1)).await;
    heard(&app, "a", "1: text 1").await;
    let took = started.elapsed();
    // 5 s, 2 s, at once, 4 s, 5 s, 8 s.
    assert!(took >= millis(24_000) && took < millis(25_000), "{took:?}");
    assert_eq!(world.outside.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_breaker_counts_no_attempts() {
    let world = World::new();
    let app = world.app();
    // Ten failing calls open it.
    world.outside.next([Behaviour::Retries; 10]);
    for n in 0..10 {
        tell_to(&app, &format!("a{n}"), call(1)).await;
    }
    eventually("ten calls", async || world.outside.calls() == 10).await;
    let opened = Instant::now();
    // The probe fails: the breaker stays open for another 30 seconds, without a call for the
    // waiting requests.
    world.outside.next([Behaviour::Retries]);
    for n in 10..20 {
        tell_to(&app, &format!("a{n}"), call(1)).await;
    }
    tokio::time::sleep(millis(29_000)).await;
    assert_eq!(world.outside.calls(), 10);
    eventually("the probe", async || world.outside.calls() == 11).await;
    tokio::time::sleep(millis(29_000)).await;
    assert_eq!(world.outside.calls(), 11);
    for n in 0..20 {
        heard(&app, &format!("a{n}"), "1: text 1").await;
    }
    let took = opened.elapsed();
    assert!(took >= millis(60_000) && took < millis(65_000), "{took:?}");
    assert_eq!(world.outside.calls(), 31);
}

/// The breaker probes with each request in turn: an unsendable one does not keep it open for
/// others.
#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_sent_do_not_starve_others() {
    let world = World::new();
    let app = world.app();
    for n in 0..12 {
        let act = Act::Call { tag: 1, text: NOWHERE.to_owned() };
        tell_to(&app, &format!("a{n:02}"), act).await;
    }
    eventually("it is open", async || world.outside.calls() >= 10).await;
    let started = Instant::now();
    tell_to(&app, "b", call(1)).await;
    let b = app.handle(&Actor::id("b"));
    b.wait(|b| (b.log.len() == 2).then_some(()), millis(3_600_000)).await.unwrap();
    // Each of the earlier requests has at most one probe.
    let took = started.elapsed();
    assert!(took < millis(14 * 31_000), "{took:?}");
}

/// The outcome is queued by the settlement of the call, so a call whose settlement is lost is
/// repeated under its key.
#[tokio::test(start_paused = true)]
async fn a_call_with_a_lost_response_is_repeated_with_its_key() {
    let world = World::new();
    let (node, app) = world.node();
    node.next("settle", [Mishap::FailsBefore; 3]);
    tell_to(&app, "a", call(1)).await;
    eventually("the call", async || world.outside.calls() == 1).await;
    node.crash();
    let app = world.app();
    heard(&app, "a", "1: text 1").await;
    world.quiet().await;
    assert_eq!(log(&app, "a").await, ["call", "1: text 1"]);
    let calls = world.outside.calls.lock().unwrap().clone();
    assert_eq!((calls.len(), &calls[0]), (2, &calls[1]));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_settlement_replies_once() {
    let world = World::new();
    let (node, app) = world.node();
    node.next("settle", [Mishap::FailsAfter; 3]);
    tell_to(&app, "a", call(1)).await;
    heard(&app, "a", "1: text 1").await;
    world.quiet().await;
    assert_eq!(log(&app, "a").await, ["call", "1: text 1"]);
    assert_eq!(world.outside.calls(), 1);
}
