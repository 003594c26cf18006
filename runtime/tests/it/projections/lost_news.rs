//! A projection whose store has no news, because notifications were lost.

use std::time::Duration;

use composable_rust_runtime::App;
use tokio::time::Instant;

use super::{AddUp, Model, clock, deposit, handle, pass, process, store};
use crate::account::{Account, Process};
use crate::deaf::Deaf;

/// Events, and the decisions of operators, are found when the worker is woken without them.
#[tokio::test(start_paused = true)]
async fn a_projection_finds_events_and_decisions_without_news() {
    let (memory, model, add_up) = (store(), Model::default(), AddUp::default());
    let _deaf = process(&Deaf::to(memory.clone()), &add_up, &model);
    let other = App::builder(memory.clone())
        .aggregate::<Account>(Process::new())
        .clock(clock())
        .projection(add_up.clone(), model.clone())
        .build()
        .unwrap();
    pass(60).await;
    let start = Instant::now();
    let position = deposit(&other, "1", 1).await;
    let late = Duration::from_secs(16);
    handle(&other).wait_for(position, late).await.unwrap();
    assert!(start.elapsed() <= late, "{:?}", start.elapsed());
    handle(&other).pause().await.unwrap();
    pass(16).await;
    deposit(&other, "1", 1).await;
    pass(60).await;
    assert_eq!(model.get().cents["1"], 1, "the projection is paused");
    handle(&other).resume().await.unwrap();
    pass(16).await;
    assert_eq!(model.get().cents["1"], 2, "the projection is resumed");
}
