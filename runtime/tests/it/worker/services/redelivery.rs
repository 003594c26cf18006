//! Redelivered, forgotten and moved messages.

use composable_rust_core::codec::Codecs;
use composable_rust_core::environment::IdGenerator as _;
use composable_rust_core::event::NewEvent;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::DeadLetterDecision::Discard;
use composable_rust_core::queue::{Outbox as _, OutboxMessage};
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, ExpectedVersion, NewInboxEntry,
};
use composable_rust_core::{EventId, MessageId};
use composable_rust_runtime::App;
use composable_rust_runtime::settings::Settings;

use super::super::node::{Mishap, NodeProcess};
use super::super::world::{PATIENCE, World, eventually, millis, started};
use super::{
    Back, BackCommand, BackEvent, Errand, Front, Line, Services, ask_back, back, back_on, front,
    front_heard, send, services, world_of,
};

/// The messages of front 1 to back 1 while both live here.
fn for_back_1(world: &World, n: u32) -> OutboxMessage {
    let stream = Back::id("1").stream();
    let content = Codecs::default().encode(&stream, &BackCommand::Do(Errand::Note(n))).unwrap();
    let mut queued = world.row("1", "1", content);
    queued.sender = Front::id("1").stream();
    "back".clone_into(&mut queued.row.target);
    queued.row.recipient = stream.to_string();
    let metadata = queued.row.metadata.replace("actor.heard", "front.back");
    queued.row.metadata = metadata.replace(r#""target":"actor""#, r#""target":"back""#);
    queued.row.metadata = queued.row.metadata.replace("actor-1", "front-1");
    queued
}

/// Messages queued for a type that then moves to another service are sent there.
#[tokio::test(start_paused = true)]
async fn queued_messages_follow_a_type_that_moved_away() {
    let (line, world) = (Line::new(), world_of(1));
    let queued = for_back_1(&world, 7);
    let partition = world.memory.log().partition_of(&queued.sender);
    world.memory.enqueue(partition, &[queued], None).await.unwrap();
    let _front = front(&world, world.memory.clone(), &line, false);
    let back = started(back(&world_of(2), &line));
    let back = back.handle(&Back::id("1"));
    let found = back.wait(|own| (!own.0.is_empty()).then(|| own.0.clone()), PATIENCE).await;
    assert_eq!(found.unwrap(), ["note 7"]);
    eventually("nothing is left", async || world.memory.outbox().is_empty()).await;
}

/// Messages handled before their type moved away are not handled there again.
#[tokio::test(start_paused = true)]
async fn handled_messages_do_not_follow_a_type_that_moved_away() {
    let (line, world) = (Line::new(), world_of(1));
    let queued = for_back_1(&world, 7);
    let partition = world.memory.log().partition_of(&queued.sender);
    let row = [queued.clone()];
    world.memory.enqueue(partition, &row, None).await.unwrap();
    let here = started(
        world.bare_builder(world.memory.clone()).aggregate::<Back>(()).elsewhere::<Front>(),
    );
    let back = here.handle(&Back::id("1"));
    back.wait(|own| (!own.0.is_empty()).then_some(()), PATIENCE).await.unwrap();
    assert!(here.shutdown(PATIENCE).await);
    // The process died before the settlement.
    world.memory.enqueue(partition, &row, None).await.unwrap();
    let _front = front(&world, world.memory.clone(), &line, false);
    eventually("nothing is left", async || world.memory.outbox().is_empty()).await;
    assert!(line.bus.messages("back-commands").is_empty());
}

/// A process that is presumed dead may still commit its append, and then finds that the message has
/// gone to the other service.
#[tokio::test(start_paused = true)]
async fn a_late_commit_handles_no_message_that_followed_its_type() {
    let (line, world) = (Line::new(), world_of(1));
    let queued = for_back_1(&world, 7);
    let partition = world.memory.log().partition_of(&queued.sender);
    world.memory.enqueue(partition, std::slice::from_ref(&queued), None).await.unwrap();
    let _front = front(&world, world.memory.clone(), &line, false);
    eventually("it has gone", async || line.bus.messages("back-commands").len() == 1).await;
    let stream = Back::id("1").stream();
    let content = Codecs::default().encode(&stream, &BackEvent::Did(Errand::Note(7))).unwrap();
    let event = NewEvent { id: EventId(world.ids.new_id()), content, metadata: String::new() };
    let entry = NewInboxEntry {
        message_id: MessageId(queued.row.id),
        digest: 0,
        first_event: 0,
        event_count: 1,
        outcome: Vec::new(),
    };
    let append = Append::new(stream.clone(), ExpectedVersion::EMPTY).with_events(vec![event]);
    let append = append.with_inbox(vec![entry]);
    let partition = world.memory.log().partition_of(&stream);
    let outcomes = world.memory.append_events(partition, &[append]).await.unwrap();
    assert!(matches!(outcomes[..], [AppendOutcome::Duplicate(_)]), "{outcomes:?}");
}

/// A forwarded request of another service still belongs to that service: the reply goes there, and
/// the recipient, which may have read it from the topic too, recognises it.
#[tokio::test(start_paused = true)]
async fn a_remote_request_follows_its_type_and_is_handled_once() {
    let (line, at_front, at_back, at_third) = (Line::new(), world_of(1), world_of(2), world_of(3));
    let node = NodeProcess::start(at_back.memory.clone());
    node.next("append_events", std::iter::repeat_n(Mishap::FailsBefore, 10_000));
    let before = started(back_on(&at_back, node, &line));
    let front = front(&at_front, at_front.memory.clone(), &line, false);
    send(&front, "1", ask_back("1", 1, Errand::Note(1))).await;
    eventually("it waits", async || !at_back.memory.outbox().is_empty()).await;
    drop(before);
    let forwards = at_back.bare_builder(at_back.memory.clone()).event_bus(line.clone());
    let _forwards = started(forwards.remote::<Back>());
    eventually("it has gone", async || line.bus.messages("back-commands").len() == 2).await;
    let after = started(back(&at_third, &line));
    front_heard(&front, "1", "1: note 1").await;
    eventually("the other is absorbed", async || after.duplicates_ignored() == 1).await;
    let state = after.handle(&Back::id("1")).state(|own| own.0.clone()).await.unwrap();
    assert_eq!(state, ["note 1"]);
    for world in [&at_front, &at_back, &at_third] {
        assert!(world.dead_letters().await.is_empty());
    }
}

/// A message erased while it waited is not forwarded.
#[tokio::test(start_paused = true)]
async fn an_erased_request_does_not_follow_its_type() {
    let (line, at_front, at_back) = (Line::new(), world_of(1), world_of(2));
    let node = NodeProcess::start(at_back.memory.clone());
    node.next("append_events", std::iter::repeat_n(Mishap::FailsBefore, 10_000));
    let before = started(back_on(&at_back, node, &line));
    let front = front(&at_front, at_front.memory.clone(), &line, false);
    send(&front, "1", ask_back("1", 1, Errand::Note(1))).await;
    eventually("it waits", async || !at_back.memory.outbox().is_empty()).await;
    drop(before);
    let sender = at_back.memory.outbox()[0].stream.clone();
    at_back.memory.erase_stream(&sender).await.unwrap();
    let forwards = at_back.bare_builder(at_back.memory.clone()).event_bus(line.clone());
    let _forwards = started(forwards.remote::<Back>());
    eventually("it is gone", async || at_back.memory.outbox().is_empty()).await;
    assert!(at_back.dead_letters().await.is_empty());
    assert_eq!(line.bus.messages("back-commands").len(), 1);
}

/// The number of times that instance 1 over there was told the same again.
async fn absorbed(back: &App, count: u64) {
    eventually("they are absorbed", async || back.duplicates_ignored() == count).await;
    let state = back.handle(&Back::id("1")).state(|own| own.0.clone()).await.unwrap();
    assert_eq!(state, ["note 1", "note 2", "note 3"]);
}

/// The group of the service with the second log.
pub(super) fn group_of_back() -> String {
    format!("{}-commands", uuid::Uuid::from_u128(2))
}

#[tokio::test(start_paused = true)]
async fn a_group_lost_by_the_broker_resumes_at_its_checkpoint() {
    let Services { front, back: first, line, at_back, .. } = services(Line::new(), false);
    for n in 1..3 {
        send(&front, "1", ask_back("1", n, Errand::Note(n))).await;
        front_heard(&front, "1", &format!("{n}: note {n}")).await;
    }
    assert!(first.shutdown(PATIENCE).await);
    line.bus.forget(&group_of_back());
    let second = started(back(&at_back, &line));
    send(&front, "1", ask_back("1", 3, Errand::Note(3))).await;
    front_heard(&front, "1", "3: note 3").await;
    absorbed(&second, 0).await;
}

/// A redelivery is ignored while its inbox entry exists; after that only an operator can decide.
#[tokio::test(start_paused = true)]
async fn a_redelivery_after_its_inbox_entry_expired_is_parked() {
    let Services { front, back: first, line, at_back, .. } = services(Line::new(), false);
    assert!(first.shutdown(PATIENCE).await);
    let short = |settings: &mut Settings| settings.inbox_retention = millis(3_900_000);
    let back = started(back(&at_back, &line).settings(short));
    for n in 1..=3 {
        let tell = Errand::TellBack("1".into(), Box::new(Errand::Note(n)));
        send(&front, "1", tell).await;
    }
    absorbed(&back, 0).await;
    line.bus.rewind(&group_of_back());
    absorbed(&back, 3).await;
    // The inbox is pruned every ten minutes: these entries are old, but exist.
    tokio::time::sleep(millis(3_950_000)).await;
    line.bus.rewind(&group_of_back());
    eventually("all is read", async || line.bus.unfinished(&group_of_back()) == 0).await;
    absorbed(&back, 3).await;
    assert!(at_back.dead_letters().await.is_empty());
    tokio::time::sleep(millis(1_200_000)).await;
    line.bus.rewind(&group_of_back());
    let letter = at_back.dead_letter().await;
    let letters = at_back.dead_letters().await;
    assert_eq!(letters.len(), 3, "each with its own");
    assert!(letters.iter().all(|letter| letter.attempts == 0), "no attempt was made");
    assert!(letter.error.as_ref().unwrap().contains("inbox_retention"));
    // They hold up no message of the same sender to the same recipient.
    let tell = Errand::TellBack("1".into(), Box::new(Errand::Note(4)));
    send(&front, "1", tell).await;
    let told = async || back.handle(&Back::id("1")).state(|own| own.0.len()).await.unwrap() == 4;
    eventually("what is new is handled", told).await;
    for letter in &letters {
        assert!(at_back.decide(letter, Discard).await);
        let id = letter.message.row.id;
        let left = async || at_back.dead_letters().await.iter().all(|l| l.message.row.id != id);
        eventually("it goes", left).await;
    }
    let state = back.handle(&Back::id("1")).state(|own| own.0.clone()).await.unwrap();
    assert_eq!(state, ["note 1", "note 2", "note 3", "note 4"]);
}

/// A discarded message was answered: its redelivery is not handled, though its handler is fixed by
/// then.
#[tokio::test(start_paused = true)]
async fn a_redelivery_of_a_discarded_message_is_ignored() {
    let Services { front, back: first, line, at_back, .. } = services(Line::new(), false);
    assert!(first.shutdown(PATIENCE).await);
    let once = |settings: &mut Settings| settings.retry.max_attempts = 1;
    let before = started(back(&at_back, &line).settings(once));
    for n in 1..=2 {
        send(&front, "1", ask_back("1", n, Errand::Note(n))).await;
        front_heard(&front, "1", &format!("{n}: note {n}")).await;
    }
    send(&front, "1", ask_back("1", 3, Errand::Fragile)).await;
    let letter = at_back.dead_letter().await;
    assert!(at_back.decide(&letter, Discard).await);
    front_heard(&front, "1", "3: undelivered").await;
    super::MENDED.set(true);
    line.bus.rewind(&group_of_back());
    eventually("all three are absorbed", async || before.duplicates_ignored() == 3).await;
    let state = before.handle(&Back::id("1")).state(|own| own.0.clone()).await.unwrap();
    assert_eq!(state, ["note 1", "note 2"]);
    assert!(at_back.dead_letters().await.is_empty());
}

/// A message that waited on the bus for longer than the inbox retention is new, though the response
/// to its queueing is lost.
#[tokio::test(start_paused = true)]
async fn an_old_backlog_is_handled_despite_failures() {
    for mishap in [Mishap::FailsBefore, Mishap::FailsAfter] {
        let Services { front, back: first, line, at_back, .. } = services(Line::new(), false);
        assert!(first.shutdown(PATIENCE).await);
        for n in 1..=3 {
            let tell = Errand::TellBack("1".into(), Box::new(Errand::Note(n)));
            send(&front, "1", tell).await;
        }
        tokio::time::sleep(millis(3_950_000)).await;
        let node = NodeProcess::start(at_back.memory.clone());
        node.next("save_checkpoints", [mishap; 3]);
        let short = |settings: &mut Settings| settings.inbox_retention = millis(3_900_000);
        let back = started(back_on(&at_back, node, &line).settings(short));
        eventually("all is read", async || line.bus.unfinished(&group_of_back()) == 0).await;
        let notes = |own: &Back| (own.0.len() == 3).then(|| own.0.clone());
        let found = back.handle(&Back::id("1")).wait(notes, PATIENCE).await.unwrap();
        assert_eq!(found, ["note 1", "note 2", "note 3"]);
        assert!(at_back.dead_letters().await.is_empty());
    }
}
