//! Events that cannot be projected are parked, with their successors in the stream.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::projection::{
    BlockedStream, ProjectionRecord, ProjectionState, ReadModel,
};
use composable_rust_core::queue::{Checkpoint, DeadLetter};
use composable_rust_core::store::{EventStore, StoreError};
use composable_rust_core::{Projection, StreamId};
use composable_rust_runtime::App;
use composable_rust_runtime::operations::ProjectionWaitError;
use composable_rust_runtime::settings::PoisonPolicy;
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use crate::account::{Account, Process};
use crate::worker::node::NodeProcess;

use super::{
    AddUp, Model, Totals, assert_exact, clock, deposit, handle, pass, process_with, settle, state,
    store,
};

pub(super) async fn dead_letters(app: &App) -> Vec<DeadLetter> {
    app.dead_letters().all().try_collect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn poison_is_parked_with_its_successors_and_redriven_in_order() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, PoisonPolicy::Park);
    deposit(&app, "bad", 1).await;
    settle(&app).await;
    add_up.poison(&["bad"]);
    let bad = deposit(&app, "bad", 2).await;
    for cents in [4, 8] {
        deposit(&app, "bad", cents).await;
        let other = deposit(&app, "1", cents).await;
        handle(&app).wait_for(other, Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(model.get().cents, BTreeMap::from([("1".to_owned(), 12), ("bad".to_owned(), 1)]));
    assert_eq!(state(&app).await, ProjectionState::Running);
    let waited = handle(&app).wait_for(bad, Duration::from_secs(1)).await;
    assert!(matches!(waited, Err(ProjectionWaitError::DeadlinePassed { .. })), "{waited:?}");

    pass(60).await;
    let letters = dead_letters(&app).await;
    assert_eq!(letters.len(), 3, "{letters:#?}");
    let heads: Vec<_> = letters.iter().filter(|letter| letter.error.is_some()).collect();
    assert_eq!((heads.len(), heads[0].attempts), (1, 5));
    assert!(heads[0].error.as_deref().unwrap().contains("not liked"));
    // Later events of the stream are parked behind it.
    deposit(&app, "bad", 16).await;
    pass(10).await;
    assert_eq!(dead_letters(&app).await.len(), 4);

    add_up.poison(&[]);
    app.dead_letters().redrive(heads[0]).await.unwrap();
    settle(&app).await;
    assert_eq!(model.get().cents["bad"], 31);
    assert_eq!(dead_letters(&app).await, []);
    // From then on the stream is projected as usual.
    let position = deposit(&app, "bad", 32).await;
    handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    assert_eq!(model.get().cents["bad"], 63);
    assert_eq!(model.blocked_streams(AddUp::NAME).await.unwrap(), []);
    assert_exact(&store, &model);
}

/// Behaves like PostgreSQL: after an error that the projection ignored, every statement of the
/// transaction fails.
struct Aborts(Model);

impl Aborts {
    fn check(totals: &Totals) -> Result<(), StoreError> {
        if totals.aborted { Err(StoreError::Invalid("it is aborted".to_owned())) } else { Ok(()) }
    }
}

impl ReadModel for Aborts {
    type Connection = Totals;
    type Transaction = <Model as ReadModel>::Transaction;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        self.0.begin().await
    }

    async fn commit(&self, of: Self::Transaction) -> Result<(), StoreError> {
        Self::check(&of)?;
        self.0.commit(of).await
    }

    async fn load(&self, name: &str) -> Result<Option<ProjectionRecord>, StoreError> {
        self.0.load(name).await
    }

    async fn lock(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<ProjectionRecord, StoreError> {
        Self::check(of)?;
        self.0.lock(of, name, log).await
    }

    async fn advance(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        epoch: u64,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.advance(of, name, epoch, to).await
    }

    async fn set_state(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        to: &ProjectionState,
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.set_state(of, name, to).await
    }

    async fn forget(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        log: Uuid,
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.forget(of, name, log).await
    }

    async fn blocked_streams(&self, name: &str) -> Result<Vec<BlockedStream>, StoreError> {
        self.0.blocked_streams(name).await
    }

    async fn find_blocked(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<Option<BlockedStream>, StoreError> {
        Self::check(of)?;
        self.0.find_blocked(of, name, stream).await
    }

    async fn set_blocked(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        waiting: &BlockedStream,
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.set_blocked(of, name, waiting).await
    }

    async fn clear_blocked(
        &self,
        of: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> Result<(), StoreError> {
        Self::check(of)?;
        self.0.clear_blocked(of, name, stream).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_ignored_error_is_parked_ahead_of_a_blocked_stream() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = App::builder(store.clone())
        .aggregate::<Account>(Process::new())
        .clock(clock())
        .projection_with(add_up.clone(), Aborts(model.clone()), |own| {
            own.poison = PoisonPolicy::Park;
        })
        .build()
        .unwrap();
    app.start();
    // The parked events are projected, and the stream has had no event since.
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(1).await;
    add_up.poison(&[]);
    pass(10).await;
    assert_eq!(model.get().cents["bad"], 1);
    assert_eq!(model.blocked_streams(AddUp::NAME).await.unwrap().len(), 1);

    // A batch of both streams, in this order.
    handle(&app).pause().await.unwrap();
    let partition = |id: &str| store.log().partition_of(&Account::id(id).stream());
    let odd = (0..100).map(|n| format!("odd{n}")).find(|id| partition(id) == partition("bad"));
    let odd = odd.unwrap();
    add_up.ignores(&[&odd]);
    deposit(&app, &odd, 2).await;
    let bad = deposit(&app, "bad", 4).await;
    handle(&app).resume().await.unwrap();
    handle(&app).wait_for(bad, Duration::from_secs(60)).await.unwrap();
    assert_eq!(model.get().cents, BTreeMap::from([("bad".to_owned(), 5)]));
    pass(60).await;
    assert_eq!(dead_letters(&app).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn parked_streams_do_not_slow_other_streams_down() {
    let (memory, model, add_up) = (store(), Model::default(), AddUp::default());
    let store = NodeProcess::start(memory.clone());
    let app = process_with(&store, &add_up, &model, PoisonPolicy::Park);
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(60).await;
    let looked = || store.counts().get("queued_streams").copied();
    let before = looked();
    for n in 0..20 {
        let position = deposit(&app, &n.to_string(), 1).await;
        handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(looked(), before);
}

#[tokio::test(start_paused = true)]
async fn discarded_events_are_left_out_of_the_projection() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, PoisonPolicy::Park);
    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    deposit(&app, "bad", 2).await;
    pass(60).await;
    let letters = dead_letters(&app).await;
    let head = letters.iter().find(|letter| letter.error.is_some()).unwrap();
    app.dead_letters().discard(head).await.unwrap();
    pass(5).await;
    add_up.poison(&[]);
    let letters = dead_letters(&app).await;
    assert_eq!(letters.len(), 1);
    app.dead_letters().redrive(&letters[0]).await.unwrap();
    pass(5).await;
    assert_eq!(model.get().cents["bad"], 2);
    let position = deposit(&app, "bad", 4).await;
    handle(&app).wait_for(position, Duration::from_secs(5)).await.unwrap();
    assert_eq!(model.get().cents["bad"], 6);
    assert_eq!(store.all_events().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_projects_blocked_events_once() {
    let (store, model, add_up) = (store(), Model::default(), AddUp::default());
    let app = process_with(&store, &add_up, &model, PoisonPolicy::Park);
    for cents in [1, 2] {
        deposit(&app, "bad", cents).await;
    }
    settle(&app).await;
    add_up.poison(&["bad"]);
    for cents in [4, 8] {
        deposit(&app, "bad", cents).await;
    }
    pass(60).await;
    assert_eq!(dead_letters(&app).await.len(), 2);
    // With the code fixed, every event is projected, and the dead letters are obsolete.
    add_up.poison(&[]);
    handle(&app).rebuild().await.unwrap();
    pass(5).await;
    settle(&app).await;
    assert_eq!(model.get().cents["bad"], 15);
    // The same while it fails from another event on.
    add_up.poison(&["bad"]);
    handle(&app).rebuild().await.unwrap();
    pass(60).await;
    assert_eq!(model.get().cents.get("bad"), None);
    add_up.poison(&[]);
    while let Some(head) = dead_letters(&app).await.into_iter().find(|l| l.error.is_some()) {
        app.dead_letters().redrive(&head).await.unwrap();
        pass(5).await;
    }
    settle(&app).await;
    assert_exact(&store, &model);
    assert_eq!(dead_letters(&app).await, []);
}
