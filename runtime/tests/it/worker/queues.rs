//! Queues as operators see them and decide on them.

use composable_rust_core::MessageId;
use composable_rust_core::codec::{Codecs, EncodedMessage};
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{Outbox as _, OutboxKind, OutboxMessage, Queue};
use composable_rust_core::store::{
    Append, Due, EventStore as _, ExpectedVersion, NewTimer, TimerArming, TimerChange,
};
use composable_rust_runtime::App;
use composable_rust_runtime::operations::{QueueStatus, WaitingMessage};
use futures_util::TryStreamExt as _;

use super::actor::{Act, Actor, ActorCommand as In, Outside};
use super::node::Mishap;
use super::world::{World, eventually, heard, log, millis, started, tell_to};
use crate::logged::Logged;

fn content(name: &'static str) -> EncodedMessage {
    EncodedMessage { name: name.into(), version: 1, codec: "bincode".into(), bytes: Vec::new() }
}

async fn enqueue(world: &World, rows: &[OutboxMessage]) -> u16 {
    let partition = world.memory.log().partition_of(&rows[0].sender);
    assert!(world.memory.enqueue(partition, rows, None).await.unwrap());
    partition
}

async fn queues(app: &App) -> Vec<QueueStatus> {
    app.queues().all().await.unwrap()
}

async fn messages(app: &App, queue: &Queue) -> Vec<WaitingMessage> {
    app.queues().messages(queue).try_collect().await.unwrap()
}

