//! The speed of the store, beside plain statements through the same driver on the same disk.
//!
//! `cargo bench -p composable-rust-sqlite`. Every figure is of durable commits.

use std::future::Future;
use std::ops::RangeFrom;
use std::time::{Duration, Instant};

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{Append, EventStore, ExpectedVersion, Fingerprint};
use composable_rust_core::{EventId, Position, StreamId, Version};
use composable_rust_sqlite::SqliteEventStore;
use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Executor as _};
use uuid::Uuid;

const METADATA: &str = r#"{"correlation":"7d444840-9dc0-11d1-b245-5ffdce74fad2","causation":"7d444840-9dc0-11d1-b245-5ffdce74fad2"}"#;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteEventStore::open(folder.path().join("log.db")).await.expect("a store");
    let mut plain = Plain::create(folder.path().join("plain.db")).await;

    let (events, inserts) = batches(&store, &mut plain).await;
    println!("500 appends to new streams:    {events:>9.0} events/s (aim: 80,000)");
    println!("500 plain INSERTs, one commit: {inserts:>9.0} rows/s");
    println!("ratio:                         {:>9.2}", events / inserts);
    let events = long_appends(&store).await;
    println!("500 events to one stream:      {events:>9.0} events/s");
    let (single, insert) = singles(&store, &mut plain).await;
    println!("append one event:              {:>9.1} µs", micros(single));
    println!("plain prepared INSERT:         {:>9.1} µs", micros(insert));
    println!("ratio:                         {:>9.2} (aim: 1.25)", ratio(single, insert));
    let loads = cold_loads(&store).await;
    println!("cold load of one event:        {:>9.1} µs", micros(loads));

    let (paged, rows) = replays(&store, &mut plain).await;
    println!("replay of the log in pages:    {paged:>9.0} events/s");
    println!("bare row stream:               {rows:>9.0} rows/s");
    println!("ratio:                         {:>9.2} (aim: 0.7)", paged / rows);
    let loaded = long_load(&store).await;
    println!("load of a long stream:         {loaded:>9.0} events/s");
}

/// A table like that of the events, and nothing around it.
struct Plain(SqliteConnection);

impl Plain {
    async fn create(path: std::path::PathBuf) -> Self {
        let mut connection = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging()
            .connect()
            .await
            .expect("a connection");
        let table = "create table events (partition integer not null, log_offset integer not null, \
            stream_id text not null, version integer not null, event_id blob not null, \
            event_type text not null, schema_version integer not null, codec text not null, \
            created_at integer not null, metadata text not null, event_data blob not null, \
            primary key (partition, stream_id, version), unique (partition, log_offset)) strict";
        connection.execute(table).await.expect("a table");
        Self(connection)
    }

    async fn insert_all(&mut self, offsets: &mut RangeFrom<i64>, batch: &[Append]) {
        self.0.execute("begin immediate").await.expect("begin");
        for (append, offset) in batch.iter().zip(offsets) {
            self.insert(offset, append).await;
        }
        self.0.execute("commit").await.expect("commit");
    }

    async fn insert(&mut self, offset: i64, append: &Append) {
        let event = &append.events[0];
        sqlx::query("insert into events values (1, ?, ?, 1, ?, ?, 1, ?, 0, ?, ?)")
            .bind(offset)
            .bind(append.stream.as_str())
            .bind(event.id.0)
            .bind(&*event.content.name)
            .bind(&*event.content.codec)
            .bind(&event.metadata)
            .bind(&event.content.bytes)
            .execute(&mut self.0)
            .await
            .expect("an insert");
    }
}

fn append(stream: StreamId, expected: ExpectedVersion, count: usize) -> Append {
    let event = |_| NewEvent {
        id: EventId(Uuid::new_v4()),
        content: EncodedMessage {
            name: "order.placed".into(),
            version: 1,
            codec: "bincode".into(),
            bytes: vec![7; 50],
        },
        metadata: METADATA.to_owned(),
    };
    Append::new(stream, expected).with_events((0..count).map(event).collect())
}

fn one_event() -> Append {
    let stream = StreamId::new("order", &Uuid::new_v4().to_string()).expect("a stream");
    append(stream, ExpectedVersion::EMPTY, 1)
}

