//! Timers that are due, and those that could not be fired.

use std::time::Duration;

use composable_rust_core::{
    DueTimer, DueTimers, Firing, MessageId, StoreError, TimerQueue, TimerSettlement,
    validate_timer_settlements,
};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::outbox::Changes;
use crate::row::{self, bigint, encoded, metadata, smallint, text, timestamp, unsigned, value};

/// One more than is wanted shows whether there are more. The next deadline comes as a row without
/// a stream.
const DUE_TIMERS: &str = "(select t.due, statement_timestamp(), t.stream_id, t.timer_id, \
         t.message_type, t.schema_version, t.codec, t.message_data, t.metadata, t.partition, \
         t.armed_by, t.armed_index, t.attempts \
     from unnest($1, $2) q(partition, category) \
     cross join lateral ( \
         select * from timers t where t.partition = q.partition and t.category = q.category \
         and t.due <= statement_timestamp() \
         order by t.due, t.stream_id, t.timer_id limit $3 \
     ) t order by t.due, t.stream_id, t.timer_id limit $3) \
     union all (select t.due, statement_timestamp(), null, null, \
         null, null, null, null, null, null, null, null, null \
     from unnest($1, $2) q(partition, category) \
     cross join lateral ( \
         select t.due from timers t where t.partition = q.partition and t.category = q.category \
         and t.due > statement_timestamp() order by t.due limit 1 \
     ) t order by t.due limit 1)";

/// Without replacements.
const SETTLE: &str = "select settle_timers($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

const SETTLE_AND_QUEUE: &str = "select settle_timers($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
     $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";

impl PostgresEventStore {
    pub(crate) async fn timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        let query = sqlx::query(DUE_TIMERS)
            .bind(queues.iter().map(|queue| smallint(queue.partition)).collect::<Vec<_>>())
            .bind(queues.iter().map(|queue| &*queue.category).collect::<Vec<_>>())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let mut due = DueTimers::default();
        for row in &rows {
            let stream = value::<Option<&str>>(row, 2).map_err(store_error)?;
            if stream.is_some() && due.timers.len() < limit {
                due.timers.push(timer(row).map_err(store_error)?);
            } else {
                let wait = wait(row).map_err(store_error)?;
                due.next = Some(due.next.map_or(wait, |next| next.min(wait)));
            }
        }
        Ok(due)
    }

    pub(crate) async fn settle_due(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        validate_timer_settlements(self.log, partition, settlements)?;
        if settlements.is_empty() {
            return Ok(());
        }
        let leases = || settlements.iter().map(|settlement| &settlement.lease);
        let firings = || settlements.iter().map(|settlement| &settlement.firing);
        let streams = settlements.iter().map(|settlement| settlement.stream.as_str());
        let changes = Changes::new(settlements.iter().map(|settlement| &settlement.change));
        let makes_work = changes.queue_more();
        let query = sqlx::query_scalar(if makes_work { SETTLE_AND_QUEUE } else { SETTLE })
            .bind(smallint(partition))
            .bind(leases().map(|lease| &*lease.worker).collect::<Vec<_>>())
            .bind(leases().map(|lease| bigint(lease.epoch)).collect::<Vec<_>>())
            .bind(streams.collect::<Vec<_>>())
            .bind(firings().map(|firing| &*firing.id).collect::<Vec<_>>())
            .bind(firings().map(|firing| firing.arming.0.0).collect::<Vec<_>>())
            .bind(firings().map(|firing| i64::from(firing.arming.1)).collect::<Vec<_>>());
        let query = changes.bind::<()>(query);
        self.writers.run(async |writer| query.fetch_one(writer).await).await?;
        if makes_work {
            self.tail.has_work();
        }
        Ok(())
    }
}

fn wait(row: &PgRow) -> Result<Duration, sqlx::Error> {
    Ok(timestamp(row, 0)?.since(timestamp(row, 1)?))
}

fn timer(row: &PgRow) -> Result<DueTimer, sqlx::Error> {
    let arming = (MessageId(value::<Uuid>(row, 10)?), unsigned::<i64, u32>(row, 11)?);
    Ok(DueTimer {
        partition: unsigned::<i16, u16>(row, 9)?,
        stream: row::stream(row, 2)?,
        firing: Firing { id: text(row, 3)?.to_owned(), arming },
        content: encoded(row, 4)?,
        metadata: metadata(row, 8)?,
        attempts: unsigned::<i32, u32>(row, 12)?,
    })
}
