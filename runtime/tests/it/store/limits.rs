//! Back-pressure, subscriptions, and waiting for a state.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use composable_rust_core::{after, effects, future};
use composable_rust_runtime::Store;
use composable_rust_runtime::reducer_store::{ActionError, Lagged, StoreClosed};
use composable_rust_testing::MockClock;
use futures_util::{StreamExt as _, poll};

use super::scripted::{Action, Note, SECOND, Script, note_and, notes, run, settle, store};

fn narrow(limit: usize) -> (Store<Script>, MockClock) {
    let clock = MockClock::new();
    let builder = Store::builder(Script, Vec::new(), ()).clock(clock.clone());
    (builder.max_effects(limit).build(), clock)
}

fn delayed(note: &'static str) -> Action {
    run(move || effects![after(SECOND, Note(note))])
}

#[tokio::test]
async fn send_waits_for_capacity() {
    let (store, clock) = narrow(2);
    store.send(delayed("1")).await.unwrap();
    store.send(delayed("2")).await.unwrap();
    let mut third = pin!(store.send(delayed("3")));
    let mut fourth = pin!(store.send(Note("no effects")));
    assert!(poll!(third.as_mut()).is_pending());
    assert!(poll!(fourth.as_mut()).is_pending());
    assert_eq!(notes(&store), [""; 0]);
    clock.elapse(SECOND).await;
    third.await.unwrap();
    fourth.await.unwrap();
    assert_eq!(notes(&store), ["1", "2", "no effects"]);
    assert_eq!(store.running(), 1);
}

#[tokio::test]
async fn a_waiting_send_proceeds_when_the_one_before_frees_capacity() {
    let (store, clock) = narrow(1);
    store.send(delayed("1")).await.unwrap();
    let waiting: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|note| {
            let store = store.clone();
            tokio::spawn(async move { store.send(Note(note)).await.map(drop) })
        })
        .collect();
    settle().await;
    clock.elapse(SECOND).await;
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert_eq!(notes(&store), ["1", "a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_cancelled_send_passes_its_turn_on() {
    let (store, clock) = narrow(1);
    store.send(delayed("1")).await.unwrap();
    let mut second = pin!(store.send(Note("2")));
    assert!(poll!(second.as_mut()).is_pending());
    {
        let mut given_up = Box::pin(store.send(Note("never")));
        assert!(poll!(given_up.as_mut()).is_pending());
    }
    let mut third = Box::pin(store.send(Note("3")));
    assert!(poll!(third.as_mut()).is_pending());
    clock.elapse(SECOND).await;
    second.await.unwrap();
    third.await.unwrap();
    assert_eq!(notes(&store), ["1", "2", "3"]);
}

#[tokio::test]
async fn returned_actions_bypass_the_capacity_limit() {
    let (store, clock) = narrow(1);
    let action = run(|| {
        let second = note_and("second", || {
            effects![future(async { Some(Note("third")) }), after(SECOND, Note("fourth"))]
        });
        effects![future(async move { Some(second) }), after(SECOND * 2, Note("fifth"))]
    });
    let sent = store.send(action).await.unwrap();
    assert_eq!(store.running(), 2, "the effects of one action start together");
    clock.elapse(SECOND * 2).await;
    sent.finished().await.unwrap();
    assert_eq!(notes(&store), ["second", "third", "fourth", "fifth"]);
    store.send(Note("room again")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_senders_share_a_store_of_small_capacity() {
    let store = Store::builder(Script, Vec::new(), ()).max_effects(3).build();
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..500 {
                    let action = if n % 3 == 0 {
                        Note("x")
                    } else {
                        run(|| {
                            effects![future(async {
                                tokio::task::yield_now().await;
                                Some(Note("x"))
                            })]
                        })
                    };
                    store.send(action).await.unwrap();
                    // Eight senders, each of which can proceed while two effects run.
                    assert!(store.running() <= 3);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    store.shutdown(SECOND * 60).await;
    assert_eq!(notes(&store).len(), 8 * 500);
}

#[tokio::test]
async fn subscribers_see_every_action_in_order() {
    let (store, _) = store();
    store.send(Note("before")).await.unwrap();
    let mut actions = store.actions();
    let mut others = store.actions();
    let action = note_and("a", || effects![future(async { Some(Note("b")) })]);
    store.send(action).await.unwrap().finished().await.unwrap();
    store.send(super::scripted::Panic).await.unwrap_err();
    store.shutdown(SECOND).await;
    for subscription in [&mut actions, &mut others] {
        let mut seen = Vec::new();
        while let Some(action) = subscription.next().await {
            match action.unwrap() {
                Note(note) | Action::Run(note, _) => seen.push(note),
                Action::Panic => seen.push("the one that panicked"),
            }
        }
        assert_eq!(seen, ["a", "b"]);
    }
}

#[tokio::test]
async fn a_slow_subscriber_receives_the_number_of_lost_actions() {
    let store = Store::builder(Script, Vec::new(), ()).subscription_buffer(4).build();
    let mut actions = store.actions();
    for note in ["1", "2", "3", "4", "5", "6"] {
        store.send(Note(note)).await.unwrap();
    }
    let lagged = actions.next().await.unwrap().err().unwrap();
    assert_eq!(lagged, Lagged(2));
    assert_eq!(lagged.to_string(), "the subscriber lags: 2 items were lost");
    assert!(matches!(actions.next().await, Some(Ok(Note("3")))));
}

#[tokio::test]
async fn a_dropped_subscriber_is_removed() {
    let counted = Arc::new(());
    let (store, _) = store();
    let held = Arc::clone(&counted);
    let action = run(move || {
        let _ = &held;
        effects![]
    });
    drop(store.actions());
    store.send(action.clone()).await.unwrap();
    store.send(action.clone()).await.unwrap();
    drop(action);
    assert_eq!(Arc::strong_count(&counted), 1, "no clone of the actions remains");
}

#[tokio::test]
async fn wait_completes_when_its_condition_holds() {
    let (store, clock) = store();
    store
        .send(run(|| effects![after(SECOND, Note("1")), after(SECOND * 2, Note("2"))]))
        .await
        .unwrap();
    let mut waits = pin!(store.wait(|notes| notes.len() == 2));
    assert!(poll!(waits.as_mut()).is_pending());
    clock.elapse(SECOND).await;
    assert!(poll!(waits.as_mut()).is_pending());
    clock.elapse(SECOND).await;
    waits.await.unwrap();
    store.wait(|notes| notes.len() == 2).await.unwrap();
}

#[tokio::test]
async fn wait_ends_with_the_store() {
    let (store, _) = store();
    let mut waits = pin!(store.wait(|notes| notes.len() == 2));
    assert!(poll!(waits.as_mut()).is_pending());
    store.shutdown(SECOND).await;
    assert_eq!(waits.await, Err(StoreClosed));
    assert_eq!(store.wait(|notes| notes.len() == 2).await, Err(StoreClosed));
    store.wait(Vec::is_empty).await.unwrap();
}

#[test]
fn the_futures_of_a_store_are_send() {
    fn assert_send<T: Send>(_: impl Future<Output = T> + Send) {}
    let (store, _) = store();
    assert_send(store.send(Note("a")));
    assert_send(store.wait(|_| true));
    assert_send(store.shutdown(SECOND));
    assert_send(async {
        store.send(Note("a")).await?.finished().await.map_err(|_| ActionError::Closed)
    });
}
