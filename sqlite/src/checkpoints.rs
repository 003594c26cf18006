//! Checkpoints.

use composable_rust_core::queue::{Checkpoint, Checkpoints};
use composable_rust_core::store::{StoreError, validate_partition};
use composable_rust_core::{EventId, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::error::store_error;
use crate::sql::{Args, int, uint};
use crate::statement_batch::{Statement, StatementBatch, commit_all};
use crate::store::{SqliteEventStore, clock};

const LOAD: &str = "select partition, log_offset, event_id from checkpoints where name = ? \
    order by partition";

const SAVE: &str = "insert into checkpoints \
    (partition, name, log_offset, event_id, updated_at) values (?, ?, ?, ?, ?) \
    on conflict do update set log_offset = excluded.log_offset, event_id = excluded.event_id, \
    updated_at = excluded.updated_at where log_offset < excluded.log_offset;";

const END_LEASE: &str = "update leases set epoch = epoch + 1, holder = null \
    where partition = ? and worker = ?;";

const REWIND: &str = "insert into checkpoints (partition, name, log_offset, event_id, updated_at) \
    values (?, ?, ?, ?, ?) on conflict do update set log_offset = excluded.log_offset, \
    event_id = excluded.event_id, updated_at = excluded.updated_at;";

impl Checkpoints for SqliteEventStore {
    async fn load_checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        let mut args = Args::default();
        args.add(name);
        let rows = self.readers().fetch(LOAD, args).await.map_err(store_error)?;
        rows.iter().map(checkpoint).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn save_checkpoints(&self, name: &str, to: &[Checkpoint]) -> Result<(), StoreError> {
        let now = clock();
        let save = |to: &Checkpoint| -> (Statement<'_>, usize) {
            let to = *to;
            (Box::new(move |batch| save(batch, name, to, now)), 1)
        };
        let transaction = self.writer().begin().await.map_err(store_error)?;
        commit_all(transaction, to.iter().map(save).collect()).await.map_err(store_error)
    }

    async fn rewind(&self, worker: &str, to: Checkpoint) -> Result<(), StoreError> {
        validate_partition(self.log_info(), to.partition)?;
        let now = clock();
        let rewind: Statement<'_> = Box::new(move |batch| {
            batch.sql.push_str(END_LEASE);
            batch.args.add(i64::from(to.partition));
            batch.args.add(worker);
            batch.sql.push_str(REWIND);
            add(batch, worker, to, now);
        });
        let transaction = self.writer().begin().await.map_err(store_error)?;
        commit_all(transaction, vec![(rewind, 1)]).await.map_err(store_error)
    }
}

fn save<'s>(batch: &mut StatementBatch<'s>, name: &'s str, to: Checkpoint, now: Timestamp) {
    batch.sql.push_str(SAVE);
    add(batch, name, to, now);
}

fn add<'s>(batch: &mut StatementBatch<'s>, name: &'s str, to: Checkpoint, now: Timestamp) {
    batch.args.add(i64::from(to.partition));
    batch.args.add(name);
    batch.args.add(int(to.offset));
    batch.args.add(to.event_id.map(|id| id.0));
    batch.args.add(now.as_micros());
}

pub(crate) fn checkpoint(row: &SqliteRow) -> Result<Checkpoint, sqlx::Error> {
    let partition: i64 = row.try_get_unchecked(0)?;
    Ok(Checkpoint {
        partition: u16::try_from(partition).unwrap_or(u16::MAX),
        offset: uint(row.try_get_unchecked(1)?),
        event_id: row.try_get_unchecked::<Option<_>, _>(2)?.map(EventId),
    })
}
