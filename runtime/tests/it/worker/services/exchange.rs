//! Commands, replies and events between two services.

use std::sync::atomic::Ordering;

use composable_rust_core::Metadata;
use composable_rust_core::bus::EventBus;
use composable_rust_core::codec::Format;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{Checkpoints as _, DeadLetter};
use composable_rust_testing::{InMemoryEventBus, InMemoryEventStore};

use super::super::node::{Mishap, NodeProcess};
use super::super::world::{PATIENCE, eventually, millis, started};
use super::{
    Back, BackEvent, Errand, Front, FrontEvent, Line, ask_back, ask_front, front, front_heard,
    send, services, versions_rise, world_of,
};

#[tokio::test(start_paused = true)]
async fn a_command_to_another_service_is_answered() {
    let services = services(Line::new(), false);
    send(&services.front, "1", ask_back("1", 1, Errand::Note(5))).await;
    front_heard(&services.front, "1", "1: note 5").await;
    send(&services.front, "1", ask_back("1", 2, Errand::Refuse)).await;
    front_heard(&services.front, "1", "2: rejected").await;
    let later = Errand::Later(60_000, Box::new(Errand::Note(6)));
    send(&services.front, "1", ask_back("1", 3, later)).await;
    front_heard(&services.front, "1", "3: note 6").await;
}

/// The chain goes through the other service and back, and the replies take the same way home.
#[tokio::test(start_paused = true)]
async fn replies_find_their_way_through_both_services() {
    let services = services(Line::new(), true);
    let front = &services.front;
    send(front, "outer", ask_front("inner", 1, ask_back("1", 2, Errand::Note(5)))).await;
    front_heard(front, "outer", "1: 2: note 5").await;

    let errand = ask_back("1", 4, ask_front("leaf", 5, Errand::Note(6)));
    send(front, "outer", ask_front("inner", 3, errand)).await;
    front_heard(front, "leaf", "note 6").await;
    front_heard(front, "outer", "3: 4: 5: note 6").await;

    // From beyond the other service, and from there to itself.
    let errand = ask_back("1", 7, ask_back("2", 8, ask_front("leaf", 9, Errand::Note(7))));
    send(front, "outer", ask_front("inner", 6, errand)).await;
    front_heard(front, "outer", "6: 7: 8: 9: note 7").await;
    assert!(services.at_front.dead_letters().await.is_empty());
    assert!(services.at_back.dead_letters().await.is_empty());
}

