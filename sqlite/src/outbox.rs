//! Effects that wait to be executed: queued and read.

use std::time::Duration;

use composable_rust_core::{
    EncodedMessage, NewOutboxRow, OutboxKind, OutboxMessage, OutboxRow, Queue, QueuePosition,
    StoreError, StreamId, Timestamp,
};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::error::store_error;
use crate::sql::{Args, CHUNK, int, padded, uint};
use crate::statement_batch::{Statement, StatementBatch, add_content};
use crate::store::{SqliteEventStore, clock};

/// A row with the sequence number drawn for it.
#[derive(Debug)]
pub(crate) struct PositionedRow<'b> {
    pub(crate) sequence: i64,
    pub(crate) stream: &'b str,
    pub(crate) row: &'b NewOutboxRow,
}

/// Draws a sequence number for each row.
pub(crate) fn place<'b>(
    sequence: &mut i64,
    rows: impl IntoIterator<Item = &'b OutboxMessage>,
) -> Vec<PositionedRow<'b>> {
    let placed = rows.into_iter().map(|queued| {
        *sequence += 1;
        PositionedRow { sequence: *sequence, stream: queued.sender.as_str(), row: &queued.row }
    });
    placed.collect()
}

/// The statements that queue rows, in order.
pub(crate) fn insertions<'s>(
    partition: u16,
    now: Timestamp,
    rows: &'s [PositionedRow<'s>],
) -> Vec<(Statement<'s>, usize)> {
    let insert = |rows: &'s [PositionedRow<'s>]| -> (Statement<'s>, usize) {
        (Box::new(move |script| insert(script, partition, now, rows)), padded(rows.len()))
    };
    rows.chunks(CHUNK).map(insert).collect()
}

/// Queues rows, and keeps the last of the sequence numbers that were drawn.
pub(crate) fn insert<'s>(
    script: &mut StatementBatch<'s>,
    partition: u16,
    now: Timestamp,
    rows: &'s [PositionedRow<'_>],
) {
    script.values(
        (
            "insert into outbox (partition, created_at, sequence, stream_id, id, kind, target, \
             recipient, metadata, message_type, schema_version, codec, message_data) \
             select ?, ?, v.* from (values ",
            ") v where v.column1 is not null;",
        ),
        (11, rows.len()),
        |args| {
            args.add(i64::from(partition));
            args.add(now.as_micros());
        },
        |args| bind_placed(args, rows),
    );
    draw(script, partition, rows.last().map_or(0, |row| row.sequence));
}

/// The statements that put rows among the dead letters instead.
pub(crate) fn dead_letter_inserts<'s>(
    partition: u16,
    now: Timestamp,
    rows: &'s [PositionedRow<'s>],
    error: &'s str,
) -> Vec<(Statement<'s>, usize)> {
    let bury = |rows: &'s [PositionedRow<'s>]| -> (Statement<'s>, usize) {
        (
            Box::new(move |script| insert_dead_letter(script, partition, now, rows, error)),
            padded(rows.len()),
        )
    };
    rows.chunks(CHUNK).map(bury).collect()
}

/// What is parked under an id already, or waits, is the same message once more.
fn insert_dead_letter<'s>(
    script: &mut StatementBatch<'s>,
    partition: u16,
    now: Timestamp,
    rows: &'s [PositionedRow<'_>],
    error: &'s str,
) {
    script.values(
        (
            "insert into dead_letters (partition, created_at, parked_at, attempts, error, \
             sequence, stream_id, id, kind, target, recipient, metadata, message_type, \
             schema_version, codec, message_data) \
             select p.partition, p.now, p.now, 0, p.error, v.* \
             from (select ? as partition, ? as now, ? as error) p cross join (values ",
            ") v where v.column1 is not null and not exists (select 1 from outbox o \
             where o.partition = p.partition and o.kind = v.column4 and o.target = v.column5 \
             and o.id = v.column3) on conflict (partition, id) do nothing;",
        ),
        (11, rows.len()),
        |args| {
            args.add(i64::from(partition));
            args.add(now.as_micros());
            args.add(error);
        },
        |args| bind_placed(args, rows),
    );
    draw(script, partition, rows.last().map_or(0, |row| row.sequence));
}

