//! Events that a topic cannot hold.

use std::collections::BTreeMap;

use composable_rust_core::Version;
use composable_rust_core::codec::{Codecs, EncodedMessage};
use composable_rust_core::queue::DeadLetterDecision::{Discard, Redrive};
use composable_rust_core::store::EventStore as _;
use composable_rust_runtime::SendError;
use futures_util::TryStreamExt as _;

use super::*;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Grid(usize);

#[derive(Debug, Clone, PartialEq, Message)]
enum GridCommand {
    Record(GridEvent),
}

#[derive(Debug, Clone, PartialEq, Message, Serialize, Deserialize)]
enum GridEvent {
    Cleared,
    /// JSON has only text keys.
    Mapped(BTreeMap<(u32, u32), i64>),
    /// JSON has no infinity.
    Weighed(f64),
    /// Four bytes in JSON for each byte.
    Filled(Vec<u8>),
    Torn(Torn),
}

/// Its encoder panics in JSON.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Torn;

impl Serialize for Torn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!serializer.is_human_readable(), "it is torn");
        serializer.serialize_unit_struct("Torn")
    }
}

impl Aggregate for Grid {
    const NAME: &'static str = "grid";
    type Command = GridCommand;
    type Event = GridEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, GridCommand::Record(event): GridCommand, _: &Context<Self>) -> Decision<Self> {
        record(event)
    }

    fn apply(&mut self, _: GridEvent) {
        self.0 += 1;
    }
}

fn mapped() -> GridEvent {
    GridEvent::Mapped([((1, 2), 3)].into())
}

fn filled() -> GridEvent {
    GridEvent::Filled(vec![255; 400])
}

/// Records events of grids in an app that publishes nothing.
async fn recorded<'a>(world: &World, events: impl IntoIterator<Item = (&'a str, GridEvent)>) {
    let writer = world.bare_builder(world.memory.clone()).aggregate::<Grid>(()).build().unwrap();
    for (id, event) in events {
        writer.handle(&Grid::id(id)).send(GridCommand::Record(event)).await.unwrap();
    }
}

fn publishing(world: &World, line: &Line) -> App {
    let app = world.bare_builder(world.memory.clone()).event_bus(line.clone());
    started(app.aggregate::<Grid>(()).publish::<Grid>(Format::Json))
}

fn has(line: &Line, id: &str) -> bool {
    let key = format!("grid-{id}");
    line.bus.messages("grid-events").iter().any(|message| message.key == key)
}

