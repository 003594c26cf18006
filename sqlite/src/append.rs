//! Appending: the checks in the order that the port specifies, then the writes.

use composable_rust_core::event::{NewEvent, StoredContent};
use composable_rust_core::store::{
    Append, AppendOutcome, ExpectedVersion, NewInboxEntry, StoreError, validate_batch,
};
use composable_rust_core::{Position, Version};
use sqlx::Row as _;
use uuid::Uuid;

use crate::append_state::{self, StreamState};
use crate::connection::Transaction;
use crate::error::store_error;
use crate::insert::Rows;
use crate::load::content;
use crate::sql::{Args, int, uint};
use crate::store::{SqliteEventStore, clock};

pub(crate) async fn append_events(
    store: &SqliteEventStore,
    partition: u16,
    batch: &[Append],
) -> Result<Vec<AppendOutcome>, StoreError> {
    validate_batch(store.log_info(), partition, batch)?;
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    store.append_valid(partition, batch).await.map_err(store_error)
}

impl SqliteEventStore {
    async fn append_valid(
        &self,
        partition: u16,
        batch: &[Append],
    ) -> Result<Vec<AppendOutcome>, sqlx::Error> {
        let (mut transaction, standing) =
            append_state::begin(self.writer(), partition, batch).await?;
        let now = clock();
        let mut rows = Rows::new(partition, now, standing.head, standing.outbox_sequence);
        let mut outcomes = Vec::with_capacity(batch.len());
        for (append, stream) in batch.iter().zip(standing.streams) {
            let outcome = match earlier(&mut transaction, partition, append, &stream).await? {
                Some(outcome) => outcome,
                None => decide(append, stream).unwrap_or_else(|before| {
                    let version = before.plus(append.events.len() as u64);
                    let offset = rows.add(append, before);
                    let position = offset.map(|offset| Position::new(partition, offset));
                    AppendOutcome::Committed { version, position, actual: version }
                }),
            };
            outcomes.push(outcome);
        }
        rows.commit(transaction).await?;
        if rows.has_events() {
            self.wake();
        }
        if rows.has_work() {
            self.has_work();
        }
        Ok(outcomes)
    }
}

/// Returns the outcome of an append that is not written, or else the version of its stream.
fn decide(append: &Append, stream: StreamState) -> Result<AppendOutcome, Version> {
    if !stream.entries.is_empty() {
        Ok(AppendOutcome::Duplicate(stream.entries))
    } else if stream.closed {
        Ok(AppendOutcome::Closed)
    } else {
        let stale = stream.stale_timers(append);
        if !stale.is_empty() {
            Ok(AppendOutcome::StaleTimers(stale))
        } else if !append.expected.admits(stream.version) {
            Ok(AppendOutcome::Conflict { actual: stream.version })
        } else {
            Err(stream.version)
        }
    }
}

/// Returns the earlier outcome if an earlier call committed this same append: its inbox entries
/// exist as it would write them, and its events are where it would put them.
async fn earlier(
    transaction: &mut Transaction<'_>,
    partition: u16,
    append: &Append,
    stream: &StreamState,
) -> Result<Option<AppendOutcome>, sqlx::Error> {
    let base = possible_base(append, stream).filter(|base| *base <= stream.version);
    let Some(base) = base else { return Ok(None) };
    let version = base.plus(append.events.len() as u64);
    if version > stream.version {
        return Ok(None);
    }
    let events = stored_events(transaction, partition, append, base).await?;
    let events_stand = events.len() == append.events.len()
        && events.iter().zip(&append.events).all(|(stored, event)| stored.is(event));
    let entries_exist = append.inbox.iter().zip(&stream.entries).all(|(entry, standing)| {
        let last = last_event(entry);
        let index = usize::try_from(last).ok().filter(|_| entry.event_count > 0);
        let offset = index.and_then(|i| events.get(i.checked_sub(1)?)).map(|event| event.offset);
        standing.digest == entry.digest
            && standing.receipt.version == base.plus(last)
            && standing.receipt.position.map(|p| p.offset) == offset
            && (standing.outcome == entry.outcome
                || (standing.outcome.is_empty() && !append.events.is_empty()))
    });
    Ok((events_stand && entries_exist).then(|| AppendOutcome::Committed {
        version,
        position: events.last().map(|event| Position::new(partition, event.offset)),
        actual: stream.version,
    }))
}

/// Returns the version that `append` found if it was committed before; `None` if it was not.
fn possible_base(append: &Append, stream: &StreamState) -> Option<Version> {
    if stream.entries.len() < append.inbox.len() {
        return None;
    }
    match (append.expected, append.inbox.first(), stream.entries.first()) {
        (_, None, _) if append.events.is_empty() => None,
        (ExpectedVersion::Exact(base), _, _) => Some(base),
        (_, Some(entry), Some(standing)) => {
            standing.receipt.version.get().checked_sub(last_event(entry)).map(Version::new)
        }
        _ => None,
    }
}

/// Returns the number of the append's events up to the last that the message caused.
fn last_event(entry: &NewInboxEntry) -> u64 {
    u64::from(entry.first_event) + u64::from(entry.event_count)
}

/// An event of the log, to compare with one that is to be appended.
struct StoredEvent {
    id: Uuid,
    offset: u64,
    content: StoredContent,
}

impl StoredEvent {
    /// Returns `true` if `event` was stored as this event. Equal ids are not enough: a message that
    /// is decided again may produce other content under the same ids. An erased event equals any;
    /// metadata is not part of a state.
    fn is(&self, event: &NewEvent) -> bool {
        self.id == event.id.0
            && match &self.content {
                StoredContent::Present(content) => *content == event.content,
                StoredContent::Erased => true,
                StoredContent::Closed => false,
            }
    }
}

/// Reads as many events after `base` as `append` has, in their appended form.
async fn stored_events(
    transaction: &mut Transaction<'_>,
    partition: u16,
    append: &Append,
    base: Version,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    if append.events.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = Args::default();
    args.add(i64::from(partition));
    args.add(append.stream.as_str());
    args.add(int(base.get()));
    args.add(int(base.plus(append.events.len() as u64).get()));
    let sql = "select event_id, log_offset, event_type, schema_version, codec, event_data \
               from events where partition = ? and stream_id = ? \
               and version > ? and version <= ? order by version";
    let rows = transaction.fetch(sql, args).await?;
    rows.iter()
        .map(|row| {
            Ok(StoredEvent {
                id: row.try_get_unchecked(0)?,
                offset: uint(row.try_get_unchecked(1)?),
                content: content(
                    row.try_get_unchecked(2)?,
                    row.try_get_unchecked(3)?,
                    row.try_get_unchecked(4)?,
                    row.try_get_unchecked(5)?,
                ),
            })
        })
        .collect()
}
