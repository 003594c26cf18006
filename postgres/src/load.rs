//! Loading one stream.

use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::store::{Fingerprint, Snapshot, StoreError, StreamRow};
use composable_rust_core::{StreamId, Version};
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use sqlx::postgres::PgRow;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{self, bigint, event_columns, override_join, smallint, text, unsigned, value};

/// The number of events of a load's first page, and the maximum of any page. Each page has four
/// times as many events as the one before while that was small, so a caller that stops early leaves
/// little unread.
const FIRST_PAGE: usize = 4;
const LARGEST_PAGE: usize = 1_024;
/// The number of bytes of payloads and metadata above which the next page has no more events than
/// this one, and the number (four times as large) above which it has a quarter as many.
const SMALL_PAGE: usize = 1 << 20;
const LARGE_PAGE: usize = 4 << 20;

const LOAD_EVENTS: &str = concat!(
    "select ",
    event_columns!(),
    " from events e ",
    override_join!(),
    " where e.partition = $1 and e.stream_id = $2 and e.version > $3 \
     order by e.version limit $4"
);

/// The snapshot is a row of the same columns with offset 0, which no event has.
const LOAD_WITH_SNAPSHOT: &str = concat!(
    "(select s.version, 0::bigint, null::uuid, s.created_at, \
     '' collate \"C\", 0, s.codec, s.state_data, null::jsonb from snapshots s \
     where s.partition = $1 and s.stream_id = $2 and s.fingerprint = $3) \
     union all (select ",
    event_columns!(),
    " from events e ",
    override_join!(),
    " where e.partition = $1 and e.stream_id = $2 and e.version > coalesce(( \
         select s.version from snapshots s \
         where s.partition = $1 and s.stream_id = $2 and s.fingerprint = $3 \
     ), 0) order by e.version)"
);

/// Reads the events in pages: rows that the server sends for an abandoned statement cost it and the
/// connection as much as rows that are used.
pub(crate) fn load_events<'a>(
    store: &'a PostgresEventStore,
    stream: &'a StreamId,
    after: Version,
) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a {
    let pages = stream::try_unfold(Some((after, FIRST_PAGE)), move |next| async move {
        let Some((after, limit)) = next else { return Ok(None) };
        let page = store.page_of(stream, after, limit).await?;
        let last = page.last().filter(|_| page.len() == limit);
        let next = last.map(|last| (last.version, next_limit(limit, bytes(&page))));
        Ok::<_, StoreError>(Some((stream::iter(page.into_iter().map(Ok)), next)))
    });
    pages.try_flatten()
}

pub(crate) fn load_with_snapshot<'a>(
    store: &'a PostgresEventStore,
    stream: &'a StreamId,
    fingerprint: Fingerprint,
) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
    let partition = store.log.partition_of(stream);
    let mut seen = false;
    let query = sqlx::query(LOAD_WITH_SNAPSHOT)
        .bind(smallint(partition))
        .bind(stream.as_str())
        .bind(crate::snapshot::column(fingerprint));
    store.readers.rows(query).map(move |row| {
        let first = !std::mem::replace(&mut seen, true);
        row.and_then(|row| {
            if value::<i64>(&row, 1)? != 0 {
                return row::event(&row, stream.clone(), partition).map(StreamRow::Event);
            }
            if !first {
                return Err(sqlx::Error::Protocol("a snapshot after events".to_owned()));
            }
            snapshot(&row, fingerprint).map(StreamRow::Snapshot)
        })
        .map_err(store_error)
    })
}

impl PostgresEventStore {
    async fn page_of(
        &self,
        stream: &StreamId,
        after: Version,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let partition = self.log.partition_of(stream);
        let query = sqlx::query(LOAD_EVENTS)
            .bind(smallint(partition))
            .bind(stream.as_str())
            .bind(bigint(after.get()))
            .bind(bigint(limit as u64));
        let event = |row| row::event(&row, stream.clone(), partition);
        self.readers
            .rows(query)
            .and_then(async |row| event(row))
            .map_err(store_error)
            .try_collect()
            .await
    }
}

fn next_limit(limit: usize, bytes: usize) -> usize {
    if bytes <= SMALL_PAGE {
        (limit * 4).min(LARGEST_PAGE)
    } else if bytes <= LARGE_PAGE {
        limit
    } else {
        (limit / 4).max(1)
    }
}

/// Returns the number of bytes of payloads and metadata.
fn bytes(events: &[StoredEvent]) -> usize {
    let content = |event: &StoredEvent| match &event.content {
        StoredContent::Present(content) => content.bytes.len(),
        StoredContent::Erased | StoredContent::Closed => 0,
    };
    events.iter().map(|event| event.metadata.len() + content(event)).sum()
}

fn snapshot(row: &PgRow, fingerprint: Fingerprint) -> Result<Snapshot, sqlx::Error> {
    Ok(Snapshot {
        version: Version::new(unsigned::<i64, u64>(row, 0)?),
        fingerprint,
        codec: text(row, 6)?.to_owned(),
        bytes: value::<&[u8]>(row, 7)?.to_owned(),
    })
}
