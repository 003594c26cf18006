//! The inbox.

use std::collections::BTreeSet;
use std::time::Duration;

use composable_rust_core::queue::{Inbox, InboxEntry};
use composable_rust_core::store::{StoreError, validate_partition};
use composable_rust_core::{MessageId, StreamId};
use sqlx::Row as _;
use uuid::Uuid;

use crate::append_state::entry;
use crate::error::store_error;
use crate::sql::{Args, CHUNK, int, padded, push_values};
use crate::store::{SqliteEventStore, clock};

/// The query for the ids of messages that may still be delivered. Armed timers need not be
/// searched: the append that adds the inbox entry of a timer's message also deletes the timer.
macro_rules! queued {
    () => {
        "select id from outbox union all select id from dead_letters"
    };
}

const QUEUED: &str = queued!();

/// The number of entries that one statement reads.
const PAGE: usize = 1_000;

/// The maximum number of entries that one call of `prune_inbox` reads.
const MAX_READ: usize = 100 * PAGE;

const LOAD: &str = "select message_id, digest, version, log_offset, outcome from inbox \
    where partition = ? and stream_id = ? and message_id = ?";

const NEXT_PAGE: &str = "select stream_id, message_id, created_at from inbox \
    where partition = ? and (stream_id, message_id) > (?, ?) order by stream_id, message_id limit ?";

/// An entry's key within its partition.
pub(crate) type InboxKey = (String, Uuid);

// The casts let SQLite look up the keys instead of scanning the partition's entries.
const DELETE: (&str, &str) = (
    "delete from inbox where partition = ? and (stream_id, message_id) in \
     (select cast(v.column1 as text), cast(v.column2 as blob) from (values ",
    concat!(") v) and message_id not in (", queued!(), ") returning 1"),
);

impl Inbox for SqliteEventStore {
    async fn load_inbox_entry(
        &self,
        stream: &StreamId,
        message_id: MessageId,
    ) -> Result<Option<InboxEntry>, StoreError> {
        let mut args = self.args_of(stream);
        args.add(message_id.0);
        let partition = self.log_info().partition_of(stream);
        let rows = self.readers().fetch(LOAD, args).await.map_err(store_error)?;
        rows.first().map(|row| entry(partition, row, 0)).transpose().map_err(store_error)
    }

    // Finds old entries without the write lock, and takes the lock only to delete them. Each call
    // reads a part of the inbox, starting where the previous call ended.
    async fn prune_inbox(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        validate_partition(self.log_info(), partition)?;
        let cutoff = (clock() - age).as_micros();
        let start = self.pruned_to(partition);
        let mut cursor = PruneCursor { at: start.clone(), start, has_wrapped: false };
        let pruned = self.prune_from(&mut cursor, partition, cutoff, limit).await;
        self.set_pruned_to(partition, cursor.at);
        pruned.map_err(store_error)
    }
}

impl SqliteEventStore {
    async fn prune_from(
        &self,
        cursor: &mut PruneCursor,
        partition: u16,
        cutoff: i64,
        limit: usize,
    ) -> Result<u64, sqlx::Error> {
        let (mut pruned, mut read, mut queued) = (0, 0, None);
        while pruned < limit && read < MAX_READ {
            let (page, is_last) = self.page_of_entries(cursor, partition).await?;
            read += page.len();
            let mut old = Vec::new();
            for (entry, created_at) in page {
                if old.len() == limit - pruned {
                    break;
                }
                cursor.at = Some(entry.clone());
                if created_at <= cutoff {
                    old.push(entry);
                }
            }
            let is_last = is_last && old.len() < limit - pruned;
            if !old.is_empty() {
                if queued.is_none() {
                    queued = Some(self.queued_messages().await?);
                }
                old.retain(|(_, id)| queued.as_ref().is_none_or(|ids| !ids.contains(id)));
                pruned += self.delete_entries(partition, &old).await?;
            }
            if is_last && !cursor.wrap() {
                break;
            }
        }
        Ok(u64::try_from(pruned).unwrap_or(u64::MAX))
    }

    /// Reads the next page of entries with their creation times. Also returns `true` if the page is
    /// the last of this round.
    async fn page_of_entries(
        &self,
        cursor: &PruneCursor,
        partition: u16,
    ) -> Result<(Vec<(InboxKey, i64)>, bool), sqlx::Error> {
        let mut args = Args::default();
        args.add(i64::from(partition));
        let (stream, message) = cursor.at.as_ref().map_or(("", Uuid::nil()), |(s, m)| (s, *m));
        args.add(stream);
        args.add(message);
        args.add(int(PAGE as u64));
        let rows = self.readers().fetch(NEXT_PAGE, args).await?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let entry = (row.try_get_unchecked(0)?, row.try_get_unchecked(1)?);
            page.push((entry, row.try_get_unchecked(2)?));
        }
        let mut is_last = page.len() < PAGE;
        if cursor.has_wrapped {
            let before = page.len();
            page.retain(|(entry, _)| Some(entry) <= cursor.start.as_ref());
            is_last |= page.len() < before;
        }
        Ok((page, is_last))
    }

    async fn queued_messages(&self) -> Result<BTreeSet<Uuid>, sqlx::Error> {
        let rows = self.readers().fetch(QUEUED, Args::default()).await?;
        rows.iter().map(|row| row.try_get_unchecked(0)).collect()
    }

    /// Deletes entries, except those whose messages have been queued again.
    async fn delete_entries(&self, partition: u16, old: &[InboxKey]) -> Result<usize, sqlx::Error> {
        if old.is_empty() {
            return Ok(0);
        }
        let mut transaction = self.writer().begin().await?;
        let mut pruned = 0;
        for chunk in old.chunks(CHUNK) {
            let (mut sql, mut args) = (DELETE.0.to_owned(), Args::default());
            push_values(&mut sql, padded(chunk.len()), 2);
            sql.push_str(DELETE.1);
            args.add(i64::from(partition));
            for (stream, message) in chunk {
                args.add(stream.as_str());
                args.add(*message);
            }
            args.add_nulls((padded(chunk.len()) - chunk.len()) * 2);
            pruned += transaction.fetch(&sql, args).await?.len();
        }
        transaction.commit().await?;
        Ok(pruned)
    }
}

/// A round through the entries of a partition. It starts where the previous call ended.
struct PruneCursor {
    start: Option<InboxKey>,
    /// The last entry that was read.
    at: Option<InboxKey>,
    has_wrapped: bool,
}

impl PruneCursor {
    /// Continues at the first entry. Returns `false` if the round is complete.
    fn wrap(&mut self) -> bool {
        self.at = None;
        !std::mem::replace(&mut self.has_wrapped, true) && self.start.is_some()
    }
}
