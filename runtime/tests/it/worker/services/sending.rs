//! Messages to other services: despite rejections, failures and duplicates, first occurrences keep
//! the order of each pair.

use composable_rust_core::bus::{BusMessage, EventBus as _};
use composable_rust_core::codec::Codecs;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::DeadLetterDecision::{Discard, Redrive};
use composable_rust_core::queue::{
    DeadLetters as _, Outbox as _, OutboxKind, OutboxMessage, Queue, QueuePosition,
};
use composable_rust_core::store::EventStore as _;
use composable_rust_testing::InMemoryEventStore;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::node::{Mishap, Node, NodeProcess};
use super::super::world::{PATIENCE, World, eventually, millis, started};
use super::{
    Back, BackCommand, Errand, Front, Line, Services, ask_back, back, front, front_heard, send,
    services, world_of,
};

fn note(n: u32) -> Vec<u8> {
    let stream = Back::id("1").stream();
    Codecs::default().encode(&stream, &BackCommand::Do(Errand::Note(n))).unwrap().bytes
}

/// Note `n` of front `from` for `to`, an instance in another service, as published.
fn leaving(world: &World, from: &str, to: &str, n: u32) -> OutboxMessage {
    let command = BackCommand::Do(Errand::Note(n));
    let content = Codecs::default().encode(&Back::id("1").stream(), &command).unwrap();
    let mut queued = world.row(from, "1", content);
    queued.sender = Front::id(from).stream();
    (queued.row.kind, queued.row.target) = (OutboxKind::Send, "bus".to_owned());
    to.clone_into(&mut queued.row.recipient);
    let mut metadata: Value = serde_json::from_str(&queued.row.metadata).unwrap();
    metadata["return_addresses"] = json!([]);
    queued.row.metadata = metadata.to_string();
    queued
}

async fn enqueue(world: &World, rows: &[OutboxMessage]) {
    for row in rows {
        let partition = world.memory.log().partition_of(&row.sender);
        world.memory.enqueue(partition, std::slice::from_ref(row), None).await.unwrap();
    }
}

/// The notes on a topic, in the order in which they arrived.
fn notes(line: &Line, topic: &str) -> Vec<u32> {
    let number = |message: BusMessage| (1..100).find(|n| note(*n) == message.payload);
    line.bus.messages(topic).into_iter().filter_map(number).collect()
}

/// Asserts that all notes are there, none before its predecessors; some may be duplicates.
fn assert_first_occurrences_in_order(notes: &[u32], count: u32) {
    let mut next = 1;
    for &n in notes {
        assert!(n <= next, "{n} came where {next} was next: {notes:?}");
        next = next.max(n + 1);
    }
    assert_eq!(next, count + 1, "{notes:?}");
}

