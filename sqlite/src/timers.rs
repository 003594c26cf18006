//! Timers.

use std::time::Duration;

use composable_rust_core::queue::{
    ArmedTimer, DueTimer, DueTimers, OutboxMessage, QueueChange, TimerQueue, TimerSettlement,
    Timers,
};
use composable_rust_core::store::{StoreError, TimerArming, validate_timer_settlements};
use composable_rust_core::{MessageId, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::connection::Transaction;
use crate::error::store_error;
use crate::outbox::{assign_positions, content, insert_statements, number, store_sequence, stream};
use crate::sql::{Args, CHUNK, int, padded, push_values};
use crate::statement_batch::{Statement, StatementBatch, commit_all, push_chunks};
use crate::store::{SqliteEventStore, clock};

/// Adds the query for the due timers of one queue and its next deadline; `number` identifies the
/// queue.
fn push_due(sql: &mut String, number: usize) {
    use std::fmt::Write as _;
    // Writing to a string does not fail.
    let _ = write!(
        sql,
        "{} select * from (select {number} as n, due, stream_id, timer_id, armed_by, armed_index, \
         message_type, schema_version, codec, message_data, metadata, attempts, attempts > 0 and last_error is null, armed_at from timers \
         where partition = ? and category = ? and due <= ? \
         order by due, stream_id, timer_id limit coalesce(?, 0)) \
         union all select {number}, (select due from timers where partition = ? and category = ? \
         and due > ? order by due limit 1), null, null, null, null, null, null, null, null, null, \
         null, null, null",
        if number == 0 { "" } else { " union all" },
    );
}

/// The number of queues that one statement reads; SQLite joins at most 500 parts.
const QUEUES: usize = 128;

/// Selects the timers that are armed as given.
const EXISTING: (&str, &str) = (
    "select s.column1 from (select ? as partition) p cross join (values ",
    ") s cross join timers t on t.partition = p.partition and t.stream_id = s.column2 \
     and t.timer_id = s.column3 and t.armed_by = s.column4 and t.armed_index = s.column5",
);

impl Timers for SqliteEventStore {
    async fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        let (mut due, mut later, now) = (Vec::new(), None, clock());
        for queues in queues.chunks(QUEUES) {
            let rows = self.due_rows(queues, limit, now).await.map_err(store_error)?;
            for row in &rows {
                let read = deadline(queues, row).map_err(store_error)?;
                match read {
                    Some((at, Some(timer))) => due.push((at, timer)),
                    Some((at, None)) => later = Some(later.map_or(at, |other| at.min(other))),
                    None => {}
                }
            }
        }
        due.sort_by(|(a, one), (b, other)| {
            (a, &one.stream, &one.timer.id).cmp(&(b, &other.stream, &other.timer.id))
        });
        let next = match due.get(limit) {
            Some(_) => Some(Duration::ZERO),
            None => later.map(|at| at.since(now)),
        };
        due.truncate(limit);
        Ok(DueTimers { timers: due.into_iter().map(|(_, timer)| timer).collect(), next })
    }

    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        validate_timer_settlements(self.log_info(), partition, settlements)?;
        if settlements.is_empty() {
            return Ok(());
        }
        self.settle_timers_valid(partition, settlements).await.map_err(store_error)?;
        if settlements.iter().any(|settlement| settlement.change.adds_rows()) {
            self.has_work();
        }
        Ok(())
    }
}

