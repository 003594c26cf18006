//! Projections of erased events.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_runtime::settings::PoisonPolicy;

use crate::account::Account;

use super::{
    AddUp, Model, deposit, handle, parking::dead_letters, pass, process, process_with, settle,
    store,
};

#[tokio::test(start_paused = true)]
async fn erasures_reach_the_projection() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process(&store, &add_up, &model);
    for id in ["1", "2"] {
        deposit(&app, id, 5).await;
        deposit(&app, id, 5).await;
    }
    settle(&app).await;
    let account = app.handle(&Account::id("1"));
    assert_eq!(account.erase().await.unwrap(), 2);
    settle(&app).await;
    let totals = model.get();
    assert_eq!(
        totals.cents,
        BTreeMap::from([("2".to_owned(), 10)]),
        "the projection was past the erased events"
    );
    assert_eq!(totals.erased, [account.id().stream()]);

    deposit(&app, "1", 1).await;
    handle(&app).rebuild().await.unwrap();
    pass(5).await;
    settle(&app).await;
    let totals = model.get();
    assert_eq!(totals.cents, BTreeMap::from([("1".to_owned(), 1), ("2".to_owned(), 10)]));
    assert_eq!(totals.erased, vec![account.id().stream(); 3]);
}

#[tokio::test(start_paused = true)]
async fn erasures_reach_the_projection_in_log_order() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, PoisonPolicy::Park);
    deposit(&app, "bad", 1).await;
    settle(&app).await;
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 2).await;
    pass(1).await;
    app.handle(&Account::id("bad")).erase().await.unwrap();
    deposit(&app, "bad", 4).await;
    pass(1).await;
    add_up.poison(&[]);
    settle(&app).await;
    assert_eq!(model.get().cents["bad"], 4, "the failed event is gone, later ones are projected");
    assert!(!model.get().erased.is_empty());
}

#[tokio::test(start_paused = true)]
async fn erasing_a_stream_with_dead_letters_reaches_the_read_model() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, PoisonPolicy::Park);
    deposit(&app, "bad", 1).await;
    settle(&app).await;
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 2).await;
    deposit(&app, "bad", 4).await;
    pass(60).await;
    assert_eq!(dead_letters(&app).await.len(), 2);

    let bad = app.handle(&Account::id("bad"));
    bad.erase().await.unwrap();
    settle(&app).await;
    assert_eq!(model.get().cents.get("bad"), None);
    assert_eq!(model.get().erased, [bad.id().stream()]);
    // Later events are not blocked, and the dead letters are obsolete.
    add_up.poison(&[]);
    let position = deposit(&app, "bad", 8).await;
    handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    for letter in dead_letters(&app).await {
        // The events behind it went back into the queue with it.
        let _ = app.dead_letters().redrive(&letter).await;
        pass(5).await;
    }
    assert_eq!(dead_letters(&app).await, []);
    assert_eq!(model.get().cents["bad"], 8);
    assert_eq!(model.get().erased.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_erasure_that_fails_is_parked_too() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, PoisonPolicy::Park);
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(60).await;
    add_up.0.erase_fails.store(true, Ordering::SeqCst);
    app.handle(&Account::id("bad")).erase().await.unwrap();
    let other = deposit(&app, "1", 2).await;
    handle(&app).wait_for(other, Duration::from_secs(60)).await.unwrap();
    assert!(model.get().erased.is_empty());

    add_up.0.erase_fails.store(false, Ordering::SeqCst);
    for letter in dead_letters(&app).await {
        // The events behind it went back into the queue with it.
        let _ = app.dead_letters().redrive(&letter).await;
        pass(5).await;
    }
    assert_eq!(dead_letters(&app).await, []);
    assert_eq!(model.get().erased, [Account::id("bad").stream()]);
}
