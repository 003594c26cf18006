//! Erasing, closing and overriding.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{CLOSED, ERASED};
use composable_rust_core::store::{AppendOutcome, StoreError};
use composable_rust_core::{EventId, Position, StreamId, Version};
use sqlx::Row as _;
use uuid::Uuid;

use crate::connection::Transaction;
use crate::error::store_error;
use crate::sql::{Args, int, uint};
use crate::store::{SqliteEventStore, clock};

/// The statements that erase a stream; each takes partition and stream, and the erased name where
/// it sets one. Messages of the stream may be in the outbox of another partition: that of the event
/// which caused them.
const ERASE: [&str; 7] = [
    "update events set event_type = ?3, schema_version = 1, codec = '', event_data = x'', \
     metadata = '' where partition = ?1 and stream_id = ?2 \
     and event_type not in ('$erased', '$closed') returning 1",
    "delete from event_overrides where partition = ?1 and stream_id = ?2",
    "delete from snapshots where partition = ?1 and stream_id = ?2",
    "update inbox set outcome = x'' where partition = ?1 and stream_id = ?2",
    "update outbox set message_type = ?3, schema_version = 1, codec = '', message_data = x'', \
     metadata = '', last_error = null where stream_id = ?2",
    "update timers set message_type = ?3, schema_version = 1, codec = '', message_data = x'', \
     metadata = '', last_error = null where partition = ?1 and stream_id = ?2",
    "update dead_letters set message_type = ?3, schema_version = 1, codec = '', \
     message_data = x'', metadata = '', error = iif(error is null, null, '') where stream_id = ?2",
];

const LAST: &str = "select version, log_offset, event_type from events \
    where partition = ? and stream_id = ? order by version desc limit 1";

/// Appends an event without content.
const END: &str = "insert into events (partition, stream_id, log_offset, version, event_id, \
    event_type, schema_version, codec, created_at, metadata, event_data) \
    select ?1, ?2, 1 + coalesce((select log_offset from events where partition = ?1 \
    order by log_offset desc limit 1), 0), ?3, ?4, ?5, 1, '', ?6, '', x'' returning log_offset";

const OVERRIDE: &str = "insert or replace into event_overrides (partition, stream_id, version, \
    event_type, schema_version, codec, event_data, created_at) values (?, ?, ?, ?, ?, ?, ?, ?)";

/// Deletes the snapshots that include the overridden event.
const FORGET_SNAPSHOTS: &str = "delete from snapshots \
    where partition = ? and stream_id = ? and version >= ?; commit";

pub(crate) async fn erase_stream(
    store: &SqliteEventStore,
    stream: &StreamId,
) -> Result<u64, StoreError> {
    store.erase_rows(stream).await.map_err(store_error)
}

pub(crate) async fn close_stream(
    store: &SqliteEventStore,
    stream: &StreamId,
    expected: Version,
    event_id: EventId,
) -> Result<AppendOutcome, StoreError> {
    store.close_at(stream, expected, event_id).await.map_err(store_error)
}

pub(crate) async fn override_event(
    store: &SqliteEventStore,
    stream: &StreamId,
    version: Version,
    replacement: &EncodedMessage,
) -> Result<(), StoreError> {
    replacement.validate()?;
    let mut transaction = store.writer().begin().await.map_err(store_error)?;
    let name = "select event_type from events \
                where partition = ? and stream_id = ? and version = ?";
    let mut args = store.args_of(stream);
    args.add(int(version.get()));
    let rows = transaction.fetch(name, args).await.map_err(store_error)?;
    let name: Option<&str> =
        rows.first().map(|row| row.try_get_unchecked(0)).transpose().map_err(store_error)?;
    let refusal = match name {
        None => format!("stream {stream} has no event {version}"),
        Some(ERASED | CLOSED) => {
            format!("event {version} of stream {stream} has no content to be replaced")
        }
        Some(_) => return store.write_override(transaction, stream, version, replacement).await,
    };
    transaction.rollback().await.map_err(store_error)?;
    Err(StoreError::Invalid(refusal))
}

