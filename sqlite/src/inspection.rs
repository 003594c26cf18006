//! The reads of operators' tools.

use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{
    ArmedTimer, DueTimer, InboxEntry, LeaseSnapshot, Process, TimerQueue,
};
use composable_rust_core::store::{
    EventFilter, Finding, Inspection, LogRange, NamedCheckpoint, StoreError, StreamSummary,
    TimerArming, TimerEntry, validate_partition,
};
use composable_rust_core::{MessageId, StreamId, Timestamp, Version};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::append_state::entry;
use crate::checkpoints::checkpoint;
use crate::error::store_error;
use crate::load::{event, event_columns, with_overrides};
use crate::outbox::{content, number, stream};
use crate::sql::{Args, int, uint};
use crate::store::SqliteEventStore;

/// The last character: after every name that starts with a prefix.
const LAST: char = char::MAX;
/// The size of the write-ahead log from which on reads are slow.
const LARGE_WAL_PAGES: i64 = 100_000;

/// The streams are found one after another, by the index of their events. ?1 is the partition, ?2
/// and ?3 the range of names, ?4 the stream to begin after, ?5 the limit.
const LIST_STREAMS: &str = "with recursive s(stream_id) as ( \
        select (select e.stream_id from events e where e.partition = ?1 and e.stream_id >= ?2 \
            and e.stream_id < ?3 and e.stream_id > coalesce(?4, '') order by e.stream_id limit 1) \
        union all select (select n.stream_id from events n where n.partition = ?1 \
            and n.stream_id > s.stream_id and n.stream_id < ?3 order by n.stream_id limit 1) \
        from s where s.stream_id is not null limit ?5 \
    ) \
    select s.stream_id, (select e.created_at from events e where e.partition = ?1 \
            and e.stream_id = s.stream_id order by e.version limit 1), \
        l.version, l.created_at, l.event_type \
    from s cross join events l on l.partition = ?1 and l.stream_id = s.stream_id \
        and l.version = (select max(e.version) from events e \
            where e.partition = ?1 and e.stream_id = s.stream_id) \
    where s.stream_id is not null order by s.stream_id";

// ?1 to ?3 are the range, ?4 to ?7 the filter, of which null matches all, ?8 the limit. Names stand
// between line feeds, and so does each name in ?6. Metadata has no spaces, and is not JSON where it
// is erased.
const SEARCH_LOG: &str = concat!(
    "select ",
    event_columns!(),
    ", e.stream_id from events e",
    with_overrides!(),
    "where e.partition = ?1 and e.log_offset > ?2 and e.log_offset <= ?3 \
     and (?4 is null or substr(e.stream_id, 1, length(?4)) = ?4) \
     and (?5 is null or instr(e.stream_id, ?5) > 0) \
     and (?6 is null or instr(?6, char(10) || e.event_type || char(10)) > 0) \
     and (?7 is null or instr(e.metadata, ?7) > 0) \
     order by e.log_offset desc limit ?8"
);

/// ?2 and ?3 are the stream and version to begin after. The columns are those of `event_columns`.
const LIST_OVERRIDDEN: &str = "select e.version, e.log_offset, e.event_id, e.created_at, \
        e.metadata, e.event_type, e.schema_version, e.codec, e.event_data, e.stream_id \
    from event_overrides o cross join events e on e.partition = o.partition \
        and e.stream_id = o.stream_id and e.version = o.version \
    where o.partition = ?1 and (?2 is null or (o.stream_id, o.version) > (?2, ?3)) \
    order by o.stream_id, o.version limit ?4";

const TIMER_QUEUES: &str = "with recursive t(first) as ( \
        select (select rowid from timers order by partition, category limit 1) \
        union all select (select n.rowid from timers q cross join timers n \
            where q.rowid = t.first and (n.partition, n.category) > (q.partition, q.category) \
            order by n.partition, n.category limit 1) \
        from t where t.first is not null \
    ) select q.partition, q.category from t cross join timers q on q.rowid = t.first";

macro_rules! timer_columns {
    () => {
        "select due, stream_id, timer_id, armed_by, armed_index, message_type, schema_version, \
         codec, message_data, metadata, attempts, attempts > 0 and last_error is null, last_error, \
         partition, armed_at from timers where partition = ?1 "
    };
}

const LIST_TIMERS: &str = concat!(
    timer_columns!(),
    "and category = ?2 and (?3 is null or (due, stream_id, timer_id) > (?3, ?4, ?5)) \
     order by due, stream_id, timer_id limit ?6"
);

const TIMERS_OF: &str = concat!(timer_columns!(), "and stream_id = ?2 order by timer_id");

const INBOX_OF: &str = "select message_id, digest, version, log_offset, outcome from inbox \
    where partition = ? and stream_id = ? order by version desc, message_id desc limit ?";

