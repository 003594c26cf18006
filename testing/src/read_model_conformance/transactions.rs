//! Transactions: atomic, and invisible until they commit.

use std::time::Duration;

use composable_rust_core::projection::{ProjectionState, ReadModel as _};

use super::ReadModelBackend;
use super::builders::{NAME, advance, advanced, at, begin, checkpoints, commit, load};

pub(super) async fn a_dropped_transaction_leaves_nothing_behind(on: impl ReadModelBackend) {
    let model = on.open().await;
    let mut transaction = begin(&model).await;
    assert!(advance(&model, &mut transaction, 1, &[(0, at(0, 5))]).await);
    on.add(&mut transaction, 7).await;
    drop(transaction);
    assert_eq!((checkpoints(&model).await, on.total().await), (vec![], 0));
    assert!(advanced(&model, 1, &[(0, at(0, 3))]).await, "the dropped transaction holds no lock");
}

pub(super) async fn writes_and_checkpoints_commit_together(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let mut transaction = begin(&model).await;
    assert!(advance(&model, &mut transaction, 1, &[(0, at(0, 5))]).await);
    on.add(&mut transaction, 7).await;
    assert_eq!((checkpoints(&other).await, on.total().await), (vec![], 0));
    commit(&model, transaction).await;
    for model in [model, other] {
        assert_eq!((checkpoints(&model).await, on.total().await), (vec![at(0, 5)], 7));
    }
}

pub(super) async fn loading_does_not_wait_for_a_lock(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let mut transaction = begin(&model).await;
    assert!(advance(&model, &mut transaction, 1, &[(0, at(0, 5))]).await);
    on.add(&mut transaction, 1).await;
    for model in [&model, &other] {
        let loaded = tokio::time::timeout(Duration::from_secs(5), load(model)).await;
        assert_eq!(
            loaded.expect("loading should not wait"),
            (Vec::new(), ProjectionState::Running)
        );
        let waiting =
            tokio::time::timeout(Duration::from_secs(5), model.blocked_streams(NAME)).await;
        assert_eq!(waiting.expect("listing should not wait").unwrap(), []);
    }
    commit(&model, transaction).await;
}
