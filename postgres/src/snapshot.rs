//! Snapshots.

use std::time::Duration;

use composable_rust_core::store::{Fingerprint, Snapshot, StaleSnapshots, StoreError};
use composable_rust_core::{EventId, StreamId, Version};
use sqlx::Row as _;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{bigint, smallint, unsigned};

const SAVE_SNAPSHOT: &str = "select save_snapshot($1, $2, $3, $4, $5, $6, $7)";

const DELETE_ABOVE: &str = "delete from snapshots \
     where partition = $1 and stream_id = $2 and version > $3";
const DELETE_OTHERS: &str = "delete from snapshots \
     where partition = $1 and stream_id = $2 and fingerprint <> $3 \
     and created_at <= clock_timestamp() - $4 * interval '1 second'";

/// The longest age that the server can subtract from its time.
const MAX_SNAPSHOT_AGE: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

const LOAD_SNAPSHOT: &str = "select version, codec, state_data from snapshots \
     where partition = $1 and stream_id = $2 and fingerprint = $3";

pub(crate) async fn save_snapshot(
    store: &PostgresEventStore,
    stream: &StreamId,
    snapshot: &Snapshot,
    last: EventId,
) -> Result<(), StoreError> {
    if snapshot.codec.contains('\0') {
        return Err(StoreError::Invalid(format!(
            "stream {stream}: the codec of a snapshot holds a NUL character"
        )));
    }
    let query = sqlx::query(SAVE_SNAPSHOT)
        .bind(smallint(store.log.partition_of(stream)))
        .bind(stream.as_str())
        .bind(column(snapshot.fingerprint))
        .bind(bigint(snapshot.version.get()))
        .bind(&snapshot.codec)
        .bind(&snapshot.bytes)
        .bind(last.0);
    store.readers.run(async |reader| query.execute(reader).await).await?;
    Ok(())
}

pub(crate) async fn delete_snapshots(
    store: &PostgresEventStore,
    stream: &StreamId,
    which: StaleSnapshots,
) -> Result<(), StoreError> {
    let of_stream = |statement| {
        sqlx::query(statement).bind(smallint(store.log.partition_of(stream))).bind(stream.as_str())
    };
    let query = match which {
        StaleSnapshots::Above(version) => of_stream(DELETE_ABOVE).bind(bigint(version.get())),
        StaleSnapshots::Others { than, age } => of_stream(DELETE_OTHERS)
            .bind(column(than))
            .bind(age.min(MAX_SNAPSHOT_AGE).as_secs_f64()),
    };
    store.readers.run(async |reader| query.execute(reader).await).await?;
    Ok(())
}

pub(crate) async fn load_snapshot(
    store: &PostgresEventStore,
    stream: &StreamId,
    fingerprint: Fingerprint,
) -> Result<Option<Snapshot>, StoreError> {
    let query = sqlx::query(LOAD_SNAPSHOT)
        .bind(smallint(store.log.partition_of(stream)))
        .bind(stream.as_str())
        .bind(column(fingerprint));
    let row = store.readers.run(async |reader| query.fetch_optional(reader).await).await?;
    row.map(|row| {
        Ok(Snapshot {
            version: Version::new(unsigned::<i64, u64>(&row, 0)?),
            fingerprint,
            codec: row.try_get(1)?,
            bytes: row.try_get(2)?,
        })
    })
    .transpose()
    .map_err(store_error)
}

/// Converts a fingerprint to the same 64 bits as a signed number.
pub(crate) fn column(fingerprint: Fingerprint) -> i64 {
    i64::from_ne_bytes(fingerprint.0.to_ne_bytes())
}
