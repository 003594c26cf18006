//! Leases and members.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{
    Lease, LeaseAction, LeaseRequest, LeaseSnapshot, LeaseStatus, Leases, Pause, Process,
};
use composable_rust_core::store::StoreError;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::connection::BEGIN;
use crate::error::store_error;
use crate::sql::{Args, CHUNK, int, padded, push_in, uint};
use crate::statement_batch::{Statement, StatementBatch, commit_all};
use crate::store::{SqliteEventStore, clock};

macro_rules! leases {
    () => {
        "select worker, partition, holder, expires_at, epoch, ttl from leases "
    };
}
macro_rules! members {
    () => {
        " union all select worker, null, holder, expires_at, null, null from members "
    };
}
const LEASES: &str = concat!(leases!(), "where worker ");
const MEMBERS: &str = concat!(members!(), "where worker ");
/// The row of the log, with the number of overrides in the column of epochs, and the pauses, with
/// their names in the column of holders and their authors in that of times to live. Both have no
/// worker.
macro_rules! log_and_pauses {
    () => {
        " union all select null, null, null, null, overrides, null from log \
         union all select null, null, name, since, null, paused_by from pauses"
    };
}
const LOG: &str = log_and_pauses!();
const ALL_LEASES: &str = concat!(leases!(), members!(), log_and_pauses!());
const PAUSE: &str = "insert or ignore into pauses (name, since, paused_by) values (?, ?, ?)";
const INTRODUCE: &str = "insert or replace into processes \
    (holder, since, pid, program, version, host) values (?, ?, ?, ?, ?, ?)";
const FORGET_PROCESSES: &str = "delete from processes where since < ? \
    and holder not in (select holder from members)";
/// The time after which a process that announces no worker any more is forgotten.
const DAY_MICROS: i64 = 86_400_000_000;
const RESUME: &str = "delete from pauses where name = ?";

type LeaseKey = (String, u16);

/// The row of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeldLease {
    holder: Option<Uuid>,
    expires_at: Timestamp,
    ttl: Duration,
    epoch: u64,
}

impl Leases for SqliteEventStore {
    async fn load_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, StoreError> {
        self.read_leases(workers).await.map_err(store_error)
    }

    async fn change_leases(&self, request: &LeaseRequest) -> Result<Vec<bool>, StoreError> {
        self.write_lease_changes(request).await.map_err(store_error)
    }

    async fn pause(&self, name: &str, by: Option<&str>) -> Result<(), StoreError> {
        let mut args = Args::default();
        args.add(name);
        args.add(clock().as_micros());
        args.add(by);
        self.write_pause(PAUSE, args).await.map_err(store_error)
    }

    async fn introduce(&self, process: &Process) -> Result<(), StoreError> {
        self.write_process(process).await.map_err(store_error)
    }

    async fn resume(&self, name: &str) -> Result<(), StoreError> {
        let mut args = Args::default();
        args.add(name);
        self.write_pause(RESUME, args).await.map_err(store_error)
    }
}

impl SqliteEventStore {
    async fn read_leases(&self, workers: &[String]) -> Result<LeaseSnapshot, sqlx::Error> {
        let mut sql = LEASES.to_owned();
        push_in(&mut sql, workers.len());
        sql.push_str(MEMBERS);
        push_in(&mut sql, workers.len());
        sql.push_str(LOG);
        let mut args = Args::default();
        bind_workers(&mut args, workers.iter().map(String::as_str));
        bind_workers(&mut args, workers.iter().map(String::as_str));
        self.lease_snapshot(&sql, args).await
    }

    /// Reads the leases and members of all workers.
    pub(crate) async fn read_all_leases(&self) -> Result<LeaseSnapshot, sqlx::Error> {
        self.lease_snapshot(ALL_LEASES, Args::default()).await
    }

