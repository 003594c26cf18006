//! Logs that are out of order, delayed, or slow.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use composable_rust_core::Position;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{Append, AppendOutcome, EventStore as _, StoreError};
use composable_rust_testing::{InMemoryEventStore, Intercept, StoreCall, StreamRows};

use super::super::store::{Backing, Outcomes, Page, poll, with_events};

/// Draws offsets from a sequence before it takes the partition's lock.
#[derive(Default)]
pub(crate) struct OffsetsFromSequence {
    sequence: AtomicU64,
    drawn: Mutex<BTreeMap<Position, u64>>,
}

impl OffsetsFromSequence {
    fn as_drawn(&self, mut event: StoredEvent) -> StoredEvent {
        if let Some(drawn) = self.drawn.lock().expect("no other task panicked").get(&event.position)
        {
            event.position.offset = *drawn;
        }
        event
    }
}

impl Intercept<InMemoryEventStore> for OffsetsFromSequence {
    async fn append_events(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Outcomes {
        let count = batch.iter().map(|append| append.events.len() as u64).sum();
        let first = self.sequence.fetch_add(count, Ordering::Relaxed) + 1;
        tokio::task::yield_now().await;
        let mut drawn = self.drawn.lock().expect("no other task panicked");
        let mut outcomes = poll(store.append_events(partition, batch))?;
        let mut stored = store.all_events();
        stored.retain(|event| !drawn.contains_key(&event.position));
        drawn.extend(stored.iter().map(|event| event.position).zip(first..));
        for outcome in &mut outcomes {
            if let AppendOutcome::Committed { position: Some(position), .. } = outcome {
                position.offset = drawn[&*position];
            }
        }
        Ok(outcomes)
    }

    async fn read_log(&self, store: &InMemoryEventStore, after: &[Position], limit: usize) -> Page {
        let events = store.all_events().into_iter().map(|event| self.as_drawn(event));
        let mut events: Vec<_> = events.collect();
        events.sort_by_key(|event| event.position);
        let mut page = Vec::new();
        for from in after {
            let rest = events.iter().filter(|event| {
                event.position.partition == from.partition && event.position > *from
            });
            page.extend(rest.take(limit).cloned());
        }
        Ok(page)
    }

    /// The wrapped store does not know the drawn offsets.
    async fn wait_for_events(
        &self,
        _: &InMemoryEventStore,
        _: &[Position],
    ) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        Ok(())
    }

    fn after_heads(&self, mut heads: Vec<Position>) -> Vec<Position> {
        for (position, drawn) in &*self.drawn.lock().expect("no other task panicked") {
            let head = &mut heads[usize::from(position.partition)];
            head.offset = head.offset.max(*drawn);
        }
        heads
    }

    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        with_events(rows, |events| events.into_iter().map(|event| self.as_drawn(event)).collect())
    }
}

/// Hides events from readers that are younger than the oldest open transaction.
#[derive(Default)]
pub(crate) struct WaitsForTransactions(tokio::sync::RwLock<()>);

impl Intercept<InMemoryEventStore> for WaitsForTransactions {
    async fn read_log(&self, store: &InMemoryEventStore, after: &[Position], limit: usize) -> Page {
        let _nobody = self.0.read().await;
        store.read_log(after, limit).await
    }

    async fn append_events(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Outcomes {
        // Wait until the transaction has begun, which the first append of the case waits for.
        while store.all_events().is_empty() && self.0.try_write().is_ok() {
            tokio::task::yield_now().await;
        }
        store.append_events(partition, batch).await
    }
}

impl Backing for WaitsForTransactions {
    async fn hold(&self) -> bool {
        let _held = self.0.write().await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        true
    }
}

/// Updates a row with every append.
#[derive(Default)]
pub(crate) struct UpdatesCounters;

impl Intercept<InMemoryEventStore> for UpdatesCounters {}

impl Backing for UpdatesCounters {
    fn dead_rows(&self, store: &InMemoryEventStore) -> Option<u64> {
        Some(store.all_events().len() as u64)
    }
}

/// Does not wake waiting readers.
pub(crate) struct NeverWakes;

impl Intercept<InMemoryEventStore> for NeverWakes {
    async fn wait_for_events(
        &self,
        _: &InMemoryEventStore,
        _: &[Position],
    ) -> Result<(), StoreError> {
        std::future::pending().await
    }

    async fn wait_for_work(&self, _: &InMemoryEventStore, _: u64) -> Result<u64, StoreError> {
        std::future::pending().await
    }
}

/// Keeps a separate log in every process.
pub(crate) struct SharesNothing;

impl Intercept<InMemoryEventStore> for SharesNothing {}

impl Backing for SharesNothing {
    fn elsewhere(&self, store: &InMemoryEventStore) -> InMemoryEventStore {
        InMemoryEventStore::with_partitions(store.log().partitions)
    }
}

backed_by_memory!(OffsetsFromSequence, NeverWakes);
