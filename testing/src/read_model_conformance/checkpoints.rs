//! Checkpoints advance from their current offset, under an epoch.

use composable_rust_core::queue::Checkpoint;

use super::ReadModelBackend;
use super::builders::{advance, advanced, at, begin, checkpoints, commit};

pub(super) async fn checkpoints_round_trip(on: impl ReadModelBackend) {
    let model = on.open().await;
    let largest = at(1_023, i64::MAX.unsigned_abs());
    let without = Checkpoint { event_id: None, ..at(3, 9) };
    assert!(advanced(&model, 1, &[(0, largest), (0, without), (0, at(0, 1))]).await);
    assert_eq!(checkpoints(&model).await, [at(0, 1), without, largest]);
    let moves = [(9, at(3, 10)), (largest.offset, largest)];
    assert!(advanced(&model, 1, &moves).await, "one may stay where it is");
    assert_eq!(checkpoints(&model).await, [at(0, 1), at(3, 10), largest]);
}

pub(super) async fn checkpoints_advance_only_from_their_current_offset(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(!advanced(&model, 1, &[(4, at(0, 5))]).await, "there is none");
    assert!(advanced(&model, 1, &[(0, at(0, 5))]).await);
    for from in [0, 4, 6] {
        assert!(!advanced(&model, 1, &[(from, at(0, 9))]).await, "{from}");
    }
    assert_eq!(checkpoints(&model).await, [at(0, 5)]);
    assert!(advanced(&model, 1, &[(5, at(0, 9))]).await);
}

pub(super) async fn one_late_advance_of_several_fails_all(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(advanced(&model, 1, &[(0, at(0, 5)), (0, at(1, 5))]).await);
    assert!(!advanced(&model, 1, &[(5, at(0, 6)), (4, at(1, 6))]).await);
    assert!(!advanced(&model, 1, &[(5, at(0, 6)), (1, at(2, 6))]).await);
    assert_eq!(checkpoints(&model).await, [at(0, 5), at(1, 5)]);
}

pub(super) async fn a_lower_epoch_is_rejected(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(advanced(&model, 3, &[(0, at(0, 5))]).await);
    assert!(advanced(&model, 4, &[(0, at(1, 5))]).await);
    for moved in [(5, at(0, 6)), (5, at(1, 6)), (0, at(2, 6))] {
        assert!(!advanced(&model, 3, &[moved]).await, "{moved:?}");
    }
    for epoch in [4, 4, 9] {
        let from = checkpoints(&model).await[0].offset;
        assert!(advanced(&model, epoch, &[(from, at(0, from + 1))]).await, "{epoch}");
    }
}

pub(super) async fn the_epoch_is_checked_without_advances(on: impl ReadModelBackend) {
    let model = on.open().await;
    assert!(advanced(&model, 1, &[]).await);
    assert!(advanced(&model, 3, &[(0, at(0, 5))]).await);
    assert!(!advanced(&model, 2, &[]).await);
    assert!(advanced(&model, 3, &[]).await);
    assert_eq!(checkpoints(&model).await, [at(0, 5)]);
}

pub(super) async fn one_of_two_concurrent_advances_is_late<B: ReadModelBackend>(on: B) {
    let models = (on.open().await, on.open().await);
    for round in 0..20 {
        let projecting = async |model: &B::Model, epoch: u64| {
            let mut transaction = begin(model).await;
            let moves = [(round * 5, at(0, round * 5 + 5))];
            let done = advance(model, &mut transaction, epoch, &moves).await;
            if done {
                tokio::task::yield_now().await;
                on.add(&mut transaction, 1).await;
                commit(model, transaction).await;
            }
            done
        };
        let both = futures_util::future::join(projecting(&models.0, 1), projecting(&models.1, 1));
        let done = both.await;
        assert!(done.0 != done.1, "in round {round} {done:?} were on time");
    }
    assert_eq!(on.total().await, 20);
}
