//! Instances that cannot be loaded: their retries, and their status for operators.

use composable_rust_core::codec::{Codecs, EncodedMessage};
use composable_rust_core::environment::{Clock as _, IdGenerator as _};
use composable_rust_core::event::NewEvent;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{Outbox as _, OutboxMessage};
use composable_rust_core::store::{Append, EventStore as _, ExpectedVersion};
use composable_rust_core::{EventId, Version};
use composable_rust_runtime::App;

use super::actor::{Act, Actor, ActorCommand as In, ActorEvent, Seen};
use super::node::{Node, NodeProcess};
use super::world::{World, heard, log, millis, tell_to};
use crate::logged::Logged;

/// Appends an event that cannot be decoded.
async fn spoil(world: &World, id: &str) {
    let stream = Actor::id(id).stream();
    let (name, codec, bytes) = ("actor.did".into(), "bincode".into(), vec![255]);
    let content = EncodedMessage { name, version: 1, codec, bytes };
    let event = EventId(world.ids.new_id());
    let event = NewEvent { id: event, content, metadata: String::new() };
    let partition = world.memory.log().partition_of(&stream);
    let append = Append::new(stream, ExpectedVersion::Any).with_events(vec![event]);
    world.memory.append_events(partition, &[append]).await.unwrap();
}

async fn mend(world: &World, id: &str, version: u64) {
    let stream = Actor::id(id).stream();
    let seen = Seen { at: world.clock.now(), by: None, process: 9 };
    let mended = Codecs::default().encode(&stream, &ActorEvent::Did(Act::Note(0), seen)).unwrap();
    world.memory.override_event(&stream, Version::new(version), &mended).await.unwrap();
}

fn note(world: &World, from: &str, to: &str, n: u32) -> OutboxMessage {
    let content = Codecs::default().encode(&Actor::id(to).stream(), &In::Do(Act::Note(n))).unwrap();
    world.row(from, to, content)
}

async fn enqueue(world: &World, rows: &[OutboxMessage]) {
    let partition = world.memory.log().partition_of(&rows[0].sender);
    world.memory.enqueue(partition, rows, None).await.unwrap();
}

fn loads(node: &Node<composable_rust_testing::InMemoryEventStore>) -> u64 {
    node.counts().get("load_with_snapshot").copied().unwrap_or_default()
}

/// The streams of the stuck instances.
fn stuck(app: &App) -> Vec<String> {
    app.stuck_instances().into_iter().map(|of| of.stream.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_retried_ever_more_rarely() {
    const COUNT: u64 = 500;
    let world = World::new();
    let node = NodeProcess::start(world.memory.clone());
    let first = world.app();
    for n in 0..COUNT {
        let timer = Act::Later { id: None, after: 60_000, act: Box::new(Act::Note(1)) };
        tell_to(&first, &format!("b{n}"), timer).await;
        spoil(&world, &format!("b{n}")).await;
    }
    drop(first);
    tokio::time::sleep(millis(90_000)).await;
    for sender in ["a", "c"] {
        let rows: Vec<_> = (0..COUNT).map(|n| note(&world, sender, &format!("b{n}"), 1)).collect();
        enqueue(&world, &rows).await;
    }
    let app = world.start(node.clone());
    tokio::time::sleep(millis(60_000)).await;
    let first = loads(&node);
    // All messages may be in execution when the first load fails.
    assert!((COUNT * 4..=COUNT * 9).contains(&first), "{first}");
    assert_eq!(app.stuck_instances().len() as u64, COUNT);

    tokio::time::sleep(millis(600_000)).await;
    let before = loads(&node);
    tokio::time::sleep(millis(300_000)).await;
    let later = loads(&node) - before;
    assert!((COUNT..=COUNT * 2).contains(&later), "{later}");
    assert_eq!(world.memory.timers().len() as u64, COUNT);
    assert_eq!(world.memory.outbox().len() as u64, COUNT * 2);
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stuck_instance_is_logged_once_and_listed_until_recovery() {
    let logged = Logged::begin();
    let world = World::new();
    spoil(&world, "b").await;
    enqueue(&world, &[note(&world, "a", "b", 1), note(&world, "a", "b", 2)]).await;
    let app = world.app();
    tokio::time::sleep(millis(100_000)).await;
    let [of] = app.stuck_instances().try_into().unwrap();
    assert_eq!((of.stream.clone(), of.since), (Actor::id("b").stream(), Timestamp::EPOCH));
    assert!(of.attempts >= 4 && of.next_attempt > world.clock.now(), "{of:?}");
    assert!(of.last_error.contains("cannot be decoded"), "{}", of.last_error);
    let warned = logged.lines("failed to load the instance");
    assert!(warned.len() == 1 && warned[0].contains("actor-b"), "{warned:?}");

    mend(&world, "b", 1).await;
    // Any successful load lets its messages continue.
    assert_eq!(log(&app, "b").await, ["note 0"]);
    let mended = tokio::time::Instant::now();
    heard(&app, "b", "note 2").await;
    assert!(mended.elapsed() < millis(100), "{:?}", mended.elapsed());
    assert_eq!(stuck(&app), [""; 0]);
    assert_eq!(logged.lines("loaded an instance that was stuck").len(), 1);
    assert_eq!(log(&app, "b").await, ["note 0", "note 1", "note 2"]);
}

/// Overriding an event, in any process, makes the messages of its instance retry soon.
#[tokio::test(start_paused = true)]
async fn overriding_an_event_retries_messages_and_timers_soon() {
    let world = World::new();
    let first = world.app();
    let timer = Act::Later { id: None, after: 60_000, act: Box::new(Act::Note(7)) };
    tell_to(&first, "b", timer).await;
    spoil(&world, "b").await;
    drop(first);
    let app = world.app();
    enqueue(&world, &[note(&world, "a", "b", 1), note(&world, "c", "b", 2)]).await;
    // By then it waits for minutes.
    tokio::time::sleep(millis(700_000)).await;
    assert_eq!(stuck(&app), ["actor-b"]);
    mend(&world, "b", 2).await;
    let mended = tokio::time::Instant::now();
    world.quiet().await;
    assert!(mended.elapsed() < millis(20_000), "{:?}", mended.elapsed());
    assert_eq!(stuck(&app), [""; 0]);
    let mut log = log(&app, "b").await;
    log.sort();
    assert_eq!(log, ["later", "note 0", "note 1", "note 2", "note 7"]);
}

/// More instances are stuck than rows fit into memory; messages behind them are read all the same,
/// and theirs are not lost.
#[tokio::test(start_paused = true)]
async fn a_healthy_instance_is_reached_behind_thousands_stuck() {
    const COUNT: u32 = 21_000;
    let world = World::new();
    for n in 0..COUNT {
        spoil(&world, &format!("b{n}")).await;
    }
    let mut rows: Vec<_> = (0..COUNT).map(|n| note(&world, "a", &format!("b{n}"), 1)).collect();
    rows.push(note(&world, "a", "healthy", 2));
    enqueue(&world, &rows).await;
    let app = world.app();
    heard(&app, "healthy", "note 2").await;
    assert_eq!(u32::try_from(world.memory.outbox().len()), Ok(COUNT));

    mend(&world, "b20999", 1).await;
    heard(&app, "b20999", "note 1").await;
}
