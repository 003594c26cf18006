//! The outbox.

use composable_rust_core::StreamId;
use composable_rust_core::queue::{
    CheckpointAdvance, Outbox, OutboxKind, OutboxMessage, OutboxRow, Queue, QueueChange,
    QueuePosition, QueueSummary, Settlement,
};
use composable_rust_core::store::{
    NewOutboxRow, StoreError, validate_enqueue, validate_settlements,
};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresEventStore;
use crate::columns::{OutboxRows, Query, count};
use crate::error::store_error;
use crate::row::{
    self, bigint, decode_error, encoded, metadata, micros, smallint, text, timestamp, unsigned,
    value,
};
use crate::summary;

/// The columns of a message, in the order in which [`queued`] decodes them.
macro_rules! queued_columns {
    () => {
        "id, kind, target, recipient, message_type, schema_version, codec, message_data, \
         metadata, stream_id"
    };
}
pub(crate) use queued_columns;

const READ_OUTBOX: &str = concat!(
    "select ",
    queued_columns!(),
    ", q.nth, o.sequence, o.index, o.attempts, o.next_attempt_at, statement_timestamp(), \
     coalesce(( \
         select true from dead_letters d where d.partition = o.partition and d.kind = o.kind \
         and d.target = o.target and d.stream_id = o.stream_id and d.recipient = o.recipient \
         and (d.sequence, d.index) < (o.sequence, o.index) limit 1 \
     ), false), o.attempts > 0 and o.last_error is null, o.created_at \
     from unnest($1, $2, $3, $4, $5) \
         with ordinality q(of_partition, of_kind, of_target, after_sequence, after_index, nth) \
     cross join lateral ( \
         select * from outbox o where o.partition = q.of_partition and o.kind = q.of_kind \
         and o.target = q.of_target and (o.sequence, o.index) > (q.after_sequence, q.after_index) \
         order by o.sequence, o.index limit $6 \
     ) o"
);

const LAST_POSITIONS: &str = "select q.nth, o.sequence, o.index from unnest($1, $2, $3) \
         with ordinality q(of_partition, of_kind, of_target, nth) \
     cross join lateral ( \
         select o.sequence, o.index from outbox o where o.partition = q.of_partition \
         and o.kind = q.of_kind and o.target = q.of_target \
         order by o.sequence desc, o.index desc limit 1 \
     ) o";
const COUNT_WAITING: &str = "select ( \
         select count(*) from ( \
             select from outbox o where o.partition = q.of_partition and o.kind = q.of_kind \
             and o.target = q.of_target limit $4 \
         ) o \
     ) \
     from unnest($1, $2, $3) with ordinality q(of_partition, of_kind, of_target, nth) \
     order by q.nth";

const QUEUED_STREAMS: &str = "select stream_id from outbox \
     where partition = $1 and kind = $2 and target = $3 \
     union select stream_id from dead_letters \
     where partition = $1 and kind = $2 and target = $3 \
     order by stream_id";

const PARK: &str = "select park_rows($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

const ENQUEUE: &str = "select enqueue_rows($1, $2, $3, $4, $5, $6, \
     $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

/// Settles without adding rows.
const SETTLE: &str = "select settle_rows($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

const SETTLE_AND_QUEUE: &str = "select settle_rows($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
     $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";

