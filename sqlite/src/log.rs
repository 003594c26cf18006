//! Reading the log and waiting for events.

use composable_rust_core::Position;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::StoreError;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::error::store_error;
use crate::load::with_overrides;
use crate::packed::{pack, unpack};
use crate::sql::{Args, int, padded, push_values, uint};
use crate::store::SqliteEventStore;

// Offsets have no gap, so a range of them is a page, and 32 of them one row of it: few enough that
// events of the largest size fit in a value. `column1` to `column3` are, for each partition, its
// number, the offset to start after and the last offset to read.
const PAGE: (&str, &str) = (
    "with recursive asked as materialized (select column1 as partition, column2 as after, \
     min(column3, coalesce((select log_offset from events e where e.partition = column1 \
     order by log_offset desc limit 1), 0)) as last from (values ",
    concat!(
        ")), stretch (partition, after, upto, last) as (\
         select partition, after, min(after + 32, last), last from asked where after < last \
         union all \
         select partition, upto, min(upto + 32, last), last from stretch where upto < last) \
         select s.partition, (select ",
        pack!(),
        " from events e",
        with_overrides!(),
        "where e.partition = s.partition and e.log_offset > s.after and e.log_offset <= s.upto) \
         from stretch s"
    ),
);

const HEADS: &str = "select partition, coalesce((select log_offset from events e \
    where e.partition = p.partition order by log_offset desc limit 1), 0) \
    from partitions p order by partition";

pub(crate) async fn read_log(
    store: &SqliteEventStore,
    after: &[Position],
    limit: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    store.check_partitions(after)?;
    if after.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut sql = PAGE.0.to_owned();
    push_values(&mut sql, padded(after.len()), 3);
    sql.push_str(PAGE.1);
    let mut args = Args::default();
    for position in after {
        args.add(i64::from(position.partition));
        args.add(int(position.offset));
        args.add(int(position.offset.saturating_add(limit)));
    }
    args.add_nulls((padded(after.len()) - after.len()) * 3);
    let rows = store.readers().fetch(&sql, args).await.map_err(store_error)?;
    let mut events = Vec::with_capacity(rows.len() * 32);
    for row in &rows {
        stretch(row, &mut events).map_err(store_error)?;
    }
    events.sort_by_key(|event| event.position);
    Ok(events)
}

pub(crate) async fn heads(store: &SqliteEventStore) -> Result<Vec<Position>, StoreError> {
    let rows = store.readers().fetch(HEADS, Args::default()).await.map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let partition = row.try_get_unchecked::<i64, _>(0)?;
            let partition = u16::try_from(partition).unwrap_or(u16::MAX);
            Ok(Position::new(partition, uint(row.try_get_unchecked(1)?)))
        })
        .collect::<Result<_, _>>()
        .map_err(store_error)
}

/// Reads the heads, then again after each commit of this process and each sign of one elsewhere.
pub(crate) async fn wait_for_events(
    store: &SqliteEventStore,
    after: &[Position],
) -> Result<(), StoreError> {
    store.check_partitions(after)?;
    let mut commits = store.commits();
    loop {
        commits.borrow_and_update();
        let heads = heads(store).await?;
        let is_past = |p: &Position| heads[usize::from(p.partition)].offset > p.offset;
        if after.iter().any(is_past) {
            return Ok(());
        }
        loop {
            tokio::select! {
                biased;
                _ = commits.changed() => break,
                () = tokio::time::sleep(store.watcher().interval()) => {
                    store.poll_other_processes().await?;
                }
            }
        }
    }
}

impl SqliteEventStore {
    fn check_partitions(&self, positions: &[Position]) -> Result<(), StoreError> {
        let count = self.log_info().partitions;
        match positions.iter().find(|position| position.partition >= count) {
            Some(position) => Err(StoreError::Invalid(format!(
                "there is no partition {} in a log of {count}",
                position.partition
            ))),
            None => Ok(()),
        }
    }
}

fn stretch(row: &SqliteRow, events: &mut Vec<StoredEvent>) -> Result<(), sqlx::Error> {
    let partition = u16::try_from(row.try_get_unchecked::<i64, _>(0)?).unwrap_or(u16::MAX);
    unpack(partition, row.try_get_unchecked(1)?, events)
}
