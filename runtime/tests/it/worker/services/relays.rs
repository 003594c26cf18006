//! Each topic of events has its own relay.

use super::*;
use composable_rust_core::environment::Clock as _;

/// An app of this world with both types.
fn both(world: &World, line: &Line) -> AppBuilder {
    both_on(world, world.memory.clone(), line)
}

fn both_on(
    world: &World,
    store: impl composable_rust_core::store::EventStore,
    line: &Line,
) -> AppBuilder {
    let builder = world.bare_builder(store).event_bus(line.clone());
    builder.aggregate::<Front>(()).aggregate::<Back>(())
}

async fn note_both(app: &App, n: u32) {
    send(app, &n.to_string(), Errand::Note(n)).await;
    let back = app.handle(&Back::id(n.to_string()));
    back.send(BackCommand::Do(Errand::Note(n))).await.unwrap();
}

async fn published(line: &Line, topic: &str, count: usize) {
    let what = format!("{count} events on {topic}");
    eventually(&what, async || line.bus.messages(topic).len() >= count).await;
    let ids: std::collections::BTreeSet<_> =
        line.bus.messages(topic).iter().map(|m| m.header("ce_id").unwrap().to_owned()).collect();
    assert_eq!((ids.len(), line.bus.messages(topic).len()), (count, count), "each once");
}

#[tokio::test(start_paused = true)]
async fn a_type_published_later_begins_at_the_start_of_the_log() {
    let (line, world) = (Line::new(), world_of(1));
    let first = started(both(&world, &line).publish::<Front>(Format::Json));
    for n in 0..20 {
        note_both(&first, n).await;
    }
    published(&line, "front-events", 20).await;
    assert!(first.shutdown(PATIENCE).await);
    let then = both(&world, &line).publish::<Front>(Format::Json).publish::<Back>(Format::Json);
    let then = started(then);
    published(&line, "back-events", 20).await;
    note_both(&then, 20).await;
    published(&line, "back-events", 21).await;
    published(&line, "front-events", 21).await;
}

/// As in a rolling deploy, or where each process publishes only the types it registers.
#[tokio::test(start_paused = true)]
async fn processes_publishing_different_types_skip_no_events() {
    let (line, world) = (Line::new(), world_of(1));
    let front = started(both(&world, &line).publish::<Front>(Format::Json));
    let back = started(both(&world, &line).publish::<Back>(Format::Json));
    for n in 0..50 {
        note_both(if n % 2 == 0 { &front } else { &back }, n).await;
    }
    published(&line, "front-events", 50).await;
    published(&line, "back-events", 50).await;
    // Each continues alone.
    assert!(front.shutdown(PATIENCE).await);
    note_both(&back, 50).await;
    published(&line, "back-events", 51).await;
    let front = started(both(&world, &line).publish::<Front>(Format::Json));
    published(&line, "front-events", 51).await;
    drop(front);
}

/// The broker may lack a topic, or deny access to it.
#[tokio::test(start_paused = true)]
async fn an_unauthorized_topic_does_not_stop_another() {
    let (line, world) = (Line::new(), world_of(1));
    line.refuse("front-events");
    let app = both(&world, &line).publish::<Front>(Format::Json).publish::<Back>(Format::Json);
    let app = started(app);
    for n in 0..20 {
        note_both(&app, n).await;
    }
    published(&line, "back-events", 20).await;
    line.refuse("nothing");
    published(&line, "front-events", 20).await;
}