async fn letters(app: &App) -> Vec<composable_rust_core::queue::DeadLetter> {
    app.dead_letters().all().try_collect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_a_worker_is_reported() {
    let logged = Logged::begin();
    let world = World::new();
    let app = world.app();
    let mut row = world.row("a", "b", content("ghost.boo"));
    (row.row.kind, row.row.target) = (OutboxKind::Call, "ghost".to_owned());
    let partition = enqueue(&world, &[row.clone(), row]).await;
    let waits = world.row("a", "b", content("actor.future"));
    enqueue(&world, &[waits]).await;
    tokio::time::sleep(millis(5_000)).await;
    let found = queues(&app).await;
    let shown: Vec<_> =
        found.iter().map(|of| (of.queue.kind, &*of.queue.target, of.rows, of.has_worker)).collect();
    let expected = [
        (OutboxKind::Call, "ghost", 2, Some(false)),
        (OutboxKind::Dispatch, "actor", 1, Some(true)),
    ];
    assert_eq!(shown, expected);
    assert!(found.iter().all(|of| of.queue.partition == partition && of.dead_letters == 0));
    assert!(found.iter().all(|of| of.oldest >= millis(4_900) && of.oldest <= millis(5_100)));
    tokio::time::sleep(millis(100_000)).await;
    let lines = logged.lines("no running process works this queue");
    assert!(lines.len() == 1 && lines[0].contains("call/ghost"), "{lines:#?}");
    // Once no process runs, no queue has a worker.
    app.shutdown(millis(1_000)).await;
    assert!(queues(&app).await.iter().all(|of| of.has_worker == Some(false)));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_comes_while_the_queues_are_checked_is_reported() {
    let logged = Logged::begin();
    let world = World::new();
    let (node, _app) = world.node();
    // The first check, after the leases' time-to-live of 15 seconds, has read the queues when the
    // row comes.
    tokio::time::sleep(millis(14_000)).await;
    node.slow("load_leases", millis(5_000));
    tokio::time::sleep(millis(3_000)).await;
    let mut row = world.row("a", "b", content("ghost.boo"));
    (row.row.kind, row.row.target) = (OutboxKind::Call, "ghost".to_owned());
    enqueue(&world, &[row]).await;
    tokio::time::sleep(millis(200_000)).await;
    let lines = logged.lines("no running process works this queue");
    assert!(lines.len() == 1 && lines[0].contains("call/ghost"), "{lines:#?}");
}

/// An app whose gateway is declared elsewhere, although no process has it.
fn without_gateway(world: &World) -> App {
    let builder = world.bare_builder(world.memory.clone()).aggregate::<Actor>(world.around());
    started(builder.gateway_elsewhere::<Outside>())
}

/// Makes actor `a` call the gateway `n` times, and returns the queue.
async fn call_in_vain(app: &App, times: u32) -> Queue {
    for tag in 0..times {
        tell_to(app, "a", Act::Call { tag, text: "x".to_owned() }).await;
    }
    queues(app).await.remove(0).queue
}

#[tokio::test(start_paused = true)]
async fn messages_of_an_orphaned_queue_are_discarded_and_answered() {
    let world = World::new();
    let app = without_gateway(&world);
    let queue = call_in_vain(&app, 1).await;
    let waiting = messages(&app, &queue).await;
    assert!(app.queues().discard(&waiting[0]).await.unwrap());
    heard(&app, "a", "0: exhausted").await;
    assert!(queues(&app).await.is_empty());
    // Rows that are gone are not affected.
    let before = log(&app, "a").await;
    assert!(!app.queues().discard(&waiting[0]).await.unwrap());
    assert!(!app.queues().park(&waiting[0], "again").await.unwrap());
    tokio::time::sleep(millis(10_000)).await;
    assert_eq!(log(&app, "a").await, before);
    assert!(queues(&app).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn decisions_on_orphaned_dead_letters_are_executed_at_once() {
    let world = World::new();
    let app = without_gateway(&world);
    let queue = call_in_vain(&app, 2).await;
    let waiting = messages(&app, &queue).await;
    let park = async || app.queues().park(&waiting[0], "the gateway is gone").await.unwrap();
    park().await;
    let letter = letters(&app).await.remove(0);
    assert_eq!(letter.message.row.id, waiting[0].queued.row.id);
    assert_eq!((letter.attempts, letter.error.as_deref()), (1, Some("the gateway is gone")));
    let of = queues(&app).await.remove(0);
    assert_eq!((of.rows, of.dead_letters, of.has_worker), (1, 1, Some(false)));

    app.dead_letters().redrive(&letter).await.unwrap();
    assert!(letters(&app).await.is_empty());
    assert_eq!(messages(&app, &queue).await, waiting, "the queue is as before");

    park().await;
    app.dead_letters().discard(&letter).await.unwrap();
    assert!(letters(&app).await.is_empty());
    heard(&app, "a", "0: exhausted").await;
    assert_eq!(messages(&app, &queue).await, waiting[1..]);
}

/// No process works on the queue meanwhile: the sender gets one reply.
#[tokio::test(start_paused = true)]
async fn messages_discarded_without_a_worker_are_deduplicated_later() {
    for is_parked in [false, true] {
        let world = World::new();
        let idle = world.builder(world.memory.clone()).build().unwrap();
        let stream = Actor::id("b").stream();
        let note = Codecs::default().encode(&stream, &In::Do(Act::Note(1))).unwrap();
        let note = world.row("a", "b", note);
        enqueue(&world, std::slice::from_ref(&note)).await;
        let queue = queues(&idle).await.remove(0).queue;
        let waiting = messages(&idle, &queue).await.remove(0);
        if is_parked {
            idle.queues().park(&waiting, "it is of no use").await.unwrap();
            let letter = letters(&idle).await.remove(0);
            idle.dead_letters().discard(&letter).await.unwrap();
        } else {
            idle.queues().discard(&waiting).await.unwrap();
        }
        assert!(letters(&idle).await.is_empty());
        let [answer] = &*messages(&idle, &queue).await else { panic!("no answer is queued") };
        assert_eq!(answer.queued.row.recipient, "actor-a");

        enqueue(&world, &[note]).await;
        let app = world.app();
        heard(&app, "a", "0: undelivered").await;
        world.quiet().await;
        assert_eq!(log(&app, "a").await, ["0: undelivered"]);
        assert_eq!(log(&app, "b").await, [""; 0]);
        assert_eq!(app.duplicates_ignored(), 1);
    }
}

/// A process that works on the queue loses its lease, and the decision stands.
#[tokio::test(start_paused = true)]
async fn a_message_for_newer_code_is_parked_with_its_successors() {
    let world = World::new();
    let app = world.app();
    let note = |n| {
        let stream = Actor::id("b").stream();
        world.row("a", "b", Codecs::default().encode(&stream, &In::Do(Act::Note(n))).unwrap())
    };
    let rows = [world.row("a", "b", content("actor.future")), note(1), note(2)];
    enqueue(&world, &rows).await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(world.memory.outbox().len(), 3);
    let of = queues(&app).await.remove(0);
    assert_eq!(of.last_error.as_deref(), Some("no variant is called `actor.future`"));
    let unknown = app.unknown_messages();
    assert_eq!((unknown.len(), &*unknown[0].what), (1, "`actor.future`"));
    assert_eq!((&*unknown[0].worker, unknown[0].waiting), ("dispatch/actor", 1));
    assert_eq!(unknown[0].example, rows[0].row.id.to_string());
    assert!(!unknown[0].is_overdue);
    tokio::time::sleep(millis(600_000)).await;
    assert!(app.unknown_messages()[0].is_overdue);
    let queue = of.queue;
    let waiting = messages(&app, &queue).await.remove(0);
    app.queues().park(&waiting, "it was taken out").await.unwrap();
    eventually("the others are parked", async || letters(&app).await.len() == 3).await;
    assert_eq!(log(&app, "b").await, [""; 0]);

    let letter = letters(&app).await.remove(0);
    app.dead_letters().discard(&letter).await.unwrap();
    eventually("the discard", async || letters(&app).await.len() == 2).await;
    app.dead_letters().redrive(&letters(&app).await[0]).await.unwrap();
    heard(&app, "b", "note 2").await;
    assert_eq!(log(&app, "b").await, ["note 1", "note 2"]);
    heard(&app, "a", "0: undelivered").await;
    eventually("it is forgotten", async || app.unknown_messages().is_empty()).await;
    world.assert_states_match_log(&[&app]).await;
}

/// A row being executed while an operator discards the row ahead of it is handled once.
#[tokio::test(start_paused = true)]
async fn a_seized_queue_continues_in_order() {
    let world = World::new();
    let (process, app) = world.node();
    let notes: Vec<_> = (0..300)
        .map(|n| {
            let stream = Actor::id("b").stream();
            let note = if n == 0 {
                content("actor.future")
            } else {
                Codecs::default().encode(&stream, &In::Do(Act::Note(n))).unwrap()
            };
            world.row("a", "b", note)
        })
        .collect();
    enqueue(&world, &notes).await;
    tokio::time::sleep(millis(20_000)).await;
    let queue = queues(&app).await.remove(0).queue;
    let waiting = messages(&app, &queue).await;
    process.next("settle", [Mishap::FailsAfter]);
    app.queues().discard(&waiting[0]).await.unwrap_err();
    heard(&app, "b", "note 3").await;
    app.queues().discard(&waiting[0]).await.unwrap();
    app.queues().discard(waiting.last().unwrap()).await.unwrap();
    eventually("it is empty", async || world.memory.outbox().is_empty()).await;
    let expected: Vec<_> = (1..299).map(|n| format!("note {n}")).collect();
    let found = log(&app, "b").await;
    assert_eq!(found[..expected.len()], expected, "the last may have been under way");
}

/// Its sender gets no failure either.
#[tokio::test(start_paused = true)]
async fn discarding_a_handled_message_rejects_nothing() {
    let world = World::new();
    let (process, app) = world.node();
    process.next("settle", vec![Mishap::FailsBefore; 10_000]);
    tell_to(&app, "a", Act::Ask { to: "b".into(), tag: 1, act: Box::new(Act::Note(6)) }).await;
    heard(&app, "a", "1: note 6").await;
    process.crash();
    let operator = world.builder(world.memory.clone()).build().unwrap();
    for of in queues(&operator).await {
        for waiting in messages(&operator, &of.queue).await {
            operator.queues().discard(&waiting).await.unwrap();
        }
    }
    let app = world.app();
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(log(&app, "a").await, ["ask", "1: note 6"]);
    assert!(queues(&app).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn orphaned_timers_are_listed_parked_and_discarded() {
    let world = World::new();
    let app = world.app();
    let stream: composable_rust_core::StreamId = "ghost-1".parse().unwrap();
    let mut append = Append::new(stream.clone(), ExpectedVersion::Any);
    append.timers = ["s", "t"].map(timer).to_vec();
    append.inbox = vec![composable_rust_core::store::NewInboxEntry {
        message_id: MessageId(uuid::Uuid::from_u128(1)),
        digest: 1,
        first_event: 0,
        event_count: 0,
        outcome: Vec::new(),
    }];
    let partition = world.memory.log().partition_of(&stream);
    world.memory.append_events(partition, &[append]).await.unwrap();
    let of = queues(&app).await.remove(0);
    assert_eq!((of.queue.kind, &*of.queue.target), (OutboxKind::Timer, "ghost"));
    assert_eq!((of.rows, of.has_worker), (2, Some(false)));
    let waiting = messages(&app, &of.queue).await;
    assert_eq!(waiting[0].queued.row.recipient, "s");
    app.queues().discard(&waiting[0]).await.unwrap();
    app.queues().park(&waiting[1], "no more ghosts").await.unwrap();
    let letter = letters(&app).await.remove(0);
    assert_eq!((letter.attempts, &*letter.message.row.recipient), (1, "t"));
    app.dead_letters().redrive(&letter).await.unwrap();
    assert_eq!(messages(&app, &of.queue).await.len(), 1);
    app.queues().park(&waiting[1], "no more ghosts").await.unwrap();
    app.dead_letters().discard(&letter).await.unwrap();
    assert!(queues(&app).await.is_empty());
    assert!(world.memory.timers().is_empty());
}

fn timer(id: &str) -> TimerChange {
    TimerChange::Arm(NewTimer {
        id: id.to_owned(),
        arming: TimerArming { armed_by: MessageId(uuid::Uuid::from_u128(1)), effect_index: 0 },
        due: Due::After(millis(0)),
        content: content("ghost.late"),
        metadata: String::new(),
    })
}