    async fn lease_snapshot(
        &self,
        sql: &str,
        args: Args<'_>,
    ) -> Result<LeaseSnapshot, sqlx::Error> {
        let rows = self.readers().fetch(sql, args).await?;
        let now = clock();
        let mut snapshot = LeaseSnapshot::default();
        for row in &rows {
            if row.try_get_unchecked::<Option<String>, _>(0)?.is_none() {
                match row.try_get_unchecked(2)? {
                    None => snapshot.overrides = uint(row.try_get_unchecked(4)?),
                    Some(name) => {
                        let since = Timestamp::from_micros(row.try_get_unchecked(3)?);
                        let by = row.try_get_unchecked(5)?;
                        snapshot.pauses.push(Pause { name, since, by });
                    }
                }
            } else if let Some(((worker, partition), held)) = lease(row)? {
                snapshot.leases.push(LeaseStatus {
                    lease: Lease { worker, partition, epoch: held.epoch },
                    holder: held.holder,
                    lapsed: held.expires_at <= now,
                });
            } else if Timestamp::from_micros(row.try_get_unchecked(3)?) > now {
                snapshot.members.push((row.try_get_unchecked(0)?, row.try_get_unchecked(2)?));
            }
        }
        let place =
            |standing: &LeaseStatus| (standing.lease.worker.clone(), standing.lease.partition);
        snapshot.leases.sort_by_cached_key(place);
        snapshot.members.sort();
        snapshot.pauses.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(snapshot)
    }

    async fn write_pause(&self, sql: &str, args: Args<'_>) -> Result<(), sqlx::Error> {
        let mut transaction = self.writer().begin().await?;
        transaction.fetch(sql, args).await?;
        transaction.commit().await
    }

    async fn write_process(&self, process: &Process) -> Result<(), sqlx::Error> {
        let now = clock().as_micros();
        let mut transaction = self.writer().begin().await?;
        let mut args = Args::default();
        args.add(now.saturating_sub(DAY_MICROS));
        transaction.fetch(FORGET_PROCESSES, args).await?;
        let mut args = Args::default();
        args.add(process.holder);
        args.add(now);
        args.add(i64::from(process.pid));
        args.add(&*process.program);
        args.add(&*process.version);
        args.add(&*process.host);
        transaction.fetch(INTRODUCE, args).await?;
        transaction.commit().await
    }

    async fn write_lease_changes(&self, request: &LeaseRequest) -> Result<Vec<bool>, sqlx::Error> {
        let mut workers: Vec<&str> = request.changes.iter().map(|(l, _)| &*l.worker).collect();
        workers.sort_unstable();
        workers.dedup();
        let mut sql = format!("{BEGIN} {LEASES}");
        push_in(&mut sql, workers.len());
        let args = || {
            let mut args = Args::default();
            bind_workers(&mut args, workers.iter().copied());
            args
        };
        let (transaction, rows) = self.writer().begin_reading(&sql, args).await?;
        let found: Vec<_> = rows.iter().map(lease).collect::<Result<_, _>>()?;
        let before: BTreeMap<LeaseKey, HeldLease> = found.into_iter().flatten().collect();
        let mut after = before.clone();
        let now = clock();
        let made = request.changes.iter();
        let made = made.map(|(lease, action)| change(&mut after, request, lease, *action, now));
        let made = made.collect();

        after.retain(|key, held| before.get(key) != Some(held));
        let written: Vec<_> = after.iter().collect();
        let mut statements: Vec<(Statement<'_>, usize)> = vec![
            (Box::new(|batch| shorten_expiries(batch, now)), 1),
            (Box::new(|batch| forget_members(batch, request.holder, now)), 1),
        ];
        for workers in request.workers.chunks(CHUNK) {
            statements.push((
                Box::new(move |s| insert_members(s, request, workers, now)),
                padded(workers.len()),
            ));
        }
        for leases in written.chunks(CHUNK) {
            statements.push((Box::new(move |s| insert_leases(s, leases)), padded(leases.len())));
        }
        commit_all(transaction, statements).await?;
        Ok(made)
    }
}

