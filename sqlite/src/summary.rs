//! Summaries of the queues.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{OutboxKind, Queue, QueueSummary};
use composable_rust_core::store::StoreError;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::error::store_error;
use crate::sql::{Args, int, uint};
use crate::store::{SqliteEventStore, clock};

/// The queues are found one after another, by the index that orders their rows: `first` is the
/// first row of each. ?1 is the limit, ?2 the time.
const SUMMARIZE: &str = "with recursive o(first) as ( \
        select (select rowid from outbox order by partition, kind, target, sequence limit 1) \
        union all select (select n.rowid from outbox q cross join outbox n \
            where q.rowid = o.first \
            and (n.partition, n.kind, n.target) > (q.partition, q.kind, q.target) \
            order by n.partition, n.kind, n.target, n.sequence limit 1) \
        from o where o.first is not null \
    ), t(first) as ( \
        select (select rowid from timers \
            order by partition, category, due, stream_id, timer_id limit 1) \
        union all select (select n.rowid from timers q cross join timers n \
            where q.rowid = t.first and (n.partition, n.category) > (q.partition, q.category) \
            order by n.partition, n.category, n.due, n.stream_id, n.timer_id limit 1) \
        from t where t.first is not null \
    ), d(first) as ( \
        select (select rowid from dead_letters order by partition, kind, target, sequence limit 1) \
        union all select (select n.rowid from dead_letters q cross join dead_letters n \
            where q.rowid = d.first \
            and (n.partition, n.kind, n.target) > (q.partition, q.kind, q.target) \
            order by n.partition, n.kind, n.target, n.sequence limit 1) \
        from d where d.first is not null \
    ) \
    select q.partition, q.kind, q.target, q.created_at, \
        (select count(*) from (select 1 from outbox e where e.partition = q.partition \
            and e.kind = q.kind and e.target = q.target limit ?1)), \
        (select last_error from (select last_error from outbox e where e.partition = q.partition \
            and e.kind = q.kind and e.target = q.target order by sequence limit ?1) \
            where last_error is not null limit 1), \
        0 \
    from o cross join outbox q on q.rowid = o.first \
    union all select q.partition, 'timer', q.category, q.due, \
        (select count(*) from (select 1 from timers e where e.partition = q.partition \
            and e.category = q.category and e.due <= ?2 limit ?1)), \
        (select last_error from (select last_error from timers e where e.partition = q.partition \
            and e.category = q.category and e.due <= ?2 \
            order by due, stream_id, timer_id limit ?1) where last_error is not null limit 1), \
        0 \
    from t cross join timers q on q.rowid = t.first where q.due <= ?2 \
    union all select q.partition, q.kind, q.target, null, 0, null, \
        (select count(*) from (select 1 from dead_letters e where e.partition = q.partition \
            and e.kind = q.kind and e.target = q.target limit ?1)) \
    from d cross join dead_letters q on q.rowid = d.first";

pub(crate) async fn summarize_queues(
    store: &SqliteEventStore,
    limit: usize,
) -> Result<Vec<QueueSummary>, StoreError> {
    let now = clock();
    let mut args = Args::default();
    args.add(int(u64::try_from(limit).unwrap_or(u64::MAX)));
    args.add(now.as_micros());
    let rows = store.readers().fetch(SUMMARIZE, args).await.map_err(store_error)?;
    let mut summaries = BTreeMap::new();
    rows.iter().try_for_each(|row| add(&mut summaries, row, now)).map_err(store_error)?;
    Ok(summaries.into_values().collect())
}

fn add(
    summaries: &mut BTreeMap<Queue, QueueSummary>,
    row: &SqliteRow,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let kind: String = row.try_get_unchecked(1)?;
    let unknown = || sqlx::Error::Protocol(format!("a queue of kind {kind}"));
    let kind = OutboxKind::from_name(&kind).ok_or_else(unknown)?;
    let partition = u16::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or(u16::MAX);
    let queue = Queue { partition, kind, target: row.try_get_unchecked(2)? };
    let of = summaries.entry(queue.clone()).or_insert_with(|| QueueSummary {
        queue,
        rows: 0,
        oldest: Duration::ZERO,
        last_error: None,
        dead_letters: 0,
    });
    of.rows += uint(row.try_get_unchecked(4)?);
    of.dead_letters += uint(row.try_get_unchecked(6)?);
    if let Some(since) = row.try_get_unchecked::<Option<i64>, _>(3)? {
        of.oldest = now.since(Timestamp::from_micros(since));
        of.last_error = row.try_get_unchecked(5)?;
    }
    Ok(())
}
