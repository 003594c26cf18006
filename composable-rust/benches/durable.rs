//! Benchmarks of durable sends, beside plain INSERTs through the same driver and beside `pgbench`.
//!
//! `cargo bench --bench durable` measures memory and SQLite. If `DATABASE_URL` is set, as by
//! `cargo xtask bench`, it also measures PostgreSQL; if `SLOW_DATABASE_URL` is set, also a server
//! with slow commits, such as those of a synchronous replica. `BENCH_ROUND_MS` is the duration of a
//! round in milliseconds. Default: 2000.

#![allow(clippy::cast_precision_loss, reason = "rates are not exact")]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use composable_rust::codec::EncodedMessage;
use composable_rust::event::NewEvent;
use composable_rust::postgres::PostgresEventStore;
use composable_rust::prelude::*;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust::store::GroupCommit;
use composable_rust::store::{Append, EventStore, ExpectedVersion, SharedEventStore};
use composable_rust::testing::InMemoryEventStore;
use composable_rust::{EventId, StreamId};
use sqlx::postgres::{PgPool, PgPoolOptions};
use support::{ROUNDS, Ticket, median, rate, repeat_for, report, section, sell};
use uuid::Uuid;

#[tokio::main]
async fn main() {
    if let Some(worker) = std::env::args().position(|argument| argument == "--hammer") {
        let url = std::env::args().nth(worker + 1).expect("`--hammer` is followed by a URL");
        return hammer(&url).await;
    }
    memory().await;
    sqlite().await;
    match std::env::var("DATABASE_URL") {
        Ok(url) => postgres(&url).await,
        Err(_) => println!("\nPostgreSQL: skipped; `cargo xtask bench` starts a server"),
    }
    if let Ok(url) = std::env::var("SLOW_DATABASE_URL") {
        slow_commits(&url).await;
    }
}

fn app(store: impl EventStore) -> App {
    App::builder(store).aggregate::<Ticket>(()).build().expect("the app is valid")
}

/// Returns the sends per second of `callers` on `instances`.
async fn sends(app: &App, callers: usize, instances: usize) -> f64 {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let round = ROUND.fetch_add(1, Ordering::Relaxed);
    rate(callers, |caller| {
        let ticket = app.handle(&Ticket::id(format!("{round}-{}", caller % instances)));
        async move {
            repeat_for(|| async {
                ticket.send(sell()).await.expect("the sale succeeds");
            })
            .await
        }
    })
    .await
}

async fn memory() {
    section("In memory");
    let app = app(InMemoryEventStore::with_partitions(8));
    let mut rows = Vec::new();
    for (callers, instances) in [(1, 1), (256, 256), (256, 1)] {
        let mut values = Vec::new();
        for _ in 0..3 {
            values.push(sends(&app, callers, instances).await);
        }
        rows.push((callers, instances, median(values)));
    }
    for (callers, instances, value) in rows {
        println!("durable send, {callers:>3} callers on {instances:>3} instances {value:>27.0}/s");
    }
}

async fn sqlite() {
    section("SQLite, synchronous=FULL");
    let folder = tempfile::tempdir().expect("a temporary folder is created");
    let store =
        SqliteEventStore::open(folder.path().join("bench.db")).await.expect("the store opens");
    let app = app(store);
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.path().join("plain.db"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
    let plain = sqlx::sqlite::SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .expect("the database opens");
    sqlx::query("create table plain (id integer primary key, name text, data blob, metadata text)")
        .execute(&plain)
        .await
        .expect("the table is created");
    let (mut one, mut inserts, mut many, mut hot) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        one.push(sends(&app, 1, 1).await);
        inserts.push(
            rate(1, |_| {
                let plain = plain.clone();
                async move {
                    repeat_for(|| async {
                        sqlx::query("insert into plain (name, data, metadata) values (?, ?, ?)")
                            .bind("ticket.sold")
                            .bind(&[7_u8; 50][..])
                            .bind(METADATA)
                            .execute(&plain)
                            .await
                            .expect("the insert succeeds");
                    })
                    .await
                }
            })
            .await,
        );
        many.push(sends(&app, 256, 256).await);
        hot.push(sends(&app, 256, 1).await);
    }
    let inserts = median(inserts);
    report("durable send, 1 caller", median(one), "plain INSERT, same driver", inserts, ">= 0.80");
    report(
        "durable send, 256 callers on 256 instances",
        median(many),
        "plain INSERT",
        inserts,
        "-",
    );
    report("durable send, 256 callers on one instance", median(hot), "plain INSERT", inserts, "-");
}

