//! How far followers have come, and what they queue.

use composable_rust_core::{
    Checkpoint, CheckpointAdvance, EventId, OutboxMessage, StoreError, validate_enqueue,
    validate_partition,
};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresEventStore;
use crate::columns::OutboxRows;
use crate::error::store_error;
use crate::row::{bigint, smallint, unsigned, value};

const LOAD_CHECKPOINTS: &str = "select partition, log_offset, event_id from checkpoints \
     where name = $1 order by partition";

const KEEP_CHECKPOINTS: &str = "insert into checkpoints as c (partition, name, log_offset, event_id) \
     select distinct on (k.partition) k.partition, $1, k.log_offset, k.event_id \
     from unnest($2, $3, $4) k(partition, log_offset, event_id) \
     order by k.partition, k.log_offset desc \
     on conflict on constraint checkpoints_pkey do update set \
         log_offset = excluded.log_offset, event_id = excluded.event_id, \
         updated_at = excluded.updated_at \
     where c.log_offset < excluded.log_offset";

const REWIND: &str = "select rewind_follower($1, $2, $3, $4)";

const PARK: &str = "select park_rows($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

const ENQUEUE: &str = "select enqueue_rows($1, $2, $3, $4, $5, $6, \
     $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

impl PostgresEventStore {
    pub(crate) async fn checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        let query = sqlx::query(LOAD_CHECKPOINTS).bind(name);
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        rows.iter().map(checkpoint).collect::<Result<_, _>>().map_err(store_error)
    }

    pub(crate) async fn keep_positions(
        &self,
        name: &str,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        let query = sqlx::query(KEEP_CHECKPOINTS)
            .bind(name)
            .bind(to.iter().map(|to| smallint(to.partition)).collect::<Vec<_>>())
            .bind(to.iter().map(|to| bigint(to.offset)).collect::<Vec<_>>())
            .bind(to.iter().map(|to| to.event_id.map(|id| id.0)).collect::<Vec<_>>());
        self.writers.run(async |writer| query.execute(writer).await).await?;
        Ok(())
    }

    pub(crate) async fn rewind_follower(
        &self,
        worker: &str,
        to: Checkpoint,
    ) -> Result<(), StoreError> {
        validate_partition(self.log, to.partition)?;
        let query = sqlx::query(REWIND)
            .bind(smallint(to.partition))
            .bind(worker)
            .bind(bigint(to.offset))
            .bind(to.event_id.map(|id| id.0));
        self.writers.run(async |writer| query.execute(writer).await).await?;
        Ok(())
    }

    pub(crate) async fn park_rows(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        validate_enqueue(self.log, partition, rows, None)?;
        let mut columns = OutboxRows::default();
        columns.extend(0, rows);
        // The server keeps no NUL in a text.
        let error = error.replace('\0', "\u{FFFD}");
        let query = sqlx::query_scalar(PARK).bind(smallint(partition)).bind(error);
        let query = columns.bind(query);
        self.writers.run(async |writer| query.fetch_one(writer).await).await
    }

    pub(crate) async fn queue(
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
            self.tail.has_work();
        }
        Ok(is_done)
    }
}

fn checkpoint(row: &PgRow) -> Result<Checkpoint, sqlx::Error> {
    Ok(Checkpoint {
        partition: unsigned::<i16, u16>(row, 0)?,
        offset: unsigned::<i64, u64>(row, 1)?,
        event_id: value::<Option<Uuid>>(row, 2)?.map(EventId),
    })
}
