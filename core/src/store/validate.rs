//! Checks that every store makes before it sends a request.

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::codec::EncodedMessage;
use crate::queue::{
    ArmedTimer, CheckpointAdvance, OutboxKind, OutboxMessage, QueueChange, Settlement,
    TimerSettlement,
};
use crate::store::{
    Append, LogInfo, MAX_APPEND_BYTES, MAX_ID_BYTES, MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES,
    NewInboxEntry, NewOutboxRow, StoreError, TimerChange,
};

/// Checks the requirements of
/// [`EventStore::append_events`](crate::store::EventStore::append_events) on a batch, so that an
/// invalid append is found before the others fail with it.
///
/// Every store calls it before it sends a batch. A writer that queues appends calls
/// [`Append::validate`] first.
///
/// # Errors
///
/// [`StoreError::Invalid`] names the first invalid append and the reason. Nothing was written.
pub fn validate_batch(log: LogInfo, partition: u16, batch: &[Append]) -> Result<(), StoreError> {
    validate_partition(log, partition)?;
    let mut streams = HashSet::with_capacity(batch.len());
    for append in batch {
        let stream = &append.stream;
        let own = log.partition_of(stream);
        if own != partition {
            return Err(StoreError::Invalid(format!(
                "stream {stream} belongs to partition {own}, not to {partition}"
            )));
        }
        if !streams.insert(stream.as_str()) {
            return Err(StoreError::Invalid(format!("two appends of a batch to stream {stream}")));
        }
        append.validate()?;
    }
    Ok(())
}

/// Checks that `log` has the partition.
///
/// # Errors
///
/// [`StoreError::Invalid`] if it does not.
pub fn validate_partition(log: LogInfo, partition: u16) -> Result<(), StoreError> {
    if partition < log.partitions {
        return Ok(());
    }
    let count = log.partitions;
    Err(StoreError::Invalid(format!("there is no partition {partition} in a log of {count}")))
}

/// Checks the requirements of [`Outbox::enqueue`](crate::queue::Outbox::enqueue).
///
/// # Errors
///
/// [`StoreError::Invalid`] names the violation. Nothing was written.
pub fn validate_enqueue(
    log: LogInfo,
    partition: u16,
    rows: &[OutboxMessage],
    advance: Option<&CheckpointAdvance>,
) -> Result<(), StoreError> {
    validate_partition(log, partition)?;
    validate_rows(rows)?;
    match advance {
        Some(advance) => require_partition("lease", advance.lease.partition, partition)
            .and_then(|()| require_partition("checkpoint", advance.to.partition, partition)),
        None => Ok(()),
    }
}

/// Checks rows that are to be queued.
///
/// # Errors
///
/// [`StoreError::Invalid`] names the violation.
pub fn validate_rows(rows: &[OutboxMessage]) -> Result<(), StoreError> {
    let check = |queued: &OutboxMessage| check_row(&queued.row).map_err(StoreError::Invalid);
    rows.iter().try_for_each(check)
}

/// Checks the requirements of [`Outbox::settle`](crate::queue::Outbox::settle).
///
/// # Errors
///
/// [`StoreError::Invalid`] names the violation. Nothing was written.
pub fn validate_settlements(
    log: LogInfo,
    partition: u16,
    settlements: &[Settlement],
) -> Result<(), StoreError> {
    validate_partition(log, partition)?;
    settlements.iter().try_for_each(|settlement| {
        require_partition("lease", settlement.lease.partition, partition)?;
        require_partition("queue", settlement.queue.partition, partition)?;
        validate_change(&settlement.change)
    })
}

/// Checks the requirements of [`Timers::settle_timers`](crate::queue::Timers::settle_timers).
///
/// # Errors
///
/// [`StoreError::Invalid`] names the violation. Nothing was written.
pub fn validate_timer_settlements(
    log: LogInfo,
    partition: u16,
    settlements: &[TimerSettlement],
) -> Result<(), StoreError> {
    validate_partition(log, partition)?;
    settlements.iter().try_for_each(|settlement| {
        require_partition("lease", settlement.lease.partition, partition)?;
        require_partition("stream", log.partition_of(&settlement.stream), partition)?;
        validate_change(&settlement.change)
    })
}

fn validate_change(change: &QueueChange) -> Result<(), StoreError> {
    match change {
        QueueChange::Done(rows) => validate_rows(rows),
        QueueChange::Begun { .. } | QueueChange::Failed { .. } | QueueChange::Parked { .. } => {
            Ok(())
        }
    }
}

fn require_partition(what: &str, found: u16, wanted: u16) -> Result<(), StoreError> {
    if found == wanted {
        return Ok(());
    }
    Err(StoreError::Invalid(format!("a {what} of partition {found}, not of {wanted}")))
}

