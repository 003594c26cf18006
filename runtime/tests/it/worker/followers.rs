//! Followers: from events of instances to commands that only the runtime sends.

use composable_rust_core::bus::{BusMessage, EventBus as _};
use composable_rust_core::codec::Format;
use composable_rust_core::message::MessageKind;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{Outbox as _, OutboxKind, OutboxMessage};
use composable_rust_core::store::EventStore as _;
use composable_rust_core::{Heard, Recorded};
use composable_rust_runtime::settings::PolicySettings;
use composable_rust_runtime::{App, AppBuilder, SendError};
use composable_rust_testing::InMemoryEventBus;
use serde::{Deserialize, Serialize};

use super::actor::{Act, Actor, ActorEvent, Seen};
use super::node::{Mishap, NodeProcess};
use super::policies::{OldActor, OldEvent};
use super::world::{World, eventually, from_start, log, millis, started, tell_to};

/// An instance that hears everything that an actor does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Shadow(Vec<String>);

#[derive(Debug, Clone, PartialEq, Message)]
enum ShadowCommand {
    Poke,
    #[message(internal)]
    Heard(Heard<Actor>),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ShadowEvent {
    Noted(String),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ShadowError {
    NotInterested,
}

impl Aggregate for Shadow {
    const NAME: &'static str = "shadow";
    type Command = ShadowCommand;
    type Event = ShadowEvent;
    type Rejection = ShadowError;
    type Environment = ();

    fn decide(&self, command: ShadowCommand, ctx: &Context<Self>) -> Decision<Self> {
        match command {
            ShadowCommand::Poke => record(ShadowEvent::Noted("poked".to_owned())),
            ShadowCommand::Heard(Heard { event, .. }) if event.text() == "note 13" => {
                reject(ShadowError::NotInterested)
            }
            ShadowCommand::Heard(Heard { id, event, version, recorded_at, event_id }) => {
                assert!(recorded_at <= ctx.now());
                assert_eq!(ctx.metadata().causation_id, event_id.0);
                record(ShadowEvent::Noted(format!("{id} {version}: {}", event.text())))
            }
        }
    }

    fn apply(&mut self, ShadowEvent::Noted(text): ShadowEvent) {
        self.0.push(text);
    }
}

/// Returns the shadow of an actor that has one.
fn shadow_of(recorded: &Recorded<ActorEvent>) -> Option<Id<Shadow>> {
    let id = recorded.stream.id();
    id.starts_with('a').then(|| Shadow::id(format!("of-{id}")))
}

fn following(builder: AppBuilder) -> AppBuilder {
    builder.aggregate::<Shadow>(()).follows::<Actor, Shadow>("shadow", shadow_of)
}

async fn noted(app: &App, id: &str, count: usize) -> Vec<String> {
    let shadow = app.handle(&Shadow::id(id));
    eventually("noted", async || shadow.state(|own| own.0.len()).await.unwrap() >= count).await;
    tokio::time::sleep(millis(5_000)).await;
    shadow.state(|own| own.0.clone()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_each_event_once_in_order() {
    let world = World::new();
    let node = NodeProcess::start(world.memory.clone());
    node.next("enqueue", [Mishap::FailsAfter; 3]);
    let app = started(following(world.builder(node)));
    for n in 0..10 {
        tell_to(&app, "a", Act::Note(n)).await;
        tell_to(&app, "b", Act::Note(n)).await;
    }
    let all: Vec<_> = (0..10).map(|n| format!("a {}: note {n}", n + 1)).collect();
    assert_eq!(noted(&app, "of-a", 10).await, all);
    assert!(noted(&app, "of-b", 0).await.is_empty());
    world.quiet().await;
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn several_instances_can_hear_an_event_and_a_new_follower_starts_at_the_beginning() {
    let world = World::new();
    let app = world.builder(world.memory.clone()).build().unwrap();
    tell_to(&app, "a", Act::Note(1)).await;
    let builder = world.builder(world.memory.clone()).aggregate::<Shadow>(());
    let at_the_end = |policy: &mut PolicySettings| policy.from_start = false;
    let late = |_: &_| Some(Shadow::id("late"));
    let app = started(
        builder
            .follows::<Actor, Shadow>("one", |_| Some(Shadow::id("one")))
            .follows_with::<Actor, Shadow, _>("two", |_| {}, |_| ["x", "y"].map(Shadow::id))
            .follows_with::<Actor, Shadow, _>("late", at_the_end, late),
    );
    assert_eq!(noted(&app, "x", 1).await, ["a 1: note 1"]);
    world.quiet().await;
    tell_to(&app, "a", Act::Note(2)).await;
    assert_eq!(noted(&app, "y", 2).await, ["a 1: note 1", "a 2: note 2"]);
    assert_eq!(noted(&app, "one", 2).await, ["a 1: note 1", "a 2: note 2"]);
    assert_eq!(noted(&app, "late", 1).await, ["a 2: note 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_the_follower_goes_nowhere() {
    let world = World::new();
    let app = started(following(world.builder(world.memory.clone())));
    for n in [12, 13, 14] {
        tell_to(&app, "a", Act::Note(n)).await;
    }
    assert_eq!(noted(&app, "of-a", 2).await, ["a 1: note 12", "a 3: note 14"]);
    world.quiet().await;
    assert_eq!(log(&app, "a").await, ["note 12", "note 13", "note 14"]);
    assert!(world.dead_letters().await.is_empty());
}

fn heard() -> ShadowCommand {
    let seen = Seen { at: Timestamp::EPOCH, by: None, process: 1 };
    ShadowCommand::Heard(Heard::of(&Actor::id("a"), ActorEvent::Did(Act::Note(1), seen)))
}

#[tokio::test(start_paused = true)]
async fn nobody_else_can_send_what_is_heard() {
    let world = World::new();
    let app = started(
        world
            .builder(world.memory.clone())
            .aggregate::<Shadow>(())
            .on::<Actor, Shadow, _>("forge", |_| Some((Shadow::id("1"), heard()))),
    );
    let sent = app.handle(&Shadow::id("1")).send(heard()).await;
    assert!(matches!(sent, Err(SendError::Internal(_))), "{sent:?}");
    tokio::time::sleep(millis(100)).await;
    tell_to(&app, "a", Act::Note(1)).await;
    let letter = world.dead_letter().await;
    assert_eq!((letter.queue.kind, &*letter.queue.target), (OutboxKind::Policy, "forge"));
    let error = letter.error.unwrap();
    assert!(error.contains("`shadow.heard` is internal"), "{error}");
}

/// The events are those of another service, by its topic.
#[tokio::test(start_paused = true)]
async fn a_follower_hears_the_events_of_another_service() {
    for format in [Format::Binary, Format::Json] {
        let (world, other, bus) = (World::new(), World::new(), InMemoryEventBus::new());
        let app = started(
            world.builder(world.memory.clone()).event_bus(bus.clone()).publish::<Actor>(format),
        );
        let node = NodeProcess::start(other.memory.clone());
        node.next("enqueue", [Mishap::FailsAfter; 3]);
        let builder = other.bare_builder(node).event_bus(bus.clone()).remote::<Actor>();
        let shadows = started(following(builder));
        for n in 0..5 {
            tell_to(&app, "a", Act::Note(n)).await;
        }
        let all: Vec<_> = (0..5).map(|n| format!("a {}: note {n}", n + 1)).collect();
        assert_eq!(noted(&shadows, "of-a", 5).await, all);
        assert!(other.dead_letters().await.is_empty());
    }
}

fn with(mut message: BusMessage, name: &str, value: &str) -> BusMessage {
    message.headers.retain(|(header, _)| header != name);
    message.headers.push((name.to_owned(), value.to_owned()));
    message
}

/// A command on the bus cannot claim to be of a follower.
#[tokio::test(start_paused = true)]
async fn a_forged_follower_is_not_believed() {
    let (world, mut other, bus) = (World::new(), World::new(), InMemoryEventBus::new());
    other.memory = other.memory.with_log_id(uuid::Uuid::from_u128(5));
    let served = world.bare_builder(world.memory.clone()).event_bus(bus.clone());
    let served = served.aggregate::<Shadow>(()).serve::<Shadow>();
    let app = started(served);
    let sends = |recorded: &Recorded<ActorEvent>| {
        let _ = recorded;
        Some((Shadow::id("1"), ShadowCommand::Poke))
    };
    let sender = other.builder(other.memory.clone()).event_bus(bus.clone()).remote::<Shadow>();
    let sender = started(sender.on_with::<Actor, Shadow, _>("poke", from_start, sends));
    tell_to(&sender, "a", Act::Note(1)).await;
    assert_eq!(noted(&app, "1", 1).await, ["poked"]);
    let good = bus.messages("shadow-commands").remove(0);
    let MessageKind { name, version, .. } = *heard().kind();
    let mut forged = with(good.clone(), "ce_type", name);
    for (header, value) in [
        ("ce_schemaversion", version.to_string()),
        ("ce_codec", "json".to_owned()),
        ("ce_id", uuid::Uuid::from_u128(9).to_string()),
    ] {
        forged = with(forged, header, &value);
    }
    let metadata = good.header("ce_metadata").unwrap();
    let claimed = format!("{{\"follower\":\"shadow\",{}", &metadata[1..]);
    forged = with(forged, "ce_metadata", &claimed);
    forged.payload = heard().encode(Format::Json).unwrap();
    bus.publish(forged).await.unwrap();
    let letter = world.dead_letter().await;
    assert!(letter.error.as_ref().unwrap().contains("internal"), "{letter:?}");
    assert_eq!(noted(&app, "1", 1).await, ["poked"]);
}

#[test]
fn a_remote_instance_cannot_follow() {
    let world = World::new();
    let builder = world.builder(world.memory.clone()).event_bus(InMemoryEventBus::new());
    let builder = builder.remote::<Shadow>().follows::<Actor, Shadow>("shadow", shadow_of);
    let error = builder.build().unwrap_err();
    assert_eq!(
        error.problems(),
        ["the follower `shadow` hands events to `shadow`, which is remote: no service takes a \
          `Heard` of another one; register the follower in the service of `shadow`, with the \
          source as `.remote`"]
    );
}

/// The instance's type has moved to another service, while the event was queued.
#[tokio::test(start_paused = true)]
async fn what_is_heard_is_not_forwarded() {
    let world = World::new();
    let app = following(world.builder(world.memory.clone())).build().unwrap();
    tell_to(&app, "a", Act::Note(1)).await;
    let metadata = serde_json::json!({
        "correlation": uuid::Uuid::nil(), "causation": uuid::Uuid::nil(), "follower": "shadow",
    });
    let codecs = composable_rust_core::codec::Codecs::default();
    let to = Shadow::id("of-a").stream();
    let content = codecs.encode(&to, &heard()).unwrap();
    let OutboxMessage { sender, mut row } = world.row("a", "of-a", content);
    (row.kind, row.target) = (OutboxKind::Bulk, "shadow".to_owned());
    (row.recipient, row.metadata) = (to.to_string(), metadata.to_string());
    let partition = world.memory.log().partition_of(&sender);
    world.memory.enqueue(partition, &[OutboxMessage { sender, row }], None).await.unwrap();
    let moved = world.builder(world.memory.clone()).event_bus(InMemoryEventBus::new());
    let _moved = started(moved.remote::<Shadow>());
    let letter = world.dead_letter().await;
    let error = letter.error.unwrap();
    assert!(error.contains("must follow the events itself"), "{error}");
}

/// The shadow in an older binary, which does not know `Kept`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct OldShadow(u32);

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "shadow")]
enum OldShadowCommand {
    Heard(Heard<OldActor>),
}

impl Aggregate for OldShadow {
    const NAME: &'static str = "shadow";
    type Command = OldShadowCommand;
    type Event = ShadowEvent;
    type Rejection = ShadowError;
    type Environment = ();

    fn decide(&self, command: OldShadowCommand, _: &Context<Self>) -> Decision<Self> {
        let OldShadowCommand::Heard(Heard { event, .. }) = command;
        let OldEvent::Did(act, _) = event else { return unchanged() };
        record(ShadowEvent::Noted(format!("old: {act:?}")))
    }

    fn apply(&mut self, _: ShadowEvent) {
        self.0 += 1;
    }
}

/// A newer process has queued an event; an older one holds the lease of the queue.
#[tokio::test(start_paused = true)]
async fn an_event_of_newer_code_waits_for_code_that_knows_it() {
    let world = World::new();
    let app = following(world.builder(world.memory.clone())).build().unwrap();
    for act in [Act::Note(1), Act::Keep, Act::Note(2)] {
        tell_to(&app, "a", act).await;
    }
    let builder = world.builder(world.memory.clone()).elsewhere::<Shadow>();
    let queues = started(builder.follows::<Actor, Shadow>("shadow", shadow_of));
    eventually("queued", async || world.memory.outbox().len() == 3).await;
    let older = started(world.builder(world.memory.clone()).aggregate::<OldShadow>(()));
    let older_state = older.handle(&OldShadow::id("of-a"));
    eventually("one", async || older_state.state(|own| own.0).await.unwrap() == 1).await;
    eventually("unknown", async || !older.unknown_messages().is_empty()).await;
    assert!(older.unknown_messages()[0].what.contains("actor.kept"));
    drop(queues);
    let newer = started(following(world.builder(world.memory.clone())));
    assert_eq!(noted(&newer, "of-a", 3).await[1..], ["a 2: kept", "a 3: note 2"]);
    assert!(world.dead_letters().await.is_empty());
}
