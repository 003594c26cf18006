//! Batches whose members get into each other's way.

use composable_rust_core::{Append, AppendOutcome, EventStore as _, StoreError, Version};
use composable_rust_testing::InMemoryEventStore;

use super::super::store::{Defect, Verdicts};

/// One append that loses makes its whole batch lose.
pub(crate) struct LosesWholeBatches;

impl Defect for LosesWholeBatches {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
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
}

/// Appends what is valid of a batch, and refuses the batch all the same.
pub(crate) struct SkipsTheGuilty;

impl Defect for SkipsTheGuilty {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let outcome = store.append_events(partition, batch).await;
        if outcome.is_err() {
            for append in batch {
                let _ = store.append_events(partition, std::slice::from_ref(append)).await;
            }
        }
        outcome
    }
}

/// Puts every append where it belongs, whatever it was asked.
pub(crate) struct MovesAppends;

impl Defect for MovesAppends {
    async fn append(&self, store: &InMemoryEventStore, _: u16, batch: &[Append]) -> Verdicts {
        let mut verdicts = Vec::new();
        for append in batch {
            let partition = store.log().partition_of(&append.stream);
            verdicts.extend(store.append_events(partition, std::slice::from_ref(append)).await?);
        }
        Ok(verdicts)
    }
}

/// Takes no more than a hundred appends at once.
pub(crate) struct RefusesLargeBatches;

impl Defect for RefusesLargeBatches {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        if batch.len() > 100 {
            return Err(StoreError::Invalid("a large batch".to_owned()));
        }
        store.append_events(partition, batch).await
    }
}

/// Refuses a batch of nothing.
pub(crate) struct RefusesEmptyBatches;

impl Defect for RefusesEmptyBatches {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        if batch.is_empty() {
            return Err(StoreError::Invalid("an empty batch".to_owned()));
        }
        store.append_events(partition, batch).await
    }
}

/// Answers in the order of the streams.
pub(crate) struct AnswersInItsOrder;

impl Defect for AnswersInItsOrder {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = store.append_events(partition, batch).await?;
        verdicts.reverse();
        Ok(verdicts)
    }
}