/// 100,000 events of as many streams, in turn with as many rows, so that both see the same disk.
async fn batches(store: &SqliteEventStore, plain: &mut Plain) -> (f64, f64) {
    let log = store.log();
    let mut partitions = vec![Vec::new(); usize::from(log.partitions)];
    for _ in 0..100_000 {
        let append = one_event();
        partitions[usize::from(log.partition_of(&append.stream))].push(append);
    }
    let (mut appending, mut inserting) = (Duration::ZERO, Duration::ZERO);
    let mut offsets = 10_000_000..;
    for (partition, appends) in (0..).zip(&partitions) {
        for batch in appends.chunks(500) {
            appending += timed(store.append_events(partition, batch)).await;
            inserting += timed(plain.insert_all(&mut offsets, batch)).await;
        }
    }
    (100_000.0 / appending.as_secs_f64(), 100_000.0 / inserting.as_secs_f64())
}

/// 100,000 events of 200 streams.
async fn long_appends(store: &SqliteEventStore) -> f64 {
    let log = store.log();
    let mut appending = Duration::ZERO;
    for n in 0..200 {
        let stream = StreamId::new("order", &format!("of-500-{n}")).expect("a stream");
        let whole = append(stream, ExpectedVersion::EMPTY, 500);
        let partition = log.partition_of(&whole.stream);
        appending += timed(store.append_events(partition, &[whole])).await;
    }
    100_000.0 / appending.as_secs_f64()
}

/// Medians of single commits, in turn, so that both see the same disk.
async fn singles(store: &SqliteEventStore, plain: &mut Plain) -> (Duration, Duration) {
    let (mut appends, mut inserts) = (Vec::new(), Vec::new());
    for offset in 1..2_000 {
        let append = one_event();
        let partition = store.log().partition_of(&append.stream);
        let batch = std::slice::from_ref(&append);
        appends.push(timed(store.append_events(partition, batch)).await);
        inserts.push(timed(plain.insert(offset, &append)).await);
    }
    (median(appends), median(inserts))
}

async fn cold_loads(store: &SqliteEventStore) -> Duration {
    let page = store.read_log(&Position::start_positions(8), 250).await.expect("a page");
    let mut loads = Vec::new();
    for event in page {
        let load = store.load_with_snapshot(&event.stream, Fingerprint(1)).try_collect::<Vec<_>>();
        loads.push(timed(load).await);
    }
    median(loads)
}

/// The whole log in pages of 1,000 by partition, and as many rows of the same columns.
async fn replays(store: &SqliteEventStore, plain: &mut Plain) -> (f64, f64) {
    let started = Instant::now();
    let (mut after, mut count) = (Position::start_positions(store.log().partitions), 0.0);
    loop {
        let events = store.read_log(&after, 125).await.expect("a page");
        if events.is_empty() {
            break;
        }
        for event in events {
            after[usize::from(event.position.partition)] = event.position;
            count += 1.0;
        }
    }
    let paged = count / started.elapsed().as_secs_f64();

    plain.0.execute("begin").await.expect("begin");
    for offset in 1_000_000..1_100_000 {
        plain.insert(offset, &one_event()).await;
    }
    plain.0.execute("commit").await.expect("commit");
    let started = Instant::now();
    let mut rows = sqlx::query("select * from events order by rowid").fetch(&mut plain.0);
    let mut count = 0.0;
    while let Some(row) = rows.try_next().await.expect("a row") {
        std::hint::black_box(row);
        count += 1.0;
    }
    (paged, count / started.elapsed().as_secs_f64())
}

async fn long_load(store: &SqliteEventStore) -> f64 {
    let stream = StreamId::new("order", "long").expect("a stream");
    let partition = store.log().partition_of(&stream);
    let long = append(stream.clone(), ExpectedVersion::EMPTY, 100_000);
    store.append_events(partition, &[long]).await.expect("an append");
    let started = Instant::now();
    let events: Vec<_> =
        store.load_events(&stream, Version::ZERO).try_collect().await.expect("a load");
    assert_eq!(events.len(), 100_000);
    100_000.0 / started.elapsed().as_secs_f64()
}

async fn timed<T>(work: impl Future<Output = T>) -> Duration {
    let started = Instant::now();
    work.await;
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn ratio(time: Duration, of: Duration) -> f64 {
    time.as_secs_f64() / of.as_secs_f64()
}
