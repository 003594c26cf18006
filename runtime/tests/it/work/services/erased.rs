//! Erasure in one service, heard in another.

use composable_rust_core::prelude::*;
use composable_rust_core::{BusMessage, EventBus as _, EventStore as _, Recorded};
use composable_rust_runtime::App;
use uuid::Uuid;

use super::super::world::{PATIENCE, eventually, started};
use super::{Back, BackCommand, Errand, Front, Line, back, front, send, world_of};

async fn note(app: &App, id: &str) {
    let noted = |own: &Back| own.0.contains(&"note 0".to_owned()).then_some(());
    app.handle(&Back::id(id)).wait(noted, PATIENCE).await.unwrap();
}

fn gone<S: Target>(id: &Id<S>) -> [(Id<Back>, BackCommand); 1] {
    [(Back::id(format!("gone-{id}")), BackCommand::Do(Errand::Note(0)))]
}

#[tokio::test(start_paused = true)]
async fn an_erasure_in_another_service_is_heard_and_erases_what_waits_of_it() {
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
    // Something of it waits: dead letters, one of them as it came.
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
        let contents = letters.into_iter().map(|letter| letter.queued.row.content.bytes);
        contents.filter(|bytes| !bytes.is_empty()).count()
    };
    eventually("both are parked", async || contents().await == 2).await;

    let headers = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", Uuid::from_u128(2).to_string()),
        ("ce_source", told.header("ce_source").unwrap().to_owned()),
        ("ce_type", "$erased".to_owned()),
        ("ce_subject", "front-1".to_owned()),
    ];
    let erased = BusMessage {
        topic: "front-events".into(),
        key: "front-1".into(),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        payload: Vec::new(),
    };
    line.bus.publish(erased).await.unwrap();
    note(&back, "gone-1").await;
    assert_eq!((contents().await, at_back.dead_letters().await.len()), (0, 2));
    // The policy goes on, over the same topic.
    send(&front, "1", Errand::Note(6)).await;
    copies(2).await;
    eventually("nothing is left", async || at_back.memory.outbox().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn an_erasure_in_the_same_log_is_heard() {
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
