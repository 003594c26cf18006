//! The state that an append is checked against: the heads of the partition and its streams, inbox
//! entries and armed timers.

use composable_rust_core::queue::InboxEntry;
use composable_rust_core::store::Append;
use composable_rust_core::{MessageId, Position, Receipt, Version};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::connection::{BEGIN, Transaction, Writer};
use crate::sql::{Args, CHUNK, padded, push_values, uint};

/// The state of a partition before a batch is written.
#[derive(Debug)]
pub(crate) struct PartitionState {
    /// The highest offset of the partition.
    pub(crate) head: u64,
    /// The last sequence number drawn for the partition's outbox.
    pub(crate) outbox_sequence: i64,
    /// The streams, in the order of the batch.
    pub(crate) streams: Vec<StreamState>,
}

/// The state of one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamState {
    pub(crate) version: Version,
    pub(crate) closed: bool,
    /// The inbox entries that exist for the append's messages, in the append's order.
    pub(crate) entries: Vec<InboxEntry>,
    /// The indexes of the fired timers that are armed as the append requires.
    armed: Vec<i64>,
}

impl StreamState {
    /// Returns the indexes of the fired timers that are not armed as `append` requires.
    pub(crate) fn stale_timers(&self, append: &Append) -> Vec<usize> {
        let fires = (0..).zip(0..append.fired_timers.len());
        fires.filter(|(n, _)| !self.armed.contains(n)).map(|(_, index)| index).collect()
    }
}

const PARTITION: &str = "select 0, outbox_sequence, coalesce((select log_offset from events e \
    where e.partition = p.partition order by log_offset desc limit 1), 0) \
    from partitions p where partition = ?;";

// The last version is read from the key alone; the row is read only to detect a closed stream.
const STREAMS: (&str, &str) = (
    "select 1, s.column1, e.version, e.event_type = '$closed' from (values ",
    ") s cross join events e on e.partition = ? and e.stream_id = s.column2 and e.version = \
    (select version from events l where l.partition = ? and l.stream_id = s.column2 \
    order by version desc limit 1);",
);

const MARKS: (&str, &str) = (
    "select 2, m.column1, i.message_id, i.digest, i.version, i.log_offset, i.outcome \
    from (values ",
    ") m cross join inbox i on i.partition = ? and i.stream_id = m.column2 \
    and i.message_id = m.column3;",
);

const ARMED: (&str, &str) = (
    "select 3, f.column1, f.column2 from (select ? as partition) p cross join (values ",
    ") f cross join timers t on t.partition = p.partition and t.stream_id = f.column3 \
    and t.timer_id = f.column4 and t.armed_by = f.column5 and t.armed_index = f.column6",
);

/// Begins the transaction of a batch and reads the state.
pub(crate) async fn begin<'w>(
    writer: &'w Writer,
    partition: u16,
    batch: &[Append],
) -> Result<(Transaction<'w>, PartitionState), sqlx::Error> {
    let entries: Vec<(i64, &str, Uuid)> = (0..)
        .zip(batch)
        .flat_map(|(i, append)| {
            append.inbox.iter().map(move |entry| (i, append.stream.as_str(), entry.message_id.0))
        })
        .collect();
    let streams: Vec<(i64, &str)> = (0..).zip(batch).map(|(i, a)| (i, a.stream.as_str())).collect();

    // The first chunk of streams and the first chunk of entries are sent together with `begin`.
    // Most batches have no other chunks.
    let mut stream_chunks = streams.chunks(CHUNK);
    let mut entry_chunks = entries.chunks(CHUNK);
    let first_streams = stream_chunks.next().unwrap_or_default();
    let first_entries = entry_chunks.next().unwrap_or_default();
    let mut sql = format!("{BEGIN} {PARTITION}");
    push_streams(&mut sql, first_streams.len());
    push_entries(&mut sql, first_entries.len());
    let (mut transaction, rows) = writer
        .begin_reading(&sql, || {
            let mut args = Args::default();
            args.add(i64::from(partition));
            bind_streams(&mut args, partition, first_streams);
            bind_entries(&mut args, partition, first_entries);
            args
        })
        .await?;

    let mut standing = PartitionState {
        head: 0,
        outbox_sequence: 0,
        streams: vec![StreamState::default(); batch.len()],
    };
    standing.read(partition, &rows)?;
    for chunk in stream_chunks {
        let (mut sql, mut args) = (String::new(), Args::default());
        push_streams(&mut sql, chunk.len());
        bind_streams(&mut args, partition, chunk);
        standing.read(partition, &transaction.fetch(&sql, args).await?)?;
    }
    for chunk in entry_chunks {
        let (mut sql, mut args) = (String::new(), Args::default());
        push_entries(&mut sql, chunk.len());
        bind_entries(&mut args, partition, chunk);
        standing.read(partition, &transaction.fetch(&sql, args).await?)?;
    }
    standing.sort_entries(batch);
    standing.look_up_armed(&mut transaction, partition, batch).await?;
    Ok((transaction, standing))
}

