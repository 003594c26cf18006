//! Policies: from events of the log and of topics to commands.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::environment::Clock as _;
use composable_rust_core::event::NewEvent;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{DeadLetterDecision, OutboxKind};
use composable_rust_core::store::{Append, EventStore as _, ExpectedVersion};
use composable_rust_core::{EventId, Recorded};
use composable_rust_runtime::{App, AppBuilder};
use uuid::Uuid;

use super::actor::{Act, Actor, ActorCommand as In, ActorError, ActorEvent as Out, Seen};
use super::node::{Mishap, Node, NodeProcess};
use super::world::{World, eventually, from_start, heard, log, millis, started, tell_to};

type Commands = Vec<(Id<Actor>, In)>;

/// Repeats an actor's notes to its copy.
fn copies(recorded: &Recorded<Out>) -> Commands {
    let id = recorded.stream.id();
    match &recorded.event {
        Out::Did(Act::Note(n), _) if !id.contains("copy") => {
            vec![(Actor::id(format!("{id}-copy")), In::Do(Act::Note(*n)))]
        }
        _ => Vec::new(),
    }
}

fn copying(builder: AppBuilder) -> AppBuilder {
    builder.on::<Actor, Actor, Commands>("copy", copies)
}

#[tokio::test(start_paused = true)]
async fn a_policy_begins_at_the_head_by_default() {
    let world = World::new();
    let app = world.builder(world.memory.clone()).build().unwrap();
    tell_to(&app, "a", Act::Note(1)).await;
    let app =
        started(copying(world.builder(world.memory.clone())).on_with::<Actor, Actor, Commands>(
            "all",
            from_start,
            |recorded| match &recorded.event {
                Out::Did(Act::Note(n), _) if recorded.stream.id() == "a" => {
                    vec![(Actor::id("all-copy"), In::Do(Act::Note(*n)))]
                }
                _ => Vec::new(),
            },
        ));
    heard(&app, "all-copy", "note 1").await;
    eventually("the other began", async || {
        use composable_rust_core::queue::Checkpoints as _;
        world.memory.load_checkpoints("follow/copy").await.unwrap().len() == 3
    })
    .await;
    tell_to(&app, "a", Act::Note(2)).await;
    heard(&app, "a-copy", "note 2").await;
    heard(&app, "all-copy", "note 2").await;
    world.quiet().await;
    assert_eq!(log(&app, "a-copy").await, ["note 2"]);
    assert_eq!(log(&app, "all-copy").await, ["note 1", "note 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_policy_misses_nothing_that_its_process_recorded_before_it_began() {
    let world = World::new();
    let older = world.builder(world.memory.clone()).build().unwrap();
    tell_to(&older, "a", Act::Note(1)).await;
    let app = copying(world.builder(world.memory.clone())).build().unwrap();
    tell_to(&app, "a", Act::Note(2)).await;
    tell_to(&app, "b", Act::Note(3)).await;
    app.start();
    heard(&app, "b-copy", "note 3").await;
    heard(&app, "a-copy", "note 2").await;
    world.quiet().await;
    assert_eq!(log(&app, "a-copy").await, ["note 2"]);
}

/// The ends of the log are read before the first append. Nothing is sent then, so a sender need not
/// hear of an outage.
#[tokio::test(start_paused = true)]
async fn an_outage_before_the_first_append_leaves_no_outcome_unknown() {
    let world = World::new();
    let node = NodeProcess::start(world.memory.clone());
    let app = copying(world.builder(node.clone())).build().unwrap();
    node.next("heads", [Mishap::FailsBefore, Mishap::FailsBefore]);
    tell_to(&app, "a", Act::Note(1)).await;
    app.start();
    heard(&app, "a-copy", "note 1").await;
}

/// Another process continues at the checkpoint, whatever happened to the last response.
#[tokio::test(start_paused = true)]
async fn each_event_causes_its_commands_once_across_crashes() {
    let several = |recorded: &Recorded<Out>| -> Commands {
        let Out::Did(Act::Note(n), _) = recorded.event else { return Vec::new() };
        let ids = if recorded.stream.id() == "a" { &["x", "y", "x"][..] } else { &[] };
        let numbered = ids.iter().zip(0..);
        numbered.map(|(id, i)| (Actor::id(*id), In::Do(Act::Note(10 * n + i)))).collect()
    };
    for mishap in [Mishap::FailsBefore, Mishap::FailsAfter, Mishap::CrashesAfter, Mishap::Held] {
        let world = World::new();
        let start = |node: &Node<_>| {
            let builder = world.builder(node.clone());
            started(builder.on_with::<Actor, Actor, Commands>("p", from_start, several))
        };
        let node = NodeProcess::start(world.memory.clone());
        let app = start(&node);
        let writer = world.builder(world.memory.clone()).build().unwrap();
        tell_to(&writer, "a", Act::Note(1)).await;
        heard(&writer, "y", "note 11").await;
        node.next("enqueue", [mishap, mishap]);
        tell_to(&writer, "a", Act::Note(2)).await;
        tokio::time::sleep(millis(1_000)).await;
        node.crash();
        let other = start(&NodeProcess::start(world.memory.clone()));
        tell_to(&writer, "a", Act::Note(3)).await;
        heard(&writer, "x", "note 32").await;
        heard(&writer, "y", "note 31").await;
        world.quiet().await;
        let expected = ["note 10", "note 12", "note 20", "note 22", "note 30", "note 32"];
        assert_eq!(log(&writer, "x").await, expected, "{mishap:?}");
        assert_eq!(log(&writer, "y").await, ["note 11", "note 21", "note 31"], "{mishap:?}");
        drop((app, other));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_its_policy_fails_on_blocks_its_stream() {
    let world = World::new();
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let fails = std::sync::Arc::clone(&broken);
    let app = started(world.builder(world.memory.clone()).on::<Actor, Actor, Commands>(
        "copy",
        move |recorded| {
            let bad = matches!(recorded.event, Out::Did(Act::Note(13), _));
            assert!(!bad || !fails.load(std::sync::atomic::Ordering::SeqCst), "unlucky");
            copies(recorded)
        },
    ));
    tokio::time::sleep(millis(100)).await;
    for n in [12, 13, 14] {
        tell_to(&app, "a", Act::Note(n)).await;
    }
    for other in 0..20 {
        tell_to(&app, &format!("o{other}"), Act::Note(1)).await;
        heard(&app, &format!("o{other}-copy"), "note 1").await;
    }
    heard(&app, "a-copy", "note 12").await;
    eventually("parked", async || world.dead_letters().await.len() == 2).await;
    tell_to(&app, "a", Act::Note(15)).await;
    eventually("parked too", async || world.dead_letters().await.len() == 3).await;
    let letters = world.dead_letters().await;
    assert_eq!((letters[0].queue.kind, letters[0].attempts), (OutboxKind::Policy, 5));
    assert!(letters[0].error.as_ref().unwrap().contains("unlucky"));
    assert_eq!(log(&app, "a-copy").await, ["note 12"]);

    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(world.decide(&letters[0], DeadLetterDecision::Redrive).await);
    tell_to(&app, "a", Act::Note(16)).await;
    heard(&app, "a-copy", "note 16").await;
    let notes = [12, 13, 14, 15, 16].map(|n| format!("note {n}"));
    assert_eq!(log(&app, "a-copy").await, notes);
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_command_that_cannot_be_stored_fails_its_policy() {
    let world = World::new();
    let loses = |recorded: &Recorded<Out>| -> Commands {
        let is_note = matches!(recorded.event, Out::Did(Act::Note(_), _));
        let lost = (Actor::id("b"), In::Lost(crate::account::Lossy::default()));
        is_note.then_some(lost).into_iter().collect()
    };
    let builder = world.builder(world.memory.clone());
    let app = started(builder.on_with::<Actor, Actor, Commands>("lose", from_start, loses));
    tell_to(&app, "a", Act::Note(1)).await;
    let letter = world.dead_letter().await;
    assert_eq!((letter.queue.kind, &*letter.queue.target), (OutboxKind::Policy, "lose"));
    assert!(letter.error.as_ref().unwrap().contains("actor.lost"), "{:?}", letter.error);
}

/// The actor in an older binary, without `Kept`.
pub(super) enum OldActor {}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "actor")]
pub(super) enum OldEvent {
    Did(Act, Seen),
    Heard { tag: u32, text: String, seen: Seen },
}

impl Target for OldActor {
    const NAME: &'static str = "actor";
    type Command = In;
    type Event = OldEvent;
    type Rejection = ActorError;
}

fn old(builder: AppBuilder) -> App {
    started(builder.on::<OldActor, Actor, Commands>("copy", |recorded| {
        let id = recorded.stream.id();
        match &recorded.event {
            OldEvent::Did(Act::Note(n), _) if !id.contains("copy") => {
                vec![(Actor::id(format!("{id}-copy")), In::Do(Act::Note(*n)))]
            }
            _ => Vec::new(),
        }
    }))
}

#[tokio::test(start_paused = true)]
async fn events_of_newer_code_are_neither_skipped_nor_parked() {
    let world = World::new();
    let app = old(world.builder(world.memory.clone()));
    tokio::time::sleep(millis(100)).await;
    tell_to(&app, "a", Act::Note(1)).await;
    tell_to(&app, "a", Act::Keep).await;
    tell_to(&app, "a", Act::Note(2)).await;
    heard(&app, "a-copy", "note 1").await;
    // Other partitions are not affected.
    let elsewhere = (0..100)
        .map(|n| format!("b{n}"))
        .find(|id| {
            let of = |id: &str| world.memory.log().partition_of(&Actor::id(id).stream());
            of(id) != of("a")
        })
        .unwrap();
    let before = tokio::time::Instant::now();
    tell_to(&app, &elsewhere, Act::Note(3)).await;
    heard(&app, &format!("{elsewhere}-copy"), "note 3").await;
    assert!(before.elapsed() < millis(1_000), "{:?}", before.elapsed());
    tokio::time::sleep(millis(100_000)).await;
    assert_eq!(log(&app, "a-copy").await, ["note 1"]);
    assert!(world.dead_letters().await.is_empty());
    let unknown = app.unknown_messages();
    assert_eq!((unknown.len(), unknown[0].waiting, unknown[0].is_overdue), (1, 1, false));
    assert!(unknown[0].worker.starts_with("follow/"), "{unknown:?}");
    let newer = started(copying(world.builder(world.memory.clone())));
    heard(&newer, "a-copy", "note 2").await;
    assert_eq!(log(&newer, "a-copy").await, ["note 1", "note 2"]);
    assert!(world.dead_letters().await.is_empty());
    drop(app);
}

/// An old and a new binary on one store under load.
#[tokio::test(start_paused = true)]
async fn old_and_new_code_together_handle_everything() {
    let world = World::new();
    let older = old(world.builder(world.memory.clone()));
    let newer = started(copying(world.builder(world.memory.clone())));
    tokio::time::sleep(millis(20_000)).await;
    for n in 0..60 {
        for stream in ["a", "b", "c", "d"] {
            tell_to(&older, stream, if n % 7 == 3 { Act::Keep } else { Act::Note(n) }).await;
        }
        tokio::time::sleep(millis(1_000)).await;
    }
    let notes: Vec<_> = (0..60).filter(|n| n % 7 != 3).map(|n| format!("note {n}")).collect();
    for stream in ["a", "b", "c", "d"] {
        let copy = format!("{stream}-copy");
        heard(&newer, &copy, "note 58").await;
        eventually("all", async || log(&newer, &copy).await.len() == notes.len()).await;
        assert_eq!(log(&newer, &copy).await, notes);
    }
    assert!(world.dead_letters().await.is_empty());
}

/// As after a restore: the checkpoint is ahead of the log.
#[tokio::test(start_paused = true)]
async fn a_policy_stopped_by_a_rewound_log_resumes_where_set() {
    use composable_rust_core::queue::{Checkpoint, Checkpoints as _};
    use composable_rust_runtime::operations::{LogStart, ResetPolicyError};
    let world = World::new();
    let app = world.builder(world.memory.clone()).build().unwrap();
    tell_to(&app, "a", Act::Note(1)).await;
    for partition in 0..world.memory.log().partitions {
        let ahead = Checkpoint { partition, offset: 1_000, event_id: Some(EventId(Uuid::nil())) };
        world.memory.rewind("follow/copy", ahead).await.unwrap();
    }
    let app = started(copying(world.builder(world.memory.clone())));
    tokio::time::sleep(millis(1_000)).await;
    let second = world.clock.now();
    tell_to(&app, "a", Act::Note(2)).await;
    world.quiet().await;
    assert!(log(&app, "a-copy").await.is_empty(), "a parked event is not retried by itself");

    let unknown = app.reset_policy("nothing", LogStart::End).await.unwrap_err();
    assert!(matches!(unknown, ResetPolicyError::Unknown(name) if name == "nothing"));
    app.reset_policy("copy", LogStart::End).await.unwrap();
    tell_to(&app, "a", Act::Note(3)).await;
    heard(&app, "a-copy", "note 3").await;
    world.quiet().await;
    assert_eq!(log(&app, "a-copy").await, ["note 3"]);

    app.reset_policy("copy", LogStart::Since(second)).await.unwrap();
    heard(&app, "a-copy", "note 2").await;
    world.quiet().await;
    assert_eq!(log(&app, "a-copy").await, ["note 3", "note 2"], "from the time on");

    app.reset_policy("copy", LogStart::Beginning).await.unwrap();
    heard(&app, "a-copy", "note 1").await;
    world.quiet().await;
    assert_eq!(log(&app, "a-copy").await, ["note 3", "note 2", "note 1"], "each once");
}

/// An unregistered command in a policy's result is the policy's failure, and stops only its stream.
#[tokio::test(start_paused = true)]
async fn a_policy_that_returns_an_internal_command_is_parked() {
    let world = World::new();
    let app = started(world.builder(world.memory.clone()).on::<Actor, Actor, Commands>(
        "copy",
        |recorded| {
            let bad = matches!(recorded.event, Out::Did(Act::Note(13), _));
            if bad { vec![(Actor::id("x"), In::Due(Act::Nothing))] } else { copies(recorded) }
        },
    ));
    tokio::time::sleep(millis(100)).await;
    tell_to(&app, "a", Act::Note(13)).await;
    tell_to(&app, "b", Act::Note(1)).await;
    heard(&app, "b-copy", "note 1").await;
    assert!(world.dead_letter().await.error.unwrap().contains("internal"));
}

/// An event that cannot be decoded parks its own stream.
#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_decoded_is_parked_for_the_policy() {
    let world = World::new();
    let app = started(copying(world.builder(world.memory.clone())));
    tokio::time::sleep(millis(100)).await;
    let stream = Actor::id("bad").stream();
    let content = EncodedMessage {
        name: "actor.did".into(),
        version: 1,
        codec: "bincode".into(),
        bytes: vec![255; 9],
    };
    let id = EventId(Uuid::from_u128(77));
    let events = vec![NewEvent { id, content, metadata: String::new() }];
    let append = Append::new(stream.clone(), ExpectedVersion::EMPTY).with_events(events);
    let partition = world.memory.log().partition_of(&stream);
    world.memory.append_events(partition, &[append]).await.unwrap();
    tell_to(&app, "b", Act::Note(1)).await;
    heard(&app, "b-copy", "note 1").await;
    let letter = world.dead_letter().await;
    assert_eq!((letter.queue.kind, letter.message.sender), (OutboxKind::Policy, stream));
}
