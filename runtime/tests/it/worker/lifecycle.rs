//! Building, crashing and shutting down.

use composable_rust_core::Recorded;
use composable_rust_core::codec::Format;
use composable_rust_core::prelude::*;
use composable_rust_runtime::{App, AppBuilder, SendError};
use composable_rust_testing::{InMemoryEventBus, InMemoryEventStore};

use super::actor::{Act, Actor, ActorCommand as In, ActorEvent as Out, Around, Outside};
use super::node::NodeProcess;
use super::world::{World, eventually, from_start, heard, log, millis, started, tell_to};

fn ask(to: &str, tag: u32, act: Act) -> Act {
    Act::Ask { to: to.into(), tag, act: Box::new(act) }
}

fn later(after: u64, act: Act) -> Act {
    Act::Later { id: None, after, act: Box::new(act) }
}

fn copying(builder: AppBuilder) -> AppBuilder {
    let copy = |recorded: &Recorded<Out>| match recorded.event {
        Out::Did(Act::Note(n), _) if recorded.stream.id() == "b" => {
            vec![(Actor::id("copy"), In::Do(Act::Note(n)))]
        }
        _ => Vec::new(),
    };
    builder.on_with::<Actor, Actor, Vec<_>>("copy", from_start, copy)
}

/// Requests, a nested one, a timer, a call and a policy.
async fn begin(writer: &App) {
    tell_to(writer, "a", ask("b", 1, Act::Notes(vec![1, 2]))).await;
    tell_to(writer, "a", ask("b", 2, later(1_000, ask("c", 3, Act::Note(3))))).await;
    tell_to(writer, "a", Act::Call { tag: 4, text: "hello".into() }).await;
}

async fn end(world: &World, writer: &App, what: &str) {
    heard(writer, "a", "2: 3: note 3").await;
    heard(writer, "a", "4: hello").await;
    heard(writer, "copy", "note 2").await;
    world.quiet().await;
    let mut a = log(writer, "a").await;
    a.sort();
    let expected = [
        "1: note 1",
        "1: note 2",
        "2: 3: note 3",
        "2: ask",
        "2: later",
        "4: hello",
        "ask",
        "ask",
        "call",
    ];
    assert_eq!(a, expected, "{what}");
    assert_eq!(log(writer, "b").await, ["note 1", "note 2", "later", "ask", "3: note 3"], "{what}");
    assert_eq!(log(writer, "c").await, ["note 3"], "{what}");
    assert_eq!(log(writer, "copy").await, ["note 1", "note 2"], "{what}");
    assert!(world.dead_letters().await.is_empty(), "{what}");
}