fn bind_placed<'s>(args: &mut Args<'s>, rows: &'s [PositionedRow<'_>]) {
    for row in rows {
        args.add(row.sequence);
        args.add(row.stream);
        args.add(row.row.id);
        args.add(row.row.kind.as_str());
        args.add(row.row.target.as_str());
        args.add(row.row.recipient.as_str());
        args.add(row.row.metadata.as_str());
        add_content(args, &row.row.content);
    }
}

/// Keeps the last of the sequence numbers that were drawn.
pub(crate) fn draw(script: &mut StatementBatch<'_>, partition: u16, sequence: i64) {
    script.sql.push_str("update partitions set outbox_sequence = ? where partition = ?;");
    script.args.add(sequence);
    script.args.add(i64::from(partition));
}

/// The rows of one queue after a place, which is in the text as the number of the queue.
fn push_page(sql: &mut String, number: usize) {
    use std::fmt::Write as _;
    // Writing to a string does not fail.
    let _ = write!(
        sql,
        "{} select * from (select {number} as n, sequence, id, stream_id, recipient, \
         message_type, schema_version, codec, message_data, metadata, attempts, \
         coalesce(next_attempt_at, 0), exists (select 1 from dead_letters d \
         where d.partition = o.partition and d.kind = o.kind and d.target = o.target \
         and d.stream_id = o.stream_id and d.recipient = o.recipient \
         and d.sequence < o.sequence), attempts > 0 and last_error is null \
         from outbox o where partition = ? and kind = ? and target = ? and sequence > ? \
         order by sequence limit coalesce(?, 0))",
        if number == 0 { "" } else { " union all" },
    );
}

/// The number of rows of one queue, which is in the text as its number.
fn push_count(sql: &mut String, number: usize) {
    use std::fmt::Write as _;
    let union = if number == 0 { "" } else { " union all" };
    // Writing to a string does not fail.
    let _ = write!(
        sql,
        "{union} select {number}, (select count(*) from (select 1 from outbox \
         where partition = ? and kind = ? and target = ? limit coalesce(?, 0)))",
    );
}

/// Queues that are read by one statement; SQLite joins at most 500.
const QUEUES: usize = 128;

const LAST_PLACE: &str = "select max(sequence) from outbox \
    where partition = ?1 and kind = ?2 and target = ?3";

const STREAMS: &str = "select stream_id from outbox \
    where partition = ?1 and kind = ?2 and target = ?3 union \
    select stream_id from dead_letters where partition = ?1 and kind = ?2 and target = ?3";