impl SqliteEventStore {
    /// Reads one timer more than the limit, which shows whether more are due.
    async fn due_rows(
        &self,
        queues: &[TimerQueue],
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let (mut sql, mut args) = (String::new(), Args::default());
        (0..padded(queues.len())).for_each(|number| push_due(&mut sql, number));
        for queue in queues {
            args.add(i64::from(queue.partition));
            args.add(queue.category.as_str());
            args.add(now.as_micros());
            args.add(int(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)));
            args.add(i64::from(queue.partition));
            args.add(queue.category.as_str());
            args.add(now.as_micros());
        }
        args.add_nulls((padded(queues.len()) - queues.len()) * 7);
        self.readers().fetch(&sql, args).await
    }

    async fn settle_timers_valid(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), sqlx::Error> {
        let leases = settlements.iter().map(|settlement| &settlement.lease);
        let mut fenced = self.begin_fenced(partition, leases).await?;
        let own = settlements.iter().filter(|s| fenced.admits(&s.lease)).collect();
        let own = existing(&mut fenced.transaction, partition, own).await?;

        let (now, log) = (clock(), self.log_info().id);
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
                    parts.failed.push(FailedTimer { settlement, attempts, due: now, error: None });
                }
                QueueChange::Failed { attempts, retry_after, error } => {
                    let (attempts, due) = (*attempts, now + *retry_after);
                    let error = Some(&**error);
                    parts.failed.push(FailedTimer { settlement, attempts, due, error });
                }
                QueueChange::Parked { attempts, error } => {
                    fenced.sequence += 1;
                    let id = settlement.timer.message_id(log, &settlement.stream).0;
                    let error = error.as_deref();
                    let parked = ParkedTimer {
                        settlement,
                        id,
                        sequence: fenced.sequence,
                        attempts: *attempts,
                        error,
                    };
                    parts.parked.push(parked);
                    parts.gone.push(settlement);
                }
            }
        }
        let more = assign_positions(&mut fenced.sequence, more);
        let mut statements = parts.statements(partition, now);
        statements.extend(insert_statements(partition, now, &more));
        commit_all(fenced.transaction, statements).await
    }
}

/// A timer whose attempt failed, or begins (without an error).
struct FailedTimer<'b> {
    settlement: &'b TimerSettlement,
    attempts: u32,
    due: Timestamp,
    error: Option<&'b str>,
}

impl FailedTimer<'_> {
    fn update<'s>(&'s self, batch: &mut StatementBatch<'s>, partition: u16) {
        batch.sql.push_str(
            "update timers set attempts = ?, due = ?, last_error = ? \
             where partition = ? and stream_id = ? and timer_id = ?;",
        );
        batch.args.add(i64::from(self.attempts));
        batch.args.add(self.due.as_micros());
        batch.args.add(self.error);
        batch.args.add(i64::from(partition));
        bind_timer(&mut batch.args, self.settlement);
    }
}

/// A timer that becomes a dead letter.
struct ParkedTimer<'b> {
    settlement: &'b TimerSettlement,
    id: Uuid,
    sequence: i64,
    attempts: u32,
    error: Option<&'b str>,
}

/// Returns the settlements whose timers are armed as given, the first of each timer.
async fn existing<'b>(
    transaction: &mut Transaction<'_>,
    partition: u16,
    settlements: Vec<&'b TimerSettlement>,
) -> Result<Vec<&'b TimerSettlement>, sqlx::Error> {
    let mut found: Vec<&TimerSettlement> = Vec::new();
    for chunk in settlements.chunks(CHUNK) {
        let (mut sql, mut args) = (EXISTING.0.to_owned(), Args::default());
        push_values(&mut sql, padded(chunk.len()), 5);
        sql.push_str(EXISTING.1);
        args.add(i64::from(partition));
        for (n, settlement) in (0_i64..).zip(chunk) {
            args.add(n);
            bind_timer(&mut args, settlement);
            args.add(settlement.timer.arming.armed_by.0);
            args.add(i64::from(settlement.timer.arming.effect_index));
        }
        args.add_nulls((padded(chunk.len()) - chunk.len()) * 5);
        let mut numbers = Vec::new();
        for row in &transaction.fetch(&sql, args).await? {
            numbers.push(usize::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or(CHUNK));
        }
        numbers.sort_unstable();
        for settlement in numbers.into_iter().filter_map(|n| chunk.get(n).copied()) {
            let is_same = |other: &&TimerSettlement| {
                (&other.stream, &other.timer.id) == (&settlement.stream, &settlement.timer.id)
            };
            if !found.iter().any(is_same) {
                found.push(settlement);
            }
        }
    }
    Ok(found)
}

