//! Effects that wait to be executed: queued, read, settled.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::{
    Encoded, NewOutboxRow, OutboxKind, OutboxRow, Queue, QueueChange, QueuePlace, QueuedRow,
    Settlement, StoreError, StreamId, Timestamp, validate_settlements,
};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::connection::Transaction;
use crate::error::store_error;
use crate::script::{Script, Statement, add_content, commit_all};
use crate::sql::{Args, CHUNK, int, padded, push_values, uint};
use crate::store::{SqliteEventStore, clock};

/// A row with the sequence number drawn for it.
#[derive(Debug)]
pub(crate) struct Placed<'b> {
    pub(crate) sequence: i64,
    pub(crate) stream: &'b str,
    pub(crate) row: &'b NewOutboxRow,
}

/// Draws a sequence number for each row.
pub(crate) fn place<'b>(
    sequence: &mut i64,
    rows: impl IntoIterator<Item = &'b QueuedRow>,
) -> Vec<Placed<'b>> {
    let placed = rows.into_iter().map(|queued| {
        *sequence += 1;
        Placed { sequence: *sequence, stream: queued.stream.as_str(), row: &queued.row }
    });
    placed.collect()
}

/// The statements that queue rows, in order.
pub(crate) fn insertions<'s>(
    partition: u16,
    now: Timestamp,
    rows: &'s [Placed<'s>],
) -> Vec<(Statement<'s>, usize)> {
    let insert = |rows: &'s [Placed<'s>]| -> (Statement<'s>, usize) {
        (Box::new(move |script| insert(script, partition, now, rows)), padded(rows.len()))
    };
    rows.chunks(CHUNK).map(insert).collect()
}

/// Queues rows, and keeps the last of the sequence numbers that were drawn.
pub(crate) fn insert<'s>(
    script: &mut Script<'s>,
    partition: u16,
    now: Timestamp,
    rows: &'s [Placed<'_>],
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
        |args| {
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
        },
    );
    draw(script, partition, rows.last().map_or(0, |row| row.sequence));
}

/// Keeps the last of the sequence numbers that were drawn.
pub(crate) fn draw(script: &mut Script<'_>, partition: u16, sequence: i64) {
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
         and d.stream_id = o.stream_id and d.recipient = o.recipient) \
         from outbox o where partition = ? and kind = ? and target = ? and sequence > ? \
         order by sequence limit coalesce(?, 0))",
        if number == 0 { "" } else { " union all" },
    );
}

/// Queues that are read by one statement; SQLite joins at most 500.
const QUEUES: usize = 128;

const STREAMS: &str = "select stream_id from outbox \
    where partition = ?1 and kind = ?2 and target = ?3 union \
    select stream_id from dead_letters where partition = ?1 and kind = ?2 and target = ?3";

/// Those of the rows that wait still.
const STANDING: (&str, &str) = (
    "select s.column1 from (select ? as partition) p cross join (values ",
    ") s cross join outbox o on o.partition = p.partition and o.kind = s.column2 \
     and o.target = s.column3 and o.sequence = s.column4",
);