const ALL_PROCESSES: &str =
    "select holder, since, pid, program, version, host from processes order by since, holder";

const ALL_CHECKPOINTS: &str =
    "select partition, log_offset, event_id, name from checkpoints order by name, partition";

const EXAMINE: &str = "select sqlite_version(), \
    (select page_count from pragma_page_count()) * (select page_size from pragma_page_size()), \
    (select freelist_count from pragma_freelist_count()) * (select page_size from pragma_page_size()), \
    (select journal_mode from pragma_journal_mode()), \
    (select user_version from pragma_user_version())";

const CHECKPOINT_WAL: &str = "pragma wal_checkpoint(passive)";

impl Inspection for SqliteEventStore {
    async fn list_streams(
        &self,
        partition: u16,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamSummary>, StoreError> {
        validate_partition(self.log_info(), partition)?;
        // The index is entered at this name; `after` alone would only filter.
        let first = after.map_or(prefix, |after| prefix.max(after.as_str()));
        let last = format!("{prefix}{LAST}");
        let mut args = Args::default();
        args.add(i64::from(partition));
        args.add(first);
        args.add(&*last);
        args.add(after.map(StreamId::as_str));
        args.add(count(limit));
        let rows = self.readers().fetch(LIST_STREAMS, args).await.map_err(store_error)?;
        rows.iter().map(summary).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn search_log(
        &self,
        range: LogRange,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        validate_partition(self.log_info(), range.partition)?;
        let names = (!filter.names.is_empty()).then(|| format!("\n{}\n", filter.names.join("\n")));
        let mut args = Args::default();
        args.add(i64::from(range.partition));
        args.add(int(range.after));
        args.add(int(range.until));
        args.add(filter.category.as_ref().map(|category| format!("{category}-")));
        args.add(filter.stream_contains.clone());
        args.add(names);
        args.add(filter.correlation.map(|id| format!("\"correlation\":\"{id}\"")));
        args.add(count(limit));
        let rows = self.readers().fetch(SEARCH_LOG, args).await.map_err(store_error)?;
        let event = |row| event(row, range.partition, stream(row, 9)?);
        rows.iter().map(event).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn list_overridden(
        &self,
        partition: u16,
        after: Option<&StoredEvent>,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        validate_partition(self.log_info(), partition)?;
        let mut args = Args::default();
        args.add(i64::from(partition));
        args.add(after.map(|event| event.stream.as_str()));
        args.add(after.map(|event| int(event.version.get())));
        args.add(count(limit));
        let rows = self.readers().fetch(LIST_OVERRIDDEN, args).await.map_err(store_error)?;
        let event = |row| event(row, partition, stream(row, 9)?);
        rows.iter().map(event).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn timer_queues(&self) -> Result<Vec<TimerQueue>, StoreError> {
        let rows = self.readers().fetch(TIMER_QUEUES, Args::default()).await;
        let queue = |row: &SqliteRow| {
            Ok(TimerQueue { partition: partition(row, 0)?, category: row.try_get_unchecked(1)? })
        };
        rows.map_err(store_error)?.iter().map(queue).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn list_timers(
        &self,
        queue: &TimerQueue,
        after: Option<&TimerEntry>,
        limit: usize,
    ) -> Result<Vec<TimerEntry>, StoreError> {
        let after = after.map(|entry| &entry.timer);
        let mut args = Args::default();
        args.add(i64::from(queue.partition));
        args.add(&*queue.category);
        args.add(after.map(|timer| timer.due.as_micros()));
        args.add(after.map(|timer| timer.stream.as_str()));
        args.add(after.map(|timer| &*timer.timer.id));
        args.add(count(limit));
        let rows = self.readers().fetch(LIST_TIMERS, args).await.map_err(store_error)?;
        rows.iter().map(timer).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn timers_of(&self, stream: &StreamId) -> Result<Vec<TimerEntry>, StoreError> {
        let rows = self.readers().fetch(TIMERS_OF, self.args_of(stream)).await;
        let rows = rows.map_err(store_error)?;
        rows.iter().map(timer).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn inbox_of(
        &self,
        stream: &StreamId,
        limit: usize,
    ) -> Result<Vec<InboxEntry>, StoreError> {
        let partition = self.log_info().partition_of(stream);
        let mut args = self.args_of(stream);
        args.add(count(limit));
        let rows = self.readers().fetch(INBOX_OF, args).await.map_err(store_error)?;
        let entry = |row| entry(partition, row, 0);
        rows.iter().map(entry).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn all_leases(&self) -> Result<LeaseSnapshot, StoreError> {
        self.read_all_leases().await.map_err(store_error)
    }

    async fn all_processes(&self) -> Result<Vec<(Process, Timestamp)>, StoreError> {
        let rows = self.readers().fetch(ALL_PROCESSES, Args::default()).await;
        rows.map_err(store_error)?
            .iter()
            .map(process)
            .collect::<Result<_, _>>()
            .map_err(store_error)
    }

    async fn all_checkpoints(&self) -> Result<Vec<NamedCheckpoint>, StoreError> {
        let rows = self.readers().fetch(ALL_CHECKPOINTS, Args::default()).await;
        let named = |row: &SqliteRow| {
            Ok(NamedCheckpoint { name: row.try_get_unchecked(3)?, checkpoint: checkpoint(row)? })
        };
        rows.map_err(store_error)?.iter().map(named).collect::<Result<_, _>>().map_err(store_error)
    }

    async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        let rows = self.readers().fetch(EXAMINE, Args::default()).await.map_err(store_error)?;
        let mut found = Vec::new();
        for row in &rows {
            found.extend(file_findings(row).map_err(store_error)?);
        }
        let wal = self.readers().fetch(CHECKPOINT_WAL, Args::default()).await;
        for row in &wal.map_err(store_error)? {
            found.push(wal_finding(row).map_err(store_error)?);
        }
        Ok(found)
    }
}

fn count(limit: usize) -> i64 {
    int(u64::try_from(limit).unwrap_or(u64::MAX))
}

fn partition(row: &SqliteRow, column: usize) -> Result<u16, sqlx::Error> {
    Ok(u16::try_from(row.try_get_unchecked::<i64, _>(column)?).unwrap_or(u16::MAX))
}

fn summary(row: &SqliteRow) -> Result<StreamSummary, sqlx::Error> {
    Ok(StreamSummary {
        stream: stream(row, 0)?,
        created_at: Timestamp::from_micros(row.try_get_unchecked(1)?),
        version: Version::new(uint(row.try_get_unchecked(2)?)),
        changed_at: Timestamp::from_micros(row.try_get_unchecked(3)?),
        last_event: row.try_get_unchecked(4)?,
    })
}

fn process(row: &SqliteRow) -> Result<(Process, Timestamp), sqlx::Error> {
    let process = Process {
        holder: row.try_get_unchecked(0)?,
        pid: number(row, 2)?,
        program: row.try_get_unchecked(3)?,
        version: row.try_get_unchecked(4)?,
        host: row.try_get_unchecked(5)?,
    };
    Ok((process, Timestamp::from_micros(row.try_get_unchecked(1)?)))
}

fn timer(row: &SqliteRow) -> Result<TimerEntry, sqlx::Error> {
    let arming = TimerArming {
        armed_by: MessageId(row.try_get_unchecked(3)?),
        effect_index: number(row, 4)?,
    };
    let timer = DueTimer {
        partition: partition(row, 13)?,
        stream: stream(row, 1)?,
        timer: ArmedTimer { id: row.try_get_unchecked(2)?, arming },
        due: Timestamp::from_micros(row.try_get_unchecked(0)?),
        armed_at: Timestamp::from_micros(row.try_get_unchecked(14)?),
        content: content(row, 5)?,
        metadata: row.try_get_unchecked(9)?,
        attempts: number(row, 10)?,
        begun: row.try_get_unchecked(11)?,
    };
    Ok(TimerEntry { timer, last_error: row.try_get_unchecked(12)? })
}

fn file_findings(row: &SqliteRow) -> Result<Vec<Finding>, sqlx::Error> {
    let version: String = row.try_get_unchecked(0)?;
    let (size, free): (i64, i64) = (row.try_get_unchecked(1)?, row.try_get_unchecked(2)?);
    let mode: String = row.try_get_unchecked(3)?;
    let schema: i64 = row.try_get_unchecked(4)?;
    Ok(vec![
        Finding::fact("server", format!("SQLite {version}")),
        Finding::fact("database-size", format!("{size} bytes, of which {free} are free")),
        Finding::fact("schema-version", schema.to_string()),
        if mode == "wal" {
            Finding::fact("durability", "write-ahead log")
        } else {
            Finding::warning(
                "durability",
                format!("the journal mode is `{mode}`, so readers and the writer block each other"),
                "move the file to a local file system, which supports the write-ahead log",
            )
        },
    ])
}

fn wal_finding(row: &SqliteRow) -> Result<Finding, sqlx::Error> {
    let (pages, moved): (i64, i64) = (row.try_get_unchecked(1)?, row.try_get_unchecked(2)?);
    let found = format!("the write-ahead log has {pages} pages, {moved} of them copied");
    Ok(if pages - moved > LARGE_WAL_PAGES {
        Finding::warning(
            "oldest-snapshot",
            found,
            "end the reader that keeps the log from being emptied: a backup, or an open console",
        )
    } else {
        Finding::fact("oldest-snapshot", found)
    })
}