/// The changes that settlements make.
#[derive(Default)]
struct SettlementRows<'b> {
    failed: Vec<FailedTimer<'b>>,
    parked: Vec<ParkedTimer<'b>>,
    gone: Vec<&'b TimerSettlement>,
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

    fn insert_parked<'s>(
        batch: &mut StatementBatch<'s>,
        partition: u16,
        now: Timestamp,
        rows: &'s [ParkedTimer<'b>],
    ) {
        batch.values(
            (
                "insert into dead_letters (partition, kind, target, sequence, id, stream_id, \
                 recipient, armed_by, armed_index, message_type, schema_version, codec, \
                 created_at, metadata, message_data, parked_at, attempts, error) \
                 select t.partition, 'timer', t.category, v.column3, v.column4, t.stream_id, \
                 t.timer_id, t.armed_by, t.armed_index, t.message_type, t.schema_version, \
                 t.codec, t.armed_at, t.metadata, t.message_data, p.now, v.column5, v.column6 \
                 from (select ? as partition, ? as now) p cross join (values ",
                ") v cross join timers t on t.partition = p.partition \
                 and t.stream_id = v.column1 and t.timer_id = v.column2 where true \
                 on conflict (partition, id) do nothing;",
            ),
            (6, rows.len()),
            |args| {
                args.add(i64::from(partition));
                args.add(now.as_micros());
            },
            |args| {
                for parked in rows {
                    bind_timer(args, parked.settlement);
                    args.add(parked.sequence);
                    args.add(parked.id);
                    args.add(i64::from(parked.attempts));
                    args.add(parked.error);
                }
            },
        );
        store_sequence(batch, partition, rows.last().map_or(0, |parked| parked.sequence));
    }

    fn delete_gone<'s>(
        batch: &mut StatementBatch<'s>,
        partition: u16,
        rows: &'s [&'b TimerSettlement],
    ) {
        batch.values(
            (
                "delete from timers where rowid in (select t.rowid from \
                 (select ? as partition) p cross join (values ",
                ") v cross join timers t on t.partition = p.partition \
                 and t.stream_id = v.column1 and t.timer_id = v.column2);",
            ),
            (2, rows.len()),
            |args| args.add(i64::from(partition)),
            |args| rows.iter().for_each(|settlement| bind_timer(args, settlement)),
        );
    }
}

/// Binds stream and timer.
fn bind_timer<'q>(args: &mut Args<'q>, settlement: &'q TimerSettlement) {
    args.add(settlement.stream.as_str());
    args.add(settlement.timer.id.as_str());
}

/// Decodes a deadline: that of a due timer, or the next of its queue.
fn deadline(
    queues: &[TimerQueue],
    row: &SqliteRow,
) -> Result<Option<(Timestamp, Option<DueTimer>)>, sqlx::Error> {
    let Some(due) = row.try_get_unchecked::<Option<i64>, _>(1)? else { return Ok(None) };
    let due = Timestamp::from_micros(due);
    if row.try_get_unchecked::<Option<String>, _>(2)?.is_none() {
        return Ok(Some((due, None)));
    }
    let queue = usize::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or_default();
    let Some(queue) = queues.get(queue) else { return Ok(None) };
    let timer = DueTimer {
        partition: queue.partition,
        stream: stream(row, 2)?,
        timer: ArmedTimer {
            id: row.try_get_unchecked(3)?,
            arming: TimerArming {
                armed_by: MessageId(row.try_get_unchecked(4)?),
                effect_index: number(row, 5)?,
            },
        },
        due,
        content: content(row, 6)?,
        metadata: row.try_get_unchecked(10)?,
        attempts: number(row, 11)?,
        begun: row.try_get_unchecked(12)?,
        armed_at: Timestamp::from_micros(row.try_get_unchecked(13)?),
    };
    Ok(Some((due, Some(timer))))
}