impl SqliteEventStore {
    pub(crate) async fn page_of_outbox(
        &self,
        after: &[(Queue, QueuePlace)],
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
        after: &[(Queue, QueuePlace)],
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
        found.sort_by_key(|(number, row)| (*number, row.place));
        Ok(found.into_iter().map(|(_, row)| row).collect())
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

    pub(crate) async fn settle_rows(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        validate_settlements(self.log_info(), partition, settlements)?;
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let settled = self.settle_valid(partition, settlements).await.map_err(store_error)?;
        if settlements.iter().any(|settlement| queues_more(&settlement.change)) {
            self.has_work();
        }
        Ok(settled)
    }

    async fn settle_valid(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, sqlx::Error> {
        let leases = settlements.iter().map(|settlement| &settlement.lease);
        let mut fenced = self.begin_fenced(partition, leases).await?;
        let settled: Vec<bool> = settlements.iter().map(|s| fenced.admits(&s.lease)).collect();
        let own = settlements.iter().zip(&settled).filter(|(_, own)| **own).map(|(s, _)| s);
        let own = last_of_each(own);
        let own = standing(&mut fenced.transaction, partition, own).await?;

        let now = clock();
        let mut parts = Parts::default();
        let mut more: Vec<&QueuedRow> = Vec::new();
        for settlement in own {
            match &settlement.change {
                QueueChange::Done(rows) => {
                    parts.gone.push(settlement);
                    more.extend(rows);
                }
                QueueChange::Failed { attempts, retry_after, error } => {
                    let (attempts, next) = (*attempts, now + *retry_after);
                    parts.failed.push(Failed { settlement, attempts, next, error });
                }
                QueueChange::Parked { attempts, error } => {
                    parts.parked.push((settlement, *attempts, error.as_deref()));
                    parts.gone.push(settlement);
                }
            }
        }
        let more = place(&mut fenced.sequence, more);
        let mut statements = insertions(partition, now, &more);
        statements.extend(parts.statements(partition, now));
        commit_all(fenced.transaction, statements).await?;
        Ok(settled)
    }
}

/// Whether rows may be queued by it.
pub(crate) fn queues_more(change: &QueueChange) -> bool {
    matches!(change, QueueChange::Done(rows) if !rows.is_empty())
}

/// Of several settlements of one row the one that takes it away, or else the last.
fn last_of_each<'b>(settlements: impl Iterator<Item = &'b Settlement>) -> Vec<&'b Settlement> {
    let mut of_rows: BTreeMap<(&Queue, QueuePlace), (usize, &Settlement)> = BTreeMap::new();
    for (n, settlement) in settlements.enumerate() {
        let key = (&settlement.queue, settlement.place);
        let is_gone = of_rows
            .get(&key)
            .is_some_and(|(_, earlier)| !matches!(earlier.change, QueueChange::Failed { .. }));
        if !is_gone {
            of_rows.insert(key, (n, settlement));
        }
    }
    let mut in_order: Vec<_> = of_rows.into_values().collect();
    in_order.sort_by_key(|(n, _)| *n);
    in_order.into_iter().map(|(_, settlement)| settlement).collect()
}

/// Those whose rows wait still.
async fn standing<'b>(
    transaction: &mut Transaction<'_>,
    partition: u16,
    settlements: Vec<&'b Settlement>,
) -> Result<Vec<&'b Settlement>, sqlx::Error> {
    let mut found = Vec::new();
    for chunk in settlements.chunks(CHUNK) {
        let (mut sql, mut args) = (STANDING.0.to_owned(), Args::default());
        push_values(&mut sql, padded(chunk.len()), 4);
        sql.push_str(STANDING.1);
        args.add(i64::from(partition));
        for (n, settlement) in (0_i64..).zip(chunk) {
            args.add(n);
            bind_row(&mut args, settlement);
        }
        args.add_nulls((padded(chunk.len()) - chunk.len()) * 4);
        let mut numbers = Vec::new();
        for row in &transaction.fetch(&sql, args).await? {
            numbers.push(usize::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or(CHUNK));
        }
        numbers.sort_unstable();
        found.extend(numbers.into_iter().filter_map(|n| chunk.get(n).copied()));
    }
    Ok(found)
}

/// A row that waits for another attempt.
struct Failed<'b> {
    settlement: &'b Settlement,
    attempts: u32,
    next: Timestamp,
    error: &'b str,
}

impl Failed<'_> {
    fn update<'s>(&'s self, script: &mut Script<'s>, partition: u16) {
        script.sql.push_str(
            "update outbox set attempts = ?, next_attempt_at = ?, last_error = ? \
             where partition = ? and kind = ? and target = ? and sequence = ?;",
        );
        script.args.add(i64::from(self.attempts));
        script.args.add(self.next.as_micros());
        script.args.add(self.error);
        script.args.add(i64::from(partition));
        bind_row(&mut script.args, self.settlement);
    }
}

/// What is written of settlements.
#[derive(Default)]
struct Parts<'b> {
    failed: Vec<Failed<'b>>,
    parked: Vec<(&'b Settlement, u32, Option<&'b str>)>,
    gone: Vec<&'b Settlement>,
}