impl Append {
    /// Checks sizes, characters and inbox entries.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] names the violation.
    pub fn validate(&self) -> Result<(), StoreError> {
        self.check().map_err(|what| StoreError::Invalid(format!("stream {}: {what}", self.stream)))
    }

    fn check(&self) -> Result<(), String> {
        for event in &self.events {
            let name = &event.content.name;
            check_content(&event.content)
                .and_then(|()| check_metadata(&event.metadata))
                .map_err(|what| format!("event `{}`: {what}", name.escape_debug()))?;
        }
        check_marks(&self.inbox, self.events.len())?;
        self.outbox.iter().try_for_each(check_row)?;
        check_fires(&self.fired_timers, &self.inbox)?;
        for change in &self.timers {
            check_timer(change)?;
        }
        check_size("append", self.size(), MAX_APPEND_BYTES)
    }
}

impl EncodedMessage {
    /// Checks sizes and characters.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] names the violation.
    pub fn validate(&self) -> Result<(), StoreError> {
        check_content(self).map_err(|what| {
            StoreError::Invalid(format!("content `{}`: {what}", self.name.escape_debug()))
        })
    }
}

fn check_content(content: &EncodedMessage) -> Result<(), String> {
    if content.name.is_empty() || content.name.starts_with('$') {
        return Err("a name is not empty and does not start with `$`".to_owned());
    }
    check_text("name", &content.name)?;
    check_text("codec", &content.codec)?;
    check_size("payload", content.bytes.len(), MAX_PAYLOAD_BYTES)
}

/// Checks that `metadata` is empty or JSON text without NUL, which a JSONB column cannot store.
fn check_metadata(metadata: &str) -> Result<(), String> {
    check_size("metadata", metadata.len(), MAX_METADATA_BYTES)?;
    if metadata.is_empty() {
        return Ok(());
    }
    if holds_nul_escape(metadata) {
        return Err("metadata holds a NUL character".to_owned());
    }
    serde_json::from_str::<&RawValue>(metadata)
        .map(|_| ())
        .map_err(|error| format!("metadata is not JSON: {error}"))
}

/// Returns `true` if `json` contains `\u0000` with a backslash that is not itself escaped. A raw
/// NUL is not JSON.
fn holds_nul_escape(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let before = json.as_bytes()[..at].iter().rev().take_while(|b| **b == b'\\').count();
        before % 2 == 0
    })
}

fn check_marks(marks: &[NewInboxEntry], events: usize) -> Result<(), String> {
    for (i, mark) in marks.iter().enumerate() {
        let id = mark.message_id;
        if marks[..i].iter().any(|other| other.message_id == id) {
            return Err(format!("two marks of message {id}"));
        }
        if u64::from(mark.first_event) + u64::from(mark.event_count) > events as u64 {
            return Err(format!("the mark of message {id} names events that are not there"));
        }
        check_size("answer", mark.outcome.len(), MAX_PAYLOAD_BYTES)
            .map_err(|what| format!("the mark of message {id}: {what}"))?;
    }
    Ok(())
}

fn check_row(row: &NewOutboxRow) -> Result<(), String> {
    if row.kind == OutboxKind::Timer {
        return Err(format!("effect {}: timers do not wait in the outbox", row.id));
    }
    check_text("target", &row.target)
        .and_then(|()| check_text("recipient", &row.recipient))
        .and_then(|()| check_content(&row.content))
        .and_then(|()| check_metadata(&row.metadata))
        .map_err(|what| format!("effect {}: {what}", row.id))
}

fn check_fires(fires: &[ArmedTimer], marks: &[NewInboxEntry]) -> Result<(), String> {
    if !fires.is_empty() && marks.is_empty() {
        return Err("an append that fires a timer has a mark, to be recognised by".to_owned());
    }
    for (i, firing) in fires.iter().enumerate() {
        check_timer_id(&firing.id)?;
        if fires[..i].iter().any(|other| other.id == firing.id) {
            return Err(format!("timer `{}` is fired twice", firing.id.escape_debug()));
        }
    }
    Ok(())
}

fn check_timer_id(id: &str) -> Result<(), String> {
    check_text("id", id)
        .and_then(|()| check_size("id", id.len(), MAX_ID_BYTES))
        .map_err(|what| format!("timer `{}`: {what}", id.escape_debug()))
}

fn check_timer(change: &TimerChange) -> Result<(), String> {
    let id = match change {
        TimerChange::Arm(timer) => &timer.id,
        TimerChange::Cancel { id } => id,
    };
    check_timer_id(id)?;
    match change {
        TimerChange::Arm(timer) => check_content(&timer.content)
            .and_then(|()| check_metadata(&timer.metadata))
            .map_err(|what| format!("timer `{}`: {what}", id.escape_debug())),
        TimerChange::Cancel { .. } => Ok(()),
    }
}

fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.contains('\0') { Err(format!("{what} holds a NUL character")) } else { Ok(()) }
}

