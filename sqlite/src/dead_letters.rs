//! Dead letters.

use composable_rust_core::queue::{
    DeadLetter, DeadLetterDecision, DeadLetters, Lease, OutboxKind, OutboxMessage, Queue,
    QueuePosition,
};
use composable_rust_core::store::{StoreError, TimerArming, validate_partition, validate_rows};
use composable_rust_core::{MessageId, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::connection::BEGIN;
use crate::error::store_error;
use crate::outbox::{assign_positions, insert_statements, number, queued};
use crate::sql::{Args, int, uint};
use crate::statement_batch::{Statement, StatementBatch, commit_all};
use crate::store::{SqliteEventStore, clock};

/// The columns of a dead letter, in the order in which [`letter`] decodes them.
macro_rules! columns {
    () => {
        "select partition, kind, target, sequence, id, stream_id, recipient, message_type, \
         schema_version, codec, message_data, metadata, armed_by, armed_index, attempts, error, \
         parked_at, decision, not exists (select 1 from dead_letters h \
         where h.partition = d.partition and h.kind = d.kind and h.target = d.target \
         and h.stream_id = d.stream_id and h.recipient = d.recipient \
         and h.sequence < d.sequence) from dead_letters d "
    };
}

const PAGE: &str = concat!(
    columns!(),
    "where (partition, kind, target, sequence) > (?, ?, ?, ?) \
     order by partition, kind, target, sequence limit ?"
);

const DECIDED: &str = concat!(
    columns!(),
    "where decision is not null and (partition, kind, target, sequence) > (?, ?, ?, ?) \
         order by partition, kind, target, sequence limit ?"
);

/// Records a decision about a dead letter, which must be the first of its pair (sender and
/// recipient).
const DECIDE: &str = "update dead_letters as d set decision = ? where partition = ? and id = ? \
    and not exists (select 1 from dead_letters h where h.partition = d.partition \
    and h.kind = d.kind and h.target = d.target and h.stream_id = d.stream_id \
    and h.recipient = d.recipient and h.sequence < d.sequence) returning 1;";

/// Selects a dead letter's sequence number and decision, and the sequence number of the next dead
/// letter of its pair that has an error of its own and so needs its own decision.
const EXISTING: &str = "select sequence, decision, (select min(n.sequence) from dead_letters n \
    where n.partition = d.partition and n.kind = d.kind and n.target = d.target \
    and n.stream_id = d.stream_id and n.recipient = d.recipient and n.sequence > d.sequence \
    and n.kind <> 'timer' and n.error is not null) \
    from dead_letters d where partition = ? and id = ?";

/// The rows of a pair in a range of sequence numbers. The arguments are partition, kind, target,
/// stream, recipient, the start of the range, and its end, which is excluded.
macro_rules! pair {
    () => {
        "from dead_letters where partition = ? and kind = ? and target = ? and stream_id = ? \
         and recipient = ? and sequence >= ? and sequence < ?"
    };
}

const TO_OUTBOX: &str = concat!(
    "insert into outbox (partition, kind, target, sequence, id, stream_id, recipient, \
     message_type, schema_version, codec, created_at, metadata, message_data) \
     select partition, kind, target, sequence, id, stream_id, recipient, message_type, \
     schema_version, codec, created_at, metadata, message_data ",
    pair!(),
    ";"
);

// Restores the last arming of a timer in the range, unless the timer has been armed again.
const TO_TIMERS: &str = concat!(
    "insert into timers (due, partition, category, stream_id, timer_id, armed_by, armed_index, \
     armed_at, message_type, schema_version, codec, metadata, message_data) \
     select * from (select ?, partition, target, stream_id, recipient, armed_by, armed_index, \
     created_at, message_type, schema_version, codec, metadata, message_data ",
    pair!(),
    " order by sequence desc limit 1) where true on conflict do nothing;"
);

const DELETE_PAIR: &str = concat!("delete ", pair!(), ";");

impl DeadLetters for SqliteEventStore {
    async fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let mut args = Args::default();
        args.add(after.as_ref().map_or(-1, |(queue, _)| i64::from(queue.partition)));
        args.add(after.as_ref().map_or("", |(queue, _)| queue.kind.as_str()));
        args.add(after.as_ref().map_or("", |(queue, _)| queue.target.as_str()));
        args.add(after.as_ref().map_or(0, |(_, position)| int(position.sequence)));
        args.add(int(u64::try_from(limit).unwrap_or(u64::MAX)));
        let rows = self.readers().fetch(PAGE, args).await.map_err(store_error)?;
        rows.iter().map(letter).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        let args = || {
            let mut args = Args::default();
            args.add(decision.as_str());
            args.add(i64::from(partition));
            args.add(id);
            args
        };
        let sql = format!("{BEGIN} {DECIDE}");
        let decided = self.writer().begin_reading(&sql, args).await;
        let (transaction, rows) = decided.map_err(store_error)?;
        if rows.is_empty() {
            transaction.rollback().await.map_err(store_error)?;
            return Ok(false);
        }
        transaction.commit().await.map_err(store_error)?;
        self.has_work();
        Ok(true)
    }

    async fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let mut found = Vec::new();
        let mut after = (-1_i64, String::new(), String::new(), 0_i64);
        while found.len() < limit {
            let mut args = Args::default();
            args.add(after.0);
            args.add(after.1.as_str());
            args.add(after.2.as_str());
            args.add(after.3);
            args.add(int(u64::try_from(limit).unwrap_or(u64::MAX)));
            let rows = self.readers().fetch(DECIDED, args).await.map_err(store_error)?;
            let letters: Result<Vec<_>, _> = rows.iter().map(letter).collect();
            let letters = letters.map_err(store_error)?;
            found.extend(letters.into_iter().filter(|letter| queues.contains(&letter.queue)));
            let Some(last) = rows.last().filter(|_| rows.len() == limit) else { break };
            after = position_of(last).map_err(store_error)?;
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        replies: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        validate_partition(self.log_info(), lease.partition)?;
        validate_rows(replies)?;
        let is_done = self.resolve_valid(lease, letter, replies).await.map_err(store_error)?;
        if is_done {
            self.has_work();
        }
        Ok(is_done)
    }
}