const METADATA: &str = r#"{"correlation":"0198c0de-0000-7000-8000-000000000000","causation":"0198c0de-0000-7000-8000-000000000000"}"#;

async fn fresh_database(url: &str) -> String {
    let name = format!("bench_{}", Uuid::new_v4().simple());
    let admin = PgPool::connect(url).await.expect("the server accepts connections");
    sqlx::query(&format!("create database {name}"))
        .execute(&admin)
        .await
        .expect("the database is created");
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{name}")
}

async fn postgres(server: &str) {
    let version: (String,) = sqlx::query_as("select current_setting('server_version')")
        .fetch_one(&PgPool::connect(server).await.expect("the server of DATABASE_URL"))
        .await
        .expect("the server returns its version");
    section(&format!("PostgreSQL {}", version.0));
    let (url, app, plain) = contestants(server).await;
    let (mut one, mut inserts, mut mid, mut many, mut hot) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        one.push(sends(&app, 1, 1).await);
        inserts.push(plain_inserts(&plain, 1).await);
        mid.push(sends(&app, 64, 64).await);
        many.push(sends(&app, 256, 256).await);
        hot.push(sends(&app, 256, 1).await);
    }
    let (inserts, many, hot) = (median(inserts), median(many), median(hot));
    report("durable send, 1 caller", median(one), "plain INSERT, same driver", inserts, ">= 0.80");
    let (name, best) = best_inserts(&url, &plain, &[1, 4, 16, 64]).await;
    report("durable send, 64 callers on 64 instances", median(mid), name, best, "-");
    report("durable send, 256 callers on 256 instances", many, name, best, ">= 3");
    report("durable send, 256 callers on one instance", hot, "256 callers on 256", many, ">= 0.50");
    let shared = three_processes(&url);
    let alone = sends(&app, 64, 1).await;
    report(
        "three processes on one instance, 64 callers each",
        shared,
        "one process, 64",
        alone,
        ">= 0.33",
    );
    let batches = append_batches(&url).await;
    report("append in batches of 500, events", batches, "(80,000/s)", 80_000.0, ">= 1");
}

async fn slow_commits(server: &str) {
    let (url, app, plain) = contestants(server).await;
    let commit = median_commit(&plain).await;
    section(&format!("PostgreSQL, a commit takes {commit:.1} ms (median, one client's INSERTs)"));
    let mut many = Vec::new();
    for _ in 0..ROUNDS {
        many.push(sends(&app, 256, 256).await);
    }
    let free = free_connections(&plain).await;
    let clients: Vec<_> =
        [1, 4, 16, 64, 128, 256].into_iter().filter(|&clients| clients <= free).collect();
    let (name, best) = best_inserts(&url, &plain, &clients).await;
    report("durable send, 256 callers on 256 instances", median(many), name, best, ">= 3");
}

/// Creates a database with an application's store and a plain table. Returns its URL, the
/// application, and connections for the table.
async fn contestants(server: &str) -> (String, App, PgPool) {
    let url = fresh_database(server).await;
    let app = app(PostgresEventStore::connect(&url).await.expect("the store opens"));
    let plain = PgPoolOptions::new()
        .max_connections(256)
        .test_before_acquire(false)
        .connect(&url)
        .await
        .expect("the server accepts connections");
    sqlx::query(
        "create table plain (id bigint generated always as identity primary key, stream text, \
         version bigint, name text, data bytea, metadata jsonb, at timestamptz default now())",
    )
    .execute(&plain)
    .await
    .expect("the table is created");
    (url, app, plain)
}

/// Returns the number of connections that the server still accepts, without those reserved for
/// superusers.
async fn free_connections(pool: &PgPool) -> usize {
    let (free,): (i64,) = sqlx::query_as(
        "select current_setting('max_connections')::bigint \
         - current_setting('superuser_reserved_connections')::bigint \
         - (select count(*) from pg_stat_activity where backend_type = 'client backend')",
    )
    .fetch_one(pool)
    .await
    .expect("the server returns the number");
    usize::try_from(free).unwrap_or_default()
}

/// Returns the median time that one client waits for a one-row INSERT, in milliseconds.
async fn median_commit(pool: &PgPool) -> f64 {
    let (began, mut waits) = (Instant::now(), Vec::new());
    while began.elapsed() < support::round() {
        let asked = Instant::now();
        plain_insert(pool).await;
        waits.push(asked.elapsed().as_secs_f64() * 1_000.0);
    }
    median(waits)
}

async fn plain_insert(pool: &PgPool) {
    sqlx::query(
        "insert into plain (stream, version, name, data, metadata) \
         values ($1, $2, $3, $4, $5::jsonb)",
    )
    .bind("ticket-1")
    .bind(1_i64)
    .bind("ticket.sold")
    .bind(&[7_u8; 50][..])
    .bind(METADATA)
    .execute(pool)
    .await
    .expect("the insert succeeds");
}

