//! Appending: the checks in the order that the port specifies, then the writes.

use composable_rust_core::event::{NewEvent, StoredContent, StoredEvent};
use composable_rust_core::queue::{InboxEntry, OutboxMessage};
use composable_rust_core::store::{
    Append, AppendOutcome, Due, ExpectedVersion, NewInboxEntry, NewTimer, TimerChange,
};
use composable_rust_core::{Position, Receipt, StreamId, Timestamp, Version};

use super::StoredTimer;
use super::state::{PartitionState, Row, State, StoredTimerRow, StreamState};

impl State {
    /// Appends a validated batch.
    pub(super) fn append(&mut self, partition: u16, batch: &[Append]) -> Vec<AppendOutcome> {
        let now = self.time.now();
        let data = &mut self.partitions[usize::from(partition)];
        batch.iter().map(|append| data.append(append, now)).collect()
    }
}

impl PartitionState {
    fn append(&mut self, append: &Append, now: Timestamp) -> AppendOutcome {
        let empty = StreamState::default();
        let stream = self.streams.get(&append.stream).unwrap_or(&empty);
        if let Some(base) = self.base_of_earlier(stream, append) {
            return self.committed(stream, base, append.events.len());
        }
        let existing: Vec<InboxEntry> = append
            .inbox
            .iter()
            .filter_map(|entry| stream.entries.get(&entry.message_id))
            .cloned()
            .collect();
        if !existing.is_empty() {
            return AppendOutcome::Duplicate(existing);
        }
        if self.is_closed(&append.stream) {
            return AppendOutcome::Closed;
        }
        let stale = stream.stale_timers(append);
        if !stale.is_empty() {
            return AppendOutcome::StaleTimers(stale);
        }
        let actual = stream.version();
        if !append.expected.admits(actual) {
            return AppendOutcome::Conflict { actual };
        }
        self.write(append, actual, now)
    }

    /// Returns the version before this same append, if an earlier call committed it: its inbox
    /// entries exist as it would write them, and its events are where it would put them.
    fn base_of_earlier(&self, stream: &StreamState, append: &Append) -> Option<Version> {
        let base = match (append.expected, &*append.inbox, &*append.events) {
            (_, [], []) => return None,
            (ExpectedVersion::Exact(base), _, _) => base,
            (_, [], _) => return None,
            (_, [entry, ..], _) => {
                let receipt = stream.entries.get(&entry.message_id)?.receipt;
                let since = u64::from(entry.first_event) + u64::from(entry.event_count);
                Version::new(receipt.version.get().checked_sub(since)?)
            }
        };
        let entries_exist = append.inbox.iter().all(|entry| {
            let Some(standing) = stream.entries.get(&entry.message_id) else { return false };
            let mut written = self.entry(stream, base, entry);
            if standing.outcome.is_empty() && !append.events.is_empty() {
                written.outcome.clear();
            }
            *standing == written
        });
        let events_stand = append.events.iter().zip(1..).all(|(event, n)| {
            let offset = stream.offset(base.plus(n));
            offset.and_then(|offset| self.row(offset)).is_some_and(|row| row.was_appended_as(event))
        });
        (entries_exist && events_stand).then_some(base)
    }

    /// Returns the inbox entry that an append after version `base` writes.
    fn entry(&self, stream: &StreamState, base: Version, entry: &NewInboxEntry) -> InboxEntry {
        let version = base.plus(u64::from(entry.first_event) + u64::from(entry.event_count));
        let position = (entry.event_count > 0).then(|| self.position(stream, version)).flatten();
        InboxEntry {
            message_id: entry.message_id,
            digest: entry.digest,
            receipt: Receipt { version, position },
            outcome: entry.outcome.clone(),
        }
    }

    fn committed(&self, stream: &StreamState, base: Version, events: usize) -> AppendOutcome {
        let version = base.plus(events as u64);
        let position = (events > 0).then(|| self.position(stream, version)).flatten();
        AppendOutcome::Committed { version, position, actual: stream.version() }
    }

    fn position(&self, stream: &StreamState, version: Version) -> Option<Position> {
        Some(Position::new(self.partition, stream.offset(version)?))
    }