impl<'b> Parts<'b> {
    fn statements(&self, partition: u16, now: Timestamp) -> Vec<(Statement<'_>, usize)> {
        let mut statements: Vec<(Statement<'_>, usize)> = Vec::new();
        for failed in &self.failed {
            statements.push((Box::new(move |s| failed.update(s, partition)), 1));
        }
        for rows in self.parked.chunks(CHUNK) {
            statements.push((
                Box::new(move |s| Self::insert_parked(s, partition, now, rows)),
                padded(rows.len()),
            ));
        }
        for rows in self.gone.chunks(CHUNK) {
            statements.push((
                Box::new(move |s| Self::delete_gone(s, partition, rows)),
                padded(rows.len()),
            ));
        }
        statements
    }

    /// What is parked under an id already is the same message once more.
    fn insert_parked<'s>(
        script: &mut Script<'s>,
        partition: u16,
        now: Timestamp,
        rows: &'s [(&'b Settlement, u32, Option<&'b str>)],
    ) {
        script.values(
            (
                "insert into dead_letters (partition, kind, target, sequence, id, stream_id, \
                 recipient, message_type, schema_version, codec, created_at, metadata, \
                 message_data, parked_at, attempts, error) \
                 select o.partition, o.kind, o.target, o.sequence, o.id, o.stream_id, \
                 o.recipient, o.message_type, o.schema_version, o.codec, o.created_at, \
                 o.metadata, o.message_data, p.now, v.column4, v.column5 \
                 from (select ? as partition, ? as now) p cross join (values ",
                ") v cross join outbox o on o.partition = p.partition and o.kind = v.column1 \
                 and o.target = v.column2 and o.sequence = v.column3 where true \
                 on conflict (partition, id) do nothing;",
            ),
            (5, rows.len()),
            |args| {
                args.add(i64::from(partition));
                args.add(now.as_micros());
            },
            |args| {
                for (settlement, attempts, error) in rows {
                    bind_row(args, settlement);
                    args.add(i64::from(*attempts));
                    args.add(*error);
                }
            },
        );
    }

    fn delete_gone<'s>(script: &mut Script<'s>, partition: u16, rows: &'s [&'b Settlement]) {
        script.values(
            (
                "delete from outbox where rowid in (select o.rowid from \
                 (select ? as partition) p cross join (values ",
                ") v cross join outbox o on o.partition = p.partition and o.kind = v.column1 \
                 and o.target = v.column2 and o.sequence = v.column3);",
            ),
            (3, rows.len()),
            |args| args.add(i64::from(partition)),
            |args| rows.iter().for_each(|settlement| bind_row(args, settlement)),
        );
    }
}

/// Partition, kind and target.
pub(crate) fn bind_queue<'q>(args: &mut Args<'q>, queue: &'q Queue) {
    args.add(i64::from(queue.partition));
    args.add(queue.kind.as_str());
    args.add(queue.target.as_str());
}

/// Kind, target and sequence of the settled row. Each row has a sequence number of its own, so
/// another index is of no row.
fn bind_row<'q>(args: &mut Args<'q>, settlement: &'q Settlement) {
    let Settlement { queue, place, .. } = settlement;
    args.add(queue.kind.as_str());
    args.add(queue.target.as_str());
    args.add(if place.index == 0 { int(place.sequence) } else { 0 });
}

fn waiting(queue: &Queue, row: &SqliteRow, now: Timestamp) -> Result<OutboxRow, sqlx::Error> {
    let next = Timestamp::from_micros(row.try_get_unchecked(11)?);
    let wait: Duration = next.since(now);
    Ok(OutboxRow {
        queue: queue.clone(),
        place: QueuePlace { sequence: uint(row.try_get_unchecked(1)?), index: 0 },
        queued: queued(row, 2, queue.kind, &queue.target)?,
        attempts: number(row, 10)?,
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
) -> Result<QueuedRow, sqlx::Error> {
    Ok(QueuedRow {
        stream: stream(row, first + 1)?,
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
pub(crate) fn content(row: &SqliteRow, first: usize) -> Result<Encoded, sqlx::Error> {
    Ok(Encoded {
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
