//! Two processes send messages to another service over a broker, and each is frozen in turn for
//! longer than its leases. When it resumes, it publishes messages that the other process has
//! already published. Messages may then arrive twice, but their first arrivals keep the order of
//! each pair of sender and recipient.

use std::collections::BTreeMap;
use std::env::var;
use std::sync::Arc;
use std::time::Duration;

use composable_rust::bus::{Delivery as _, EventBus as _};
use composable_rust::postgres::PostgresEventStore;
use composable_rust::prelude::*;
use composable_rust::redpanda::RedpandaEventBus;
use composable_rust::shutdown_signal;
use composable_rust::testing::InMemoryEventStore;
use composable_rust_testing::{TestDatabase, eventually};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::process::{Process, parent_variable};

/// An aggregate that sends to the sinks, which live in the other service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Source;

#[derive(Debug, Clone, PartialEq, Message)]
enum SourceCommand {
    Tell { sink: u32, n: u32 },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum SourceEvent {
    Told { sink: u32, n: u32 },
}

impl Aggregate for Source {
    const NAME: &'static str = "source";
    type Command = SourceCommand;
    type Event = SourceEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, command: SourceCommand, _: &Context<Self>) -> Decision<Self> {
        let SourceCommand::Tell { sink, n } = command;
        record(SourceEvent::Told { sink, n })
    }

    fn apply(&mut self, _: SourceEvent) {}

    fn react(&self, event: &SourceEvent, ctx: &Context<Self>) -> Reactions<SourceCommand> {
        let SourceEvent::Told { sink, n } = event;
        let by = ctx.id().as_str().to_owned();
        effects![tell(&Sink::id(sink.to_string()), SinkCommand::Note { by, n: *n })]
    }
}

/// The numbers from each source, in the order of their arrival.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Sink(BTreeMap<String, Vec<u32>>);

#[derive(Debug, Clone, PartialEq, Message)]
enum SinkCommand {
    Note { by: String, n: u32 },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum SinkEvent {
    Noted { by: String, n: u32 },
}

impl Aggregate for Sink {
    const NAME: &'static str = "sink";
    type Command = SinkCommand;
    type Event = SinkEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, command: SinkCommand, _: &Context<Self>) -> Decision<Self> {
        let SinkCommand::Note { by, n } = command;
        record(SinkEvent::Noted { by, n })
    }

    fn apply(&mut self, event: SinkEvent) {
        let SinkEvent::Noted { by, n } = event;
        self.0.entry(by).or_default().push(n);
    }
}

const SOURCES: u32 = 12;
const SINKS: u32 = 6;
const LEASE: Duration = Duration::from_secs(3);
/// Timeout of each wait. 120 seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The environment variable with the URL of the sending process's store.
const STORE: &str = "SENDING_STORE";
/// The environment variable with the prefix of the sending process's topics.
const PREFIX: &str = "SENDING_PREFIX";

fn brokers() -> String {
    var("KAFKA_BROKERS").expect("KAFKA_BROKERS is set; `cargo xtask test` starts a broker")
}

async fn bus(prefix: &str) -> RedpandaEventBus {
    let bus = RedpandaEventBus::builder(&brokers()).topic_prefix(prefix).partitions(3);
    bus.connect().await.unwrap()
}

async fn sources(url: &str, prefix: &str) -> App {
    App::builder(PostgresEventStore::connect(url).await.unwrap())
        .aggregate::<Source>(())
        .remote::<Sink>()
        .event_bus(bus(prefix).await)
        .settings(|settings| settings.lease_ttl = LEASE)
        .build()
        .unwrap()
}

/// A sending process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "child process of the test in sending.rs"]
async fn sender() {
    let [url, prefix] = [STORE, PREFIX].map(parent_variable);
    let app = sources(&url, &prefix).await;
    app.start();
    println!("started");
    shutdown_signal().await;
    assert!(app.shutdown(PATIENCE).await);
}

