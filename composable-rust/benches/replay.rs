//! Loading and folding, side by side with the bare row stream; and the memory of idle instances.
//!
//! `cargo bench --bench replay` measures SQLite; with `DATABASE_URL` (or under `cargo xtask bench`)
//! PostgreSQL too.

#![allow(clippy::cast_precision_loss, reason = "rates are not exact")]

mod support;

use std::time::Instant;

use composable_rust::codec::Codecs;
use composable_rust::event::NewEvent;
use composable_rust::postgres::PostgresEventStore;
use composable_rust::prelude::*;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust::store::{Append, EventStore, ExpectedVersion};
use composable_rust::testing::InMemoryEventStore;
use composable_rust::{EventId, StreamId, Version};
use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use support::{Ticket, TicketEvent, median, report, section, sell};
use uuid::Uuid;

const EVENTS: u64 = 300_000;

/// The query for exactly the rows and columns that a load of the stream reads.
const ROWS: &str = "select version, event_type, event_data, log_offset, event_id, created_at, \
     schema_version, codec, metadata from events where stream_id = 'ticket-long' \
     and partition = (select partition from events limit 1) order by version";

#[tokio::main]
async fn main() {
    // First, because memory that another benchmark freed would hide the instances' memory.
    idle_instances().await;
    fold();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bench.db");
    section("Replay, SQLite");
    let store = SqliteEventStore::open(&path).await.expect("a store");
    fill(&store).await;
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", path.display())).await.expect("it");
    let bare = async || bare_rows!(sqlx::query(ROWS), &pool);
    replay(store, bare).await;
    let Ok(server) = std::env::var("DATABASE_URL") else {
        println!("\nPostgreSQL: skipped; run `cargo xtask bench` to have a server");
        return;
    };
    section("Replay, PostgreSQL");
    let name = format!("bench_{}", Uuid::new_v4().simple());
    let admin = sqlx::PgPool::connect(&server).await.expect("the server of DATABASE_URL");
    sqlx::query(&format!("create database {name}")).execute(&admin).await.expect("a database");
    let url = format!("{}/{name}", server.rsplit_once('/').expect("a database in the URL").0);
    let store = PostgresEventStore::connect(&url).await.expect("a store");
    fill(&store).await;
    let pool = sqlx::PgPool::connect(&url).await.expect("a pool");
    let bare = async || bare_rows!(sqlx::query(ROWS), &pool);
    replay(store, bare).await;
}

/// Counts the rows of a query, reading the columns that any replay needs.
macro_rules! bare_rows {
    ($rows:expr, $pool:expr) => {{
        let mut stream = $rows.fetch($pool);
        let mut count = 0_u64;
        while let Some(row) = stream.try_next().await.expect("a row") {
            let (version, name, data): (i64, &str, &[u8]) = (row.get(0), row.get(1), row.get(2));
            std::hint::black_box((version, name, data));
            count += 1;
        }
        count
    }};
}
use bare_rows;

fn stream() -> StreamId {
    Ticket::id("long").stream()
}

