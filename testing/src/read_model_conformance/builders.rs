//! Operations of the cases on a read model.

use composable_rust_core::projection::{
    BlockedStream, ProjectionRecord, ProjectionState, ReadModel,
};
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::{EventId, StreamId, Version};
use uuid::Uuid;

pub(super) const NAME: &str = "totals";
pub(super) const LOG: Uuid = Uuid::from_u128(u128::MAX - 7);

pub(super) fn at(partition: u16, offset: u64) -> Checkpoint {
    let event_id = Some(EventId(Uuid::from_u64_pair(u64::from(partition), offset)));
    Checkpoint { partition, offset, event_id }
}

pub(super) fn stream(name: &str) -> StreamId {
    name.parse().expect("a stream name")
}

pub(super) fn waiting(name: &str, version: u64, ticket: u128) -> BlockedStream {
    let (stream, version) = (stream(name), Version::new(version));
    BlockedStream { stream, version, blockage_id: Uuid::from_u128(ticket) }
}

pub(super) async fn begin<M: ReadModel>(model: &M) -> M::Transaction {
    model.begin().await.expect("a transaction begins")
}

pub(super) async fn commit<M: ReadModel>(model: &M, transaction: M::Transaction) {
    model.commit(transaction).await.expect("the transaction commits");
}

pub(super) async fn lock<M: ReadModel>(
    model: &M,
    transaction: &mut M::Transaction,
) -> ProjectionRecord {
    model.lock(transaction, NAME, LOG).await.expect("the database is there")
}

/// Advances checkpoints from the given offsets, as a process under `epoch` does. Returns `true` if
/// they advanced.
pub(super) async fn advance<M: ReadModel>(
    model: &M,
    transaction: &mut M::Transaction,
    epoch: u64,
    moves: &[(u64, Checkpoint)],
) -> bool {
    let record = lock(model, transaction).await;
    let of = |partition| record.checkpoints.iter().find(|at| at.partition == partition);
    let at = |partition| of(partition).map_or(0, |at| at.offset);
    let is_late = moves.iter().any(|(from, to)| at(to.partition) != *from);
    if is_late || record.epoch > epoch {
        return false;
    }
    let to: Vec<_> = moves.iter().map(|(_, to)| *to).collect();
    model.advance(transaction, NAME, epoch, &to).await.expect("the database is there");
    true
}

/// The same in a transaction of its own.
pub(super) async fn advanced<M: ReadModel>(
    model: &M,
    epoch: u64,
    moves: &[(u64, Checkpoint)],
) -> bool {
    let mut transaction = begin(model).await;
    let done = advance(model, &mut transaction, epoch, moves).await;
    if done {
        commit(model, transaction).await;
    }
    done
}

pub(super) async fn load<M: ReadModel>(model: &M) -> (Vec<Checkpoint>, ProjectionState) {
    let record = model.load(NAME).await.expect("the database is there");
    record.map(|record| (record.checkpoints, record.state)).unwrap_or_default()
}

pub(super) async fn checkpoints<M: ReadModel>(model: &M) -> Vec<Checkpoint> {
    load(model).await.0
}

pub(super) async fn set<M: ReadModel>(model: &M, to: &ProjectionState) {
    let mut transaction = begin(model).await;
    lock(model, &mut transaction).await;
    model.set_state(&mut transaction, NAME, to).await.expect("the database is there");
    commit(model, transaction).await;
}

/// Locks the projection and forgets it.
pub(super) async fn forget<M: ReadModel>(model: &M, transaction: &mut M::Transaction) {
    lock(model, transaction).await;
    model.forget(transaction, NAME, LOG).await.expect("the database is there");
}

pub(super) async fn keep_waiting<M: ReadModel>(
    model: &M,
    transaction: &mut M::Transaction,
    waiting: &BlockedStream,
) {
    lock(model, transaction).await;
    model.set_blocked(transaction, NAME, waiting).await.expect("the database is there");
}
