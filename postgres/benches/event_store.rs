//! The cost of the store, beside the same work in plain statements, in one run on one machine.
//!
//! `DATABASE_URL=postgres://… cargo bench -p composable-rust-postgres`

#[path = "../tests/it/database.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod database;

use std::time::{Duration, Instant};

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{Append, EventStore as _, ExpectedVersion};
use composable_rust_core::{EventId, StreamId, Version};
use composable_rust_postgres::PostgresEventStore;
use database::Database;
use futures_util::TryStreamExt as _;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

const METADATA: &str = r#"{"correlation":"0b8f6f0e-8f3b-4a53-9c39-6e4f3e6b9d11","causation":"0b8f6f0e-8f3b-4a53-9c39-6e4f3e6b9d11"}"#;
const PAYLOAD: [u8; 50] = [7; 50];

#[tokio::main]
async fn main() {
    let database = Database::create().await;
    let store = database.store(8).await;
    let mut plain = database.connection().await;
    plain
        .execute("create table plain (like events including defaults including indexes)")
        .await
        .unwrap();
    // `cargo bench -p composable-rust-postgres -- batches` measures only that.
    let only = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let wanted = |what| only.as_deref().is_none_or(|only| only == what);
    if wanted("single") {
        single_appends(&store, &mut plain).await;
    }
    if wanted("batches") {
        batches(&store, &mut plain).await;
    }
    if wanted("loads") {
        loads(&store, &database).await;
    }
    plain.close().await.unwrap();
}

fn event() -> NewEvent {
    NewEvent {
        id: EventId(Uuid::new_v4()),
        content: EncodedMessage {
            name: "order.placed".into(),
            version: 1,
            codec: "bincode".into(),
            bytes: PAYLOAD.to_vec(),
        },
        metadata: METADATA.to_owned(),
    }
}

fn append(stream: StreamId) -> Append {
    Append::new(stream, ExpectedVersion::EMPTY).with_events(vec![event()])
}

async fn insert(plain: &mut PgConnection, n: i64) {
    sqlx::query(
        "insert into plain (version, log_offset, created_at, event_id, schema_version, partition, \
         stream_id, event_type, codec, event_data, metadata) \
         values ($1, $2, clock_timestamp(), $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb)",
    )
    .bind(1_i64)
    .bind(n)
    .bind(Uuid::new_v4())
    .bind(1_i32)
    .bind(0_i16)
    .bind(format!("order-{}", Uuid::new_v4()))
    .bind("order.placed")
    .bind("bincode")
    .bind(&PAYLOAD[..])
    .bind(METADATA)
    .execute(plain)
    .await
    .unwrap();
}

/// Measures one caller with one event per append, alternating with a plain prepared INSERT on a
/// connection of its own.
async fn single_appends(store: &PostgresEventStore, plain: &mut PgConnection) {
    let (mut appends, mut inserts) = (Vec::new(), Vec::new());
    for n in 0..6_000 {
        let append = append(StreamId::new("order", &Uuid::new_v4().to_string()).unwrap());
        let partition = store.log().partition_of(&append.stream);
        let start = Instant::now();
        store.append_events(partition, std::slice::from_ref(&append)).await.unwrap();
        appends.push(start.elapsed());
        let start = Instant::now();
        insert(plain, n).await;
        inserts.push(start.elapsed());
    }
    let (append, insert) = (median(appends), median(inserts));
    println!(
        "single append: median {append:?}, plain INSERT {insert:?}, ratio {:.2} (aim: at most 1.25)",
        append.as_secs_f64() / insert.as_secs_f64()
    );
}