impl SqliteEventStore {
    async fn erase_rows(&self, stream: &StreamId) -> Result<u64, sqlx::Error> {
        let mut transaction = self.writer().begin().await?;
        let mut erased = 0;
        for sql in ERASE {
            let mut args = self.args_of(stream);
            args.add(ERASED);
            erased += transaction.fetch(sql, args).await?.len();
        }
        let (last, _, name) = self.last_event(&mut transaction, stream).await?;
        let tells = erased > 0 && name != CLOSED;
        if tells {
            let args = self.end_args(stream, last, EventId(Uuid::new_v4()), ERASED);
            transaction.fetch(END, args).await?;
        }
        transaction.commit_erasure().await?;
        if tells {
            self.wake();
        }
        Ok(u64::try_from(erased).unwrap_or(u64::MAX))
    }

    async fn close_at(
        &self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> Result<AppendOutcome, sqlx::Error> {
        let mut transaction = self.writer().begin().await?;
        let (actual, offset, name) = self.last_event(&mut transaction, stream).await?;
        let partition = self.log_info().partition_of(stream);
        if name == CLOSED {
            transaction.rollback().await?;
            let position = Some(Position::new(partition, offset));
            return Ok(AppendOutcome::Committed { version: actual, position, actual });
        }
        if actual != expected {
            transaction.rollback().await?;
            return Ok(AppendOutcome::Conflict { actual });
        }
        let args = self.end_args(stream, actual, event_id, CLOSED);
        let rows = transaction.fetch(END, args).await?;
        let offset = rows.first().map(|row| row.try_get_unchecked(0)).transpose()?.map(uint);
        let timers = "delete from timers where partition = ?1 and stream_id = ?2; \
             delete from dead_letters where partition = ?1 and kind = 'timer' \
             and target = substr(?2, 1, instr(?2, '-') - 1) and stream_id = ?2; commit";
        transaction.commit_with(timers, self.args_of(stream)).await?;
        self.wake();
        let position = offset.map(|offset| Position::new(partition, offset));
        let version = actual.next();
        Ok(AppendOutcome::Committed { version, position, actual: version })
    }

    /// Returns the arguments of [`END`] for an event after version `last`.
    fn end_args<'a>(
        &self,
        stream: &'a StreamId,
        last: Version,
        id: EventId,
        name: &'static str,
    ) -> Args<'a> {
        let mut args = self.args_of(stream);
        args.add(int(last.next().get()));
        args.add(id.0);
        args.add(name);
        args.add(clock().as_micros());
        args
    }

    /// Reads version, offset and name of the last event; zeros and an empty name if there is none.
    async fn last_event(
        &self,
        transaction: &mut Transaction<'_>,
        stream: &StreamId,
    ) -> Result<(Version, u64, String), sqlx::Error> {
        let rows = transaction.fetch(LAST, self.args_of(stream)).await?;
        let Some(row) = rows.first() else { return Ok((Version::ZERO, 0, String::new())) };
        let version = Version::new(uint(row.try_get_unchecked(0)?));
        Ok((version, uint(row.try_get_unchecked(1)?), row.try_get_unchecked(2)?))
    }

    async fn write_override(
        &self,
        mut transaction: Transaction<'_>,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> Result<(), StoreError> {
        let mut args = self.args_of(stream);
        args.add(int(version.get()));
        args.add(&*replacement.name);
        args.add(i64::from(replacement.version));
        args.add(&*replacement.codec);
        args.add(replacement.bytes.as_slice());
        args.add(clock().as_micros());
        transaction.fetch(OVERRIDE, args).await.map_err(store_error)?;
        let count = "update log set overrides = overrides + 1";
        transaction.fetch(count, Args::default()).await.map_err(store_error)?;
        let mut args = self.args_of(stream);
        args.add(int(version.get()));
        transaction.commit_with(FORGET_SNAPSHOTS, args).await.map_err(store_error)
    }
}
