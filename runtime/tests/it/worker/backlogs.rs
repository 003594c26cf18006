//! Backlogs: rows queued by policies and consumers, and the rows that do not wait behind them.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::bus::BusRecord;
use composable_rust_core::codec::Codecs;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{
    Checkpoints as _, Outbox as _, OutboxMessage, Queue, QueuePosition,
};
use composable_rust_core::store::EventStore as _;
use composable_rust_core::{Metadata, Recorded};
use composable_rust_runtime::settings::{RetryPolicy, Settings};
use composable_rust_runtime::{AppBuilder, ExternalRecord};
use composable_rust_testing::InMemoryEventBus;
use tokio::time::Instant;

use super::actor::{Act, Actor, ActorCommand as In, ActorEvent as Out};
use super::node::{Node, NodeProcess};
use super::world::{World, eventually, from_start, heard, log, millis, started, tell_to};

type Commands = Vec<(Id<Actor>, In)>;

const STREAMS: u32 = 20;

/// Records many events of each `source…` without a policy.
async fn record(world: &World, events: u32) {
    let app = world.builder(world.memory.clone()).build().unwrap();
    for stream in 0..STREAMS {
        tell_to(&app, &format!("source{stream}"), Act::Notes((0..events).collect())).await;
    }
}

/// Tells the copy of each source its notes.
fn copying(builder: AppBuilder) -> AppBuilder {
    let copy = |recorded: &Recorded<Out>| match &recorded.event {
        Out::Did(Act::Note(n), _) if recorded.stream.id().starts_with("source") => {
            vec![(Actor::id(format!("copy-{}", recorded.stream.id())), In::Do(Act::Note(*n)))]
        }
        _ => Commands::new(),
    };
    builder.on_with::<Actor, Actor, Commands>("copy", from_start, copy)
}

/// A store whose appends take as long as those of a replicated database.
fn slow(world: &World) -> Node<composable_rust_testing::InMemoryEventStore> {
    let node = NodeProcess::start(world.memory.clone());
    node.slow("append_events", millis(5));
    node
}

/// The time in which instances of all partitions send each other requests and receive replies.
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

/// Requests and replies overtake the rows that a new policy queues for an old log.
#[tokio::test(start_paused = true)]
async fn commands_are_answered_while_a_policy_catches_up() {
    let world = World::new();
    record(&world, 1_000).await;
    let app = started(copying(world.builder(slow(&world))));
    tokio::time::sleep(millis(1_000)).await;
    for round in 0..3 {
        let took = time_to_answer(&app, round).await;
        assert!(took < millis(1_000), "{took:?}");
    }
    let waiting = world.memory.outbox().len();
    assert!(waiting > 1_000, "only {waiting} wait: nothing was in the way");
}

/// A message that expects no reply.
fn note(world: &World, n: u32) -> OutboxMessage {
    let recipient = format!("b{}", n % 200);
    let command = In::Do(Act::Note(n));
    let content = Codecs::default().encode(&Actor::id(&recipient).stream(), &command).unwrap();
    let mut row = world.row("a", &recipient, content);
    let mut metadata: Metadata = serde_json::from_str(&row.row.metadata).unwrap();
    metadata.return_addresses.clear();
    row.row.metadata = serde_json::to_string(&metadata).unwrap();
    row
}

