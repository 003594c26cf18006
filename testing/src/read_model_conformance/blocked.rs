//! Blocked streams.

use composable_rust_core::Version;
use composable_rust_core::projection::{BlockedStream, ReadModel as _};

use super::ReadModelBackend;
use super::builders::{NAME, begin, commit, keep_waiting, lock, stream, waiting};

pub(super) async fn blocked_streams_round_trip(on: impl ReadModelBackend) {
    let (model, other) = (on.open().await, on.open().await);
    let streams = [
        waiting("thing-1", 0, 1),
        waiting("thing-2", 2, 2),
        waiting("thing-B", i64::MAX.unsigned_abs(), u128::MAX),
        waiting("thing-a", 3, 3),
    ];
    for waiting in streams.iter().rev() {
        let mut transaction = begin(&model).await;
        keep_waiting(&model, &mut transaction, waiting).await;
        commit(&model, transaction).await;
    }
    assert_eq!(other.blocked_streams(NAME).await.unwrap(), streams);

    let later = waiting("thing-1", 1, 3);
    let mut transaction = begin(&model).await;
    for kept in [&streams[0], &later] {
        keep_waiting(&model, &mut transaction, kept).await;
        let found = model.find_blocked(&mut transaction, NAME, &kept.stream).await.unwrap();
        assert_eq!(found.as_ref(), Some(kept));
    }
    for name in ["thing-2", "thing-3"] {
        model.clear_blocked(&mut transaction, NAME, &stream(name)).await.unwrap();
        assert_eq!(model.find_blocked(&mut transaction, NAME, &stream(name)).await.unwrap(), None);
    }
    commit(&model, transaction).await;
    let [_, _, upper, lower] = streams;
    assert_eq!(other.blocked_streams(NAME).await.unwrap(), [later, upper, lower]);
}

pub(super) async fn blocked_streams_commit_with_the_rest<B: ReadModelBackend>(on: B) {
    let model = on.open().await;
    let thing = waiting("thing-1", 4, 1);
    for commits in [false, true] {
        let mut transaction = begin(&model).await;
        keep_waiting(&model, &mut transaction, &thing).await;
        on.add(&mut transaction, 1).await;
        if commits {
            commit(&model, transaction).await;
        } else {
            drop(transaction);
        }
        assert_eq!(model.blocked_streams(NAME).await.unwrap().len(), usize::from(commits));
        assert_eq!(on.total().await, i64::from(commits));
    }
    // Two transactions on the same stream take turns.
    let other = on.open().await;
    let projecting = async |model: &B::Model| {
        let mut transaction = begin(model).await;
        lock(model, &mut transaction).await;
        let found = model.find_blocked(&mut transaction, NAME, &thing.stream).await.unwrap();
        if found.is_some_and(|found| found.version < Version::new(5)) {
            on.add(&mut transaction, 10).await;
            let version = Version::new(5);
            let done = BlockedStream { version, ..thing.clone() };
            model.set_blocked(&mut transaction, NAME, &done).await.unwrap();
            commit(model, transaction).await;
        }
    };
    futures_util::future::join(projecting(&model), projecting(&other)).await;
    assert_eq!(on.total().await, 11);
}