async fn fill(store: &impl EventStore) {
    let codecs = Codecs::default();
    let sold = TicketEvent::Sold {
        to: "somebody with a name of average length".into(),
        cents: 1_250,
        at: Timestamp::EPOCH,
    };
    let content = codecs.encode(&stream(), &sold).expect("an encoding");
    let nil = Uuid::nil();
    let metadata = format!(r#"{{"correlation":"{nil}","causation":"{nil}"}}"#);
    let partition = store.log().partition_of(&stream());
    for batch in 0..EVENTS / 1_000 {
        let events = (0..1_000)
            .map(|_| NewEvent {
                id: EventId(Uuid::new_v4()),
                content: content.clone(),
                metadata: metadata.clone(),
            })
            .collect();
        let append = Append::new(stream(), ExpectedVersion::Exact(Version::new(batch * 1_000)))
            .with_events(events);
        store.append_events(partition, &[append]).await.expect("an append");
    }
}

async fn replay(store: impl EventStore, bare: impl AsyncFn() -> u64) {
    let app = App::builder(store).aggregate::<Ticket>(()).build().expect("a correct app");
    let ticket = app.handle(&Ticket::id("long"));
    let (mut replays, mut streams) = (vec![], vec![]);
    for _ in 0..5 {
        let began = Instant::now();
        let (state, version) = ticket.state_at(Version::new(u64::MAX)).await.expect("a state");
        assert_eq!((state.sold, version.get()), (EVENTS, EVENTS));
        replays.push(EVENTS as f64 / began.elapsed().as_secs_f64());
        let began = Instant::now();
        assert_eq!(bare().await, EVENTS);
        streams.push(EVENTS as f64 / began.elapsed().as_secs_f64());
    }
    let (replay, bare) = (median(replays), median(streams));
    report("replay (fetch + decode + fold), events", replay, "bare row stream", bare, ">= 0.7");
    report("replay (fetch + decode + fold), events", replay, "(300,000/s)", 300_000.0, ">= 1");
    // The first load saves nothing; the first send past a multiple of 100 saves a snapshot.
    ticket.send(sell()).await.expect("a sale");
    app.shutdown(std::time::Duration::from_secs(10)).await;
}

fn fold() {
    section("Fold");
    let sold = TicketEvent::Sold {
        to: "somebody with a name of average length".into(),
        cents: 1_250,
        at: Timestamp::EPOCH,
    };
    let codecs = Codecs::default();
    let content = codecs.encode(&stream(), &sold).expect("an encoding");
    let count = 1_000_000_usize;
    let (mut owned, mut decoded) = (vec![], vec![]);
    for _ in 0..5 {
        let events = vec![sold.clone(); count];
        let mut state = Ticket::default();
        let began = Instant::now();
        for event in events {
            state.apply(event);
        }
        owned.push(count as f64 / began.elapsed().as_secs_f64());
        assert_eq!(std::hint::black_box(&state).sold, count as u64);
        let mut state = Ticket::default();
        let began = Instant::now();
        for _ in 0..count {
            state.apply(codecs.decode(&stream_once(), &content).expect("an event"));
        }
        decoded.push(count as f64 / began.elapsed().as_secs_f64());
        assert_eq!(std::hint::black_box(&state).sold, count as u64);
    }
    report("fold, owned events", median(owned), "(20M/s)", 20_000_000.0, ">= 1");
    report("fold, decoded from bytes", median(decoded), "(5M/s)", 5_000_000.0, ">= 1");
    decode_again(&codecs, &sold);
}

fn stream_once() -> StreamId {
    thread_local!(static STREAM: StreamId = stream());
    STREAM.with(Clone::clone)
}

/// Measures the cost of checking that each payload can be decoded again.
fn decode_again(codecs: &Codecs, sold: &TicketEvent) {
    let count = 1_000_000;
    let (mut plain, mut checked) = (vec![], vec![]);
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..count {
            std::hint::black_box(codecs.encode(&stream_once(), sold).expect("an encoding"));
        }
        plain.push(began.elapsed().as_nanos() as f64 / f64::from(count));
        let began = Instant::now();
        for _ in 0..count {
            let content = codecs.encode(&stream_once(), sold).expect("an encoding");
            let again: TicketEvent = codecs.decode(&stream_once(), &content).expect("an event");
            assert_eq!(again, *sold);
        }
        checked.push(began.elapsed().as_nanos() as f64 / f64::from(count));
    }
    let (plain, checked) = (median(plain), median(checked));
    println!(
        "decode-again check: encode {plain:.0} ns, encode and check {checked:.0} ns an event, ratio {:.2}",
        checked / plain
    );
}

async fn idle_instances() {
    section("Idle live instances");
    let app = App::builder(InMemoryEventStore::new())
        .aggregate::<Ticket>(())
        .settings(|settings| settings.max_live_instances = 1_000_000)
        .build()
        .expect("a correct app");
    let count = 100_000_u64;
    let before = resident_bytes();
    for id in 0..count {
        // No event yet, so that the store holds nothing and only the instances count.
        app.handle(&Ticket::id(id.to_string())).state(|_| ()).await.expect("a state");
    }
    assert_eq!(app.live_instances::<Ticket>(), 100_000);
    match (before, resident_bytes()) {
        (Some(before), Some(after)) => println!(
            "an idle live instance, its (empty) state included: {} bytes   aim < 1,024",
            (after - before) / count
        ),
        _ => println!("resident memory is not known on this system"),
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1_024)
}