/// A slow broker accepts no large batch within its time limit.
#[tokio::test(start_paused = true)]
async fn a_large_backlog_is_published_in_smaller_batches() {
    let (line, world) = (Line::new(), world_of(1));
    let writer = both(&world, &line).build().unwrap();
    for n in 0..300 {
        send(&writer, "1", Errand::Note(n)).await;
    }
    line.largest_batch.store(20, Ordering::SeqCst);
    let _app = started(both(&world, &line).publish::<Front>(Format::Json));
    versions_rise(&line.bus, 300).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_can_be_republished() {
    use composable_rust_runtime::operations::{LogStart, RepublishError};
    let (line, world) = (Line::new(), world_of(1));
    let app = both(&world, &line).publish::<Front>(Format::Json).publish::<Back>(Format::Json);
    let app = started(app);
    for n in 0..20 {
        note_both(&app, n).await;
    }
    published(&line, "front-events", 20).await;
    published(&line, "back-events", 20).await;
    let unknown = app.republish("nothing", LogStart::Beginning).await.unwrap_err();
    assert!(matches!(unknown, RepublishError::NotPublished(topic) if topic == "nothing"));
    app.republish("front-events", LogStart::Beginning).await.unwrap();
    let front = async || line.bus.messages("front-events").len() >= 40;
    eventually("each comes again", front).await;
    send(&app, "1", Errand::Note(20)).await;
    // The same holds where the process that published it is replaced at once.
    eventually("and once only", async || line.bus.messages("front-events").len() == 41).await;
    app.republish("front-events", LogStart::Beginning).await.unwrap();
    assert!(app.shutdown(PATIENCE).await);
    let _next = started(both(&world, &line).publish::<Front>(Format::Json));
    let all = |bus: &InMemoryEventBus| -> Vec<_> {
        let messages = bus.messages("front-events");
        messages.iter().map(|message| message.header("ce_id").unwrap().to_owned()).collect()
    };
    eventually("each comes again", async || all(&line.bus).len() >= 62).await;
    tokio::time::sleep(millis(20_000)).await;
    let ids = all(&line.bus);
    let distinct = |ids: &[String]| ids.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!((ids.len(), distinct(&ids[41..]), distinct(&ids)), (62, 21, 21));
    published(&line, "back-events", 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_republished_from_a_time_or_a_position() {
    use composable_rust_core::Position;
    use composable_rust_core::store::EventStore as _;
    use composable_rust_runtime::operations::LogStart;
    let (line, world) = (Line::new(), world_of(1));
    let app = started(both(&world, &line).publish::<Front>(Format::Json));
    for n in 0..20 {
        send(&app, "1", Errand::Note(n)).await;
    }
    published(&line, "front-events", 20).await;
    tokio::time::sleep(millis(60_000)).await;
    let since = world.clock.now();
    for n in 20..25 {
        send(&app, "1", Errand::Note(n)).await;
    }
    published(&line, "front-events", 25).await;
    let versions = |from: usize| -> Vec<_> {
        let messages = line.bus.messages("front-events");
        let version = |of: &BusMessage| of.header("ce_streamversion").unwrap().to_owned();
        messages.iter().skip(from).map(version).collect()
    };
    app.republish("front-events", LogStart::Since(since)).await.unwrap();
    eventually("the last come again", async || versions(25).len() >= 5).await;
    tokio::time::sleep(millis(20_000)).await;
    assert_eq!(versions(25), ["21", "22", "23", "24", "25"]);

    let heads = world.memory.heads().await.unwrap();
    let head = *heads.iter().max_by_key(|head| head.offset).unwrap();
    let last = Position::new(head.partition, head.offset - 1);
    app.republish("front-events", LogStart::After(vec![last])).await.unwrap();
    eventually("the last one comes again", async || versions(30).len() == 1).await;
    let beyond = Position::new(head.partition, head.offset + 1);
    app.republish("front-events", LogStart::After(vec![beyond])).await.unwrap_err();
    // What follows is published once.
    send(&app, "1", Errand::Note(25)).await;
    eventually("the next one", async || versions(31).len() == 1).await;
    tokio::time::sleep(millis(20_000)).await;
    assert_eq!(versions(30), ["25", "26"]);
}

/// A publisher costs connections and threads.
#[tokio::test(start_paused = true)]
async fn a_publisher_is_open_only_while_events_are_pending() {
    let (line, world) = (Line::new(), world_of(1));
    let app = both(&world, &line).publish::<Front>(Format::Json).publish::<Back>(Format::Json);
    let app = started(app);
    for n in 0..20 {
        send(&app, "1", Errand::Note(n)).await;
    }
    published(&line, "front-events", 20).await;
    assert_eq!(line.open_relays(), 1, "one stream, one log partition");
    eventually("it is closed", async || line.open_relays() == 0).await;
    send(&app, "1", Errand::Note(20)).await;
    published(&line, "front-events", 21).await;
    assert_eq!(line.open_relays(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_publishers_are_open_than_the_bus_allows() {
    let (line, world) = (Line::new(), world_of(1));
    line.max_publishers.store(2, Ordering::SeqCst);
    let app = both(&world, &line).publish::<Front>(Format::Json).publish::<Back>(Format::Json);
    let app = started(app);
    for n in 0..40 {
        note_both(&app, n).await;
    }
    published(&line, "front-events", 40).await;
    published(&line, "back-events", 40).await;
    assert_eq!(line.peak.load(Ordering::SeqCst), 2);
    assert!(app.shutdown(PATIENCE).await);
    assert_eq!(line.open_relays(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_always_busy_shares_the_only_publisher() {
    let (line, world) = (Line::new(), world_of(1));
    line.max_publishers.store(1, Ordering::SeqCst);
    let app = both(&world, &line).publish::<Front>(Format::Json).publish::<Back>(Format::Json);
    let app = started(app);
    let busy = async {
        for n in 0.. {
            send(&app, "1", Errand::Note(n)).await;
            tokio::time::sleep(millis(100)).await;
        }
    };
    let other = async {
        eventually("one", async || !line.bus.messages("front-events").is_empty()).await;
        let back = app.handle(&Back::id("1"));
        back.send(BackCommand::Do(Errand::Note(1))).await.unwrap();
        published(&line, "back-events", 1).await;
        let count = line.bus.messages("front-events").len();
        eventually("more", async || line.bus.messages("front-events").len() > count + 20).await;
    };
    tokio::select! {
        () = busy => {}
        () = other => {}
    }
    assert_eq!(line.peak.load(Ordering::SeqCst), 1);
}

/// The broker's position takes precedence over the checkpoint, and is read once there is something
/// to publish.
#[tokio::test(start_paused = true)]
async fn events_published_before_a_crash_are_not_republished() {
    use crate::worker::node::Mishap;
    let (line, world) = (Line::new(), world_of(1));
    let node = NodeProcess::start(world.memory.clone());
    let first = both_on(&world, node.clone(), &line).publish::<Front>(Format::Json);
    let first = started(first);
    let writer = both(&world, &line).build().unwrap();
    send(&writer, "1", Errand::Note(0)).await;
    let checkpoints = async || world.memory.load_checkpoints("relay/front-events/front").await;
    eventually("a checkpoint", async || checkpoints().await.unwrap().len() == 1).await;
    node.next("enqueue", [Mishap::CrashesBefore]);
    send(&writer, "1", Errand::Note(1)).await;
    published(&line, "front-events", 2).await;
    assert_eq!(checkpoints().await.unwrap()[0].offset, 1);
    let second = started(both(&world, &line).publish::<Front>(Format::Json));
    send(&second, "1", Errand::Note(2)).await;
    published(&line, "front-events", 3).await;
    drop(first);
}
