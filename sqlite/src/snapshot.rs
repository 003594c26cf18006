//! Snapshots.

use composable_rust_core::store::{Fingerprint, Snapshot, StaleSnapshots, StoreError};
use composable_rust_core::{EventId, StreamId, Version};
use sqlx::Row as _;

use crate::connection::BEGIN;
use crate::error::store_error;
use crate::sql::{Args, bits, int, uint};
use crate::store::{SqliteEventStore, clock};

const SAVE: &str = "insert into snapshots \
    (partition, stream_id, fingerprint, version, codec, state_data, created_at) \
    select ?1, ?2, ?3, ?4, ?5, ?6, ?7 where coalesce((select event_type from events e \
    where e.partition = ?1 and e.stream_id = ?2 and e.version <= ?4 and event_type <> '$closed' \
    order by e.version desc limit 1), '') <> '$erased' and exists (select 1 from events e \
    where e.partition = ?1 and e.stream_id = ?2 and e.version = ?4 and e.event_id = ?8) \
    on conflict do update set version = excluded.version, codec = excluded.codec, \
    state_data = excluded.state_data, created_at = excluded.created_at \
    where excluded.version > version;";

const DELETE_ABOVE: &str = "delete from snapshots \
    where partition = ?1 and stream_id = ?2 and version > ?3; commit";
const DELETE_OTHERS: &str = "delete from snapshots where partition = ?1 and stream_id = ?2 \
    and fingerprint <> ?3 and created_at <= ?4; commit";

const LOAD: &str = "select version, codec, state_data from snapshots \
    where partition = ? and stream_id = ? and fingerprint = ?";

pub(crate) async fn save_snapshot(
    store: &SqliteEventStore,
    stream: &StreamId,
    snapshot: &Snapshot,
    last: EventId,
) -> Result<(), StoreError> {
    let partition = store.log_info().partition_of(stream);
    let args = || {
        let mut args = Args::default();
        args.add(i64::from(partition));
        args.add(stream.as_str());
        args.add(bits(snapshot.fingerprint.0));
        args.add(int(snapshot.version.get()));
        args.add(snapshot.codec.as_str());
        args.add(snapshot.bytes.as_slice());
        args.add(clock().as_micros());
        args.add(last.0);
        args
    };
    let sql = format!("{BEGIN} {SAVE}");
    let saved = store.writer().begin_reading(&sql, args).await;
    let (transaction, _) = saved.map_err(store_error)?;
    transaction.commit().await.map_err(store_error)
}

pub(crate) async fn delete_snapshots(
    store: &SqliteEventStore,
    stream: &StreamId,
    which: StaleSnapshots,
) -> Result<(), StoreError> {
    let transaction = store.writer().begin().await.map_err(store_error)?;
    let mut args = store.args_of(stream);
    let delete = match which {
        StaleSnapshots::Above(version) => {
            args.add(int(version.get()));
            DELETE_ABOVE
        }
        StaleSnapshots::Others { than, age } => {
            args.add(bits(than.0));
            args.add((clock() - age).as_micros());
            DELETE_OTHERS
        }
    };
    transaction.commit_with(delete, args).await.map_err(store_error)
}

pub(crate) async fn load_snapshot(
    store: &SqliteEventStore,
    stream: &StreamId,
    fingerprint: Fingerprint,
) -> Result<Option<Snapshot>, StoreError> {
    let mut args = store.args_of(stream);
    args.add(bits(fingerprint.0));
    let read = |row: &sqlx::sqlite::SqliteRow| {
        Ok(Snapshot {
            version: Version::new(uint(row.try_get_unchecked(0)?)),
            fingerprint,
            codec: row.try_get_unchecked(1)?,
            bytes: row.try_get_unchecked(2)?,
        })
    };
    let rows = store.readers().fetch(LOAD, args).await.map_err(store_error)?;
    rows.first().map(read).transpose().map_err(store_error)
}

impl SqliteEventStore {
    /// The arguments that most statements about one stream start with: its partition and name.
    pub(crate) fn args_of<'q>(&self, stream: &'q StreamId) -> Args<'q> {
        let mut args = Args::default();
        args.add(i64::from(self.log_info().partition_of(stream)));
        args.add(stream.as_str());
        args
    }
}
