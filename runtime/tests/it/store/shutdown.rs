//! Shutting a store down.

use std::pin::pin;
use std::time::Duration;

use composable_rust_core::{after, cancel, effects, future, sequential};
use composable_rust_runtime::Store;
use composable_rust_runtime::reducer_store::{ActionError, EffectError};
use composable_rust_testing::MockClock;
use futures_util::poll;

use super::scripted::{Note, SECOND, Script, note_and, notes, run, settle, slow, store};

#[tokio::test]
async fn an_idle_store_shuts_down_at_once() {
    let (store, _) = store();
    store.send(Note("a")).await.unwrap();
    assert_eq!(store.shutdown(SECOND).await, 0);
    let error = store.send(Note("b")).await.unwrap_err();
    assert!(matches!(error, ActionError::Closed));
    assert_eq!(error.to_string(), "the store is shut down");
    assert_eq!(notes(&store), ["a"], "the state can still be read");
    assert_eq!(store.shutdown(SECOND).await, 0);
}

#[tokio::test]
async fn running_effects_finish_before_the_deadline() {
    let (store, clock) = store();
    let c = clock.clone();
    let action = run(move || {
        let c = c.clone();
        let more = note_and("1", move || effects![slow(&c, 1, "2")]);
        effects![after(SECOND, more)]
    });
    let sent = store.send(action).await.unwrap();
    let mut shutdown = pin!(store.shutdown(SECOND * 10));
    assert!(poll!(shutdown.as_mut()).is_pending());
    assert!(matches!(store.send(Note("x")).await, Err(ActionError::Closed)));
    clock.elapse(SECOND * 2).await;
    assert_eq!(shutdown.await, 0);
    sent.finished().await.unwrap();
    assert_eq!(notes(&store), ["1", "2"]);
}

#[tokio::test]
async fn effects_unfinished_at_the_deadline_are_cancelled() {
    let (store, clock) = store();
    let c = clock.clone();
    let action = run(move || {
        effects![
            slow(&c, 1, "in time"),
            slow(&c, 9, "late"),
            future(std::future::pending()),
            sequential(effects![slow(&c, 9, "late"), future(async { Some(Note("later")) })]),
        ]
    });
    let sent = store.send(action).await.unwrap();
    let shutdown = tokio::spawn({
        let store = store.clone();
        async move { store.shutdown(SECOND * 2).await }
    });
    settle().await;
    clock.elapse(SECOND * 20).await;
    assert_eq!(shutdown.await.unwrap(), 3);
    let error = sent.finished().await.unwrap_err();
    assert!(matches!(error, EffectError::ShutDown));
    assert_eq!(error.to_string(), "an effect was cancelled: the store was shut down");
    assert_eq!(notes(&store), ["in time"]);
    assert_eq!(store.running(), 0);
    assert_eq!(clock.sleepers(), 0);
}

#[tokio::test]
async fn a_shutdown_cancels_delays_beyond_its_deadline() {
    let (store, clock) = store();
    let action = run(|| {
        let tick = note_and("tick", || effects![after(SECOND * 60, Note("next tick"))]);
        effects![
            after(SECOND, tick),
            sequential(effects![
                after(SECOND * 60, Note("late")),
                future(async { Some(Note("must not come early")) }),
            ]),
        ]
    });
    store.send(action).await.unwrap();
    let mut shutdown = pin!(store.shutdown(SECOND * 10));
    assert!(poll!(shutdown.as_mut()).is_pending());
    clock.elapse(SECOND).await;
    assert_eq!(shutdown.await, 2, "nine seconds before the deadline");
    assert_eq!(notes(&store), ["tick"]);
}

#[tokio::test]
async fn effects_can_be_cancelled_during_a_shutdown() {
    let (store, clock) = store();
    let action = run(|| {
        let stop = note_and("stop", || effects![cancel("work")]);
        effects![after(SECOND, stop), future(std::future::pending()).with_id("work")]
    });
    store.send(action).await.unwrap();
    let mut shutdown = pin!(store.shutdown(SECOND * 10));
    assert!(poll!(shutdown.as_mut()).is_pending());
    clock.elapse(SECOND).await;
    assert_eq!(shutdown.await, 0);
}

#[tokio::test]
async fn a_shutdown_rejects_sends_that_wait_for_capacity() {
    let clock = MockClock::new();
    let store = Store::builder(Script, Vec::new(), ()).clock(clock).max_effects(1).build();
    store.send(run(|| effects![future(std::future::pending())])).await.unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.send(Note("a")).await })
        })
        .collect();
    settle().await;
    let mut shutdown = pin!(store.shutdown(SECOND));
    assert!(poll!(shutdown.as_mut()).is_pending());
    for task in waiting {
        assert!(matches!(task.await.unwrap(), Err(ActionError::Closed)));
    }
}

#[tokio::test]
async fn a_busy_future_does_not_hold_up_the_shutdown() {
    let store = Store::new(Script, Vec::new(), ());
    // It wakes itself forever, so it is aborted between two polls.
    let busy = || async {
        loop {
            tokio::task::yield_now().await;
        }
    };
    store.send(run(move || effects![future(busy())])).await.unwrap();
    assert_eq!(store.shutdown(Duration::from_millis(1)).await, 1);
}

#[test]
fn effects_end_with_the_tokio_runtime() {
    let (store, _) = store();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sent = runtime.block_on(async {
        let steps = || {
            sequential(effects![future(std::future::pending()), future(async { Some(Note("b")) })])
        };
        store.send(run(move || effects![steps()])).await.unwrap()
    });
    drop(runtime);
    assert_eq!(store.running(), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(runtime.block_on(sent.finished()), Err(EffectError::ShutDown)));
}
