//! Policies that read the topics of other services.

use composable_rust_core::Recorded;
use composable_rust_core::bus::{BusMessage, BusRecord, EventBus as _};
use composable_rust_core::codec::Format;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::DeadLetterDecision;
use composable_rust_runtime::{App, ExternalRecord};
use composable_rust_testing::InMemoryEventBus;
use serde::{Deserialize, Serialize};

use super::actor::{Act, Actor, ActorEvent as Out};
use super::node::{Mishap, NodeProcess};
use super::policies::{OldActor, OldEvent};
use super::world::{World, eventually, millis, started, tell_to};

/// Reads the events of other services.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Listener(Vec<String>);

#[derive(Debug, Clone, PartialEq, Message)]
enum ListenerCommand {
    Hear(String),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ListenerEvent {
    Heard(String),
}

impl Aggregate for Listener {
    const NAME: &'static str = "listener";
    type Command = ListenerCommand;
    type Event = ListenerEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(
        &self,
        ListenerCommand::Hear(text): ListenerCommand,
        _: &Context<Self>,
    ) -> Decision<Self> {
        record(ListenerEvent::Heard(text))
    }

    fn apply(&mut self, ListenerEvent::Heard(text): ListenerEvent) {
        self.0.push(text);
    }
}

async fn listened(app: &App, count: usize) -> Vec<String> {
    let listener = app.handle(&Listener::id("1"));
    eventually("it is heard", async || listener.state(|own| own.0.len()).await.unwrap() >= count)
        .await;
    tokio::time::sleep(millis(5_000)).await;
    listener.state(|own| own.0.clone()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_policy_reads_the_topic_of_another_service() {
    for format in [Format::Binary, Format::Json] {
        let (world, other, bus) = (World::new(), World::new(), InMemoryEventBus::new());
        let app = started(
            world.builder(world.memory.clone()).event_bus(bus.clone()).publish::<Actor>(format),
        );
        let hear = |recorded: &Recorded<Out>| {
            assert_eq!(recorded.stream.id(), "a");
            vec![(Listener::id("1"), ListenerCommand::Hear(recorded.event.text()))]
        };
        let node = NodeProcess::start(other.memory.clone());
        // Lost responses make it queue twice; the inbox recognises the duplicates.
        node.next("enqueue", [Mishap::FailsAfter; 3]);
        let listener = started(
            other
                .bare_builder(node)
                .event_bus(bus.clone())
                .aggregate::<Listener>(())
                .remote::<Actor>()
                .on::<Actor, Listener, Vec<_>>("listen", hear),
        );
        for n in 0..10 {
            tell_to(&app, "a", Act::Note(n)).await;
        }
        let all: Vec<_> = (0..10).map(|n| format!("note {n}")).collect();
        assert_eq!(listened(&listener, 10).await, all);
    }
}

/// Repeats the notes of another service's actors, each to the actor's name.
fn listening<S: Target>(
    world: &World,
    bus: &InMemoryEventBus,
    text: fn(&S::Event) -> String,
) -> App {
    let hear = move |recorded: &Recorded<S::Event>| {
        let text = format!("{}: {}", recorded.stream.id(), text(&recorded.event));
        vec![(Listener::id("1"), ListenerCommand::Hear(text))]
    };
    let builder = world.bare_builder(world.memory.clone()).event_bus(bus.clone());
    let builder = builder.aggregate::<Listener>(()).remote::<S>();
    started(builder.on::<S, Listener, Vec<_>>("listen", hear))
}

/// Other services deploy at any time.
#[tokio::test(start_paused = true)]
async fn an_unknown_remote_event_blocks_only_its_stream() {
    let bus = InMemoryEventBus::new().with_partitions(1);
    let (world, other) = (World::new(), World::new());
    let builder = world.builder(world.memory.clone()).event_bus(bus.clone());
    let app = started(builder.publish::<Actor>(Format::Json));
    let older = listening::<OldActor>(&other, &bus, |event| match event {
        OldEvent::Did(Act::Note(n), _) => format!("note {n}"),
        other => format!("{other:?}"),
    });
    for act in [Act::Note(1), Act::Keep, Act::Note(2)] {
        tell_to(&app, "a", act).await;
    }
    for n in 0..5 {
        tell_to(&app, "b", Act::Note(n)).await;
    }
    let of = |heard: &[String], who: &str| -> Vec<String> {
        heard.iter().filter_map(|text| text.strip_prefix(who)).map(str::to_owned).collect()
    };
    let all_of_b: Vec<_> = (0..5).map(|n| format!("note {n}")).collect();
    let heard = listened(&older, 6).await;
    assert_eq!((of(&heard, "a: "), of(&heard, "b: ")), (vec!["note 1".to_owned()], all_of_b));
    assert!(other.dead_letters().await.is_empty());
    let unknown = older.unknown_messages();
    assert_eq!((unknown.len(), unknown[0].waiting), (1, 1), "{unknown:?}");

    let newer = listening::<Actor>(&other, &bus, Out::text);
    let heard = listened(&newer, 8).await;
    assert_eq!(of(&heard, "a: "), ["note 1", "kept", "note 2"]);
    assert!(other.dead_letters().await.is_empty() && other.memory.outbox().is_empty());
}

fn foreign(key: &str, id: Option<&str>, payload: &str) -> BusMessage {
    let ids = id.map(|id| [("ce_id", id), ("ce_source", "/shop")]).into_iter().flatten();
    let trace = [("traceparent", "\0 no such thing")];
    BusMessage {
        topic: "legacy".into(),
        key: key.into(),
        headers: ids.chain(trace).map(|(name, value)| (name.into(), value.into())).collect(),
        payload: payload.into(),
    }
}

fn text(record: &ExternalRecord) -> String {
    String::from_utf8(record.payload.clone().unwrap()).unwrap()
}

/// Repeats the records of a topic, as texts.
fn listening_to_records(
    world: &World,
    bus: &InMemoryEventBus,
    text: impl Fn(&ExternalRecord) -> String + Send + Sync + 'static,
) -> App {
    let hear = move |record: &ExternalRecord| {
        vec![(Listener::id("1"), ListenerCommand::Hear(text(record)))]
    };
    let builder = world.bare_builder(world.memory.clone()).event_bus(bus.clone());
    let builder = builder.aggregate::<Listener>(());
    started(builder.on_topic::<Listener, Vec<_>>("legacy", "listen", hear))
}

/// Records without a key have no order: one that fails holds up no other.
#[tokio::test(start_paused = true)]
async fn records_without_a_key_are_independent() {
    let (world, bus) = (World::new(), InMemoryEventBus::new().with_partitions(1));
    let app = listening_to_records(&world, &bus, |record| {
        assert!(text(record) != "0", "bad");
        text(record)
    });
    for n in 0..100 {
        let payload = Some(n.to_string().into_bytes());
        bus.publish_record("legacy", BusRecord { key: None, headers: Vec::new(), payload });
    }
    let mut all = listened(&app, 99).await;
    all.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(all, (1..100).map(|n| n.to_string()).collect::<Vec<_>>());
    eventually("it is parked", async || !world.dead_letters().await.is_empty()).await;
    assert_eq!(world.dead_letters().await.len(), 1);
}

/// A policy receives records verbatim: keys that are not text are distinguished and have lanes of
/// their own, a tombstone is no empty value, a header may have no value.
#[tokio::test(start_paused = true)]
async fn records_are_given_in_bytes() {
    let (world, bus) = (World::new(), InMemoryEventBus::new().with_partitions(1));
    let app = listening_to_records(&world, &bus, |record| {
        assert!(record.header("fails").is_none(), "bad");
        let ExternalRecord { key, payload, headers, .. } = record;
        format!("{key:?} {payload:?} {headers:?} {:?}", record.key_text())
    });
    let record = |key: &[u8], header: (&str, Option<&[u8]>), payload: Option<&[u8]>| BusRecord {
        key: Some(key.to_vec()),
        headers: vec![(header.0.to_owned(), header.1.map(<[u8]>::to_vec))],
        payload: payload.map(<[u8]>::to_vec),
    };
    bus.publish_record("legacy", record(&[0xff, 1], ("fails", Some(b"x")), Some(b"")));
    eventually("it waits", async || !world.memory.outbox().is_empty()).await;
    bus.publish_record("legacy", record(&[0xfe, 1], ("a", None), None));
    bus.publish_record("legacy", record(&[0xfe, 1], ("a", Some(&[0xff])), Some(b"")));
    bus.publish_record("legacy", record(b"k", ("a", Some(b"b")), Some(b"")));
    let mut heard = listened(&app, 3).await;
    // Records of different keys have no order.
    heard.sort_by_key(|text| text.starts_with("Some([107"));
    assert_eq!(heard[0], r#"Some([254, 1]) None [("a", None)] None"#);
    assert_eq!(heard[1], r#"Some([254, 1]) Some([]) [("a", Some([255]))] None"#);
    assert_eq!(heard[2], r#"Some([107]) Some([]) [("a", Some([98]))] Some("k")"#);
}

#[tokio::test(start_paused = true)]
async fn a_policy_reads_external_topics() {
    let (world, bus) = (World::new(), InMemoryEventBus::new());
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let fails = std::sync::Arc::clone(&broken);
    let app = listening_to_records(&world, &bus, move |record| {
        let text = text(record);
        assert!(text != "bad" || !fails.load(std::sync::atomic::Ordering::SeqCst), "bad");
        text
    });
    for (id, text) in [(Some("1"), "one"), (Some("1"), "one"), (None, "two"), (None, "two")] {
        bus.publish(foreign("k", id, text)).await.unwrap();
    }
    assert_eq!(listened(&app, 3).await, ["one", "two", "two"]);
    // A failing record waits with its successors under the same key.
    let large = "x".repeat(2_000_000);
    for (key, text) in [("k", "bad"), ("k", "three"), ("other", "four"), ("k", &large)] {
        bus.publish(foreign(key, None, text)).await.unwrap();
    }
    assert_eq!(listened(&app, 4).await[3..], ["four"]);
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    let heard = listened(&app, 7).await;
    assert_eq!(heard[4..6], ["bad", "three"]);
    assert_eq!(heard[6].len(), 2_000_000);
}

/// A record that exceeds the queue's limit is not skipped: an operator gets its offset.
#[tokio::test(start_paused = true)]
async fn a_too_large_external_record_is_parked_by_offset() {
    let (world, bus) = (World::new(), InMemoryEventBus::new());
    let app = listening_to_records(&world, &bus, |record| {
        assert!(text(record).len() < 1_000, "too much");
        text(record)
    });
    let large = "x".repeat(5_000_000);
    for (key, text) in [("k", large.as_str()), ("k", "behind"), ("other", "beside")] {
        bus.publish(foreign(key, None, text)).await.unwrap();
    }
    assert_eq!(listened(&app, 1).await, ["beside"]);
    eventually("both are parked", async || world.dead_letters().await.len() == 2).await;
    let letter = world.dead_letter().await;
    let error = letter.error.as_ref().unwrap();
    assert!(error.contains("5000000 bytes") && error.contains("legacy"), "{error}");
    assert!(world.decide(&letter, DeadLetterDecision::Discard).await);
    eventually("it goes", async || world.dead_letters().await.len() == 1).await;
    let next = world.dead_letter().await;
    assert!(world.decide(&next, DeadLetterDecision::Redrive).await);
    assert_eq!(listened(&app, 2).await, ["beside", "behind"]);
}
