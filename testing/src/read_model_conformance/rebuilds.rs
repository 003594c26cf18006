//! Rebuilds: forgetting a projection, and running again.

use std::time::Duration;

use composable_rust_core::projection::{ProjectionState, ReadModel as _};

use super::ReadModelBackend;
use super::builders::{
    NAME, advance, advanced, at, begin, checkpoints, commit, forget, keep_waiting, load, set,
    waiting,
};

pub(super) async fn forgetting_waits_for_a_projecting_transaction(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let mut transaction = begin(&model).await;
    assert!(advance(&model, &mut transaction, 1, &[(0, at(0, 5))]).await);
    on.add(&mut transaction, 7).await;
    let projecting = async {
        let blocked = on.wait_for_blocked_transaction();
        let blocked = tokio::time::timeout(Duration::from_secs(30), blocked).await;
        blocked.expect("forgetting waits for the lock");
        commit(&model, transaction).await;
    };
    let forgetting = async {
        let mut transaction = begin(&other).await;
        forget(&other, &mut transaction).await;
        let total = on.total().await;
        on.add(&mut transaction, -total).await;
        commit(&other, transaction).await;
    };
    futures_util::future::join(projecting, forgetting).await;
    assert_eq!((checkpoints(&model).await, on.total().await), (vec![], 0));
}

pub(super) async fn forgetting_starts_a_rebuild(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(advanced(&model, 7, &[(0, at(0, 5)), (0, at(1, 5))]).await);
    let mut transaction = begin(&model).await;
    keep_waiting(&model, &mut transaction, &waiting("thing-1", 1, 1)).await;
    commit(&model, transaction).await;

    let mut transaction = begin(&model).await;
    forget(&model, &mut transaction).await;
    drop(transaction);
    assert_eq!(load(&model).await, (vec![at(0, 5), at(1, 5)], ProjectionState::Running));

    for _ in 0..2 {
        let mut transaction = begin(&model).await;
        forget(&model, &mut transaction).await;
        commit(&model, transaction).await;
        assert_eq!(load(&model).await, (Vec::new(), ProjectionState::Rebuilding));
        assert_eq!(model.blocked_streams(NAME).await.unwrap(), []);
    }
    assert!(!advanced(&model, 7, &[(5, at(0, 6))]).await, "the earlier process is late");
    assert!(advanced(&model, 1, &[(0, at(0, 1))]).await, "epochs are forgotten");
}

pub(super) async fn a_projection_is_rebuilding_until_it_runs(on: impl ReadModelBackend) {
    use ProjectionState::{Failed, Paused, Rebuilding, Running, WaitingForNewerCode};
    let (model, other) = (on.open().await, on.open().await);
    let kept = async || {
        let record = other.load(NAME).await.unwrap().unwrap();
        (record.state, record.rebuilds, record.rebuilding)
    };
    set(&model, &Paused).await;
    assert_eq!(kept().await, (Paused, 0, false));
    for rebuilds in 1..=3 {
        let mut transaction = begin(&model).await;
        forget(&model, &mut transaction).await;
        commit(&model, transaction).await;
        let waiting = WaitingForNewerCode { name: "order.held".to_owned() };
        for state in [Paused, Rebuilding, waiting, Failed { reason: "why".to_owned() }] {
            set(&model, &state).await;
            assert_eq!(kept().await, (state, rebuilds, true));
        }
        if rebuilds != 2 {
            set(&model, &Running).await;
            assert_eq!(kept().await, (Running, rebuilds, false));
            set(&model, &Paused).await;
            assert_eq!(kept().await, (Paused, rebuilds, false));
        }
    }
}
