//! Requests, replies, and the stack of return addresses.

use composable_rust_core::codec::Codecs;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::Outbox as _;
use composable_rust_core::store::EventStore as _;

use super::actor::{Act, Actor, ActorCommand as In};
use super::node::Mishap;
use super::world::{World, eventually, heard, log, tell_to};

fn ask(to: &str, tag: u32, act: Act) -> Act {
    Act::Ask { to: to.into(), tag, act: Box::new(act) }
}

fn later(id: &str, after: u64, act: Act) -> Act {
    Act::Later { id: Some(id.into()), after, act: Box::new(act) }
}

#[tokio::test(start_paused = true)]
async fn every_outcome_is_answered() {
    let world = World::new();
    let app = world.app();
    let acts =
        [Act::Notes(vec![1, 2]), Act::Refuse, Act::Nothing, Act::Repeat(3), Act::Notes(vec![])];
    for (tag, act) in (0..).zip(acts) {
        tell_to(&app, "a", ask("b", tag, act)).await;
    }
    for text in
        ["0: note 1", "0: note 2", "1: rejected", "2: unchanged", "3: note 3", "4: unchanged"]
    {
        heard(&app, "a", text).await;
    }
    world.quiet().await;
    assert_eq!(log(&app, "a").await.len(), 11, "{:?}", log(&app, "a").await);
    assert_eq!(log(&app, "b").await, ["note 1", "note 2"], "a repeat is not recorded");
}

#[tokio::test(start_paused = true)]
async fn replies_to_one_request_come_in_order() {
    let world = World::new();
    let app = world.app();
    tell_to(&app, "a", ask("b", 1, Act::Notes((0..50).collect()))).await;
    heard(&app, "a", "1: note 49").await;
    let expected: Vec<_> = (0..50).map(|n| format!("1: note {n}")).collect();
    assert_eq!(log(&app, "a").await[1..], expected);
}

#[tokio::test(start_paused = true)]
async fn a_told_command_sends_no_reply() {
    let world = World::new();
    let app = world.app();
    for act in [Act::Note(1), Act::Refuse, Act::Nothing, ask("c", 1, Act::Note(2))] {
        tell_to(&app, "a", Act::Tell { to: "b".into(), act: Box::new(act) }).await;
    }
    heard(&app, "b", "1: note 2").await;
    world.quiet().await;
    assert_eq!(log(&app, "a").await, ["tell"; 4]);
}

