//! Timers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use composable_rust_core::MessageId;
use composable_rust_core::queue::{
    ArmedTimer, DueTimer, DueTimers, TimerQueue, TimerSettlement, Timers,
};
use composable_rust_core::store::{StoreError, TimerArming, validate_timer_settlements};
use sqlx::postgres::PgRow;
use tokio::time::Instant;
use uuid::Uuid;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::outbox::Changes;
use crate::row::{self, bigint, encoded, metadata, smallint, text, timestamp, unsigned, value};

/// The margin below the deadline up to which no timer was found: deadlines are set some time before
/// their commit.
const CLOCK_SLACK_MICROS: i64 = 10_000_000;
/// The interval at which a scan starts at the first timer, for deadlines in the past.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// One row more than the limit shows whether more timers are due. The next deadline is a row
/// without a stream, and the server's time a row without a deadline.
const DUE_TIMERS: &str = "(select t.due, statement_timestamp(), t.stream_id, t.timer_id, \
         t.message_type, t.schema_version, t.codec, t.message_data, t.metadata, t.partition, \
         t.armed_by, t.armed_index, t.attempts, t.attempts > 0 and t.last_error is null, \
         t.armed_at \
     from unnest($1, $2, $4) q(partition, category, low) \
     cross join lateral ( \
         select * from timers t where t.partition = q.partition and t.category = q.category \
         and t.due >= coalesce('epoch'::timestamptz + q.low * interval '1 us', '-infinity') \
         and t.due <= statement_timestamp() \
         order by t.due, t.stream_id, t.timer_id limit $3 \
     ) t order by t.due, t.stream_id, t.timer_id limit $3) \
     union all (select t.due, statement_timestamp(), null, null, \
         null, null, null, null, null, null, null, null, null, null, null \
     from unnest($1, $2) q(partition, category) \
     cross join lateral ( \
         select t.due from timers t where t.partition = q.partition and t.category = q.category \
         and t.due > statement_timestamp() order by t.due limit 1 \
     ) t order by t.due limit 1) \
     union all select null, statement_timestamp(), null, null, \
         null, null, null, null, null, null, null, null, null, null, null";

/// Settles without adding rows.
const SETTLE: &str = "select settle_timers($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

const SETTLE_AND_QUEUE: &str = "select settle_timers($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
     $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";

/// The deadlines below which the queues had no timers. Timers that have fired stay in the index as
/// long as any transaction holds an older snapshot; with these, a scan skips them.
#[derive(Debug, Default)]
pub(crate) struct LowWater(Mutex<LowWaterMarks>);

#[derive(Debug, Default)]
struct LowWaterMarks {
    /// The deadline in microseconds since 1970, and the time of the last scan that started at the
    /// first timer.
    of: BTreeMap<TimerQueue, (i64, Instant)>,
    /// The number of times that the deadlines were forgotten.
    forgotten: u64,
}

/// The start of a scan, by queue; `None`: at the first timer.
struct Scan {
    low: Vec<Option<i64>>,
    began: Instant,
    forgotten: u64,
}

/// The result of a scan.
#[derive(Default)]
struct ScanResult {
    now: i64,
    first: BTreeMap<TimerQueue, i64>,
    last: i64,
    /// `true` if more timers are due.
    is_cut: bool,
}

impl ScanResult {
    fn note(&mut self, timer: &DueTimer, due: i64) {
        let category = timer.stream.category().to_owned();
        let queue = TimerQueue { partition: timer.partition, category };
        self.first.entry(queue).or_insert(due);
        self.last = due;
    }
}

impl LowWater {
    fn begin(&self, queues: &[TimerQueue]) -> Scan {
        let (marks, began) = (self.marks(), Instant::now());
        let low = |queue: &TimerQueue| match marks.of.get(queue) {
            Some((due, swept)) if swept.elapsed() < SWEEP_INTERVAL => Some(*due),
            _ => None,
        };
        Scan { low: queues.iter().map(low).collect(), began, forgotten: marks.forgotten }
    }

    fn end(&self, queues: &[TimerQueue], look: &Scan, found: &ScanResult) {
        let mut marks = self.marks();
        if marks.forgotten != look.forgotten {
            return;
        }
        for (queue, low) in queues.iter().zip(&look.low) {
            let otherwise = if found.is_cut { found.last } else { found.now };
            let due = found.first.get(queue).copied().unwrap_or(otherwise) - CLOCK_SLACK_MICROS;
            let entry = marks.of.entry(queue.clone()).or_insert((due, look.began));
            entry.0 = due;
            if low.is_none() {
                entry.1 = look.began;
            }
        }
    }

