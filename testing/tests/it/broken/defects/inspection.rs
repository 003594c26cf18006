//! Reads of operators' tools that show too little, or in another order.

use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{InboxEntry, Process, TimerQueue};
use composable_rust_core::store::{
    EventFilter, Finding, Inspection as _, LogRange, NamedCheckpoint, StoreError, StreamSummary,
    TimerEntry,
};
use composable_rust_core::{StreamId, Version};
use composable_rust_testing::{InMemoryEventStore, Intercept};

use super::super::store::Backing;

/// Lists the streams of a page backwards.
pub(crate) struct ListsStreamsBackwards;

impl Intercept<InMemoryEventStore> for ListsStreamsBackwards {
    async fn list_streams(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, StoreError> {
        let mut streams = store.list_streams(partition, prefix, after, limit).await?;
        streams.reverse();
        Ok(streams)
    }
}

/// Shows the first version of every stream.
pub(crate) struct ShowsTheFirstVersion;

impl Intercept<InMemoryEventStore> for ShowsTheFirstVersion {
    async fn list_streams(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, StoreError> {
        let mut streams = store.list_streams(partition, prefix, after, limit).await?;
        for stream in &mut streams {
            stream.version = Version::new(1);
        }
        Ok(streams)
    }
}

/// Returns the events of a search oldest first.
pub(crate) struct SearchesOldestFirst;

impl Intercept<InMemoryEventStore> for SearchesOldestFirst {
    async fn search_log(
        &self,
        store: &InMemoryEventStore,
        range: LogRange,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let mut events = store.search_log(range, filter, limit).await?;
        events.reverse();
        Ok(events)
    }
}

/// Lists overridden events with their replacements.
pub(crate) struct ListsReplacements;

impl Intercept<InMemoryEventStore> for ListsReplacements {
    async fn list_overridden(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        after: Option<&StoredEvent>,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let mut events = store.list_overridden(partition, after, limit).await?;
        for event in &mut events {
            for replaced in store.events(&event.stream) {
                if replaced.version == event.version {
                    event.content = replaced.content;
                }
            }
        }
        Ok(events)
    }
}

/// Lists one timer of each queue.
pub(crate) struct ListsOneTimer;

impl Intercept<InMemoryEventStore> for ListsOneTimer {
    async fn list_timers(
        &self,
        store: &InMemoryEventStore,
        queue: &TimerQueue,
        after: Option<&TimerEntry>,
        limit: usize,
    ) -> Result<Vec<TimerEntry>, StoreError> {
        store.list_timers(queue, after, limit.min(1)).await
    }
}

/// Lists the inbox oldest first.
pub(crate) struct ListsInboxOldestFirst;

impl Intercept<InMemoryEventStore> for ListsInboxOldestFirst {
    async fn inbox_of(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        limit: usize,
    ) -> Result<Vec<InboxEntry>, StoreError> {
        let mut entries = store.inbox_of(stream, limit).await?;
        entries.reverse();
        Ok(entries)
    }
}

/// Lists the checkpoints of one follower.
pub(crate) struct ListsOneFollower;

impl Intercept<InMemoryEventStore> for ListsOneFollower {
    async fn all_checkpoints(
        &self,
        store: &InMemoryEventStore,
    ) -> Result<Vec<NamedCheckpoint>, StoreError> {
        let mut checkpoints = store.all_checkpoints().await?;
        checkpoints.truncate(1);
        Ok(checkpoints)
    }
}

/// Forgets who the processes are.
pub(crate) struct ForgetsProcesses;

impl Intercept<InMemoryEventStore> for ForgetsProcesses {
    async fn introduce(&self, _: &InMemoryEventStore, _: &Process) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Finds a fault in a healthy store.
pub(crate) struct FindsAFault;

impl Intercept<InMemoryEventStore> for FindsAFault {
    async fn examine(&self, _: &InMemoryEventStore) -> Result<Vec<Finding>, StoreError> {
        Ok(vec![Finding::fault("autovacuum", "autovacuum is off", "set `autovacuum = on`")])
    }
}

backed_by_memory!(
    ListsStreamsBackwards,
    ShowsTheFirstVersion,
    SearchesOldestFirst,
    ListsReplacements,
    ListsOneTimer,
    ListsInboxOldestFirst,
    ListsOneFollower,
    ForgetsProcesses,
    FindsAFault
);
