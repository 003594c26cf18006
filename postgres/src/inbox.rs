//! The inbox.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use composable_rust_core::queue::{Inbox, InboxEntry};
use composable_rust_core::store::{Append, LogInfo, StoreError, validate_partition};
use composable_rust_core::{MessageId, Position, Receipt, StreamId, Version};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{micros, smallint, unsigned};

const LOAD_ENTRY: &str = "select message_id, digest, version, log_offset, outcome from inbox \
     where partition = $1 and stream_id = $2 and message_id = $3";

const LOAD_ENTRIES: &str = "select i.message_id, i.digest, i.version, i.log_offset, i.outcome, k.member \
     from unnest($2, $3, $4) with ordinality k(member, stream, id, nth) \
     cross join lateral ( \
         select * from inbox i where i.partition = $1 \
         and i.stream_id = k.stream and i.message_id = k.id limit 1 \
     ) i order by k.nth";

const PRUNE_INBOX: &str = "select pruned, page from prune_inbox($1, $2, $3, $4)";

impl Inbox for PostgresEventStore {
    async fn load_inbox_entry(
        &self,
        stream: &StreamId,
        message_id: MessageId,
    ) -> Result<Option<InboxEntry>, StoreError> {
        let partition = self.log.partition_of(stream);
        let query = sqlx::query(LOAD_ENTRY)
            .bind(smallint(partition))
            .bind(stream.as_str())
            .bind(message_id.0);
        let row = self.readers.run(async |reader| query.fetch_optional(reader).await).await?;
        row.map(|row| entry(&row, partition)).transpose().map_err(store_error)
    }

    async fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        validate_partition(self.log, partition)?;
        let Some(begin) = self.pruning.0.get(usize::from(partition)) else { return Ok(0) };
        let query = sqlx::query_as(PRUNE_INBOX)
            .bind(smallint(partition))
            .bind(micros(age))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(begin.load(Ordering::Relaxed));
        let (pruned, next): (i64, i64) =
            self.writers.run(async |writer| query.fetch_one(writer).await).await?;
        begin.store(next, Ordering::Relaxed);
        Ok(u64::try_from(pruned).unwrap_or(0))
    }
}

/// The page of the inbox at which the next pruning of each partition begins, so that every page has
/// its turn.
#[derive(Debug)]
pub(crate) struct PruneCursors(Vec<AtomicI64>);

impl PruneCursors {
    pub(crate) fn new(log: LogInfo) -> Self {
        Self((0..log.partitions).map(|_| AtomicI64::new(0)).collect())
    }
}

/// The existing inbox entries of some members of a batch.
#[derive(Default)]
pub(crate) struct ExistingEntries(HashMap<usize, Vec<InboxEntry>>);

impl ExistingEntries {
    /// Reads the entries after the append's outcome is known. An entry never changes, though it may
    /// be pruned.
    pub(crate) async fn load(
        store: &PostgresEventStore,
        partition: u16,
        batch: &[Append],
        members: &[usize],
    ) -> Result<Self, StoreError> {
        let mut member_of = Vec::new();
        let mut streams = Vec::new();
        let mut ids = Vec::new();
        for &member in members {
            for entry in &batch[member].inbox {
                member_of.push(i32::try_from(member).unwrap_or(i32::MAX));
                streams.push(batch[member].stream.as_str());
                ids.push(entry.message_id.0);
            }
        }
        let query = sqlx::query(LOAD_ENTRIES)
            .bind(smallint(partition))
            .bind(member_of)
            .bind(streams)
            .bind(ids);
        let rows = store.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let mut entries = HashMap::<usize, Vec<InboxEntry>>::new();
        for row in rows {
            let member = unsigned::<i32, usize>(&row, 5).map_err(store_error)?;
            entries.entry(member).or_default().push(entry(&row, partition).map_err(store_error)?);
        }
        Ok(Self(entries))
    }

    /// Returns the entries of `member`, which is a duplicate and so had some when the append was
    /// checked.
    pub(crate) fn take(&mut self, member: usize) -> Result<Vec<InboxEntry>, StoreError> {
        self.0.remove(&member).ok_or_else(|| {
            StoreError::unavailable("the inbox entries were pruned before they could be read")
        })
    }
}

pub(crate) fn entry(row: &PgRow, partition: u16) -> Result<InboxEntry, sqlx::Error> {
    let offset = row.try_get::<Option<i64>, _>(3)?;
    Ok(InboxEntry {
        message_id: MessageId(row.try_get(0)?),
        digest: row.try_get::<Uuid, _>(1)?.as_u128(),
        receipt: Receipt {
            version: Version::new(unsigned::<i64, u64>(row, 2)?),
            position: offset
                .and_then(|offset| u64::try_from(offset).ok())
                .map(|offset| Position::new(partition, offset)),
        },
        outcome: row.try_get(4)?,
    })
}
