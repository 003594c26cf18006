//! The records of projections.

use composable_rust_core::projection::{ProjectionRecord, ProjectionState, ReadModel as _};
use uuid::Uuid;

use super::ReadModelBackend;
use super::builders::{LOG, NAME, advanced, at, begin, commit, lock, stream, waiting};

pub(super) async fn an_unknown_projection_has_no_record(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert_eq!(model.load(NAME).await.unwrap(), None);
    assert_eq!(model.blocked_streams(NAME).await.unwrap(), []);
    let mut transaction = begin(&model).await;
    let (state, checkpoints) = (ProjectionState::Running, Vec::new());
    let (rebuilds, rebuilding) = (0, false);
    let new = ProjectionRecord { log: LOG, state, checkpoints, epoch: 0, rebuilds, rebuilding };
    assert_eq!(lock(&model, &mut transaction).await, new);
    let found = model.find_blocked(&mut transaction, NAME, &stream("thing-1")).await;
    assert_eq!(found.unwrap(), None);
    drop(transaction);
    assert_eq!(model.load(NAME).await.unwrap(), None, "nothing was committed");
}

pub(super) async fn a_projection_belongs_to_the_log_it_was_first_locked_for(
    on: impl ReadModelBackend,
) {
    let (model, other) = (on.open().await, Uuid::from_u128(8));
    assert!(advanced(&model, 3, &[(0, at(0, 5))]).await);
    let (state, checkpoints) = (ProjectionState::Running, vec![at(0, 5)]);
    let (rebuilds, rebuilding) = (0, false);
    let kept = ProjectionRecord { log: LOG, state, checkpoints, epoch: 3, rebuilds, rebuilding };
    let mut transaction = begin(&model).await;
    assert_eq!(model.lock(&mut transaction, NAME, other).await.unwrap(), kept);
    commit(&model, transaction).await;
    assert_eq!(model.load(NAME).await.unwrap(), Some(kept));

    let mut transaction = begin(&model).await;
    lock(&model, &mut transaction).await;
    model.forget(&mut transaction, NAME, other).await.unwrap();
    commit(&model, transaction).await;
    let (state, checkpoints) = (ProjectionState::Rebuilding, Vec::new());
    let (rebuilds, rebuilding) = (1, true);
    let adopted =
        ProjectionRecord { log: other, state, checkpoints, epoch: 0, rebuilds, rebuilding };
    assert_eq!(model.load(NAME).await.unwrap(), Some(adopted));
}

pub(super) async fn projections_are_separate(on: impl ReadModelBackend) {
    let model = on.open().await;
    let names = ["Totals", "totals ", "to'tals", "tötals", "totals/2"];
    for (n, name) in (1..).zip(names) {
        let mut transaction = begin(&model).await;
        model.lock(&mut transaction, name, LOG).await.unwrap();
        model.advance(&mut transaction, name, n, &[at(0, n)]).await.unwrap();
        let thing = waiting("thing-1", n, u128::from(n));
        model.set_blocked(&mut transaction, name, &thing).await.unwrap();
        commit(&model, transaction).await;
    }
    let mut transaction = begin(&model).await;
    for name in &names[..3] {
        model.lock(&mut transaction, name, LOG).await.unwrap();
    }
    model.forget(&mut transaction, names[1], LOG).await.unwrap();
    model.clear_blocked(&mut transaction, names[2], &stream("thing-1")).await.unwrap();
    model.set_state(&mut transaction, names[0], &ProjectionState::Paused).await.unwrap();
    commit(&model, transaction).await;
    let mut found = Vec::new();
    for name in names {
        let ProjectionRecord { checkpoints, state, .. } = model.load(name).await.unwrap().unwrap();
        found.push((checkpoints.len(), state, model.blocked_streams(name).await.unwrap().len()));
    }
    let running = (1, ProjectionState::Running, 1);
    let changed = [
        (1, ProjectionState::Paused, 1),
        (0, ProjectionState::Rebuilding, 0),
        (1, ProjectionState::Running, 0),
    ];
    assert_eq!(found[..3], changed);
    assert_eq!(found[3..], [running.clone(), running]);
}
