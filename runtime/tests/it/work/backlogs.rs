//! Backlogs: what policies and consumers queue, and what does not wait behind it.

use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::{
    Codecs, EventStore as _, Metadata, QueuedRow, Recorded, WorkQueues as _,
};
use composable_rust_runtime::AppBuilder;
use tokio::time::Instant;

use super::actor::{Act, Actor, ActorCommand as In, ActorEvent as Out};
use super::node::Node;
use super::world::{World, heard, millis, started, tell_to};

type Commands = Vec<(Id<Actor>, In)>;

const STREAMS: u32 = 20;
const EVENTS: u32 = 1_000;

/// Records many events of `source…` without a policy.
async fn record(world: &World) {
    let app = world.builder(world.memory.clone()).build().unwrap();
    for stream in 0..STREAMS {
        tell_to(&app, &format!("source{stream}"), Act::Notes((0..EVENTS).collect())).await;
    }
}

/// Tells the copy of each source what it notes.
fn copying(builder: AppBuilder) -> AppBuilder {
    let copies = |recorded: &Recorded<Out>| match &recorded.event {
        Out::Did(Act::Note(n), _) if recorded.stream.id().starts_with("source") => {
            vec![(Actor::id(format!("copy-{}", recorded.stream.id())), In::Do(Act::Note(*n)))]
        }
        _ => Commands::new(),
    };
    builder.on::<Actor, Actor, Commands>("copy", copies).policy_from_start()
}

/// A store whose appends take as long as a replica's.
fn slow(world: &World) -> Node<composable_rust_testing::InMemoryEventStore> {
    let node = Node::new(world.memory.clone());
    node.slow("append_events", millis(5));
    node
}

/// The time in which instances of all partitions ask each other and are answered.
async fn time_to_answer(app: &composable_rust_runtime::App, round: u32) -> Duration {
    let begun = Instant::now();
    for n in 0..6 {
        let act = Act::Ask { to: format!("target{n}"), tag: round, act: Box::new(Act::Note(1)) };
        tell_to(app, &format!("asker{n}"), act).await;
    }
    for n in 0..6 {
        heard(app, &format!("asker{n}"), &format!("{round}: note 1")).await;
    }
    begun.elapsed()
}

/// Requests and replies pass what a new policy makes of an old log.
#[tokio::test(start_paused = true)]
async fn instances_are_answered_while_a_policy_catches_up() {
    let world = World::new();
    record(&world).await;
    let app = started(copying(world.builder(slow(&world))));
    tokio::time::sleep(millis(1_000)).await;
    for round in 0..3 {
        let took = time_to_answer(&app, round).await;
        assert!(took < millis(1_000), "{took:?}");
    }
    let waiting = world.memory.outbox().len();
    assert!(waiting > 1_000, "only {waiting} wait: nothing was in the way");
}

/// A message that nobody answers.
fn note(world: &World, n: u32) -> QueuedRow {
    let recipient = format!("b{}", n % 200);
    let command = In::Do(Act::Note(n));
    let content = Codecs::default().encode(&Actor::id(&recipient).stream(), &command).unwrap();
    let mut row = world.row("a", &recipient, content);
    let mut metadata: Metadata = serde_json::from_str(&row.row.metadata).unwrap();
    metadata.return_addresses.clear();
    row.row.metadata = serde_json::to_string(&metadata).unwrap();
    row
}

/// What is queued after a process died cannot have killed it, however much that is.
#[tokio::test(start_paused = true)]
async fn only_what_waited_when_a_process_died_is_handled_with_caution() {
    let world = World::new();
    let node = Node::new(world.memory.clone());
    let _dead = world.start(node.clone());
    tokio::time::sleep(millis(1_000)).await;
    node.crash();
    let enqueue = async |from: u32, count: u32| {
        let rows: Vec<_> = (from..from + count).map(|n| note(&world, n)).collect();
        let partition = world.memory.log().partition_of(&rows[0].stream);
        assert!(world.memory.enqueue(partition, &rows, None).await.unwrap());
    };
    enqueue(0, 2_000).await;
    let node = Node::new(world.memory.clone());
    // With caution, 16 are handled each second; 40 come.
    node.slow("settle", millis(1_000));
    let _app = world.start(node.clone());
    for second in 0..120 {
        tokio::time::sleep(millis(1_000)).await;
        enqueue(2_000 + second * 40, 40).await;
    }
    world.quiet().await;
    let settled = node.counts()["settle"];
    assert!((2_000..3_500).contains(&settled), "{settled} calls, one for each suspect");
}
