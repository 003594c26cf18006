//! The state of a projection.

use composable_rust_core::projection::{ProjectionState, ReadModel as _};

use super::ReadModelBackend;
use super::builders::{NAME, advanced, at, begin, commit, load, lock, set};

pub(super) async fn states_round_trip(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let failed = |reason: &str| ProjectionState::Failed { reason: reason.to_owned() };
    let states = [
        ProjectionState::Paused,
        failed("event 'x' at 3:17 – cannot \"be\"\nprojected"),
        ProjectionState::Rebuilding,
        failed(""),
        ProjectionState::WaitingForNewerCode { name: "order.held".to_owned() },
        ProjectionState::Running,
    ];
    for state in states {
        set(&model, &state).await;
        assert_eq!(load(&other).await, (Vec::new(), state));
    }
    assert!(advanced(&model, 1, &[(0, at(0, 5))]).await);
    set(&model, &ProjectionState::Paused).await;
    assert_eq!(load(&other).await, (vec![at(0, 5)], ProjectionState::Paused));
    assert!(advanced(&model, 1, &[(5, at(0, 6))]).await, "a state prevents no advance");
    assert_eq!(load(&other).await, (vec![at(0, 6)], ProjectionState::Paused));
}

pub(super) async fn one_of_two_concurrent_state_changes_is_late<B: ReadModelBackend>(on: B) {
    use ProjectionState::{Paused, Running};
    let models = (on.open().await, on.open().await);
    for round in 0..20 {
        let pausing = async |model: &B::Model| {
            let mut transaction = begin(model).await;
            if lock(model, &mut transaction).await.state != Running {
                return false;
            }
            tokio::task::yield_now().await;
            model.set_state(&mut transaction, NAME, &Paused).await.unwrap();
            commit(model, transaction).await;
            true
        };
        let done = futures_util::future::join(pausing(&models.0), pausing(&models.1)).await;
        assert!(done.0 != done.1, "in round {round} {done:?} found it running");
        set(&models.0, &Running).await;
    }
}
