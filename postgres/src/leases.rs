//! Leases and members.

use composable_rust_core::queue::{
    Lease, LeaseAction, LeaseRequest, LeaseSnapshot, LeaseStatus, Leases, Pause, Process,
};
use composable_rust_core::store::StoreError;
use sqlx::postgres::PgRow;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{bigint, micros, smallint, timestamp, unsigned, value};

/// Members have no partition. The row of the log, with the number of overrides in the column of
/// epochs, and the pauses have no worker either.
macro_rules! load_leases {
    ($of:literal) => {
        concat!(
            "select l.worker, l.holder, l.partition, l.epoch, \
             coalesce(l.expires_at <= statement_timestamp(), true), \
             null::text, null::timestamptz, null::text \
             from leases l where ",
            $of,
            " union all select m.worker, m.holder, null, null, null, null, null, null \
             from members m where ",
            $of,
            " and m.expires_at > statement_timestamp() \
             union all select null, null, null, log.overrides, null, null, null, null from log \
             union all select null, null, null, null, null, p.name, p.since, p.paused_by \
             from pauses p"
        )
    };
}
const LOAD_LEASES: &str = load_leases!("worker = any ($1)");
const ALL_LEASES: &str = load_leases!("true");
const PAUSE: &str = "insert into pauses (name, paused_by) values ($1, $2) on conflict do nothing";
const INTRODUCE: &str = "with forgotten as ( \
         delete from processes p where p.holder = any (array( \
             select p.holder from processes p \
             where p.holder <> $1 and p.since < clock_timestamp() - interval '1 day' \
             and not exists (select from members m where m.holder = p.holder) \
             for update skip locked \
         )) \
     ) \
     insert into processes (holder, pid, program, version, host) values ($1, $2, $3, $4, $5) \
     on conflict (holder) do update set since = excluded.since, pid = excluded.pid, \
         program = excluded.program, version = excluded.version, host = excluded.host";
const RESUME: &str = "delete from pauses where name = $1";

const CHANGE_LEASES: &str = "select change_leases($1, $2, $3, $4, $5, $6, $7, $8)";

impl Leases for PostgresEventStore {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, StoreError> {
        let query = sqlx::query(LOAD_LEASES).bind(workers);
        let rows = self.leases.run(async |connection| query.fetch_all(connection).await).await?;
        snapshot(&rows).map_err(store_error)
    }

    async fn change_leases(&self, request: &LeaseRequest) -> Result<Vec<bool>, StoreError> {
        let leases = || request.changes.iter().map(|(lease, _)| lease);
        let action = |(_, action): &(Lease, LeaseAction)| match action {
            LeaseAction::Claim => 0,
            LeaseAction::Renew => 1,
            LeaseAction::Release => 2,
            LeaseAction::Seize => 3,
        };
        let query = sqlx::query_scalar(CHANGE_LEASES)
            .bind(request.holder)
            .bind(micros(request.ttl))
            .bind(bigint(request.min_epoch))
            .bind(&request.workers)
            .bind(leases().map(|lease| &*lease.worker).collect::<Vec<_>>())
            .bind(leases().map(|lease| smallint(lease.partition)).collect::<Vec<_>>())
            .bind(leases().map(|lease| bigint(lease.epoch)).collect::<Vec<_>>())
            .bind(request.changes.iter().map(action).collect::<Vec<i32>>());
        self.leases.run(async |connection| query.fetch_one(connection).await).await
    }

    async fn pause(&self, name: &str, by: Option<&str>) -> Result<(), StoreError> {
        let query = sqlx::query(PAUSE).bind(name).bind(by);
        self.writers.run(async |writer| query.execute(writer).await).await?;
        Ok(())
    }

    async fn introduce(&self, process: &Process) -> Result<(), StoreError> {
        let query = sqlx::query(INTRODUCE)
            .bind(process.holder)
            .bind(i64::from(process.pid))
            .bind(&process.program)
            .bind(&process.version)
            .bind(&process.host);
        self.leases.run(async |connection| query.execute(connection).await).await?;
        Ok(())
    }

    async fn resume(&self, name: &str) -> Result<(), StoreError> {
        let query = sqlx::query(RESUME).bind(name);
        self.writers.run(async |writer| query.execute(writer).await).await?;
        Ok(())
    }
}

/// Reads the leases and members of all workers.
pub(crate) async fn all_leases(store: &PostgresEventStore) -> Result<LeaseSnapshot, StoreError> {
    let query = sqlx::query(ALL_LEASES);
    let rows = store.readers.run(async |reader| query.fetch_all(reader).await).await?;
    snapshot(&rows).map_err(store_error)
}

fn snapshot(rows: &[PgRow]) -> Result<LeaseSnapshot, sqlx::Error> {
    let mut snapshot = LeaseSnapshot::default();
    rows.iter().try_for_each(|row| read(row, &mut snapshot))?;
    snapshot.leases.sort_unstable_by(|one, other| one.lease.cmp(&other.lease));
    snapshot.members.sort_unstable();
    snapshot.pauses.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(snapshot)
}

fn read(row: &PgRow, snapshot: &mut LeaseSnapshot) -> Result<(), sqlx::Error> {
    let Some(worker) = value::<Option<String>>(row, 0)? else {
        match value(row, 5)? {
            None => snapshot.overrides = unsigned::<i64, u64>(row, 3)?,
            Some(name) => {
                let (since, by) = (timestamp(row, 6)?, value(row, 7)?);
                snapshot.pauses.push(Pause { name, since, by });
            }
        }
        return Ok(());
    };
    if value::<Option<i16>>(row, 2)?.is_none() {
        snapshot.members.push((worker, value(row, 1)?));
        return Ok(());
    }
    let partition = unsigned::<i16, u16>(row, 2)?;
    let lease = Lease { worker, partition, epoch: unsigned::<i64, u64>(row, 3)? };
    snapshot.leases.push(LeaseStatus { lease, holder: value(row, 1)?, lapsed: value(row, 4)? });
    Ok(())
}
