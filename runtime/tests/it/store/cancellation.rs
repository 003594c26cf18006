//! Cancelling and replacing effects by id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use composable_rust_core::{Effects, after, cancel, effects, future, parallel, sequential};

use super::scripted::{Note, SECOND, note_and, notes, run, settle, slow, store};

#[tokio::test]
async fn a_delay_is_cancelled_by_its_id() {
    let (store, clock) = store();
    let sent = store
        .send(run(|| effects![after(SECOND, Note("a")).with_id("a"), after(SECOND, Note("b"))]))
        .await
        .unwrap();
    store.send(run(|| effects![cancel("a"), cancel("nobody")])).await.unwrap();
    clock.elapse(SECOND).await;
    sent.finished().await.unwrap();
    assert_eq!(notes(&store), ["b"]);
}

#[tokio::test]
async fn an_effect_replaces_the_running_effect_of_the_same_id() {
    let (store, clock) = store();
    let c = clock.clone();
    store.send(run(|| effects![after(SECOND, Note("delay")).with_id("x")])).await.unwrap();
    store.send(run(move || effects![slow(&c, 2, "future").with_id("x")])).await.unwrap();
    store.send(run(|| effects![after(SECOND * 3, Note("last")).with_id("x")])).await.unwrap();
    clock.elapse(SECOND * 9).await;
    assert_eq!(notes(&store), ["last"]);
}

#[tokio::test]
async fn effects_of_one_action_start_in_their_order() {
    let (store, clock) = store();
    let action = run(|| {
        effects![
            after(SECOND, Note("replaced")).with_id("a"),
            after(SECOND, Note("a")).with_id("a"),
            after(SECOND, Note("cancelled")).with_id("b"),
            cancel("b"),
            cancel("c"),
            after(SECOND, Note("c")).with_id("c"),
        ]
    });
    store.send(action).await.unwrap();
    clock.elapse(SECOND).await;
    assert_eq!(notes(&store), ["a", "c"]);
}

#[tokio::test]
async fn an_id_covers_all_nested_effects() {
    let (store, clock) = store();
    let c = clock.clone();
    let action = run(move || {
        let inner = parallel(effects![slow(&c, 2, "inner"), slow(&c, 2, "inner")]).with_id("inner");
        effects![slow(&c, 1, "outer"), inner].cancellable("outer")
    });
    store.send(action.clone()).await.unwrap();
    store.send(run(|| effects![cancel("inner")])).await.unwrap();
    clock.elapse(SECOND * 9).await;
    assert_eq!(notes(&store), ["outer"], "cancelling the inner one spares the outer");

    store.send(action).await.unwrap();
    store.send(run(|| effects![cancel("outer")])).await.unwrap();
    clock.elapse(SECOND * 9).await;
    assert_eq!(notes(&store), ["outer"], "cancelling the outer one includes the inner");
    assert_eq!(clock.sleepers(), 0);
}

#[tokio::test]
async fn an_id_nested_in_itself_counts_once() {
    let (store, clock) = store();
    let action = run(|| {
        effects![after(SECOND, Note("a")).with_id("x"), after(SECOND, Note("b")).with_id("x")]
            .cancellable("x")
    });
    store.send(action).await.unwrap();
    clock.elapse(SECOND).await;
    assert_eq!(notes(&store), ["a", "b"]);
}

#[tokio::test]
async fn an_id_nested_in_itself_keeps_the_ids_between() {
    let (store, clock) = store();
    let c = clock.clone();
    let action = run(move || {
        // No effect starts under the inner "c", which must not make the store forget the outer one.
        let empty = parallel(Effects::none()).with_id("c");
        let inner = slow(&c, 1, "work").with_id("b").with_id("c").with_id("b");
        effects![sequential(effects![parallel(effects![empty, inner])])]
    });
    store.send(action).await.unwrap();
    store.send(run(|| effects![cancel("c")])).await.unwrap();
    clock.elapse(SECOND * 2).await;
    assert_eq!(notes(&store), [""; 0]);
}

#[tokio::test]
async fn an_id_is_released_when_its_effect_ends() {
    let (store, clock) = store();
    for round in ["1", "2", "3"] {
        store.send(run(move || effects![after(SECOND, Note(round)).with_id("x")])).await.unwrap();
        clock.elapse(SECOND).await;
    }
    assert_eq!(notes(&store), ["1", "2", "3"]);
}

#[tokio::test]
async fn effects_outlive_the_effect_whose_action_started_them() {
    let (store, clock) = store();
    let action = run(|| {
        let brought = note_and("brought", || effects![after(SECOND, Note("follow-up"))]);
        effects![future(async move { Some(brought) }).with_id("x")]
    });
    store.send(action).await.unwrap();
    settle().await;
    store.send(run(|| effects![cancel("x")])).await.unwrap();
    clock.elapse(SECOND).await;
    assert_eq!(notes(&store), ["brought", "follow-up"]);
}

/// Reports its drop.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_cancelled_future_is_dropped_before_it_counts_as_finished() {
    let (store, _) = store();
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dropped);
    let action = run(move || {
        let guard = OnDrop(Arc::clone(&flag));
        let for_ever = async move {
            std::future::pending::<()>().await;
            drop(guard);
            None
        };
        effects![future(for_ever).with_id("x")]
    });
    let sent = store.send(action).await.unwrap();
    store.send(run(|| effects![cancel("x")])).await.unwrap();
    sent.finished().await.unwrap();
    assert!(dropped.load(Ordering::SeqCst));
}

/// Threads race: effects end while they are cancelled. An effect cancelled before it returned its
/// action must not return it afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancelled_effect_returns_no_action() {
    use composable_rust_core::{Effects, Reducer};
    use composable_rust_runtime::Store;

    struct Race;

    #[derive(Clone)]
    enum Move {
        Start,
        Cancel,
        Back(usize),
    }

    #[derive(Clone, Default)]
    struct Field {
        round: usize,
        cancelled: bool,
        came_late: usize,
        came: usize,
    }

    impl Reducer for Race {
        type State = Field;
        type Action = Move;
        type Environment = Arc<AtomicUsize>;

        fn reduce(
            &self,
            field: &mut Field,
            action: Move,
            spins: &Self::Environment,
        ) -> Effects<Move> {
            match action {
                Move::Start => {
                    field.round += 1;
                    field.cancelled = false;
                    let (round, spins) = (field.round, Arc::clone(spins));
                    let work = async move {
                        for _ in 0..spins.fetch_add(1, Ordering::Relaxed) % 40 {
                            tokio::task::yield_now().await;
                        }
                        Some(Move::Back(round))
                    };
                    effects![future(work).with_id("work")]
                }
                Move::Cancel => {
                    field.cancelled = true;
                    effects![cancel("work")]
                }
                Move::Back(round) => {
                    field.came += 1;
                    field.came_late += usize::from(field.cancelled || round != field.round);
                    effects![]
                }
            }
        }
    }

    let store = Store::new(Race, Field::default(), Arc::default());
    for _ in 0..5_000 {
        let sent = store.send(Move::Start).await.unwrap();
        tokio::task::yield_now().await;
        store.send(Move::Cancel).await.unwrap();
        drop(sent);
    }
    let (came, late) = store.state(|field| (field.came, field.came_late));
    assert_eq!(late, 0);
    assert!(came < 5_000, "some must have been cancelled for the test to show anything");
}
