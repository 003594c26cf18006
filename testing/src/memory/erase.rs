//! Erasing, closing and overriding.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::ERASED;
use composable_rust_core::event::StoredContent;
use composable_rust_core::message::derive_id;
use composable_rust_core::store::{AppendOutcome, StoreError};
use composable_rust_core::{EventId, Position, StreamId, Version};

use super::state::{State, StoredTimerRow};

impl State {
    pub(super) fn erase_stream(&mut self, stream: &StreamId) -> u64 {
        self.erase_queued(stream);
        let (now, log) = (self.time.now(), self.log.id);
        let partition = self.partition_of_mut(stream);
        let Some(mut data) = partition.streams.remove(stream) else { return 0 };
        let mut erased = 0;
        for offset in &data.offsets {
            let Some(row) = partition.row_mut(*offset) else { continue };
            if let StoredContent::Present(_) = row.original.content {
                row.original.content = StoredContent::Erased;
                row.original.metadata.clear();
                row.replacement = None;
                erased += 1;
            }
        }
        data.snapshots.clear();
        for entry in data.entries.values_mut() {
            entry.outcome.clear();
        }
        for StoredTimerRow { timer, last_error, .. } in data.timers.values_mut() {
            (timer.content, timer.metadata) = (nothing(), String::new());
            *last_error = None;
        }
        let last = data.offsets.last().and_then(|offset| partition.row(*offset));
        let last = last.map(|row| row.original.id);
        partition.streams.insert(stream.clone(), data);
        if let Some(EventId(last)) = last.filter(|_| erased > 0 && !partition.is_closed(stream)) {
            let id = EventId(derive_id("erased", log, &[stream.as_str()], last, 0));
            partition.push_row(stream, id, StoredContent::Erased, String::new(), now);
        }
        erased
    }

    /// Erases the stream's messages in all outboxes: they may be in another partition than their
    /// sender's, that of the event which caused them.
    fn erase_queued(&mut self, stream: &StreamId) {
        for partition in &mut self.partitions {
            let dead = partition.dead.values_mut();
            let dead = dead.filter(|letter| letter.message.sender == *stream).map(|letter| {
                letter.error.iter_mut().for_each(String::clear);
                &mut letter.message
            });
            let waiting = partition.outbox.values_mut();
            let waiting = waiting.filter(|of| of.queued.sender == *stream).map(|waiting| {
                waiting.last_error = None;
                &mut waiting.queued
            });
            for queued in waiting.chain(dead) {
                (queued.row.content, queued.row.metadata) = (nothing(), String::new());
            }
        }
    }

    pub(super) fn close_stream(
        &mut self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> AppendOutcome {
        let now = self.time.now();
        let partition = self.partition_of_mut(stream);
        let data = partition.streams.entry(stream.clone()).or_default();
        let actual = data.version();
        if !partition.is_closed(stream) {
            if actual != expected {
                return AppendOutcome::Conflict { actual };
            }
            partition.push_row(stream, event_id, StoredContent::Closed, String::new(), now);
        }
        let data = partition.streams.entry(stream.clone()).or_default();
        data.timers.clear();
        let (version, last) = (data.version(), data.offsets.last().copied());
        let position = last.map(|offset| Position::new(partition.partition, offset));
        partition.forget_parked_timers(stream, |_| true);
        AppendOutcome::Committed { version, position, actual: version }
    }

    pub(super) fn override_event(
        &mut self,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> Result<(), StoreError> {
        let partition = self.partition_of_mut(stream);
        let offset = partition.streams.get(stream).and_then(|s| s.offset(version));
        match offset.and_then(|offset| partition.row_mut(offset)) {
            Some(row) if matches!(row.original.content, StoredContent::Present(_)) => {
                row.replacement = Some(replacement.clone());
                if let Some(data) = partition.streams.get_mut(stream) {
                    data.snapshots.retain(|_, snapshot| snapshot.version < version);
                }
                self.overrides += 1;
                Ok(())
            }
            Some(_) => Err(StoreError::Invalid(format!(
                "event {version} of {stream} has no content to be replaced"
            ))),
            None => Err(StoreError::Invalid(format!("{stream} has no event {version}"))),
        }
    }
}

/// Returns the content of an erased message.
fn nothing() -> EncodedMessage {
    EncodedMessage { name: ERASED.into(), version: 1, codec: "".into(), bytes: Vec::new() }
}