impl SqliteEventStore {
    async fn resolve_valid(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        replies: &[OutboxMessage],
    ) -> Result<bool, sqlx::Error> {
        let partition = lease.partition;
        let mut fenced = self.begin_fenced(partition, std::iter::once(lease)).await?;
        let mut args = Args::default();
        args.add(i64::from(partition));
        args.add(letter.message.row.id);
        let rows = fenced.transaction.fetch(EXISTING, args).await?;
        let standing = rows.first().map(|row| -> Result<_, sqlx::Error> {
            let decision = decision(row, 1)?;
            let next: Option<i64> = row.try_get_unchecked(2)?;
            Ok(((row.try_get_unchecked::<i64, _>(0)?, next.unwrap_or(i64::MAX)), decision))
        });
        let (range, decision) = match standing.transpose()? {
            Some((range, Some(made))) if fenced.admits(lease) => (range, made),
            _ => return fenced.transaction.rollback().await.map(|()| false),
        };
        if letter.decision != Some(decision) || letter.queue.partition != partition {
            return fenced.transaction.rollback().await.map(|()| false);
        }
        let now = clock();
        let replies = assign_positions(&mut fenced.sequence, replies);
        let mut statements: Vec<(Statement<'_>, usize)> = Vec::new();
        match decision {
            DeadLetterDecision::Redrive => {
                statements.push((Box::new(move |s| redrive(s, letter, range, now)), 1));
            }
            DeadLetterDecision::Discard => {
                statements.push((Box::new(move |s| delete(s, letter)), 1));
                statements.extend(insert_statements(partition, now, &replies));
            }
        }
        commit_all(fenced.transaction, statements).await?;
        Ok(true)
    }
}

fn redrive<'s>(
    batch: &mut StatementBatch<'s>,
    letter: &'s DeadLetter,
    range: (i64, i64),
    now: Timestamp,
) {
    if letter.queue.kind == OutboxKind::Timer {
        batch.sql.push_str(TO_TIMERS);
        batch.args.add(now.as_micros());
    } else {
        batch.sql.push_str(TO_OUTBOX);
    }
    bind_pair(&mut batch.args, letter, range);
    batch.sql.push_str(DELETE_PAIR);
    bind_pair(&mut batch.args, letter, range);
}

fn delete<'s>(batch: &mut StatementBatch<'s>, letter: &'s DeadLetter) {
    batch.sql.push_str("delete from dead_letters where partition = ? and id = ?;");
    batch.args.add(i64::from(letter.queue.partition));
    batch.args.add(letter.message.row.id);
}

fn bind_pair<'q>(args: &mut Args<'q>, letter: &'q DeadLetter, (from, below): (i64, i64)) {
    crate::outbox::bind_queue(args, &letter.queue);
    args.add(letter.message.sender.as_str());
    args.add(letter.message.row.recipient.as_str());
    args.add(from);
    args.add(below);
}

/// Decodes partition, kind, target and sequence.
fn position_of(row: &SqliteRow) -> Result<(i64, String, String, i64), sqlx::Error> {
    Ok((
        row.try_get_unchecked(0)?,
        row.try_get_unchecked(1)?,
        row.try_get_unchecked(2)?,
        row.try_get_unchecked(3)?,
    ))
}

fn decision(row: &SqliteRow, column: usize) -> Result<Option<DeadLetterDecision>, sqlx::Error> {
    let name: Option<String> = row.try_get_unchecked(column)?;
    let decision = name.map(|name| {
        DeadLetterDecision::from_name(&name)
            .ok_or_else(|| sqlx::Error::Protocol(format!("unknown decision `{name}`")))
    });
    decision.transpose()
}

fn letter(row: &SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    let kind: String = row.try_get_unchecked(1)?;
    let unknown = || sqlx::Error::Protocol(format!("unknown kind `{kind}` of a dead letter"));
    let kind = OutboxKind::from_name(&kind).ok_or_else(unknown)?;
    let partition: i64 = row.try_get_unchecked(0)?;
    let target: String = row.try_get_unchecked(2)?;
    let queued = queued(row, 4, kind, &target)?;
    let arming = match row.try_get_unchecked::<Option<Uuid>, _>(12)? {
        Some(message) => {
            Some(TimerArming { armed_by: MessageId(message), effect_index: number(row, 13)? })
        }
        None => None,
    };
    let sequence = uint(row.try_get_unchecked(3)?);
    Ok(DeadLetter {
        queue: Queue { partition: u16::try_from(partition).unwrap_or(u16::MAX), kind, target },
        position: QueuePosition { sequence, index: 0 },
        message: queued,
        arming,
        attempts: number(row, 14)?,
        error: row.try_get_unchecked(15)?,
        is_head: row.try_get_unchecked(18)?,
        parked_at: Timestamp::from_micros(row.try_get_unchecked(16)?),
        decision: decision(row, 17)?,
    })
}
