//! The order of the steps of sequences.

use composable_rust_core::{Effects, after, cancel, effects, future, parallel, sequential};

use super::scripted::{Note, SECOND, note_and, notes, run, slow, store};

#[tokio::test]
async fn a_step_waits_for_all_of_the_one_before() {
    let (store, clock) = store();
    let action = run(|| {
        effects![sequential(effects![
            parallel(effects![after(SECOND, Note("1")), after(SECOND * 3, Note("3"))]),
            after(SECOND, Note("4")),
            future(async { Some(Note("at once")) }),
        ])]
    });
    store.send(action).await.unwrap();
    clock.elapse(SECOND * 3).await;
    assert_eq!(notes(&store), ["1", "3"], "the delay of the second step begins only now");
    assert_eq!(store.running(), 1);
    clock.elapse(SECOND).await;
    assert_eq!(notes(&store), ["1", "3", "4", "at once"]);
    assert_eq!(store.running(), 0);
}

#[tokio::test]
async fn a_step_ends_when_its_action_is_reduced() {
    let (store, clock) = store();
    let c = clock.clone();
    let action = run(move || {
        let c = c.clone();
        let first = note_and("first", move || effects![slow(&c, 9, "follow-up of the first")]);
        effects![sequential(effects![
            future(async move { Some(first) }),
            future(async { Some(Note("second")) }),
        ])]
    });
    let sent = store.send(action).await.unwrap();
    clock.elapse(SECOND).await;
    assert_eq!(notes(&store), ["first", "second"]);
    clock.elapse(SECOND * 9).await;
    sent.finished().await.unwrap();
    assert_eq!(notes(&store), ["first", "second", "follow-up of the first"]);
}

#[tokio::test]
async fn sequences_nest() {
    let (store, clock) = store();
    let action = run(|| {
        let inner = |a, b| sequential(effects![after(SECOND, Note(a)), after(SECOND, Note(b))]);
        effects![sequential(effects![
            parallel(effects![inner("a1", "a2"), after(SECOND * 4, Note("b"))]),
            sequential(effects![]),
            inner("c1", "c2"),
            sequential(effects![cancel("nobody"), sequential(effects![])]),
            future(async { Some(Note("d")) }),
        ])]
    });
    store.send(action).await.unwrap();
    clock.elapse(SECOND * 2).await;
    assert_eq!(notes(&store), ["a1", "a2"]);
    clock.elapse(SECOND * 2).await;
    assert_eq!(notes(&store), ["a1", "a2", "b"]);
    clock.elapse(SECOND * 2).await;
    assert_eq!(notes(&store), ["a1", "a2", "b", "c1", "c2", "d"]);
}

#[tokio::test]
async fn then_runs_the_first_effect_before_the_second() {
    let (store, clock) = store();
    let action = run(|| {
        effects![after(SECOND * 2, Note("2")), after(SECOND, Note("1"))]
            .then(effects![after(SECOND, Note("3"))])
    });
    store.send(action).await.unwrap();
    clock.elapse(SECOND * 3).await;
    assert_eq!(notes(&store), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_cancel_is_its_own_step() {
    let (store, clock) = store();
    store.send(run(|| effects![after(SECOND * 2, Note("timeout")).with_id("t")])).await.unwrap();
    let action = run(|| {
        effects![sequential(effects![
            after(SECOND, Note("work")),
            cancel("t"),
            after(SECOND * 5, Note("more work")),
        ])]
    });
    store.send(action).await.unwrap();
    clock.elapse(SECOND * 9).await;
    assert_eq!(notes(&store), ["work", "more work"]);
}

#[tokio::test]
async fn a_cancelled_step_is_finished() {
    let (store, clock) = store();
    let action = run(|| {
        effects![sequential(effects![
            after(SECOND * 9, Note("never")).with_id("wait"),
            future(async { Some(Note("next")) }),
        ])]
    });
    let sent = store.send(action).await.unwrap();
    store.send(run(|| effects![cancel("wait")])).await.unwrap();
    sent.finished().await.unwrap();
    assert_eq!(notes(&store), ["next"]);
    assert_eq!(clock.sleepers(), 0);
}

#[tokio::test]
async fn a_cancelled_sequence_ends_where_it_is() {
    let (store, clock) = store();
    let action = run(|| {
        let steps = effects![after(SECOND, Note("1")), after(SECOND, Note("2"))];
        Effects::from_iter([sequential(steps)])
            .cancellable("all")
            .then(effects![future(async { Some(Note("what comes after all")) })])
    });
    let sent = store.send(action).await.unwrap();
    clock.elapse(SECOND).await;
    store.send(run(|| effects![cancel("all")])).await.unwrap();
    sent.finished().await.unwrap();
    assert_eq!(notes(&store), ["1", "what comes after all"]);
}

#[tokio::test]
async fn no_step_of_a_cancelled_sequence_is_taken() {
    let (store, clock) = store();
    let action = run(|| {
        let steps = effects![after(SECOND, Note("1")), cancel("other")];
        Effects::from_iter([sequential(steps)]).cancellable("all")
    });
    store.send(run(|| effects![after(SECOND * 5, Note("other")).with_id("other")])).await.unwrap();
    store.send(action).await.unwrap();
    store.send(run(|| effects![cancel("all")])).await.unwrap();
    clock.elapse(SECOND * 5).await;
    assert_eq!(notes(&store), ["other"]);
}

#[tokio::test]
async fn effects_that_cancel_their_own_id_do_not_start() {
    let (store, clock) = store();
    let action = run(|| effects![cancel("self"), after(SECOND, Note("1"))].cancellable("self"));
    store.send(action).await.unwrap().finished().await.unwrap();
    clock.elapse(SECOND).await;
    assert_eq!(notes(&store), [""; 0]);
}

#[tokio::test]
async fn a_sequence_can_cancel_itself() {
    let (store, clock) = store();
    let action = run(|| {
        let steps = effects![after(SECOND, Note("1")), cancel("self"), after(SECOND, Note("2"))];
        Effects::from_iter([sequential(steps)]).cancellable("self")
    });
    let sent = store.send(action).await.unwrap();
    clock.elapse(SECOND * 3).await;
    sent.finished().await.unwrap();
    assert_eq!(notes(&store), ["1"]);
    assert_eq!(store.running(), 0);
}

#[tokio::test]
async fn a_long_sequence_does_not_overflow_the_stack() {
    let (store, _) = store();
    let action = run(|| {
        let steps = (0..100_000)
            .map(|n| if n % 2 == 0 { future(async { None }) } else { sequential(effects![]) });
        effects![sequential(steps.collect())]
    });
    store.send(action).await.unwrap().finished().await.unwrap();
}
