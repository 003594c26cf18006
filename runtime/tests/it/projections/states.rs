//! Pausing and rebuilding.

use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::projection::ProjectionState;
use composable_rust_runtime::operations::ProjectionWaitError;
use composable_rust_runtime::settings::PoisonPolicy;
use composable_rust_testing::Fault;

use crate::account::{Account, AccountCommand as In};

use super::{
    AddUp, Model, Totals, assert_exact, deposit, failure, handle, parking::dead_letters, pass,
    process, process_with, settle, state, store,
};

#[tokio::test(start_paused = true)]
async fn a_projection_pauses_and_resumes() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    deposit(&app, "1", 1).await;
    settle(&app).await;
    handle(&app).resume().await.unwrap();
    handle(&app).pause().await.unwrap();
    pass(2).await;
    let position = deposit(&app, "1", 2).await;
    pass(60).await;
    assert_eq!(model.get().cents["1"], 1);
    let waited = handle(&app).wait_for(position, Duration::from_secs(5)).await;
    let paused = ProjectionState::Paused;
    assert!(
        matches!(&waited, Err(ProjectionWaitError::NotRunning { state }) if *state == paused),
        "{waited:?}"
    );
    // A process that starts later pauses too.
    drop(app);
    let app = process(&store, &add_up, &model);
    pass(60).await;
    assert_eq!(model.get().cents["1"], 1);
    handle(&app).resume().await.unwrap();
    handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    assert_exact(&store, &model);
}

#[tokio::test(start_paused = true)]
async fn a_pause_during_a_rebuild_persists() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    for _ in 0..50 {
        deposit(&app, "1", 1).await;
    }
    settle(&app).await;
    add_up.takes(Duration::from_millis(100));
    handle(&app).rebuild().await.unwrap();
    pass(2).await;
    handle(&app).pause().await.unwrap();
    pass(60).await;
    assert_eq!(state(&app).await, ProjectionState::Paused);
    handle(&app).rebuild().await.unwrap();
    pass(60).await;
    assert_eq!(state(&app).await, ProjectionState::Running, "rebuilding goes on");
    assert_exact(&store, &model);
}

#[tokio::test(start_paused = true)]
async fn a_paused_projection_leaves_blocked_events_alone() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, PoisonPolicy::Park);
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(60).await;
    handle(&app).pause().await.unwrap();
    add_up.poison(&[]);
    app.dead_letters().redrive(&dead_letters(&app).await[0]).await.unwrap();
    pass(60).await;
    assert_eq!(model.get(), Totals::default());
    handle(&app).resume().await.unwrap();
    settle(&app).await;
    assert_exact(&store, &model);
    assert_eq!(dead_letters(&app).await, [], "a pause is no attempt");
}

#[tokio::test(start_paused = true)]
async fn a_paused_projection_writes_nothing() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    add_up.takes(Duration::from_millis(50));
    let amounts = (1..=300).collect();
    app.handle(&Account::id("1")).send(In::Split(amounts)).await.unwrap();
    while model.get().seen.is_empty() {
        pass(1).await;
    }
    handle(&app).pause().await.unwrap();
    let paused = model.get();
    assert!(paused.seen.len() < 300);
    pass(60).await;
    assert_eq!(model.get(), paused);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_rebuild_is_still_a_rebuild() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    for _ in 0..50 {
        deposit(&app, "1", 1).await;
    }
    let last = deposit(&app, "bad", 1).await;
    settle(&app).await;
    add_up.takes(Duration::from_millis(100));
    handle(&app).rebuild().await.unwrap();
    for is_paused in [true, false] {
        if is_paused {
            handle(&app).pause().await.unwrap();
        } else {
            add_up.poison(&["bad"]);
            failure(&app).await;
        }
        handle(&app).resume().await.unwrap();
        assert_eq!(state(&app).await, ProjectionState::Rebuilding, "paused: {is_paused}");
        let waited = handle(&app).wait_for(last, Duration::from_secs(60)).await;
        assert!(matches!(waited, Err(ProjectionWaitError::NotRunning { .. })), "{waited:?}");
    }
    add_up.poison(&[]);
    pass(60).await;
    assert_eq!(state(&app).await, ProjectionState::Running);
    assert_exact(&store, &model);
    handle(&app).pause().await.unwrap();
    handle(&app).resume().await.unwrap();
    assert_eq!(state(&app).await, ProjectionState::Running, "the rebuild has finished");
}

/// A rebuild right after an event was parked, before the first checkpoint.
#[tokio::test(start_paused = true)]
async fn an_event_parked_before_a_rebuild_is_projected() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, PoisonPolicy::Park);
    pass(5).await;
    add_up.poison(&["bad"]);
    // The parking commits after a second, and the rebuild starts before anything else does.
    model.next_commits([Fault::Delay(Duration::from_secs(1))]);
    deposit(&app, "bad", 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    handle(&app).rebuild().await.unwrap();
    add_up.poison(&[]);
    pass(60).await;
    settle(&app).await;
    assert_exact(&store, &model);
}

#[tokio::test(start_paused = true)]
async fn the_positions_are_told_whenever_one_changes() {
    use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    let mut positions = std::pin::pin!(handle(&app).positions());
    let offset = |positions: &[composable_rust_core::Position]| {
        positions.iter().map(|position| position.offset).sum::<u64>()
    };
    let first = positions.try_next().await.unwrap().unwrap();
    assert!(positions.next().now_or_never().is_none(), "nothing has changed since");
    let deposited = deposit(&app, "1", 1).await;
    let mut seen = offset(&first);
    while seen < 1 {
        seen = offset(&positions.try_next().await.unwrap().unwrap());
    }
    handle(&app).wait_for(deposited, Duration::from_secs(5)).await.unwrap();
    // Another process that moves the projection is noticed too.
    drop(app);
    let app = process(&store, &add_up, &model);
    deposit(&app, "1", 2).await;
    assert_eq!(offset(&positions.try_next().await.unwrap().unwrap()), 2);
}