fn push_streams(sql: &mut String, streams: usize) {
    sql.push_str(STREAMS.0);
    push_values(sql, padded(streams), 2);
    sql.push_str(STREAMS.1);
}

fn bind_streams<'q>(args: &mut Args<'q>, partition: u16, streams: &[(i64, &'q str)]) {
    for (i, stream) in streams {
        args.add(*i);
        args.add(*stream);
    }
    args.add_nulls((padded(streams.len()) - streams.len()) * 2);
    args.add(i64::from(partition));
    args.add(i64::from(partition));
}

fn push_entries(sql: &mut String, entries: usize) {
    if entries > 0 {
        sql.push_str(MARKS.0);
        push_values(sql, padded(entries), 3);
        sql.push_str(MARKS.1);
    }
}

fn bind_entries<'q>(args: &mut Args<'q>, partition: u16, entries: &[(i64, &'q str, Uuid)]) {
    if entries.is_empty() {
        return;
    }
    for (i, stream, message) in entries {
        args.add(*i);
        args.add(*stream);
        args.add(*message);
    }
    args.add_nulls((padded(entries.len()) - entries.len()) * 3);
    args.add(i64::from(partition));
}

impl PartitionState {
    fn read(&mut self, partition: u16, rows: &[SqliteRow]) -> Result<(), sqlx::Error> {
        for row in rows {
            let number: i64 = row.try_get_unchecked(1)?;
            if row.try_get_unchecked::<i64, _>(0)? == 0 {
                self.outbox_sequence = number;
                self.head = uint(row.try_get_unchecked(2)?);
                continue;
            }
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            let Some(stream) = self.streams.get_mut(index) else { continue };
            if row.try_get_unchecked::<i64, _>(0)? == 1 {
                stream.version = Version::new(uint(row.try_get_unchecked(2)?));
                stream.closed = row.try_get_unchecked(3)?;
            } else if row.try_get_unchecked::<i64, _>(0)? == 2 {
                stream.entries.push(entry(partition, row, 2)?);
            } else {
                stream.armed.push(row.try_get_unchecked(2)?);
            }
        }
        Ok(())
    }

    /// Reads the armed timers among the fired ones. Runs no statement if no timer is fired.
    async fn look_up_armed(
        &mut self,
        transaction: &mut Transaction<'_>,
        partition: u16,
        batch: &[Append],
    ) -> Result<(), sqlx::Error> {
        let fires = (0_i64..).zip(batch).flat_map(|(i, append)| {
            let stream = append.stream.as_str();
            (0_i64..).zip(&append.fired_timers).map(move |(n, firing)| (i, n, stream, firing))
        });
        for chunk in fires.collect::<Vec<_>>().chunks(CHUNK) {
            let (mut sql, mut args) = (ARMED.0.to_owned(), Args::default());
            push_values(&mut sql, padded(chunk.len()), 6);
            sql.push_str(ARMED.1);
            args.add(i64::from(partition));
            for (i, n, stream, firing) in chunk {
                args.add(*i);
                args.add(*n);
                args.add(*stream);
                args.add(firing.id.as_str());
                args.add(firing.arming.armed_by.0);
                args.add(i64::from(firing.arming.effect_index));
            }
            args.add_nulls((padded(chunk.len()) - chunk.len()) * 6);
            self.read(partition, &transaction.fetch(&sql, args).await?)?;
        }
        Ok(())
    }

    fn sort_entries(&mut self, batch: &[Append]) {
        for (stream, append) in self.streams.iter_mut().zip(batch) {
            stream.entries.sort_by_key(|standing| {
                append.inbox.iter().position(|entry| entry.message_id == standing.message_id)
            });
        }
    }
}

/// Decodes an inbox entry from the columns message id, digest, version, offset and outcome, which
/// start at index `first`.
pub(crate) fn entry(
    partition: u16,
    row: &SqliteRow,
    first: usize,
) -> Result<InboxEntry, sqlx::Error> {
    let digest: Uuid = row.try_get_unchecked(first + 1)?;
    let offset: Option<i64> = row.try_get_unchecked(first + 3)?;
    Ok(InboxEntry {
        message_id: MessageId(row.try_get_unchecked(first)?),
        digest: digest.as_u128(),
        receipt: Receipt {
            version: Version::new(uint(row.try_get_unchecked(first + 2)?)),
            position: offset.map(|offset| Position::new(partition, uint(offset))),
        },
        outcome: row.try_get_unchecked(first + 4)?,
    })
}
