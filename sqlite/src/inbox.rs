//! Pruning what is known of messages.

use std::time::Duration;

use composable_rust_core::{StoreError, validate_partition};
use sqlx::Row as _;
use uuid::Uuid;

use crate::error::store_error;
use crate::sql::{Args, CHUNK, int, padded, push_values};
use crate::store::{SqliteEventStore, clock};

/// What may still be delivered. A timer's own message has no mark: the append that makes it deletes
/// the timer.
macro_rules! waiting {
    () => {
        "(select id from outbox union all select id from dead_letters)"
    };
}

const OLD: &str = concat!(
    "select stream_id, message_id from inbox \
     where partition = ? and created_at <= ? and message_id not in ",
    waiting!(),
    " limit ?"
);

// The casts let SQLite look the keys up instead of reading the partition's marks.
const DELETE: (&str, &str) = (
    "delete from inbox where partition = ? and (stream_id, message_id) in \
     (select cast(v.column1 as text), cast(v.column2 as blob) from (values ",
    concat!(") v) and message_id not in ", waiting!(), " returning 1"),
);

impl SqliteEventStore {
    /// Looks for old marks without the write lock, and takes it only to delete them.
    pub(crate) async fn prune(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        validate_partition(self.log_info(), partition)?;
        self.prune_valid(partition, age, limit).await.map_err(store_error)
    }

    async fn prune_valid(
        &self,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, sqlx::Error> {
        let mut args = Args::default();
        args.add(i64::from(partition));
        args.add((clock() - age).as_micros());
        args.add(int(u64::try_from(limit).unwrap_or(u64::MAX)));
        let rows = self.readers().fetch(OLD, args).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let mut old: Vec<(String, Uuid)> = Vec::with_capacity(rows.len());
        for row in &rows {
            old.push((row.try_get_unchecked(0)?, row.try_get_unchecked(1)?));
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
        Ok(u64::try_from(pruned).unwrap_or(u64::MAX))
    }
}