/// Rows queued after a process died cannot have killed it, however many they are.
#[tokio::test(start_paused = true)]
async fn only_rows_queued_at_a_crash_are_quarantined() {
    let world = World::new();
    let (node, _dead) = world.node();
    tokio::time::sleep(millis(1_000)).await;
    node.crash();
    let enqueue = async |from: u32, count: u32| {
        let rows: Vec<_> = (from..from + count).map(|n| note(&world, n)).collect();
        let partition = world.memory.log().partition_of(&rows[0].sender);
        assert!(world.memory.enqueue(partition, &rows, None).await.unwrap());
    };
    enqueue(0, 2_000).await;
    let node = NodeProcess::start(world.memory.clone());
    // Quarantine allows 16 rows a second; 40 rows come.
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

/// A process may die of the next row: the one before must not be blamed for that, too.
#[tokio::test(start_paused = true)]
async fn quarantined_rows_run_one_at_a_time() {
    let world = World::new();
    let (dying, _dead) = world.node();
    tokio::time::sleep(millis(1_000)).await;
    dying.crash();
    let rows: Vec<_> = (0..2).map(|n| note(&world, n)).collect();
    let partition = world.memory.log().partition_of(&rows[0].sender);
    assert!(world.memory.enqueue(partition, &rows, None).await.unwrap());
    let (kind, target) = (rows[0].row.kind, rows[0].row.target.clone());
    let queue = Queue { partition, kind, target };
    let attempts = async || {
        let from = [(queue.clone(), QueuePosition::default())];
        let rows = world.memory.read_outbox(&from, 10).await.unwrap();
        rows.into_iter().map(|row| row.attempts).collect::<Vec<_>>()
    };
    // It starts both, and dies.
    let dying = NodeProcess::start(world.memory.clone());
    dying.slow("append_events", Duration::from_secs(3_600));
    let _dead = world.start(dying.clone());
    eventually("both are begun", async || attempts().await == [1, 1]).await;
    dying.crash();
    let node = NodeProcess::start(world.memory.clone());
    node.slow("settle", millis(1_000));
    let _app = world.start(node);
    let (mut one_is_gone, mut other_begins) = (None, None);
    eventually("both are gone", async || {
        tokio::time::sleep(millis(10)).await;
        let attempts = attempts().await;
        if attempts.len() == 1 {
            one_is_gone.get_or_insert_with(Instant::now);
            if attempts == [2] {
                other_begins.get_or_insert_with(Instant::now);
            }
        }
        attempts.is_empty()
    })
    .await;
    let took = other_begins.unwrap() - one_is_gone.unwrap();
    assert!(took >= millis(900), "{took:?}: it was begun before the one ahead was settled");
}

/// The rows of the fullest queue.
fn fullest(world: &World) -> usize {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for stored in world.memory.outbox() {
        let partition = world.memory.log().partition_of(&stored.stream);
        *counts.entry((partition, stored.row.kind, stored.row.target)).or_default() += 1;
    }
    counts.into_values().max().unwrap_or_default()
}

/// The most rows that a queue had until the condition held.
async fn fullest_until(world: &World, mut is_so: impl AsyncFnMut() -> bool) -> usize {
    let mut most = 0;
    eventually("it is done", async || {
        tokio::time::sleep(millis(100)).await;
        most = most.max(fullest(world));
        is_so().await
    })
    .await;
    most
}

/// Events that exceed the queue's capacity stay in the log.
#[tokio::test(start_paused = true)]
async fn a_policy_that_catches_up_bounds_its_queue() {
    const EVENTS: u32 = 400;
    const BOUND: usize = 400;
    let world = World::new();
    record(&world, EVENTS).await;
    let builder =
        copying(world.builder(slow(&world))).settings(|of| of.max_waiting_rows_per_queue = BOUND);
    let app = started(builder);
    let heads = async || {
        let checkpoints = world.memory.load_checkpoints("follow/copy").await.unwrap();
        checkpoints.iter().map(|of| of.offset).sum::<u64>() >= u64::from(STREAMS * EVENTS)
    };
    let most = fullest_until(&world, heads).await;
    assert!((BOUND..=BOUND + 1_000).contains(&most), "{most}");
    fullest_until(&world, async || world.memory.outbox().is_empty()).await;
    for stream in 0..STREAMS {
        let notes: Vec<_> = (0..EVENTS).map(|n| format!("note {n}")).collect();
        assert_eq!(log(&app, &format!("copy-source{stream}")).await, notes);
    }
}

/// A stuck queue does not stop a policy forever.
#[tokio::test(start_paused = true)]
async fn a_policy_continues_slowly_past_a_stuck_queue() {
    let world = World::new();
    record(&world, 400).await;
    world.broken.set(true);
    let tells = |recorded: &Recorded<Out>| match &recorded.event {
        Out::Did(Act::Note(n), _) if recorded.stream.id() == "last" => {
            vec![(Actor::id("copy"), In::Do(Act::Note(*n)))]
        }
        Out::Did(Act::Note(n), _) if recorded.stream.id().starts_with("source") => {
            vec![(Actor::id("fragile"), In::Do(Act::Fragile(*n)))]
        }
        _ => Commands::new(),
    };
    let builder = world.builder(world.memory.clone());
    let builder = builder.on_with::<Actor, Actor, Commands>("copy", from_start, tells);
    let forever = RetryPolicy { max_attempts: u32::MAX, ..RetryPolicy::default() };
    let settings = |of: &mut Settings| (of.max_waiting_rows_per_queue, of.retry) = (100, forever);
    let app = started(builder.settings(settings));
    let begun = Instant::now();
    tell_to(&app, "last", Act::Note(7)).await;
    heard(&app, "copy", "note 7").await;
    let took = begun.elapsed();
    assert!(took > millis(10_000), "{took:?}: it did not rest");
}

/// A topic's backlog stays on the topic, and later messages wait their turn.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_catches_up_bounds_its_queue() {
    const BOUND: usize = 500;
    const RECORDS: u32 = 8_000;
    let (world, bus) = (World::new(), InMemoryEventBus::new());
    for n in 0..RECORDS {
        let (key, payload) = ((n % 4).to_string(), (n / 4).to_string());
        let (key, payload) = (Some(key.into_bytes()), Some(payload.into_bytes()));
        bus.publish_record("old", BusRecord { key, headers: Vec::new(), payload });
    }
    let copy = |record: &ExternalRecord| -> Commands {
        let number = std::str::from_utf8(record.payload.as_deref().unwrap()).unwrap();
        let to = Actor::id(format!("copy{}", record.key_text().unwrap()));
        vec![(to, In::Do(Act::Note(number.parse().unwrap())))]
    };
    let builder = world.builder(slow(&world)).event_bus(bus.clone());
    let builder = builder.on_topic::<Actor, Commands>("old", "copy", copy);
    let app = started(builder.settings(|of| of.max_waiting_rows_per_queue = BOUND));
    tokio::time::sleep(millis(1_000)).await;
    let took = time_to_answer(&app, 0).await;
    assert!(took < millis(1_000), "{took:?}");
    let notes_of = |key: u32| {
        let app = app.clone();
        async move { log(&app, &format!("copy{key}")).await }
    };
    let is_done = async || {
        notes_of(0).await.len() + notes_of(3).await.len() == usize::try_from(RECORDS / 2).unwrap()
    };
    let most = fullest_until(&world, is_done).await;
    assert!((BOUND..=BOUND + 1_000).contains(&most), "{most}");
    fullest_until(&world, async || world.memory.outbox().is_empty()).await;
    for key in 0..4 {
        let notes: Vec<_> = (0..RECORDS / 4).map(|n| format!("note {n}")).collect();
        assert_eq!(notes_of(key).await, notes);
    }
}

