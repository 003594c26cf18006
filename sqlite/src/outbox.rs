//! The outbox.

mod enqueue;
mod settle;

use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::queue::{
    CheckpointAdvance, Outbox, OutboxKind, OutboxMessage, OutboxRow, Queue, QueuePosition,
    QueueSummary, Settlement,
};
use composable_rust_core::store::{
    NewOutboxRow, StoreError, validate_enqueue, validate_settlements,
};
use composable_rust_core::{StreamId, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use self::enqueue::dead_letter_statements;
pub(crate) use self::enqueue::{
    PositionedRow, assign_positions, insert, insert_statements, store_sequence,
};
use crate::error::store_error;
use crate::sql::{Args, int, padded, uint};
use crate::statement_batch::commit_all;
use crate::store::{SqliteEventStore, clock};
use crate::summary;

/// Adds the query for the rows of one queue after a position; `number` identifies the queue.
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
         and d.sequence < o.sequence), attempts > 0 and last_error is null, created_at \
         from outbox o where partition = ? and kind = ? and target = ? and sequence > ? \
         order by sequence limit coalesce(?, 0))",
        if number == 0 { "" } else { " union all" },
    );
}

/// Adds the query for the number of rows of one queue; `number` identifies the queue.
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

/// The number of queues that one statement reads; SQLite joins at most 500 parts.
const QUEUES: usize = 128;

const LAST_POSITION: &str = "select max(sequence) from outbox \
    where partition = ?1 and kind = ?2 and target = ?3";

/// Two changes that cancel each other, and raise the file's data version. SQLite does not write a
/// row that stays as it is.
const WAKE: [&str; 2] =
    ["update log set overrides = overrides + 1", "update log set overrides = overrides - 1"];

const STREAMS: &str = "select stream_id from outbox \
    where partition = ?1 and kind = ?2 and target = ?3 union \
    select stream_id from dead_letters where partition = ?1 and kind = ?2 and target = ?3";

impl Outbox for SqliteEventStore {
    async fn enqueue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        validate_enqueue(self.log_info(), partition, rows, advance)?;
        let done = self.enqueue_valid(partition, rows, advance).await.map_err(store_error)?;
        if !rows.is_empty() {
            self.has_work();
        }
        Ok(done)
    }

    async fn park(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        validate_enqueue(self.log_info(), partition, rows, None)?;
        let fenced = self.begin_fenced(partition, std::iter::empty()).await;
        let mut fenced = fenced.map_err(store_error)?;
        let positioned = assign_positions(&mut fenced.sequence, rows);
        let statements = dead_letter_statements(partition, clock(), &positioned, error);
        commit_all(fenced.transaction, statements).await.map_err(store_error)
    }

    async fn read_outbox(
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

    async fn last_positions(&self, queues: &[Queue]) -> Result<Vec<QueuePosition>, StoreError> {
        let mut places = Vec::with_capacity(queues.len());
        for queue in queues {
            let mut args = Args::default();
            bind_queue(&mut args, queue);
            let rows = self.readers().fetch(LAST_POSITION, args).await.map_err(store_error)?;
            let last = rows.first().map(|row| row.try_get_unchecked::<Option<i64>, _>(0));
            let last = last.transpose().map_err(store_error)?.flatten();
            places.push(QueuePosition { sequence: last.map_or(0, uint), index: 0 });
        }
        Ok(places)
    }

    async fn summarize_queues(&self, limit: usize) -> Result<Vec<QueueSummary>, StoreError> {
        summary::summarize_queues(self, limit).await
    }

    async fn count_waiting(
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

    async fn queued_streams(&self, queue: &Queue) -> Result<Vec<StreamId>, StoreError> {
        let mut args = Args::default();
        bind_queue(&mut args, queue);
        let rows = self.readers().fetch(STREAMS, args).await.map_err(store_error)?;
        let mut streams = rows.iter().map(|row| stream(row, 0)).collect::<Result<Vec<_>, _>>();
        if let Ok(streams) = &mut streams {
            streams.sort();
        }
        streams.map_err(store_error)
    }

    async fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        validate_settlements(self.log_info(), partition, settlements)?;
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let settled = self.settle_valid(partition, settlements).await.map_err(store_error)?;
        if settlements.iter().any(|settlement| settlement.change.adds_rows()) {
            self.has_work();
        }
        Ok(settled)
    }

    async fn wait_for_work(&self, seen: u64) -> Result<u64, StoreError> {
        let mut work = self.work();
        loop {
            let count = *work.borrow_and_update();
            if count != seen {
                return Ok(count);
            }
            tokio::select! {
                biased;
                _ = work.changed() => {}
                () = tokio::time::sleep(self.watcher().interval()) => {
                    self.poll_other_processes().await?;
                }
            }
        }
    }

    async fn wake_workers(&self) -> Result<(), StoreError> {
        self.has_work();
        self.wake_other_processes().await.map_err(store_error)
    }
}

impl SqliteEventStore {
    /// Commits a change of nothing, which other processes notice as they notice all commits.
    async fn wake_other_processes(&self) -> Result<(), sqlx::Error> {
        let mut transaction = self.writer().begin().await?;
        for sql in WAKE {
            transaction.fetch(sql, Args::default()).await?;
        }
        transaction.commit().await
    }

    async fn page_of_queues(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, sqlx::Error> {
        let (mut sql, mut args) = (String::new(), Args::default());
        (0..padded(after.len())).for_each(|number| push_page(&mut sql, number));
        for (queue, position) in after {
            bind_queue(&mut args, queue);
            args.add(int(position.sequence));
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
}

/// Binds partition, kind and target.
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
        queued_at: Timestamp::from_micros(row.try_get_unchecked(14)?),
    })
}

/// Decodes a message from the columns id, stream, recipient, message type, schema version, codec,
/// data and metadata, of which `first` is the first.
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

/// Decodes content from the columns message type, schema version, codec and data, of which `first`
/// is the first.
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
