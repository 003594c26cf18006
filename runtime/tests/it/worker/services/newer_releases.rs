//! Messages of newer releases, and processes of different releases.

use composable_rust_core::bus::BusMessage;
use serde_json::json;

use super::super::world::{PATIENCE, eventually, millis, started};
use super::forged_messages::{asked, back_state, forged, front_state, letters, publish, with};
use super::{
    Back, Errand, Front, Line, Services, ask_back, ask_front, back, front, front_heard, send,
    world_of,
};

/// A later envelope waits for newer code, and its sender's messages to the same recipient wait
/// behind it.
#[tokio::test(start_paused = true)]
async fn a_later_envelope_waits_for_newer_code_in_order() {
    let Services { front, back, line, at_back, .. } = asked(false).await;
    let good = line.bus.messages("back-commands").remove(0);
    let told = |n| forged(&good, n, |m| m["return_addresses"] = json!([]));
    publish(&line, [with(&told(1), "ce_envelope", "2"), told(2)]).await;
    eventually("both wait", async || at_back.memory.outbox().len() == 2).await;
    send(&front, "2", ask_back("1", 2, Errand::Note(6))).await;
    front_heard(&front, "2", "2: note 6").await;
    tokio::time::sleep(millis(120_000)).await;
    assert_eq!(at_back.memory.outbox().len(), 2);
    assert!(at_back.dead_letters().await.is_empty());
    assert_eq!(back_state(&back, "1").await, ["note 5", "note 6"]);
}

/// A reply with an outcome that only newer code knows waits, as it would here.
#[tokio::test(start_paused = true)]
async fn a_reply_with_a_newer_outcome_waits_for_newer_code() {
    let Services { front, line, at_front, .. } = asked(false).await;
    let good = line.bus.messages("front-commands").remove(0);
    let later = |n, outcome: &str| forged(&good, n, |m| m["reply"]["outcome"] = outcome.into());
    let named = |name: &str| forged(&good, 3, |m| m["reply"]["from"] = name.into());
    let unreadable = named(&"x".repeat(1_000));
    let messages =
        [later(2, &"x".repeat(1_000)), later(1, "postponed"), unreadable, named("a\0b-")];
    publish(&line, messages).await;
    let letters = letters(&at_front, 3).await;
    let mut errors = letters.iter().map(|letter| letter.error.as_ref().unwrap());
    assert!(errors.any(|error| error.contains("the header `ce_metadata` is invalid")));
    assert_eq!(at_front.memory.outbox().len(), 1);
    assert_eq!(front.unknown_messages()[0].what, "the outcome `postponed` of a reply");
    assert_eq!(front_state(&front, "1").await, ["asks", "1: note 5"]);
}

/// A message that one process lets wait is not overtaken when another process takes over.
#[tokio::test(start_paused = true)]
async fn waiting_messages_are_not_overtaken_after_a_rebalance() {
    let Services { front: _front, back: first, line, at_back, .. } = asked(false).await;
    let good = line.bus.messages("back-commands").remove(0);
    let told = |n: u128, key: u128| {
        let told = forged(&good, n, |m| m["return_addresses"] = json!([]));
        let (sender, recipient) = (format!("front-{key}"), format!("back-{key}"));
        let told = with(&with(&told, "ce_sender", &sender), "ce_subject", &recipient);
        BusMessage { key: recipient, ..told }
    };
    let second = started(back(&at_back, &line));
    tokio::time::sleep(millis(60_000)).await;
    // Neither process knows of a waiting message.
    publish(&line, (10..26).map(|key| told(key, key))).await;
    for key in 10..26 {
        let id = key.to_string();
        eventually("they are handled", async || back_state(&second, &id).await.len() == 1).await;
    }
    publish(&line, (10..26).map(|key| with(&told(100 + key, key), "ce_envelope", "2"))).await;
    eventually("they wait", async || at_back.memory.outbox().len() == 16).await;
    assert!(first.shutdown(PATIENCE).await);
    publish(&line, (10..26).map(|key| told(200 + key, key))).await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(at_back.memory.outbox().len(), 32);
    for key in 10..26 {
        assert_eq!(back_state(&second, &key.to_string()).await.len(), 1, "{key}");
    }
}