impl SqliteEventStore {
    pub(crate) async fn page_of_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let mut found = Vec::new();
        for queues in after.chunks(QUEUES) {
            found.extend(self.page_of_queues(queues, limit).await.map_err(store_error)?);
        }
        Ok(found)
    }

    async fn page_of_queues(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, sqlx::Error> {
        let (mut sql, mut args) = (String::new(), Args::default());
        (0..padded(after.len())).for_each(|number| push_page(&mut sql, number));
        for (queue, place) in after {
            bind_queue(&mut args, queue);
            args.add(int(place.sequence));
            args.add(int(u64::try_from(limit).unwrap_or(u64::MAX)));
        }
        args.add_nulls((padded(after.len()) - after.len()) * 5);
        let rows = self.readers().fetch(&sql, args).await?;
        let now = clock();
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let number = usize::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or_default();
            let Some((queue, _)) = after.get(number) else { continue };
            found.push((number, waiting(queue, row, now)?));
        }
        found.sort_by_key(|(number, row)| (*number, row.position));
        Ok(found.into_iter().map(|(_, row)| row).collect())
    }

    pub(crate) async fn last_places_of(
        &self,
        queues: &[Queue],
    ) -> Result<Vec<QueuePosition>, StoreError> {
        let mut places = Vec::with_capacity(queues.len());
        for queue in queues {
            let mut args = Args::default();
            bind_queue(&mut args, queue);
            let rows = self.readers().fetch(LAST_PLACE, args).await.map_err(store_error)?;
            let last = rows.first().map(|row| row.try_get_unchecked::<Option<i64>, _>(0));
            let last = last.transpose().map_err(store_error)?.flatten();
            places.push(QueuePosition { sequence: last.map_or(0, uint), index: 0 });
        }
        Ok(places)
    }

    pub(crate) async fn rows_of_queues(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<usize>, StoreError> {
        let mut counts = Vec::with_capacity(queues.len());
        for queues in queues.chunks(QUEUES) {
            counts.extend(self.count_queues(queues, limit).await.map_err(store_error)?);
        }
        Ok(counts)
    }

    async fn count_queues(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<usize>, sqlx::Error> {
        let (mut sql, mut args) = (String::new(), Args::default());
        (0..padded(queues.len())).for_each(|number| push_count(&mut sql, number));
        for queue in queues {
            bind_queue(&mut args, queue);
            args.add(int(u64::try_from(limit).unwrap_or(u64::MAX)));
        }
        args.add_nulls((padded(queues.len()) - queues.len()) * 4);
        let mut counts = vec![0; queues.len()];
        for row in &self.readers().fetch(&sql, args).await? {
            let number = usize::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or_default();
            if let Some(count) = counts.get_mut(number) {
                *count = usize::try_from(row.try_get_unchecked::<i64, _>(1)?).unwrap_or_default();
            }
        }
        Ok(counts)
    }

    pub(crate) async fn streams_of_queue(
        &self,
        queue: &Queue,
    ) -> Result<Vec<StreamId>, StoreError> {
        let mut args = Args::default();
        bind_queue(&mut args, queue);
        let rows = self.readers().fetch(STREAMS, args).await.map_err(store_error)?;
        let mut streams = rows.iter().map(|row| stream(row, 0)).collect::<Result<Vec<_>, _>>();
        if let Ok(streams) = &mut streams {
            streams.sort();
        }
        streams.map_err(store_error)
    }
}

/// Partition, kind and target.
pub(crate) fn bind_queue<'q>(args: &mut Args<'q>, queue: &'q Queue) {
    args.add(i64::from(queue.partition));
    args.add(queue.kind.as_str());
    args.add(queue.target.as_str());
}

fn waiting(queue: &Queue, row: &SqliteRow, now: Timestamp) -> Result<OutboxRow, sqlx::Error> {
    let next = Timestamp::from_micros(row.try_get_unchecked(11)?);
    let wait: Duration = next.since(now);
    Ok(OutboxRow {
        queue: queue.clone(),
        position: QueuePosition { sequence: uint(row.try_get_unchecked(1)?), index: 0 },
        message: queued(row, 2, queue.kind, &queue.target)?,
        attempts: number(row, 10)?,
        begun: row.try_get_unchecked(13)?,
        wait,
        behind_parked: row.try_get_unchecked(12)?,
    })
}

/// An effect from the columns id, stream, recipient, message type, schema version, codec, data,
/// metadata, of which `first` is the first.
pub(crate) fn queued(
    row: &SqliteRow,
    first: usize,
    kind: OutboxKind,
    target: &str,
) -> Result<OutboxMessage, sqlx::Error> {
    Ok(OutboxMessage {
        sender: stream(row, first + 1)?,
        row: NewOutboxRow {
            id: row.try_get_unchecked::<Uuid, _>(first)?,
            kind,
            target: target.to_owned(),
            recipient: row.try_get_unchecked(first + 2)?,
            content: content(row, first + 3)?,
            metadata: row.try_get_unchecked(first + 7)?,
        },
    })
}

/// A message from the columns message type, schema version, codec, data, of which `first` is the
/// first.
pub(crate) fn content(row: &SqliteRow, first: usize) -> Result<EncodedMessage, sqlx::Error> {
    Ok(EncodedMessage {
        name: row.try_get_unchecked::<String, _>(first)?.into(),
        version: u16::try_from(number(row, first + 1)?).unwrap_or(u16::MAX),
        codec: row.try_get_unchecked::<String, _>(first + 2)?.into(),
        bytes: row.try_get_unchecked(first + 3)?,
    })
}

pub(crate) fn number(row: &SqliteRow, column: usize) -> Result<u32, sqlx::Error> {
    Ok(u32::try_from(row.try_get_unchecked::<i64, _>(column)?).unwrap_or(u32::MAX))
}

pub(crate) fn stream(row: &SqliteRow, column: usize) -> Result<StreamId, sqlx::Error> {
    let name: String = row.try_get_unchecked(column)?;
    name.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
