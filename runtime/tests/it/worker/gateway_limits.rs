//! Limits of calls by key, rates, idempotency keys of callers, and pauses of gateways.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::queue::Leases as _;
use composable_rust_runtime::operations::CircuitState;
use composable_rust_runtime::settings::GatewaySettings;
use composable_rust_runtime::{App, SendError};
use composable_rust_testing::{FakeAnswer, FakeGateway};
use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::actor::{
    Act, Actor, ActorCommand, Outside, OutsideFailure, OutsideRequest, OutsideResponse,
};
use super::world::{World, eventually, heard, log, millis, started, tell_to};

type Fake = FakeGateway<Outside>;

fn app(world: &World, fake: &Fake, change: fn(&mut GatewaySettings<Fake>)) -> App {
    let builder = world.bare_builder(world.memory.clone()).aggregate::<Actor>(world.around());
    started(builder.gateway_with(fake.clone(), change))
}

fn ask(tag: u32, text: &str) -> Act {
    Act::Call { tag, text: text.to_owned() }
}

fn done(text: &str) -> FakeAnswer<Outside> {
    FakeAnswer::done(OutsideResponse::Said(text.to_owned()))
}

/// The text of a request up to the first space.
fn customer(OutsideRequest::Ask(text): &OutsideRequest) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn is_of(name: &'static str) -> impl Fn(&OutsideRequest) -> bool {
    move |request| customer(request) == name
}

fn repeats(OutsideRequest::Ask(text): &OutsideRequest) -> FakeAnswer<Outside> {
    done(text)
}

