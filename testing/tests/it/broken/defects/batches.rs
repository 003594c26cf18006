//! Batches whose appends interfere with each other.

use composable_rust_core::Version;
use composable_rust_core::store::{Append, AppendOutcome, EventStore as _, StoreError};
use composable_rust_testing::{InMemoryEventStore, Intercept};

use super::super::store::Backing;

appending!(
    /// One conflict makes the whole batch conflict.
    FailsWholeBatches,
    |store, partition, batch| {
        let stale = |append: &&Append| {
            let actual = Version::new(store.events(&append.stream).len() as u64);
            !append.expected.admits(actual)
        };
        match batch.iter().find(stale) {
            Some(_) if batch.len() > 1 => {
                Ok(vec![AppendOutcome::Conflict { actual: Version::ZERO }; batch.len()])
            }
            _ => store.append_events(partition, batch).await,
        }
    }
);

appending!(
    /// Appends the valid part of a batch, and rejects the batch all the same.
    AppendsBeforeRejecting,
    |store, partition, batch| {
        let outcome = store.append_events(partition, batch).await;
        if outcome.is_err() {
            for append in batch {
                let _ = store.append_events(partition, std::slice::from_ref(append)).await;
            }
        }
        outcome
    }
);

appending!(
    /// Appends every append to its own partition, whatever the given one.
    IgnoresPartitions,
    |store, _, batch| {
        let mut outcomes = Vec::new();
        for append in batch {
            let partition = store.log().partition_of(&append.stream);
            outcomes.extend(store.append_events(partition, std::slice::from_ref(append)).await?);
        }
        Ok(outcomes)
    }
);

appending!(
    /// Accepts no more than a hundred appends at once.
    RejectsLargeBatches,
    |store, partition, batch| {
        if batch.len() > 100 {
            return Err(StoreError::Invalid("a large batch".to_owned()));
        }
        store.append_events(partition, batch).await
    }
);

appending!(
    /// Rejects an empty batch.
    RejectsEmptyBatches,
    |store, partition, batch| {
        if batch.is_empty() {
            return Err(StoreError::Invalid("an empty batch".to_owned()));
        }
        store.append_events(partition, batch).await
    }
);

appending!(
    /// Answers in the order of the streams.
    ReversesOutcomes,
    |store, partition, batch| {
        let mut outcomes = store.append_events(partition, batch).await?;
        outcomes.reverse();
        Ok(outcomes)
    }
);
