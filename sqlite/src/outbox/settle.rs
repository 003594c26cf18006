//! Settling rows of the outbox.

use std::collections::BTreeMap;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{OutboxMessage, Queue, QueueChange, QueuePosition, Settlement};
use sqlx::Row as _;

use super::enqueue::{assign_positions, insert_statements};
use crate::connection::Transaction;
use crate::sql::{Args, CHUNK, int, padded, push_values};
use crate::statement_batch::{Statement, StatementBatch, commit_all, push_chunks};
use crate::store::{SqliteEventStore, clock};

/// Selects the rows that still exist.
const EXISTING: (&str, &str) = (
    "select s.column1 from (select ? as partition) p cross join (values ",
    ") s cross join outbox o on o.partition = p.partition and o.kind = s.column2 \
     and o.target = s.column3 and o.sequence = s.column4",
);

impl SqliteEventStore {
    pub(super) async fn settle_valid(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, sqlx::Error> {
        let leases = settlements.iter().map(|settlement| &settlement.lease);
        let mut fenced = self.begin_fenced(partition, leases).await?;
        let settled: Vec<bool> = settlements.iter().map(|s| fenced.admits(&s.lease)).collect();
        let own = settlements.iter().zip(&settled).filter(|(_, own)| **own).map(|(s, _)| s);
        let own = last_of_each(own);
        let own = existing(&mut fenced.transaction, partition, own).await?;

        let now = clock();
        let mut parts = SettlementRows::default();
        let mut more: Vec<&OutboxMessage> = Vec::new();
        for settlement in own {
            match &settlement.change {
                QueueChange::Done(rows) => {
                    parts.gone.push(settlement);
                    more.extend(rows);
                }
                QueueChange::Begun { attempts } => {
                    let attempts = *attempts;
                    parts.failed.push(FailedRow { settlement, attempts, next: now, error: None });
                }
                QueueChange::Failed { attempts, retry_after, error } => {
                    let (attempts, next) = (*attempts, now + *retry_after);
                    let error = Some(&**error);
                    parts.failed.push(FailedRow { settlement, attempts, next, error });
                }
                QueueChange::Parked { attempts, error } => {
                    parts.parked.push((settlement, *attempts, error.as_deref()));
                    parts.gone.push(settlement);
                }
            }
        }
        let more = assign_positions(&mut fenced.sequence, more);
        let mut statements = insert_statements(partition, now, &more);
        statements.extend(parts.statements(partition, now));
        commit_all(fenced.transaction, statements).await?;
        Ok(settled)
    }
}

/// Returns `true` if the row exists after the change.
fn stays(change: &QueueChange) -> bool {
    matches!(change, QueueChange::Begun { .. } | QueueChange::Failed { .. })
}

/// Returns one settlement of each row: the one that deletes it, or else the last.
fn last_of_each<'b>(settlements: impl Iterator<Item = &'b Settlement>) -> Vec<&'b Settlement> {
    let mut of_rows: BTreeMap<(&Queue, QueuePosition), (usize, &Settlement)> = BTreeMap::new();
    for (n, settlement) in settlements.enumerate() {
        let key = (&settlement.queue, settlement.position);
        let is_gone = of_rows.get(&key).is_some_and(|(_, earlier)| !stays(&earlier.change));
        if !is_gone {
            of_rows.insert(key, (n, settlement));
        }
    }
    let mut in_order: Vec<_> = of_rows.into_values().collect();
    in_order.sort_by_key(|(n, _)| *n);
    in_order.into_iter().map(|(_, settlement)| settlement).collect()
}

/// Returns the settlements whose rows still exist.
async fn existing<'b>(
    transaction: &mut Transaction<'_>,
    partition: u16,
    settlements: Vec<&'b Settlement>,
) -> Result<Vec<&'b Settlement>, sqlx::Error> {
    let mut found = Vec::new();
    for chunk in settlements.chunks(CHUNK) {
        let (mut sql, mut args) = (EXISTING.0.to_owned(), Args::default());
        push_values(&mut sql, padded(chunk.len()), 4);
        sql.push_str(EXISTING.1);
        args.add(i64::from(partition));
        for (n, settlement) in (0_i64..).zip(chunk) {
            args.add(n);
            bind_row(&mut args, settlement);
        }
        args.add_nulls((padded(chunk.len()) - chunk.len()) * 4);
        let mut numbers = Vec::new();
        for row in &transaction.fetch(&sql, args).await? {
            numbers.push(usize::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or(CHUNK));
        }
        numbers.sort_unstable();
        found.extend(numbers.into_iter().filter_map(|n| chunk.get(n).copied()));
    }
    Ok(found)
}

