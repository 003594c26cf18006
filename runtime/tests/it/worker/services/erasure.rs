//! Erasure in one service, seen in another.

use composable_rust_core::Recorded;
use composable_rust_core::bus::{BusMessage, EventBus as _};
use composable_rust_core::prelude::*;
use composable_rust_core::store::EventStore as _;
use composable_rust_runtime::{App, AppBuilder};
use composable_rust_testing::InMemoryEventStore;
use uuid::Uuid;

use super::super::node::{Mishap, Node, NodeProcess};
use super::super::world::{PATIENCE, World, eventually, millis, started};
use super::{Back, BackCommand, Errand, Front, Line, back, back_on, front, send, world_of};

async fn note(app: &App, id: &str) {
    let noted = |own: &Back| own.0.contains(&"note 0".to_owned()).then_some(());
    app.handle(&Back::id(id)).wait(noted, PATIENCE).await.unwrap();
}

fn gone<S: Target>(id: &Id<S>) -> [(Id<Back>, BackCommand); 1] {
    [(Back::id(format!("gone-{id}")), BackCommand::Do(Errand::Note(0)))]
}

/// The message that announces the erasure of front 1.
fn erasure(n: u128) -> BusMessage {
    let headers = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", Uuid::from_u128(n).to_string()),
        ("ce_source", format!("urn:uuid:{}", Uuid::from_u128(1))),
        ("ce_type", "$erased".to_owned()),
        ("ce_subject", "front-1".to_owned()),
    ];
    BusMessage {
        topic: "front-events".into(),
        key: "front-1".into(),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        payload: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_erasure_elsewhere_erases_queued_messages_here() {
    let (line, at_front, at_back) = (Line::new(), world_of(1), world_of(2));
    let front = front(&at_front, at_front.memory.clone(), &line, false);
    let policy =
        |_: &Recorded<super::FrontEvent>| [(Back::id("copies"), BackCommand::Do(Errand::Note(1)))];
    let hears = back(&at_back, &line).on::<Front, Back, _>("copies", policy);
    let back = started(hears.on_erased::<Front, Back, _>("forget", gone));
    let copies = async |count: usize| {
        let all = |own: &Back| (own.0.len() == count).then_some(());
        back.handle(&Back::id("copies")).wait(all, PATIENCE).await.unwrap();
    };
    send(&front, "1", Errand::TellBack("1".into(), Box::new(Errand::Note(5)))).await;
    copies(1).await;
    // Some of its messages wait: dead letters, one of them stored verbatim.
    let told = line.bus.messages("back-commands").remove(0);
    let mut internal = told.clone();
    internal.headers.retain(|(name, _)| name != "ce_type" && name != "ce_id");
    internal.headers.push(("ce_type".into(), "back.due".into()));
    internal.headers.push(("ce_id".into(), Uuid::from_u128(1).to_string()));
    let mut unreadable = internal.clone();
    unreadable.headers.retain(|(name, _)| name != "ce_metadata");
    for message in [internal, unreadable] {
        line.bus.publish(message).await.unwrap();
    }
    let contents = async || {
        let letters = at_back.dead_letters().await;
        let contents = letters.into_iter().map(|letter| letter.message.row.content.bytes);
        contents.filter(|bytes| !bytes.is_empty()).count()
    };
    eventually("both are parked", async || contents().await == 2).await;

    line.bus.publish(erasure(2)).await.unwrap();
    note(&back, "gone-1").await;
    assert_eq!((contents().await, at_back.dead_letters().await.len()), (0, 2));
    // The policy continues over the same topic.
    send(&front, "1", Errand::Note(6)).await;
    copies(2).await;
    eventually("nothing is left", async || at_back.memory.outbox().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn the_relay_publishes_erasures() {
    let (line, at_front, at_back) = (Line::new(), world_of(1), world_of(2));
    let front = front(&at_front, at_front.memory.clone(), &line, false);
    let back = started(back(&at_back, &line).on_erased::<Front, Back, _>("forget", gone));
    send(&front, "1", Errand::Note(6)).await;
    eventually("an event", async || line.bus.messages("front-events").len() == 1).await;
    front.handle(&Front::id("1")).erase().await.unwrap();
    note(&back, "gone-1").await;
    let told = line.bus.messages("front-events").remove(1);
    assert_eq!(
        (told.header("ce_type"), told.header("ce_subject")),
        (Some("$erased"), Some("front-1"))
    );
    assert_eq!(told.payload, Vec::<u8>::new());
}

#[tokio::test(start_paused = true)]
async fn a_policy_sees_an_erasure_in_its_own_log() {
    let world = world_of(2);
    let app = world.bare_builder(world.memory.clone()).aggregate::<Back>(()).aggregate::<Front>(());
    let app = started(app.on_erased::<Front, Back, _>("forget", gone));
    send(&app, "1", Errand::Note(6)).await;
    send(&app, "2", Errand::Note(6)).await;
    world.memory.erase_stream(&Front::id("1").stream()).await.unwrap();
    note(&app, "gone-1").await;
    world.quiet().await;
    let other = app.handle(&Back::id("gone-2")).state(|own| own.0.len()).await.unwrap();
    assert_eq!(other, 0);
}

/// Commands caused by an erasure are not erased with the stream, which may be erased again, or be
/// announced by another policy.
#[tokio::test(start_paused = true)]
async fn commands_caused_by_an_erasure_survive_the_next_one() {
    // A process that cannot append, and one after it that can.
    let stuck = |world: &World| {
        let node = NodeProcess::start(world.memory.clone());
        node.next("append_events", std::iter::repeat_n(Mishap::FailsBefore, 10_000));
        node
    };
    let (line, world) = (Line::new(), world_of(2));
    let hears = |app: AppBuilder| started(app.on_erased::<Front, Back, _>("forget", gone));
    let first = hears(back_on(&world, stuck(&world), &line));
    for n in 1..=2_usize {
        line.bus.publish(erasure(n as u128)).await.unwrap();
        eventually("it waits", async || world.memory.outbox().len() == n).await;
    }
    drop(first);
    let second = hears(back(&world, &line));
    let both = |own: &Back| (own.0.len() == 2).then_some(());
    second.handle(&Back::id("gone-1")).wait(both, PATIENCE).await.unwrap();

    let world = world_of(3);
    let builder = |store: Node<InMemoryEventStore>| {
        world.bare_builder(store).aggregate::<Back>(()).aggregate::<Front>(())
    };
    let healthy = || NodeProcess::start(world.memory.clone());
    send(&builder(healthy()).build().unwrap(), "1", Errand::Note(6)).await;
    let first = hears(builder(stuck(&world)));
    tokio::time::sleep(millis(10_000)).await;
    let own = Front::id("1").stream();
    world.memory.erase_stream(&own).await.unwrap();
    eventually("it waits", async || !world.memory.outbox().is_empty()).await;
    world.memory.erase_stream(&own).await.unwrap();
    drop(first);
    note(&hears(builder(healthy())), "gone-1").await;
}
