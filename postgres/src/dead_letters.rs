//! Dead letters.

use composable_rust_core::MessageId;
use composable_rust_core::queue::{
    DeadLetter, DeadLetterDecision, DeadLetters, Lease, OutboxMessage, Queue, QueuePosition,
};
use composable_rust_core::store::{StoreError, TimerArming, validate_partition, validate_rows};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresEventStore;
use crate::columns::{OutboxRows, count};
use crate::error::store_error;
use crate::outbox::{queued, queued_columns};
use crate::row::{bigint, decode_error, smallint, text, timestamp, unsigned, value};

macro_rules! letter_columns {
    () => {
        concat!(
            queued_columns!(),
            ", d.partition, d.sequence, d.index, d.armed_by, d.armed_index, d.attempts, d.error, \
             d.parked_at, d.decision, coalesce(( \
                 select false from dead_letters b where b.partition = d.partition \
                 and b.kind = d.kind and b.target = d.target and b.stream_id = d.stream_id \
                 and b.recipient = d.recipient \
                 and (b.sequence, b.index) < (d.sequence, d.index) limit 1 \
             ), true)"
        )
    };
}

/// Every name is after the empty one, and every position after a negative one.
const DEAD_LETTERS: &str = concat!(
    "select ",
    letter_columns!(),
    " from ( \
         select * from dead_letters d where (d.partition, d.kind, d.target, d.sequence, d.index) > \
             ($1, $2, $3, $4, $5) \
         order by d.partition, d.kind, d.target, d.sequence, d.index limit $6 \
     ) d order by d.partition, d.kind, d.target, d.sequence, d.index"
);

const DECIDE: &str = "select decide_dead_letter($1, $2, $3)";

const DECIDED: &str = concat!(
    "select ",
    letter_columns!(),
    " from unnest($1, $2, $3) with ordinality q(of_partition, of_kind, of_target, nth) \
     cross join lateral ( \
         select * from dead_letters d where d.partition = q.of_partition and d.kind = q.of_kind \
         and d.target = q.of_target and d.decision is not null \
         order by d.sequence, d.index limit $4 \
     ) d order by d.partition, q.nth, d.sequence, d.index limit $4"
);

const RESOLVE: &str = "select resolve_dead_letter($1, $2, $3, $4, $5, \
     $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";

impl DeadLetters for PostgresEventStore {
    async fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let queue = after.as_ref().map(|(queue, _)| queue);
        let position = after.as_ref().map(|(_, position)| position);
        let query = sqlx::query(DEAD_LETTERS)
            .bind(queue.map_or(0, |queue| smallint(queue.partition)))
            .bind(queue.map_or("", |queue| queue.kind.as_str()))
            .bind(queue.map_or("", |queue| &*queue.target))
            .bind(position.map_or(-1, |position| bigint(position.sequence)))
            .bind(position.map_or(-1, |position| count(position.index)))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        rows.iter().map(letter).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        let query =
            sqlx::query_scalar(DECIDE).bind(smallint(partition)).bind(id).bind(decision.as_str());
        let is_kept = self.writers.run(async |writer| query.fetch_one(writer).await).await?;
        if is_kept {
            self.heads.has_operators_work().await;
        }
        Ok(is_kept)
    }

    async fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let query = sqlx::query(DECIDED)
            .bind(queues.iter().map(|queue| smallint(queue.partition)).collect::<Vec<_>>())
            .bind(queues.iter().map(|queue| queue.kind.as_str()).collect::<Vec<_>>())
            .bind(queues.iter().map(|queue| &*queue.target).collect::<Vec<_>>())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        rows.iter().map(letter).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        replies: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        validate_partition(self.log, lease.partition)?;
        validate_rows(replies)?;
        let mut columns = OutboxRows::default();
        columns.extend(0, replies);
        let query = sqlx::query_scalar(RESOLVE)
            .bind(smallint(lease.partition))
            .bind(&lease.worker)
            .bind(bigint(lease.epoch))
            .bind(letter.message.row.id)
            .bind(letter.decision.map(DeadLetterDecision::as_str));
        let query = columns.bind(query);
        let is_done = self.writers.run(async |writer| query.fetch_one(writer).await).await?;
        if is_done {
            self.heads.has_work();
        }
        Ok(is_done)
    }
}

fn letter(row: &PgRow) -> Result<DeadLetter, sqlx::Error> {
    let queued = queued(row)?;
    let arming = match (value::<Option<Uuid>>(row, 13)?, value::<Option<i64>>(row, 14)?) {
        (Some(message), Some(_)) => Some(TimerArming {
            armed_by: MessageId(message),
            effect_index: unsigned::<i64, u32>(row, 14)?,
        }),
        _ => None,
    };
    let decision = value::<Option<&str>>(row, 18)?.map(|name| {
        DeadLetterDecision::from_name(name)
            .ok_or_else(|| decode_error(18, format!("unknown decision `{name}`")))
    });
    let position = QueuePosition {
        sequence: unsigned::<i64, u64>(row, 11)?,
        index: unsigned::<i32, u32>(row, 12)?,
    };
    Ok(DeadLetter {
        queue: Queue {
            partition: unsigned::<i16, u16>(row, 10)?,
            kind: queued.row.kind,
            target: text(row, 2)?.to_owned(),
        },
        position,
        message: queued,
        arming,
        attempts: unsigned::<i32, u32>(row, 15)?,
        error: value::<Option<String>>(row, 16)?,
        is_head: value(row, 19)?,
        parked_at: timestamp(row, 17)?,
        decision: decision.transpose()?,
    })
}
