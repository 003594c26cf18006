//! Executing `database` effects.

use composable_rust_core::effect::{DbOperation, DbOutcome};
use composable_rust_core::store::{EventStore as _, SharedEventStore, StoreError};
use futures_util::stream::TryStreamExt as _;

/// Executes `operation` on `store`.
pub(super) async fn operate(
    store: &SharedEventStore,
    operation: DbOperation,
) -> Result<DbOutcome, StoreError> {
    match operation {
        DbOperation::AppendEvents(append) => {
            let partition = store.log().partition_of(&append.stream);
            let outcome =
                store.append_events(partition, std::slice::from_ref(&append)).await?.pop();
            outcome
                .map(DbOutcome::Appended)
                .ok_or_else(|| StoreError::unavailable("the append has no outcome"))
        }
        DbOperation::LoadEvents { stream, after } => {
            store.load_events(&stream, after).try_collect().await.map(DbOutcome::Events)
        }
        DbOperation::SaveSnapshot { stream, snapshot, last } => {
            store.save_snapshot(&stream, &snapshot, last).await.map(|()| DbOutcome::Saved)
        }
        DbOperation::LoadSnapshot { stream, fingerprint } => {
            store.load_snapshot(&stream, fingerprint).await.map(DbOutcome::Snapshot)
        }
    }
}
