//! Messages that cannot be handled, and the messages behind them.

use composable_rust_core::codec::{Codecs, EncodedMessage};
use composable_rust_core::environment::Clock as _;
use composable_rust_core::event::NewEvent;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{DeadLetter, DeadLetterDecision, Outbox as _};
use composable_rust_core::store::{Append, EventStore as _, ExpectedVersion};
use composable_rust_core::{EventId, Version};

use super::actor::{Act, Actor, ActorCommand as In, ActorEvent, Seen};
use super::node::{Mishap, NodeProcess};
use super::world::{World, eventually, heard, log, millis, tell_to};

fn tell_b(act: Act) -> Act {
    Act::Tell { to: "b".into(), act: Box::new(act) }
}

fn acts(letters: &[DeadLetter]) -> Vec<String> {
    let decoded = letters.iter().map(|letter| {
        let stream = &letter.message.sender;
        let command = Codecs::default().decode::<In>(stream, &letter.message.row.content).unwrap();
        format!("{command:?}")
    });
    decoded.collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_five_times_is_parked_with_successors() {
    let world = World::new();
    let app = world.app();
    world.broken.set(true);
    tell_to(&app, "a", tell_b(Act::Note(0))).await;
    for n in 1..=3 {
        tell_to(&app, "a", tell_b(Act::Fragile(n))).await;
    }
    tell_to(&app, "a", tell_b(Act::Note(4))).await;
    // Messages of another sender, and to another recipient, are handled.
    tell_to(&app, "c", tell_b(Act::Note(5))).await;
    tell_to(&app, "a", Act::Ask { to: "d".into(), tag: 1, act: Box::new(Act::Note(6)) }).await;
    heard(&app, "b", "note 5").await;
    heard(&app, "a", "1: note 6").await;
    assert!(world.dead_letters().await.is_empty());

    let started = tokio::time::Instant::now();
    world.dead_letter().await;
    let took = started.elapsed();
    assert!(took >= millis(30_000) && took < millis(31_000), "{took:?}");
    // Later messages are parked behind it too.
    tell_to(&app, "a", tell_b(Act::Note(7))).await;
    eventually("all of the pair are parked", async || world.dead_letters().await.len() == 5).await;
    let letters = world.dead_letters().await;
    assert_eq!(
        acts(&letters),
        ["Do(Fragile(1))", "Do(Fragile(2))", "Do(Fragile(3))", "Do(Note(4))", "Do(Note(7))"]
    );
    assert_eq!(letters[0].attempts, 5);
    assert!(letters[0].error.as_ref().unwrap().contains("it is broken"), "{:?}", letters[0].error);
    assert!(letters[1..].iter().all(|letter| letter.error.is_none() && letter.attempts == 0));
    assert_eq!(log(&app, "b").await, ["note 0", "note 5"]);

    // Only the first dead letter of a pair can be decided.
    assert!(!world.decide(&letters[1], DeadLetterDecision::Redrive).await);
    world.broken.set(false);
    assert!(world.decide(&letters[0], DeadLetterDecision::Redrive).await);
    tell_to(&app, "a", tell_b(Act::Note(8))).await;
    heard(&app, "b", "note 8").await;
    let notes = [0, 5, 1, 2, 3, 4, 7, 8].map(|n| format!("note {n}"));
    assert_eq!(log(&app, "b").await, notes);
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_message_is_parked_at_once() {
    let world = World::new();
    let app = world.app();
    let content = EncodedMessage {
        name: "actor.do".into(),
        version: 1,
        codec: "bincode".into(),
        bytes: vec![255; 3],
    };
    let good = Codecs::default().encode(&Actor::id("b").stream(), &In::Do(Act::Note(2))).unwrap();
    let rows = [world.row("a", "b", content.clone()), world.row("a", "b", good)];
    let partition = world.memory.log().partition_of(&rows[0].sender);
    world.memory.enqueue(partition, &rows, None).await.unwrap();
    eventually("both are parked", async || world.dead_letters().await.len() == 2).await;
    let letter = world.dead_letter().await;
    assert_eq!((letter.message.row.content.clone(), letter.attempts), (content, 1));
    assert!(letter.error.as_ref().unwrap().contains("cannot be read"), "{:?}", letter.error);

    // Once discarded, it answers its sender, and the next dead letter is first.
    assert!(world.decide(&letter, DeadLetterDecision::Discard).await);
    heard(&app, "a", "0: undelivered").await;
    let next = world.dead_letters().await.remove(0);
    assert!(world.decide(&next, DeadLetterDecision::Redrive).await);
    heard(&app, "b", "note 2").await;
    assert!(!world.decide(&letter, DeadLetterDecision::Redrive).await, "never again");
}

/// A message was read as blocked at the moment at which the one before was redriven.
#[tokio::test(start_paused = true)]
async fn messages_behind_a_redriven_one_are_not_parked() {
    for decision in [DeadLetterDecision::Redrive, DeadLetterDecision::Discard] {
        let world = World::new();
        let (node, app) = world.node();
        world.broken.set(true);
        tell_to(&app, "a", tell_b(Act::Fragile(0))).await;
        let letter = world.dead_letter().await;
        world.broken.set(false);
        node.next("read_outbox", [Mishap::Held]);
        tell_to(&app, "a", tell_b(Act::Note(1))).await;
        eventually("it is read", async || node.holds()).await;
        assert!(world.decide(&letter, decision).await);
        tokio::time::sleep(millis(2_000)).await;
        node.release();
        heard(&app, "b", "note 1").await;
        let first = (decision == DeadLetterDecision::Redrive).then_some("note 0");
        let notes: Vec<_> = first.into_iter().chain(["note 1"]).collect();
        assert_eq!(log(&app, "b").await, notes);
        assert!(world.dead_letters().await.is_empty());
    }
}

/// Thousands of successive decisions do not hold up other messages.
#[tokio::test(start_paused = true)]
async fn redriving_thousands_of_dead_letters_holds_up_no_other() {
    let world = World::new();
    let (node, app) = world.node();
    let content =
        Codecs::default().encode(&Actor::id("b").stream(), &In::Do(Act::Note(1))).unwrap();
    let rows: Vec<_> =
        (0..1_000).map(|n| world.row("a", &format!("b{n}"), content.clone())).collect();
    let partition = world.memory.log().partition_of(&rows[0].sender);
    world.memory.park(partition, &rows, "it is broken").await.unwrap();
    node.slow("resolve_dead_letter", millis(20));
    for letter in world.dead_letters().await {
        assert!(world.decide(&letter, DeadLetterDecision::Redrive).await);
    }
    let begun = tokio::time::Instant::now();
    for n in 0..10 {
        let asked = tokio::time::Instant::now();
        tell_to(&app, "x", Act::Ask { to: "c".into(), tag: n, act: Box::new(Act::Note(1)) }).await;
        heard(&app, "x", &format!("{n}: note 1")).await;
        assert!(asked.elapsed() < millis(500), "{n}: {:?}", asked.elapsed());
        tokio::time::sleep(millis(300)).await;
    }
    assert!(!world.dead_letters().await.is_empty(), "redriving takes 20 seconds");
    eventually("all are", async || world.dead_letters().await.is_empty()).await;
    // The portions follow each other without a pause.
    assert!(begun.elapsed() < millis(30_000), "{:?}", begun.elapsed());
    world.quiet().await;
    for n in [0, 1, 500, 999] {
        assert_eq!(log(&app, &format!("b{n}")).await, ["note 1"], "b{n}");
    }
}

/// A pair is read again when its next dead letter is redriven, even while a row of it is executed.
#[tokio::test(start_paused = true)]
async fn a_row_is_executed_by_one_task_at_a_time() {
    let world = World::new();
    let _app = world.app();
    let broken = |n| EncodedMessage {
        name: "outside.ask".into(),
        version: 1,
        codec: "bincode".into(),
        bytes: vec![255; n],
    };
    let asked = Codecs::default()
        .encode(&Actor::id("a").stream(), &super::actor::OutsideRequest::Ask("one".into()))
        .unwrap();
    let call = |content: EncodedMessage| {
        let mut row = world.row("a", "b", content);
        row.row.kind = composable_rust_core::queue::OutboxKind::Call;
        row.row.target = "outside".to_owned();
        row
    };
    let rows = [call(asked), call(broken(3))];
    let partition = world.memory.log().partition_of(&rows[0].sender);
    world.memory.park(partition, &rows[..1], "it is broken").await.unwrap();
    world.memory.park(partition, &rows[1..], "it is broken too").await.unwrap();
    let letters = world.dead_letters().await;
    world.outside.next([super::actor::Behaviour::Hangs]);
    assert!(world.decide(&letters[0], DeadLetterDecision::Redrive).await);
    eventually("it is called", async || world.outside.calls() == 1).await;
    assert!(world.decide(&letters[1], DeadLetterDecision::Redrive).await);
    tokio::time::sleep(millis(3_000)).await;
    assert_eq!(world.outside.calls(), 1);
    // It times out and is retried.
    eventually("it is called again", async || world.outside.calls() == 2).await;
    tokio::time::sleep(millis(3_000)).await;
    assert_eq!(world.outside.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_internal_command_is_rejected_from_any_queue() {
    let world = World::new();
    let app = world.app();
    let stream = Actor::id("b").stream();
    let content = Codecs::default().encode(&stream, &In::Due(Act::Note(1))).unwrap();
    let row = world.row("a", "b", content);
    let partition = world.memory.log().partition_of(&row.sender);
    world.memory.enqueue(partition, &[row], None).await.unwrap();
    let letter = world.dead_letter().await;
    assert!(letter.error.unwrap().contains("internal"));
    assert_eq!(log(&app, "b").await, [""; 0]);
}

/// A partition whose lock another session holds holds up only its own rows.
#[tokio::test(start_paused = true)]
async fn parking_a_message_holds_up_no_other() {
    let world = World::new();
    let node = NodeProcess::start(world.memory.clone());
    let partition_of = |id: &str| world.memory.log().partition_of(&Actor::id(id).stream());
    let bad = |n| EncodedMessage {
        name: "actor.do".into(),
        version: 1,
        codec: "bincode".into(),
        bytes: vec![255; n],
    };
    world.memory.enqueue(partition_of("a"), &[world.row("a", "b", bad(3))], None).await.unwrap();
    node.next("settle", [Mishap::Held]);
    let app = world.start(node.clone());
    eventually("it is being parked", async || node.holds()).await;

    let others = (0..).map(|n| format!("other{n}"));
    let other = others.into_iter().find(|id| partition_of(id) != partition_of("a")).unwrap();
    tell_to(&app, &other, Act::Ask { to: "c".into(), tag: 1, act: Box::new(Act::Note(1)) }).await;
    heard(&app, &other, "1: note 1").await;
    assert!(node.holds());

    // Later messages are queued behind it.
    tell_to(&app, "a", tell_b(Act::Note(2))).await;
    node.release();
    eventually("both are parked", async || world.dead_letters().await.len() == 2).await;
    assert_eq!(log(&app, "b").await, [""; 0]);
}

/// Thousands of waiting messages do not keep others from being read.
#[tokio::test(start_paused = true)]
async fn other_instances_overtake_thousands_of_blocked_rows() {
    let world = World::new();
    let app = world.app();
    world.broken.set(true);
    let fragile = |n| ("b".to_owned(), n, Act::Fragile(n));
    for sender in 0..3 {
        let all = (0..1_500).map(fragile).collect();
        tell_to(&app, &format!("a{sender}"), Act::AskAll(all)).await;
    }
    for sender in 0..3 {
        let act = Act::Ask { to: "c".into(), tag: 1, act: Box::new(Act::Note(6)) };
        tell_to(&app, &format!("a{sender}"), act).await;
    }
    let started = tokio::time::Instant::now();
    for sender in 0..3 {
        heard(&app, &format!("a{sender}"), "1: note 6").await;
    }
    let took = started.elapsed();
    assert!(took < millis(2_000), "{took:?}");
}

/// An instance whose stream is closed rejects messages that can never be handled.
#[tokio::test(start_paused = true)]
async fn messages_to_a_closed_instance_are_undelivered() {
    let world = World::new();
    let app = world.app();
    tell_to(&app, "b", Act::Note(1)).await;
    let stream = Actor::id("b").stream();
    let event = composable_rust_core::EventId(uuid::Uuid::from_u128(7));
    world.memory.close_stream(&stream, composable_rust_core::Version::new(1), event).await.unwrap();
    tell_to(&app, "a", Act::Ask { to: "b".into(), tag: 1, act: Box::new(Act::Note(6)) }).await;
    heard(&app, "a", "1: undelivered").await;
}

/// An error text that the store cannot hold does not prevent parking.
#[tokio::test(start_paused = true)]
async fn stored_errors_are_truncated_and_sanitized() {
    let world = World::new();
    let _app = world.app();
    let content = EncodedMessage {
        name: "x".repeat(60_000).into(),
        version: 1,
        codec: "none".into(),
        bytes: Vec::new(),
    };
    let row = world.row("a", "b", content);
    let partition = world.memory.log().partition_of(&row.sender);
    world.memory.enqueue(partition, &[row], None).await.unwrap();
    let letter = world.dead_letter().await;
    assert!(letter.error.unwrap().len() <= 4_096);
}

/// However many or large messages wait for an unloadable instance, other instances get theirs.
#[tokio::test(start_paused = true)]
async fn one_instances_overflowing_backlog_holds_up_no_other() {
    let note = |n| Act::Note(n);
    let large = |_| Act::Call { tag: 1, text: "x".repeat(3_300_000) };
    let acts: [Vec<Act>; 2] = [(0..21_000).map(note).collect(), (0..30).map(large).collect()];
    for acts in acts {
        let world = World::new();
        let spoilt = Actor::id("b").stream();
        let (name, codec, bytes) = ("actor.did".into(), "bincode".into(), vec![255]);
        let content = EncodedMessage { name, version: 1, codec, bytes };
        let id = EventId(uuid::Uuid::from_u128(9));
        let event = NewEvent { id, content, metadata: String::new() };
        let append = Append::new(spoilt.clone(), ExpectedVersion::EMPTY).with_events(vec![event]);
        let partition = world.memory.log().partition_of(&spoilt);
        world.memory.append_events(partition, &[append]).await.unwrap();
        let send = |to: &str, act: Act| {
            let stream = Actor::id(to).stream();
            let content = Codecs::default().encode(&stream, &In::Do(act)).unwrap();
            world.row("a", to, content)
        };
        let mut rows: Vec<_> = acts.into_iter().map(|act| send("b", act)).collect();
        rows.extend((0..2_000).map(|n| send("c", Act::Note(n))));
        rows.extend((0..100).map(|n| send("b", Act::Note(n))));
        let partition = world.memory.log().partition_of(&rows[0].sender);
        world.memory.enqueue(partition, &rows, None).await.unwrap();
        let app = world.app();
        heard(&app, "c", "note 1999").await;
        assert!(world.dead_letters().await.is_empty());
    }
}

/// While an instance's event cannot be read, its messages and timers wait.
#[tokio::test(start_paused = true)]
async fn messages_wait_for_an_instance_that_cannot_be_loaded() {
    let world = World::new();
    let app = world.app();
    let stream = Actor::id("b").stream();
    let t = Act::Later { id: None, after: 10_000, act: Box::new(Act::Note(1)) };
    tell_to(&app, "b", t).await;
    let bad = |bytes| EncodedMessage {
        name: "actor.did".into(),
        version: 1,
        codec: "bincode".into(),
        bytes,
    };
    let id = EventId(uuid::Uuid::from_u128(9));
    let event = NewEvent { id, content: bad(vec![255; 9]), metadata: String::new() };
    let append = Append::new(stream.clone(), ExpectedVersion::Any).with_events(vec![event]);
    let partition = world.memory.log().partition_of(&stream);
    world.memory.append_events(partition, &[append]).await.unwrap();
    drop(app);

    let app = world.app();
    tell_to(&app, "a", tell_b(Act::Note(2))).await;
    tell_to(&app, "a", Act::Ask { to: "c".into(), tag: 1, act: Box::new(Act::Note(1)) }).await;
    heard(&app, "a", "1: note 1").await;
    tokio::time::sleep(millis(120_000)).await;
    assert!(world.dead_letters().await.is_empty());
    assert_eq!((world.memory.outbox().len(), world.memory.timers().len()), (1, 1));

    let seen = Seen { at: world.clock.now(), by: None, process: 9 };
    let mended = Codecs::default().encode(&stream, &ActorEvent::Did(Act::Note(0), seen)).unwrap();
    world.memory.override_event(&stream, Version::new(2), &mended).await.unwrap();
    world.quiet().await;
    let mut log = log(&app, "b").await;
    log.sort();
    assert_eq!(log, ["later", "note 0", "note 1", "note 2"]);
}
