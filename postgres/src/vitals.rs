//! Measuring the server.

use std::time::Duration;

use composable_rust_core::store::{StoreError, StoreVitals};
use sqlx::Row as _;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::timestamp;

/// The server's time, and the age in microseconds of the oldest transaction that holds a snapshot,
/// among those that the role may see, or is prepared. The scan of a vacuum holds back no other.
const VITALS: &str = "select clock_timestamp(), ( \
         select (extract(epoch from max(held.age)) * 1000000)::bigint from ( \
             select clock_timestamp() - xact_start as age from pg_stat_activity \
             where backend_xmin is not null and pid <> pg_backend_pid() \
             and backend_type is distinct from 'autovacuum worker' \
             union all select clock_timestamp() - prepared from pg_prepared_xacts \
         ) held \
     )";

pub(crate) async fn vitals(store: &PostgresEventStore) -> Result<StoreVitals, StoreError> {
    let query = sqlx::query(VITALS);
    let row = store.readers.run(async |reader| query.fetch_one(reader).await).await?;
    let now = timestamp(&row, 0).map_err(store_error)?;
    let oldest: Option<i64> = row.try_get(1).map_err(store_error)?;
    let age = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    Ok(StoreVitals { now, oldest_snapshot: oldest.map(age) })
}