/// Measures batches of 500 appends of one event each, to new streams of one partition for each
/// writer, after an INSERT of the same rows, 500 at a time, at this server's full speed.
async fn batches(store: &PostgresEventStore, plain: &mut PgConnection) {
    let mut inserting = Duration::ZERO;
    for round in 0..BATCHES {
        let names: Vec<String> = (0..500).map(|_| format!("order-{}", Uuid::new_v4())).collect();
        let ids: Vec<Uuid> = names.iter().map(|_| Uuid::new_v4()).collect();
        let start = Instant::now();
        sqlx::query(
            "insert into plain (version, log_offset, created_at, event_id, schema_version, \
             partition, stream_id, event_type, codec, event_data, metadata) \
             select 1, $1 + nth, clock_timestamp(), id, 1, 0::smallint, stream, $4, $5, $6, \
             metadata::jsonb from unnest($2, $3, $7) with ordinality e(stream, id, metadata, nth)",
        )
        .bind(1_000_000 + i64::from(round) * 500)
        .bind(&names)
        .bind(ids)
        .bind("order.placed")
        .bind("bincode")
        .bind(&PAYLOAD[..])
        .bind(vec![METADATA; 500])
        .execute(&mut *plain)
        .await
        .unwrap();
        inserting += start.elapsed();
    }
    let bare = f64::from(BATCHES) * 500.0 / inserting.as_secs_f64();
    println!("INSERT of 500 rows: {bare:.0} rows/s");
    for writers in [1, 2, 4] {
        let ready: Vec<_> =
            (0..writers).map(|writer| (writer, new_batches(store, writer))).collect();
        let start = Instant::now();
        let tasks: Vec<_> = ready
            .into_iter()
            .map(|(writer, batches)| {
                let store = store.clone();
                tokio::spawn(async move {
                    for batch in batches {
                        store.append_events(writer, &batch).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let events = f64::from(writers) * f64::from(BATCHES) * 500.0;
        println!(
            "batches of 500, {writers} writer(s): {:.0} events/s (aim: over 80,000)",
            events / start.elapsed().as_secs_f64()
        );
    }
}

const BATCHES: u32 = 200;

fn new_batches(store: &PostgresEventStore, partition: u16) -> Vec<Vec<Append>> {
    let batch = |_| {
        (0..)
            .map(|_| StreamId::new("order", &Uuid::new_v4().to_string()).unwrap())
            .filter(|stream| store.log().partition_of(stream) == partition)
            .take(500)
            .map(append)
            .collect()
    };
    (0..BATCHES).map(batch).collect()
}

/// Measures the load of a stream of a million events.
async fn loads(store: &PostgresEventStore, database: &Database) {
    let stream = StreamId::new("order", "long").unwrap();
    let partition = store.log().partition_of(&stream);
    for n in 0..200 {
        let expected = ExpectedVersion::Exact(Version::new(n * 5_000));
        let events = (0..5_000).map(|_| event()).collect();
        let append = Append::new(stream.clone(), expected).with_events(events);
        store.append_events(partition, &[append]).await.unwrap();
    }
    let mut plain = database.connection().await;
    plain.execute("vacuum analyze events").await.unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        let mut rows = sqlx::query(
            "select version, log_offset, event_id, created_at, event_type, schema_version, codec, \
             event_data, metadata from events \
             where partition = $1 and stream_id = $2 order by version",
        )
        .bind(i16::try_from(partition).unwrap())
        .bind(stream.as_str())
        .fetch(&mut plain);
        let mut bare = 0_u32;
        while let Some(row) = rows.try_next().await.unwrap() {
            bare += u32::from(row.len() == 9);
        }
        drop(rows);
        let bare = f64::from(bare) / start.elapsed().as_secs_f64();

        let start = Instant::now();
        let mut events = std::pin::pin!(store.load_events(&stream, Version::ZERO));
        let mut count = 0;
        while events.try_next().await.unwrap().is_some() {
            count += 1;
        }
        let loaded = f64::from(count) / start.elapsed().as_secs_f64();
        let start = Instant::now();
        let mut after = composable_rust_core::Position::start_positions(8);
        let mut paged = 0_u32;
        while paged < 500_000 {
            let page = store.read_log(&after, 1_000).await.unwrap();
            for event in page {
                paged += 1;
                after[usize::from(event.position.partition)] = event.position;
            }
        }
        let paged = f64::from(paged) / start.elapsed().as_secs_f64();
        println!(
            "load: {loaded:.0} events/s, bare rows {bare:.0}/s, ratio {:.2}; log pages: {paged:.0}/s",
            loaded / bare
        );
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