/// Whichever store call the process crashes before or after, another process continues its work.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_loses_and_duplicates_nothing() {
    let whole = {
        let world = World::new();
        let node = NodeProcess::start(world.memory.clone());
        let writer = world.builder(world.memory.clone()).build().unwrap();
        let app = started(copying(world.builder(node.clone())));
        begin(&writer).await;
        end(&world, &writer, "without a crash").await;
        drop(app);
        node.calls()
    };
    assert!(whole > 30, "{whole}");
    for call in 1..=whole {
        for is_done in [false, true] {
            let what = format!("call {call} of {whole}, done: {is_done}");
            let world = World::new();
            let node = NodeProcess::start(world.memory.clone());
            node.crash_at(call, is_done);
            let writer = world.builder(world.memory.clone()).build().unwrap();
            let first = started(copying(world.builder(node.clone())));
            begin(&writer).await;
            tokio::time::sleep(millis(3_000)).await;
            let second = started(copying(world.builder(world.memory.clone())));
            end(&world, &writer, &what).await;
            world.assert_states_match_log(&[&writer, &first, &second]).await;
            drop((first, second));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_under_load_loses_and_duplicates_nothing() {
    for wait in 0..20 {
        let world = World::new();
        let writer = world.builder(world.memory.clone()).build().unwrap();
        let app = started(copying(world.builder(world.memory.clone())));
        begin(&writer).await;
        for _ in 0..wait * wait {
            tokio::task::yield_now().await;
        }
        assert!(app.shutdown(millis(10_000)).await);
        let left = world.memory.outbox().len() + world.memory.timers().len();
        tokio::time::sleep(millis(30_000)).await;
        assert_eq!(
            world.memory.outbox().len() + world.memory.timers().len(),
            left,
            "the crashed process still works"
        );
        let started_at = tokio::time::Instant::now();
        let second = started(copying(world.builder(world.memory.clone())));
        end(&world, &writer, &format!("after {wait}")).await;
        world.assert_states_match_log(&[&writer, &app, &second]).await;
        assert!(started_at.elapsed() < millis(3_000), "its leases were released");
        drop(second);
    }
}

/// A hanging call is waited for, and its outcome is kept.
#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_running_work_until_its_deadline() {
    let world = World::new();
    let app = world.app();
    world.outside.next([super::actor::Behaviour::Hangs]);
    tell_to(&app, "a", Act::Call { tag: 1, text: "x".into() }).await;
    eventually("the call", async || world.outside.calls() == 1).await;
    let begun = tokio::time::Instant::now();
    let shutdown = tokio::spawn({
        let app = app.clone();
        async move { app.shutdown(millis(1_000)).await }
    });
    tokio::time::sleep(millis(100)).await;
    let late = app.handle(&Actor::id("b")).send(In::Do(Act::Note(1))).await;
    assert!(matches!(late, Err(SendError::ShuttingDown)), "{late:?}");
    assert!(!shutdown.await.unwrap());
    assert!(begun.elapsed() < millis(1_100));
    let other = world.app();
    heard(&other, "a", "1: x").await;
    assert!(begun.elapsed() < millis(5_000), "its leases were released");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_app_stops_its_workers() {
    let world = World::new();
    let app = world.app();
    tell_to(&app, "a", ask("b", 1, Act::Note(1))).await;
    heard(&app, "a", "1: note 1").await;
    drop(app);
    tokio::time::sleep(millis(1_000)).await;
    let writer = world.builder(world.memory.clone()).build().unwrap();
    tell_to(&writer, "a", ask("b", 2, Act::Note(2))).await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(world.memory.outbox().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_finished_instance_is_evicted() {
    let world = World::new();
    let app = world.app();
    for n in 0..100 {
        tell_to(&app, &format!("a{n}"), ask("b", 1, Act::Nothing)).await;
        tell_to(&app, &format!("a{n}"), Act::End).await;
    }
    world.quiet().await;
    for n in 0..100 {
        tell_to(&app, "x", Act::Note(n)).await;
    }
    assert!(app.live_instances::<Actor>() < 20, "{}", app.live_instances::<Actor>());
}

/// A command of one service that another service also declares.
enum Elsewhere {}

impl Target for Elsewhere {
    const NAME: &'static str = "elsewhere";
    type Command = In;
    type Event = Out;
    type Rejection = super::actor::ActorError;
}

fn problems(builder: AppBuilder) -> Vec<String> {
    builder.build().map(|_| ()).unwrap_err().problems().to_vec()
}

fn bare() -> AppBuilder {
    App::builder(InMemoryEventStore::new())
}

fn whole() -> AppBuilder {
    bare().aggregate::<Actor>(Around::default()).gateway(Outside::default())
}

fn nothing<E>(_: &Recorded<E>) -> Vec<(Id<Actor>, In)> {
    Vec::new()
}

#[test]
fn every_problem_of_an_app_is_reported() {
    assert!(whole().build().is_ok());
    let told = [
        (
            bare().aggregate::<Actor>(Around::default()),
            "`actor` expects replies of the gateway `outside`: register it with `.gateway`, or say \
             `.gateway_elsewhere` (another process)",
        ),
        (whole().gateway(Outside::default()), "the gateway `outside` is registered twice"),
        (
            bare()
                .aggregate::<Actor>(Around::default())
                .gateway_with(Outside::default(), |gateway| gateway.timeout = millis(10_000)),
            "the timeout of the gateway `outside`, 10s, must be shorter than two thirds of the \
             lease of 15s",
        ),
        (
            whole()
                .on::<Actor, Actor, Vec<_>>("p", nothing)
                .on::<Actor, Actor, Vec<_>>("p", nothing),
            "two policies are called `p`",
        ),
        (
            whole().on::<Elsewhere, Actor, Vec<_>>("p", nothing),
            "the policy `p` reads events of `elsewhere`: register it with `.aggregate`, or say \
             `.remote`",
        ),
        (
            whole().on::<Actor, Elsewhere, Vec<_>>("p", |_| Vec::new()),
            "the policy `p` sends commands to `elsewhere`: register it with `.aggregate`, or say \
             where it lives with `.remote` (another service) or `.elsewhere` (another process)",
        ),
        (
            bare().event_bus(InMemoryEventBus::new()).publish::<Actor>(Format::Json),
            "events of `actor` are published: register it with `.aggregate`, or say `.elsewhere` \
             (another process)",
        ),
        (
            whole().elsewhere::<Elsewhere>().remote::<Elsewhere>(),
            "`elsewhere` is said to be remote and to be elsewhere: choose one",
        ),
        (whole().elsewhere::<Actor>(), "`actor` is registered here and said to be elsewhere"),
        (whole().remote::<Elsewhere>(), "there are remote targets but no bus: add `.event_bus`"),
        (
            whole().publish::<Actor>(Format::Json),
            "there are published events but no bus: add `.event_bus`",
        ),
        (whole().serve::<Actor>(), "there are served aggregates but no bus: add `.event_bus`"),
        (
            whole().on_topic::<Actor, Vec<_>>("t", "p", |_| Vec::new()),
            "there are policies over topics but no bus: add `.event_bus`",
        ),
        (
            whole().event_bus(InMemoryEventBus::new()).remote::<Actor>(),
            "`actor` is registered here and said to be remote",
        ),
        (
            whole()
                .settings(|settings| settings.max_payload_bytes = 2_000)
                .event_bus(InMemoryEventBus::new().with_max_payload_bytes(1_000))
                .publish::<Actor>(Format::Json),
            "payloads may have 2000 bytes, but the bus takes only 1000: lower the setting \
             `max_payload_bytes`, or raise the limit of the bus and its broker",
        ),
        (
            whole().settings(|settings| settings.max_concurrent_dispatches = 0),
            "the setting `max_concurrent_dispatches` must be at least 1",
        ),
        (
            bare()
                .aggregate::<Actor>(Around::default())
                .gateway_with(Outside::default(), |gateway| gateway.max_concurrent_calls = 0),
            "`max_concurrent_calls` of the gateway `outside` must be at least 1",
        ),
        (
            whole().settings(|settings| settings.lease_ttl = std::time::Duration::ZERO),
            "the setting `lease_ttl` must be between 100ms and 3600s",
        ),
    ];
    for (builder, text) in told {
        assert!(problems(builder).contains(&text.to_owned()), "{text}");
    }
    // A served aggregate must be registered; and all problems are reported together.
    let several =
        bare().serve::<Actor>().remote::<Elsewhere>().settings(|s| s.max_commands_per_append = 0);
    assert_eq!(problems(several).len(), 4);
    let error = bare().event_bus(InMemoryEventBus::new()).serve::<Actor>().build().unwrap_err();
    assert_eq!(error.to_string(), "the app cannot be built: `actor` is served but not registered");
}

#[test]
fn invalid_names_and_settings_are_rejected() {
    let told = [
        (
            whole().settings(|settings| settings.default_deadline = std::time::Duration::ZERO),
            "the setting `default_deadline` must be longer than zero",
        ),
        (
            whole().settings(|settings| settings.max_bytes_per_batch = 0),
            "the setting `max_bytes_per_batch` must be at least 1",
        ),
        (
            whole().on::<Actor, Actor, Vec<_>>("project/x", nothing),
            "a policy cannot be called `project/x`: the framework uses the name for a queue, a lease \
             or a consumer group of its own",
        ),
        (
            whole().on::<Actor, Actor, Vec<_>>("commands", nothing),
            "a policy cannot be called `commands`: the framework uses the name for a queue, a lease \
             or a consumer group of its own",
        ),
    ];
    for (builder, text) in told {
        assert!(problems(builder).contains(&text.to_owned()), "{text}");
    }
}