/// Waits until exactly these versions of a grid are on the topic, in this order.
async fn versions(line: &Line, id: &str, expected: &[u64]) {
    let found = || -> Vec<u64> {
        let messages = line.bus.messages("grid-events");
        let own = messages.iter().filter(|message| message.key == format!("grid-{id}"));
        own.map(|message| message.header("ce_streamversion").unwrap().parse().unwrap()).collect()
    };
    eventually(&format!("versions of {id}"), async || found().len() >= expected.len()).await;
    tokio::time::sleep(millis(20_000)).await;
    assert_eq!(found(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_event_too_large_for_its_topic_is_rejected_when_recorded() {
    let (line, world) = (Line::new(), world_of(1));
    line.most.store(1_000, Ordering::SeqCst);
    let app = publishing(&world, &line);
    let grid = app.handle(&Grid::id("1"));
    for (event, reason) in [
        (mapped(), "`grid.mapped` cannot be published to `grid-events` in Json format: "),
        (GridEvent::Weighed(f64::INFINITY), "invalid type: null"),
        (filled(), "it has 1601 bytes, more than the 1000 that the bus takes"),
    ] {
        let refused = grid.send(GridCommand::Record(event)).await.unwrap_err();
        let SendError::Unstorable(text) = &refused else { panic!("{refused:?}") };
        assert!(text.contains(reason), "{text}");
    }
    grid.send(GridCommand::Record(GridEvent::Weighed(1.5))).await.unwrap();
    versions(&line, "1", &[1]).await;
}

#[tokio::test(start_paused = true)]
async fn an_unpublishable_event_blocks_only_its_own_stream() {
    let (line, world) = (Line::new(), world_of(1));
    let cleared = GridEvent::Cleared;
    let all = [("1", cleared.clone()), ("1", mapped()), ("1", cleared.clone()), ("2", cleared)];
    recorded(&world, all).await;
    let app = publishing(&world, &line);
    versions(&line, "2", &[1]).await;
    versions(&line, "1", &[1]).await;
    let letter = world.dead_letter().await;
    assert_eq!(letter.message.sender, Grid::id("1").stream());
    assert_eq!(letter.queue.target, "relay/grid-events/grid");
    assert_eq!(letter.message.row.content.bytes, br#"{"from_version":2}"#);
    assert!(letter.error.as_ref().unwrap().contains("`grid.mapped` cannot be encoded"));

    // It also waits in the next process, and after a redrive in vain.
    assert!(app.shutdown(PATIENCE).await);
    let app = publishing(&world, &line);
    recorded(&world, [("1", GridEvent::Cleared), ("2", GridEvent::Cleared)]).await;
    versions(&line, "2", &[1, 2]).await;
    assert!(world.decide(&letter, Redrive).await);
    let tried = async || world.dead_letters().await.first().is_some_and(|l| l.attempts == 1);
    eventually("it is tried again", tried).await;
    versions(&line, "1", &[1]).await;

    // An operator overrides the event.
    let stream = Grid::id("1").stream();
    let instead = Codecs::default().encode(&stream, &GridEvent::Weighed(0.5)).unwrap();
    world.memory.override_event(&stream, Version::new(2), &instead).await.unwrap();
    assert!(world.decide(&world.dead_letter().await, Redrive).await);
    versions(&line, "1", &[1, 2, 3, 4]).await;
    assert!(world.dead_letters().await.is_empty() && world.memory.outbox().is_empty());
    recorded(&world, [("1", GridEvent::Cleared)]).await;
    versions(&line, "1", &[1, 2, 3, 4, 5]).await;
    drop(app);
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_mapping_panics_blocks_only_its_stream() {
    let (line, world) = (Line::new(), world_of(1));
    let torn = GridEvent::Torn(Torn);
    recorded(&world, [("1", GridEvent::Cleared), ("1", torn), ("2", GridEvent::Cleared)]).await;
    let app = publishing(&world, &line);
    versions(&line, "2", &[1]).await;
    versions(&line, "1", &[1]).await;
    let queues = app.queues().all().await.unwrap();
    assert!(
        queues.len() == 1 && queues[0].has_worker == Some(true),
        "the relay works it: {queues:?}"
    );
    let error = world.dead_letter().await.error.unwrap();
    assert!(error.ends_with("panicked: it is torn"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn discarded_events_are_left_out_of_the_topic() {
    let (line, world) = (Line::new(), world_of(1));
    let cleared = || ("1", GridEvent::Cleared);
    let bad = || ("1", mapped());
    recorded(&world, [cleared(), bad(), cleared(), bad(), cleared()]).await;
    let _app = publishing(&world, &line);
    for expected in [&[1][..], &[1, 3], &[1, 3, 5]] {
        versions(&line, "1", expected).await;
        if expected.len() < 3 {
            assert!(world.decide(&world.dead_letter().await, Discard).await);
        }
    }
    assert!(world.dead_letters().await.is_empty() && world.memory.outbox().is_empty());
    recorded(&world, [cleared()]).await;
    versions(&line, "1", &[1, 3, 5, 6]).await;
}

/// The same holds for an event whose redriven stream an operator discards before the retry: later
/// events of the stream are published.
#[tokio::test(start_paused = true)]
async fn discards_after_a_redrive_are_left_out_of_the_topic() {
    let (line, world) = (Line::new(), world_of(1));
    let cleared = || ("1", GridEvent::Cleared);
    recorded(&world, [cleared(), ("1", mapped()), cleared(), ("2", GridEvent::Cleared)]).await;
    let app = publishing(&world, &line);
    let letter = world.dead_letter().await;
    assert!(app.shutdown(PATIENCE).await);
    let operator = world.bare_builder(world.memory.clone()).event_bus(line.clone());
    let operator = operator.aggregate::<Grid>(()).publish::<Grid>(Format::Json).build().unwrap();
    operator.dead_letters().redrive(&letter).await.unwrap();
    let queues = operator.queues();
    let waiting: Vec<_> = queues.messages(&letter.queue).try_collect().await.unwrap();
    queues.discard(&waiting[0]).await.unwrap();
    let _app = publishing(&world, &line);
    versions(&line, "1", &[1, 3]).await;
    assert!(world.dead_letters().await.is_empty() && world.memory.outbox().is_empty());
}

/// The limit was lowered, or the event predates the bus.
#[tokio::test(start_paused = true)]
async fn a_too_large_event_is_published_when_the_limit_rises() {
    let (line, world) = (Line::new(), world_of(1));
    line.most.store(1_000, Ordering::SeqCst);
    recorded(&world, [("1", filled()), ("1", GridEvent::Cleared), ("2", GridEvent::Cleared)]).await;
    let app = publishing(&world, &line);
    versions(&line, "2", &[1]).await;
    let letter = world.dead_letter().await;
    assert!(letter.error.as_ref().unwrap().contains("1601 bytes"));
    assert!(app.shutdown(PATIENCE).await);
    line.most.store(2_000, Ordering::SeqCst);
    let _app = publishing(&world, &line);
    assert!(world.decide(&letter, Redrive).await);
    versions(&line, "1", &[1, 2]).await;
}

/// An older version may have recorded it, also as JSON.
#[tokio::test(start_paused = true)]
async fn a_number_outside_json_is_not_published_as_null() {
    let (line, world) = (Line::new(), world_of(1));
    let weighed = |n| GridEvent::Weighed(n);
    recorded(&world, [("1", weighed(1.5)), ("1", weighed(f64::INFINITY)), ("1", weighed(2.5))])
        .await;
    recorded(&world, [("2", weighed(1.5)), ("2", weighed(2.5)), ("3", weighed(1.5))]).await;
    let null = EncodedMessage {
        name: "grid.weighed".into(),
        version: 1,
        codec: "json".into(),
        bytes: b"null".to_vec(),
    };
    world.memory.override_event(&Grid::id("2").stream(), Version::new(2), &null).await.unwrap();
    let _app = publishing(&world, &line);
    versions(&line, "3", &[1]).await;
    versions(&line, "1", &[1]).await;
    versions(&line, "2", &[1]).await;
    let mut errors: Vec<_> =
        world.dead_letters().await.into_iter().map(|letter| letter.error.unwrap()).collect();
    errors.sort();
    assert!(
        errors[0].starts_with("`grid.weighed` decodes from JSON to another message"),
        "{errors:?}"
    );
    assert!(errors[1].contains("invalid type: null"), "{errors:?}");
}

/// A topic may accept less than the bus declares, and count a batch as a whole.
#[tokio::test(start_paused = true)]
async fn an_event_the_broker_rejects_for_size_parks_only_its_stream() {
    let (line, world) = (Line::new(), world_of(1));
    line.broker_limit.store(40, Ordering::SeqCst);
    let ids: Vec<_> = (2..100).map(|n: u32| n.to_string()).collect();
    let cleared = || GridEvent::Cleared;
    recorded(&world, [("1", cleared()), ("1", filled()), ("1", cleared()), ("1", filled())]).await;
    recorded(&world, ids.iter().map(|id| (&**id, cleared()))).await;
    let _app = publishing(&world, &line);
    for id in &ids {
        eventually("others", async || has(&line, id)).await;
    }
    versions(&line, "1", &[1]).await;
    let letter = world.dead_letter().await;
    assert_eq!(letter.message.row.content.bytes, br#"{"from_version":2}"#);
    let error = "the bus takes no such message: 1601 bytes";
    assert_eq!(letter.error.as_deref(), Some(error));

    // It also waits after a redrive in vain.
    assert!(world.decide(&letter, Redrive).await);
    let tried = async || world.dead_letters().await.first().is_some_and(|l| l.attempts == 1);
    eventually("it is tried again", tried).await;
    assert!(world.decide(&world.dead_letter().await, Discard).await);
    versions(&line, "1", &[1, 3]).await;
    let letter = world.dead_letter().await;
    assert_eq!(letter.message.row.content.bytes, br#"{"from_version":4}"#);
    line.broker_limit.store(2_000, Ordering::SeqCst);
    assert!(world.decide(&letter, Redrive).await);
    versions(&line, "1", &[1, 3, 4]).await;
    recorded(&world, [("1", cleared())]).await;
    versions(&line, "1", &[1, 3, 4, 5]).await;
}

/// A failing mapping is like an encoding failure; the erasure of a stream is published.
#[tokio::test(start_paused = true)]
async fn an_erasure_is_published_though_its_stream_is_blocked() {
    let (line, world) = (Line::new(), world_of(1));
    recorded(&world, [("1", mapped()), ("1", GridEvent::Cleared), ("2", mapped())]).await;
    let app = world.bare_builder(world.memory.clone()).event_bus(line.clone());
    let app = app.aggregate::<Grid>(()).publish_as::<Grid, GridEvent>(
        "grid-events",
        Format::Json,
        |recorded| {
            assert_eq!(recorded.event, GridEvent::Cleared, "nothing else");
            Some(GridEvent::Cleared)
        },
    );
    let app = started(app);
    eventually("both wait", async || world.dead_letters().await.len() == 2).await;
    assert_eq!(app.handle(&Grid::id("1")).erase().await.unwrap(), 2);
    versions(&line, "1", &[3]).await;
    let letters = world.dead_letters().await;
    let of_1 = letters.iter().find(|l| l.message.sender == Grid::id("1").stream()).unwrap();
    assert!(world.decide(of_1, Redrive).await);
    eventually("one is left", async || world.dead_letters().await.len() == 1).await;
    versions(&line, "1", &[3, 1, 2, 3]).await;
    versions(&line, "2", &[]).await;
}
