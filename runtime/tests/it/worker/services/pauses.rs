//! A paused log: commands are handled, their effects rest.

use composable_rust_core::queue::{Leases as _, Pause};

use super::super::world::{eventually, millis, started};
use super::{Errand, Line, ask_back, back, front, front_heard, send, world_of};
use crate::logged::Logged;

#[tokio::test(start_paused = true)]
async fn workers_rest_until_the_pause_ends() {
    let (line, at_front, at_back) = (Line::new(), world_of(1), world_of(2));
    let back = started(back(&at_back, &line));
    back.pause().await.unwrap();
    // A running process notices the pause, and a process that starts later does not begin.
    tokio::time::sleep(millis(10_000)).await;
    at_front.memory.pause(Pause::LOG, None).await.unwrap();
    let front = front(&at_front, at_front.memory.clone(), &line, false);
    send(&front, "1", ask_back("2", 7, Errand::Note(1))).await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(at_front.memory.outbox().len(), 1, "the question is not sent");
    assert!(line.bus.messages("front-events").is_empty());

    front.resume().await.unwrap();
    eventually("it is sent", async || at_front.memory.outbox().is_empty()).await;
    eventually("its event is published", async || !line.bus.messages("front-events").is_empty())
        .await;
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(line.bus.messages("back-commands").len(), 1);
    assert!(at_back.memory.outbox().is_empty(), "the message stays on the bus");

    back.resume().await.unwrap();
    front_heard(&front, "1", "7: note 1").await;
}

/// Resting messages must not be discarded.
#[tokio::test(start_paused = true)]
async fn queues_of_a_paused_log_log_no_missing_worker() {
    let logged = Logged::begin();
    let (line, at_front) = (Line::new(), world_of(1));
    at_front.memory.pause(Pause::LOG, None).await.unwrap();
    let front = front(&at_front, at_front.memory.clone(), &line, false);
    send(&front, "1", ask_back("2", 7, Errand::Note(1))).await;
    send(&front, "1", Errand::Later(1, Box::new(Errand::Note(2)))).await;
    tokio::time::sleep(millis(300_000)).await;
    assert!(front.queues().all().await.unwrap().len() >= 2, "a row and a timer wait");
    front.resume().await.unwrap();
    tokio::time::sleep(millis(100_000)).await;
    assert_eq!(logged.lines("no running process works this queue"), [""; 0]);
}