/// Returns the number of partitions whose rows each process sends, by the process's id.
async fn holders(pool: &sqlx::PgPool) -> BTreeMap<String, i64> {
    let rows = "select holder::text, count(*) from leases \
                where worker = 'send/bus' and holder is not null group by holder";
    sqlx::query_as(rows).fetch_all(pool).await.unwrap().into_iter().collect()
}

/// Freezes `process` while it sends, and resumes it once the other process holds all leases and the
/// log has grown.
async fn freeze_beyond_the_lease(pool: &sqlx::PgPool, process: &Process) {
    eventually("leases of both processes", PATIENCE, async || holders(pool).await.len() == 2).await;
    process.signal("-STOP");
    eventually("all leases at the other process", PATIENCE, async || {
        holders(pool).await.len() == 1
    })
    .await;
    let newest = "select coalesce(max(log_offset), 0) from events";
    let newest: i64 = sqlx::query_scalar(newest).fetch_one(pool).await.unwrap();
    eventually("new events in the log", PATIENCE, async || {
        let rows = sqlx::query_scalar::<_, i64>("select coalesce(max(log_offset), 0) from events");
        rows.fetch_one(pool).await.unwrap() > newest + 20
    })
    .await;
    process.signal("-CONT");
    eventually("leases of the resumed process", PATIENCE, async || holders(pool).await.len() == 2)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_frozen_beyond_its_lease_keeps_the_order() {
    let (database, prefix) = (TestDatabase::create().await, format!("{}.", Uuid::new_v4()));
    let (url, bus) = (database.url(), bus(&prefix).await);
    let sinks = App::builder(InMemoryEventStore::new().with_log_id(Uuid::new_v4()))
        .aggregate::<Sink>(())
        .serve::<Sink>()
        .event_bus(bus.clone())
        .build()
        .unwrap();
    sinks.start();
    let writer = Arc::new(sources(&url, &prefix).await);
    let variables = [(STORE, &*url), (PREFIX, &*prefix)];
    let mut processes = [0, 1].map(|_| Process::start("sending::sender", &variables));
    for process in &mut processes {
        process.says("started").await;
    }

    let (over, is_over) = tokio::sync::watch::channel(false);
    let mut writing = tokio::task::JoinSet::new();
    for source in 0..SOURCES {
        let (writer, is_over) = (Arc::clone(&writer), is_over.clone());
        writing.spawn(async move {
            let source = writer.handle(&Source::id(source.to_string()));
            let mut n = 0;
            while !*is_over.borrow() {
                for sink in 0..SINKS {
                    source.send(SourceCommand::Tell { sink, n }).await.unwrap();
                }
                n += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            n
        });
    }
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    for round in 0..4 {
        freeze_beyond_the_lease(&pool, &processes[round % 2]).await;
    }
    over.send_replace(true);
    let told: Vec<u32> = writing.join_all().await;

    let all = usize::try_from(told.iter().sum::<u32>()).unwrap();
    for sink in 0..SINKS {
        let sink = sinks.handle(&Sink::id(sink.to_string()));
        let heard = |sink: &Sink| {
            (sink.0.values().map(Vec::len).sum::<usize>() >= all).then(|| sink.0.clone())
        };
        for (source, notes) in sink.wait(heard, PATIENCE).await.unwrap() {
            assert!(notes.iter().zip(0..).all(|(n, next)| *n == next), "{source}: {notes:?}");
        }
    }
    processes.iter_mut().for_each(Process::stop);

    // The topic holds every message, some of them twice.
    let topics = ["sink-commands".to_owned()];
    let mut deliveries = bus.subscribe("audit", &topics, &[]).await.unwrap();
    let (mut ids, mut repeats) = (std::collections::BTreeSet::new(), 0);
    while ids.len() < all * usize::try_from(SINKS).unwrap() {
        let delivery = deliveries.next().await.unwrap().unwrap();
        repeats += usize::from(!ids.insert(delivery.message().header("ce_id").unwrap().to_owned()));
        delivery.acknowledge().await.unwrap();
    }
    println!(
        "{} messages, {repeats} of them published again; the inbox ignored {} duplicates",
        ids.len(),
        sinks.duplicates_ignored()
    );
}
