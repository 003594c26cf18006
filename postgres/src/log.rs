//! Reading the log and waiting for events.

use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::StoreError;
use composable_rust_core::{Position, StreamId, Timestamp};
use futures_util::TryStreamExt as _;
use sqlx::postgres::PgRow;
use tokio::time::{Instant, sleep_until};

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{self, bigint, event_columns, override_join, smallint, text, timestamp, unsigned};

const READ_LOG: &str = concat!(
    "select ",
    event_columns!(),
    ", e.partition, e.stream_id \
     from unnest($1, $2) a(partition, log_offset) \
     cross join lateral ( \
         select * from events e where e.partition = a.partition and e.log_offset > a.log_offset \
         order by e.log_offset limit $3 \
     ) e ",
    override_join!()
);

/// The partitions and their highest offsets, without the leading `select`.
pub(crate) const HEADS: &str = "p.partition, coalesce(( \
         select e.log_offset from events e where e.partition = p.partition \
         order by e.log_offset desc limit 1 \
     ), 0) from partitions p order by p.partition";

const NOW: &str = "select clock_timestamp()";

pub(crate) async fn read_log(
    store: &PostgresEventStore,
    after: &[Position],
    limit: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    let partitions: Vec<i16> = after.iter().map(|p| smallint(p.partition)).collect();
    let offsets: Vec<i64> = after.iter().map(|p| bigint(p.offset)).collect();
    let known: Vec<u64> = after.iter().map(|p| store.heads.known(p.partition)).collect();
    let query = sqlx::query(READ_LOG)
        .bind(partitions)
        .bind(offsets)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let mut rows = std::pin::pin!(store.readers.rows(query));
    let mut events = Vec::<StoredEvent>::new();
    while let Some(row) = rows.try_next().await.map_err(store_error)? {
        let last = events.last().map(|event| &event.stream);
        events.push(logged(&row, last).map_err(store_error)?);
    }
    // The query plan yields the events sorted by position, but SQL does not guarantee this order.
    if !events.is_sorted_by_key(|event| event.position) {
        events.sort_by_key(|event| event.position);
    }
    for (position, known) in after.iter().zip(known) {
        let here = |event: &StoredEvent| event.position.partition;
        if limit > 0 && events.binary_search_by_key(&position.partition, here).is_err() {
            store.heads.nothing_beyond(*position, known);
        }
    }
    Ok(events)
}

pub(crate) async fn heads(store: &PostgresEventStore) -> Result<Vec<Position>, StoreError> {
    let sql = format!("select {HEADS}");
    let rows = store.readers.run(async |reader| sqlx::query(&sql).fetch_all(reader).await).await?;
    let head = |row: &PgRow| {
        Ok(Position::new(unsigned::<i16, u16>(row, 0)?, unsigned::<i64, u64>(row, 1)?))
    };
    rows.iter().map(head).collect::<Result<_, _>>().map_err(store_error)
}

/// Waits until the log has events after `after`. Commits of this process, notifications from other
/// processes and polls reveal new events. This task polls while no notifications are received.
pub(crate) async fn wait_for_events(
    store: &PostgresEventStore,
    after: &[Position],
) -> Result<(), StoreError> {
    store.heads.listen();
    let mut next_poll = Instant::now() + store.heads.poll_interval;
    loop {
        let changed = store.heads.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if store.heads.is_beyond(after) {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = changed => {}
            // When the listener loses its connection, the poll is overdue.
            () = sleep_until(next_poll), if !store.heads.is_listening() => {
                store.poll_heads().await?;
                next_poll = Instant::now() + store.heads.poll_interval;
            }
        }
    }
}

pub(crate) async fn now(store: &PostgresEventStore) -> Result<Timestamp, StoreError> {
    let row = store.readers.run(async |reader| sqlx::query(NOW).fetch_one(reader).await).await?;
    timestamp(&row, 0).map_err(store_error)
}

impl PostgresEventStore {
    /// Reads the heads of all partitions, unless another waiting task has just read them.
    async fn poll_heads(&self) -> Result<(), StoreError> {
        let mut last = self.heads.last_poll.lock().await;
        if last.is_none_or(|at| at.elapsed() >= self.heads.poll_interval / 2) {
            let known = self.heads.all_known();
            let heads = heads(self).await;
            // A failed poll counts too, so that the other waiting tasks do not also query a server
            // that is down.
            *last = Some(Instant::now());
            self.heads.polled(&heads?, &known);
        }
        Ok(())
    }
}

/// Decodes an event of the log.
///
/// If the event belongs to `last`, the stream of the previous event, the stream id is not parsed
/// again. Neighbours in the log often belong to one stream.
fn logged(row: &PgRow, last: Option<&StreamId>) -> Result<StoredEvent, sqlx::Error> {
    let partition = unsigned::<i16, u16>(row, 9)?;
    let name = text(row, 10)?;
    let stream = match last {
        Some(last) if last.as_str() == name => last.clone(),
        _ => name.parse().map_err(|source| sqlx::Error::ColumnDecode {
            index: "stream_id".to_owned(),
            source: Box::new(source),
        })?,
    };
    row::event(row, stream, partition)
}