fn check_size(what: &str, bytes: usize, limit: usize) -> Result<(), String> {
    if bytes <= limit {
        Ok(())
    } else {
        Err(format!("{what} has {bytes} bytes, {limit} are allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;
    use crate::store::{ExpectedVersion, LogSecret, TimerArming};
    use crate::{EventId, MessageId};
    use uuid::Uuid;

    fn event(name: &'static str, payload: usize, metadata: impl Into<String>) -> NewEvent {
        NewEvent {
            id: EventId(Uuid::nil()),
            content: EncodedMessage {
                name: name.into(),
                version: 1,
                codec: "json".into(),
                bytes: vec![0; payload],
            },
            metadata: metadata.into(),
        }
    }

    fn append(stream: &str, event: NewEvent) -> Append {
        Append::new(stream.parse().unwrap(), ExpectedVersion::Any).with_events(vec![event])
    }

    fn refusal(append: &Append) -> String {
        append.validate().unwrap_err().to_string()
    }

    #[test]
    fn limits_are_inclusive() {
        let text = format!("\"{}\"", "x".repeat(MAX_METADATA_BYTES - 2));
        append("a-1", event("x", MAX_PAYLOAD_BYTES, text.clone())).validate().unwrap();
        assert!(refusal(&append("a-1", event("x", MAX_PAYLOAD_BYTES + 1, ""))).contains("payload"));
        assert!(refusal(&append("a-1", event("x", 0, text + " "))).contains("metadata"));
        let full = MAX_APPEND_BYTES / MAX_PAYLOAD_BYTES;
        let mut many = append("a-1", event("x", MAX_PAYLOAD_BYTES, ""));
        many.events = vec![many.events.remove(0); full];
        many.validate().unwrap();
        many.events.push(event("x", 1, ""));
        assert!(refusal(&many).contains("append"));
    }

    #[test]
    fn nul_is_refused_in_every_disguise() {
        assert!(refusal(&append("a-1", event("x\0", 0, ""))).contains("NUL"));
        assert!(refusal(&append("a-1", event("x", 0, r#""a\u0000""#))).contains("NUL"));
        assert!(refusal(&append("a-1", event("x", 0, r#""a\\\u0000""#))).contains("NUL"));
        assert!(refusal(&append("a-1", event("x", 0, "\"\0\""))).contains("JSON"));
        append("a-1", event("x", 0, r#""a\\u0000""#)).validate().unwrap();
    }

    #[test]
    fn names_of_the_framework_are_reserved() {
        assert!(refusal(&append("a-1", event("$closed", 0, ""))).contains('$'));
    }

    #[test]
    fn marks_are_checked() {
        let mark = NewInboxEntry {
            message_id: MessageId(Uuid::nil()),
            digest: 0,
            first_event: 0,
            event_count: 1,
            outcome: Vec::new(),
        };
        let append = append("a-1", event("x", 0, ""));
        append.clone().with_inbox(vec![mark.clone()]).validate().unwrap();
        let twice = append.clone().with_inbox(vec![mark.clone(), mark.clone()]);
        assert!(refusal(&twice).contains("two marks"));
        let beyond = append.with_inbox(vec![NewInboxEntry { first_event: 1, ..mark }]);
        assert!(refusal(&beyond).contains("not there"));
    }

    #[test]
    fn firings_are_checked() {
        let message_id = MessageId(Uuid::nil());
        let mark = NewInboxEntry {
            message_id,
            digest: 0,
            first_event: 0,
            event_count: 1,
            outcome: Vec::new(),
        };
        let firing = |id: &str| ArmedTimer {
            id: id.to_owned(),
            arming: TimerArming { armed_by: message_id, effect_index: 0 },
        };
        let mut firing_one = append("a-1", event("x", 0, ""));
        firing_one.fired_timers = vec![firing("t")];
        assert!(refusal(&firing_one).contains("mark"));
        let mut marked = firing_one.with_inbox(vec![mark]);
        marked.validate().unwrap();
        marked.fired_timers.push(firing("u"));
        marked.validate().unwrap();
        marked.fired_timers.push(firing("t"));
        assert!(refusal(&marked).contains("twice"));
        marked.fired_timers = vec![firing("\0")];
        assert!(refusal(&marked).contains("NUL"));
    }

    #[test]
    fn a_batch_is_of_one_partition_and_different_streams() {
        let log = LogInfo { id: Uuid::nil(), partitions: 3, secret: LogSecret::new([0; 32]) };
        let append = append("a-1", event("x", 0, ""));
        let own = log.partition_of(&append.stream);
        validate_batch(log, own, std::slice::from_ref(&append)).unwrap();
        validate_batch(log, (own + 1) % 3, std::slice::from_ref(&append)).unwrap_err();
        validate_batch(log, 3, &[]).unwrap_err();
        validate_batch(log, own, &[append.clone(), append]).unwrap_err();
    }
}
