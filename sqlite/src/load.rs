//! Loading one stream, with or without a snapshot.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{CLOSED, ERASED};
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::store::{Fingerprint, Snapshot, StoreError, StreamRow};
use composable_rust_core::{EventId, Position, StreamId, Timestamp, Version};
use futures_util::stream::{self, Stream, TryStreamExt as _};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::error::store_error;
use crate::sql::{Args, bits, int, uint};
use crate::store::SqliteEventStore;

/// The number of bytes that a load reads at a time. An open statement keeps its state of the file
/// in the write-ahead log, which then grows without end, so no statement stays open while the
/// caller waits.
const PAGE_BYTES: usize = 1024 * 1024;
/// The size of an event besides its payload and metadata.
const EVENT_BYTES: usize = 256;

/// The columns of an event, in the order in which [`event`] decodes them; `e` is its row, `o` its
/// override.
macro_rules! event_columns {
    () => {
        "e.version, e.log_offset, e.event_id, e.created_at, e.metadata, \
         coalesce(o.event_type, e.event_type), coalesce(o.schema_version, e.schema_version), \
         coalesce(o.codec, e.codec), coalesce(o.event_data, e.event_data)"
    };
}
/// Joins the overrides to `events e`.
macro_rules! with_overrides {
    () => {
        " left join event_overrides o on o.partition = e.partition \
         and o.stream_id = e.stream_id and o.version = e.version "
    };
}
pub(crate) use {event_columns, with_overrides};

const EVENTS: &str = concat!(
    "select ",
    event_columns!(),
    " from events e",
    with_overrides!(),
    "where e.partition = ?1 and e.stream_id = ?2 and e.version > ?3 order by e.version"
);

// Every event has a version above the snapshot's, so the order is that of the two parts.
const SNAPSHOT_AND_EVENTS: &str = concat!(
    "select version, null, null, null, null, null, null, codec, state_data \
     from snapshots where partition = ?1 and stream_id = ?2 and fingerprint = ?3 \
     union all select ",
    event_columns!(),
    " from events e",
    with_overrides!(),
    "where e.partition = ?1 and e.stream_id = ?2 and e.version > coalesce((select version \
     from snapshots where partition = ?1 and stream_id = ?2 and fingerprint = ?3), 0) \
     order by 1"
);

/// The next page of a load.
#[derive(Debug, Clone, Copy)]
enum PageStart {
    Snapshot(Fingerprint),
    Events(Version),
}

pub(crate) fn load_events<'a>(
    store: &'a SqliteEventStore,
    stream: &'a StreamId,
    after: Version,
) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a {
    store.pages(stream, PageStart::Events(after)).try_filter_map(async |loaded| match loaded {
        StreamRow::Event(event) => Ok(Some(event)),
        StreamRow::Snapshot(_) => Ok(None),
    })
}

pub(crate) fn load_with_snapshot<'a>(
    store: &'a SqliteEventStore,
    stream: &'a StreamId,
    fingerprint: Fingerprint,
) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
    store.pages(stream, PageStart::Snapshot(fingerprint))
}

impl SqliteEventStore {
    fn pages<'a>(
        &'a self,
        stream: &'a StreamId,
        first: PageStart,
    ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
        stream::try_unfold(Some(first), move |next| async move {
            let Some(next) = next else { return Ok(None) };
            let (page, next) = self.page(stream, next).await.map_err(store_error)?;
            Ok(Some((stream::iter(page.into_iter().map(Ok)), next)))
        })
        .try_flatten()
    }

    async fn page(
        &self,
        stream: &StreamId,
        from: PageStart,
    ) -> Result<(Vec<StreamRow>, Option<PageStart>), sqlx::Error> {
        let partition = self.log_info().partition_of(stream);
        let mut args = Args::default();
        args.add(i64::from(partition));
        args.add(stream.as_str());
        let sql = match from {
            PageStart::Events(after) => {
                args.add(int(after.get()));
                EVENTS
            }
            PageStart::Snapshot(fingerprint) => {
                args.add(bits(fingerprint.0));
                SNAPSHOT_AND_EVENTS
            }
        };
        let mut reader = self.readers().get().await?;
        let (mut page, mut bytes, mut next) = (Vec::new(), 0, None);
        let mut rows = sqlx::query_with(sql, args.into_inner()).fetch(&mut reader.connection);
        while let Some(row) = rows.try_next().await? {
            let loaded = loaded(&row, partition, stream, from)?;
            if let StreamRow::Event(event) = &loaded {
                bytes += EVENT_BYTES + event.metadata.len() + content_bytes(&event.content);
                if bytes >= PAGE_BYTES {
                    next = Some(PageStart::Events(event.version));
                }
            }
            page.push(loaded);
            if next.is_some() {
                break;
            }
        }
        drop(rows);
        reader.done();
        Ok((page, next))
    }
}

fn content_bytes(content: &StoredContent) -> usize {
    match content {
        StoredContent::Present(content) => content.bytes.len(),
        StoredContent::Erased | StoredContent::Closed => 0,
    }
}

fn loaded(
    row: &SqliteRow,
    partition: u16,
    stream: &StreamId,
    from: PageStart,
) -> Result<StreamRow, sqlx::Error> {
    match (from, row.try_get_unchecked::<Option<i64>, _>(1)?) {
        (PageStart::Snapshot(fingerprint), None) => Ok(StreamRow::Snapshot(Snapshot {
            version: Version::new(uint(row.try_get_unchecked(0)?)),
            fingerprint,
            codec: row.try_get_unchecked(7)?,
            bytes: row.try_get_unchecked(8)?,
        })),
        _ => event(row, partition, stream.clone()).map(StreamRow::Event),
    }
}

pub(crate) fn event(
    row: &SqliteRow,
    partition: u16,
    stream: StreamId,
) -> Result<StoredEvent, sqlx::Error> {
    Ok(StoredEvent {
        id: EventId(row.try_get_unchecked(2)?),
        stream,
        version: Version::new(uint(row.try_get_unchecked(0)?)),
        position: Position::new(partition, uint(row.try_get_unchecked(1)?)),
        content: content(
            row.try_get_unchecked(5)?,
            row.try_get_unchecked(6)?,
            row.try_get_unchecked(7)?,
            row.try_get_unchecked(8)?,
        ),
        metadata: row.try_get_unchecked(4)?,
        recorded_at: Timestamp::from_micros(row.try_get_unchecked(3)?),
    })
}

/// Returns the content that is stored under `name`.
pub(crate) fn content(name: &str, version: i64, codec: &str, bytes: Vec<u8>) -> StoredContent {
    match name {
        ERASED => StoredContent::Erased,
        CLOSED => StoredContent::Closed,
        name => StoredContent::Present(EncodedMessage {
            name: name.to_owned().into(),
            version: u16::try_from(version).unwrap_or(u16::MAX),
            codec: codec.to_owned().into(),
            bytes,
        }),
    }
}