#[tokio::test(start_paused = true)]
async fn a_second_call_after_exhausted_has_the_callers_key() {
    let world = World::new();
    let fake = Fake::new().answers((0..5).map(|_| FakeAnswer::fail("503"))).answers([done("paid")]);
    let app = app(&world, &fake, |_| {});
    let charge = |tag| Act::CallAs { tag, text: "charge".to_owned(), key: "charge".to_owned() };
    tell_to(&app, "a", charge(1)).await;
    heard(&app, "a", "1: exhausted").await;
    tell_to(&app, "a", charge(2)).await;
    heard(&app, "a", "2: paid").await;
    // The same call by another instance is another action.
    fake.push([done("paid, too")]);
    tell_to(&app, "b", charge(1)).await;
    heard(&app, "b", "1: paid, too").await;
    let mut keys: Vec<_> = fake.calls().into_iter().map(|call| call.idempotency_key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 2, "{keys:?}");
    fake.finish();
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_call_has_an_invalid_key_fails() {
    let world = World::new();
    let fake = Fake::new();
    let app = app(&world, &fake, |_| {});
    let act = Act::CallAs { tag: 1, text: "charge".to_owned(), key: String::new() };
    let sent = app.handle(&Actor::id("a")).send(ActorCommand::Do(act)).await;
    let Err(SendError::Unstorable(reason)) = sent else { panic!("{sent:?}") };
    assert_eq!(
        reason,
        "the idempotency key of a call to `outside` is invalid: an id must not be empty"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_does_not_stop_the_others() {
    let world = World::new();
    let hanging = || (0..4).map(|_| FakeAnswer::hang());
    let fake = Fake::new().answers_to(is_of("bad"), hanging()).answers_with(repeats);
    let app = app(&world, &fake, |gateway| {
        gateway.circuit_breaker.window = 4;
        gateway.breaker_by(customer);
    });
    for n in 0..4 {
        tell_to(&app, &format!("bad{n}"), ask(1, &format!("bad {n}"))).await;
    }
    eventually("the circuit opens", async || {
        let status = app.gateway::<Outside>().status().await.unwrap();
        status.circuits.iter().any(|of| matches!(of.state, CircuitState::Open { .. }))
    })
    .await;
    let opened = Instant::now();
    tell_to(&app, "bad4", ask(1, "bad 4")).await;
    for n in 0..20 {
        tell_to(&app, &format!("good{n}"), ask(1, &format!("good {n}"))).await;
        heard(&app, &format!("good{n}"), &format!("1: good {n}")).await;
    }
    assert!(opened.elapsed() < millis(1_000), "{:?}", opened.elapsed());
    let status = app.gateway::<Outside>().status().await.unwrap();
    let circuits: BTreeMap<_, _> =
        status.circuits.into_iter().map(|of| (of.key.unwrap(), of.state)).collect();
    assert!(matches!(circuits["bad"], CircuitState::Open { .. }), "{circuits:?}");
    assert_eq!(circuits["good"], CircuitState::Closed);
    assert_eq!((status.waiting, status.in_progress), (5, 0));
    // A probe closes it, and the waiting calls are made; they spent no attempts.
    for n in 0..5 {
        heard(&app, &format!("bad{n}"), &format!("1: bad {n}")).await;
    }
    assert!(opened.elapsed() >= millis(29_000), "{:?}", opened.elapsed());
    fake.finish();
}

/// More lanes wait for an open circuit than are kept in memory.
#[tokio::test(start_paused = true)]
async fn many_calls_of_a_failing_key_do_not_keep_others_from_being_read() {
    let world = World::new();
    let fails = |request: &OutsideRequest| match customer(request).as_str() {
        "bad" => FakeAnswer::fail("503"),
        _ => repeats(request),
    };
    let fake = Fake::new().answers_with(fails).allow_equal_requests();
    let app = app(&world, &fake, |gateway| {
        gateway.circuit_breaker.open_duration = Duration::from_secs(3_600);
        gateway.breaker_by(customer);
    });
    for n in 0..2_500 {
        tell_to(&app, &format!("bad{n}"), ask(1, "bad")).await;
    }
    tell_to(&app, "good", ask(1, "good")).await;
    heard(&app, "good", "1: good").await;
    assert!(fake.calls().len() < 100, "{}", fake.calls().len());
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_of_a_key_are_limited() {
    let world = World::new();
    let slow = |request: &OutsideRequest| repeats(request).after(Duration::from_secs(1));
    let fake = Fake::new().answers_with(slow);
    let app = app(&world, &fake, |gateway| gateway.concurrency_by(customer, 2));
    let start = Instant::now();
    for n in 0..6 {
        tell_to(&app, &format!("busy{n}"), ask(1, &format!("busy {n}"))).await;
    }
    tell_to(&app, "idle", ask(1, "idle")).await;
    heard(&app, "idle", "1: idle").await;
    assert!(start.elapsed() < millis(1_500), "{:?}", start.elapsed());
    for n in 0..6 {
        heard(&app, &format!("busy{n}"), &format!("1: busy {n}")).await;
    }
    let took = start.elapsed();
    assert!(took >= millis(3_000) && took < millis(3_500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_by_all_processes_together() {
    let world = World::new();
    let fake = Fake::new().answers_with(repeats);
    let limited = |gateway: &mut GatewaySettings<Fake>| gateway.rate_limit(10, 5);
    let processes = [app(&world, &fake, limited), app(&world, &fake, limited)];
    // Both have their shares of the partitions.
    tokio::time::sleep(millis(60_000)).await;
    let start = Instant::now();
    for n in 0..105 {
        tell_to(&processes[n % 2], &format!("a{n}"), ask(1, "x")).await;
    }
    tokio::time::sleep(millis(5_000)).await;
    let calls = fake.calls().len();
    assert!((45..=56).contains(&calls), "5 at once and 10 in each of 5 seconds: {calls}");
    // One process takes over all partitions, and the whole rate.
    processes[1].shutdown(Duration::from_secs(5)).await;
    for n in 0..105 {
        heard(&processes[0], &format!("a{n}"), "1: x").await;
    }
    let took = start.elapsed();
    assert!(took >= millis(9_900) && took < millis(20_000), "{took:?}");
    assert_eq!(fake.calls().len(), 105);
}

#[tokio::test(start_paused = true)]
async fn a_rate_by_key_delays_only_that_key() {
    let world = World::new();
    let fake = Fake::new().answers_with(repeats);
    let app = app(&world, &fake, |gateway| gateway.rate_limit_by(customer, 1, 1));
    tokio::time::sleep(millis(10_000)).await;
    let start = Instant::now();
    for n in 0..5 {
        tell_to(&app, &format!("a{n}"), ask(1, &format!("a {n}"))).await;
    }
    tell_to(&app, "b", ask(1, "b")).await;
    heard(&app, "b", "1: b").await;
    assert!(start.elapsed() < millis(500), "{:?}", start.elapsed());
    for n in 0..5 {
        heard(&app, &format!("a{n}"), &format!("1: a {n}")).await;
    }
    let took = start.elapsed();
    assert!(took >= millis(4_000) && took < millis(4_500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_gateway_makes_no_call_in_any_process() {
    let world = World::new();
    let slow = |request: &OutsideRequest| repeats(request).after(Duration::from_secs(2));
    let fake = Fake::new().answers_with(slow).allow_equal_requests();
    let (one, other) = (app(&world, &fake, |_| {}), app(&world, &fake, |_| {}));
    tell_to(&one, "first", ask(1, "first")).await;
    eventually("the first call", async || fake.calls().len() == 1).await;
    let gateway = other.gateway::<Outside>();
    gateway.pause_as("ann").await.unwrap();
    heard(&one, "first", "1: first").await;
    tokio::time::sleep(millis(5_000)).await;
    for n in 0..20 {
        tell_to(&one, &format!("a{n}"), ask(1, "x")).await;
    }
    tokio::time::sleep(millis(600_000)).await;
    assert_eq!(fake.calls().len(), 1, "none of 20 in ten minutes");
    let status = one.gateway::<Outside>().status().await.unwrap();
    let pause = status.pause.unwrap();
    assert_eq!((pause.by.as_deref(), status.waiting, status.in_progress), (Some("ann"), 20, 0));
    for queue in one.queues().all().await.unwrap() {
        let messages: Vec<_> = one.queues().messages(&queue.queue).try_collect().await.unwrap();
        assert!(messages.iter().all(|message| message.attempts == 0), "{messages:?}");
    }
    // A process that starts now makes no call either.
    let third = app(&world, &fake, |_| {});
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(fake.calls().len(), 1);
    third.gateway::<Outside>().resume().await.unwrap();
    for n in 0..20 {
        heard(&one, &format!("a{n}"), "1: x").await;
    }
    assert_eq!(third.gateway::<Outside>().status().await.unwrap().pause, None);
    assert_eq!(world.memory.load_leases(&[]).await.unwrap().pauses, []);
}

/// Commands and refusals of the gateway are not affected by its limits.
#[tokio::test(start_paused = true)]
async fn a_process_notices_its_own_pause_at_once() {
    let world = World::new();
    let fake = Fake::new().answers([FakeAnswer::decline(OutsideFailure::No)]);
    let app = app(&world, &fake, |_| {});
    tokio::time::sleep(millis(10_000)).await;
    let gateway = app.gateway::<Outside>();
    gateway.pause().await.unwrap();
    tokio::time::sleep(millis(1)).await;
    tell_to(&app, "a", ask(1, "x")).await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(log(&app, "a").await, ["call"]);
    let resumed = Instant::now();
    gateway.resume().await.unwrap();
    heard(&app, "a", "1: failed").await;
    assert!(resumed.elapsed() < millis(100), "{:?}", resumed.elapsed());
    fake.finish();
}

#[test]
fn limits_that_admit_no_call_are_refused() {
    let world = World::new();
    let builder = world.bare_builder(world.memory.clone()).gateway_with(Fake::new(), |gateway| {
        gateway.max_keys = 0;
        gateway.concurrency_by(customer, 0);
        gateway.rate_limit(0, 1);
        gateway.rate_limit_by(customer, 1, 0);
    });
    let error = builder.build().unwrap_err();
    assert_eq!(
        error.problems(),
        [
            "`max_keys` of the gateway `outside` must be at least 1",
            "`concurrency_by` of the gateway `outside` must admit at least 1",
            "`rate_limit` of the gateway `outside` needs a rate above 0 and a burst of at least 1",
            "`rate_limit_by` of the gateway `outside` needs a rate above 0 and a burst of at least 1",
        ]
    );
}
