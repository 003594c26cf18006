//! The reads of operators' tools.

use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{InboxEntry, LeaseSnapshot, Process, TimerQueue};
use composable_rust_core::store::{
    EventFilter, Finding, Inspection, LogRange, NamedCheckpoint, StoreError, StreamSummary,
    TimerEntry, validate_partition,
};
use composable_rust_core::{StreamId, Timestamp, Version};
use sqlx::postgres::PgRow;

use crate::PostgresEventStore;
use crate::checkpoints::checkpoint;
use crate::error::store_error;
use crate::row::{
    self, bigint, event_columns, override_join, smallint, text, timestamp, unsigned, value,
};
use crate::{examine, inbox, leases, timers};

/// The last character: after every name that starts with a prefix.
const LAST: char = char::MAX;

/// The streams are found one after another, by the index of their events.
const LIST_STREAMS: &str = "with recursive s(stream_id) as ( \
         (select e.stream_id from events e where e.partition = $1 \
         and e.stream_id >= $2 and e.stream_id < $3 and ($4::text is null or e.stream_id > $4) \
         order by e.stream_id limit 1) \
         union all select n.stream_id from s cross join lateral ( \
             select n.stream_id from events n where n.partition = $1 \
             and n.stream_id > s.stream_id and n.stream_id < $3 \
             order by n.stream_id limit 1 \
         ) n \
     ) \
     select s.stream_id, f.created_at, l.version, l.created_at, l.event_type \
     from (select stream_id from s limit $5) s \
     cross join lateral ( \
         select e.created_at from events e where e.partition = $1 and e.stream_id = s.stream_id \
         order by e.version limit 1 \
     ) f cross join lateral ( \
         select e.version, e.created_at, e.event_type from events e \
         where e.partition = $1 and e.stream_id = s.stream_id order by e.version desc limit 1 \
     ) l order by s.stream_id";

const SEARCH_LOG: &str = concat!(
    "select ",
    event_columns!(),
    ", e.stream_id from ( \
         select * from events e where e.partition = $1 and e.log_offset > $2 and e.log_offset <= $3 \
         and ($4::text is null or starts_with(e.stream_id, $4)) \
         and ($5::text is null or strpos(e.stream_id, $5) > 0) \
         and (cardinality($6::text[]) = 0 or e.event_type = any ($6)) \
         and ($7::text is null or e.metadata ->> 'correlation' = $7) \
         order by e.log_offset desc limit $8 \
     ) e ",
    override_join!(),
    " order by e.log_offset desc"
);

/// `$2` and `$3` are the stream and version to begin after. The columns are those of
/// `event_columns`.
const LIST_OVERRIDDEN: &str = "select e.version, e.log_offset, e.event_id, e.created_at, \
         e.event_type, e.schema_version, e.codec, e.event_data, e.metadata, e.stream_id \
     from event_overrides o join events e using (partition, stream_id, version) \
     where o.partition = $1 and ($2::text is null or (o.stream_id, o.version) > ($2, $3)) \
     order by o.stream_id, o.version limit $4";

const TIMER_QUEUES: &str = "with recursive t(partition, category) as ( \
         (select partition, category from timers order by partition, category limit 1) \
         union all select n.partition, n.category from t cross join lateral ( \
             select n.partition, n.category from timers n \
             where (n.partition, n.category) > (t.partition, t.category) \
             order by n.partition, n.category limit 1 \
         ) n \
     ) select partition, category from t";

/// The columns of a timer as [`timers::timer`] reads them, and its error.
macro_rules! timer_columns {
    () => {
        "select t.due, statement_timestamp(), t.stream_id, t.timer_id, t.message_type, \
         t.schema_version, t.codec, t.message_data, t.metadata, t.partition, t.armed_by, \
         t.armed_index, t.attempts, t.attempts > 0 and t.last_error is null, t.armed_at, \
         t.last_error \
         from timers t where t.partition = $1 "
    };
}

/// `$3` to `$5` are the microseconds of a deadline, a stream and an id, after which the page
/// begins.
const LIST_TIMERS: &str = concat!(
    timer_columns!(),
    "and t.category = $2 and ($3::bigint is null or (t.due, t.stream_id, t.timer_id) > \
         ('epoch'::timestamptz + $3 * interval '1 us', $4, $5)) \
     order by t.due, t.stream_id, t.timer_id limit $6"
);

const TIMERS_OF: &str = concat!(timer_columns!(), "and t.stream_id = $2 order by t.timer_id");

const INBOX_OF: &str = "select message_id, digest, version, log_offset, outcome from inbox \
     where partition = $1 and stream_id = $2 order by version desc, message_id desc limit $3";

const ALL_PROCESSES: &str =
    "select holder, since, pid, program, version, host from processes order by since, holder";

const ALL_CHECKPOINTS: &str = "select partition, log_offset, event_id, name from checkpoints \
     order by name, partition";

