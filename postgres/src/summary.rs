//! Summaries of the queues.

use std::collections::BTreeMap;

use composable_rust_core::queue::{OutboxKind, Queue, QueueSummary};
use composable_rust_core::store::StoreError;
use sqlx::postgres::PgRow;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{decode_error, text, timestamp, unsigned, value};

/// The queues are found one after another, by the index that orders their rows.
const SUMMARIZE: &str = "with recursive o(partition, kind, target, since) as ( \
         (select partition, kind, target, created_at from outbox \
         order by partition, kind, target, sequence, index limit 1) \
         union all select n.* from o cross join lateral ( \
             select n.partition, n.kind, n.target, n.created_at from outbox n \
             where (n.partition, n.kind, n.target) > (o.partition, o.kind, o.target) \
             order by n.partition, n.kind, n.target, n.sequence, n.index limit 1 \
         ) n \
     ), t(partition, category, since) as ( \
         (select partition, category, due from timers \
         order by partition, category, due, stream_id, timer_id limit 1) \
         union all select n.* from t cross join lateral ( \
             select n.partition, n.category, n.due from timers n \
             where (n.partition, n.category) > (t.partition, t.category) \
             order by n.partition, n.category, n.due, n.stream_id, n.timer_id limit 1 \
         ) n \
     ), d(partition, kind, target) as ( \
         (select partition, kind, target from dead_letters \
         order by partition, kind, target, sequence, index limit 1) \
         union all select n.* from d cross join lateral ( \
             select n.partition, n.kind, n.target from dead_letters n \
             where (n.partition, n.kind, n.target) > (d.partition, d.kind, d.target) \
             order by n.partition, n.kind, n.target, n.sequence, n.index limit 1 \
         ) n \
     ) \
     select o.partition, o.kind, o.target, c.rows, o.since, statement_timestamp(), c.error, \
         0::bigint \
     from o cross join lateral ( \
         select count(*) as rows, (array_agg(e.last_error order by e.sequence, e.index) \
             filter (where e.last_error is not null))[1] as error \
         from ( \
             select e.last_error, e.sequence, e.index from outbox e \
             where e.partition = o.partition and e.kind = o.kind and e.target = o.target \
             order by e.sequence, e.index limit $1 \
         ) e \
     ) c \
     union all select t.partition, 'timer', t.category, c.rows, t.since, statement_timestamp(), \
         c.error, 0::bigint \
     from t cross join lateral ( \
         select count(*) as rows, (array_agg(e.last_error order by e.due, e.stream_id, e.timer_id) \
             filter (where e.last_error is not null))[1] as error \
         from ( \
             select e.last_error, e.due, e.stream_id, e.timer_id from timers e \
             where e.partition = t.partition and e.category = t.category \
             and e.due <= statement_timestamp() \
             order by e.due, e.stream_id, e.timer_id limit $1 \
         ) e \
     ) c where t.since <= statement_timestamp() \
     union all select d.partition, d.kind, d.target, 0::bigint, null, statement_timestamp(), null, \
         c.letters \
     from d cross join lateral ( \
         select count(*) as letters from ( \
             select from dead_letters e \
             where e.partition = d.partition and e.kind = d.kind and e.target = d.target \
             limit $1 \
         ) e \
     ) c";

pub(crate) async fn summarize_queues(
    store: &PostgresEventStore,
    limit: usize,
) -> Result<Vec<QueueSummary>, StoreError> {
    let query = sqlx::query(SUMMARIZE).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = store.readers.run(async |reader| query.fetch_all(reader).await).await?;
    let mut summaries = BTreeMap::new();
    rows.iter().try_for_each(|row| add(&mut summaries, row)).map_err(store_error)?;
    Ok(summaries.into_values().collect())
}

fn add(summaries: &mut BTreeMap<Queue, QueueSummary>, row: &PgRow) -> Result<(), sqlx::Error> {
    let kind = text(row, 1)?;
    let kind = OutboxKind::from_name(kind)
        .ok_or_else(|| decode_error(1, format!("a queue of the unknown kind `{kind}`")))?;
    let partition = unsigned::<i16, u16>(row, 0)?;
    let queue = Queue { partition, kind, target: text(row, 2)?.to_owned() };
    let of = summaries.entry(queue.clone()).or_insert_with(|| QueueSummary {
        queue,
        rows: 0,
        oldest: std::time::Duration::ZERO,
        last_error: None,
        dead_letters: 0,
    });
    of.rows += unsigned::<i64, u64>(row, 3)?;
    of.dead_letters += unsigned::<i64, u64>(row, 7)?;
    if value::<Option<i64>>(row, 4)?.is_some() {
        of.oldest = timestamp(row, 5)?.since(timestamp(row, 4)?);
        of.last_error = value(row, 6)?;
    }
    Ok(())
}