    fn write(&mut self, append: &Append, base: Version, now: Timestamp) -> AppendOutcome {
        for event in &append.events {
            self.push(&append.stream, event, now);
        }
        let queued =
            |row: &_| OutboxMessage { sender: append.stream.clone(), row: Clone::clone(row) };
        self.queue(append.outbox.iter().map(queued), now);

        let mut stream = self.streams.remove(&append.stream).unwrap_or_default();
        for entry in &append.inbox {
            stream.entries.insert(entry.message_id, self.entry(&stream, base, entry));
            stream.handled_at.insert(entry.message_id, now);
        }
        stream.change_timers(append, now);
        self.remove_parked_timers(append);
        let outcome = self.committed(&stream, base, append.events.len());
        self.streams.insert(append.stream.clone(), stream);
        outcome
    }

    /// Removes the parked timers whose ids the append arms or cancels.
    fn remove_parked_timers(&mut self, append: &Append) {
        let changed = |id: &str| {
            append.timers.iter().any(|change| match change {
                TimerChange::Arm(timer) => timer.id == id,
                TimerChange::Cancel { id: cancelled } => cancelled == id,
            })
        };
        self.forget_parked_timers(&append.stream, |id| append.cancels_timers || changed(id));
    }

    /// Removes the parked timers of a stream whose ids are `gone`.
    pub(super) fn forget_parked_timers(&mut self, stream: &StreamId, gone: impl Fn(&str) -> bool) {
        self.dead.retain(|_, letter| {
            let is_timer = letter.arming.is_some() && letter.message.sender == *stream;
            !(is_timer && gone(&letter.message.row.recipient))
        });
    }

    fn push(&mut self, stream: &StreamId, event: &NewEvent, now: Timestamp) {
        let content = StoredContent::Present(event.content.clone());
        self.push_row(stream, event.id, content, event.metadata.clone(), now);
    }

    /// Writes the next event of `stream`.
    pub(super) fn push_row(
        &mut self,
        stream: &StreamId,
        id: composable_rust_core::EventId,
        content: StoredContent,
        metadata: String,
        now: Timestamp,
    ) {
        let offset = self.head() + 1;
        let data = self.streams.entry(stream.clone()).or_default();
        let original = StoredEvent {
            id,
            stream: stream.clone(),
            version: data.version().next(),
            position: Position::new(self.partition, offset),
            content,
            metadata,
            recorded_at: now,
        };
        data.offsets.push(offset);
        self.rows.push(Row { original, replacement: None });
    }
}

impl Row {
    /// Returns `true` if `event` was stored as this row. Equal ids are not enough: a message that
    /// is decided again may produce other content under the same ids. An erased event equals any;
    /// metadata is not part of a state.
    fn was_appended_as(&self, event: &NewEvent) -> bool {
        self.original.id == event.id
            && match &self.original.content {
                StoredContent::Present(content) => *content == event.content,
                StoredContent::Erased => true,
                StoredContent::Closed => false,
            }
    }
}

impl StreamState {
    /// Returns the indexes of the fired timers that are not armed as `append` requires.
    fn stale_timers(&self, append: &Append) -> Vec<usize> {
        let fired = append.fired_timers.iter().enumerate();
        let stale = fired.filter(|(_, fired)| {
            self.timers.get(&fired.id).is_none_or(|armed| armed.timer.arming != fired.arming)
        });
        stale.map(|(index, _)| index).collect()
    }

    fn change_timers(&mut self, append: &Append, now: Timestamp) {
        for fired in &append.fired_timers {
            self.timers.remove(&fired.id);
        }
        if append.cancels_timers {
            self.timers.clear();
        }
        for change in &append.timers {
            match change {
                TimerChange::Arm(timer) => {
                    let timer = armed(&append.stream, timer, now);
                    self.timers.insert(
                        timer.id.clone(),
                        StoredTimerRow { timer, armed_at: now, attempts: 0, last_error: None },
                    );
                }
                TimerChange::Cancel { id } => {
                    self.timers.remove(id);
                }
            }
        }
    }
}

fn armed(stream: &StreamId, timer: &NewTimer, now: Timestamp) -> StoredTimer {
    StoredTimer {
        stream: stream.clone(),
        id: timer.id.clone(),
        arming: timer.arming,
        due: match timer.due {
            Due::After(duration) => now + duration,
            Due::At(moment) => moment,
        },
        content: timer.content.clone(),
        metadata: timer.metadata.clone(),
    }
}