/// Makes a change if it is possible.
fn change(
    leases: &mut BTreeMap<LeaseKey, HeldLease>,
    request: &LeaseRequest,
    lease: &Lease,
    action: LeaseAction,
    now: Timestamp,
) -> bool {
    let key = (lease.worker.clone(), lease.partition);
    let held = leases.get(&key);
    let possible = held.map_or(0, |held| held.epoch) == lease.epoch
        && match (action, held) {
            (LeaseAction::Seize, _) | (LeaseAction::Claim, None) => true,
            (LeaseAction::Claim, Some(held)) => held.holder.is_none() || held.expires_at <= now,
            (_, held) => held.is_some_and(|held| held.holder == Some(request.holder)),
        };
    if possible {
        let (epoch, until) = (lease.epoch, now + request.ttl);
        let (holder, expires_at, epoch) = match action {
            LeaseAction::Claim | LeaseAction::Seize => {
                (Some(request.holder), until, request.min_epoch.max(epoch + 1))
            }
            LeaseAction::Renew => (Some(request.holder), until, epoch),
            LeaseAction::Release => (None, now, epoch),
        };
        leases.insert(key, HeldLease { holder, expires_at, ttl: request.ttl, epoch });
    }
    possible
}

fn lease(row: &SqliteRow) -> Result<Option<(LeaseKey, HeldLease)>, sqlx::Error> {
    let Some(partition) = row.try_get_unchecked::<Option<i64>, _>(1)? else { return Ok(None) };
    let key = (row.try_get_unchecked(0)?, u16::try_from(partition).unwrap_or(u16::MAX));
    let held = HeldLease {
        holder: row.try_get_unchecked(2)?,
        expires_at: Timestamp::from_micros(row.try_get_unchecked(3)?),
        epoch: uint(row.try_get_unchecked(4)?),
        ttl: Duration::from_micros(uint(row.try_get_unchecked(5)?)),
    };
    Ok(Some((key, held)))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn bind_workers<'q>(args: &mut Args<'q>, workers: impl ExactSizeIterator<Item = &'q str>) {
    let count = workers.len();
    workers.for_each(|worker| args.add(worker));
    args.add_nulls(padded(count) - count);
}

/// Shortens an expiry that is further ahead than its time to live, as after the clock was set back,
/// to one time to live from now.
fn shorten_expiries(batch: &mut StatementBatch<'_>, now: Timestamp) {
    for table in ["leases", "members"] {
        let sql = format!("update {table} set expires_at = ? + ttl where expires_at > ? + ttl;");
        batch.sql.push_str(&sql);
        batch.args.add(now.as_micros());
        batch.args.add(now.as_micros());
    }
}

/// Withdraws the workers that a process announced, and deletes expired members.
fn forget_members(batch: &mut StatementBatch<'_>, holder: Uuid, now: Timestamp) {
    batch.sql.push_str("delete from members where holder = ? or expires_at <= ?;");
    batch.args.add(holder);
    batch.args.add(now.as_micros());
}

fn insert_members<'s>(
    batch: &mut StatementBatch<'s>,
    request: &LeaseRequest,
    workers: &'s [String],
    now: Timestamp,
) {
    batch.values(
        (
            "insert or replace into members (holder, expires_at, ttl, worker) \
             select ?, ?, ?, v.column1 from (values ",
            ") v where v.column1 is not null;",
        ),
        (1, workers.len()),
        |args| {
            args.add(request.holder);
            args.add((now + request.ttl).as_micros());
            args.add(micros(request.ttl));
        },
        |args| workers.iter().for_each(|worker| args.add(worker.as_str())),
    );
}

fn insert_leases<'s>(batch: &mut StatementBatch<'s>, leases: &'s [(&'s LeaseKey, &'s HeldLease)]) {
    batch.values(
        (
            "insert or replace into leases (worker, partition, holder, expires_at, epoch, ttl) \
             select v.* from (values ",
            ") v where v.column1 is not null;",
        ),
        (6, leases.len()),
        |_| (),
        |args| {
            for ((worker, partition), held) in leases {
                args.add(worker.as_str());
                args.add(i64::from(*partition));
                args.add(held.holder);
                args.add(held.expires_at.as_micros());
                args.add(int(held.epoch));
                args.add(micros(held.ttl));
            }
        },
    );
}
