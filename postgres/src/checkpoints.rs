//! Checkpoints.

use composable_rust_core::EventId;
use composable_rust_core::queue::{Checkpoint, Checkpoints};
use composable_rust_core::store::{StoreError, validate_partition};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{bigint, smallint, unsigned, value};

const LOAD_CHECKPOINTS: &str = "select partition, log_offset, event_id from checkpoints \
     where name = $1 order by partition";

const SAVE_CHECKPOINTS: &str = "insert into checkpoints as c (partition, name, log_offset, event_id) \
     select distinct on (k.partition) k.partition, $1, k.log_offset, k.event_id \
     from unnest($2, $3, $4) k(partition, log_offset, event_id) \
     order by k.partition, k.log_offset desc \
     on conflict on constraint checkpoints_pkey do update set \
         log_offset = excluded.log_offset, event_id = excluded.event_id, \
         updated_at = excluded.updated_at \
     where c.log_offset < excluded.log_offset";

const REWIND: &str = "select rewind_follower($1, $2, $3, $4)";

impl Checkpoints for PostgresEventStore {
    async fn load_checkpoints(&self, name: &str) -> Result<Vec<Checkpoint>, StoreError> {
        let query = sqlx::query(LOAD_CHECKPOINTS).bind(name);
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        rows.iter().map(checkpoint).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn save_checkpoints(&self, name: &str, to: &[Checkpoint]) -> Result<(), StoreError> {
        let query = sqlx::query(SAVE_CHECKPOINTS)
            .bind(name)
            .bind(to.iter().map(|to| smallint(to.partition)).collect::<Vec<_>>())
            .bind(to.iter().map(|to| bigint(to.offset)).collect::<Vec<_>>())
            .bind(to.iter().map(|to| to.event_id.map(|id| id.0)).collect::<Vec<_>>());
        self.writers.run(async |writer| query.execute(writer).await).await?;
        Ok(())
    }

    async fn rewind(&self, worker: &str, to: Checkpoint) -> Result<(), StoreError> {
        validate_partition(self.log, to.partition)?;
        let query = sqlx::query(REWIND)
            .bind(smallint(to.partition))
            .bind(worker)
            .bind(bigint(to.offset))
            .bind(to.event_id.map(|id| id.0));
        self.writers.run(async |writer| query.execute(writer).await).await?;
        Ok(())
    }
}

pub(crate) fn checkpoint(row: &PgRow) -> Result<Checkpoint, sqlx::Error> {
    Ok(Checkpoint {
        partition: unsigned::<i16, u16>(row, 0)?,
        offset: unsigned::<i64, u64>(row, 1)?,
        event_id: value::<Option<Uuid>>(row, 2)?.map(EventId),
    })
}
