//! The start of a worker's write: the write lock and the epochs of its leases.

use std::collections::BTreeMap;

use composable_rust_core::queue::Lease;
use sqlx::Row as _;

use crate::connection::{BEGIN, Transaction};
use crate::sql::{Args, padded, push_in, uint};
use crate::store::SqliteEventStore;

/// A transaction that writes to the queues of one partition.
#[derive(Debug)]
pub(crate) struct FencedTransaction<'w> {
    pub(crate) transaction: Transaction<'w>,
    /// The last sequence number drawn for the partition's outbox.
    pub(crate) sequence: i64,
    epochs: BTreeMap<String, u64>,
}

impl SqliteEventStore {
    /// Begins a transaction and reads the epochs of these leases of one partition.
    pub(crate) async fn begin_fenced(
        &self,
        partition: u16,
        leases: impl Iterator<Item = &Lease>,
    ) -> Result<FencedTransaction<'_>, sqlx::Error> {
        let mut workers: Vec<&str> = leases.map(|lease| &*lease.worker).collect();
        workers.sort_unstable();
        workers.dedup();
        let mut sql = format!(
            "{BEGIN} select null, outbox_sequence from partitions where partition = ?; \
             select worker, epoch from leases where partition = ? and worker "
        );
        push_in(&mut sql, workers.len());
        let args = || {
            let mut args = Args::default();
            args.add(i64::from(partition));
            args.add(i64::from(partition));
            for worker in &workers {
                args.add(*worker);
            }
            args.add_nulls(padded(workers.len()) - workers.len());
            args
        };
        let (transaction, rows) = self.writer().begin_reading(&sql, args).await?;
        let mut fenced = FencedTransaction { transaction, sequence: 0, epochs: BTreeMap::new() };
        for row in &rows {
            let number: i64 = row.try_get_unchecked(1)?;
            match row.try_get_unchecked::<Option<String>, _>(0)? {
                Some(worker) => drop(fenced.epochs.insert(worker, uint(number))),
                None => fenced.sequence = number,
            }
        }
        Ok(fenced)
    }
}

impl FencedTransaction<'_> {
    /// Returns `true` if the lease is at its epoch.
    pub(crate) fn admits(&self, lease: &Lease) -> bool {
        self.epochs.get(&lease.worker) == Some(&lease.epoch)
    }
}
