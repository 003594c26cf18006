//! Messages that only newer code can handle wait for it.

use composable_rust_core::Metadata;
use composable_rust_core::codec::{Codecs, EncodedMessage};
use composable_rust_core::message::{InReplyTo, ReplyOutcome, Tag};
use composable_rust_core::prelude::*;
use composable_rust_core::queue::Outbox as _;
use composable_rust_core::store::EventStore as _;

use super::actor::{Act, Actor, ActorCommand as In};
use super::node::{Mishap, NodeProcess};
use super::world::{World, eventually, heard, millis, started, tell_to};
use crate::till::{NewTill, OldTill, OldTillCommand};

/// A name that only newer code knows waits and is not parked; other messages are handled.
#[tokio::test(start_paused = true)]
async fn a_command_of_newer_code_waits() {
    let world = World::new();
    let app = world.app();
    let content = EncodedMessage {
        name: "actor.future".into(),
        version: 1,
        codec: "bincode".into(),
        bytes: Vec::new(),
    };
    let row = world.row("a", "b", content);
    let partition = world.memory.log().partition_of(&row.sender);
    world.memory.enqueue(partition, &[row], None).await.unwrap();
    for n in 0..20 {
        tokio::time::sleep(millis(2_500)).await;
        let begun = tokio::time::Instant::now();
        tell_to(&app, "a", Act::Ask { to: "c".into(), tag: n, act: Box::new(Act::Note(1)) }).await;
        heard(&app, "a", &format!("{n}: note 1")).await;
        assert!(begun.elapsed() < millis(500), "{:?}", begun.elapsed());
    }
    assert_eq!(world.memory.outbox().len(), 1);
    assert!(world.dead_letters().await.is_empty());
}

/// Two processes that both meet unknown messages do not hand the queue back and forth: one of them
/// works on it at any time.
#[tokio::test(start_paused = true)]
async fn two_processes_with_unknown_messages_handle_all_others() {
    let world = World::new();
    let apps = [world.app(), world.app()];
    tokio::time::sleep(millis(20_000)).await;
    for sender in 0..12 {
        let content = EncodedMessage {
            name: format!("actor.future{sender}").into(),
            version: 1,
            codec: "bincode".into(),
            bytes: Vec::new(),
        };
        let row = world.row(&format!("x{sender}"), "b", content);
        let partition = world.memory.log().partition_of(&row.sender);
        world.memory.enqueue(partition, &[row], None).await.unwrap();
    }
    for n in 0..100 {
        tokio::time::sleep(millis(2_500)).await;
        for sender in ["a", "c", "d", "e"] {
            let begun = tokio::time::Instant::now();
            let act = Act::Ask { to: "y".into(), tag: n, act: Box::new(Act::Note(1)) };
            tell_to(&apps[0], sender, act).await;
            heard(&apps[0], sender, &format!("{n}: note 1")).await;
            assert!(begun.elapsed() < millis(10_000), "{n} {sender}: {:?}", begun.elapsed());
        }
    }
    assert_eq!(world.memory.outbox().len(), 12);
    assert!(world.dead_letters().await.is_empty());
}

/// Newer code rejected it, and crashed before the settlement.
#[tokio::test(start_paused = true)]
async fn a_handled_command_needs_no_decodable_reply() {
    let world = World::new();
    let node = NodeProcess::start(world.memory.clone());
    node.next("settle", [Mishap::CrashesBefore]);
    let newer = started(world.builder(node.clone()).aggregate::<NewTill>(()));
    let recipient = NewTill::id("1").stream();
    let command = OldTillCommand::Add { cents: 2_000 };
    let mut row = world.row("a", "b", Codecs::default().encode(&recipient, &command).unwrap());
    (row.row.target, row.row.recipient) = ("till".to_owned(), recipient.to_string());
    let mut metadata: Metadata = serde_json::from_str(&row.row.metadata).unwrap();
    metadata.return_addresses.clear();
    row.row.metadata = serde_json::to_string(&metadata).unwrap();
    let partition = world.memory.log().partition_of(&row.sender);
    world.memory.enqueue(partition, &[row], None).await.unwrap();
    eventually("it is handled", async || node.counts().contains_key("settle")).await;
    assert_eq!(world.memory.outbox().len(), 1);

    let older = started(world.builder(world.memory.clone()).aggregate::<OldTill>(()));
    eventually("the row goes", async || world.memory.outbox().is_empty()).await;
    assert!(world.dead_letters().await.is_empty());
    drop((newer, older));
}

/// Metadata with fields of newer code is not taken for erased metadata.
#[tokio::test(start_paused = true)]
async fn a_message_with_metadata_of_newer_code_waits() {
    let world = World::new();
    let app = world.app();
    let reply = Codecs::default().encode(&Actor::id("b").stream(), &In::Do(Act::Note(2)));
    let mut row = world.row("b", "a", reply.unwrap());
    let mut metadata: Metadata = serde_json::from_str(&row.row.metadata).unwrap();
    let tag = Tag { variant: "actor.heard".into(), version: 1, fields: 1, value: "1".into() };
    let (from, outcome) = ("actor".to_owned(), ReplyOutcome::Unchanged);
    metadata.reply = Some(InReplyTo { from, outcome, tag, seal: None });
    let text = serde_json::to_string(&metadata).unwrap();
    row.row.metadata = text.replace("\"unchanged\"", "\"postponed\"");
    let partition = world.memory.log().partition_of(&row.sender);
    world.memory.enqueue(partition, &[row], None).await.unwrap();
    tell_to(&app, "c", Act::Ask { to: "d".into(), tag: 1, act: Box::new(Act::Note(1)) }).await;
    heard(&app, "c", "1: note 1").await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(world.memory.outbox().len(), 1);
    assert!(world.dead_letters().await.is_empty());
}

/// A reply with a tag that only newer code knows waits and is not parked.
#[tokio::test(start_paused = true)]
async fn a_reply_with_a_tag_of_newer_code_waits() {
    let unknown =
        [("actor.heard", 1, "\"later\""), ("actor.heard", 2, "1"), ("actor.felt", 1, "1")];
    for (variant, version, value) in unknown {
        let world = World::new();
        let app = world.app();
        let command = Codecs::default().encode(&Actor::id("b").stream(), &In::Do(Act::Note(2)));
        let mut row = world.row("b", "a", command.unwrap());
        let mut metadata: Metadata = serde_json::from_str(&row.row.metadata).unwrap();
        let tag = Tag { variant: variant.into(), version, fields: 1, value: value.into() };
        let from = "actor".to_owned();
        let outcome = ReplyOutcome::Unchanged;
        metadata.reply = Some(InReplyTo { from, outcome, tag, seal: None });
        metadata.return_addresses.clear();
        row.row.metadata = serde_json::to_string(&metadata).unwrap();
        let partition = world.memory.log().partition_of(&row.sender);
        world.memory.enqueue(partition, &[row], None).await.unwrap();
        tokio::time::sleep(millis(60_000)).await;
        assert_eq!(world.memory.outbox().len(), 1, "{variant} {version}");
        assert!(world.dead_letters().await.is_empty());
        tell_to(&app, "a", Act::Ask { to: "c".into(), tag: 1, act: Box::new(Act::Note(1)) }).await;
        heard(&app, "a", "1: note 1").await;
    }
}
