//! Loading one stream, row by row.

use composable_rust_core::{
    Fingerprint, Loaded, RecordedEvent, Snapshot, StoreError, StreamId, Version,
};
use futures_util::stream::{Stream, StreamExt as _};
use sqlx::postgres::PgRow;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{self, bigint, event_columns, override_join, smallint, text, unsigned, value};

const LOAD_EVENTS: &str = concat!(
    "select ",
    event_columns!(),
    " from events e ",
    override_join!(),
    " where e.partition = $1 and e.stream_id = $2 and e.version > $3 order by e.version"
);

/// The snapshot comes as a row of the same columns with offset 0, which no event has.
const LOAD_WITH_SNAPSHOT: &str = concat!(
    "(select s.version, 0::bigint, null::uuid, s.created_at, \
     '' collate \"C\", 0, s.codec, s.state_data, null::jsonb from snapshots s \
     where s.partition = $1 and s.stream_id = $2 and s.fingerprint = $3) \
     union all (select ",
    event_columns!(),
    " from events e ",
    override_join!(),
    " where e.partition = $1 and e.stream_id = $2 and e.version > coalesce(( \
         select s.version from snapshots s \
         where s.partition = $1 and s.stream_id = $2 and s.fingerprint = $3 \
     ), 0) order by e.version)"
);

impl PostgresEventStore {
    pub(crate) fn events<'a>(
        &'a self,
        stream: &'a StreamId,
        after: Version,
    ) -> impl Stream<Item = Result<RecordedEvent, StoreError>> + Send + 'a {
        let partition = self.log.partition_of(stream);
        let query = sqlx::query(LOAD_EVENTS)
            .bind(smallint(partition))
            .bind(stream.as_str())
            .bind(bigint(after.get()));
        self.readers.rows(query).map(move |row| {
            row.and_then(|row| row::event(&row, stream.clone(), partition)).map_err(store_error)
        })
    }

    pub(crate) fn snapshot_and_tail<'a>(
        &'a self,
        stream: &'a StreamId,
        fingerprint: Fingerprint,
    ) -> impl Stream<Item = Result<Loaded, StoreError>> + Send + 'a {
        let partition = self.log.partition_of(stream);
        let mut seen = false;
        let query = sqlx::query(LOAD_WITH_SNAPSHOT)
            .bind(smallint(partition))
            .bind(stream.as_str())
            .bind(crate::snapshot::column(fingerprint));
        self.readers.rows(query).map(move |row| {
            let first = !std::mem::replace(&mut seen, true);
            row.and_then(|row| {
                if value::<i64>(&row, 1)? != 0 {
                    return row::event(&row, stream.clone(), partition).map(Loaded::Event);
                }
                if !first {
                    return Err(sqlx::Error::Protocol("a snapshot after events".to_owned()));
                }
                snapshot(&row, fingerprint).map(Loaded::Snapshot)
            })
            .map_err(store_error)
        })
    }
}

fn snapshot(row: &PgRow, fingerprint: Fingerprint) -> Result<Snapshot, sqlx::Error> {
    Ok(Snapshot {
        version: Version::new(unsigned::<i64, u64>(row, 0)?),
        fingerprint,
        codec: text(row, 6)?.to_owned(),
        bytes: value::<&[u8]>(row, 7)?.to_owned(),
    })
}