    /// Forgets the deadlines, since a timer may have been armed for a time in the past.
    pub(crate) fn forget(&self) {
        let mut marks = self.marks();
        marks.of.clear();
        marks.forgotten += 1;
    }

    fn marks(&self) -> MutexGuard<'_, LowWaterMarks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timers for PostgresEventStore {
    async fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        let look = self.low_water.begin(queues);
        let query = sqlx::query(DUE_TIMERS)
            .bind(queues.iter().map(|queue| smallint(queue.partition)).collect::<Vec<_>>())
            .bind(queues.iter().map(|queue| &*queue.category).collect::<Vec<_>>())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
            .bind(&look.low);
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let mut due = DueTimers::default();
        let mut found = ScanResult::default();
        for row in &rows {
            let stream = value::<Option<&str>>(row, 2).map_err(store_error)?;
            let Some(at) = deadline(row).map_err(store_error)? else {
                found.now = timestamp(row, 1).map_err(store_error)?.as_micros();
                continue;
            };
            if stream.is_some() && due.timers.len() < limit {
                let timer = timer(row).map_err(store_error)?;
                found.note(&timer, at);
                due.timers.push(timer);
            } else {
                found.is_cut |= stream.is_some();
                let wait = wait(row).map_err(store_error)?;
                due.next = Some(due.next.map_or(wait, |next| next.min(wait)));
            }
        }
        self.low_water.end(queues, &look, &found);
        Ok(due)
    }

    async fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        validate_timer_settlements(self.log, partition, settlements)?;
        if settlements.is_empty() {
            return Ok(());
        }
        let leases = || settlements.iter().map(|settlement| &settlement.lease);
        let timers = || settlements.iter().map(|settlement| &settlement.timer);
        let streams = settlements.iter().map(|settlement| settlement.stream.as_str());
        let changes = Changes::new(settlements.iter().map(|settlement| &settlement.change));
        let adds_rows = changes.add_rows();
        let query = sqlx::query_scalar(if adds_rows { SETTLE_AND_QUEUE } else { SETTLE })
            .bind(smallint(partition))
            .bind(leases().map(|lease| &*lease.worker).collect::<Vec<_>>())
            .bind(leases().map(|lease| bigint(lease.epoch)).collect::<Vec<_>>())
            .bind(streams.collect::<Vec<_>>())
            .bind(timers().map(|timer| &*timer.id).collect::<Vec<_>>())
            .bind(timers().map(|timer| timer.arming.armed_by.0).collect::<Vec<_>>())
            .bind(timers().map(|timer| i64::from(timer.arming.effect_index)).collect::<Vec<_>>());
        let query = changes.bind::<()>(query);
        self.writers.run(async |writer| query.fetch_one(writer).await).await?;
        if adds_rows {
            self.heads.has_work();
        }
        Ok(())
    }
}

/// Decodes the deadline; `None` in the row that holds only the server's time.
fn deadline(row: &PgRow) -> Result<Option<i64>, sqlx::Error> {
    Ok(match value::<Option<i64>>(row, 0)? {
        Some(_) => Some(timestamp(row, 0)?.as_micros()),
        None => None,
    })
}

fn wait(row: &PgRow) -> Result<Duration, sqlx::Error> {
    Ok(timestamp(row, 0)?.since(timestamp(row, 1)?))
}

pub(crate) fn timer(row: &PgRow) -> Result<DueTimer, sqlx::Error> {
    let arming = TimerArming {
        armed_by: MessageId(value::<Uuid>(row, 10)?),
        effect_index: unsigned::<i64, u32>(row, 11)?,
    };
    Ok(DueTimer {
        partition: unsigned::<i16, u16>(row, 9)?,
        stream: row::stream(row, 2)?,
        timer: ArmedTimer { id: text(row, 3)?.to_owned(), arming },
        due: timestamp(row, 0)?,
        armed_at: timestamp(row, 14)?,
        content: encoded(row, 4)?,
        metadata: metadata(row, 8)?,
        attempts: unsigned::<i32, u32>(row, 12)?,
        begun: value(row, 13)?,
    })
}