impl Outbox for PostgresEventStore {
    async fn enqueue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        validate_enqueue(self.log, partition, rows, advance)?;
        let mut columns = OutboxRows::default();
        columns.extend(0, rows);
        let query = sqlx::query_scalar(ENQUEUE)
            .bind(smallint(partition))
            .bind(advance.map(|advance| &*advance.name))
            .bind(advance.map(|advance| &*advance.lease.worker))
            .bind(advance.map(|advance| bigint(advance.lease.epoch)))
            .bind(advance.map(|advance| bigint(advance.to.offset)))
            .bind(advance.and_then(|advance| advance.to.event_id).map(|id| id.0));
        let query = columns.bind(query);
        let is_done = self.writers.run(async |writer| query.fetch_one(writer).await).await?;
        if is_done && !rows.is_empty() {
            self.heads.has_work();
        }
        Ok(is_done)
    }

    async fn park(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        validate_enqueue(self.log, partition, rows, None)?;
        let mut columns = OutboxRows::default();
        columns.extend(0, rows);
        // The server stores no NUL in text.
        let error = error.replace('\0', "\u{FFFD}");
        let query = sqlx::query_scalar(PARK).bind(smallint(partition)).bind(error);
        let query = columns.bind(query);
        self.writers.run(async |writer| query.fetch_one(writer).await).await
    }

    async fn read_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let queues = || after.iter().map(|(queue, _)| queue);
        let positions = || after.iter().map(|(_, position)| position);
        let query = sqlx::query(READ_OUTBOX)
            .bind(queues().map(|queue| smallint(queue.partition)).collect::<Vec<_>>())
            .bind(queues().map(|queue| queue.kind.as_str()).collect::<Vec<_>>())
            .bind(queues().map(|queue| &*queue.target).collect::<Vec<_>>())
            .bind(positions().map(|position| bigint(position.sequence)).collect::<Vec<_>>())
            .bind(positions().map(|position| count(position.index)).collect::<Vec<_>>())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let read = rows.iter().map(|row| outbox_row(row, after));
        let mut read = read.collect::<Result<Vec<_>, _>>().map_err(store_error)?;
        // The plan returns this order, but does not guarantee it.
        if !read.is_sorted_by_key(|(nth, row)| (*nth, row.position)) {
            read.sort_by_key(|(nth, row)| (*nth, row.position));
        }
        Ok(read.into_iter().map(|(_, row)| row).collect())
    }

    async fn last_positions(&self, queues: &[Queue]) -> Result<Vec<QueuePosition>, StoreError> {
        let query = sqlx::query(LAST_POSITIONS)
            .bind(queues.iter().map(|queue| smallint(queue.partition)).collect::<Vec<_>>())
            .bind(queues.iter().map(|queue| queue.kind.as_str()).collect::<Vec<_>>())
            .bind(queues.iter().map(|queue| &*queue.target).collect::<Vec<_>>());
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let mut positions = vec![QueuePosition::default(); queues.len()];
        for row in &rows {
            let nth = unsigned::<i64, usize>(row, 0).map_err(store_error)?;
            let found = position(row, 1).map_err(store_error)?;
            if let Some(position) = nth.checked_sub(1).and_then(|index| positions.get_mut(index)) {
                *position = found;
            }
        }
        Ok(positions)
    }

    async fn summarize_queues(&self, limit: usize) -> Result<Vec<QueueSummary>, StoreError> {
        summary::summarize_queues(self, limit).await
    }

    async fn count_waiting(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<usize>, StoreError> {
        let query = sqlx::query(COUNT_WAITING)
            .bind(queues.iter().map(|queue| smallint(queue.partition)).collect::<Vec<_>>())
            .bind(queues.iter().map(|queue| queue.kind.as_str()).collect::<Vec<_>>())
            .bind(queues.iter().map(|queue| &*queue.target).collect::<Vec<_>>())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let counts = rows.iter().map(|row| unsigned::<i64, usize>(row, 0));
        counts.collect::<Result<_, _>>().map_err(store_error)
    }

    async fn queued_streams(&self, queue: &Queue) -> Result<Vec<StreamId>, StoreError> {
        let query = sqlx::query(QUEUED_STREAMS)
            .bind(smallint(queue.partition))
            .bind(queue.kind.as_str())
            .bind(&queue.target);
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let streams = rows.iter().map(|row| row::stream(row, 0));
        streams.collect::<Result<_, _>>().map_err(store_error)
    }

    async fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        validate_settlements(self.log, partition, settlements)?;
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let leases = || settlements.iter().map(|settlement| &settlement.lease);
        let queues = || settlements.iter().map(|settlement| &settlement.queue);
        let positions = || settlements.iter().map(|settlement| settlement.position);
        let changes = Changes::new(settlements.iter().map(|settlement| &settlement.change));
        let adds_rows = changes.add_rows();
        let query = sqlx::query_scalar(if adds_rows { SETTLE_AND_QUEUE } else { SETTLE })
            .bind(smallint(partition))
            .bind(leases().map(|lease| &*lease.worker).collect::<Vec<_>>())
            .bind(leases().map(|lease| bigint(lease.epoch)).collect::<Vec<_>>())
            .bind(queues().map(|queue| queue.kind.as_str()).collect::<Vec<_>>())
            .bind(queues().map(|queue| &*queue.target).collect::<Vec<_>>())
            .bind(positions().map(|position| bigint(position.sequence)).collect::<Vec<_>>())
            .bind(positions().map(|position| count(position.index)).collect::<Vec<_>>());
        let query = changes.bind(query);
        let settled = self.writers.run(async |writer| query.fetch_one(writer).await).await?;
        if adds_rows {
            self.heads.has_work();
        }
        Ok(settled)
    }

    async fn wake_workers(&self) -> Result<(), StoreError> {
        self.heads.has_operators_work().await;
        Ok(())
    }

    async fn wait_for_work(&self, seen: u64) -> Result<u64, StoreError> {
        Ok(self.heads.work_since(seen).await)
    }
}