/// In a rolling deploy that adds `.serve`, older processes receive commands that only newer ones
/// serve.
#[tokio::test(start_paused = true)]
async fn commands_of_a_served_type_are_rejected_by_no_process() {
    let (line, at_front, at_back) = (Line::new(), world_of(1), world_of(2));
    let old = front(&at_front, at_front.memory.clone(), &line, false);
    let _back = started(back(&at_back, &line));
    let new = front(&at_front, at_front.memory.clone(), &line, true);
    tokio::time::sleep(millis(60_000)).await;
    for n in 0..20 {
        let leaf = ask_front(&format!("leaf{n}"), 2, Errand::Note(n));
        send(&new, "1", ask_back(&n.to_string(), n, leaf)).await;
    }
    for n in 0..20 {
        front_heard(&old, "1", &format!("{n}: 2: note {n}")).await;
    }
}

/// If no process serves the type for a while, its commands wait for the return of one.
#[tokio::test(start_paused = true)]
async fn commands_wait_for_the_return_of_processes_of_their_type() {
    let (line, at_front, at_back) = (Line::new(), world_of(1), world_of(2));
    let _back = started(back(&at_back, &line));
    let serving = front(&at_front, at_front.memory.clone(), &line, true);
    let ask =
        |n: u32| ask_back(&n.to_string(), n, ask_front(&format!("leaf{n}"), n, Errand::Note(n)));
    send(&serving, "1", ask(1)).await;
    front_heard(&serving, "1", "1: 1: note 1").await;
    assert!(serving.shutdown(PATIENCE).await);
    let asking = front(&at_front, at_front.memory.clone(), &line, false);
    for n in 2..5 {
        send(&asking, "1", ask(n)).await;
    }
    tokio::time::sleep(millis(60_000)).await;
    assert!(at_front.dead_letters().await.is_empty());
    let serving = front(&at_front, at_front.memory.clone(), &line, true);
    for n in 2..5 {
        front_heard(&asking, "1", &format!("{n}: {n}: note {n}")).await;
    }
    // A pause takes some time to end everywhere.
    serving.pause().await.unwrap();
    send(&asking, "1", ask(5)).await;
    tokio::time::sleep(millis(60_000)).await;
    serving.resume().await.unwrap();
    front_heard(&asking, "1", "5: 5: note 5").await;
    // Not forever: the type may be served no more.
    assert!(serving.shutdown(PATIENCE).await);
    send(&asking, "1", ask(6)).await;
    tokio::time::sleep(millis(60_000)).await;
    assert!(!front_state(&asking, "1").await.contains(&"6: 6: undelivered".to_owned()));
    tokio::time::sleep(millis(600_000)).await;
    front_heard(&asking, "1", "6: 6: undelivered").await;
}

/// Replies to earlier requests are delivered, though the code no longer has remote targets.
#[tokio::test(start_paused = true)]
async fn pending_replies_reach_code_without_remote_targets() {
    let (line, at_front, at_back) = (Line::new(), world_of(1), world_of(2));
    let old = front(&at_front, at_front.memory.clone(), &line, false);
    send(&old, "1", ask_back("1", 1, Errand::Note(5))).await;
    eventually("it has left", async || line.bus.messages("back-commands").len() == 1).await;
    assert!(old.shutdown(PATIENCE).await);
    let new = at_front.bare_builder(at_front.memory.clone());
    let new = new.event_bus(line.clone()).aggregate::<Front>(()).elsewhere::<Back>();
    let new = started(new);
    let _back = started(back(&at_back, &line));
    front_heard(&new, "1", "1: note 5").await;
}
