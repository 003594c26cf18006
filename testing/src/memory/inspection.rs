//! The reads of operators' tools.

use std::collections::BTreeSet;

use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{DueTimer, InboxEntry, LeaseSnapshot, Process, TimerQueue};
use composable_rust_core::store::{
    EventFilter, Finding, Inspection, LogRange, NamedCheckpoint, StoreError, StreamSummary,
    TimerEntry,
};
use composable_rust_core::{StreamId, Timestamp};

use super::InMemoryEventStore;
use super::state::{PartitionState, Row, State, StoredTimerRow};
use super::timers::armed_timer;

impl Inspection for InMemoryEventStore {
    async fn list_streams(
        &self,
        partition: u16,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, StoreError> {
        let state = self.locked();
        let of = state.partition(partition)?;
        let streams = of.streams.keys();
        let streams = streams.filter(|stream| stream.as_str().starts_with(prefix));
        let streams = streams.filter(|stream| after.is_none_or(|after| *stream > after));
        Ok(streams.filter_map(|stream| of.summary(stream)).take(limit).collect())
    }

    async fn search_log(
        &self,
        range: LogRange,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let state = self.locked();
        let rows = state.partition(range.partition)?.rows.iter().rev();
        let is_within = |row: &&Row| {
            let offset = row.original.position.offset;
            offset > range.after && offset <= range.until && filter.matches(&row.original)
        };
        Ok(rows.filter(is_within).take(limit).map(Row::read).collect())
    }

    async fn list_overridden(
        &self,
        partition: u16,
        after: Option<&StoredEvent>,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let place = |event: &StoredEvent| (event.stream.clone(), event.version);
        let state = self.locked();
        let rows = state.partition(partition)?.rows.iter();
        let overridden = rows.filter(|row| row.replacement.is_some()).map(|row| &row.original);
        let mut events: Vec<_> = overridden.cloned().collect();
        events.sort_by_key(place);
        events.retain(|event| after.is_none_or(|after| place(event) > place(after)));
        events.truncate(limit);
        Ok(events)
    }

    async fn timer_queues(&self) -> Result<Vec<TimerQueue>, StoreError> {
        let state = self.locked();
        let armed = state.all_timers().map(|(partition, armed)| TimerQueue {
            partition,
            category: armed.timer.stream.category().to_owned(),
        });
        Ok(armed.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn list_timers(
        &self,
        queue: &TimerQueue,
        after: Option<&TimerEntry>,
        limit: usize,
    ) -> Result<Vec<TimerEntry>, StoreError> {
        let state = self.locked();
        let armed = state.all_timers().filter(|(partition, armed)| {
            *partition == queue.partition && armed.timer.stream.category() == queue.category
        });
        let mut timers: Vec<_> = armed.map(entry).collect();
        timers.sort_by(|one, other| place(one).cmp(&place(other)));
        timers.retain(|timer| after.is_none_or(|after| place(timer) > place(after)));
        timers.truncate(limit);
        Ok(timers)
    }

    async fn timers_of(&self, stream: &StreamId) -> Result<Vec<TimerEntry>, StoreError> {
        let state = self.locked();
        let armed = state.all_timers().filter(|(_, armed)| armed.timer.stream == *stream);
        Ok(armed.map(entry).collect())
    }

    async fn inbox_of(
        &self,
        stream: &StreamId,
        limit: usize,
    ) -> Result<Vec<InboxEntry>, StoreError> {
        let mut entries = self.inbox_entries(stream);
        entries.sort_by_key(|entry| (entry.receipt.version, entry.message_id));
        entries.reverse();
        entries.truncate(limit);
        Ok(entries)
    }

    async fn all_leases(&self) -> Result<LeaseSnapshot, StoreError> {
        let state = self.locked();
        Ok(state.load_leases(&state.workers()))
    }

    async fn all_processes(&self) -> Result<Vec<(Process, Timestamp)>, StoreError> {
        Ok(self.locked().processes.clone())
    }

    async fn all_checkpoints(&self) -> Result<Vec<NamedCheckpoint>, StoreError> {
        let state = self.locked();
        let named = state.checkpoints.iter().map(|((name, _), checkpoint)| NamedCheckpoint {
            name: name.clone(),
            checkpoint: *checkpoint,
        });
        Ok(named.collect())
    }

    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(vec![Finding::warning(
            "durability",
            "the store is in memory: it ends with its process",
            "use `sqlite:PATH` or `postgres://…` for data that has to stay",
        )])
    }
}

/// The place of a timer in its queue.
fn place(entry: &TimerEntry) -> (Timestamp, &StreamId, &str) {
    (entry.timer.due, &entry.timer.stream, &entry.timer.timer.id)
}

fn entry((partition, armed): (u16, &StoredTimerRow)) -> TimerEntry {
    TimerEntry {
        timer: DueTimer {
            partition,
            stream: armed.timer.stream.clone(),
            timer: armed_timer(&armed.timer),
            due: armed.timer.due,
            armed_at: armed.armed_at,
            content: armed.timer.content.clone(),
            metadata: armed.timer.metadata.clone(),
            attempts: armed.attempts,
            begun: armed.attempts > 0 && armed.last_error.is_none(),
        },
        last_error: armed.last_error.clone(),
    }
}

impl State {
    fn partition(&self, partition: u16) -> Result<&PartitionState, StoreError> {
        let found = self.partitions.get(usize::from(partition));
        found.ok_or_else(|| {
            let count = self.partitions.len();
            StoreError::Invalid(format!("there is no partition {partition} in a log of {count}"))
        })
    }

    /// The armed timers with their partitions, in order of partitions, streams and ids.
    fn all_timers(&self) -> impl Iterator<Item = (u16, &StoredTimerRow)> {
        self.partitions.iter().flat_map(|of| {
            let timers = of.streams.values().flat_map(|stream| stream.timers.values());
            timers.map(|armed| (of.partition, armed))
        })
    }

    /// The names of all workers that have leases or members.
    fn workers(&self) -> Vec<String> {
        let leased = self.leases.keys().map(|(worker, _)| worker.clone());
        let announced = self.members.keys().map(|(worker, _)| worker.clone());
        leased.chain(announced).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl PartitionState {
    /// The summary of a stream; `None` if it has no event.
    fn summary(&self, stream: &StreamId) -> Option<StreamSummary> {
        let offsets = &self.streams.get(stream)?.offsets;
        let first = self.row(*offsets.first()?)?;
        let last = self.row(*offsets.last()?)?;
        Some(StreamSummary {
            stream: stream.clone(),
            version: last.original.version,
            created_at: first.original.recorded_at,
            changed_at: last.original.recorded_at,
            last_event: last.original.name().to_owned(),
        })
    }
}