/// A partition that is locked, as by a long erasure, holds up no other.
#[tokio::test(start_paused = true)]
async fn a_locked_partition_does_not_stop_a_policy_in_others() {
    let world = World::new();
    let partition = |id: &str| world.memory.log().partition_of(&Actor::id(id).stream());
    let (locked, other) = ("source0", (1..).map(|n| format!("source{n}")));
    let other = { other }.find(|id| partition(id) != partition(locked)).unwrap();
    let node = NodeProcess::start(world.memory.clone());
    let app = started(copying(world.builder(node.clone())));
    tell_to(&app, locked, Act::Note(0)).await;
    heard(&app, "copy-source0", "note 0").await;
    node.lock(Some(partition(locked)));
    for n in 1..=20 {
        tell_to(&app, locked, Act::Note(n)).await;
        let begun = Instant::now();
        tell_to(&app, &other, Act::Note(n)).await;
        heard(&app, &format!("copy-{other}"), &format!("note {n}")).await;
        let took = begun.elapsed();
        assert!(took < millis(1_000), "{took:?}");
    }
    node.lock(None);
    heard(&app, "copy-source0", "note 20").await;
    world.quiet().await;
    let notes: Vec<_> = (0..=20).map(|n| format!("note {n}")).collect();
    assert_eq!(log(&app, "copy-source0").await, notes);
}