/// Its topic is read for replies, but commands on it are rejected.
#[tokio::test(start_paused = true)]
async fn commands_for_an_unserved_type_are_undelivered() {
    let services = services(Line::new(), false);
    let errand = ask_back("1", 1, ask_front("leaf", 2, Errand::Note(6)));
    send(&services.front, "outer", errand).await;
    front_heard(&services.front, "outer", "1: 2: undelivered").await;
    let leaf = services.front.handle(&Front::id("leaf"));
    assert_eq!(leaf.state(|own| own.0.len()).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn external_internal_commands_are_rejected_and_garbage_parked() {
    let services = services(Line::new(), true);
    send(&services.front, "1", ask_back("1", 1, Errand::Note(5))).await;
    front_heard(&services.front, "1", "1: note 5").await;
    let good = services.line.bus.messages("back-commands").remove(0);
    let with = |name: &str, value: &str| {
        let mut message = good.clone();
        message.headers.retain(|(header, _)| header != name);
        message.headers.push((name.to_owned(), value.to_owned()));
        message
    };
    let long = "x".repeat(100_000);
    let rubbish = [
        with("ce_id", "no id"),
        with("ce_type", ""),
        with("ce_type", "a\0b"),
        with("ce_subject", "front-1"),
        with("ce_metadata", "{"),
        with("ce_metadata", &format!("{{\"{long}\":1}}")),
        with("ce_sender", "-"),
        with("ce_codec", "\0"),
        with("ce_type", &"x".repeat(256)),
        with("ce_codec", &"x".repeat(256)),
    ];
    let count = rubbish.len();
    for message in rubbish {
        services.line.bus.publish(message).await.unwrap();
    }
    let parked = async || services.at_back.dead_letters().await.len() == count;
    eventually("rubbish is parked", parked).await;
    let mut internal = with("ce_type", "back.due");
    internal.headers.retain(|(header, _)| header != "ce_id");
    internal.headers.push(("ce_id".into(), uuid::Uuid::from_u128(5).to_string()));
    for (name, value) in &mut internal.headers {
        if name == "ce_metadata" {
            let mut metadata: Metadata = serde_json::from_str(value).unwrap();
            metadata.return_addresses.clear();
            *value = serde_json::to_string(&metadata).unwrap();
        }
    }
    services.line.bus.publish(internal).await.unwrap();
    let parked = async || services.at_back.dead_letters().await.len() > count;
    eventually("the internal command is parked", parked).await;
    let letters = services.at_back.dead_letters().await;
    let is_internal = |letter: &&DeadLetter| letter.error.as_ref().unwrap().contains("internal");
    assert_eq!(letters.iter().filter(is_internal).count(), 1);
    // A later message of another sender is accepted.
    send(&services.front, "2", ask_back("1", 2, Errand::Note(6))).await;
    front_heard(&services.front, "2", "2: note 6").await;
    let back = services.back.handle(&Back::id("1"));
    assert_eq!(back.state(|own| own.0.clone()).await.unwrap(), ["note 5", "note 6"]);
}

#[tokio::test(start_paused = true)]
async fn events_of_a_bus_outage_arrive_later_in_order() {
    let services = services(Line::new(), false);
    send(&services.front, "1", ask_back("1", 1, Errand::Note(1))).await;
    front_heard(&services.front, "1", "1: note 1").await;
    services.line.down.store(true, Ordering::SeqCst);
    for n in 2..50 {
        send(&services.front, "1", Errand::TellBack("1".into(), Box::new(Errand::Note(n)))).await;
    }
    tokio::time::sleep(millis(300_000)).await;
    services.line.down.store(false, Ordering::SeqCst);
    let back = services.back.handle(&Back::id("1"));
    let all: Vec<_> = (1..50).map(|n| format!("note {n}")).collect();
    let found = back.wait(|own| (own.0.len() == 49).then(|| own.0.clone()), PATIENCE).await;
    assert_eq!(found.unwrap(), all);
    assert!(services.at_front.dead_letters().await.is_empty());
    versions_rise(&services.line.bus, 1 + 1 + 48).await;
}

/// The limit of the bus was lowered: a too large message is parked with its successors.
#[tokio::test(start_paused = true)]
async fn undeliverable_messages_are_parked_and_discards_reported() {
    use composable_rust_core::queue::DeadLetterDecision::{Discard, Redrive};
    let services = services(Line::new(), false);
    services.line.most.store(1, Ordering::SeqCst);
    for n in 1..=3 {
        send(&services.front, "1", ask_back("1", n, Errand::Note(n))).await;
    }
    let world = &services.at_front;
    eventually("all are parked", async || world.dead_letters().await.len() == 3).await;
    let letters = world.dead_letters().await;
    assert!(letters[0].error.as_ref().unwrap().contains("that the bus takes"));
    assert!(world.decide(&letters[0], Discard).await);
    front_heard(&services.front, "1", "1: undelivered").await;
    services.line.most.store(0, Ordering::SeqCst);
    assert!(world.decide(&letters[1], Redrive).await);
    front_heard(&services.front, "1", "3: note 3").await;
    let back = services.back.handle(&Back::id("1"));
    assert_eq!(back.state(|own| own.0.clone()).await.unwrap(), ["note 2", "note 3"]);
}

/// A log restored from a backup holds other events at published positions, whatever its length: an
/// operator must decide.
#[tokio::test(start_paused = true)]
async fn a_rewound_and_regrown_log_is_not_relayed() {
    let (line, world) = (Line::new(), world_of(1));
    let before = front(&world, world.memory.clone(), &line, false);
    for n in 0..5 {
        send(&before, "1", Errand::Note(n)).await;
    }
    versions_rise(&line.bus, 5).await;
    assert!(before.shutdown(PATIENCE).await);
    let restored = InMemoryEventStore::new().with_clock(world.clock);
    let restored = restored.with_log_id(uuid::Uuid::from_u128(1));
    let writer = world.bare_builder(restored.clone()).aggregate::<Front>(()).aggregate::<Back>(());
    let writer = writer.build().unwrap();
    for n in 0..9 {
        send(&writer, "1", Errand::Note(n)).await;
    }
    let _after = front(&world, restored.clone(), &line, false);
    tokio::time::sleep(millis(200_000)).await;
    versions_rise(&line.bus, 5).await;
    let checkpoints = restored.load_checkpoints("relay/front-events/front").await.unwrap();
    assert!(checkpoints.iter().all(|at| at.offset == 0));
}

/// A process crashes or freezes between publishing and storing its checkpoint; its successor
/// resumes at the broker's position.
#[tokio::test(start_paused = true)]
async fn the_relay_resumes_without_loss_and_a_fenced_relay_stops() {
    for (frozen, mishap) in [(false, Mishap::FailsBefore), (true, Mishap::FailsAfter)] {
        let line = Line::new();
        let world = world_of(1);
        let node = NodeProcess::start(world.memory.clone());
        let first = front(&world, node.clone(), &line, false);
        for n in 0..5 {
            send(&first, "1", Errand::Note(n)).await;
        }
        versions_rise(&line.bus, 5).await;
        node.next("enqueue", [mishap; 3]);
        let writer =
            world.bare_builder(world.memory.clone()).aggregate::<Front>(()).aggregate::<Back>(());
        let writer = writer.build().unwrap();
        for n in 5..10 {
            send(&writer, "1", Errand::Note(n)).await;
        }
        tokio::time::sleep(millis(20)).await;
        if frozen {
            node.freeze();
        } else {
            node.crash();
        }
        let second = front(&world, world.memory.clone(), &line, false);
        for n in 10..20 {
            send(&writer, "1", Errand::Note(n)).await;
        }
        versions_rise(&line.bus, 20).await;
        node.wake();
        for n in 20..30 {
            send(&writer, "1", Errand::Note(n)).await;
        }
        tokio::time::sleep(millis(60_000)).await;
        versions_rise(&line.bus, 30).await;
        drop((first, second));
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_published_as_mapped_by_a_function() {
    let bus = InMemoryEventBus::new();
    let world = world_of(1);
    let app = world
        .bare_builder(world.memory.clone())
        .event_bus(bus.clone())
        .aggregate::<Front>(())
        .aggregate::<Back>(())
        .publish::<Front>(Format::Binary)
        .publish_as::<Front, BackEvent>("mapped", Format::Json, |recorded| match recorded.event {
            FrontEvent::Did(Errand::Note(n)) if n % 2 == 0 => {
                Some(BackEvent::Heard(format!("even {n}")))
            }
            _ => None,
        });
    let app = started(app);
    for n in 0..6 {
        send(&app, "1", Errand::Note(n)).await;
    }
    versions_rise(&bus, 6).await;
    eventually("mapped", async || bus.messages("mapped").len() == 3).await;
    let texts: Vec<_> = bus
        .messages("mapped")
        .iter()
        .map(|message| String::from_utf8(message.payload.clone()).unwrap())
        .collect();
    assert!((0..3).all(|n| texts[n].contains(&format!("even {}", 2 * n))), "{texts:?}");
}
