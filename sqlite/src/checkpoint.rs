//! How far followers have come, and what they queue.

use composable_rust_core::{
    Checkpoint, CheckpointAdvance, EventId, OutboxMessage, StoreError, Timestamp, validate_enqueue,
    validate_partition,
};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::error::store_error;
use crate::outbox::{dead_letter_inserts, insertions, place};
use crate::sql::{Args, int, uint};
use crate::statement_batch::{Statement, StatementBatch, commit_all};
use crate::store::{SqliteEventStore, clock};

const LOAD: &str = "select partition, log_offset, event_id from checkpoints where name = ? \
    order by partition";

const LOAD_ONE: &str = "select log_offset from checkpoints where partition = ? and name = ?";

const KEEP: &str = "insert into checkpoints \
    (partition, name, log_offset, event_id, updated_at) values (?, ?, ?, ?, ?) \
    on conflict do update set log_offset = excluded.log_offset, event_id = excluded.event_id, \
    updated_at = excluded.updated_at where log_offset < excluded.log_offset;";

const SAVE: &str = "insert into checkpoints \
    (partition, name, log_offset, event_id, epoch, updated_at) values (?, ?, ?, ?, ?, ?) \
    on conflict do update set log_offset = excluded.log_offset, event_id = excluded.event_id, \
    epoch = excluded.epoch, updated_at = excluded.updated_at;";

const END_LEASE: &str = "update leases set epoch = epoch + 1, holder = null \
    where partition = ? and worker = ?;";

const REWIND: &str = "insert into checkpoints (partition, name, log_offset, event_id, updated_at) \
    values (?, ?, ?, ?, ?) on conflict do update set log_offset = excluded.log_offset, \
    event_id = excluded.event_id, updated_at = excluded.updated_at;";

impl SqliteEventStore {
    pub(crate) async fn checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        let mut args = Args::default();
        args.add(name);
        let rows = self.readers().fetch(LOAD, args).await.map_err(store_error)?;
        rows.iter().map(checkpoint).collect::<Result<_, _>>().map_err(store_error)
    }

    pub(crate) async fn keep_positions(
        &self,
        name: &str,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        let now = clock();
        let keep = |to: &Checkpoint| -> (Statement<'_>, usize) {
            let to = *to;
            (Box::new(move |script| keep(script, name, to, now)), 1)
        };
        let transaction = self.writer().begin().await.map_err(store_error)?;
        commit_all(transaction, to.iter().map(keep).collect()).await.map_err(store_error)
    }

    pub(crate) async fn rewind_follower(
        &self,
        worker: &str,
        to: Checkpoint,
    ) -> Result<(), StoreError> {
        validate_partition(self.log_info(), to.partition)?;
        let now = clock();
        let rewind: Statement<'_> = Box::new(move |script| {
            script.sql.push_str(END_LEASE);
            script.args.add(i64::from(to.partition));
            script.args.add(worker);
            script.sql.push_str(REWIND);
            add(script, worker, to, now);
        });
        let transaction = self.writer().begin().await.map_err(store_error)?;
        commit_all(transaction, vec![(rewind, 1)]).await.map_err(store_error)
    }

    pub(crate) async fn park_rows(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        validate_enqueue(self.log_info(), partition, rows, None)?;
        let fenced = self.begin_fenced(partition, std::iter::empty()).await;
        let mut fenced = fenced.map_err(store_error)?;
        let placed = place(&mut fenced.sequence, rows);
        let statements = dead_letter_inserts(partition, clock(), &placed, error);
        commit_all(fenced.transaction, statements).await.map_err(store_error)
    }

    pub(crate) async fn queue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        validate_enqueue(self.log_info(), partition, rows, advance)?;
        let done = self.queue_valid(partition, rows, advance).await.map_err(store_error)?;
        if !rows.is_empty() {
            self.has_work();
        }
        Ok(done)
    }

    async fn queue_valid(
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
            let standing = fenced.transaction.fetch(LOAD_ONE, args).await?;
            let standing: Option<i64> =
                standing.first().map(|row| row.try_get_unchecked(0)).transpose()?;
            if !is_admitted || standing.is_some_and(|standing| uint(standing) >= to.offset) {
                fenced.transaction.rollback().await?;
                return Ok(is_admitted);
            }
        }
        let now = clock();
        let placed = place(&mut fenced.sequence, rows);
        let mut statements = insertions(partition, now, &placed);
        if let Some(advance) = advance {
            statements.push((Box::new(move |script| save(script, advance, now)), 1));
        }
        commit_all(fenced.transaction, statements).await?;
        Ok(true)
    }
}

fn keep<'s>(script: &mut StatementBatch<'s>, name: &'s str, to: Checkpoint, now: Timestamp) {
    script.sql.push_str(KEEP);
    add(script, name, to, now);
}

fn add<'s>(script: &mut StatementBatch<'s>, name: &'s str, to: Checkpoint, now: Timestamp) {
    script.args.add(i64::from(to.partition));
    script.args.add(name);
    script.args.add(int(to.offset));
    script.args.add(to.event_id.map(|id| id.0));
    script.args.add(now.as_micros());
}

fn save<'s>(script: &mut StatementBatch<'s>, advance: &'s CheckpointAdvance, now: Timestamp) {
    let CheckpointAdvance { name, lease, to } = advance;
    script.sql.push_str(SAVE);
    script.args.add(i64::from(to.partition));
    script.args.add(name.as_str());
    script.args.add(int(to.offset));
    script.args.add(to.event_id.map(|id| id.0));
    script.args.add(int(lease.epoch));
    script.args.add(now.as_micros());
}

fn checkpoint(row: &SqliteRow) -> Result<Checkpoint, sqlx::Error> {
    let partition: i64 = row.try_get_unchecked(0)?;
    Ok(Checkpoint {
        partition: u16::try_from(partition).unwrap_or(u16::MAX),
        offset: uint(row.try_get_unchecked(1)?),
        event_id: row.try_get_unchecked::<Option<_>, _>(2)?.map(EventId),
    })
}