/// Its messages are parked in order, after the usual number of attempts.
#[tokio::test(start_paused = true)]
async fn an_unauthorized_topic_holds_up_no_other() {
    let Services { front, line, at_front, at_back, .. } = &services(Line::new(), false);
    line.bus.create_topic("gone-commands");
    line.bus.deny("gone-commands");
    let rows: Vec<_> = (1..=5).map(|n| leaving(at_front, "1", "gone-1", n)).collect();
    enqueue(at_front, &rows).await;
    let others: Vec<_> =
        (0..1_500).map(|n| leaving(at_front, &n.to_string(), "gone-2", 9)).collect();
    enqueue(at_front, &others).await;
    send(front, "1", ask_back("1", 1, Errand::Note(5))).await;
    front_heard(front, "1", "1: note 5").await;
    assert!(at_front.dead_letters().await.is_empty(), "the messages are still being retried");

    let letters = async || at_front.memory.dead_letters(None, 5_000).await.unwrap();
    let of_the_pair = async || {
        let mut letters = letters().await;
        letters.retain(|letter| letter.message.row.recipient == "gone-1");
        letters
    };
    let count = rows.len() + others.len();
    eventually("all are parked", async || letters().await.len() == count).await;
    let parked = of_the_pair().await;
    let error = parked[0].error.as_deref().unwrap();
    assert!(error.contains("writing to the topic gone-commands is denied"), "{error}");
    assert_eq!(parked.iter().map(|l| l.attempts).collect::<Vec<_>>(), [5, 0, 0, 0, 0]);
    assert!(notes(line, "gone-commands").is_empty());

    assert!(at_front.decide(&parked[0], Discard).await);
    eventually("it is gone", async || of_the_pair().await.len() == 4).await;
    line.bus.grant("gone-commands");
    assert!(at_front.decide(&parked[1], Redrive).await);
    let all = [2, 3, 4, 5];
    eventually("in order", async || notes(line, "gone-commands") == all).await;
    send(front, "1", ask_back("1", 2, Errand::Note(6))).await;
    front_heard(front, "1", "2: note 6").await;
    assert!(at_back.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_topic_authorized_in_time_gets_everything_in_order() {
    let Services { line, at_front, .. } = &services(Line::new(), false);
    line.bus.create_topic("gone-commands");
    line.bus.deny("gone-commands");
    let rows: Vec<_> = (1..=20).map(|n| leaving(at_front, "1", "gone-1", n)).collect();
    enqueue(at_front, &rows).await;
    let partition = at_front.memory.log().partition_of(&rows[0].sender);
    let queue = Queue { partition, kind: OutboxKind::Send, target: "bus".to_owned() };
    let first = [(queue, QueuePosition::default())];
    let tried = async || at_front.memory.read_outbox(&first, 1).await.unwrap()[0].attempts == 3;
    eventually("the first is tried", tried).await;
    line.bus.grant("gone-commands");
    eventually("all have gone out", async || at_front.memory.outbox().is_empty()).await;
    assert_eq!(notes(line, "gone-commands"), (1..=20).collect::<Vec<_>>());
    assert!(at_front.dead_letters().await.is_empty());
}

/// A topic whose broker hangs fills its own window only, and its rows are skipped while reading.
#[tokio::test(start_paused = true)]
async fn an_unresponsive_topic_holds_up_no_other() {
    let Services { front, line, at_front, .. } = &services(Line::new(), false);
    line.bus.create_topic("gone-commands");
    *line.dead.lock().unwrap() = Some("gone-commands".to_owned());
    let rows: Vec<_> = (0..3_000).map(|n| leaving(at_front, &n.to_string(), "gone-1", 9)).collect();
    enqueue(at_front, &rows).await;
    for n in 1..=3 {
        send(front, "1", ask_back("1", n, Errand::Note(n))).await;
        front_heard(front, "1", &format!("{n}: note {n}")).await;
    }
    eventually("the others wait", async || at_front.memory.outbox().len() == 3_000).await;
    assert!(at_front.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn messages_that_can_never_be_published_are_parked_at_once() {
    let mut line = Line::new();
    line.bus = line.bus.with_max_payload_bytes(20);
    let Services { line, at_front, .. } = &services(line, false);
    let mut large = leaving(at_front, "1", "back-1", 1);
    large.row.content.bytes = vec![0; 21];
    enqueue(at_front, &[large, leaving(at_front, "2", "back-1", 2)]).await;
    let letter = at_front.dead_letter().await;
    assert_eq!(letter.attempts, 1);
    assert!(letter.error.unwrap().contains("21 bytes for back-commands"));
    eventually("the other goes out", async || notes(line, "back-commands") == [2]).await;
}

/// A failed settlement is no reason to publish the message again.
#[tokio::test(start_paused = true)]
async fn a_message_whose_settlement_fails_is_published_once() {
    let (line, world) = (Line::new(), world_of(1));
    line.bus.create_topic("back-commands");
    let node = NodeProcess::start(world.memory.clone());
    node.next("settle", [Mishap::FailsBefore; 20]);
    let _front = front(&world, node.clone(), &line, false);
    let rows: Vec<_> = (1..=3).map(|n| leaving(&world, "1", "back-1", n)).collect();
    enqueue(&world, &rows).await;
    eventually("all are settled", async || world.memory.outbox().is_empty()).await;
    assert!(node.counts()["settle"] > 20);
    assert_eq!(notes(&line, "back-commands"), [1, 2, 3]);
}

/// Of six messages of one sender to six recipients, the settlement of the second is invalid; the
/// others are settled, and none of the six is published again.
async fn one_of_six_cannot_be_settled(is_parked: bool) -> (World, Line, Node<InMemoryEventStore>) {
    let (line, world) = (Line::new(), world_of(1));
    line.bus.create_topic("back-commands");
    let node = NodeProcess::start(world.memory.clone());
    // Once with the others, and then alone.
    node.next("settle", [Mishap::Held, Mishap::Rejected, Mishap::Rejected]);
    node.next("settle", [Mishap::None; 4]);
    node.next("settle", (!is_parked).then_some(Mishap::Rejected));
    let app = front(&world, node.clone(), &line, false);
    let rows: Vec<_> = (1..=6).map(|n| leaving(&world, "1", &format!("back-{n}"), n)).collect();
    enqueue(&world, &rows[..1]).await;
    eventually("the first is being settled", async || node.holds()).await;
    let partition = world.memory.log().partition_of(&rows[0].sender);
    world.memory.enqueue(partition, &rows[1..], None).await.unwrap();
    eventually("all are out", async || notes(&line, "back-commands").len() == 6).await;
    node.release();
    let left = usize::from(!is_parked);
    eventually("the others are settled", async || world.memory.outbox().len() == left).await;
    tokio::time::sleep(millis(300_000)).await;
    assert_eq!(notes(&line, "back-commands"), [1, 2, 3, 4, 5, 6], "each once");
    assert_eq!(world.memory.outbox().len(), left);
    // Its queue continues.
    enqueue(&world, &[leaving(&world, "1", "back-7", 7)]).await;
    eventually("one more is settled", async || world.memory.outbox().len() == left).await;
    assert!(app.shutdown(PATIENCE).await);
    (world, line, node)
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_settlement_is_invalid_is_parked_alone() {
    let (world, ..) = one_of_six_cannot_be_settled(true).await;
    let letters = world.dead_letters().await;
    let [letter] = &*letters else { panic!("{letters:?}") };
    assert_eq!(letter.message.row.recipient, "back-2");
    let error = letter.error.as_deref().unwrap();
    assert!(error.contains("the settlement cannot be stored"), "{error}");
}

/// The message waits until another process has the lease.
#[tokio::test(start_paused = true)]
async fn an_unparkable_message_is_set_aside() {
    let (world, line, _) = one_of_six_cannot_be_settled(false).await;
    assert!(world.dead_letters().await.is_empty());
    let _next = front(&world, world.memory.clone(), &line, false);
    eventually("it is settled", async || world.memory.outbox().is_empty()).await;
    assert_eq!(notes(&line, "back-commands"), [1, 2, 3, 4, 5, 6, 7, 2]);
}

/// A process freezes with a message in flight; its successor continues, and the first one's
/// messages arrive late, as duplicates.
#[tokio::test(start_paused = true)]
async fn a_frozen_sender_duplicates_without_reordering() {
    for before in [0, 3, 11] {
        let (line, world) = (Line::new(), world_of(1));
        line.bus.create_topic("back-commands");
        let node = NodeProcess::start(world.memory.clone());
        let _first = front(&world, node.clone(), &line, false);
        let rows = |from, to| -> Vec<_> {
            (from..=to).map(|n| leaving(&world, "1", "back-1", n)).collect()
        };
        let idle = async || world.memory.outbox().is_empty();
        enqueue(&world, &rows(1, before)).await;
        eventually("it is at work", idle).await;
        line.frozen.send_replace(true);
        enqueue(&world, &rows(before + 1, 20)).await;
        eventually("one is under way", async || line.frozen.receiver_count() > 0).await;
        node.freeze();
        let _second = front(&world, world.memory.clone(), &line.of_another_process(), false);
        eventually("it is taken over", idle).await;
        node.wake();
        line.frozen.send_replace(false);
        enqueue(&world, &rows(21, 40)).await;
        eventually("all have gone out", idle).await;
        let came_again = async || notes(&line, "back-commands").len() == 41;
        eventually("what was under way came again", came_again).await;
        assert_first_occurrences_in_order(&notes(&line, "back-commands"), 40);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_settlement_repeats_one_message() {
    let (line, world) = (Line::new(), world_of(1));
    line.bus.create_topic("back-commands");
    let node = NodeProcess::start(world.memory.clone());
    let first = front(&world, node.clone(), &line, false);
    node.next("settle", [Mishap::CrashesBefore]);
    let rows: Vec<_> = (1..=10).map(|n| leaving(&world, "1", "back-1", n)).collect();
    enqueue(&world, &rows).await;
    eventually("the first is out", async || notes(&line, "back-commands") == [1]).await;
    let _second = front(&world, world.memory.clone(), &line, false);
    let app = started(back(&world_of(2), &line));
    let back = app.handle(&Back::id("1"));
    back.wait(|own| (own.0.len() == 10).then_some(()), PATIENCE).await.unwrap();
    let all: Vec<_> = (1..=10).map(|n| format!("note {n}")).collect();
    assert_eq!(back.state(|own| own.0.clone()).await.unwrap(), all);
    eventually("the repeat is absorbed", async || app.duplicates_ignored() == 1).await;
    assert_eq!(notes(&line, "back-commands")[..3], [1, 1, 2]);
    drop(first);
}

/// A requester reads the topic of its replies, so the topic exists.
#[tokio::test(start_paused = true)]
async fn a_reply_to_an_unknown_service_creates_no_topic() {
    let Services { front, line, at_back, .. } = &services(Line::new(), false);
    send(front, "1", ask_back("1", 1, Errand::Note(5))).await;
    front_heard(front, "1", "1: note 5").await;
    let mut message = line.bus.messages("back-commands").remove(0);
    let (id, service) = (Uuid::from_u128(77), Uuid::from_u128(9));
    let metadata = message.header("ce_metadata").unwrap();
    let mut metadata: Value = serde_json::from_str(metadata).unwrap();
    let address = &mut metadata["return_addresses"][0];
    address["stream"] = "madeup-1".into();
    address["service"] = service.to_string().into();
    address["seal"]["message"] = id.to_string().into();
    for (name, value) in &mut message.headers {
        match &**name {
            "ce_id" => *value = id.to_string(),
            "ce_source" => *value = format!("urn:uuid:{service}"),
            "ce_sender" => "madeup-1".clone_into(value),
            "ce_metadata" => *value = metadata.to_string(),
            _ => {}
        }
    }
    line.bus.publish(message).await.unwrap();
    let letter = at_back.dead_letter().await;
    assert_eq!((&*letter.message.row.recipient, letter.attempts), ("madeup-1", 5));
    let error = letter.error.unwrap();
    assert!(error.contains("the topic madeup-commands is missing"), "{error}");
    assert!(!line.bus.topics().contains(&"madeup-commands".to_owned()));
    send(front, "1", ask_back("1", 2, Errand::Note(6))).await;
    front_heard(front, "1", "2: note 6").await;
}