/// Returns the plain INSERTs per second of this number of clients.
async fn plain_inserts(pool: &PgPool, clients: usize) -> f64 {
    rate(clients, |_| {
        let pool = pool.clone();
        async move { repeat_for(|| plain_insert(&pool)).await }
    })
    .await
}

/// Measures one-row INSERTs with each of these numbers of clients. Returns a label of the measuring
/// program and the highest rate.
async fn best_inserts(url: &str, plain: &PgPool, clients: &[usize]) -> (&'static str, f64) {
    if let Some(best) = pgbench(url, clients) {
        return ("best of pgbench, one-row inserts", best);
    }
    let mut best: f64 = 0.0;
    for &clients in clients {
        best = best.max(plain_inserts(plain, clients).await);
    }
    ("best of plain INSERTs (no pgbench)", best)
}

/// Returns the highest rate of one-row INSERTs that `pgbench` reaches with prepared statements;
/// `None` if there is no `pgbench`.
fn pgbench(url: &str, clients: &[usize]) -> Option<f64> {
    let pgbench = std::env::var("PGBENCH").unwrap_or_else(|_| "pgbench".into());
    let script = tempfile::NamedTempFile::new().ok()?;
    let insert = format!(
        "insert into plain (stream, version, name, data, metadata) values ('ticket-1', 1, \
         'ticket.sold', '{}', '{METADATA}');\n",
        "seven".repeat(10)
    );
    std::fs::write(script.path(), insert).ok()?;
    let seconds = support::round().as_secs().max(2).to_string();
    let mut best: f64 = 0.0;
    for clients in clients {
        let clients = clients.to_string();
        let output = Command::new(&pgbench)
            .args(["-n", "-M", "prepared", "-j", "2", "-c", &clients, "-T", &seconds, "-f"])
            .arg(script.path())
            .arg(url)
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = "))?;
        let tps: f64 = tps.split_whitespace().next()?.parse().ok()?;
        println!("    pgbench -c {clients:<3} {tps:>10.0}/s");
        best = best.max(tps);
    }
    Some(best)
}

/// Starts this program three times, all sending to one instance. Returns the sum of their sends per
/// second.
fn three_processes(url: &str) -> f64 {
    let program = std::env::current_exe().expect("the path of this program is known");
    let children: Vec<_> = (0..3)
        .map(|_| {
            Command::new(&program)
                .args(["--hammer", url])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("the child process starts")
        })
        .collect();
    children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("the child process ends");
            String::from_utf8_lossy(&output.stdout)
                .trim()
                .parse::<f64>()
                .expect("the child process prints a rate")
        })
        .sum()
}

async fn hammer(url: &str) {
    let app = app(PostgresEventStore::connect(url).await.expect("the store opens"));
    let ticket = app.handle(&Ticket::id("hammered"));
    let value = rate(64, |_| {
        let ticket = ticket.clone();
        async move {
            repeat_for(|| async {
                ticket.send(sell()).await.expect("the sale succeeds");
            })
            .await
        }
    })
    .await;
    println!("{value}");
}

/// Returns the events per second when 16 writers append 500 events at a time, each to a stream of
/// its own.
async fn append_batches(url: &str) -> f64 {
    let store =
        SharedEventStore::new(PostgresEventStore::connect(url).await.expect("the store opens"));
    let writer = Arc::new(GroupCommit::new(store));
    let mut values = Vec::new();
    for round in 0..3 {
        let appends = rate(16, |task| {
            let writer = Arc::clone(&writer);
            async move {
                let mut version = composable_rust::Version::ZERO;
                let stream =
                    StreamId::new("batch", &format!("{round}-{task}")).expect("the id is valid");
                let (began, length) = (Instant::now(), support::round());
                let mut done = 0;
                while began.elapsed() < length {
                    let events = (0..500).map(|_| new_event()).collect();
                    let append = Append::new(stream.clone(), ExpectedVersion::Exact(version))
                        .with_events(events);
                    writer.append(append).await.expect("the append succeeds");
                    version = version.plus(500);
                    done += 500;
                }
                done
            }
        })
        .await;
        values.push(appends);
    }
    median(values)
}

fn new_event() -> NewEvent {
    let content = EncodedMessage {
        name: "ticket.sold".into(),
        version: 1,
        codec: "bincode".into(),
        bytes: vec![7; 50],
    };
    NewEvent { id: EventId(Uuid::new_v4()), content, metadata: METADATA.to_owned() }
}