impl Inspection for PostgresEventStore {
    async fn list_streams(
        &self,
        partition: u16,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, StoreError> {
        validate_partition(self.log, partition)?;
        // The index is entered at this name; `after` alone would only filter.
        let first = after.map_or(prefix, |after| prefix.max(after.as_str()));
        let query = sqlx::query(LIST_STREAMS)
            .bind(smallint(partition))
            .bind(first)
            .bind(format!("{prefix}{LAST}"))
            .bind(after.map(StreamId::as_str))
            .bind(count(limit));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        rows.iter().map(summary).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn search_log(
        &self,
        range: LogRange,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        validate_partition(self.log, range.partition)?;
        let query = sqlx::query(SEARCH_LOG)
            .bind(smallint(range.partition))
            .bind(bigint(range.after))
            .bind(bigint(range.until))
            .bind(filter.category.as_ref().map(|category| format!("{category}-")))
            .bind(&filter.stream_contains)
            .bind(&filter.names)
            .bind(filter.correlation.map(|id| id.to_string()))
            .bind(count(limit));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let event = |row| row::event(row, row::stream(row, 9)?, range.partition);
        rows.iter().map(event).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn list_overridden(
        &self,
        partition: u16,
        after: Option<&StoredEvent>,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        validate_partition(self.log, partition)?;
        let query = sqlx::query(LIST_OVERRIDDEN)
            .bind(smallint(partition))
            .bind(after.map(|event| event.stream.as_str()))
            .bind(after.map(|event| bigint(event.version.get())))
            .bind(count(limit));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let event = |row| row::event(row, row::stream(row, 9)?, partition);
        rows.iter().map(event).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn timer_queues(&self) -> Result<Vec<TimerQueue>, StoreError> {
        let query = sqlx::query(TIMER_QUEUES);
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let queue = |row: &PgRow| {
            let partition = unsigned::<i16, u16>(row, 0)?;
            Ok(TimerQueue { partition, category: text(row, 1)?.to_owned() })
        };
        rows.iter().map(queue).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn list_timers(
        &self,
        queue: &TimerQueue,
        after: Option<&TimerEntry>,
        limit: usize,
    ) -> Result<Vec<TimerEntry>, StoreError> {
        let after = after.map(|entry| &entry.timer);
        let query = sqlx::query(LIST_TIMERS)
            .bind(smallint(queue.partition))
            .bind(&queue.category)
            .bind(after.map(|timer| timer.due.as_micros()))
            .bind(after.map(|timer| timer.stream.as_str()))
            .bind(after.map(|timer| &*timer.timer.id))
            .bind(count(limit));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        rows.iter().map(timer).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn timers_of(&self, stream: &StreamId) -> Result<Vec<TimerEntry>, StoreError> {
        let query = sqlx::query(TIMERS_OF)
            .bind(smallint(self.log.partition_of(stream)))
            .bind(stream.as_str());
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        rows.iter().map(timer).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn inbox_of(
        &self,
        stream: &StreamId,
        limit: usize,
    ) -> Result<Vec<InboxEntry>, StoreError> {
        let partition = self.log.partition_of(stream);
        let query = sqlx::query(INBOX_OF)
            .bind(smallint(partition))
            .bind(stream.as_str())
            .bind(count(limit));
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let entry = |row| inbox::entry(row, partition);
        rows.iter().map(entry).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn all_leases(&self) -> Result<LeaseSnapshot, StoreError> {
        leases::all_leases(self).await
    }

    async fn all_processes(&self) -> Result<Vec<(Process, Timestamp)>, StoreError> {
        let query = sqlx::query(ALL_PROCESSES);
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        rows.iter().map(process).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn all_checkpoints(&self) -> Result<Vec<NamedCheckpoint>, StoreError> {
        let query = sqlx::query(ALL_CHECKPOINTS);
        let rows = self.readers.run(async |reader| query.fetch_all(reader).await).await?;
        let named = |row: &PgRow| {
            let name = text(row, 3)?.to_owned();
            Ok(NamedCheckpoint { name, checkpoint: checkpoint(row)? })
        };
        rows.iter().map(named).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        examine::examine(self).await
    }
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn summary(row: &PgRow) -> Result<StreamSummary, sqlx::Error> {
    Ok(StreamSummary {
        stream: row::stream(row, 0)?,
        created_at: timestamp(row, 1)?,
        version: Version::new(unsigned::<i64, u64>(row, 2)?),
        changed_at: timestamp(row, 3)?,
        last_event: text(row, 4)?.to_owned(),
    })
}

fn process(row: &PgRow) -> Result<(Process, Timestamp), sqlx::Error> {
    let process = Process {
        holder: value(row, 0)?,
        pid: unsigned::<i64, u32>(row, 2)?,
        program: text(row, 3)?.to_owned(),
        version: text(row, 4)?.to_owned(),
        host: text(row, 5)?.to_owned(),
    };
    Ok((process, timestamp(row, 1)?))
}

fn timer(row: &PgRow) -> Result<TimerEntry, sqlx::Error> {
    Ok(TimerEntry { timer: timers::timer(row)?, last_error: value(row, 15)? })
}