/// A handles B's later steps too: after B's own request, call and timer.
#[tokio::test(start_paused = true)]
async fn later_events_of_an_inner_saga_reach_the_outer_one() {
    let world = World::new();
    let app = world.app();
    tell_to(&app, "outer", ask("inner", 1, ask("leaf", 2, later("t", 1_000, Act::Note(7))))).await;
    heard(&app, "outer", "1: 2: note 7").await;
    let call = Act::Call { tag: 3, text: "hello".into() };
    tell_to(&app, "outer", ask("inner", 4, later("t", 1_000, call))).await;
    heard(&app, "outer", "4: 3: hello").await;
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_a_timeout_or_a_reply_is_not_forwarded() {
    let world = World::new();
    let app = world.app();
    tell_to(&app, "a", ask("b", 1, later("t", 1_000, Act::Refuse))).await;
    tell_to(&app, "a", ask("b", 2, later("u", 1_000, Act::Nothing))).await;
    heard(&app, "a", "2: later").await;
    world.quiet().await;
    let mut all = log(&app, "a").await;
    all.sort();
    assert_eq!(all, ["1: later", "2: later", "ask", "ask"]);
}

#[tokio::test(start_paused = true)]
async fn a_detached_request_ends_the_chain() {
    let world = World::new();
    let app = world.app();
    let detached = Act::AskDetached { to: "c".into(), tag: 2, act: Box::new(Act::Note(5)) };
    tell_to(&app, "a", ask("b", 1, detached)).await;
    heard(&app, "b", "2: note 5").await;
    world.quiet().await;
    assert_eq!(log(&app, "a").await, ["ask", "1: askdetached"]);
}

/// Sends as a webhook does, without a return address.
#[tokio::test(start_paused = true)]
async fn a_kept_return_address_is_answered_later() {
    let world = World::new();
    let app = world.app();
    tell_to(&app, "outer", ask("a", 1, ask("b", 2, Act::Keep))).await;
    heard(&app, "outer", "1: 2: kept").await;
    tell_to(&app, "b", Act::AnswerKept(9)).await;
    heard(&app, "a", "2: note 9").await;
    heard(&app, "outer", "1: 2: note 9").await;
    tell_to(&app, "c", Act::Keep).await;
    tell_to(&app, "c", Act::AnswerKept(1)).await;
    world.quiet().await;
    assert_eq!(log(&app, "c").await, ["kept"], "the dispatch has no return address");
}

/// Sixteen requests may be nested; the seventeenth is rejected when it would be recorded.
#[tokio::test(start_paused = true)]
async fn the_seventeenth_request_of_a_chain_is_rejected() {
    let world = World::new();
    let app = world.app();
    let chain = |length: u32| {
        (1..=length).rev().fold(Act::Note(1), |act, n| ask(&format!("{length}-{n}"), n, act))
    };
    tell_to(&app, "a", chain(16)).await;
    let all: Vec<_> = (1..=16).map(|n| n.to_string()).collect();
    heard(&app, "a", &format!("{}: note 1", all.join(": "))).await;

    tell_to(&app, "b", chain(17)).await;
    let letter = world.dead_letter().await;
    assert_eq!(letter.message.row.recipient, "actor-17-16");
    let error = letter.error.unwrap();
    assert!(error.contains("17th in a chain of requests"), "{error}");
    assert_eq!(log(&app, "17-16").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn three_instances_of_one_target_and_two_requests_to_one() {
    let world = World::new();
    let app = world.app();
    let all = [("x", 1, 10), ("y", 2, 20), ("z", 3, 30), ("x", 4, 40), ("x", 5, 50)];
    let acts = all.map(|(to, tag, n)| (to.to_owned(), tag, Act::Note(n)));
    tell_to(&app, "a", Act::AskAll(acts.to_vec())).await;
    for (_, tag, n) in all {
        heard(&app, "a", &format!("{tag}: note {n}")).await;
    }
    world.quiet().await;
    assert_eq!(log(&app, "a").await.len(), 6);
    assert_eq!(log(&app, "x").await, ["note 10", "note 40", "note 50"]);
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_command_is_handled_once() {
    let world = World::new();
    let (node, app) = world.node();
    // The response to the settlement is lost, and the process dies: the row is still queued.
    node.next("settle", [Mishap::FailsBefore; 3]);
    tell_to(&app, "a", ask("b", 1, Act::Note(1))).await;
    eventually("b has handled it", async || !log(&app, "b").await.is_empty()).await;
    node.crash();
    let other = world.app();
    heard(&other, "a", "1: note 1").await;
    world.quiet().await;
    assert_eq!(log(&other, "b").await, ["note 1"]);
    assert_eq!(log(&other, "a").await, ["ask", "1: note 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_queued_twice_is_handled_once() {
    let world = World::new();
    let app = world.app();
    let content = Codecs::default().encode(&Actor::id("b").stream(), &In::Do(Act::Note(1)));
    let row = world.row("x", "b", content.unwrap());
    for _ in 0..3 {
        let partition = world.memory.log().partition_of(&row.sender);
        world.memory.enqueue(partition, &[row.clone(), row.clone()], None).await.unwrap();
    }
    world.quiet().await;
    assert_eq!(log(&app, "b").await, ["note 1"]);
}

/// A reply or timeout to an instance without events, or to a finished one, is decided like any
/// other message.
#[tokio::test(start_paused = true)]
async fn replies_reach_new_and_finished_instances() {
    let world = World::new();
    let app = world.app();
    tell_to(&app, "a", ask("b", 1, later("t", 1_000, Act::Note(1)))).await;
    tell_to(&app, "a", Act::End).await;
    heard(&app, "a", "1: note 1").await;
    // A dispatch without an event leaves its sender without events.
    let silent = Act::AskSilently { to: "b".into(), tag: 2, act: Box::new(Act::Note(2)) };
    tell_to(&app, "new", silent).await;
    heard(&app, "new", "2: note 2").await;
    assert_eq!(log(&app, "new").await, ["2: note 2"]);
}
