//! Rows as they come over the wire.

use std::borrow::Cow;
use std::time::Duration;

use composable_rust_core::event::{CLOSED, ERASED};
use composable_rust_core::{
    EncodedMessage, EventId, Position, StoredContent, StoredEvent, StreamId, Timestamp, Version,
};
use sqlx::Row as _;
use sqlx::postgres::{PgRow, PgValueRef, Postgres};
use sqlx::{Decode, Type, ValueRef as _};

/// 2000-01-01T00:00:00Z, from which the server counts, in microseconds since 1970.
const SERVER_EPOCH: i64 = 946_684_800_000_000;

/// The columns of an event, in the order that [`event`] reads them.
///
/// A replacement that an operator stored beside an event is looked for only if there is any at all:
/// the test is made once per statement. The lateral join keeps the order of `e`.
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

/// The event in a row of [`event_columns`].
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

/// Content, whose name, version, codec and bytes stand from column `first` on.
pub(crate) fn encoded(row: &PgRow, first: usize) -> Result<EncodedMessage, sqlx::Error> {
    Ok(EncodedMessage {
        name: Cow::Owned(text(row, first)?.to_owned()),
        version: unsigned::<i32, u16>(row, first + 1)?,
        codec: codec(text(row, first + 2)?),
        bytes: value::<&[u8]>(row, first + 3)?.to_owned(),
    })
}

/// A stream's name.
pub(crate) fn stream(row: &PgRow, column: usize) -> Result<StreamId, sqlx::Error> {
    text(row, column)?.parse().map_err(|source| decode_error(column, source))
}

/// The codecs that come with the framework need no allocation.
fn codec(name: &str) -> Cow<'static, str> {
    match name {
        "bincode" => Cow::Borrowed("bincode"),
        "json" => Cow::Borrowed("json"),
        other => Cow::Owned(other.to_owned()),
    }
}

/// A column whose type the statement fixes; sqlx's check of it by name would be a tenth of a load.
pub(crate) fn value<'r, T>(row: &'r PgRow, column: usize) -> Result<T, sqlx::Error>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get_unchecked(column)
}

pub(crate) fn text(row: &PgRow, column: usize) -> Result<&str, sqlx::Error> {
    value(row, column)
}

/// A number that cannot be negative.
pub(crate) fn unsigned<'r, S, U>(row: &'r PgRow, column: usize) -> Result<U, sqlx::Error>
where
    S: Decode<'r, Postgres> + Type<Postgres>,
    U: TryFrom<S, Error = std::num::TryFromIntError>,
{
    U::try_from(value::<S>(row, column)?).map_err(|source| decode_error(column, source))
}

/// A partition as its column holds it. The most that a log can have are far fewer than 32,767.
pub(crate) fn smallint(partition: u16) -> i16 {
    i16::try_from(partition).unwrap_or(i16::MAX)
}

/// A version or offset as its column holds it. None is ever beyond what a `bigint` holds.
pub(crate) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The furthest away that anything is due: some 30,000 years, well within what the server knows.
pub(crate) const MAX_DUE_MICROS: i64 = 1_000_000_000_000_000_000;

/// A time span in microseconds, as columns of the server's functions hold it.
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).map_or(MAX_DUE_MICROS, |micros| micros.min(MAX_DUE_MICROS))
}

/// A `timestamptz`: microseconds since 2000.
pub(crate) fn timestamp(row: &PgRow, column: usize) -> Result<Timestamp, sqlx::Error> {
    Ok(Timestamp::from_micros(value::<i64>(row, column)?.saturating_add(SERVER_EPOCH)))
}

/// JSONB comes as a version byte and JSON text; null is empty.
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
