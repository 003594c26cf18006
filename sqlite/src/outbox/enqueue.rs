//! Adding rows to the outbox or to the dead letters.

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{CheckpointAdvance, OutboxMessage};
use composable_rust_core::store::NewOutboxRow;
use sqlx::Row as _;

use crate::sql::{Args, CHUNK, int, padded, uint};
use crate::statement_batch::{Statement, StatementBatch, add_content, commit_all};
use crate::store::{SqliteEventStore, clock};

const LOAD_CHECKPOINT: &str = "select log_offset from checkpoints where partition = ? and name = ?";

const ADVANCE_CHECKPOINT: &str = "insert into checkpoints \
    (partition, name, log_offset, event_id, epoch, updated_at) values (?, ?, ?, ?, ?, ?) \
    on conflict do update set log_offset = excluded.log_offset, event_id = excluded.event_id, \
    epoch = excluded.epoch, updated_at = excluded.updated_at;";

impl SqliteEventStore {
    pub(super) async fn enqueue_valid(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, sqlx::Error> {
        let leases = advance.iter().map(|advance| &advance.lease);
        let mut fenced = self.begin_fenced(partition, leases).await?;
        if let Some(CheckpointAdvance { name, lease, to }) = advance {
            let is_admitted = fenced.admits(lease);
            let mut args = Args::default();
            args.add(i64::from(partition));
            args.add(name.as_str());
            let standing = fenced.transaction.fetch(LOAD_CHECKPOINT, args).await?;
            let standing: Option<i64> =
                standing.first().map(|row| row.try_get_unchecked(0)).transpose()?;
            if !is_admitted || standing.is_some_and(|standing| uint(standing) >= to.offset) {
                fenced.transaction.rollback().await?;
                return Ok(is_admitted);
            }
        }
        let now = clock();
        let positioned = assign_positions(&mut fenced.sequence, rows);
        let mut statements = insert_statements(partition, now, &positioned);
        if let Some(advance) = advance {
            statements.push((Box::new(move |batch| advance_checkpoint(batch, advance, now)), 1));
        }
        commit_all(fenced.transaction, statements).await?;
        Ok(true)
    }
}

fn advance_checkpoint<'s>(
    batch: &mut StatementBatch<'s>,
    advance: &'s CheckpointAdvance,
    now: Timestamp,
) {
    let CheckpointAdvance { name, lease, to } = advance;
    batch.sql.push_str(ADVANCE_CHECKPOINT);
    batch.args.add(i64::from(to.partition));
    batch.args.add(name.as_str());
    batch.args.add(int(to.offset));
    batch.args.add(to.event_id.map(|id| id.0));
    batch.args.add(int(lease.epoch));
    batch.args.add(now.as_micros());
}

/// A row with the sequence number that was drawn for it.
#[derive(Debug)]
pub(crate) struct PositionedRow<'b> {
    pub(crate) sequence: i64,
    pub(crate) stream: &'b str,
    pub(crate) row: &'b NewOutboxRow,
}

/// Draws a sequence number for each row.
pub(crate) fn assign_positions<'b>(
    sequence: &mut i64,
    rows: impl IntoIterator<Item = &'b OutboxMessage>,
) -> Vec<PositionedRow<'b>> {
    let positioned = rows.into_iter().map(|queued| {
        *sequence += 1;
        PositionedRow { sequence: *sequence, stream: queued.sender.as_str(), row: &queued.row }
    });
    positioned.collect()
}

/// Returns the statements that add rows to the outbox, in order.
pub(crate) fn insert_statements<'s>(
    partition: u16,
    now: Timestamp,
    rows: &'s [PositionedRow<'s>],
) -> Vec<(Statement<'s>, usize)> {
    let insert = |rows: &'s [PositionedRow<'s>]| -> (Statement<'s>, usize) {
        (Box::new(move |batch| insert(batch, partition, now, rows)), padded(rows.len()))
    };
    rows.chunks(CHUNK).map(insert).collect()
}

/// Adds rows to the outbox, and stores the last sequence number that was drawn.
pub(crate) fn insert<'s>(
    batch: &mut StatementBatch<'s>,
    partition: u16,
    now: Timestamp,
    rows: &'s [PositionedRow<'_>],
) {
    batch.values(
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
        |args| bind_positioned(args, rows),
    );
    store_sequence(batch, partition, rows.last().map_or(0, |row| row.sequence));
}

/// Returns the statements that add rows to the dead letters.
pub(super) fn dead_letter_statements<'s>(
    partition: u16,
    now: Timestamp,
    rows: &'s [PositionedRow<'s>],
    error: &'s str,
) -> Vec<(Statement<'s>, usize)> {
    let insert = |rows: &'s [PositionedRow<'s>]| -> (Statement<'s>, usize) {
        (
            Box::new(move |batch| insert_dead_letter(batch, partition, now, rows, error)),
            padded(rows.len()),
        )
    };
    rows.chunks(CHUNK).map(insert).collect()
}

/// Adds rows to the dead letters. A row whose id is there already, or in its queue, is a duplicate.
fn insert_dead_letter<'s>(
    batch: &mut StatementBatch<'s>,
    partition: u16,
    now: Timestamp,
    rows: &'s [PositionedRow<'_>],
    error: &'s str,
) {
    batch.values(
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
        |args| bind_positioned(args, rows),
    );
    store_sequence(batch, partition, rows.last().map_or(0, |row| row.sequence));
}

fn bind_positioned<'s>(args: &mut Args<'s>, rows: &'s [PositionedRow<'_>]) {
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

/// Stores the last sequence number that was drawn.
pub(crate) fn store_sequence(batch: &mut StatementBatch<'_>, partition: u16, sequence: i64) {
    batch.sql.push_str("update partitions set outbox_sequence = ? where partition = ?;");
    batch.args.add(sequence);
    batch.args.add(i64::from(partition));
}