/// The changes of rows, by column.
#[derive(Default)]
pub(crate) struct Changes<'a> {
    change: Vec<i32>,
    attempts: Vec<i32>,
    wait: Vec<i64>,
    error: Vec<Option<String>>,
    added: OutboxRows<'a>,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(changes: impl Iterator<Item = &'a QueueChange>) -> Self {
        let mut columns = Self::default();
        for change in changes {
            let nth = count(columns.change.len() + 1);
            match change {
                QueueChange::Done(rows) => {
                    columns.push(0, 0, 0, None);
                    columns.added.extend(nth, rows);
                }
                QueueChange::Begun { attempts } => columns.push(1, *attempts, 0, None),
                QueueChange::Failed { attempts, retry_after, error } => {
                    columns.push(1, *attempts, micros(*retry_after), Some(error));
                }
                QueueChange::Parked { attempts, error } => {
                    columns.push(2, *attempts, 0, error.as_deref());
                }
            }
        }
        columns
    }

    fn push(&mut self, change: i32, attempts: u32, wait: i64, error: Option<&str>) {
        self.change.push(change);
        self.attempts.push(count(attempts));
        self.wait.push(wait);
        // The server stores no NUL in text.
        self.error.push(error.map(|error| error.replace('\0', "\u{FFFD}")));
    }

    /// Returns `true` if the changes add rows to queues.
    pub(crate) fn add_rows(&self) -> bool {
        !self.added.is_empty()
    }

    pub(crate) fn bind<O>(self, query: Query<'a, O>) -> Query<'a, O> {
        let more = self.add_rows();
        let query = query.bind(self.change).bind(self.attempts).bind(self.wait).bind(self.error);
        if more { self.added.bind(query) } else { query }
    }
}

/// Decodes the message in a row of [`queued_columns`].
pub(crate) fn queued(row: &PgRow) -> Result<OutboxMessage, sqlx::Error> {
    let kind = text(row, 1)?;
    let kind = OutboxKind::from_name(kind)
        .ok_or_else(|| decode_error(1, format!("an effect of the unknown kind `{kind}`")))?;
    Ok(OutboxMessage {
        sender: row::stream(row, 9)?,
        row: NewOutboxRow {
            id: value::<Uuid>(row, 0)?,
            kind,
            target: text(row, 2)?.to_owned(),
            recipient: text(row, 3)?.to_owned(),
            content: encoded(row, 4)?,
            metadata: metadata(row, 8)?,
        },
    })
}

/// Decodes a position from two columns, of which `first` is the first.
fn position(row: &PgRow, first: usize) -> Result<QueuePosition, sqlx::Error> {
    Ok(QueuePosition {
        sequence: unsigned::<i64, u64>(row, first)?,
        index: unsigned::<i32, u32>(row, first + 1)?,
    })
}

fn outbox_row(
    row: &PgRow,
    after: &[(Queue, QueuePosition)],
) -> Result<(usize, OutboxRow), sqlx::Error> {
    let nth = unsigned::<i64, usize>(row, 10)?;
    let (queue, _) = nth
        .checked_sub(1)
        .and_then(|index| after.get(index))
        .ok_or_else(|| decode_error(10, "a row of no queue that was asked for"))?;
    let wait = match value::<Option<i64>>(row, 14)? {
        Some(_) => timestamp(row, 14)?.since(timestamp(row, 15)?),
        None => std::time::Duration::ZERO,
    };
    let row = OutboxRow {
        queue: queue.clone(),
        position: position(row, 11)?,
        message: queued(row)?,
        attempts: unsigned::<i32, u32>(row, 13)?,
        begun: value(row, 17)?,
        wait,
        behind_parked: value(row, 16)?,
        queued_at: timestamp(row, 18)?,
    };
    Ok((nth, row))
}
