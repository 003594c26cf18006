//! Decoding of rows.

use std::borrow::Cow;
use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{CLOSED, ERASED};
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::{EventId, Position, StreamId, Timestamp, Version};
use sqlx::Row as _;
use sqlx::postgres::{PgRow, PgValueRef, Postgres};
use sqlx::{Decode, Type, ValueRef as _};

/// The server's epoch, 2000-01-01T00:00:00Z, in microseconds since 1970.
const SERVER_EPOCH: i64 = 946_684_800_000_000;

/// The columns of an event, in the order that [`event`] reads them.
///
/// An override is looked up only if the store has any; the test is made once per statement. The
/// lateral join keeps the order of `e`.
macro_rules! event_columns {
    () => {
        "e.version, e.log_offset, e.event_id, e.created_at, \
         coalesce(o.event_type, e.event_type), coalesce(o.schema_version, e.schema_version), \
         coalesce(o.codec, e.codec), coalesce(o.event_data, e.event_data), e.metadata"
    };
}
macro_rules! override_join {
    () => {
        "left join lateral ( \
             select o.event_type, o.schema_version, o.codec, o.event_data from event_overrides o \
             where (select exists (select from event_overrides)) \
             and o.partition = e.partition and o.stream_id = e.stream_id and o.version = e.version \
             limit 1 \
         ) o on true"
    };
}
pub(crate) use {event_columns, override_join};

/// Decodes the event in a row of [`event_columns`].
pub(crate) fn event(
    row: &PgRow,
    stream: StreamId,
    partition: u16,
) -> Result<StoredEvent, sqlx::Error> {
    let content = match text(row, 4)? {
        ERASED => StoredContent::Erased,
        CLOSED => StoredContent::Closed,
        _ => StoredContent::Present(encoded(row, 4)?),
    };
    Ok(StoredEvent {
        id: EventId(value(row, 2)?),
        stream,
        version: Version::new(unsigned::<i64, u64>(row, 0)?),
        position: Position::new(partition, unsigned::<i64, u64>(row, 1)?),
        content,
        metadata: metadata(row, 8)?,
        recorded_at: timestamp(row, 3)?,
    })
}

/// Decodes a message from the columns name, version, codec and bytes, of which `first` is the
/// first.
pub(crate) fn encoded(row: &PgRow, first: usize) -> Result<EncodedMessage, sqlx::Error> {
    Ok(EncodedMessage {
        name: Cow::Owned(text(row, first)?.to_owned()),
        version: unsigned::<i32, u16>(row, first + 1)?,
        codec: codec(text(row, first + 2)?),
        bytes: value::<&[u8]>(row, first + 3)?.to_owned(),
    })
}

/// Decodes a stream's name.
pub(crate) fn stream(row: &PgRow, column: usize) -> Result<StreamId, sqlx::Error> {
    text(row, column)?.parse().map_err(|source| decode_error(column, source))
}

/// Returns a codec's name. The names of the framework's codecs need no allocation.
fn codec(name: &str) -> Cow<'static, str> {
    match name {
        "bincode" => Cow::Borrowed("bincode"),
        "json" => Cow::Borrowed("json"),
        other => Cow::Owned(other.to_owned()),
    }
}

/// Decodes a column whose type the statement determines; sqlx's check of the type by name would
/// take a tenth of the time of a load.
pub(crate) fn value<'r, T>(row: &'r PgRow, column: usize) -> Result<T, sqlx::Error>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get_unchecked(column)
}

pub(crate) fn text(row: &PgRow, column: usize) -> Result<&str, sqlx::Error> {
    value(row, column)
}

/// Decodes a number that cannot be negative.
pub(crate) fn unsigned<'r, S, U>(row: &'r PgRow, column: usize) -> Result<U, sqlx::Error>
where
    S: Decode<'r, Postgres> + Type<Postgres>,
    U: TryFrom<S, Error = std::num::TryFromIntError>,
{
    U::try_from(value::<S>(row, column)?).map_err(|source| decode_error(column, source))
}

/// Converts a partition to the type of its column. A log has far fewer than 32,767.
pub(crate) fn smallint(partition: u16) -> i16 {
    i16::try_from(partition).unwrap_or(i16::MAX)
}

/// Converts a version or offset to the type of its column, whose range none ever exceeds.
pub(crate) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The longest time to a deadline: some 30,000 years, well within the server's range.
pub(crate) const MAX_DUE_MICROS: i64 = 1_000_000_000_000_000_000;

/// Converts a time span to microseconds, as the server's functions take it.
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).map_or(MAX_DUE_MICROS, |micros| micros.min(MAX_DUE_MICROS))
}

/// Decodes a `timestamptz`: microseconds since 2000.
pub(crate) fn timestamp(row: &PgRow, column: usize) -> Result<Timestamp, sqlx::Error> {
    Ok(Timestamp::from_micros(value::<i64>(row, column)?.saturating_add(SERVER_EPOCH)))
}

/// Decodes JSONB, which is a version byte and JSON text; null is empty.
pub(crate) fn metadata(row: &PgRow, column: usize) -> Result<String, sqlx::Error> {
    let raw: PgValueRef<'_> = row.try_get_raw(column)?;
    if raw.is_null() {
        return Ok(String::new());
    }
    let bytes = raw.as_bytes().map_err(|source| decode_error(column, source))?;
    match bytes.split_first() {
        Some((1, json)) => {
            let json = std::str::from_utf8(json).map_err(|source| decode_error(column, source))?;
            Ok(json.to_owned())
        }
        _ => Err(decode_error(column, "an unknown version of JSONB")),
    }
}

pub(crate) fn decode_error(
    column: usize,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_string(), source: source.into() }
}