/// A row whose attempt failed, or begins (without an error).
struct FailedRow<'b> {
    settlement: &'b Settlement,
    attempts: u32,
    next: Timestamp,
    error: Option<&'b str>,
}

impl FailedRow<'_> {
    fn update<'s>(&'s self, batch: &mut StatementBatch<'s>, partition: u16) {
        batch.sql.push_str(
            "update outbox set attempts = ?, next_attempt_at = ?, last_error = ? \
             where partition = ? and kind = ? and target = ? and sequence = ?;",
        );
        batch.args.add(i64::from(self.attempts));
        batch.args.add(self.next.as_micros());
        batch.args.add(self.error);
        batch.args.add(i64::from(partition));
        bind_row(&mut batch.args, self.settlement);
    }
}

/// The changes that settlements make.
#[derive(Default)]
struct SettlementRows<'b> {
    failed: Vec<FailedRow<'b>>,
    parked: Vec<(&'b Settlement, u32, Option<&'b str>)>,
    gone: Vec<&'b Settlement>,
}

impl<'b> SettlementRows<'b> {
    fn statements(&self, partition: u16, now: Timestamp) -> Vec<(Statement<'_>, usize)> {
        let mut statements: Vec<(Statement<'_>, usize)> = Vec::new();
        for failed in &self.failed {
            statements.push((Box::new(move |s| failed.update(s, partition)), 1));
        }
        push_chunks(&mut statements, &self.parked, move |batch, rows| {
            Self::insert_parked(batch, partition, now, rows);
        });
        push_chunks(&mut statements, &self.gone, move |batch, rows| {
            Self::delete_gone(batch, partition, rows);
        });
        statements
    }

    /// Inserts parked rows among the dead letters. A row whose id is there already is a duplicate.
    fn insert_parked<'s>(
        batch: &mut StatementBatch<'s>,
        partition: u16,
        now: Timestamp,
        rows: &'s [(&'b Settlement, u32, Option<&'b str>)],
    ) {
        batch.values(
            (
                "insert into dead_letters (partition, kind, target, sequence, id, stream_id, \
                 recipient, message_type, schema_version, codec, created_at, metadata, \
                 message_data, parked_at, attempts, error) \
                 select o.partition, o.kind, o.target, o.sequence, o.id, o.stream_id, \
                 o.recipient, o.message_type, o.schema_version, o.codec, o.created_at, \
                 o.metadata, o.message_data, p.now, v.column4, v.column5 \
                 from (select ? as partition, ? as now) p cross join (values ",
                ") v cross join outbox o on o.partition = p.partition and o.kind = v.column1 \
                 and o.target = v.column2 and o.sequence = v.column3 where true \
                 on conflict (partition, id) do nothing;",
            ),
            (5, rows.len()),
            |args| {
                args.add(i64::from(partition));
                args.add(now.as_micros());
            },
            |args| {
                for (settlement, attempts, error) in rows {
                    bind_row(args, settlement);
                    args.add(i64::from(*attempts));
                    args.add(*error);
                }
            },
        );
    }

    fn delete_gone<'s>(batch: &mut StatementBatch<'s>, partition: u16, rows: &'s [&'b Settlement]) {
        batch.values(
            (
                "delete from outbox where rowid in (select o.rowid from \
                 (select ? as partition) p cross join (values ",
                ") v cross join outbox o on o.partition = p.partition and o.kind = v.column1 \
                 and o.target = v.column2 and o.sequence = v.column3);",
            ),
            (3, rows.len()),
            |args| args.add(i64::from(partition)),
            |args| rows.iter().for_each(|settlement| bind_row(args, settlement)),
        );
    }
}

/// Binds kind, target and sequence of the settled row. Each row has a sequence number of its own,
/// so no row has another index.
fn bind_row<'q>(args: &mut Args<'q>, settlement: &'q Settlement) {
    let Settlement { queue, position, .. } = settlement;
    args.add(queue.kind.as_str());
    args.add(queue.target.as_str());
    args.add(if position.index == 0 { int(position.sequence) } else { 0 });
}
